"""How sure a number is: intervals that resample seeds and test examples together."""

from collections.abc import Callable

import numpy as np

DRAWS = 1000
LEAST_SEEDS = 3  # under three, a point has no interval

Score = Callable[[np.ndarray], np.ndarray]


def interval(outcomes: np.ndarray, score: Score, *, level: float = 0.95, seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap over seeds and test examples, drawn together (Efron & Tibshirani 1993, ch. 8).

    `outcomes` [seeds, examples, parts]; `score` maps totals over seeds and examples [draws, parts] to scores [draws].
    None under three seeds.
    """
    if len(outcomes) < LEAST_SEEDS:
        return None
    rng = np.random.default_rng(seed)
    seeds, examples, _ = outcomes.shape
    totals = np.empty((DRAWS, outcomes.shape[2]))
    for draw in range(DRAWS):
        # Weights say how often each seed and each example was drawn; a resampled total is a product with them.
        by_seed = rng.multinomial(seeds, [1 / seeds] * seeds)
        by_example = rng.multinomial(examples, [1 / examples] * examples)
        totals[draw] = np.einsum("s,sep,e->p", by_seed, outcomes, by_example, optimize=True)
    low, high = np.quantile(score(totals), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_interval(ours: tuple[np.ndarray, Score], theirs: tuple[np.ndarray, Score]) -> tuple[float, float] | None:
    """`interval` of the difference of two scores, ours less theirs, on the same seeds and test examples."""
    (first, score), (second, _) = ours, theirs
    parts = first.shape[2]
    both = np.concatenate([first, second], axis=2)
    return interval(both, lambda totals: score(totals[..., :parts]) - score(totals[..., parts:]))


def accuracy(totals: np.ndarray) -> np.ndarray:
    """From totals of (right, all), shape [..., 2]."""
    return totals[..., 0] / totals[..., 1]


def entity_f1(totals: np.ndarray) -> np.ndarray:
    """From totals of (found rightly, predicted, expected), shape [..., 3]; 0 where there is nothing to find."""
    right, predicted, expected = np.moveaxis(totals, -1, 0)
    return 2 * right / np.maximum(predicted + expected, 1)


def pareto_front(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Which points no other beats in both: boolean [n]. Lower cost is better, higher score is better."""
    cost, score = np.asarray(cost), np.asarray(score)
    cheaper = (cost[None] <= cost[:, None]) & (score[None] >= score[:, None])
    strictly = (cost[None] < cost[:, None]) | (score[None] > score[:, None])
    return ~(cheaper & strictly).any(axis=1)
