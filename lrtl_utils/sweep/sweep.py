"""Run a grid to its end: start the workers, watch them, ask them to stop. Claims decide which worker runs a cell."""

import contextlib
import hashlib
import math
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

from lrtl_utils.errors import InputError, counted
from lrtl_utils.files import absolute_path, writable_folder
from lrtl_utils.runs import store
from lrtl_utils.sweep import claims, engines, status
from lrtl_utils.sweep.grid import Cell
from lrtl_utils.sweep.workers import END, END_SECONDS, FINISH, Plan, ask_to_stop, last_of, latest, shortage, write_plan

ALONE_SECONDS = 120.0  # without a worker at work, after which a sweep says so; then after twice as long, and so on


@dataclass
class Outcome:
    """The result of a sweep: how many cells completed, were done before, failed (with reasons), and were not run."""

    completed: int = 0
    found: int = 0
    failed: list[tuple[Cell, str]] = field(default_factory=list)
    left: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        """The result of two sweeps of different cells."""
        return Outcome(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def sweep(
    cells: list[Cell],
    results: str | Path,
    *,
    workers: int = 1,
    deadline_seconds: float | None = None,
    memory_limit_mib: float | None = None,
    on_oom: str = "fail",
    engine: Callable[..., Any] = engines.local,
    elsewhere: bool = False,
    shared: bool = True,
    stop_after_seconds: float = math.inf,
    report: Callable[[str], None] = print,
    meanwhile: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run every cell that has no completed record, `workers` at a time, the cores divided among them.

    A cell that fails, dies or passes a bound is recorded as failed and the rest go on. `engine(file, slots)` starts the
    workers; if that is `elsewhere`, this machine's GPUs are not divided among them. What several cells would compute in
    the same way is `shared`: the first one keeps it in a cache, and the records of the others say that they took it.
    Ctrl-C once lets the running cells finish; twice, or SIGTERM, ends them at their checkpoints. Both end in
    `KeyboardInterrupt`, and the same sweep goes on from there. After `stop_after_seconds` the running cells are ended
    too, without an error: `left` of the outcome counts what was not done. `meanwhile` is called about once a second.
    `InputError` where the disk is full.
    """
    store.require_apart(absolute_path(results), (cell.asked for cell in cells))
    results = writable_folder(results)
    started = claims.file_system_now(results)
    ends = [(cell, *last_of(cell, results, on_oom)) for cell in cells]
    pending = [cell for cell, _, record in ends if record is None or record["status"] == "failed"]
    failed = {last.id: record["checksum"] for _, last, record in ends if record and record["status"] == "failed"}
    plan = Plan(results, tuple(pending), failed, deadline_seconds, memory_limit_mib, on_oom, shared)
    outcome = Outcome(found=len(cells) - len(pending))
    report(f"{counted(len(cells), 'cell')}, {outcome.found} already done, {len(pending)} to run, {workers} at a time")
    if not pending:
        return outcome
    _require_room(results)
    slots = engines.slots(workers, not elsewhere and any(cell.config.device == "cuda" for cell in pending))
    slots = slots[: len(pending)]  # a further worker would find nothing to do
    planned = [last.id for _, last, _ in ends]  # the half of a cell that ran out of memory before
    with (
        _plan_file(plan) as file,
        _signals() as received,
        engine(file, slots) as running,
        status.live(results, planned, since=started, say=report) as show,
    ):
        for _ in _watch(file, running, received, report, stop_after_seconds):
            show()
            meanwhile()
    for cell in pending:
        _, record = latest(cell, plan)
        if record is None:
            outcome.left += 1
        elif record["status"] == "completed":
            outcome.completed += 1
        else:
            outcome.failed.append((cell, record["error"]))
    lacking = bool(outcome.left and shortage(results))
    if received or lacking:
        for cell, error in outcome.failed:
            report(f"failed: {cell}: {error}")
    if received:
        raise KeyboardInterrupt
    if lacking:
        _require_room(results)
    return outcome


def _watch(
    file: Path, running: engines.Running, received: list[int], report: Callable[[str], None], seconds: float
) -> Iterator[None]:
    """Pass signals on to the workers until all have ended; yields once a second meanwhile.

    After so many `seconds` the workers are asked to end too. Workers that are queued or lost are not waited for after a
    signal; `engine` cancels them when it is left.
    """
    said, left_at, last_at_work, patience = 0, math.inf, time.monotonic(), ALONE_SECONDS
    stop_at = time.monotonic() + seconds
    while (crew := running()).left and time.monotonic() < left_at:
        if crew.at_work:
            last_at_work, patience = time.monotonic(), ALONE_SECONDS
        elif received:
            report("No worker is at work; those that are queued are cancelled.")
            break
        elif time.monotonic() - last_at_work > patience:
            report(f"No worker for {patience / 60:.0f} minutes, so all are queued or lost. Ctrl-C ends the sweep.")
            patience *= 2
        yield
        if time.monotonic() > stop_at:
            stop_at, left_at = math.inf, time.monotonic() + END_SECONDS
            ask_to_stop(file, END)
            report("The time is over, so the running cells are ended at their checkpoints.")
        if len(received) > said:
            said = len(received)
            if said > 1 or signal.SIGTERM in received or left_at < math.inf:  # they are being ended
                left_at = min(left_at, time.monotonic() + END_SECONDS)
                ask_to_stop(file, END)
                report("The running cells are ended at their checkpoints.")
            else:
                ask_to_stop(file, FINISH)
                report("No new cell is started; the running ones finish (Ctrl-C again ends them).")
        time.sleep(engines.LOOK_SECONDS)


def _require_room(results: Path) -> None:
    if lack := shortage(results):
        raise InputError(
            f"The disk of {results} has {lack}, so no further cell is started; "
            "free some space and run the same command again."
        )


@contextlib.contextmanager
def _plan_file(plan: Plan) -> Iterator[Path]:
    folder, host = plan.results / "sweeps", hashlib.sha256(claims.here().encode()).hexdigest()[:8]
    for left in folder.glob(f"{host}-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):  # its sweep was killed
            left.unlink(missing_ok=True)
    file = folder / f"{host}-{os.getpid()}-{uuid.uuid4().hex[:12]}.json"
    write_plan(plan, file)
    try:
        yield file
    finally:
        for path in file.parent.glob(f"{file.stem}.*"):
            path.unlink()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that arrive in the block, even in a background job, where a shell makes them ignored."""
    received: list[int] = []
    main = threading.current_thread() is threading.main_thread()  # no other may ask for signals
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {number: signal.signal(number, lambda number, _frame: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
