"""A search runs the grid's cells through the notebook, pays for none twice, survives a kill, and says what it cost."""

import contextlib
import json
import subprocess
import sys

import pandas as pd
import psutil
import pytest
from complete import wait_for
from grid_files import written

from lrtl_utils.files import ROOT
from lrtl_utils.runs import store
from lrtl_utils.runs.record import checksum
from lrtl_utils.runs.run import Run
from lrtl_utils.study.tables import records
from lrtl_utils.sweep.grid import plan, read_grid
from lrtl_utils.sweep.search import read_space, search, summary
from lrtl_utils.sweep.sweep import sweep

TINY = {
    "dataset": "digits",
    "model": "simple_nn",
    "method": "from_scratch",
    "image_size": 8,
    "train_size": 40,
    "test_limit": 20,
    "validation_share": 0.5,
    "batch_size": 8,
    "device": "cpu",
}

TEXTS = {"dataset": "news_sample", "model": "minilm", "method": "full", "image_size": None, "test_limit": None}


def space_file(tmp_path, content):
    return written(tmp_path, TINY | content)


def record_files(results):
    return {path.name: path.read_bytes() for path in results.glob("runs/*/*.json")}


def essence(record):
    """A search's record without what differs from machine to machine: seconds."""
    trials = [{key: row[key] for key in row if "seconds" not in key} for row in record["trials"]]
    best = {"best": record["best"], "flops": record["cost"]["flops"]}
    return {key: record[key] for key in ("space", "sampler", "at_once", "known")} | best | {"trials": trials}


@pytest.mark.slow
def test_a_search_killed_and_called_again_goes_on_and_a_grid_shares_its_records(tmp_path):
    path = space_file(tmp_path, {"learning_rate": [1e-4, 1e-3, 1e-2], "seed": [0, 1]})
    space, whole, cut = read_space(path), tmp_path / "whole", tmp_path / "cut"
    undisturbed = search(space, whole, seed=4, trials=3)

    words = ["search", path, "--results", cut, "--seed", "4", "--trials", "3"]
    command = [sys.executable, "-m", "lrtl_utils", *map(str, words)]
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(record_files(cut)) >= 3, seconds=300)  # in the middle of the search
    family = [process, *process.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended when its parent did
            member.kill()
    psutil.wait_procs(family)
    before = record_files(cut)
    search(space, cut, seed=4, trials=3)
    again = json.loads((cut / "search" / "grid-tpe-seed4.json").read_text())
    assert essence(again) == essence(undisturbed)
    after = record_files(cut)
    assert 3 <= len(before) < 6
    assert len(after) == 6
    assert set(after) == set(record_files(whole))
    assert before == {name: after[name] for name in before}
    assert sum(cell.path(cut).name in after for cell in plan(read_grid(path))) == 6  # a sweep of it finds them

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trial ") == 3
    assert f"best: learning_rate={again['best']['config']['learning_rate']}" in done.stdout
    assert record_files(cut) == after


@pytest.mark.slow
def test_no_trial_is_lost_by_asking_for_fewer_another_search_of_the_name_or_a_kill(tmp_path, monkeypatch):
    space = read_space(space_file(tmp_path, {"learning_rate": [1e-4, 1e-3, 1e-2]}))
    first = search(space, tmp_path, trials=2)
    edited = search(read_space(space_file(tmp_path, {"learning_rate": [1e-3, 1e-2, 1e-1]})), tmp_path, trials=1)
    before = record_files(tmp_path)
    assert essence(search(space, tmp_path, trials=1)) == essence(first)
    assert record_files(tmp_path) == before
    kept = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "search").iterdir()}
    assert {name: essence(record) for name, record in kept.items()} == {
        "grid-tpe-seed0": essence(first),
        "grid-tpe-seed0-2": essence(edited),
    }

    def killed(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lrtl_utils.sweep.search.explore", killed)
    with pytest.raises(KeyboardInterrupt):
        search(space, tmp_path, trials=3)
    assert essence(json.loads((tmp_path / "search" / "grid-tpe-seed0.json").read_text())) == essence(first)


@pytest.mark.slow
def test_a_trial_is_the_mean_over_its_seeds_and_what_its_records_cost(tmp_path):
    path = space_file(tmp_path, {"learning_rate": [1e-3, 1e-2], "seed": [0, 1]})
    space = read_space(path)
    record = search(space, tmp_path, trials=2)
    frame = records(tmp_path, "completed")
    means = frame.groupby("config.learning_rate")["validation.score"].mean()
    assert {row["config"]["learning_rate"]: row["score"] for row in record["trials"]} == pytest.approx(dict(means))
    assert record["best"]["score"] == pytest.approx(means.max())
    assert record["best"]["config"] == {"learning_rate": means.idxmax()}
    assert record["cost"]["flops"] == frame["cost.flops"].sum()
    assert record["cost"]["device_seconds"] == pytest.approx(frame["cost.device_seconds"].sum())
    assert 0 < record["cost"]["own_seconds"] < frame["cost.overhead_seconds"].sum()
    assert f"cost: {len(record['trials'])} trials, " in "\n".join(summary(record))


@pytest.mark.slow
def test_a_failed_trial_is_reported_and_not_tried_again(tmp_path):
    path = space_file(tmp_path, {"epochs": [1, 1_000_000]})
    space, said = read_space(path), []
    sweep(plan(read_grid(path))[:1], tmp_path)  # one epoch, however long that takes here: no deadline ends it
    record = search(space, tmp_path, workers=2, deadline_seconds=3, report=said.append)
    (failed,) = [row for row in record["trials"] if row["score"] is None]
    assert failed["config"] == {"epochs": 1_000_000}
    assert "past its deadline" in failed["error"]
    assert record["best"]["config"] == {"epochs": 1}
    assert sum("failed: past its deadline" in line for line in said) == 1

    before = record_files(tmp_path)
    again = search(space, tmp_path, workers=1)
    assert essence(again) == essence(record)
    other = search(space, tmp_path, seed=1)
    assert record_files(tmp_path) == before
    assert (len(other["known"]), other["trials"], other["best"]["score"]) == (2, [], record["best"]["score"])
    said = "\n".join(summary(other))
    assert "2 settings were recorded before the search began" in said
    assert "cost: 0 trials, 0.0 device seconds" in said


@pytest.mark.slow
def test_with_a_size_as_the_fidelity_only_the_largest_can_be_best(tmp_path):
    path = space_file(tmp_path, {"learning_rate": [1e-3, 1e-2], "train_size": [20, 60]})
    record = search(read_space(path), tmp_path, keep=2)
    assert {row["config"]["train_size"] for row in record["trials"]} == {20, 60}
    assert record["best"]["config"]["train_size"] == 60


def test_a_space_has_every_distinct_setting_once_and_only_knobs_that_matter(tmp_path):
    lists = {"learning_rate": [5e-5, 1e-5], "warmup_steps": [500, 1000], "scheduler": ["linear", "cosine"]}
    space = read_space(space_file(tmp_path, TEXTS | lists | {"seed": [7, 8, 9], "epochs": 2}))
    assert space.knobs == {"learning_rate": [1e-5, 5e-5], "scheduler": ["linear", "cosine"]}
    assert len(space.settings) == 4
    assert all([cell.config.seed for cell in one.cells] == [7, 8, 9] for one in space.settings)
    assert len({cell.id for one in space.settings for cell in one.cells}) == 12
    assert space.settings[space.places[1e-5, "cosine"]].values == {"learning_rate": 1e-5, "scheduler": "cosine"}
    several = read_space(space_file(tmp_path, TEXTS | lists | {"dataset": ["news_sample", "reviews_sample"]}))
    assert several.knobs == space.knobs
    read = [[cell.config.dataset for cell in one.cells] for one in several.settings]
    assert read == [["news_sample", "reviews_sample"]] * 4
    clamped = read_space(space_file(tmp_path, TEXTS | {"warmup_steps": [5, 1000], "epochs": [1, 4]}))
    assert len(clamped.settings) == 3
    assert clamped.places[1, 1000] == clamped.places[1, 5]  # an epoch has three steps


@pytest.fixture
def recorded_grid(tmp_path):
    """The file of a grid of four cells that have records."""
    path = space_file(tmp_path, {"learning_rate": [1e-3, 1e-2], "epochs": [1, 2]})
    for cell in plan(read_grid(path)):
        run = Run(cell.asked, results=tmp_path)
        run.fit(*run.label())
        run.record(run.test())
        assert run.path == cell.path(tmp_path)
    return path


def test_a_replay_compares_tpe_and_halving_with_a_random_order(recorded_grid, tmp_path, call):
    done = call("search", recorded_grid, "--results", tmp_path, "--replay", "2")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "search.csv")
    assert table["sampler"].unique().tolist() == ["TPE", "halving over epochs, 1/3 kept", "random order"]
    assert table["seed"].tolist() == [0, 1] * 3
    assert table["trials"].between(1, 4).all()


def test_halving_on_a_recorded_grid_runs_nothing(recorded_grid, tmp_path, call):
    before = record_files(tmp_path)
    done = call("search", recorded_grid, "--results", tmp_path, "--halving", "2", "--fidelity", "epochs")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "search").iterdir()
    record = json.loads(file.read_text())
    assert record["sampler"] == {"name": "halving", "seed": 0, "keep": 2, "fidelity": "epochs"}
    assert {row["config"]["epochs"] for row in record["trials"]} == {1, 2}
    assert record_files(tmp_path) == before


def test_runs_that_took_work_from_a_cache_are_not_replayed(recorded_grid, tmp_path, call):
    path = store.paths(tmp_path)[0]
    record = json.loads(path.read_text())
    record["cost"] |= {"cached_seconds": 1.0}
    path.write_text(json.dumps(record | {"checksum": checksum(record)}))
    done = call("search", recorded_grid, "--results", tmp_path, "--replay", "2")
    assert done.returncode == 2
    assert "has runs that reused work from a cache, so their seconds cannot be compared" in done.stderr


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ({"validation_share": 0}, [], "give a validation_share, such as 0.2"),
        (
            {"blocks": {"a": {"seed": 7, "epochs": 1}, "b": {"seed": 8, "epochs": 2}}},
            [],
            "differ in data sets or seeds",
        ),
        ({"epochs": [1, -2]}, [], "epochs=-2"),
        ({"epochs": [1, 2]}, ["--replay", "5"], "no record of 2 of the 2 settings"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_runs_nothing(tmp_path, call, content, options, said):
    done = call("search", space_file(tmp_path, content), "--results", tmp_path, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert not record_files(tmp_path)


@pytest.mark.slow
def test_a_setting_that_had_failed_before_the_search_counts_when_a_sweep_has_run_it_again(tmp_path):
    path = space_file(tmp_path, {"learning_rate": [1e-4, 1e-2]})
    space, (first, second) = read_space(path), plan(read_grid(path))
    sweep([first], tmp_path)
    sweep([second], tmp_path, memory_limit_mib=1)
    record = search(space, tmp_path)
    said = "\n".join(summary(record))
    assert "2 settings were recorded before the search began" in said
    assert "1 setting failed; a search tries no failed setting again, but `lrtl sweep` of the same grid does" in said
    sweep([second], tmp_path)
    again = search(space, tmp_path)
    scores = [row["score"] for row in again["known"]]
    assert None not in scores
    assert again["best"]["score"] == max(scores)
    assert "failed" not in "\n".join(summary(again))


def test_a_record_of_a_search_that_the_system_cannot_read_is_not_written_over(tmp_path, monkeypatch, call):
    file = tmp_path / "search/grid-tpe-seed0.json"
    file.parent.mkdir()
    file.symlink_to(file)  # to itself
    monkeypatch.setattr("lrtl_utils.sweep.search.explore", lambda *given, **options: ())
    done = call("search", space_file(tmp_path, {"epochs": [1, 2]}), "--results", tmp_path)
    assert done.returncode == 2
    assert f"{file} cannot be read: Too many levels" in done.stderr
    assert file.is_symlink()


@pytest.mark.parametrize("verb", [["search"], ["sweep"], ["sweep", "--dry-run"]])
def test_results_in_the_folder_of_the_data_are_refused_before_anything_is_written(verb, tmp_path, call):
    data = tmp_path / "my"
    data.mkdir()
    (data / "reviews.json").write_text(json.dumps([{"text": f"word {i}", "label": "ab"[i % 2]} for i in range(40)]))
    path = space_file(tmp_path, TEXTS | {"dataset": str(data), "train_size": 20, "epochs": [1, 2]})
    assert "is in the folder of the data" in call(*verb, path, "--results", data / "results").stderr
    assert [each.name for each in data.iterdir()] == ["reviews.json"]
