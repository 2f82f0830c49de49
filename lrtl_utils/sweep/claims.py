"""Which worker runs a cell: the one that created the claim file in the results folder. There is no other scheduler.

Not a lock of the file system (`flock` succeeds for everyone on several network file systems): only the exclusive
creation of a name is relied on. A claim has a generation; whoever finds the newest one dead creates the next, which
can succeed only once, so two workers that take over the same dead claim at the same time never both get it.

A claim that was released or taken over is renamed from `.json` to `.free` and stays, so no generation is used twice. A
claim belongs to its owner as long as its file has its name. So an owner that was stopped for a while, and whose claim
was taken over, can neither renew nor release the new one, and what it started need only look for that file.
"""

import contextlib
import json
import os
import re
import socket
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from lrtl_utils.files import lines_of, open_regular, still_claimed

BEAT_SECONDS = 5.0  # between two heartbeats
DEAD_SECONDS = 60.0  # without one, after which a claim is anybody's
NAME = re.compile(r"([\w-]+)\.(\d+)\.json")  # identity, generation; other files in the folder are nobody's
MOST_BYTES = 2**16  # of a claim, which has a few hundred
MARGIN_SECONDS = 1.0  # by which the start of a process may seem to differ between two looks


@dataclass(frozen=True)
class Claim:
    """One cell, taken by a process. Times in Unix seconds; `beat`, of the last heartbeat, by the file system's clock.

    `host` names the machine, its boot, its space of process numbers, and the user. `born` is when the process began, in
    seconds since the boot, which no step of the clock changes.
    """

    identity: str
    host: str
    process: int
    born: float
    started: float
    beat: float
    cell: str
    generation: int = 1


def take(results: Path, identity: str, cell: str) -> Claim | None:
    """Claim a cell, described by `cell`; None if a living worker has it or was faster."""
    generation, free = _newest(results, identity)
    newest = None if free else _read(results, identity, generation)
    if newest and is_alive(newest, file_system_now(results)):
        return None
    if newest:
        _free(_path(results, identity, generation))
    now = time.time()
    claim = Claim(identity, here(), os.getpid(), _born(psutil.Process()), now, now, cell, generation + 1)
    if not _create(path_of(results, claim), claim):
        return None
    if _newest(results, identity) != (claim.generation, False):  # this process was slow, and is too late
        _free(path_of(results, claim))
        return None
    return claim


def beat(results: Path, claim: Claim) -> bool:
    """Renew a claim; False if another worker has taken it over, so the cell must be given up.

    An error of the file system renews nothing: if it lasts, another worker takes the claim over.
    """
    path = path_of(results, claim)
    try:
        if not still_claimed(path):
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        warnings.warn(f"The claim of {claim.cell} could not be renewed: {error}", stacklevel=2)
    return True


def release(results: Path, claim: Claim) -> None:
    """Let go of a claim, so that anybody may take it."""
    _free(path_of(results, claim))


def held(results: Path) -> list[Claim]:
    """The newest claim of each cell that has one, dead or alive, in the order of their ids."""
    names = (NAME.fullmatch(path.name) for path in _folder(results).glob("*.json"))
    newest: dict[str, int] = {}
    for name in filter(None, names):
        newest[name[1]] = max(int(name[2]), newest.get(name[1], 0))
    found = (_read(results, identity, generation) for identity, generation in sorted(newest.items()))
    return [claim for claim in found if claim]


def path_of(results: Path, claim: Claim) -> Path:
    """The file that is there as long as the claim is its owner's."""
    return _path(results, claim.identity, claim.generation)


def is_alive(claim: Claim, now: float) -> bool:
    """Whether the owner is alive: its last heartbeat is recent at `now`, and its process exists if that is `here`.

    A heartbeat stamped far in the future is none: a living owner would have stamped over it since.
    """
    if claim.host == here() and not _runs(claim):
        return False
    return abs(now - claim.beat) <= DEAD_SECONDS


def file_system_now(results: Path) -> float:
    """The time by the clock that stamps the files of that folder, whatever this machine's clock says."""
    folder = _folder(results)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_mtime


def here() -> str:
    """This machine: its name, boot and process namespace, as far as the system reports them; and this user.

    /proc may hide the processes of other users, so a claim of theirs lives by its heartbeat alone.
    """
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = []
    if sys.platform == "linux":
        known = [*(line[:8] for line in lines_of(boot)), os.readlink(space), str(os.getuid())]
    return " ".join([socket.gethostname(), *known])


def _runs(claim: Claim) -> bool:
    """Whether the process that made the claim still exists, and its number is not reused by another."""
    try:
        process = psutil.Process(claim.process)
        return process.status() != psutil.STATUS_ZOMBIE and abs(_born(process) - claim.born) < MARGIN_SECONDS
    except (psutil.NoSuchProcess, ValueError):  # or a number that no process has
        return False


def _born(process: psutil.Process) -> float:
    booted = psutil.boot_time()  # first, since older versions of psutil keep it for `create_time`
    return process.create_time() - booted


def _newest(results: Path, identity: str) -> tuple[int, bool]:
    """The newest generation of a cell's claims, 0 without any, and whether it is free.

    They are looked for one by one: a list of the folder would take longer with each cell that it has.
    """
    generation, free = 0, True
    while True:
        path = _path(results, identity, generation + 1)
        if not (freed := path.with_suffix(".free").exists()) and not path.exists():
            return generation, free
        generation, free = generation + 1, freed


def _read(results: Path, identity: str, generation: int) -> Claim | None:
    """A claim; if it cannot be read (yet), its owner is unknown and its heartbeat decides. None if it is gone."""
    path = _path(results, identity, generation)
    with contextlib.suppress(FileNotFoundError):
        try:
            with open_regular(path) as stream:
                stamp = os.fstat(stream.fileno()).st_mtime
                content = json.loads(stream.read(MOST_BYTES))
            host, process, cell = str(content["host"]), int(content["process"]), str(content["cell"])
            born, started = float(content["born"]), float(content["started"])
            return Claim(identity, host, process, born, started, stamp, cell, generation)
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            stamp = path.stat().st_mtime
            return Claim(identity, "unknown", 0, 0.0, stamp, stamp, identity, generation)
    return None


def _create(path: Path, claim: Claim) -> bool:
    """Write a claim to a new file; False if there is one."""
    text = json.dumps({name: value for name, value in asdict(claim).items() if name not in {"beat", "generation"}})
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = path.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with stream:
            stream.write(text)
    except OSError:  # of a full disk: nobody holds an empty claim
        path.unlink()
        raise
    return True


def _free(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # it is free already
        path.rename(path.with_suffix(".free"))


def _path(results: Path, identity: str, generation: int) -> Path:
    return _folder(results) / f"{identity}.{generation}.json"


def _folder(results: Path) -> Path:
    return results / "claims"
