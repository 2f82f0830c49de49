"""How certain a number is: intervals over seeds and test examples, paired tests, aggregates, Pareto fronts."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from math import comb
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import permutation_test, trim_mean

from lrtl_utils.measure.metrics import unpack_counts, unpack_hits

DRAWS = 1000
MOST_KEPT = 2**15  # runs whose resampled scores stay in memory, which is 256 MiB
EXACT = 2**24  # up to here a 32-bit float holds every whole number
LEAST_SEEDS = 3  # with fewer, a point has no interval
LEAST_SEEDS_TO_TEST = 6  # with fewer, no permutation test over seeds can reach 5 %
TOO_FEW_SEEDS = "too few seeds"  # the verdict on a difference without an interval
# Of two methods of like strength at 100 to 316 labels, the medians over this project's committed records (a test
# computes them again): the share of test examples that they answer differently, the correlation of that between seeds,
# and the standard deviation between seeds that training adds to the difference of their scores.
DISAGREEMENT, RECURRING, TRAINING = 0.16, 0.11, 0.018

Score = Callable[[np.ndarray], np.ndarray]
Outcomes = tuple[np.ndarray, Score]  # [seeds, examples, parts], and the score of totals over examples


class Difference(NamedTuple):
    """A paired difference of two scores; with fewer than three seeds it has no interval (None)."""

    mean: float
    low: float | None
    high: float | None
    verdict: str  # better, worse, tie (the interval contains zero), or too few seeds


def outcomes(records: Iterable[Mapping[str, Any]]) -> Outcomes:
    """What happened on each test example under each seed, [seeds, examples, parts], and the score of its totals."""
    records = list(records)
    packed = [record["metrics"] for record in records]
    if "counts" in packed[0]:
        return np.stack([unpack_counts(metrics["counts"]) for metrics in packed]), entity_f1
    hits = np.stack([unpack_hits(r["metrics"]["hits"], r["data"]["test_size"]) for r in records])
    return np.stack([hits, np.ones_like(hits)], axis=-1).astype(float), accuracy


class Sample(NamedTuple):
    """The score under each seed, [seeds], and the scores on resampled test examples, [DRAWS, seeds]."""

    scores: np.ndarray
    drawn: np.ndarray
    seed: int = 0  # of the draws


def sample(outcomes: np.ndarray, score: Score, *, seed: int = 0) -> Sample:
    """The scores of outcomes [seeds, examples, parts]; `score` maps totals over examples [..., parts] to scores [...].

    One `seed` draws the same examples for all outcomes of one test split, so the results are paired.
    """
    seeds, examples, parts = outcomes.shape
    # Totals are whole numbers, so half the precision gives the same ones in half the time.
    precision = np.float32 if examples * int(outcomes.max(initial=1)) < EXACT else np.float64
    columns = outcomes.transpose(1, 0, 2).reshape(examples, seeds * parts).astype(precision)
    totals = (_drawn(examples, seed, "examples", precision) @ columns).astype(float)
    return Sample(by_seed(outcomes, score), score(totals.reshape(DRAWS, seeds, parts)), seed)


_KEPT: dict[tuple[str, int | None], tuple[float, np.ndarray]] = {}


def sample_of(records: Iterable[Mapping[str, Any]]) -> Sample:
    """The `sample` of these runs, one for each seed; that of each run is made once, whatever it is compared with.

    What is kept stands under the outcomes that it was made of, so it cannot be out of date.
    """
    if len(_KEPT) > MOST_KEPT:
        _KEPT.clear()
    named = [(_outcomes_of(record), record) for record in records]
    if missing := {name: record for name, record in named if name not in _KEPT}:
        made = sample(*outcomes(missing.values()))
        _KEPT.update(zip(missing, zip(made.scores, np.ascontiguousarray(made.drawn.T), strict=True), strict=True))
    scores, drawn = zip(*(_KEPT[name] for name, _ in named), strict=True)
    return Sample(np.array(scores), np.array(drawn).T.copy())


def _outcomes_of(record: Mapping[str, Any]) -> tuple[str, int | None]:
    """The packed outcomes of a run, and how many examples they are of where they do not say so themselves."""
    metrics = record["metrics"]
    return (metrics["counts"], None) if "counts" in metrics else (metrics["hits"], record["data"]["test_size"])


def resample(sample: Sample) -> np.ndarray:
    """Scores of resampled seeds and test examples, drawn together (Efron & Tibshirani 1993, ch. 8): shape [DRAWS].

    They are averaged over the drawn seeds, which are the same for all samples with as many of them.
    """
    return (_drawn(len(sample.scores), sample.seed, "seeds") * sample.drawn).mean(axis=1)


@lru_cache(maxsize=8)
def _drawn(count: int, seed: int, what: str, precision: type = np.float64) -> np.ndarray:
    """How often each was drawn, [DRAWS, count]; seeds and examples have a stream each."""
    rng = np.random.default_rng([seed, what == "examples"])
    return rng.multinomial(count, [1 / count] * count, size=DRAWS).astype(precision)


def interval(sample: Sample, *, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile bootstrap of `resample`; None with fewer than three seeds."""
    return middle(resample(sample), level) if len(sample.scores) >= LEAST_SEEDS else None


def middle(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The bounds of the middle `level` of the draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_interval(ours: Sample, theirs: Sample) -> tuple[float, float] | None:
    """`interval` of the difference of two scores, ours minus theirs, on the same seeds and test examples."""
    return interval(Sample(ours.scores - theirs.scores, ours.drawn - theirs.drawn, ours.seed))


def difference(ours: Sample, theirs: Sample) -> Difference:
    """Ours minus theirs, seed by seed on the same test examples, with its interval and the verdict from it."""
    mean = float(np.mean(ours.scores - theirs.scores))
    low, high = paired_interval(ours, theirs) or (None, None)
    verdict = TOO_FEW_SEEDS if low is None else "better" if low > 0 else "worse" if high < 0 else "tie"
    return Difference(mean, low, high, verdict)


def smallest_difference(
    examples: int,
    seeds: int,
    *,
    disagreement: float = DISAGREEMENT,
    recurring: float = RECURRING,
    training: float = TRAINING,
) -> float:
    """The difference of two accuracies, in [0, 1], that `difference` finds in four of five experiments.

    1.96 · √(d · (r + 3 (1 − r) / seeds) / examples + s² / seeds) + 0.84 · the same without the 3: normal and paired.
    The two answer a share d of the test examples differently, the same ones under another seed with correlation r, and
    training adds a deviation s between seeds. Drawing seeds and examples together counts the variance of one example
    under one seed three times (Owen 2007).
    """
    interval, scatter = (
        math.sqrt(disagreement * (recurring + counted * (1 - recurring) / seeds) / examples + training**2 / seeds)
        for counted in (3, 1)
    )
    return 1.96 * interval + 0.84 * scatter


def by_seed(outcomes: np.ndarray, score: Score) -> np.ndarray:
    """The score under each seed, shape [seeds]."""
    return score(outcomes.sum(axis=1))


def sign_flip_test(differences: Sequence[float]) -> float | None:
    """Two-sided p that differences [seeds] this large have random signs; None with fewer than six seeds.

    Up to thirteen seeds every assignment of signs counts once; for more seeds 9,999 are drawn.
    """
    if len(differences) < LEAST_SEEDS_TO_TEST:
        return None
    return _p_of_flips(tuple(np.round(differences, 12)))  # flips of the same mean must not differ by rounding


@cache
def _p_of_flips(differences: tuple[float, ...]) -> float:
    options = {"permutation_type": "samples", "vectorized": True, "rng": 0}
    return float(permutation_test((np.array(differences),), np.mean, **options).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, in the order given (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return corrected.tolist()


def interquartile_mean(scores: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Mean of the middle half of all scores [data sets, seeds], with a stratified bootstrap interval.

    Seeds are resampled within each data set (Agarwal et al. 2021).
    """
    rng = np.random.default_rng(0)
    drawn = [each[rng.integers(len(each), size=(DRAWS, len(each)))] for each in scores]
    return float(trim_mean(scores, 0.25, axis=None)), middle(trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1))


def expected_best(scores: Sequence[float], *, replacement: bool = False) -> np.ndarray:
    """Expected highest of n of the scores drawn at random, for n = 1 … N: shape [N] (Dodge et al. 2019).

    With `replacement` as in that paper; without it, for a search that tries no setting twice.
    """
    ordered = np.sort(scores)
    size = len(ordered)
    tries, ranks = range(1, size + 1), range(size + 1)
    if replacement:
        below = [(rank / size) ** n for n in tries for rank in ranks]
    else:
        below = [comb(rank, n) / comb(size, n) for n in tries for rank in ranks]
    chance = np.diff(np.reshape(below, (size, size + 1)), axis=1)  # that the highest of n is the one of that rank
    return chance @ ordered


def accuracy(totals: np.ndarray) -> np.ndarray:
    """The accuracy of totals of (right, all), shape [..., 2]."""
    return totals[..., 0] / totals[..., 1]


def entity_f1(totals: np.ndarray) -> np.ndarray:
    """The F1 of totals of (correct, predicted, expected), shape [..., 3]; 0 where there is nothing to find."""
    right, predicted, expected = np.moveaxis(totals, -1, 0)
    return 2 * right / np.maximum(predicted + expected, 1)


def pareto_front(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The points that no other point beats in both cost (lower is better) and score (higher is better): boolean.

    Costs [n], scores [n] or, for many fronts of the same costs, [n, draws].
    """
    cost, score = np.asarray(cost), np.asarray(score, dtype=float)
    order = np.argsort(cost)
    highest = np.maximum.accumulate(score[order], axis=0)  # of a point and all cheaper ones
    highest = np.concatenate([np.full_like(highest[:1], -np.inf), highest])
    cheaper, as_cheap = (highest[np.searchsorted(cost[order], cost, side)] for side in ("left", "right"))
    return (score > cheaper) & (score >= as_cheap)


def front_share(cost: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How often each point is on the Pareto front, in [0, 1], shape [n]: costs [n], scores [n, draws]."""
    return pareto_front(cost, scores).mean(axis=1)
