"""How certain a number is: intervals over seeds and test examples, paired tests, aggregates, Pareto fronts."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.stats import hypergeom, norm, sem, t, trim_mean, ttest_1samp

from lrtl_utils.measure.metrics import Outcome, unpack_hits, unpack_rows

DRAWS = 1000
EXACT = 2**24  # up to here a 32-bit float holds every whole number
LEAST_SEEDS = 3  # with fewer, a point has no interval
TOO_FEW_SEEDS = "too few seeds"  # the verdict on a difference without an interval
LEVEL = 0.05  # of tests: above it a difference is undecided
COVERED = 0.95  # the level of intervals
MARGIN = 0.01  # of score: "at least as good" is an interval that does not reach further below zero
# Of two methods, about the medians over the committed records of texts and images with 100 labels (a test computes
# them again): the share of test examples that they answer differently, the correlation of that between seeds,
# and the standard deviation between seeds that training adds to the difference of their scores.
DISAGREEMENT, RECURRING, TRAINING = 0.16, 0.11, 0.018

Score = Callable[[np.ndarray], np.ndarray]


class Difference(NamedTuple):
    """A paired difference of two scores; with fewer than three seeds it has no interval and no p (None)."""

    mean: float
    low: float | None
    high: float | None
    p: float | None


def verdict(mean: float, p: float | None) -> str:
    """`better`, `worse`, `undecided` (p is above 5%), or `too few seeds`; of many tests, give the corrected p."""
    if p is None or math.isnan(p):
        return TOO_FEW_SEEDS
    return "undecided" if p > LEVEL else "better" if mean > 0 else "worse"


def outcomes(runs: Iterable[Outcome]) -> tuple[np.ndarray, Score]:
    """What happened on each test example under each seed, [seeds, examples, parts], and the score of its totals."""
    runs = list(runs)
    parts, score = {
        "accuracy": (_hits, accuracy),
        "macro_f1": (_by_class, macro_f1),
        "entity_f1": (lambda run: unpack_rows(run.packed, 3), entity_f1),
    }[runs[0].metric]
    return np.stack([parts(run) for run in runs]), score


def _hits(run: Outcome) -> np.ndarray:
    """Whether each answer was right, and 1, [examples, 2]."""
    hits = unpack_hits(run.packed, run.examples)
    return np.stack([hits, np.ones_like(hits)], axis=-1).astype(float)


def _by_class(run: Outcome) -> np.ndarray:
    """What was rightly predicted, predicted and true of each class, [examples, 3 · classes]."""
    true, predicted = np.eye(run.classes, dtype=bool)[unpack_rows(run.packed, 2).T]
    return np.concatenate([true & predicted, predicted, true], axis=1)


class Sample(NamedTuple):
    """The score under each seed, [seeds], the scores on resampled test examples, [DRAWS, seeds], and their number."""

    scores: np.ndarray
    drawn: np.ndarray
    examples: int


def sample(outcomes: np.ndarray, score: Score) -> Sample:
    """The scores of outcomes [seeds, examples, parts]; `score` maps totals over examples [..., parts] to scores [...].

    The same examples are drawn for all outcomes of one test split, so the results are paired.
    """
    seeds, examples, parts = outcomes.shape
    # Totals are whole numbers, so half the precision gives the same ones in half the time.
    precision = np.float32 if examples * int(outcomes.max(initial=1)) < EXACT else np.float64
    columns = outcomes.transpose(1, 0, 2).reshape(examples, seeds * parts).astype(precision)
    totals = (_drawn(examples, "examples", precision) @ columns).astype(float)
    return Sample(score(outcomes.sum(axis=1)), score(totals.reshape(DRAWS, seeds, parts)), examples)


def sample_of(runs: Iterable[Outcome]) -> Sample:
    """The `sample` of these runs, one for each seed; that of each run is made once, whatever it is compared with."""
    scores, drawn, examples = zip(*map(_sample_of_one, runs), strict=True)
    return Sample(np.concatenate(scores), np.concatenate(drawn, axis=1), examples[0])


@lru_cache(maxsize=2**15)  # which is 256 MiB
def _sample_of_one(run: Outcome) -> Sample:
    return sample(*outcomes([run]))


def resample(sample: Sample) -> np.ndarray:
    """Scores of resampled seeds and test examples, drawn together (Efron & Tibshirani 1993, ch. 8): shape [DRAWS].

    They are averaged over the drawn seeds, which are the same for all samples with as many of them.
    """
    return (_drawn(len(sample.scores), "seeds") * sample.drawn).mean(axis=1)


@lru_cache(maxsize=8)
def _drawn(count: int, what: str, precision: type = np.float64) -> np.ndarray:
    """How often each was drawn, [DRAWS, count]; seeds and examples have a stream each."""
    rng = np.random.default_rng([0, what == "examples"])
    drawn = np.empty((DRAWS, count), precision)
    for at in range(0, DRAWS, 50):  # the same draws as in one piece, in half the memory
        drawn[at : at + 50] = rng.multinomial(count, [1 / count] * count, size=50)
    return drawn


def interval(sample: Sample, least: float = 0.0) -> tuple[float, float] | None:
    """The wider of the percentile bootstrap of `resample` and a t-interval over seeds; None with fewer than 3 seeds.

    With few seeds that differ much, the bootstrap is too narrow: resampled seeds vary less than seeds do, and it knows
    no heavier tails. A t-interval is too narrow where seeds hardly differ, because they share their test examples.
    Where nearly all examples came out alike under every seed, both are too narrow: each side is at least as wide as
    that of the exact interval of as many examples that all came out alike (Clopper & Pearson 1934). The bounds are
    between `least`, which is 0 for a score and -1 for a difference, and 1.
    """
    if len(sample.scores) < LEAST_SEEDS:
        return None
    half = float(t.ppf((1 + COVERED) / 2, len(sample.scores) - 1)) * sem(sample.scores)
    mean = float(sample.scores.mean())
    low, high = max(middle(resample(sample)), (mean - half, mean + half), key=lambda bounds: bounds[1] - bounds[0])
    alike = 1 - ((1 - COVERED) / 2) ** (1 / sample.examples)
    # Rounded, because a bound may be compared with the margin, and floats miss both zero and -0.01 by their last bits.
    return round(max(least, min(low, mean - alike)), 12), round(min(1.0, max(high, mean + alike)), 12)


def p_value(sample: Sample) -> float | None:
    """Two-sided p of a mean that is zero, by the test that `interval` is made of; None with fewer than three seeds.

    It is the largest one of a t-test over seeds, of a normal test with the deviation of the bootstrap, and of the exact
    test of examples that all came out alike.
    """
    if len(sample.scores) < LEAST_SEEDS:
        return None
    mean, errors = abs(float(sample.scores.mean())), (sem(sample.scores), float(resample(sample).std()))
    over_seeds, drawn = (mean / error if error else math.inf if mean else 0.0 for error in errors)
    alike = min(1.0, 2 * max(1 - mean, 0.5) ** sample.examples)  # a sign test of so many is never lower
    return float(max(2 * t.sf(over_seeds, len(sample.scores) - 1), 2 * norm.sf(drawn), alike))


def middle(draws: np.ndarray) -> tuple[float, float]:
    """The bounds of the middle 95% of the draws."""
    low, high = np.quantile(draws, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return float(low), float(high)


def paired(ours: Sample, theirs: Sample) -> Sample:
    """Ours minus theirs, on the same seeds and test examples."""
    return Sample(ours.scores - theirs.scores, ours.drawn - theirs.drawn, ours.examples)


def difference(ours: Sample, theirs: Sample) -> Difference:
    """Ours minus theirs, seed by seed on the same test examples, with its interval and the p of no difference."""
    differ = paired(ours, theirs)
    low, high = interval(differ, least=-1.0) or (None, None)
    return Difference(float(differ.scores.mean()), low, high, p_value(differ))


def smallest_difference(examples: int, seeds: int) -> float:
    """The difference of two accuracies, in [0, 1], that `difference` finds in four of five experiments.

    Half of the interval's width and 0.84 · √(d · (r + (1 − r) / seeds) / examples + s² / seeds): normal and paired.
    The two answer a share d of the test examples differently, the same ones under another seed with correlation r, and
    training adds a deviation s between seeds: the constants above. The bootstrap's half is 1.96 · the same root with
    3 (1 − r): drawing seeds and examples together counts the variance of one example under one seed three times (Owen
    2007). The other half is a quantile of t times √((d · (1 − r) / examples + s²) / seeds).
    """
    drawn, scatter = (
        math.sqrt(DISAGREEMENT * (RECURRING + counted * (1 - RECURRING) / seeds) / examples + TRAINING**2 / seeds)
        for counted in (3, 1)
    )
    over_seeds = math.sqrt((DISAGREEMENT * (1 - RECURRING) / examples + TRAINING**2) / seeds)
    half = max(1.96 * drawn, float(t.ppf(0.975, seeds - 1)) * over_seeds)
    return half + 0.84 * scatter


def interquartile_mean(scores: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Mean of the middle half of all scores [data sets, seeds], with a stratified bootstrap interval.

    Seeds are resampled within each data set (Agarwal et al. 2021).
    """
    rng = np.random.default_rng(0)
    drawn = [each[rng.integers(len(each), size=(DRAWS, len(each)))] for each in scores]
    return float(trim_mean(scores, 0.25, axis=None)), middle(trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1))


def expected_best(scores: Sequence[float]) -> np.ndarray:
    """Expected highest of n of the scores drawn at random, for n = 1 … N: shape [N].

    As Dodge et al. 2019 have it, but without replacement, because a search tries no setting twice.
    """
    ordered, ranks = np.sort(scores), np.arange(len(scores) + 1)
    below = hypergeom.pmf(0, len(ordered), len(ordered) - ranks, ranks[1:, None])  # that none of n is above a rank
    return np.diff(below, axis=1) @ ordered


def accuracy(totals: np.ndarray) -> np.ndarray:
    """The accuracy of totals of (right, all), shape [..., 2]."""
    return totals[..., 0] / totals[..., 1]


def macro_f1(totals: np.ndarray) -> np.ndarray:
    """The mean F1 over the classes that have examples, of totals of (right, predicted, true), each [..., classes]."""
    right, predicted, true = np.split(totals, 3, axis=-1)
    each = 2 * right / np.maximum(predicted + true, 1)
    return (each * (true > 0)).sum(-1) / (true > 0).sum(-1)


def entity_f1(totals: np.ndarray) -> np.ndarray:
    """The F1 of totals of (correct, predicted, expected), shape [..., 3]; 0 where there is nothing to find."""
    right, predicted, expected = np.moveaxis(totals, -1, 0)
    return 2 * right / np.maximum(predicted + expected, 1)


def pareto_front(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The points that no other point dominates, by cost (lower is better) and score (higher is better): boolean.

    Costs [n], scores [n] or, for many fronts of the same costs, [n, draws].
    """
    cost, score = np.asarray(cost), np.asarray(score, dtype=float)
    order = np.argsort(cost)
    highest = np.maximum.accumulate(score[order], axis=0)  # of a point and all cheaper ones
    highest = np.concatenate([np.full_like(highest[:1], -np.inf), highest])
    cheaper, as_cheap = (highest[np.searchsorted(cost[order], cost, side)] for side in ("left", "right"))
    return (score > cheaper) & (score >= as_cheap)


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95% t-interval of the mean over settings, not a number for fewer than three."""
    return ttest_1samp(values, 0).confidence_interval() if len(values) >= LEAST_SEEDS else (np.nan, np.nan)
