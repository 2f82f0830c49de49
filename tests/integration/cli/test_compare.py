"""`compare FOLDER`: one command from a user's file to the four answers, sized to a budget."""

import subprocess
import sys
from dataclasses import replace

import pytest

from lrtl_utils import comparison
from lrtl_utils.config import read_config
from lrtl_utils.files import ROOT
from lrtl_utils.runs import notebook as notebooks
from lrtl_utils.study import checkup
from lrtl_utils.sweep import grid as grids
from lrtl_utils.sweep.price import Priced


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "reviews.csv"
    path.write_text(
        "text,label\n" + "".join(f"a {w} film number {i},{w}\n" for i in range(45) for w in ("fine", "dull"))
    )
    return path


@pytest.fixture(scope="module")
def priced(reviews):
    """All that is worth a run, at prices that are known: a second, and the method's weight for each tenth labelled."""
    data, reading = checkup.read(str(reviews)), read_config({"dataset": str(reviews)})
    weights = {"tfidf": 1, "linear_probe": 2, "progressive": 30, "full": 20, "conventional": 60}
    cells = grids.plan(comparison.wishes(data, reading, ["minilm"]), notebooks.locate)
    return [
        Priced(cell, None, weights[cell.config.method] * 10 * cell.config.data_fraction, 1.0, False) for cell in cells
    ]


def kept_by(priced, budget, workers=1):
    kept, left_out = comparison.fit(priced, budget, workers)
    assert len(kept) + len(left_out) == len(priced)
    return kept, {(one.cell.config.method, one.cell.config.seed) for one in kept}


def test_all_methods_sizes_and_seeds_are_wished_for(priced):
    assert len(priced) == 5 * 2 * 5
    assert {one.cell.config.data_fraction for one in priced} == {0.477611, 1.0}
    assert comparison.models_at_hand("image") == ["efficientnet_lite0"]


def test_cells_are_kept_in_the_order_that_is_told_as_far_as_the_budget_goes(priced):
    whole = comparison.seconds(priced, 1)
    assert whole == pytest.approx(sum(one.seconds + 1 + comparison.OVERHEAD_SECONDS for one in priced))
    assert len(kept_by(priced, whole)[0]) == 50
    assert len(kept_by(priced, whole / 2, workers=2)[0]) == 50
    least, pairs = kept_by(priced, 0)
    assert (len(least), pairs) == (4, {("tfidf", 0), ("linear_probe", 0)})
    assert kept_by(priced, 2.5 * comparison.seconds(least, 1))[1] == {(m, s) for m, _ in pairs for s in (0, 1)}
    three_seeds = comparison.seconds([one for one in priced if one.cell.config.seed < 3], 1)
    assert {seed for _, seed in kept_by(priced, three_seeds + 1)[1]} == {0, 1, 2}
    _, left_out = comparison.fit(priced, three_seeds - 1, 1)
    dearest = left_out[:3]
    assert {(one.cell.config.method, one.cell.config.data_fraction) for one in dearest} == {("conventional", 1.0)}
    assert {one.cell.config.seed for one in left_out[3:]} == {3, 4}


def test_the_same_budget_again_goes_on_with_what_was_left_out(priced):
    budget = comparison.seconds(priced, 1) / 3
    first, _ = comparison.fit(priced, budget, 1)
    ids = {one.cell.identity for one in first}
    again, left_out = comparison.fit([replace(one, done=one.cell.identity in ids) for one in priced], budget, 1)
    assert len(again) > len(first)
    assert ids < {one.cell.identity for one in again}
    assert left_out


def test_plan_is_told_in_words(priced):
    kept, left_out = comparison.fit(priced, 0, 1)
    told = [*comparison.lines(kept, left_out, 67, 0, 1)]
    assert told[0].endswith("of 0 minutes, more than that, but the least that can be compared:")
    assert told[1] == "- tfidf: 32, 67 labels with seeds 0"
    assert told[3].startswith("Left out, 46 cells, which the same command")
    assert "- minilm full: 32, 67 labels with seeds 0, 1, 2, 3, 4" in told


def call(*words):
    command = [sys.executable, "-m", "lrtl_utils", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_wrong_folder_or_model_is_one_sentence_and_nothing_is_run(reviews, tmp_path):
    for words, said in (
        ([tmp_path / "none.csv"], "There is no file or folder"),
        ([reviews, "--model", "minilmm"], "did you mean 'minilm'"),
        ([reviews, "--model", "resnet50"], "does not read text"),
    ):
        done = call("compare", *words, "--results", tmp_path / "results")
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_what_is_fixed_reaches_every_cell(reviews):
    data = checkup.read(str(reviews))
    fixed = read_config({"dataset": str(reviews), "text_column": "text", "drop_leaks": True, "max_length": "32"})
    asked = [config for _, config in comparison.wishes(data, fixed, ["minilm"])]
    assert {(config.text_column, config.drop_leaks, config.max_length) for config in asked} == {("text", True, 32)}
    assert {config.seed for config in asked} == {0, 1, 2, 3, 4}
