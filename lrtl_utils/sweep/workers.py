"""A worker claims and runs the cells of a plan, one after another, until none is left.

The plan is a file in the results folder, so a worker may run on another machine.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil
from pydantic import TypeAdapter

from lrtl_utils.errors import ClaimLost, InputError, printable
from lrtl_utils.files import lines_of, still_claimed, write_text
from lrtl_utils.runs import notebook, store
from lrtl_utils.runs.run import Run
from lrtl_utils.sweep import claims, kernels
from lrtl_utils.sweep.grid import Cell

FORK = multiprocessing.get_context("fork")  # of a worker, which has imported everything and started no thread
POLL_SECONDS = 0.25
TERMINATION_SECONDS = notebook.TERMINATION_SECONDS + 5  # for a cell, whose kernel writes its checkpoint first
END_SECONDS = TERMINATION_SECONDS + 5  # after which workers that were asked to end are taken for lost
WRITING_SECONDS = 45  # at most, for a failed record: a driver that has failed may not even say so
LEAST_FREE_MIB, LEAST_FREE_FILES = 64, 1000  # of disk; below it, no cell is claimed
FINISH, END = "finish", "end"  # what a plan's stop file says: claim no more, or end the running cells too


@dataclass(frozen=True)
class Plan:
    """What a sweep is to run.

    `failed` has the checksum of the record of each cell that had failed before the sweep, by its id. Such a cell runs
    once more; one that fails during the sweep does not.

    `deadline_seconds` and `memory_limit_mib` (resident, of all that the cell started) bound each cell. With
    `on_oom="halve"`, a cell that ran out of memory is tried again at half its batch. If it is `shared`, a cell may take
    what an earlier one has computed.
    """

    results: Path
    cells: tuple[Cell, ...]
    failed: dict[str, str]
    deadline_seconds: float | None = None
    memory_limit_mib: float | None = None
    on_oom: str = "fail"
    shared: bool = True


@dataclass(frozen=True)
class Slot:
    """A worker's share of the machine: its threads, and the one GPU that its cells see (None: leave it as it is)."""

    threads: int
    gpu: str | None = None


def write_plan(plan: Plan, file: Path) -> None:
    """Write a plan to the file from which workers read it."""
    write_text(file, json.dumps(TypeAdapter(Plan).dump_python(plan), default=str))


def read_plan(file: Path) -> Plan:
    """The plan that `write_plan` wrote."""
    return TypeAdapter(Plan).validate_python(json.loads(file.read_bytes()))


def planned(results: Path) -> set[str]:
    """The ids of the cells of sweeps that run in this folder, or were killed there, as far as plans can be read."""
    ids: set[str] = set()
    for file in (results / "sweeps").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # its sweep has just ended
            ids |= {cell["id"] for cell in json.loads(file.read_bytes())["cells"]}
    return ids


def ask_to_stop(file: Path, how: str) -> None:
    """Ask the workers of a plan, on any machine, to `FINISH` the cells that they run, or to `END` them."""
    write_text(_stop_file(file), how)


def work(file: Path, slot: Slot, owner: Connection) -> None:
    """Claim and run cells of the plan in `file` until all are done, the owner is gone, or the plan is stopped.

    `owner` is the reading end of a pipe whose other end closes when the process that started this worker ends; nothing
    is ever sent through it, so it can be read only then. Where a record cannot be read, or cannot be written, it stops
    with a sentence, because otherwise it would run the cell for ever.
    """
    os.setsid()  # Ctrl-C in the terminal is for the sweep, which then asks its workers to stop
    ended: list[int] = []  # by SIGTERM, which systemd and batch systems send to all processes of a job at once
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))
    try:
        plan = read_plan(file)
        kernels.preload(plan.cells[0].config.model)
        _Worker(file, plan, slot, owner, ended).work()
    except (InputError, OSError) as error:
        # Not with a status that says that it died: then another would be started in its place, and stop likewise.
        print(f"A worker has stopped: {printable(str(error))}", file=sys.stderr, flush=True)
    if ended:
        raise SystemExit(128 + signal.SIGTERM)


def latest(planned: Cell, plan: Plan) -> tuple[Cell, dict[str, Any] | None]:
    """As `last_of`, but without the record of a cell that failed before this sweep: it is still to be run."""
    cell, record = last_of(planned, plan.results, plan.on_oom)
    return cell, None if record and record["checksum"] == plan.failed.get(cell.id) else record


def last_of(planned: Cell, results: Path, on_oom: str) -> tuple[Cell, dict[str, Any] | None]:
    """The planned cell, or the half that runs in its place after it ran out of memory; with its record, if any."""
    cell = planned
    while True:
        record = store.readable(cell.path(results))
        too_large = record and record["status"] == "failed" and record["error"].startswith(notebook.OUT_OF_MEMORY)
        smaller = halved(cell) if too_large and on_oom == "halve" else None
        if smaller is None:
            return cell, record
        cell = smaller


def halved(cell: Cell) -> Cell | None:
    """The cell at half its batch, with twice the batches a step where the method has steps; None at a batch of one."""
    batch_size, accumulate = cell.config.batch_size, cell.config.accumulate
    if batch_size is None or batch_size == 1:
        return None
    change = {"batch_size": -(-batch_size // 2), "accumulate": accumulate and 2 * accumulate}
    # What the planner found is kept: a worker that asks a GPU what it can do cannot be forked safely afterwards, and
    # where a sweep is started there may be no GPU.
    change |= {"device": cell.config.device, "precision": cell.config.precision}
    asked = cell.asked.model_copy(update=change)
    return Cell.of(cell.notebook, Run(asked, elsewhere=True))


class _Worker:
    """A worker's plan, and the slot in which it runs cells."""

    def __init__(self, file: Path, plan: Plan, slot: Slot, owner: Connection, ended: Sequence[int] = ()):
        self.file, self.plan, self.slot, self.owner, self.ended = file, plan, slot, owner, ended

    def work(self) -> None:
        """Run what is left, in the order of the plan. A cell that another worker has comes after all others again."""
        waiting, passed = deque(self.plan.cells), 0
        while waiting:
            planned = waiting.popleft()
            cell, record = latest(planned, self.plan)
            if record:
                continue
            if self._stop_asked() is not None or self.owner.poll() or shortage(self.plan.results):
                return
            if self.claim_and_run(planned, cell):
                waiting.appendleft(planned)  # it is done now, or half of it is left
                passed = 0
                continue
            waiting.append(planned)
            passed += 1
            if passed >= len(waiting):
                wait([self.owner], timeout=1.0)  # others run the remaining cells; if they die, this worker takes over
                passed = 0

    def claim_and_run(self, planned: Cell, cell: Cell) -> bool:
        """Run a cell in the place of the planned one, unless another worker has it or was faster."""
        claim = claims.take(self.plan.results, cell.id, str(cell))
        if claim is None:
            return False
        try:
            _look_anew(cell.path(self.plan.results).parent)
            if latest(cell, self.plan) == (cell, None):
                self._run(planned, cell, claim)
        finally:
            claims.release(self.plan.results, claim)
        return True

    def _run(self, planned: Cell, cell: Cell, claim: claims.Claim) -> None:
        results, started, path = self.plan.results, time.time(), cell.path(self.plan.results)
        before, kills = store.readable(path), oom_kills()
        watched, ours = FORK.Pipe(duplex=False)
        mark = claims.path_of(results, claim)
        with tempfile.TemporaryDirectory(prefix="lrtl-", ignore_cleanup_errors=True) as place:  # a cell may be killed
            process = FORK.Process(target=self._run_cell, args=(cell, planned, mark, place, watched, ours))
            process.start()
            watched.close()
            with ours:
                reason = self._watch(process, claim)
        if reason is None:
            return
        own = record if (record := store.readable(path)) != before else None
        # The count is that of all workers, so this cell or its kernel must have been killed too, and by the system.
        killed = str(own["error"]).startswith(notebook.KERNEL_ENDED) if own else reason == _died(-signal.SIGKILL)
        if killed and oom_kills() > kills:
            reason = f"{notebook.OUT_OF_MEMORY}: the system ended the cell"
        elif own:
            return
        elif reason == _died(process.exitcode):  # outside its notebook, so no other message says why
            reason += f"; its output is in {(store.work_folder(results, cell.id) / 'log.txt').relative_to(results)}"
        # By a process of its own: it asks the device for its name, and who has done so cannot be forked safely.
        writer = FORK.Process(target=_write_failed, args=(results, planned, cell, reason, started, mark))
        writer.start()
        writer.join(WRITING_SECONDS)
        if writer.exitcode != 0:
            kill_tree(writer.pid)
            raise InputError(f"{cell} failed ({reason}), and the record of that could not be written to {path}.")

    def _run_cell(
        self, cell: Cell, planned: Cell, claim: Path, place: str, worker: Connection, other_end: Connection
    ) -> None:
        """Run a cell; called in a process and process group of its own. All output goes to a log.

        Its temporary files are in the folder `place`, which the worker removes.
        """
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not as the worker has it
        other_end.close()  # inherited; the pipe ends with the worker only if nobody else holds it open
        os.setsid()
        log = store.work_folder(self.plan.results, cell.id) / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            for descriptor in (1, 2):
                os.dup2(stream.fileno(), descriptor)
        os.environ["TMPDIR"] = tempfile.tempdir = place
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(self.slot.threads))
        if self.slot.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.slot.gpu
        # A process that may have asked a driver for its devices cannot be forked safely, so only CPU cells have it so.
        forked = cell.config.device == "cpu"
        kernel = kernels.forked_kernel(threads=self.slot.threads) if forked else contextlib.nullcontext()
        try:
            with kernel:
                threading.Thread(target=_end_with, args=(worker, place), daemon=True).start()  # not before the fork
                instead_of = store.changed(planned.config, cell.config)
                options = {"instead_of": instead_of, "claim": claim, "shared": self.plan.shared}
                notebook.run_notebook(cell.notebook, cell.asked, cell.config, cell.id, self.plan.results, **options)
        except (notebook.RunFailed, InputError, ClaimLost) as error:
            raise SystemExit(str(error)) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    def _watch(self, process: Any, claim: claims.Claim) -> str | None:
        """Wait until the cell ends, or end it; returns the reason for a failed record, or None if none is due."""
        reason = None
        started = beaten = time.monotonic()
        while process.is_alive():
            wait([process.sentinel, self.owner], timeout=POLL_SECONDS)
            if self._stop_asked() == END or self.owner.poll():
                process.terminate()  # a cell then writes its checkpoint
                process.join(TERMINATION_SECONDS)
                break
            if time.monotonic() - beaten > claims.BEAT_SECONDS:
                beaten = time.monotonic()
                if not claims.beat(self.plan.results, claim):  # another worker thought this one dead, and runs the cell
                    break
            if reason := self._over_bounds(process, started):
                break
        else:
            return None if process.exitcode == 0 or self.ended else _died(process.exitcode)
        if process.is_alive():
            kill_tree(process.pid)
        process.join()
        return reason

    def _over_bounds(self, process: Any, started: float) -> str | None:
        deadline, limit = self.plan.deadline_seconds, self.plan.memory_limit_mib
        if deadline is not None and time.monotonic() - started > deadline:
            return f"past its deadline of {deadline:g} s"
        if limit is not None and resident_mib(process.pid) > limit:
            return f"{notebook.OUT_OF_MEMORY}: it held more than its limit of {limit:g} MiB"
        return None

    def _stop_asked(self) -> str | None:
        if self.ended:
            return END
        with contextlib.suppress(OSError):  # there is none, or the file system has an error that may pass
            return _stop_file(self.file).read_text()
        return None


def shortage(results: Path) -> str | None:
    """What the disk lacks for a cell's files, in words. A quota shows only when something is written."""
    disk = os.statvfs(results)
    if disk.f_bavail * disk.f_frsize < LEAST_FREE_MIB * 2**20:
        return f"less than {LEAST_FREE_MIB} MiB free"
    if disk.f_files and disk.f_favail < LEAST_FREE_FILES:  # some file systems do not count their files
        return f"room for fewer than {LEAST_FREE_FILES} more files"
    return None


def _end_with(worker: Connection, place: str) -> None:
    """End this process and its kernel at once when the worker is gone: no one would renew the claim."""
    worker.poll(None)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    shutil.rmtree(place, ignore_errors=True)
    os._exit(1)


def _write_failed(results: Path, planned: Cell, cell: Cell, reason: str, started: float, claim: Path) -> None:
    """Write a failed record, unless another worker has taken over the cell."""
    if not still_claimed(claim):
        return
    changed = store.changed(cell.asked, cell.config) | store.changed(planned.config, cell.config)
    try:
        store.failed(results, cell.id, cell.config, changed, reason, started)
    except (InputError, OSError) as error:  # the disk or a quota is full, or the folder is read-only
        raise SystemExit(str(error)) from None


def _stop_file(file: Path) -> Path:
    return file.with_suffix(".stop")


def _died(status: int) -> str:
    return f"its process died with status {status}"


def _look_anew(folder: Path) -> None:
    """Have a network file system forget that a file was not in the folder a moment ago, which opening it does."""
    with contextlib.suppress(OSError):  # it is not there yet, or this system opens no folders
        os.close(os.open(folder, os.O_RDONLY))


def kill_tree(pid: int) -> None:
    """End a process and all its descendants; a kernel has its own session, so ending the group is not enough."""
    family = _family(pid)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=5)


def resident_mib(pid: int) -> float:
    """Memory of a process and all its descendants; on Linux, shared pages are counted once, elsewhere not at all."""
    total = 0
    for member in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            held = member.memory_full_info()
            total += getattr(held, "pss", held.uss)
    return total / 2**20


def oom_kills() -> int:
    """How often the system has killed a process of this control group for its memory (Linux, cgroup v2; else 0)."""
    groups = Path("/proc/self/cgroup")
    own = [line[3:].strip().lstrip("/") for line in lines_of(groups) if line.startswith("0::")]
    events = lines_of(Path("/sys/fs/cgroup") / own[0] / "memory.events") if own else []
    return sum(int(line.split()[1]) for line in events if line.startswith("oom_kill "))


def _family(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
