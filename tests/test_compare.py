"""`compare FOLDER`: one command from a user's file to the four answers, sized to a budget."""

import csv
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lrtl_utils import checkup, comparison, grids, notebooks, runs
from lrtl_utils.config import ROOT, RunConfig, read_config
from lrtl_utils.price import Priced

GOOD, BAD = (
    ["moving", "brilliant", "funny", "tender", "gripping", "superb"],
    ["dull", "tedious", "clumsy", "boring", "lifeless", "awful"],
)
FILLER = ["the", "a", "film", "story", "scene", "actor", "plot", "with", "from", "over", "many", "people", "again"]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "reviews.csv"
    rng = random.Random(0)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for i in range(90):
            label, words = (("good", GOOD), ("bad", BAD))[i % 2]
            writer.writerow([" ".join([*rng.choices(FILLER, k=5), rng.choice(words), str(i)]), label])
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


def test_what_fits_is_kept_and_the_rest_goes_in_the_order_that_is_told(priced):
    whole = comparison.seconds(priced, 1)
    assert whole == pytest.approx(sum(one.seconds + 1 + comparison.OVERHEAD_SECONDS for one in priced))
    assert len(kept_by(priced, whole)[0]) == 50
    assert {seed for _, seed in kept_by(priced, 0.99 * whole)[1]} == {0, 1, 2}
    assert len(kept_by(priced, 0.7 * whole)[0]) == 30
    assert ("conventional", 0) in kept_by(priced, 0.55 * whole)[1]
    fewer, pairs = kept_by(priced, 0.25 * whole)
    assert ("conventional", 0) not in pairs
    assert comparison.seconds(fewer, 1) <= 0.25 * whole
    least, pairs = kept_by(priced, 0)
    assert pairs == {("tfidf", 0), ("linear_probe", 0)}
    assert len(least) == 4
    assert len(kept_by(priced, whole / 2, workers=2)[0]) == 50


def test_what_is_done_costs_nothing(priced):
    done = [replace(one, done=one.cell.config.method == "conventional") for one in priced]
    assert comparison.seconds(done, 1) < comparison.seconds(priced, 1)


def test_plan_is_told_in_words(priced):
    kept, left_out = comparison.fit(priced, 0, 1)
    told = [*comparison.lines(kept, left_out, 67, 0, 1)]
    assert told[0].endswith("of 0 minutes, more than that, but the least that can be compared:")
    assert told[1] == "- tfidf: 32, 67 labels with seeds 0"
    assert told[3].startswith("Left out until it fitted, 46 cells")
    assert "- minilm full: 32, 67 labels with seeds 0, 1, 2, 3, 4" in told


def call(*words):
    command = [sys.executable, "-m", "lrtl_utils", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_one_command_checks_runs_and_answers(reviews, tmp_path):
    done = call("compare", reviews, "--budget", "0.4", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    for told in (
        "# reviews.csv: text, 2 classes",
        "## To look at\nNothing.",
        "4 cells, about",
        "4 completed, 0 already done, 0 failed",
        "Which model and which method is best? ",
        "How much data do I need? ",
        "What does it cost? ",
        "Is the difference real, or noise? ",
    ):
        assert told in done.stdout
    pictures = [Path(line) for line in done.stdout.splitlines() if line.endswith(".png")]
    assert pictures
    assert all(picture.is_file() for picture in pictures)
    frame = runs.load(tmp_path)
    assert set(frame["method"]) == {"tfidf", "linear_probe"}
    assert set(frame["labels"]) == {32, 67}


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


def test_reading_knobs_reach_every_cell(reviews):
    data = checkup.read(str(reviews))
    reading = read_config({"dataset": str(reviews), "text_column": "text", "drop_leaks": True})
    asked = [config for _, config in comparison.wishes(data, reading, ["minilm"])]
    assert {(config.text_column, config.drop_leaks) for config in asked} == {("text", True)}
    assert all(isinstance(config, RunConfig) for config in asked)
