"""The models that stand on a backbone: text and image classifiers, taggers, and two without a pre-trained backbone."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchcrf import CRF

from lrtl_utils.models.encoding import Reader
from lrtl_utils.models.network import INPUT, Batch, Model, image_blocks, text_blocks

HIDDEN_SHAPES = 0.1  # of the sentences of a training batch, at random, the share whose words' shapes are not shown


class OwnClassifier(Model):
    """A text classifier with its architecture's own pooling and head, as `transformers` builds it."""

    def __init__(self, net: nn.Module, reader: Reader):
        super().__init__(reader)
        self.net = net
        self.blocks = text_blocks(net.base_model)

    @property
    def backbone(self) -> nn.Module:
        """The architecture without its head."""
        return self.net.base_model

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.net(input_ids=batch["ids"], attention_mask=_attention_mask(batch)).logits


class PooledClassifier(Model):
    """A text classifier on the mean of the token vectors, padding left out (Reimers & Gurevych 2019)."""

    def __init__(self, backbone: nn.Module, width: int, classes: int, dropout: float, reader: Reader):
        super().__init__(reader)
        self.backbone = backbone
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))
        self.blocks = text_blocks(backbone)

    def top(self, batch: Batch) -> torch.Tensor:
        hidden = self.backbone(input_ids=batch["ids"], attention_mask=_attention_mask(batch)).last_hidden_state
        return self.pooled(hidden, batch)

    def pooled(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        mask = batch["mask"].unsqueeze(-1).to(output.dtype)
        return (output * mask).sum(1) / mask.sum(1)


class Tagger(PooledClassifier):
    """A tagger on the first sub-word of each word, with a softmax or a CRF (Lafferty et al. 2001) on top."""

    def __init__(self, backbone: nn.Module, width: int, classes: int, dropout: float, reader: Reader, crf: bool):
        super().__init__(backbone, width, classes, dropout, reader)
        self.crf = CRF(classes, batch_first=True) if crf else None

    def features(self, batch: Batch) -> torch.Tensor:
        found = super().features(batch)
        if not self.reader.word_shape:
            return found
        shapes = batch["shapes"]
        if self.training:  # so that it can also tag a text without capitals
            shapes = shapes * (torch.rand(len(shapes), 1, 1, device=shapes.device) >= HIDDEN_SHAPES)
        return torch.cat([found, shapes], -1)

    def pooled(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        # First sub-words gathered to the left, so that the words' mask is a prefix, as the CRF needs it.
        return output.gather(1, batch["words"].unsqueeze(-1).expand(-1, -1, output.shape[-1]))

    def loss(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean negative log-likelihood a word, in nats."""
        mask, tags = batch["word_mask"], batch["targets"]
        if self.crf is None:
            return F.cross_entropy(scores.float()[mask], tags[mask])
        # In fp32 outside autocast: the partition function sums exponentials over the whole sentence.
        with torch.autocast(scores.device.type, enabled=False):
            return -self.crf(scores.float(), tags, mask=mask, reduction="token_mean")

    def decode(self, scores: torch.Tensor, batch: Batch) -> tuple[list[list[int]], torch.Tensor]:
        mask, scores = batch["word_mask"], scores.float()
        lengths = mask.sum(1)
        if self.crf is None:
            best, tags = scores.log_softmax(-1).max(-1)
            likelihood = (best * mask).sum(1)
            paths = [row[:length] for row, length in zip(tags.tolist(), lengths.tolist(), strict=True)]
        else:
            paths = self.crf.decode(scores, mask=mask)
            padded = nn.utils.rnn.pad_sequence([torch.tensor(path) for path in paths], batch_first=True)
            likelihood = self.crf(scores, padded.to(scores.device), mask=mask, reduction="none")
        return paths, (likelihood / lengths).exp()


class ImageClassifier(Model):
    """A timm backbone with its own pooling, dropout, and a linear head."""

    def __init__(self, backbone: nn.Module, classes: int, dropout: float, reader: Reader):
        super().__init__(reader)
        self.backbone = backbone
        width = getattr(backbone, "head_hidden_size", backbone.num_features)  # of what it gives without a classifier
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))
        self.blocks = image_blocks(backbone)

    def top(self, batch: Batch) -> torch.Tensor:
        return self.backbone(batch["pixels"])

    def pooled(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The mean over positions: of a map, which a few architectures have with its channels last, or of tokens."""
        channels_first = output.ndim == 4 and getattr(self.backbone, "output_fmt", "NCHW") == "NCHW"
        return output.mean((2, 3)) if channels_first else output.flatten(1, -2).mean(1)


class SimpleNN(Model):
    """One hidden layer on pixels or hashed words: the weakest baseline."""

    def __init__(self, inputs: int, width: int, classes: int, dropout: float, reader: Reader):
        super().__init__(reader)
        self.hidden = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(width, classes)

    def top(self, batch: Batch) -> torch.Tensor:
        return self.hidden(batch[INPUT[self.reader.kind]].flatten(1))


class LinearBag(Model):
    """A linear classifier on a vectorizer's features; its head is set by whoever fits it."""

    def __init__(self, reader: Reader):
        super().__init__(reader)
        self.head: nn.Linear | None = None

    def top(self, batch: Batch) -> torch.Tensor:
        return batch["bag"]


def take_over(head: nn.Linear, solved: Any) -> None:
    """Give a head the weights of scikit-learn's `LogisticRegression`; a class without an example is never predicted."""
    weights, bias = torch.from_numpy(solved.coef_), torch.from_numpy(solved.intercept_)
    if len(solved.classes_) == 2:  # scikit-learn keeps the difference of the two classes' scores
        weights, bias = torch.cat([-weights, weights]) / 2, torch.cat([-bias, bias]) / 2
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-1e4)
        head.weight[solved.classes_] = weights.to(head.weight.dtype)
        head.bias[solved.classes_] = bias.to(head.bias.dtype)


def _attention_mask(batch: Batch) -> torch.Tensor | None:
    # On the meta device there are no values to look at, and a mask changes no count.
    return None if batch["mask"].is_meta else batch["mask"]
