"""Learning curves: a power law fitted to the scores at a few sizes, and the number of labels that a score needs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrtl_utils.study.stats import middle

LEAST_SIZES = 4  # a law has three numbers, so it fits any three sizes
# Of score: if the curve of all sizes but the largest misses more there, it is a doubt; if that of all sizes misses more
# at any of them, no curve is drawn.
MOST_MISSED = 0.02
WIDEST = 10  # times the lower end of the interval: more is a doubt
SHARE = 0.95  # of the highest score at the largest size: the target
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
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            return np.where(self.b > 0, (self.b / missing) ** (1 / self.c), np.where(self.a >= score, 0, np.inf))


class Need(NamedTuple):
    """Labels for a target score, and the score at full data, with 95% intervals; `doubts` are reasons for caution.

    Labels are at least the smallest size measured, and infinity where neither the curve, with all labels, nor a run
    reaches the target. `missed` is the score at the largest size by the curve through all other sizes, less the
    measured one; None with fewer than four sizes.
    """

    n_labels: float
    low: float | None
    high: float | None
    target: float
    missed: float | None
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


def need(
    sizes: Sequence[int], scores: Sequence[float], draws: np.ndarray | None, full: int, target: float
) -> Need | None:
    """Labels for a `target` score, of at most `full`, from mean scores [sizes] and resampled ones [draws, sizes].

    Without `draws` there are no intervals. None with fewer than three sizes, which any exponent fits.
    """
    if len(sizes) < 3:
        return None
    law, bounds, at_full = fit(sizes, scores), (None, None), (None, None)
    if draws is not None:
        drawn = fit(sizes, draws)
        bounds = np.quantile(_needed(drawn, sizes, full, target), [0.025, 0.975], method="inverted_cdf").tolist()
        at_full = middle(drawn.score(full))
    missed = None
    if len(sizes) >= LEAST_SIZES:
        missed = float(fit(sizes[:-1], scores[:-1]).score(sizes[-1]) - scores[-1])
    needed = float(_needed(law, sizes, full, target))
    doubts = _doubts(law, sizes, missed, needed, *bounds)
    reached = [size for size, score in zip(sizes, scores, strict=True) if score >= target]
    if np.isinf(needed) and reached:  # as where scores rise late, which no power law does
        needed = float(min(reached))
        doubts.append("the curve does not reach the target, and runs do")
    return Need(needed, *bounds, target, missed, float(law.score(full)), *at_full, doubts)


def _needed(law: PowerLaw, sizes: Sequence[int], full: int, target: float) -> np.ndarray:
    """Labels as in `Need`, of which some may be infinite."""
    needed = np.maximum(law.size(np.asarray(target)), min(sizes))
    return np.where(needed > full, np.inf, needed)


def _doubts(
    law: PowerLaw, sizes: Sequence[int], missed: float | None, needed: float, low: float | None, high: float | None
) -> list[str]:
    """Reasons why the data may not support the answer."""
    doubts = []
    if law.b == 0:
        doubts.append("the scores do not rise with the labels")
    if missed is None:
        doubts.append(f"only {len(sizes)} of the {LEAST_SIZES} sizes that a curve needs")
    elif abs(missed) > MOST_MISSED:
        doubts.append(f"the curve of the smaller sizes misses the largest by {100 * missed:+.1f} points")
    if low is None:
        doubts.append("too few seeds for an interval")
    elif np.isfinite(min(low, needed)) and not np.isfinite(high):
        doubts.append(f"in some draws the target is {'' if np.isinf(needed) else 'never '}reached")
    elif np.isfinite(low) and high > WIDEST * low:
        doubts.append(f"the interval spans a factor of {high / low:.0f}")
    return doubts
