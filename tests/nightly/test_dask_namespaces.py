"""On two machines with a cable between them, a grid survives the loss of its scheduler, its client and a worker.

The machines are network namespaces with host names of their own; the folder of results is shared.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import psutil
import pytest
from complete import require_complete, wait_for
from grid_files import written

from lrtl_utils.files import ROOT
from lrtl_utils.sweep import claims

ADDRESSES = {"one": "10.99.0.1", "two": "10.99.0.2"}
SCHEDULER = f"tls://{ADDRESSES['one']}:8786"
TRAINED = {"dataset": "news_sample", "method": "from_scratch", "train_size": 32, "max_length": 16, "test_limit": 20}
GRID = TRAINED | {"epochs": 16, "seed": list(range(8))}


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def space(machine):
    return f"lrtl-{os.getpid()}-{machine}"


@pytest.fixture(scope="module")
def cable():
    """Two machines and what connects them: `cable("down")` cuts it on the side of machine two."""
    if shutil.which("ip") is None:
        pytest.skip("There is no `ip` here to make network namespaces with.")
    with contextlib.ExitStack() as made:
        for machine in ADDRESSES:
            added = subprocess.run(["ip", "netns", "add", space(machine)], capture_output=True, text=True)
            if added.returncode:
                pytest.skip(f"Network namespaces cannot be made here: {added.stderr.strip()}")
            made.callback(ip, "netns", "del", space(machine))
        end = ["peer", "name", "cable", "netns", space("two")]
        ip("-n", space("one"), "link", "add", "cable", "type", "veth", *end)
        for machine, address in ADDRESSES.items():
            ip("-n", space(machine), "addr", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", space(machine), "link", "set", device, "up")
        yield lambda state: ip("-n", space("two"), "link", "set", "cable", state)


@pytest.fixture
def start(cable, tmp_path):
    """Start a program on a machine, with the keys of docs/clusters.md and a log; all end with the test."""
    page = (ROOT / "docs/clusters.md").read_text()
    keys = re.search(r"^openssl .*?(?=^dask scheduler)", page, re.DOTALL | re.MULTILINE)[0]
    made, exported = keys.split("\n", maxsplit=1)
    subprocess.run(made, shell=True, cwd=tmp_path, check=True, capture_output=True)
    script = f'hostname "$0"\n{exported}exec "$@"'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as started:

        def on(machine, *words, log):
            inside = ["ip", "netns", "exec", space(machine), "unshare", "--uts", "bash", "-c", script, machine]
            options = {"stdout": started.enter_context(log.open("w")), "stderr": subprocess.STDOUT, "cwd": tmp_path}
            process = subprocess.Popen([*inside, sys.executable, "-m", *words], env=environment, **options)
            started.callback(process.kill)
            return process

        yield on


def workers_of(results):
    """The processes of workers that have that folder's plan."""
    found = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    return [p for p in found if "work" in p.info["cmdline"] and any(str(results) in word for word in p.info["cmdline"])]


def test_a_grid_survives_the_loss_of_scheduler_client_and_worker(cable, start, tmp_path):
    grid, results, said = written(tmp_path, GRID), tmp_path / "out", tmp_path / "sweep.log"

    def dask():
        log = tmp_path / "scheduler.log"
        scheduler = start("one", "dask", "scheduler", "--protocol", "tls", "--port", "8786", "--no-dashboard", log=log)
        words = ("dask", "worker", SCHEDULER, "--nthreads", "1", "--resources", "slot=1")
        logs = {machine: tmp_path / f"{machine}.log" for machine in ADDRESSES}
        workers = [start(machine, *words, log=logs[machine]) for machine in ADDRESSES]
        wait_for(lambda: all("Registered to" in log.read_text() for log in logs.values()))
        return scheduler, *workers

    def sweep():
        words = ("--workers", "2", "--engine", "dask", "--scheduler", SCHEDULER)
        runner = start("one", "lrtl_utils", "sweep", str(grid), "--results", str(results), *words, log=said)
        wait_for(lambda: len({claim.host for claim in claims.held(results)}) == 2, seconds=180)
        return runner

    def nothing_runs():
        wait_for(lambda: not workers_of(results), seconds=120)

    scheduler, *workers = dask()
    runner = sweep()
    scheduler.kill()
    assert runner.wait(60) == 1, said.read_text()
    assert "left undone" in said.read_text()
    nothing_runs()
    for worker in workers:
        worker.wait(60)

    scheduler, here, there = dask()
    runner = sweep()
    runner.kill()
    nothing_runs()
    assert [process.poll() for process in (scheduler, here, there)] == [None] * 3

    runner = sweep()
    cable("down")
    assert runner.wait(400) == 0, said.read_text()
    nothing_runs()
    there.wait(60)
    require_complete(grid, results)
