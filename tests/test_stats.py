import numpy as np
import pytest

from lrtl_utils import stats


def outcomes(right):
    """Of hits [seeds, examples]: right and all."""
    right = np.asarray(right, dtype=float)
    return np.stack([right, np.ones_like(right)], axis=-1)


def hits(share, seeds=3, examples=400):
    """The same examples right for every seed."""
    return np.tile(np.arange(examples) < share * examples, (seeds, 1))


def width(right, **options):
    low, high = stats.interval(outcomes(right), stats.accuracy, **options)
    return high - low


def test_interval_over_examples_is_the_binomial_one():
    low, high = stats.interval(outcomes(hits(0.8)), stats.accuracy)
    half = 1.96 * (0.8 * 0.2 / 400) ** 0.5
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.15 * half)


def test_interval_has_the_spread_of_the_seeds_too():
    rng = np.random.default_rng(0)
    alike = rng.random((5, 400)) < 0.8
    unlike = rng.random((5, 400)) < np.array([[0.6], [0.7], [0.8], [0.9], [1.0]])
    assert width(unlike) > 2 * width(alike)


def test_interval_shrinks_with_examples_and_grows_with_its_level():
    assert width(hits(0.8, examples=1600)) == pytest.approx(width(hits(0.8)) / 2, rel=0.15)
    assert width(hits(0.8), level=0.5) < 0.5 * width(hits(0.8))


def test_interval_repeats():
    assert width(hits(0.7), seed=1) == width(hits(0.7), seed=1) != width(hits(0.7), seed=2)


def test_paired_difference_is_surer_than_its_parts():
    rng = np.random.default_rng(0)
    ours = rng.random((3, 300)) < 0.8
    theirs = ours & (rng.random((3, 300)) < 0.97)  # wrong wherever ours is, and a little more
    low, high = stats.interval(
        np.stack([ours, theirs, np.ones_like(ours)], axis=-1).astype(float), lambda t: (t[:, 0] - t[:, 1]) / t[:, 2]
    )
    assert 0 < low < (ours.mean() - theirs.mean()) < high
    assert high - low < width(ours) / 2


def test_under_three_seeds_there_is_no_interval():
    assert stats.interval(outcomes(hits(0.8, seeds=2)), stats.accuracy) is None
    assert stats.interval(outcomes(hits(0.8, seeds=3)), stats.accuracy) is not None


def test_entity_f1_of_totals():
    assert stats.entity_f1(np.array([[4, 10, 6], [0, 0, 0]])).tolist() == [0.5, 0]


def test_pareto_front():
    cost = [1, 2, 3, 4, 4, 4, 1]
    score = [0.5, 0.4, 0.7, 0.7, 0.8, 0.9, 0.5]
    assert stats.pareto_front(cost, score).tolist() == [True, False, True, False, False, True, True]


def test_pareto_front_of_one_point():
    assert stats.pareto_front([3.0], [0.1]).tolist() == [True]
