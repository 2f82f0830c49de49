"""The state of a sweep, from its records and claims alone, so on any machine that can read the folder."""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasPath, BaseModel, Field

from lrtl_utils.errors import InputError, counted, printable
from lrtl_utils.files import existing_folder, read_text
from lrtl_utils.runs import store
from lrtl_utils.runs.record import CostSoFar, in_words
from lrtl_utils.sweep import claims, workers

PLAIN_SECONDS = 5.0  # at least, between two plain lines
SHOWN = 10  # failures and files that are named
HEADERS = ("running", "host", "elapsed", "device time", "progress")


class Named(BaseModel):
    """The values of a resolved configuration that name a run for a person."""

    dataset: str
    model: str
    method: str
    shots: int | None
    train_size: int | None
    data_fraction: float | None
    seed: int


class Brief(BaseModel):
    """The parts of a record that are shown. `verify` checks the rest, which takes several times as long."""

    run_id: str
    status: Literal["completed", "failed"]
    error: str | None
    config: Named
    gpu_hours: float = Field(validation_alias=AliasPath("cost", "gpu_hours"))
    cached_seconds: float = Field(0.0, validation_alias=AliasPath("cost", "cached_seconds"))
    overhead_seconds: float | None = Field(None, validation_alias=AliasPath("cost", "overhead_seconds"))
    score: float | None = Field(None, validation_alias=AliasPath("validation", "score"))

    @property
    def hours(self) -> float:
        """Device hours that the run itself spent, without those that it took from a cache."""
        return self.gpu_hours - self.cached_seconds / 3600

    def __str__(self) -> str:
        return f"{in_words(self.config.model_dump())} ({self.run_id})"


@dataclass(frozen=True)
class Snapshot:
    """A results folder at one moment. `left` and `seconds_left` are None where they are not known."""

    done: int
    running: tuple[tuple[str, ...], ...]  # cells claimed by living workers, each a row below `HEADERS`
    failed: tuple[str, ...]  # the cell and why
    silent: tuple[str, ...]  # cells whose owner has stopped renewing its claim
    left: int | None  # planned, and neither done nor failed; the running ones are among them
    best: dict[str, tuple[float, str]]  # by data set: the highest validation score, and the cell
    hours_spent: float  # of the device
    seconds_left: float | None  # of wall-clock time, at the rate at which the cells of this sweep have ended
    overhead_seconds: float | None  # median of the completed cells
    unreadable: tuple[str, ...]  # files that are no records

    def counts(self) -> str:
        """Cells in words."""
        left = "" if self.left is None else f", {self.left} left"
        return f"{counted(self.done, 'cell')} done, {len(self.running)} running, {len(self.failed)} failed{left}"

    def hours(self) -> str:
        """Device hours in words, and the time until the end."""
        left = "" if self.seconds_left is None else f", about {_clock(self.seconds_left)} to go"
        return f"{self.hours_spent:.3g} device hours spent{left}"

    def summary(self) -> list[str]:
        """Lines of words; names from elsewhere are made printable."""
        lines = [self.counts(), self.hours()]
        if self.overhead_seconds is not None:
            lines.append(f"{self.overhead_seconds:.2f} s per cell beyond its timed work (median)")
        lines += [f"best by validation: {score:.4f}, {cell}" for _, (score, cell) in sorted(self.best.items())]
        for names, one, several in (
            (self.silent, "cell has stopped responding", "cells have stopped responding"),
            (self.unreadable, "file cannot be read as a record", "files cannot be read as records"),
        ):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"{len(names)} {one if len(names) == 1 else several}: {', '.join(names[:SHOWN])}{more}")
        return [printable(line) for line in lines]


class Watch:
    """A results folder, looked at again and again: a record is read once, and again only if its file has changed.

    `identities` are the planned cells; without them, all records of the folder count, and the plans that lie there say
    what is left. Those that failed before `since`, in seconds of the file system's clock, do not count: a sweep runs
    them again.
    """

    def __init__(self, results: Path, identities: Collection[str] | None = None, since: float = 0.0):
        self.results, self.since = results, since
        self.identities = None if identities is None else set(identities)
        self._read: dict[Path, tuple[tuple[int, int], Brief]] = {}

    def look(self) -> Snapshot:
        """The folder as it is now. No record and no claim is changed.

        If there are claims, an empty file is made beside them for a moment, to learn the clock of their file system.
        """
        stamped = now = time.time()
        held = [claim for claim in claims.held(self.results) if self._planned(claim.identity)]
        if held:
            with contextlib.suppress(OSError):  # no file can be written: this machine's clock has to do
                stamped = claims.file_system_now(self.results)
        alive = {claim.identity: claim for claim in held if claims.is_alive(claim, stamped)}
        records, unreadable = self._records()
        done = {name: run for name, run in records.items() if run.status == "completed"}
        failed = {name: run for name, run in records.items() if run.status == "failed" and name not in alive}
        progress = {name: store.progress(self.results, name) for name in alive if name not in done}
        spent = sum(run.hours for run in (*done.values(), *failed.values()))
        planned = workers.planned(self.results) if self.identities is None else self.identities
        left = len(planned - done.keys() - failed.keys()) if planned else None
        overheads = [run.overhead_seconds for run in done.values() if run.overhead_seconds is not None]
        return Snapshot(
            done=len(done),
            running=tuple(_row(alive[name], now, written) for name, written in progress.items()),
            failed=tuple(f"{run}: {run.error}" for run in failed.values()),
            silent=tuple(claim.cell for claim in held if claim.identity not in alive.keys() | done.keys()),
            left=left,
            best=_best(done.values()),
            hours_spent=spent + sum(written.device_seconds for written in progress.values() if written) / 3600,
            seconds_left=None if left is None else self._seconds_left(left),
            overhead_seconds=statistics.median(overheads) if overheads else None,
            unreadable=unreadable,
        )

    def _seconds_left(self, left: int) -> float | None:
        ended = [changed / 1e9 - self.since for (changed, _), _ in self._read.values() if changed >= self.since * 1e9]
        return left * max(ended) / len(ended) if ended and self.since else None

    def _planned(self, identity: str) -> bool:
        return self.identities is None or identity in self.identities

    def _records(self) -> tuple[dict[str, Brief], tuple[str, ...]]:
        """Readable records by their id, and the names of the other files."""
        found, unreadable = {}, []
        for path in store.paths(self.results):
            if not self._planned(path.stem):
                continue
            run = self._parts(path)
            if run is None:
                unreadable.append(str(path.relative_to(self.results / "runs")))
            elif run.status != "failed" or self._read[path][0][0] >= self.since * 1e9:
                found[path.stem] = run
        return found, tuple(unreadable)

    def _parts(self, path: Path) -> Brief | None:
        try:
            status = path.stat()
            stamp = status.st_mtime_ns, status.st_size
            if self._read.get(path, (None,))[0] != stamp:
                self._read[path] = stamp, Brief.model_validate_json(read_text(path, store.MOST_BYTES))
        except (OSError, InputError, ValueError):  # pydantic's error is one, and so is that of another encoding
            return None
        run = self._read[path][1]
        return run if run.run_id == path.stem else None


@contextlib.contextmanager
def live(
    results: Path, identities: Collection[str], *, since: float = 0.0, say: Callable[[str], Any] = print
) -> Iterator[Callable[[], None]]:
    """Gives a function that shows the sweep that began at `since`; call it about once a second. The end calls it too.

    On a terminal a table that stays in place; elsewhere `say` gets a line when cells have ended, not more often than
    every `PLAIN_SECONDS`.
    """
    from rich.console import Console
    from rich.live import Live

    watch, console = Watch(results, identities, since), Console()
    if sys.stdout.isatty() and not console.is_dumb_terminal:  # whatever FORCE_COLOR says of a file
        with Live(get_renderable=lambda: _picture(watch.look()), console=console, auto_refresh=False) as display:
            yield display.refresh
        return
    first = watch.look()
    shown, ended = time.monotonic(), first.done + len(first.failed)

    def update(at_once: bool = False) -> None:
        nonlocal shown, ended
        if not at_once and time.monotonic() - shown < PLAIN_SECONDS:
            return
        snapshot, shown = watch.look(), time.monotonic()
        if snapshot.done + len(snapshot.failed) != ended:
            say(f"{snapshot.counts()}; {snapshot.hours()}")
            ended = snapshot.done + len(snapshot.failed)

    try:
        yield update
    finally:
        update(at_once=True)


@contextlib.contextmanager
def showing(results: Path, identity: str) -> Iterator[None]:
    """On a terminal, one line on stderr says how far the run is until the block ends; elsewhere nothing does."""
    from rich.console import Console
    from rich.live import Live

    started, console = time.monotonic(), Console(file=sys.stderr)  # a notebook sets another in its place

    def line() -> str:
        clock, written = _clock(time.monotonic() - started), store.progress(results, identity)
        return f"{clock}  {_how_far(written)}" if written else clock

    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield
        return
    with Live(get_renderable=line, console=console, refresh_per_second=1, transient=True):
        yield


def _picture(snapshot: Snapshot) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(*HEADERS, box=None, pad_edge=False)
    for row in snapshot.running:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    summary = Text("\n".join(snapshot.summary()))
    return Group(summary, table) if snapshot.running else summary


def status(results: Path) -> Iterator[str]:
    """The state of the folder in lines; `InputError` if there is no such folder."""
    from tabulate import tabulate

    snapshot = Watch(existing_folder(results)).look()
    yield from snapshot.summary()
    yield from (f"failed: {printable(cell)}" for cell in snapshot.failed[:SHOWN])
    if len(snapshot.failed) > SHOWN:
        yield f"failed: {len(snapshot.failed) - SHOWN} more"
    if snapshot.running:
        yield ""
        yield from tabulate(snapshot.running, HEADERS, tablefmt="simple", disable_numparse=True).splitlines()


def _row(claim: claims.Claim, now: float, progress: CostSoFar | None) -> tuple[str, ...]:
    elapsed = max(0.0, min(now - claim.started, now))  # a clock elsewhere may be ahead, or the file may hold anything
    row = printable(claim.cell), printable(claim.host.split(" ")[0]), _clock(elapsed)
    if progress is None:
        return *row, "–", "–"
    return *row, _clock(progress.device_seconds), _how_far(progress)


def _how_far(progress: CostSoFar) -> str:
    return f"{counted(progress.epoch or 0, 'epoch')}, batch {progress.batch or 0}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _best(completed: Collection[Brief]) -> dict[str, tuple[float, str]]:
    """Of each data set the run with the highest validation score; no test score chooses."""
    best: dict[str, tuple[float, str]] = {}
    for run in completed:
        if run.score is not None and run.score > best.get(run.config.dataset, (-1.0,))[0]:
            best[run.config.dataset] = run.score, str(run)
    return best
