"""A sweep skips what is done, goes on after failures, keeps deadlines, and resumes."""

import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import matplotlib
import psutil
import pytest
import torch
from complete import call, wait_for
from grid_files import written

from lrtl_utils.files import ROOT
from lrtl_utils.runs import notebook as notebooks
from lrtl_utils.runs import store as runs
from lrtl_utils.runs.run import Run
from lrtl_utils.study.tables import records
from lrtl_utils.sweep.grid import plan, read_grid
from lrtl_utils.sweep.sweep import sweep

SMALL = {"dataset": "digits", "model": "efficientnet_lite0", "method": "linear_probe", "image_size": 32}


@pytest.mark.slow
def test_a_sweep_goes_on_after_failures_and_skips_what_is_done(tmp_path):
    content = {"seed": [0, 1], "blocks": {"good": SMALL, "bad": SMALL | {"train_size": 4, "seed": 0}}}
    cells, said = plan(read_grid(written(tmp_path, content))), []
    first = sweep(cells, tmp_path, workers=2, report=said.append)
    assert (first.completed, first.found, len(first.failed)) == (2, 0, 1)
    assert "is of class" in first.failed[0][1]
    assert any("cells done" in line and "left" in line and "to go" in line for line in said)
    second = sweep(cells[:2], tmp_path, report=said.append)
    assert (second.completed, second.found) == (0, 2)
    frame = records(tmp_path, "completed")
    assert sorted(frame["seed"]) == [0, 1]
    assert list(records(tmp_path, "failed")["config.train_size"]) == [4]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is to be absent")
@pytest.mark.slow
def test_cells_planned_for_a_gpu_that_a_worker_lacks_fail_once_untrained_and_the_next_sweep_tries_again(tmp_path):
    """As where a sweep is started on a SLURM cluster's login node and a job lands on a node without a GPU."""
    planned_for = {"dataset": "news_sample", "model": "simple_nn", "method": "from_scratch", "device": "cuda"}
    cells = plan(read_grid(written(tmp_path, planned_for)), partial(Run, elsewhere=True))
    for _ in range(2):
        outcome = sweep(cells, tmp_path, elsewhere=True, on_oom="halve", report=print)
        ((_, reason),) = outcome.failed
        assert (outcome.found, outcome.left) == (0, 0)
        assert reason == "device='cuda' is not on this machine; device='auto' uses what is there."
    ((_, record),) = records(tmp_path, "failed").iterrows()
    assert (record["run_id"], record["cost.device_seconds"]) == (cells[0].id, 0)


def test_a_cell_past_its_deadline_ends_with_all_that_it_started(tmp_path):
    path = written(tmp_path, {"dataset": "news_sample", "method": "from_scratch", "epochs": 1000})
    words = ["sweep", path, "--results", tmp_path / "out", "--deadline", 3, "--memory-limit", 100_000]
    with tempfile.TemporaryDirectory() as place:  # short, as paths of sockets must be
        done = call(*words, env=os.environ | {"TMPDIR": place})
        assert not list(Path(place).glob("lrtl-*"))
    assert done.returncode == 1
    assert "past its deadline of 3 s" in done.stdout + done.stderr
    assert not writers_below(tmp_path)
    (error,) = records(tmp_path / "out", "failed")["error"]
    assert error == "past its deadline of 3 s"


def test_a_cell_that_half_the_batch_does_not_help_leaves_a_failed_record_for_each_batch_size(tmp_path):
    asked = {"dataset": "news_sample", "model": "simple_nn", "method": "from_scratch", "train_size": 16}
    words = ["sweep", written(tmp_path, asked | {"batch_size": 2}), "--results", tmp_path / "out"]
    done = call(*words, "--memory-limit", 1, "--on-oom", "halve")
    assert done.returncode == 1, done.stderr
    failed = {record["config"]["batch_size"]: record for record in records(tmp_path / "out", "failed")["record"]}
    assert set(failed) == {2, 1}
    for record in failed.values():
        assert record["error"] == "out of memory: it held more than its limit of 1 MiB"
    assert failed[1]["config"]["asked"]["batch_size"] == 2
    assert call(*words, "--on-oom", "halve").returncode == 0
    assert "1 already done, 0 to run" in call(*words, "--on-oom", "halve", "--dry-run").stdout


def test_an_interrupted_sweep_leaves_nothing_behind_and_resumes(tmp_path):
    path = written(tmp_path, {"seed": [0, 1, 2]} | SMALL)
    words = [sys.executable, "-m", "lrtl_utils", "sweep", str(path), "--results", str(tmp_path / "results")]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list((tmp_path / "results").glob("runs/*/*.json")))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 130, said
    assert not writers_below(tmp_path)
    assert "continue with the remaining runs" in said
    before = len(list((tmp_path / "results").glob("runs/*/*.json")))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{before} already done" in done.stdout
    assert len(records(tmp_path / "results", "completed")) == 3
    executed = list((tmp_path / "results/executed/digits").glob("*.ipynb"))
    assert [path.read_text().count("image/png") for path in executed] == [5, 5, 5]


def test_a_sweep_whose_time_is_over_ends_its_cells_and_goes_on_later(tmp_path):
    """The outcome counts what is left, and nothing is raised: `compare` answers from what is there."""
    cells, said = plan(read_grid(written(tmp_path, SMALL | {"method": "full", "seed": [0, 1], "epochs": 400}))), []

    def begun():
        wait_for(lambda: list(tmp_path.glob("work/*/progress.json")))

    outcome = sweep(cells, tmp_path, stop_after_seconds=0, meanwhile=begun, report=said.append)
    assert (outcome.completed, outcome.failed, outcome.left) == (0, [], 2)
    assert said[-1] == "The time is over, so the running cells are ended at their checkpoints."
    assert list(tmp_path.glob("work/*/checkpoint.pt"))
    assert not writers_below(tmp_path)


@pytest.mark.slow
def test_a_worker_whose_failed_record_cannot_be_written_stops_in_a_sentence(tmp_path):
    path, out = written(tmp_path, SMALL), tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "runs" / "digits").write_text("in the way of the folder")
    done = call("sweep", path, "--results", out, timeout=150)
    assert done.returncode == 1, done.stderr
    (cell,) = plan(read_grid(path))
    assert f"the record of that could not be written to {cell.path(out)}." in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list((out / "claims").glob("*.json"))


def writers_below(folder):
    """Processes that still have a cell's log open, as its kernel has."""
    found = ((process, process.info["open_files"] or []) for process in psutil.process_iter(["open_files"]))
    return [process for process, files in found if any(file.path.startswith(str(folder)) for file in files)]


@pytest.mark.slow
def test_a_forked_kernel_with_its_share_of_threads_gives_what_a_fresh_one_gives(tmp_path):
    (cell,) = plan(read_grid(written(tmp_path, SMALL)))
    sweep([cell], tmp_path / "forked", workers=max(1, os.cpu_count() or 1), report=print)
    notebooks.run_notebook(cell.notebook, cell.asked, cell.config, cell.id, tmp_path / "fresh")
    forked, fresh = (runs.read(cell.path(tmp_path / name)) for name in ("forked", "fresh"))
    assert forked["environment"]["threads"] == fresh["environment"]["threads"] == 1
    assert forked["metrics"] == fresh["metrics"]
    assert forked["cost"]["flops"] == fresh["cost"]["flops"]
    assert forked["curve"][0]["loss"] == fresh["curve"][0]["loss"]


@pytest.mark.slow
def test_cells_share_what_they_would_compute_alike_unless_asked_not_to_and_say_the_same(tmp_path):
    """A worker reads the folder of the user whose sweep it is, so that is one of the test's own."""
    path = written(tmp_path, SMALL | {"seed": [0, 1], "image_size": 64})
    environment = os.environ | {"HOME": str(tmp_path), "MPLCONFIGDIR": matplotlib.get_configdir()}
    frames = []
    for options in ([], ["--no-cache"]):
        results = tmp_path / f"results{len(frames)}"
        done = call("sweep", path, "--results", results, *options, env=environment)
        assert done.returncode == 0, done.stderr
        frames.append(records(results, "completed").sort_values("seed", ignore_index=True))
    shared, alone = frames
    assert (shared["cost.cached_predict_seconds"] > 0).tolist() == [False, True]
    assert not alone[["cost.cached_seconds", "cost.cached_predict_seconds"]].any(axis=None)
    for name in ("run_id", "metrics.loss", "score", "cost.flops"):
        assert shared[name].tolist() == alone[name].tolist()
    hits = [[record["metrics"]["hits"] for record in frame["record"]] for frame in frames]
    assert hits[0] == hits[1]
