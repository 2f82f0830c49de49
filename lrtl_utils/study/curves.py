"""Learning curves: a power law fitted to the scores at a few sizes, and the number of labels that a score needs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrtl_utils.study.stats import middle

LEAST_SIZES = 4  # a law has three numbers, so it fits any three sizes
FARTHEST = 3  # times the largest size measured: more is a doubt
WIDEST = 10  # times the lower end of the interval: more is a doubt
SHARE = 0.95  # of the score at full data
EXPONENTS = np.geomspace(0.02, 3, 300)
BLOCK = 32  # draws that are fitted together: their numbers fit a processor's cache


class PowerLaw(NamedTuple):
    """Score = a - b · n^-c. It approaches `a` ≤ 1, and `b` ≥ 0 is missing at one label. Numbers, or arrays [draws]."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def score(self, size: float) -> np.ndarray:
        return self.a - self.b * size**-self.c

    def size(self, score: np.ndarray) -> np.ndarray:
        """The number of labels at which the score is reached: 0 if it always is, infinity if it never is."""
        missing = np.maximum(self.a - score, 0)
        with np.errstate(divide="ignore", over="ignore"):
            return np.where(self.b > 0, (self.b / missing) ** (1 / self.c), np.where(self.a >= score, 0, np.inf))


class Need(NamedTuple):
    """Labels for 95 % of the score at full data, and that score, with 95 % intervals; `doubts` are reasons for caution.

    Labels are at least the smallest size measured, and at most the full data.
    """

    n_labels: float
    low: float | None
    high: float | None
    full_score: float
    full_low: float | None
    full_high: float | None
    doubts: list[str]


def fit(sizes: Sequence[float], scores: np.ndarray) -> PowerLaw:
    """The least-squares law through scores [..., sizes], with 0 ≤ b and a ≤ 1.

    For each exponent of a grid the other two numbers have a closed form, for all draws at once; the best fit is kept.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim > 1 and len(scores) > BLOCK:
        blocks = [fit(sizes, scores[at : at + BLOCK]) for at in range(0, len(scores), BLOCK)]
        return PowerLaw(*map(np.concatenate, zip(*blocks, strict=True)))
    scores = scores[..., None]  # [..., sizes, 1]
    x = np.asarray(sizes, dtype=float)[:, None] ** -EXPONENTS  # [sizes, exponents]
    slope = ((x - x.mean(0)) * (scores - scores.mean(-2, keepdims=True))).sum(-2) / ((x - x.mean(0)) ** 2).sum(0)
    b = np.maximum(-slope, 0)
    a = scores.mean(-2) + b * x.mean(0)
    through_one = np.maximum((x * (1 - scores)).sum(-2) / (x**2).sum(0), 0)
    a, b = np.where(a > 1, 1, a), np.where(a > 1, through_one, b)
    errors = ((scores - (a[..., None, :] - b[..., None, :] * x)) ** 2).sum(-2)
    best = errors.argmin(-1)[..., None]
    chosen = (np.take_along_axis(values, best, -1)[..., 0] for values in (a, b))
    return PowerLaw(*chosen, EXPONENTS[best[..., 0]])


def need(sizes: Sequence[int], scores: np.ndarray, draws: np.ndarray | None, full: int) -> Need | None:
    """Labels for 95 % of the score at `full` labels, from mean scores [sizes] and their resampled ones [draws, sizes].

    Without `draws` there are no intervals. None with fewer than three sizes, which any exponent fits.
    """
    if len(sizes) < 3:
        return None
    law, drawn = fit(sizes, scores), None if draws is None else fit(sizes, draws)
    low, high = (None, None) if drawn is None else middle(_needed(drawn, sizes, full))
    full_score = float(law.score(full)), *((None, None) if drawn is None else middle(drawn.score(full)))
    return Need(float(_needed(law, sizes, full)), low, high, *full_score, _doubts(law, sizes, full, low, high))


def _needed(law: PowerLaw, sizes: Sequence[int], full: int) -> np.ndarray:
    return np.clip(law.size(SHARE * law.score(full)), min(sizes), full)


def _doubts(law: PowerLaw, sizes: Sequence[int], full: int, low: float | None, high: float | None) -> list[str]:
    """Reasons why the data may not support the answer."""
    doubts = []
    if law.b == 0:
        doubts.append("the scores do not rise with the labels")
    if len(sizes) < LEAST_SIZES:
        doubts.append(f"{len(sizes)} sizes where a curve needs {LEAST_SIZES}")
    if low is None:
        doubts.append("too few seeds for an interval")
    elif high > WIDEST * low:
        doubts.append(f"the interval spans a factor of {high / low:.0f}")
    if full > FARTHEST * max(sizes):
        doubts.append(f"full data are {full / max(sizes):.0f} times the largest size measured")
    return doubts
