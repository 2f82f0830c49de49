"""The loss of a linear-chain CRF, as fast as a few small matrix products a word."""

from typing import Any

import torch
from torchcrf import CRF


def loss(crf: CRF, scores: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Summed negative log-likelihood in nats of `tags` [sentences, words], from `scores` [sentences, words, tags].

    `mask` [sentences, words] is true for the words of each sentence, which come first. It is what pytorch-crf gives,
    without its two loops over sums of exponentials: Rabiner's scaled forward–backward recursion (1989, section V.A).
    """
    partition = _LogPartition.apply(scores, mask, crf.start_transitions, crf.transitions, crf.end_transitions)
    last = mask.sum(1, keepdim=True) - 1
    emitted = (scores.gather(2, tags.unsqueeze(2)).squeeze(2) * mask).sum()
    moved = (crf.transitions[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]).sum()
    ends = crf.start_transitions[tags[:, 0]].sum() + crf.end_transitions[tags.gather(1, last)].sum()
    return partition.sum() - emitted - moved - ends


class _LogPartition(torch.autograd.Function):
    """The log of the summed exponentials of the scores of all paths, for each sentence.

    Its gradients are the marginals.
    """

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, mask: torch.Tensor, *moves: torch.Tensor) -> torch.Tensor:
        start, between, end = (move.double() for move in moves)
        first, move, last = start.exp(), (between - between.max()).exp(), end.exp()
        peaks = scores.amax(2).double()
        likely = (scores.double() - peaks.unsqueeze(2)).exp()
        here, sums = [], []
        for word in range(scores.shape[1]):
            at = (first if word == 0 else here[-1] @ move) * likely[:, word]
            total = at.sum(1, keepdim=True)
            there = mask[:, word : word + 1]
            sums.append(total.where(there, torch.ones_like(total)))
            here.append(at / total if word == 0 else (at / total).where(there, here[-1]))
        final = (here[-1] * last).sum(1)
        ctx.save_for_backward(torch.stack(here, 1), torch.cat(sums, 1), likely, mask, move, last, final)
        scaled = (torch.cat(sums, 1).log() + peaks * mask).sum(1) + (mask.sum(1) - 1) * between.max()
        return (scaled + final.log()).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        here, sums, likely, mask, move, last, final = ctx.saved_tensors
        weight = gradient.double().unsqueeze(1)
        after = last / final.unsqueeze(1)
        ends = (here[:, -1] * after * weight).sum(0)
        marginals, moved = torch.zeros_like(here), torch.zeros_like(move)
        for word in range(here.shape[1] - 1, -1, -1):
            there = mask[:, word : word + 1]
            marginals[:, word] = here[:, word] * after * weight * there
            if word:
                arriving = likely[:, word] * after / sums[:, word : word + 1] * there
                moved += move * ((here[:, word - 1] * weight).T @ arriving)
                after = (arriving @ move.T).where(there, after)
        given = marginals, marginals[:, 0].sum(0), moved, ends
        scores, *others = (each.to(gradient.dtype) for each in given)
        return scores, None, *others
