import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, trim_mean
from sklearn.metrics import f1_score

from lrtl_utils.measure import metrics
from lrtl_utils.study import stats


def outcomes(right):
    """Of hits [seeds, examples]: right and all."""
    right = np.asarray(right, dtype=float)
    return np.stack([right, np.ones_like(right)], axis=-1)


def sample(right):
    return stats.sample(outcomes(right), stats.accuracy)


def hits(share, seeds=3, examples=400):
    """The same examples right for every seed."""
    return np.tile(np.arange(examples) < share * examples, (seeds, 1))


def test_interval_over_examples_is_the_binomial_one():
    low, high = stats.interval(sample(hits(0.8)))
    half = 1.96 * (0.8 * 0.2 / 400) ** 0.5
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.15 * half)


def test_entity_f1_of_totals():
    assert stats.entity_f1(np.array([[4, 10, 6], [0, 0, 0]])).tolist() == [0.5, 0]


def test_macro_f1_of_totals_is_that_of_the_answers():
    rng = np.random.default_rng(0)
    true = rng.choice(4, 300, p=[0.6, 0.3, 0.1, 0])  # one class has no example
    answers = [np.stack([true, np.where(rng.random(300) < 0.7, true, rng.integers(4, size=300))], 1) for _ in range(3)]
    found = [metrics.classification(*each.T, "abcd") for each in answers]
    runs = [metrics.Outcome("macro_f1", each["f1"], each["answers"], 300, 4) for each in found]
    drawn = stats.sample(*stats.outcomes(runs))
    assert drawn.scores == pytest.approx([f1_score(*each.T, labels=[0, 1, 2], average="macro") for each in answers])
    assert drawn.drawn.std() > 0
    again = stats._drawn(300, "examples")[7]  # one draw, with as many copies of each example
    copies = np.repeat(answers[1], again.astype(int), axis=0)
    assert drawn.drawn[7, 1] == pytest.approx(f1_score(*copies.T, labels=[0, 1, 2], average="macro"))
    low, high = stats.interval(stats.sample_of(runs))
    assert low < np.mean([run.score for run in runs]) < high


def test_a_pareto_front_is_of_the_points_that_none_beats():
    rng = np.random.default_rng(0)
    for _ in range(50):  # few values, so that many are equal
        cost, score = rng.integers(5, size=12), rng.integers(5, size=(12, 3)) / 10
        beaten = [
            [
                any(c <= cost[i] and s >= own and (c < cost[i] or s > own) for c, s in zip(cost, draw, strict=True))
                for draw in score.T
                for own in [draw[i]]
            ]
            for i in range(12)
        ]
        assert (stats.pareto_front(cost, score) == ~np.array(beaten)).all()


def against(ours, theirs):
    return stats.difference(sample(ours), sample(theirs))


def test_a_difference_is_called_what_its_p_says():
    rng = np.random.default_rng(0)
    high, low = rng.random((3, 300)) < 0.9, rng.random((3, 300)) < 0.7
    better, worse = against(high, low), against(low, high)
    assert [stats.verdict(each.mean, each.p) for each in (better, worse)] == ["better", "worse"]
    assert better.mean == pytest.approx(high.mean() - low.mean()) == -worse.mean
    assert 0 < better.low < better.mean < better.high
    alike = against(high, rng.random((3, 300)) < 0.9)
    assert stats.verdict(alike.mean, alike.p) == "undecided"
    few = against(high[:2], low[:2])
    assert few[1:] == (None, None, None)
    assert stats.verdict(few.mean, few.p) == stats.TOO_FEW_SEEDS


def test_the_interval_of_a_difference_is_as_wide_as_its_closed_form():
    """Owen 2007: what is peculiar to a seed and example counts three times, what is to an example once."""
    rng, seeds, examples = np.random.default_rng(1), 5, 2000
    ours = rng.random((seeds, examples)) < 0.8
    theirs = np.where(rng.random((seeds, examples)) < 0.15, rng.random((seeds, examples)) < 0.8, ours)
    differ = ours.astype(float) - theirs
    within = differ.var(axis=0, ddof=1).mean()
    variance = 3 * within / seeds + differ.mean(axis=0).var(ddof=1) - within / seeds
    found = against(ours, theirs)
    assert found.high - found.low == pytest.approx(2 * 1.96 * (variance / examples) ** 0.5, rel=0.1)


def test_draws_of_one_shape_are_of_the_same_seeds_and_examples():
    one, other = (stats.resample(sample(hits(share))) for share in (0.5, 0.6))
    assert one.shape == (stats.DRAWS,)
    assert np.all(other > one)  # what the one has right, the other has too


def test_draws_of_unlike_numbers_of_seeds_are_of_the_same_examples():
    three, five = (stats.resample(sample(hits(0.5, seeds=seeds))) for seeds in (3, 5))
    assert three == pytest.approx(five)  # seeds are alike, so only the examples differ between draws


def test_f1_is_the_mean_over_seeds_as_reported():
    counts = np.array([[[1, 1, 4]] * 50, [[4, 8, 4]] * 50, [[0, 0, 4]] * 50], dtype=float)  # F1 0.4, 0.67, 0
    drawn = stats.resample(stats.sample(counts, stats.entity_f1))
    assert drawn.mean() == pytest.approx(np.mean([0.4, 2 / 3, 0]), abs=0.02)


def test_p_and_interval_are_of_one_test():
    """Where zero is a bound of the 95% interval, p is 5%: of seeds that differ much, and of seeds that are alike."""
    rng = np.random.default_rng(3)
    scattered = rng.random((4, 500)) < np.array([[0.6], [0.7], [0.8], [0.9]])
    alike = rng.random((4, 500)) < 0.8
    for right in (scattered, alike):
        drawn = sample(right)
        low, _ = stats.interval(drawn)
        moved = drawn._replace(scores=drawn.scores - low, drawn=drawn.drawn - low)
        assert stats.p_value(moved) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(("examples", "wrong"), [(4, 0), (5, 2)])
def test_so_few_examples_decide_nothing(examples, wrong):
    """Of four or five, all in one direction have a p of 0.125 or 0.0625 in a sign test."""
    right, other = (np.ones((3, examples), bool) for _ in range(2))
    other[:, wrong:] = False
    found = stats.difference(sample(right), sample(other))
    assert found.mean > 0.5
    assert found.p >= 2 * 0.5**examples
    assert stats.verdict(found.mean, found.p) == "undecided"


@pytest.mark.parametrize("examples", [30, 400])
def test_where_all_examples_come_out_alike_the_interval_is_exact(examples):
    right = sample(np.ones((3, examples), bool))
    exact = binomtest(examples, examples).proportion_ci(0.95, "exact")
    assert stats.interval(right) == pytest.approx(exact)
    assert stats.interval(sample(np.zeros((3, examples), bool))) == pytest.approx((0, 1 - exact.low))
    alike = stats.difference(right, right)
    assert (alike.mean, alike.low, alike.high, alike.p) == pytest.approx((0, exact.low - 1, 1 - exact.low, 1))
    assert (alike.low >= -stats.MARGIN) is (examples == 400)


def test_a_t_interval_over_seeds_is_what_three_scattered_seeds_get():
    right = np.arange(2000) < np.array([[1200], [1400], [1600]])
    low, high = stats.interval(sample(right))
    half = 4.303 * 0.1 / 3**0.5
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=1e-3)


def test_seeds_that_are_alike_leave_no_doubt_but_that_of_the_examples():
    equal = stats.difference(sample(hits(0.8)), sample(hits(0.8)))
    assert (equal.mean, equal.low, equal.p) == (0, -equal.high, 1)
    assert stats.verdict(equal.mean, equal.p) == "undecided"


def test_interquartile_mean_is_that_of_the_middle_half():
    scores = np.array([[0.0, 0.2, 0.4, 0.6], [0.5, 0.7, 0.9, 1.0]])
    mean, (low, high) = stats.interquartile_mean(scores)
    assert mean == pytest.approx(np.mean([0.4, 0.5, 0.6, 0.7])) == trim_mean(scores.ravel(), 0.25)
    assert low < mean < high
    alike = np.stack([np.full(3, 0.2), np.full(3, 0.8)])  # resampled within its data set, nothing changes
    assert stats.interquartile_mean(alike) == (pytest.approx(0.5), (pytest.approx(0.5), pytest.approx(0.5)))


def test_expected_best_is_the_mean_over_every_draw():
    scores = [0.3, 0.9, 0.5, 0.5]
    means = [np.mean([max(drawn) for drawn in itertools.permutations(scores, n)]) for n in (1, 2, 3, 4)]
    assert stats.expected_best(scores) == pytest.approx(means)
