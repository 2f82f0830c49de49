"""Which examples are labelled: nested, stratified, seeded subsets, and the validation carve."""

import math
from collections.abc import Sequence

import numpy as np

from lrtl_utils.errors import InputError


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
