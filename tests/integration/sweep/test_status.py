"""A sweep seen from outside: what `status` and the live table say while it runs, after it, and of foreign files."""

import errno
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import time

import pytest
from grid_files import written
from whole_run import run

from lrtl_utils.config import RunConfig
from lrtl_utils.files import ROOT
from lrtl_utils.runs import store as runs
from lrtl_utils.runs.record import checksum
from lrtl_utils.study.tables import records
from lrtl_utils.sweep import claims
from lrtl_utils.sweep import status as watch
from lrtl_utils.sweep.grid import plan, read_grid
from lrtl_utils.sweep.workers import Plan, write_plan

CELLS = {"dataset": "digits", "model": "efficientnet_lite0", "method": "linear_probe", "image_size": 32, "seed": [0, 1]}
IDENTITY = "0123456789ab"
CELL = "digits efficientnet_lite0 full train_size=40 seed=7"


def words(*given):
    return [sys.executable, "-m", "lrtl_utils", *map(str, given)]


@pytest.fixture
def status(call):
    return lambda results: call("status", results)


def claim(results, identity=IDENTITY, *, age=0.0, progress=None, **changed):
    """A claim as a worker lays it, last heard of `age` seconds ago."""
    path = results / "claims" / f"{identity}.1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "identity": identity,
        "host": "node7 1a2b3c4d pid:[1]",
        "process": 4711,
        "born": 1.0,
        "started": time.time() - 3700,
        "cell": CELL,
    }
    path.write_text(json.dumps(content | changed))
    os.utime(path, (time.time() - age,) * 2)
    if progress is not None:
        folder = runs.work_folder(results, identity)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "progress.json").write_text(progress)


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A grid of two tiny cells."""
    return written(tmp_path_factory.mktemp("grid"), CELLS | {"train_size": 40, "validation_share": 0.25})


@pytest.fixture(scope="module")
def made(grid, tmp_path_factory):
    """The records of that grid."""
    folder = tmp_path_factory.mktemp("results")
    for cell in plan(read_grid(grid)):
        run(folder, **cell.asked.model_dump())
    return folder


@pytest.mark.slow
def test_status_beside_a_real_sweep(grid, tmp_path, status):
    results = tmp_path
    sweep = subprocess.Popen(words("sweep", grid, "--results", results), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = []
    while sweep.poll() is None:
        said.append(status(results))
        time.sleep(1)
    assert sweep.returncode == 0, sweep.stdout.read()
    said.append(status(results))
    assert all((done.returncode, done.stderr) == (0, "") for done in said)
    found = [re.match(r"(\d) cells? done, \d running, 0 failed(?:, (\d) left)?\n", done.stdout) for done in said]
    counts = [int(each[1]) for each in found]
    assert counts == sorted(counts)
    assert {int(each[1]) + int(each[2]) for each in found if each[2]} == {2}
    assert (counts[0], counts[-1]) == (0, 2)
    last = said[-1].stdout
    assert re.search(r"^[\d.e-]+ device hours spent$", last, re.M)
    assert re.search(r"^\d+\.\d\d s per cell beyond its timed work \(median\)$", last, re.M)
    assert re.search(
        r"^best by validation: [01]\.\d{4}, digits efficientnet_lite0 linear_probe train_size=40 seed=[01] \(\w{12}\)$",
        last,
        re.M,
    )


def test_status_writes_nothing_and_agrees_with_the_records(made):
    before = everything(made)
    snapshot = watch.Watch(made).look()
    assert everything(made) == before
    frame = records(made, "completed")
    assert (snapshot.done, snapshot.left, snapshot.seconds_left) == (2, None, None)
    assert snapshot.hours_spent == pytest.approx(frame["cost.gpu_hours"].sum())
    assert snapshot.overhead_seconds == pytest.approx(frame["cost.overhead_seconds"].median())
    assert snapshot.best["digits"][0] == frame["validation.score"].max()


def test_what_is_left_is_shown_where_the_plan_is_known(grid, made):
    cells = plan(read_grid(grid))
    planned = [cell.id for cell in cells]
    ended = [path.stat().st_mtime for path in made.glob("runs/*/*.json")]
    more = watch.Watch(made, [*planned, "a" * 12, "b" * 12, "c" * 12], since=min(ended) - 30).look()
    assert (more.done, more.left) == (2, 3)
    assert more.seconds_left == pytest.approx(3 * (30 + max(ended) - min(ended)) / 2, abs=1e-3)
    assert more.counts() == "2 cells done, 0 running, 0 failed, 3 left"
    assert more.hours().endswith("to go")
    none = watch.Watch(made, ["a" * 12]).look()
    assert (none.done, none.left, none.seconds_left, none.overhead_seconds, none.best) == (0, 1, None, None, {})


def test_a_record_is_read_again_only_if_its_file_has_changed(made, monkeypatch):
    seen, read = [], watch.read_text
    monkeypatch.setattr(watch, "read_text", lambda path, most: seen.append(path) or read(path, most))
    looking = watch.Watch(made)
    first, second = looking.look(), looking.look()
    assert first == second
    assert len(seen) == len(set(seen)) == 2
    os.utime(seen[0], ns=(0, 0))
    looking.look()
    assert seen[2:] == [seen[0]]


def test_a_record_without_its_overhead_counts_as_the_others(made, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")
    path = next(tmp_path.glob("runs/*/*.json"))
    record = json.loads(path.read_text())
    del record["cost"]["overhead_seconds"]
    path.write_text(json.dumps(record | {"checksum": checksum(record)}))
    assert watch.Watch(tmp_path).look().done == 2


def test_a_claim_that_its_owner_could_not_release_is_of_no_cell_that_is_done(made, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")
    claim(tmp_path, next(tmp_path.glob("runs/*/*.json")).stem, age=1e6)
    snapshot = watch.Watch(tmp_path).look()
    assert (snapshot.done, snapshot.silent) == (2, ())


def test_what_is_left_is_said_while_a_plan_lies_there(grid, made, tmp_path, status):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    write_plan(Plan(tmp_path, tuple(plan(read_grid(grid))), {}), tmp_path / "sweeps" / "host-1-a.json")
    (tmp_path / "sweeps" / "host-2-b.json").write_text("{")
    assert status(tmp_path).stdout.startswith("2 cells done, 0 running, 0 failed, 0 left\n")
    next((tmp_path / "runs/digits").iterdir()).unlink()
    assert status(tmp_path).stdout.startswith("1 cell done, 0 running, 0 failed, 1 left\n")


def test_an_empty_folder_and_none(tmp_path, status):
    assert status(tmp_path).stdout == "0 cells done, 0 running, 0 failed\n0 device hours spent\n"
    done = status(tmp_path / "none")
    assert (done.returncode, done.stderr) == (2, f"There is no folder {tmp_path / 'none'}.\n")


def test_claims_alone_are_shown_as_running_or_without_a_sign_of_life(tmp_path, status):
    claim(tmp_path, progress='{"device_seconds": 61.5, "peak_memory_mib": 3, "epoch": 2, "batch": 12}')
    claim(tmp_path, "a" * 12, cell="a cell without progress")
    claim(tmp_path, "b" * 12, age=1e6, cell="a cell of the dead")
    before = everything(tmp_path)
    done = status(tmp_path)
    assert done.returncode == 0
    assert everything(tmp_path) == before
    lines = done.stdout.splitlines()
    assert lines[0] == "0 cells done, 2 running, 0 failed"
    assert lines[1] == f"{61.5 / 3600:.3g} device hours spent"
    assert lines[2] == "1 cell has stopped responding: a cell of the dead"
    (row,) = [line for line in lines if line.startswith(CELL)]
    assert re.split(r"\s{2,}", row)[1::2] == ["node7", "0:01:01"]
    assert re.search(r" 1:\d\d:\d\d +0:01:01 +2 epochs, batch 12$", row)
    (row,) = [line for line in lines if line.startswith("a cell without progress")]
    assert re.split(r"\s{2,}", row.strip())[3:] == ["–", "–"]


def test_a_claim_is_alive_by_the_clock_of_its_file_system_if_that_can_be_asked(tmp_path, monkeypatch):
    def refused(results):
        raise PermissionError(errno.EACCES, "Permission denied", str(results))

    claim(tmp_path)
    ahead = time.time() + 1000
    with monkeypatch.context() as patch:
        patch.setattr(watch.time, "time", lambda: ahead)  # of this machine
        snapshot = watch.Watch(tmp_path).look()
    assert (len(snapshot.running), snapshot.silent) == (1, ())
    monkeypatch.setattr(claims, "file_system_now", refused)  # as in a folder of somebody else
    assert len(watch.Watch(tmp_path).look().running) == 1


def test_a_failed_cell_is_shown_with_its_reason_until_it_runs_again(tmp_path, status):
    config = RunConfig(dataset="digits", model="efficientnet_lite0", method="full", train_size=40, data_fraction=None)
    runs.failed(tmp_path, IDENTITY, config, config, error="out of \x1b[31mmemory\nin two lines", started=1.0e9)
    done = status(tmp_path)
    assert done.stdout.startswith("0 cells done, 0 running, 1 failed\n")
    said = rf"failed: digits efficientnet_lite0 full train_size=40 seed=0 ({IDENTITY}): out of \x1b[31mmemory\nin two"
    assert said in done.stdout
    assert watch.Watch(tmp_path, [IDENTITY, "a" * 12]).look().left == 1
    later = watch.Watch(tmp_path, [IDENTITY, "a" * 12], since=time.time() + 1).look()  # of a sweep that runs it again
    assert (later.failed, later.left) == ((), 2)
    claim(tmp_path)
    again = watch.Watch(tmp_path, [IDENTITY, "a" * 12]).look()
    assert (len(again.running), again.failed, again.left) == (1, (), 2)


def test_torn_and_foreign_files_are_counted_and_named(made, tmp_path, status):
    runs_of_others = tmp_path / "runs" / "digits"
    runs_of_others.mkdir(parents=True)
    whole = next(made.glob("runs/*/*.json")).read_bytes()
    foreign = {"torn": whole[:500], "empty": b"", "list": b"[]", "binary": b"\xff\xfe", "a\x1b[2J": b"{"}
    for name, content in foreign.items():
        (runs_of_others / f"{name}.json").write_bytes(content)
    (runs_of_others / "folder.json").mkdir()
    os.mkfifo(runs_of_others / "pipe.json")
    (tmp_path / "runs" / "file.txt").write_text("of another program")
    claim(tmp_path, cell="a\x1b]0;title\x07 cell\r", progress="{torn")
    torn = {"c" * 12 + ".1": "", "d" * 12 + ".1": "[]", "e" * 12 + ".1": '{"host": 1}'}
    for name, content in (torn | {"foreign": "{}", "foreign.name": "{}"}).items():
        (tmp_path / "claims" / f"{name}.json").write_text(content)
    (tmp_path / "claims" / "folder.1.json").mkdir()
    claim(tmp_path, "g" * 12, cell="of other types", host=7, born="today")
    claim(tmp_path, "f" * 12, started=1e300, progress='{"device_seconds": 1e999, "epoch": 1e999, "batch": -1}')
    done = status(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"0 cells done, \d running, 0 failed\n", done.stdout)
    assert "7 files cannot be read as records: " in done.stdout
    for name in ("torn", "empty", "list", "binary", r"a\x1b[2J", "folder", "pipe"):
        assert f"digits/{name}.json" in done.stdout
    assert r"a\x1b]0;title\x07 cell\r" in done.stdout
    assert not set(done.stdout) & {"\x1b", "\x07", "\r"}


LOOP = """
import sys, time
from pathlib import Path
from lrtl_utils.sweep import status as watch
results, go_on = Path(sys.argv[1]), Path(sys.argv[2])
watch.PLAIN_SECONDS = 0.0
with watch.live(results, sys.argv[3:], since=time.time()) as update:
    print("watching", flush=True)
    while not go_on.exists():
        update()
        time.sleep(0.02)
print("after it")
"""


def test_plain_lines_one_when_cells_end_and_never_wrapped(made, tmp_path):
    first, second = sorted(made.glob("runs/*/*.json"))
    results = tmp_path / "results"
    (results / "runs" / "digits").mkdir(parents=True)
    claim(results, cell="a long name " * 20)
    arguments = [sys.executable, "-c", LOOP, results, tmp_path / "stop", first.stem, second.stem, IDENTITY]
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": "40", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(list(map(str, arguments)), cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "watching\n"
    for record in (first, second):
        (results / "runs" / "digits" / record.name).write_bytes(record.read_bytes())
        if record is first:
            assert process.stdout.readline().startswith("1 cell done, 1 running, 0 failed, 2 left; ")
    (tmp_path / "stop").touch()
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert rest.splitlines()[0].startswith("2 cells done, 1 running, 0 failed, 1 left; ")
    assert rest.splitlines()[0].endswith("to go")
    assert rest.splitlines()[1:] == ["after it"]


def test_plain_lines_keep_their_distance_and_the_last_is_said(made, tmp_path, monkeypatch):
    said = []
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    records = sorted(made.glob("runs/*/*.json"))
    monkeypatch.setattr(watch, "PLAIN_SECONDS", 3600)
    with watch.live(tmp_path, [path.stem for path in records], say=said.append) as update:
        for record in records:
            (tmp_path / "runs" / "digits" / record.name).write_bytes(record.read_bytes())
            update()
        assert said == []
    assert [line.split(";")[0] for line in said] == ["2 cells done, 0 running, 0 failed, 0 left"]
    monkeypatch.setattr(watch, "PLAIN_SECONDS", 0)
    with watch.live(tmp_path, [path.stem for path in records], say=said.append) as update:
        update()
    assert len(said) == 1


def test_a_live_table_on_a_terminal(made, tmp_path):
    first, second = sorted(made.glob("runs/*/*.json"))
    results = tmp_path / "results"
    (results / "runs" / "digits").mkdir(parents=True)
    claim(results, progress='{"device_seconds": 5, "epoch": 3, "batch": 1}')
    claim(results, "a" * 12, cell="an evil \x1b]0;title\x07 name", started=time.time())
    arguments = [sys.executable, "-c", LOOP, results, tmp_path / "stop", first.stem, second.stem, IDENTITY, "a" * 12]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 140, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        list(map(str, arguments)), cwd=ROOT, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"}
    )
    os.close(theirs)
    screen = read_until(ours, "0 cells done, 2 running, 0 failed, 4 left")
    (results / "runs" / "digits" / first.name).write_bytes(first.read_bytes())
    screen += read_until(ours, "1 cell done, 2 running, 0 failed, 3 left")
    (tmp_path / "stop").touch()
    screen += read_until(ours, "after it")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert "\x1b[1A" in screen  # the table stays in its place
    assert re.search(rf"{CELL} +node7 +1:\d\d:\d\d +0:00:05 +3 epochs, batch 1", screen)
    assert r"an evil \x1b]0;title\x07 name" in screen
    assert "\x1b]0;" not in screen
    assert "Traceback" not in screen


ONE = """
import sys, time
from contextlib import redirect_stderr
from pathlib import Path
from lrtl_utils.sweep import status as watch
results, go_on = Path(sys.argv[1]), Path(sys.argv[2])
with watch.showing(results, sys.argv[3]), open("/dev/null", "w") as null, redirect_stderr(null):
    while not go_on.exists():
        time.sleep(0.02)
print("after it")
"""


def test_one_run_shows_how_far_it_is_on_a_terminal_alone(tmp_path):
    claim(tmp_path, progress='{"device_seconds": 5, "epoch": 2, "batch": 12}')
    arguments = [*map(str, (sys.executable, "-c", ONE, tmp_path, tmp_path / "stop", IDENTITY))]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    screen = read_until(ours, "batch ")
    (tmp_path / "stop").touch()
    screen += read_until(ours, "after it")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert re.search(r"0:00:\d\d  2 epochs, batch 12", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen))
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("after it\n", "")


def read_until(terminal, words, seconds=60):
    end, screen = time.monotonic() + seconds, ""
    while words not in screen:
        assert time.monotonic() < end, screen
        screen += os.read(terminal, 65536).decode(errors="replace")  # a read may end inside a character
    return screen
