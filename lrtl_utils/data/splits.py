"""Examples and their splits: what a task has, which of it a run may see the labels of, and how both are told."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from lrtl_utils.config import RunConfig, derived_seed
from lrtl_utils.data.hub import Source
from lrtl_utils.errors import InputError


@dataclass(frozen=True)
class Examples:
    """Inputs with their targets, as they lie on disk: texts, encoded images or pixel arrays, lists of words.

    `targets` are class indices, int64 [n], or for `tokens` lists of tag indices. `index` says which rows of the split.
    """

    inputs: Sequence[Any]
    targets: Sequence[Any]
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def take(self, positions: np.ndarray) -> "Examples":
        """Those at `positions`, in that order."""
        targets = [self.targets[i] for i in positions]
        if isinstance(self.targets, np.ndarray):
            targets = np.asarray(targets, dtype=self.targets.dtype)
        return replace(self, inputs=[self.inputs[i] for i in positions], targets=targets, index=self.index[positions])


@dataclass(frozen=True)
class Facts:
    """What a plan needs to know of a data set: its labels, how many train examples each class has, and the test's size.

    `lengths` are tokens of a sample of inputs, shortest first; empty for images, and where nobody counted. `source` is
    None where the files are not at hand, and these are the published figures.
    """

    kind: str
    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    test: int
    lengths: tuple[int, ...]
    source: Source | None


@dataclass(frozen=True)
class Data:
    """A task's examples, read: train and test split, names of the labels, and the source they came from.

    `split` says where the test split is from. Of a user's own files, `notes` say what was guessed, turned and left
    aside, and `warned` what may hurt. `repeats` counts inputs that occur again: within `train`, within `test`, `across`
    both (train examples that are also in the test split), and those of them that were `dropped`.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    train: Examples
    test: Examples
    source: Source
    split: str = ""
    notes: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    repeats: dict[str, int] = field(default_factory=dict)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """What a subset must hold an example of: the labels, or the entity types and sentences without any."""
        if self.kind != "tokens":
            return self.labels
        return (*sorted({label[2:] for label in self.labels if label != "O"}), "no entity")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many examples of each class the train split has."""
        return tuple(np.bincount(self.strata(self.train)).tolist())

    def strata(self, examples: Examples) -> np.ndarray:
        """The class of each example, int [n]; a sentence counts for the rarest entity type in it."""
        if self.kind != "tokens":
            return np.asarray(examples.targets)
        return _rarest_types(examples.targets, self.labels, self.classes)


def labelled(data: Data, config: RunConfig, chosen: np.ndarray | None = None) -> tuple[Examples, Examples | None]:
    """The examples whose labels this run may see, as (trained on, validation carve or None).

    Unless they are `chosen`, they depend on the data and the seed only, so every method sees the same ones.
    """
    if chosen is None:
        rng = np.random.default_rng(derived_seed(config.seed, "subset"))
        amount = {"data_fraction": config.data_fraction, "train_size": config.train_size, "shots": config.shots}
        chosen = labelled_subset(data.strata(data.train), data.classes, rng, **amount)
    chosen = data.train.take(chosen)
    if not config.validation_share:
        return chosen, None
    rng = np.random.default_rng(derived_seed(config.seed, "carve"))
    kept, carved = carve(data.strata(chosen), config.validation_share, rng)
    return chosen.take(kept), chosen.take(carved)


def test_examples(data: Data, config: RunConfig) -> Examples:
    """The test split, whole unless `test_limit` says otherwise (then a stratified draw, the same for every run)."""
    if config.test_limit is None:
        return data.test
    order = stratified_order(data.strata(data.test), np.random.default_rng(derived_seed(0, "test limit")))
    return data.test.take(np.sort(order[: config.test_limit]))


def _rarest_types(targets: Sequence[Sequence[int]], labels: tuple[str, ...], classes: tuple[str, ...]) -> np.ndarray:
    position = {kind: i for i, kind in enumerate(classes)}
    types = [{position[labels[tag][2:]] for tag in tags if labels[tag] != "O"} for tags in targets]
    frequency = np.bincount([kind for found in types for kind in found], minlength=len(classes))
    nothing = len(classes) - 1
    return np.array([min(found, key=lambda kind: frequency[kind], default=nothing) for found in types])


def describe(data: Data, train: Examples, carve: Examples | None, test: Examples) -> dict[str, Any]:
    """What a record says of the data: sizes, the source, and a checksum of which examples were labelled."""
    chosen = np.sort(np.concatenate([train.index, carve.index if carve else []]).astype("<i8"))
    return {
        "train_size": len(train),
        "validation_size": len(carve) if carve else 0,
        "test_size": len(test),
        "available": len(data.train),
        "labels": list(data.labels),
        "source": data.source.describe(),
        "split": data.split,
        "notes": [*data.notes, *data.warned],
        "repeats": data.repeats,
        "subset_sha256": hashlib.sha256(chosen.tobytes()).hexdigest(),
    }


def preview(data: Data, examples: Examples, rows: int = 5) -> Any:
    """The first examples with their labels, as a DataFrame; in tagged sentences, `word/TAG`."""
    import pandas as pd

    pairs = list(zip(examples.inputs, examples.targets, strict=True))[:rows]
    if data.kind == "tokens":
        lines = [" ".join(f"{w}/{data.labels[t]}" if t else w for w, t in zip(*pair, strict=True)) for pair in pairs]
        return pd.DataFrame({"sentence": lines})
    return pd.DataFrame({"input": [x for x, _ in pairs], "label": [data.labels[y] for _, y in pairs]})


def stratified_order(strata: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """An order of all examples whose every prefix holds each stratum in proportion; indices, shape [n].

    The first of each stratum come first, so a prefix as long as there are strata misses none.
    """
    strata = np.asarray(strata)
    position = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        position[members] = np.arange(len(members)) / len(members)
    return np.lexsort((rng.random(len(strata)), position))


def share_of(n: int, share: float) -> int:
    """The share of `n` examples, rounded up; a share that is a whole number but for rounding noise is that number."""
    return math.ceil(round(share * n, 6))


def count_labelled(sizes: Sequence[int], data_fraction: float | None, train_size: int | None, shots: int | None) -> int:
    """How many examples of strata of these `sizes` are labelled; `shots` beats `train_size` beats `data_fraction`."""
    n = sum(sizes)
    if shots is not None:
        return sum(min(size, shots) for size in sizes)
    if train_size is not None:
        if train_size > n:
            raise InputError(f"train_size={train_size} is more than the {n} examples of the train split.")
        return train_size
    if data_fraction is None:
        raise InputError("One of data_fraction, train_size and shots is needed.")
    return share_of(n, data_fraction)


def labelled_subset(
    strata: Sequence[int],
    names: Sequence[str],
    rng: np.random.Generator,
    *,
    data_fraction: float | None = None,
    train_size: int | None = None,
    shots: int | None = None,
) -> np.ndarray:
    """Indices of the labelled examples, a prefix of one stratified order, so that smaller subsets lie in larger ones.

    `names[i]` names stratum `i`. `InputError` where a stratum of the data would be left without an example.
    """
    strata = np.asarray(strata)
    order = stratified_order(strata, rng)
    if shots is not None:
        rank = np.empty(len(strata), dtype=int)
        for stratum in np.unique(strata):
            members = order[strata[order] == stratum]
            rank[members] = np.arange(len(members))
        return order[rank[order] < shots]
    chosen = order[: count_labelled(np.bincount(strata), data_fraction, train_size, shots)]
    missing = sorted(set(strata.tolist()) - set(strata[chosen].tolist()))
    if missing:
        least = len(np.unique(strata))
        raise InputError(
            f"{len(chosen)} labelled examples leave class {names[missing[0]]!r} without one; "
            f"use at least train_size={least} or data_fraction={math.ceil(1e4 * least / len(strata)) / 1e4}."
        )
    return chosen


def carve(strata: Sequence[int], share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept for training and positions carved off for validation: `share_of(n, share)`, stratified.

    `InputError` where either part would be empty.
    """
    n = len(strata)
    size = share_of(n, share)
    if size == 0:
        return np.arange(n), np.arange(0)
    if size >= n:
        raise InputError(f"validation_share={share} of {n} labelled examples leaves none to train on.")
    # From the far end of the order, whose beginning holds one example of every stratum.
    order = stratified_order(strata, rng)
    return np.sort(order[: n - size]), np.sort(order[n - size :])
