import numpy as np
import pytest
from scipy.optimize import curve_fit

from lrtl_utils.study import curves

SIZES = [32, 100, 316, 1000]


def law(n, a, b, c):
    return a - b * np.asarray(n, dtype=float) ** -c


def noisy(draws, spread, rng=0):
    return law(SIZES, 0.9, 1.2, 0.4) + np.random.default_rng(rng).normal(0, spread, (draws, len(SIZES)))


def test_the_fit_is_that_of_scipy():
    scores = noisy(1, 0.005)[0]
    theirs, _ = curve_fit(law, SIZES, scores, p0=(0.9, 1, 0.5))
    ours = curves.fit(SIZES, scores)
    errors = [np.sum((law(SIZES, *numbers) - scores) ** 2) for numbers in (ours, theirs)]
    assert errors[0] == pytest.approx(errors[1], rel=0.02)
    assert ours.score(3000) == pytest.approx(law(3000, *theirs), abs=2e-3)


def test_many_draws_are_fitted_as_each_alone():
    draws = noisy(20, 0.02)
    together = curves.fit(SIZES, draws)
    alone = [curves.fit(SIZES, scores) for scores in draws]
    assert np.array_equal(np.stack(together, -1), np.array(alone))


def test_no_score_is_above_one_and_none_falls_with_labels():
    steep = curves.fit(SIZES, [0.5, 0.7, 0.9, 1.0])
    assert steep.a <= 1
    falling = curves.fit(SIZES, [0.8, 0.7, 0.7, 0.6])
    assert (falling.b, falling.a) == (0, pytest.approx(0.7))


def test_labels_needed_by_hand():
    full, target = 3000, 0.8
    by_hand = (1.2 / (0.9 - target)) ** (1 / 0.4)
    found = curves.need(SIZES, law(SIZES, 0.9, 1.2, 0.4), noisy(500, 0.002), full, target)
    assert found.n_labels == pytest.approx(by_hand, rel=0.03)
    assert found.low < by_hand < found.high
    assert found.full_low < law(full, 0.9, 1.2, 0.4) < found.full_high < found.full_low + 0.02
    assert found.full_score == pytest.approx(law(full, 0.9, 1.2, 0.4), abs=2e-3)
    assert found.missed == pytest.approx(0, abs=2e-3)
    assert found.doubts == []


@pytest.mark.parametrize("sizes", [SIZES[:3], SIZES])
def test_what_is_needed_does_not_hang_on_rounding(sizes):
    exact = law(sizes, 0.9, 1.2, 0.4)
    moved = curves.need(sizes, exact + np.array([-1e-13, 1e-13, 0, 0])[: len(sizes)], None, 3000, 0.8)
    assert moved.n_labels == pytest.approx(curves.need(sizes, exact, None, 3000, 0.8).n_labels, rel=1e-6)


def test_a_target_that_the_curve_never_reaches_needs_infinitely_many():
    exact, draws = law(SIZES, 0.9, 1.2, 0.4), noisy(500, 0.002)
    assert curves.need(SIZES, exact, draws, 3000, 0.95).n_labels == np.inf
    assert curves.need(SIZES, exact, draws, 3000, 0.95).doubts == []
    assert curves.need(SIZES, exact, draws, 900, 0.83).n_labels == np.inf  # more labels than there are would reach it
    near = curves.need(SIZES, exact, noisy(500, 0.02), 3000, 0.84)
    assert np.isfinite(near.n_labels)
    assert near.high == np.inf
    assert "in some draws the target is never reached" in near.doubts
    beyond = curves.need(SIZES, exact, noisy(500, 0.02), 900, 0.825)
    assert np.isinf(beyond.n_labels)
    assert "in some draws the target is reached" in beyond.doubts


def test_no_target_that_runs_reached_is_never_reached():
    late = curves.need((32, 100, 223), (0.574, 0.671, 0.844), None, 223, 0.802)  # no power law rises so late
    assert late.n_labels == 223
    assert "the curve does not reach the target, and runs do" in late.doubts


def test_what_the_data_cannot_say_is_said():
    exact, draws = law(SIZES, 0.9, 1.2, 0.4), noisy(500, 0.002)
    assert curves.need(SIZES[:2], exact[:2], draws[:, :2], 1000, 0.7) is None  # any exponent goes through two points
    three = curves.need(SIZES[:3], exact[:3], draws[:, :3], 900, 0.7)
    assert three.doubts[0] == "only 3 of the 4 sizes that a curve needs"
    assert three.missed is None
    assert curves.need(SIZES, exact, None, 3000, 0.8).doubts == ["too few seeds for an interval"]
    wide = curves.need(SIZES, exact, noisy(500, 0.1), 10**9, 0.7)
    assert any("spans a factor" in doubt or "never reached" in doubt for doubt in wide.doubts)


def test_a_curve_is_checked_by_leaving_out_the_largest_size():
    jumps = np.array([0.5, 0.6, 0.65, 0.9])
    found = curves.need(SIZES, jumps, None, 3000, 0.8)
    assert found.missed < -0.1
    assert f"the curve of the smaller sizes misses the largest by {100 * found.missed:+.1f} points" in found.doubts


def test_a_flat_curve_needs_no_more_than_was_measured():
    flat = curves.need(SIZES, [0.8] * 4, np.full((10, 4), 0.8), 3000, 0.76)
    assert flat[:3] == (32, 32, 32)
    assert flat.doubts == ["the scores do not rise with the labels"]
