"""What the scheduler itself costs: cells that do nothing, run by real workers on one results folder.

`python tests/support/scale.py` prints the table of docs/sweeps.md (some minutes). A cell's work is replaced by the
writing of a failed record; claims, records and the worker's loop are those of a sweep.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from lrtl_utils.runs import store
from lrtl_utils.sweep import grid, status, workers

FORK = multiprocessing.get_context("fork")
GRID = "{dataset: digits, model: simple_nn, method: from_scratch, image_size: 8, train_size: 20, device: cpu, seed: %s}"
COUNTED = ("stat", "lstat", "rename", "replace", "unlink", "mkdir", "utime", "fsync", "statvfs", "scandir", "listdir")


class Idle(workers._Worker):
    """A worker whose cells fail at once."""

    def _run(self, planned, cell, claim):
        store.failed(self.plan.results, cell.id, cell.config, {}, "nothing was done", time.time())


def cells(count, folder):
    """The plan of a grid of that many cells."""
    path = folder / "grid.yaml"
    path.write_text(GRID % list(range(count)))
    return tuple(grid.plan(grid.read_grid(path)))


def counting(calls):
    """Count the file operations of this process from here on. `io.open` is counted by its audit event."""
    for name in COUNTED:
        setattr(os, name, _counted(getattr(os, name), name, calls))
    sys.addaudithook(lambda event, _: calls.update(["open"]) if event == "open" else None)


def _counted(function, name, calls):
    def call(*given, **named):
        calls[name] += 1
        return function(*given, **named)

    return call


def _work(file, owner, pipe):
    calls = Counter()
    counting(calls)
    Idle(file, workers.read_plan(file), workers.Slot(1), owner).work()
    pipe.send(calls.total())


def run(count, workers_count, folder):
    """File operations and processor seconds, of all workers together, a cell of a sweep that does nothing."""
    results = folder / "results"
    file = folder / "plan.json"
    planned = cells(count, folder)
    results.mkdir()
    workers.write_plan(workers.Plan(results, planned, {}), file)
    watched, ours = FORK.Pipe(duplex=False)
    pipes, processes, before = [], [], os.times()
    for _ in range(workers_count):
        theirs, pipe = FORK.Pipe(duplex=False)
        processes.append(FORK.Process(target=_work, args=(file, watched, pipe)))
        processes[-1].start()
        pipes.append(theirs)
    operations = sum(pipe.recv() for pipe in pipes)
    for process in processes:
        process.join()
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    ours.close()
    assert len(list(results.glob("runs/*/*.json"))) == count
    return operations / count, seconds / count


def timed(function, *given):
    """Processor seconds that a call takes."""
    started = time.process_time()
    function(*given)
    return time.process_time() - started


def main():
    """Print the table as it goes."""
    print("| cells | workers | file operations a cell | seconds a cell | seconds of planning | seconds of a look |")
    print("|---|---|---|---|---|---|")
    for count in (100, 1000, 10_000):
        for workers_count in (1, 8, 64):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                operations, seconds = run(count, workers_count, folder)
                planning = timed(cells, count, folder)
                look = timed(status.Watch(folder / "results").look)
                row = [count, workers_count, f"{operations:.0f}", f"{seconds:.4f}", f"{planning:.1f}", f"{look:.2f}"]
                print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
