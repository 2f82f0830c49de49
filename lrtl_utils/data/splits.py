"""Examples, the splits of a data set, and the nested, stratified, seeded subsets whose labels a run may see."""

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from lrtl_utils.config import SIZES, RunConfig, derived_seed
from lrtl_utils.data.hub import Source
from lrtl_utils.errors import InputError

TEST_SHARE = 0.25  # held out for testing if a data set has no test split
MADE = f"made: {TEST_SHARE:.0%} of the rows, stratified, the same for every run"
TOGETHER = MADE.replace("of the rows", "of the different inputs, each with its repetitions")
MOST_SHARED = 0.05  # of the validation examples may be trained on too; so few change little


@dataclass(frozen=True)
class Examples:
    """Inputs with their targets: texts, encoded images or pixel arrays, or lists of words.

    `targets` are class indices, int64 [n], or for `tokens` lists of tag indices. `index` holds the rows of the split,
    and `places` say where each example is in a user's own files; empty for other data.
    """

    inputs: Sequence[Any]
    targets: Sequence[Any]
    index: np.ndarray
    places: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.index)

    def take(self, positions: np.ndarray) -> "Examples":
        """The examples at `positions`, in that order."""
        targets = [self.targets[i] for i in positions]
        if isinstance(self.targets, np.ndarray):
            targets = np.asarray(targets, dtype=self.targets.dtype)
        inputs, places = ([each[i] for i in positions] if len(each) else each for each in (self.inputs, self.places))
        return replace(self, inputs=inputs, targets=targets, index=self.index[positions], places=places)


@dataclass(frozen=True)
class Facts:
    """What a plan needs of a data set without its examples: its classes, train examples per class, and test examples.

    `lengths` are the tokens of a sample of inputs, shortest first; empty for images.
    """

    kind: str
    classes: tuple[str, ...]
    sizes: tuple[int, ...]
    test: int
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Data:
    """A data set: its train and test split, the names of its classes, and its source.

    `split` says how the test split was made. For a user's own files, `notes` say what was guessed, converted and not
    used, and `warned` what may do harm. `repeats` counts repeated inputs: within `train`, within `test`, `across` both
    (train examples that are also in the test split), and how many of these were `dropped`. `aside` has the texts of a
    labelled split that is not used.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    train: Examples
    test: Examples
    source: Source
    split: str = ""
    notes: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    repeats: dict[str, int] = field(default_factory=dict)
    aside: Sequence[Any] = ()

    @cached_property
    def strata_names(self) -> tuple[str, ...]:
        """The strata, each of which a subset must contain: the classes, or the entity types and "no entity"."""
        if self.kind != "tokens":
            return self.classes
        return (*sorted({label[2:] for label in self.classes if label != "O"}), "no entity")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of train examples in each stratum."""
        return tuple(np.bincount(self.strata(self.train)).tolist())

    def strata(self, examples: Examples) -> np.ndarray:
        """The stratum of each example, int [n]; a sentence belongs to its rarest entity type."""
        if self.kind != "tokens":
            return np.asarray(examples.targets)
        position, classes = {name: i for i, name in enumerate(self.strata_names)}, self.classes
        types = [{position[classes[tag][2:]] for tag in tags if classes[tag] != "O"} for tags in examples.targets]
        frequency = np.bincount([kind for found in types for kind in found], minlength=len(position))
        nothing = len(position) - 1
        return np.array([min(found, key=lambda kind: frequency[kind], default=nothing) for found in types])


def same(value: Any) -> Any:
    """A key that is equal for repeated inputs: texts that differ only in case and spaces, identical images."""
    if isinstance(value, (str, list)):
        return " ".join((value if isinstance(value, str) else " ".join(value)).lower().split())
    return value if isinstance(value, bytes) else value.tobytes()


def labelled(data: Data, config: RunConfig) -> tuple[Examples, Examples | None]:
    """The labelled examples of a run, as (train, validation or None).

    They depend on the data, the seed, the size and the `validation_share` only: every method sees the same.
    """
    rng = np.random.default_rng(derived_seed(config.seed, "subset"))
    amount = {name: getattr(config, name) for name in SIZES}
    chosen = data.train.take(labelled_subset(data.strata(data.train), data.strata_names, rng, **amount))
    if not config.validation_share:
        return chosen, None
    rng = np.random.default_rng(derived_seed(config.seed, "carve"))
    strata = data.strata(chosen)
    kept, held = hold_out(strata, config.validation_share, rng)
    labelled_classes, trained_classes = (len(np.unique(each)) for each in (strata, strata[kept]))
    if gone := labelled_classes - trained_classes:
        warnings.warn(
            f"{data.name}: all labelled examples of {gone} of {labelled_classes} classes are in the "
            "validation split; give more labels, or a smaller validation_share.",
            stacklevel=2,
        )
    trained = {same(chosen.inputs[i]) for i in kept}
    if (shared := sum(same(chosen.inputs[i]) in trained for i in held)) > MOST_SHARED * len(held):
        warnings.warn(
            f"{data.name}: {shared} of {len(held)} validation examples are trained on too, so the validation score is "
            "too high and the probabilities are not calibrated; remove repeated rows.",
            stacklevel=2,
        )
    return chosen.take(kept), chosen.take(held) if len(held) else None


def test_examples(data: Data, config: RunConfig) -> Examples:
    """The whole test split, or with `test_limit` a stratified draw that is the same for every run."""
    if config.test_limit is None:
        return data.test
    order = stratified_order(data.strata(data.test), np.random.default_rng(derived_seed(0, "test limit")))
    return data.test.take(np.sort(order[: config.test_limit]))


def describe(data: Data, train: Examples, validation: Examples | None, test: Examples) -> dict[str, Any]:
    """What a record says about the data: sizes, the source, and a checksum of which examples were labelled."""
    chosen = np.sort(np.concatenate([train.index, validation.index if validation else []]).astype("<i8"))
    return {
        "train_size": len(train),
        "validation_size": len(validation) if validation else 0,
        "test_size": len(test),
        "available": len(data.train),
        "labels": list(data.classes),
        "source": data.source.describe(),
        "split": data.split,
        "notes": [*data.notes, *data.warned],
        "repeats": data.repeats,
        "subset_sha256": hashlib.sha256(chosen.tobytes()).hexdigest(),
    }


def preview(data: Data, examples: Examples) -> Any:
    """The first five examples with the names of their classes, as a DataFrame; tagged sentences as `word/TAG`."""
    import pandas as pd

    pairs = list(zip(examples.inputs, examples.targets, strict=True))[:5]
    if data.kind == "tokens":
        lines = [" ".join(f"{w}/{data.classes[t]}" if t else w for w, t in zip(*pair, strict=True)) for pair in pairs]
        return pd.DataFrame({"sentence": lines})
    return pd.DataFrame({"input": [x for x, _ in pairs], "label": [data.classes[y] for _, y in pairs]})


def stratified_order(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An order of all examples in which every prefix has the strata in proportion; indices, shape [n].

    It starts with one example of each stratum.
    """
    position = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        position[members] = np.arange(len(members)) / len(members)
    return np.lexsort((rng.random(len(strata)), position))


def share_of(n: int, share: float) -> int:
    """The share of `n` examples, rounded up, but not because of floating-point noise."""
    return math.ceil(round(share * n, 6))


def count_labelled(
    sizes: Sequence[int], data_fraction: float | None = None, train_size: int | None = None, shots: int | None = None
) -> int:
    """The number of labelled examples for these `sizes` of strata; `shots` beats `train_size` beats `data_fraction`."""
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


def labelled_subset(strata: np.ndarray, names: Sequence[str], rng: np.random.Generator, **amount: Any) -> np.ndarray:
    """Indices of the labelled examples: the first of one stratified order, or, with `shots`, the first of each stratum.

    Larger subsets contain the smaller ones, if they are sized in the same way. `names[i]` is the name of stratum `i`,
    and `amount` is as `count_labelled` takes it. `InputError` if a stratum would have no example.
    """
    order = stratified_order(strata, rng)
    if (shots := amount.get("shots")) is not None:
        first = [order[strata[order] == stratum][:shots] for stratum in np.unique(strata)]
        return order[np.isin(order, np.concatenate(first))]
    chosen = order[: count_labelled(np.bincount(strata), **amount)]
    missing = np.setdiff1d(strata, strata[chosen])
    if len(missing):
        least = len(np.unique(strata))
        raise InputError(
            f"None of the {len(chosen)} labelled examples is of class {names[missing[0]]!r}; "
            f"use at least train_size={least} or data_fraction={math.ceil(1e4 * least / len(strata)) / 1e4}."
        )
    return chosen


def hold_out(strata: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and positions to hold out: `share_of(n, share)` of them, stratified.

    `InputError` if none would be left to train on.
    """
    n = len(strata)
    size = share_of(n, share)
    if size >= n:
        raise InputError(f"validation_share={share} of {n} labelled examples leaves none to train on.")
    # The end of the order is held out, because its beginning has one example of every stratum.
    order = stratified_order(strata, rng)
    return np.sort(order[: n - size]), np.sort(order[n - size :])
