"""Committed records verify (checksum, schema, and the id of a configuration), and give the committed table."""

import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lrtl_utils.files import ROOT
from lrtl_utils.methods import METHODS
from lrtl_utils.runs import store
from lrtl_utils.runs.record import kind_of
from lrtl_utils.runs.verify import verify
from lrtl_utils.study import stats, tables
from lrtl_utils.study.benchmarks import recipe, tuning

FOLDERS = sorted(path.parent.name for path in (ROOT / "results").glob("*/runs"))


def test_the_committed_folders_are_there():
    assert {"study", "confirmation", "search", "one_epoch"} <= set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_no_committed_record_has_a_fault(name):
    report = verify(ROOT / "results" / name)
    assert report.records
    assert list(report.faults.items()) == []


@pytest.mark.parametrize("folder", sorted((ROOT / "results").glob("**/runs")), ids=lambda path: path.parent.name)
def test_the_paths_of_committed_records_hold_from_their_folder(folder):
    texts = [path.read_text() for path in store.paths(folder.parent)]
    named = {name for text in texts for name in re.findall(r'"dataset": "(\.[^"]*)"', text)}
    places = [Path(store.place(folder.parent, name)) for name in named]
    assert [each for each in places if not {ROOT.parent / "shared", ROOT / "build"} & {*each.parents}] == []


def test_committed_runs_are_in_fp32_unless_their_folder_is_named_for_another_precision():
    found = {"bf16": set(), "fp32": set()}
    for path in (ROOT / "results").glob("**/runs/*/*.json"):
        found["bf16" if path.parents[2].name == "bf16" else "fp32"].add(store.read(path)["environment"]["precision"])
    assert found == {name: {name} for name in found}


@pytest.mark.parametrize("name", ["recipe-2", "confirmation", "study"])
def test_a_committed_table_is_what_its_records_give(name, tmp_path):
    folder, copy = ROOT / "results" / name, tmp_path / name
    copy.mkdir()
    for path in folder.iterdir():  # records are read where they are
        (copy / path.name).symlink_to(path) if path.is_dir() else shutil.copy(path, copy)
    (tmp_path / f"{name}-added").symlink_to(f"{folder}-added")  # leads nowhere where nothing was added
    assert recipe.write(copy).read_text() == (folder / "table.md").read_text()
    pd.testing.assert_frame_equal(*(pd.read_csv(each / "table.csv") for each in (copy, folder)))


def test_the_committed_page_of_the_searches_is_what_they_say(tmp_path):
    (tmp_path / "search").symlink_to(ROOT / "results/tuning/search")
    assert tuning.write(tmp_path).read_text() == (ROOT / "results/tuning/tuning.md").read_text()


def test_the_tuned_baselines_ran_with_what_the_searches_chose():
    chosen, frame = tuning.chosen(ROOT / "results/tuning"), tables.records(ROOT / "results/confirmation", "completed")
    ran = frame[frame["method"].isin(chosen["method"])]
    assert len(ran)
    for row in ran.itertuples():
        rows = chosen[(chosen["method"] == row.method) & (chosen["kind"] == kind_of(row.record))]
        setting = rows["setting"].iloc[np.abs(np.log(rows["labels"].to_numpy() / row.n_labels)).argmin()]
        config = row.record["config"] | row.record["config"]["asked"]
        assert {name: config[name] for name in setting} == setting, row.run_id


def test_what_is_assumed_of_two_methods_is_what_the_committed_records_have():
    frame = tables.read(ROOT / "results/confirmation")
    rows = []
    ours = frame["method"].isin({*METHODS} - {"tfidf"})  # what `compare` and a sweep can run, which no peer is
    trained = ours & (frame["score_name"] == "accuracy") & (frame["n_labels"] == 100)
    for _, sized in frame[trained].groupby(["dataset", "model", "n_labels"]):
        lines = [group.set_index("seed")["outcome"] for _, group in sized.groupby("configuration")]
        for one, other in itertools.combinations(lines, 2):
            seeds = sorted(set(one.index) & set(other.index))
            if len(seeds) < stats.LEAST_SEEDS:
                continue
            (ours, _), (theirs, _) = stats.outcomes(list(one[seeds])), stats.outcomes(list(other[seeds]))
            differ = ours[..., 0] - theirs[..., 0]  # [seeds, examples]
            share = (differ != 0).mean()
            correlation = np.corrcoef(differ)[np.triu_indices(len(seeds), 1)].mean()
            left = differ.mean(axis=1).var(ddof=1) - share * (1 - correlation) / differ.shape[1]
            rows.append([share, correlation, max(left, 0) ** 0.5])
    assert len(rows) >= 10
    off = np.abs(np.median(rows, axis=0) - [stats.DISAGREEMENT, stats.RECURRING, stats.TRAINING])
    assert (off <= [0.03, 0.05, 0.006]).all()


def test_each_run_of_the_confirmation_was_planned():
    grid = yaml.safe_load((ROOT / "notebooks/grids/confirmation.yaml").read_text())
    knobs, planned = ("dataset", "method", "seed", "model", "train_size", "data_fraction", "shots"), set()
    for block in grid.pop("blocks").values():
        values = ((grid | block).get(knob) for knob in knobs)
        cells = itertools.product(*(each if isinstance(each, list) else [each] for each in values))
        planned |= {(Path(dataset).name, *others) for dataset, *others in cells}
    peers = dict.fromkeys(("setfit", "setfit_20", "mteb_probe"), "linear_probe")  # whose runs they follow
    for record in tables.records(ROOT / "results/confirmation", "completed")["record"]:
        config = record["config"] | {"dataset": Path(record["config"]["dataset"]).name}
        config |= {"method": peers.get(config["method"], config["method"])}
        config |= {"model": "minilm"} if config["method"] == "tfidf" else {}
        assert tuple(config[knob] for knob in knobs) in planned, record["run_id"]
