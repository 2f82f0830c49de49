"""A user's own files as data: read, guessed at, split, and run through the same ways as the named ones."""

import os
import shutil
import warnings
from pathlib import Path

import pytest
from complete import call
from own_files import leaky

from lrtl_utils.files import ROOT
from lrtl_utils.runs import store as runs
from lrtl_utils.runs import verify
from lrtl_utils.runs.run import Run
from lrtl_utils.study.tables import records
from lrtl_utils.sweep import grid as grids

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # a test that expects a warning says so


@pytest.mark.slow
def test_a_folder_is_priced_swept_recorded_and_verified_like_a_named_set(tmp_path):
    folder = tmp_path / "data"
    leaky(folder)
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"dataset: {os.path.relpath(folder, ROOT)}\nmethod: [tfidf, linear_probe]\ntrain_size: 6\nmax_length: 16\n"
        "drop_leaks: [true]\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        planned = grids.plan(grids.read_grid(grid), Run.outline)
    done = call("sweep", grid, "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    for cell in planned:
        record = runs.read(runs.record_path(tmp_path / "results", "data", cell.id))
        source = record["data"]["source"]
        assert (source["kind"], source["id"], source["revision"]) == ("folder", "data", None)
        assert record["data"]["repeats"]["dropped"] == 4
        assert record["data"]["split"] == "taken: test.csv"
        assert "inputs from column 'text', labels from column 'label'" in record["data"]["notes"]
    report = verify.verify(tmp_path / "results")
    assert (report.records, dict(report.faults), dict(report.notes)) == (2, {}, {})
    assert set(records(tmp_path / "results", "completed")["dataset"]) == {"data"}
    shutil.rmtree(folder)
    (note,) = verify.verify(tmp_path / "results").notes
    assert "is not on this machine" in note


@pytest.mark.slow
def test_run_warns_of_leaks_in_one_line_and_names_the_record(tmp_path):
    folder = leaky(tmp_path / "data")
    words = ["run", "text_classification", "-p", f"dataset={folder}", "-p", "method=tfidf", "-p", "train_size=6"]
    words += ["--results", tmp_path / "results"]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]  # not what a busy kernel tells
    assert len(said) == 1, done.stderr
    assert said[0].startswith("warning: data: 4 of 12 train examples are also in the test split")
    assert runs.read(Path(done.stdout.splitlines()[-1]))["data"]["repeats"]["across"] == 4
    wrong = call(*words, "-p", "label_column=verdict")
    assert wrong.returncode == 2
    assert "no column of train.csv named 'verdict'" in wrong.stderr
