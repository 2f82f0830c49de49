"""Whatever is killed, stopped, filled up or cut short, no record is lost, torn or made twice, and no process is left.

The loop of random faults is short here; `make faults` gives it LRTL_FAULT_MINUTES (20).
"""

import collections
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import nbformat
import psutil
import pytest
from complete import claimed, wait_for
from grid_files import written
from own_files import leaky

from lrtl_utils.files import ROOT
from lrtl_utils.runs import notebook as notebooks
from lrtl_utils.runs import store as runs
from lrtl_utils.runs.run import Run
from lrtl_utils.study.tables import records
from lrtl_utils.sweep import claims, workers
from lrtl_utils.sweep.grid import plan, read_grid
from lrtl_utils.sweep.sweep import sweep

PROBE = {"dataset": "digits", "model": "efficientnet_lite0", "method": "linear_probe", "image_size": 32}
TRAINED = {"dataset": "news_sample", "method": "from_scratch", "train_size": 32, "max_length": 16, "epochs": 8}
GRID = {"test_limit": 40, "blocks": {"probe": PROBE, "trained": TRAINED | {"seed": [0, 1]}}}
ROLES = ["kernel", "sleeper", "worker", "runner"]
WORDS = [sys.executable, "-m", "lrtl_utils", "sweep"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return written(tmp_path_factory.mktemp("grid"), GRID)


@pytest.fixture(scope="module")
def undisturbed(grid, tmp_path_factory):
    results = tmp_path_factory.mktemp("undisturbed")
    sweep(plan(read_grid(grid)), results, workers=2)
    return stated(results)


def stated(results):
    """What must not depend on what was killed, by run."""
    return {
        record["run_id"]: (
            record["status"],
            record["config"],
            record["data"],
            record["metrics"],
            record["cost"]["flops"],
        )
        for record in runs.records(results)
    }


def start(grid, results, *words):
    command = [*WORDS, str(grid), "--results", str(results), "--workers", "2", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def family(pid):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def parent(process):
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def lives(process):
    try:
        return process.is_running() and process.status() != "zombie"
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def victims(role, runner, results):
    """The processes of a running sweep that have that role; a sleeper is a worker that sleeps for too long."""
    started = {process.pid: process for process in family(runner.pid)}
    workers = {claim.process for claim in claims.held(results)} & started.keys()
    if role == "runner":
        return [runner.pid]
    if role in {"worker", "sleeper"}:
        return list(workers)
    cells = {pid for pid, process in started.items() if parent(process) in started and pid not in workers}
    return [pid for pid, process in started.items() if parent(process) in cells]


def sleep(pid, results):
    """Stop a worker, as if for longer than its claim lives without a heartbeat, until another has taken that over.

    Or until its cell has ended, which goes on without it.
    """
    os.kill(pid, signal.SIGSTOP)
    mine = [claim for claim in claims.held(results) if claim.process == pid]
    for claim in mine:
        with contextlib.suppress(FileNotFoundError):  # it was released just now
            os.utime(claims.path_of(results, claim), (0, 0))
    end = time.monotonic() + 30
    while time.monotonic() < end and any(
        claims.path_of(results, claim).exists() and not list(results.glob(f"runs/*/{claim.identity}.json"))
        for claim in mine
    ):
        time.sleep(0.05)
    os.kill(pid, signal.SIGCONT)


def disturbed(grid, results, rng, roles):
    """Sweep again and again, killing or stopping one of each of these roles in turn, until a sweep ends by itself.

    Returns what was disturbed: fewer than asked for where the grid was complete before.
    """
    killed, roles = collections.Counter(), list(roles)
    while True:
        runner = start(grid, results)
        known = set()
        while roles and runner.poll() is None:
            if not victims(roles[0], runner, results) or not claims.held(results):
                time.sleep(0.05)
                continue
            time.sleep(rng.uniform(0, 1.5))
            known |= set(family(runner.pid))
            for pid in victims(roles[0], runner, results)[:1]:
                with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
                    sleep(pid, results) if roles[0] == "sleeper" else os.kill(pid, signal.SIGKILL)
                    killed[roles.pop(0)] += 1
        runner.communicate(timeout=180)
        wait_for(lambda known=known: not any(map(lives, known)))
        if runner.returncode == 0:
            return killed


def test_kills_at_random_moments_lose_nothing(grid, undisturbed, tmp_path):
    assert disturbed(grid, tmp_path, random.Random(1), ROLES) == collections.Counter(ROLES)
    assert stated(tmp_path) == undisturbed
    assert claimed(tmp_path) == []


@pytest.mark.faults
def test_minutes_of_kills_at_random_moments_lose_nothing(grid, undisturbed, tmp_path, capsys):
    seconds = 60 * float(os.environ.get("LRTL_FAULT_MINUTES", "20"))
    rounds, killed, end, rng = 0, collections.Counter(), time.monotonic() + seconds, random.Random()
    while time.monotonic() < end:
        results = tmp_path / str(rounds)
        killed += disturbed(grid, results, rng, rng.choices(ROLES, k=rng.randint(1, 6)))
        assert stated(results) == undisturbed
        assert claimed(results) == []
        rounds += 1
        with capsys.disabled():
            print(f"\n{rounds} grids complete and equal to an undisturbed run; disturbed: {dict(killed)}", flush=True)


def test_a_kernel_that_exits_0_in_the_middle_is_a_failed_run(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    shutil.copytree(notebooks.FOLDER, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    path = folder / "12_image_classification.ipynb"
    book = nbformat.read(path, as_version=4)
    book.cells.insert(len(book.cells) // 2, nbformat.v4.new_code_cell("import os\nos._exit(0)"))
    nbformat.write(book, path)
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    asked = notebooks.read_parameters("image_classification", PROBE)
    planned = Run(asked)
    config, identity = planned.config, planned.id
    with pytest.raises(notebooks.RunFailed) as failure:
        notebooks.run_notebook("image_classification", asked, config, identity, tmp_path)
    record = runs.read(failure.value.path)
    assert (record["status"], record["metrics"]) == ("failed", None)
    assert record["error"].startswith("the kernel ended before the notebook did")


HUNGRY = {"dataset": "digits", "model": "efficientnet_lite0", "method": "full", "train_size": 64, "image_size": 192}
HUNGRY |= {"batch_size": 64, "epochs": 1, "test_limit": 20, "device": "cpu"}


def swept_under_a_limit(tmp_path, limit, on_oom):
    (cell,) = plan(read_grid(written(tmp_path, HUNGRY)))
    outcome = sweep([cell], tmp_path, memory_limit_mib=limit, on_oom=on_oom)
    return cell, outcome


def test_a_cell_out_of_memory_is_recorded_with_its_reason(tmp_path):
    cell, outcome = swept_under_a_limit(tmp_path, 700, "fail")
    assert [failed for failed, _ in outcome.failed] == [cell]
    assert runs.read(cell.path(tmp_path))["error"] == "out of memory: it held more than its limit of 700 MiB"


def test_a_cell_out_of_memory_is_halved_until_it_fits_and_the_record_says_so(tmp_path):
    cell, outcome = swept_under_a_limit(tmp_path, 1500, "halve")
    assert (outcome.completed, outcome.failed) == (1, [])
    assert runs.read(cell.path(tmp_path))["error"].startswith("out of memory")
    (record,) = records(tmp_path, "completed")["record"]
    config = record["config"]
    assert config["batch_size"] * config["accumulate"] == 64
    assert config["batch_size"] < config["asked"]["batch_size"] == 64
    again = sweep([cell], tmp_path, memory_limit_mib=1500, on_oom="halve")
    assert (again.found, again.completed) == (1, 0)


def test_a_cell_is_not_blamed_for_the_memory_of_another(tmp_path, monkeypatch):
    kills = itertools.count()
    monkeypatch.setattr(workers, "oom_kills", lambda: next(kills))  # of the cells of other workers
    grid = written(tmp_path, {"dataset": leaky(tmp_path / "data"), "method": "tfidf", "train_size": 6})
    (cell,) = plan(read_grid(grid))
    shutil.rmtree(tmp_path / "data")
    planned = workers.Plan(tmp_path, (cell,), {})
    owner, _other_end = multiprocessing.Pipe()
    assert workers._Worker(tmp_path / "plan.json", planned, workers.Slot(1), owner).claim_and_run(cell, cell)
    assert runs.read(cell.path(tmp_path))["error"].startswith("There is no file or folder")


def test_a_cell_past_its_deadline_is_not_called_out_of_memory_when_the_system_ended_another(tmp_path, monkeypatch):
    kills = itertools.count()
    monkeypatch.setattr(workers, "oom_kills", lambda: next(kills))
    (cell,) = plan(read_grid(written(tmp_path, HUNGRY)))
    planned = workers.Plan(tmp_path, (cell,), {}, deadline_seconds=0.5)
    owner, _other_end = multiprocessing.Pipe()
    assert workers._Worker(tmp_path / "plan.json", planned, workers.Slot(1), owner).claim_and_run(cell, cell)
    assert runs.read(cell.path(tmp_path))["error"] == "past its deadline of 0.5 s"


def test_a_truncated_record_is_put_aside_and_its_cell_run_again(grid, undisturbed, tmp_path):
    cells = plan(read_grid(grid))[:1]
    sweep(cells, tmp_path, workers=2)  # as many threads a cell as the undisturbed one had
    path = cells[0].path(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    with pytest.warns(UserWarning, match="not a readable record"):
        assert records(tmp_path, "completed").empty
    assert sweep(cells, tmp_path, workers=2).completed == 1
    assert stated(tmp_path) == {cells[0].id: undisturbed[cells[0].id]}
    assert [kept.read_bytes() for kept in (tmp_path / "quarantine").iterdir()] == [whole[: len(whole) // 3]]


@pytest.mark.parametrize("runners", [2, pytest.param(8, marks=pytest.mark.faults)])
def test_runners_on_one_folder_run_each_cell_once(grid, undisturbed, tmp_path, runners):
    started = [start(grid, tmp_path) for _ in range(runners)]
    seen = collections.defaultdict(set)
    while any(runner.poll() is None for runner in started):
        for path in tmp_path.glob("runs/*/[!.]*.json"):
            seen[path.stem].add(path.stat().st_ino)
        time.sleep(0.05)
    assert [runner.wait() for runner in started] == [0] * runners, [runner.stdout.read() for runner in started]
    assert {identity: len(files) for identity, files in seen.items()} == dict.fromkeys(undisturbed, 1)
    assert stated(tmp_path) == undisturbed


FILL = """
import pathlib, subprocess, sys, time

results, grid = pathlib.Path(sys.argv[1]), sys.argv[2]
words = [sys.executable, "-m", "lrtl_utils", "sweep", grid, "--results", str(results), "--workers", "2"]
ballast = results / "ballast"


def fill(chunk):
    try:
        with ballast.open("ab", buffering=0) as stream:
            while stream.write(bytes(chunk)):
                pass
    except OSError:
        return


running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
while not list(results.glob("work/*/progress.json")) and not list(results.glob("executed/*/*")):
    time.sleep(0.05)
fill(2**20)
fill(1)
print(running.communicate()[0], running.returncode, sep="\\n")
torn = [path for path in results.rglob("*.json") if path.stat().st_size == 0]
print("torn:", torn)
ballast.unlink()
print(subprocess.run(words, capture_output=True, text=True).stdout)
"""


def test_a_full_disk_stops_the_claims_tears_nothing_and_is_reported(grid, undisturbed, tmp_path):
    disk, script = tmp_path / "disk", tmp_path / "fill.py"
    disk.mkdir()
    script.write_text(textwrap.dedent(FILL))
    filled = f"mount -t tmpfs -o size=90m tmpfs {disk} && cd {ROOT} && {sys.executable} {script} {disk} {grid}"
    allowed = subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True, text=True)
    if allowed.returncode:
        pytest.skip(f"a user namespace with a file system of its own is not allowed here: {allowed.stderr.strip()}")
    kept = f"{filled}; cp -r {disk} {tmp_path}/kept"  # out of the name space, which ends with its last process
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", kept], capture_output=True, text=True)
    said = done.stdout
    assert "has less than 64 MiB free, so no further cell is started; free some" in said, said + done.stderr
    assert "torn: []" in said
    assert stated(tmp_path / "kept") == undisturbed


def test_a_disk_that_has_room_but_for_no_more_files_is_reported(tmp_path):
    code = f"from lrtl_utils.sweep.workers import shortage; print(shortage({str(tmp_path)!r}))"
    mounted = f"mount -t tmpfs -o size=90m,nr_inodes=900 tmpfs {tmp_path} && {sys.executable} -c {shlex.quote(code)}"
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", mounted], cwd=ROOT, capture_output=True, text=True)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"a user namespace with a file system of its own is not allowed here: {done.stderr.strip()}")
    assert done.stdout == "room for fewer than 1000 more files\n", done.stderr


def test_a_claim_of_a_dead_owner_is_taken_over_and_a_living_ones_is_waited_for(grid, undisturbed, tmp_path):
    (cell, *_) = plan(read_grid(grid))
    claims.take(tmp_path, cell.id, str(cell))
    (path,) = (tmp_path / "claims").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "elsewhere"}))
    runner = start(grid, tmp_path)
    wait_for(lambda: os.utime(path) or len(stated(tmp_path)) == len(undisturbed) - 1)
    time.sleep(2)
    assert runner.poll() is None
    assert not cell.path(tmp_path).exists()
    os.utime(path, (0, 0))
    said, _ = runner.communicate(timeout=120)
    assert runner.returncode == 0, said
    assert stated(tmp_path) == undisturbed
