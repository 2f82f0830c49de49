"""Intervals hold their level with few seeds, by simulation of two methods without a difference."""

import re

import intervals
import pytest

from lrtl_utils.files import ROOT

ROW = r"^\| (\d+) \| (\d+) \| ([\d.]+) " + r"\| [\d.]+% \| ([\d.]+)% " * len(intervals.METRICS) + r"\|$"
ROWS = re.findall(ROW, (ROOT / "docs/summaries.md").read_text(), flags=re.M)


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_an_interval_contains_the_truth_as_often_as_it_and_the_table_say(row):
    seeds, examples, points, *said = map(float, row)
    for metric, percent in zip(intervals.METRICS, said, strict=True):
        _, share = intervals.coverage(int(seeds), int(examples), points / 100, experiments=400, metric=metric)
        assert share >= 0.95 - 3 * (0.95 * 0.05 / 400) ** 0.5  # three standard errors, for 54 shares are checked
        assert abs(share - percent / 100) < 0.025


def test_the_table_has_every_row():
    assert len(ROWS) == 3 * 2 * len(intervals.TRAINING)


def test_the_bootstrap_alone_would_not():
    """Three seeds of a method that training moves by five points: why the interval has another half."""
    alone, share = intervals.coverage(3, 2000, 0.05, experiments=400)
    assert alone < 0.9 < share
