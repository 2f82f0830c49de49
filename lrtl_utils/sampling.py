"""Which examples are labelled: nested, stratified, seeded subsets, and the validation carve."""

import math
from collections.abc import Sequence

import numpy as np

from lrtl_utils.config import InputError


def stratified_order(strata: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """An order of all examples whose every prefix holds each stratum in proportion, to within one example.

    The first of each stratum come first, so a prefix as long as there are strata misses none. Indices, shape [n].
    """
    strata = np.asarray(strata)
    position = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        position[members] = np.arange(len(members)) / len(members)
    return np.lexsort((rng.random(len(strata)), position))


def count_labelled(n: int, classes: int, data_fraction: float | None, train_size: int | None, shots: int | None) -> int:
    """How many of `n` examples are labelled; `shots` beats `train_size` beats `data_fraction`."""
    if shots is not None:
        return min(n, shots * classes)
    if train_size is not None:
        if train_size > n:
            raise InputError(f"train_size={train_size} is more than the {n} examples of the train split.")
        return train_size
    if data_fraction is None:
        raise InputError("One of data_fraction, train_size and shots is needed.")
    return math.ceil(data_fraction * n)


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
    chosen = order[: count_labelled(len(strata), len(names), data_fraction, train_size, shots)]
    missing = sorted(set(strata.tolist()) - set(strata[chosen].tolist()))
    if missing:
        least = len(np.unique(strata))
        raise InputError(
            f"{len(chosen)} labelled examples leave class {names[missing[0]]!r} without one; "
            f"use at least train_size={least} or data_fraction={math.ceil(1e4 * least / len(strata)) / 1e4}."
        )
    return chosen


def carve(strata: Sequence[int], share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept for training and positions carved off for validation: `ceil(share * n)`, stratified.

    `InputError` where either part would be empty.
    """
    n = len(strata)
    size = math.ceil(share * n)
    if size == 0:
        return np.arange(n), np.arange(0)
    if size >= n:
        raise InputError(f"validation_share={share} of {n} labelled examples leaves none to train on.")
    # From the far end of the order, whose beginning holds one example of every stratum.
    order = stratified_order(strata, rng)
    return np.sort(order[: n - size]), np.sort(order[n - size :])
