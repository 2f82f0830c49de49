"""A grid of runs, each cell in a process of its own."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from lrtl_utils import kernels, notebooks, runs
from lrtl_utils.config import InputError
from lrtl_utils.grids import Cell


@dataclass
class Outcome:
    """What became of a sweep: cells completed now, found done, and failed with their reasons."""

    completed: int = 0
    found: int = 0
    failed: list[tuple[Cell, str]] = field(default_factory=list)


@dataclass
class _Running:
    cell: Cell
    started: float


def sweep(
    cells: list[Cell],
    results: str | Path,
    *,
    workers: int = 1,
    deadline_seconds: float | None = None,
    report: Callable[[str], None] = print,
) -> Outcome:
    """Run every cell that has no completed record, `workers` at a time, the cores divided among them.

    A cell that fails, dies or passes its deadline is recorded as failed and the rest go on. Ctrl-C ends the running
    cells at their checkpoints; the same sweep goes on from there.
    """
    results = runs.results_folder(results)
    pending = deque(cell for cell in cells if not runs.is_completed(cell.path(results)))
    outcome = Outcome(found=len(cells) - len(pending))
    report(f"{len(cells)} cells, {outcome.found} already done, {len(pending)} to run, {workers} at a time")
    if not pending:
        return outcome
    context = _process_factory()
    threads = max(1, _cores() // workers)
    running: dict[multiprocessing.Process, _Running] = {}
    started, to_run = time.monotonic(), len(pending)
    # However it was started (a shell's background job ignores Ctrl-C), a signal ends the cells along with the sweep.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while pending or running:
            while pending and len(running) < workers:
                cell = pending.popleft()
                process = context.Process(target=_run_cell, args=(cell, results, threads))
                process.start()
                running[process] = _Running(cell, time.time())
            wait([process.sentinel for process in running], timeout=1.0)
            for process in [p for p in running if _ended(p, running[p], results, deadline_seconds)]:
                _settle(running.pop(process).cell, results, outcome)
                done = outcome.completed + len(outcome.failed)
                report(_progress_line(outcome, done, to_run, time.monotonic() - started))
    finally:
        _end_all(running)
        for number, handler in before.items():
            signal.signal(number, handler)
    return outcome


def _cores() -> int:
    """Those this process may use: a batch system or `taskset` may leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _process_factory() -> Any:
    """Processes forked from a clean one that has imported everything once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(kernels.IMPORTED)
    return context


def _run_cell(cell: Cell, results: Path, threads: int) -> None:
    """In the cell's own process, at the head of a group of its own; what it and its kernel print goes to a log."""
    os.setsid()
    log = runs.work_folder(results, cell.identity) / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(threads)
    # A process that may have asked a driver for its devices cannot be forked safely, so only CPU cells have it so.
    kernel = kernels.forked_kernel(threads) if cell.config.device == "cpu" else nullcontext()
    try:
        with kernel:
            notebooks.run(cell.notebook, cell.asked, cell.config, cell.identity, results)
    except (notebooks.RunFailed, InputError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _ended(process: Any, running: _Running, results: Path, deadline_seconds: float | None) -> bool:
    """Whether the cell is over; past its deadline it is ended, with all that it started."""
    over = not process.is_alive()
    late = not over and deadline_seconds is not None and time.time() - running.started > deadline_seconds
    if late:
        _kill_tree(process.pid)
    if over or late:
        process.join()
        cell = running.cell
        if not cell.path(results).is_file() or not _since(cell.path(results), running.started):
            reason = (
                f"past its deadline of {deadline_seconds:g} s" if late else f"its process died ({process.exitcode})"
            )
            runs.failed(results, cell.identity, cell.config, cell.asked, reason, running.started)
    return over or late


def _since(path: Path, started: float) -> bool:
    return path.stat().st_mtime >= started - 1


def _settle(cell: Cell, results: Path, outcome: Outcome) -> None:
    record = runs.read(cell.path(results))
    if record["status"] == "completed":
        outcome.completed += 1
    else:
        outcome.failed.append((cell, record["error"]))


def _progress_line(outcome: Outcome, done: int, to_run: int, elapsed: float) -> str:
    left = to_run - done
    seconds = int(elapsed / done * left)
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    return f"{done} cells done{failed}, {left} left, about {seconds // 60}:{seconds % 60:02d} to go"


def _end_all(running: Mapping[Any, _Running]) -> None:
    """SIGTERM to every running cell, which lets it write its checkpoint; then make sure."""
    for process in running:
        process.terminate()
    for process in running:
        process.join(notebooks.TERMINATION_SECONDS + 5)
        if process.is_alive():
            _kill_tree(process.pid)


def _kill_tree(pid: int) -> None:
    """End a process and all that came of it: a kernel leads a session of its own, so its group is not ours."""
    import psutil

    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=5)
