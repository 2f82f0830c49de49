"""The CRF's loss beside pytorch-crf's, which is the reference."""

import pytest
import torch
from torchcrf import CRF

from lrtl_utils.models import crf


@pytest.mark.parametrize(("sentences", "words", "tags", "size"), [(1, 1, 2, 1.0), (5, 7, 3, 3.0), (8, 40, 35, 30.0)])
def test_loss_and_gradients_are_those_of_pytorch_crf(sentences, words, tags, size):
    torch.manual_seed(0)
    reference = CRF(tags, batch_first=True).double()
    for weight in reference.parameters():
        torch.nn.init.normal_(weight, std=2.0)
    scores = (size * torch.randn(sentences, words, tags, dtype=torch.float64)).requires_grad_()
    targets = torch.randint(tags, (sentences, words))
    lengths = torch.randint(1, words + 1, (sentences, 1))
    mask = torch.arange(words)[None] < lengths
    found = []
    for each in (
        lambda: crf.loss(reference, scores, targets, mask),
        lambda: -reference(scores, targets, mask=mask, reduction="sum"),
    ):
        loss = each()
        found.append(
            [loss.detach(), *torch.autograd.grad(2 * loss, [scores, *reference.parameters()], materialize_grads=True)]
        )
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)
    assert not found[0][1][~mask].any()
