import subprocess
import sys
import time

import pytest
import torch
from made_records import fail, write

from lrtl_utils.config import RunConfig
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop
from lrtl_utils.runs import store


@pytest.fixture
def path(tmp_path):
    return write(tmp_path)


def test_a_process_that_dies_while_writing_leaves_the_old_record(path, tmp_path):
    before = path.read_bytes()
    code = """
import os, pathlib, sys
from lrtl_utils.files import write_atomically
def die(stream):
    stream.write(b'{"schema": 1, "run')
    stream.flush()
    os._exit(9)
write_atomically(pathlib.Path(sys.argv[1]), die)
"""
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.read_bytes() == before
    assert len(list(store.records(tmp_path))) == 1


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "{torn", '{"device_seconds": -1}', '{"device_seconds": 1e999}', '{"device_seconds": 1, "x": 2}'],
)
def test_a_damaged_count_of_what_was_spent_does_not_keep_a_failure_from_being_recorded(tmp_path, content):
    config = RunConfig(dataset="news_sample", method="tfidf", device="cpu", precision="fp32")
    folder = store.work_folder(tmp_path, 12 * "a")
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(content)
    path = store.failed(tmp_path, 12 * "a", config, {}, "it took too long", started=1.0e9)
    assert store.read(path)["cost"]["device_seconds"] == 0


def test_a_process_knows_when_it_was_started():
    before = time.time()
    code = "from lrtl_utils.runs import store; print(store.process_start())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    tick = 0.02  # of the system's clock, and what rounding adds
    assert before - tick <= float(done.stdout) <= before + (time.time() - before) / 2


def test_a_failed_record_has_the_cost_so_far_and_keeps_the_checkpoint(tmp_path):
    work = store.work_folder(tmp_path, "fedcba987654")
    meter = CostMeter()
    meter.device_seconds = 36.0
    loop.write_progress(work, meter, epoch=2, batch=5)
    (work / "checkpoint.pt").write_bytes(b"weights")
    record = store.read(fail(tmp_path))
    assert (record["status"], record["error"], record["metrics"]) == ("failed", "out of memory", None)
    assert (record["cost"]["device_seconds"], record["cost"]["gpu_hours"]) == (36.0, 0.01)
    assert (work / "checkpoint.pt").exists()


def test_a_device_that_does_not_answer_has_its_kind_for_a_name():
    """A failed record must be written even after CUDA has failed."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cuda"
    assert store.device_name("cuda") == name


def test_neither_a_folder_named_like_a_package_nor_a_git_that_may_not_start_costs_a_record(tmp_path, monkeypatch):
    (tmp_path / "setfit").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def denied(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(subprocess, "run", denied)
    config = RunConfig(dataset="news_sample", method="tfidf", device="cpu", precision="fp32")
    assert store.environment(config)["commit"] is None


def test_the_commit_is_marked_where_the_package_differs_from_it(tmp_path, monkeypatch):
    (tmp_path / "lrtl_utils").mkdir()
    for path in ("lrtl_utils/code.py", "README.md"):
        (tmp_path / path).write_text("1\n")
    for words in ("init -q", "add .", "-c user.name=a -c user.email=a commit -qm a"):
        subprocess.run(["git", "-C", tmp_path, *words.split()], check=True)
    monkeypatch.setattr(store, "ROOT", tmp_path)
    config = RunConfig(dataset="news_sample", method="tfidf", device="cpu", precision="fp32")
    commit = store.environment(config)["commit"]
    (tmp_path / "README.md").write_text("2\n")
    assert store.environment(config)["commit"] == commit
    (tmp_path / "lrtl_utils/new.py").write_text("1\n")
    assert store.environment(config)["commit"] == f"{commit}+"
    (tmp_path / "lrtl_utils/new.py").unlink()
    (tmp_path / "lrtl_utils/code.py").write_text("2\n")
    assert store.environment(config)["commit"] == f"{commit}+"
    assert len(commit) == 12


def test_completed_record_clears_what_a_resume_would_need(tmp_path):
    work = store.work_folder(tmp_path, "0123456789ab")
    loop.write_progress(work, CostMeter(), epoch=2, batch=5)
    (work / "checkpoint.pt").write_bytes(b"weights")
    write(tmp_path)
    assert list(tmp_path.glob("work/*/*")) == []
