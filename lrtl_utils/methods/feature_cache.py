"""The output of frozen blocks, kept in memory so that those blocks run once."""

from dataclasses import dataclass

import numpy as np
import torch

from lrtl_utils.models.encoding import Encoded
from lrtl_utils.models.network import Model

BOUND_MIB = 512.0  # of all caches of a run; what does not fit is computed again in every epoch
_TOKENS = 8  # of the sequence that is measured


@dataclass
class Cache:
    """The output of a model's lowest `depth` blocks for each row: [tokens, width], or [channels, height, width].

    A vision transformer gives [patches, width] for an image.
    """

    depth: int
    lengths: np.ndarray | None  # in tokens; None for images
    rows: list[torch.Tensor | None]

    @classmethod
    def empty(cls, depth: int, data: Encoded) -> "Cache":
        """A cache without content yet, for the rows of `data`."""
        return cls(depth, None if data.kind == "image" else data.lengths, [None] * len(data))

    def keep(self, positions: np.ndarray, output: torch.Tensor) -> None:
        """Keep the rows at `positions` of a batch's output, without their padding."""
        for row, position in zip(output, positions, strict=True):
            self.rows[position] = (row if self.lengths is None else row[: self.lengths[position]]).clone()

    def joined(self, other: "Cache") -> "Cache":
        """The rows of this cache, then the other's."""
        lengths = None if self.lengths is None else np.concatenate([self.lengths, other.lengths])
        return Cache(self.depth, lengths, [*self.rows, *other.rows])

    def batch(self, positions: np.ndarray, tokens: int) -> torch.Tensor:
        """The rows at `positions` as the blocks above read them; texts are padded to `tokens`."""
        rows = [self.rows[position] for position in positions]
        if self.lengths is None:
            stacked = torch.stack(rows)
            return stacked.contiguous(memory_format=torch.channels_last) if stacked.ndim == 4 else stacked
        padded = rows[0].new_zeros(len(rows), tokens, rows[0].shape[-1])
        for i, row in enumerate(rows):
            padded[i, : len(row)] = row
        return padded


def size_mib(model: Model, data: Encoded, depth: int, image_size: int | None) -> float:
    """What a cache of `data` above the lowest `depth` blocks will hold, in MiB of fp32, known before it is filled."""
    shape = {"text": (1, _TOKENS), "tokens": (1, _TOKENS, 1), "image": (1, 3, image_size, image_size)}[data.kind]
    twin = model.for_counting().eval()
    with torch.no_grad(), twin.watched([depth]) as kept:
        twin.features(twin.blank(shape, twin.device))
    rows = len(data) if data.kind == "image" else data.lengths.sum() / _TOKENS
    return kept[depth].numel() * 4 * float(rows) / 2**20
