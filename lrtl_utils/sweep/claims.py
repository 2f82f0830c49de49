"""Which worker runs a cell: the one that created the claim file in the results folder. There is no other scheduler.

Not a lock of the file system (`flock` succeeds for everyone on several network file systems): only the exclusive
creation of a name is relied on. A claim has a generation; whoever finds the newest one dead creates the next, which
can succeed only once, so two workers that take over the same dead claim at the same time never both get it.
"""

import json
import os
import re
import socket
import stat
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

BEAT_SECONDS = 5.0  # between two heartbeats
DEAD_SECONDS = 60.0  # without one, after which a claim is anybody's
NAME = re.compile(r"([\w-]+)\.(\d+)\.json")  # identity and generation; other files in the folder are nobody's
MARGIN_SECONDS = 1.0  # by which the clock of a process's start and that of a file may differ


@dataclass(frozen=True)
class Claim:
    """One cell, taken by a process. Times in Unix seconds; `beat`, of the last heartbeat, by the file system's clock.

    `host` names the machine, its boot and its space of process numbers.
    """

    identity: str
    host: str
    process: int
    started: float
    beat: float
    cell: str
    generation: int = 1


def take(results: Path, identity: str, cell: str) -> Claim | None:
    """Claim a cell, described by `cell`; None if a living worker has it or was faster."""
    newest = _newest(results, identity)
    if newest and is_alive(newest, file_system_now(results)):
        return None
    generation = newest.generation + 1 if newest else 1
    path = _path(results, identity, generation)
    path.parent.mkdir(parents=True, exist_ok=True)
    now = time.time()
    claim = Claim(identity, here(), os.getpid(), now, now, cell, generation)
    text = json.dumps({name: value for name, value in asdict(claim).items() if name not in {"beat", "generation"}})
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        return None
    return claim


def beat(results: Path, claim: Claim) -> bool:
    """Renew a claim; False if another worker has taken it over, so the cell must be given up."""
    newest = _newest(results, claim.identity)
    if newest is None or newest.generation != claim.generation:
        return False
    os.utime(_path(results, claim.identity, claim.generation))
    return True


def release(results: Path, claim: Claim) -> None:
    """Delete a claim. Older generations are deleted first, so that none of them seems to be the newest."""
    for generation in range(1, claim.generation + 1):
        _path(results, claim.identity, generation).unlink(missing_ok=True)


def held(results: Path) -> list[Claim]:
    """The newest claim of each cell that has one, dead or alive, in the order of their ids."""
    names = (NAME.fullmatch(path.name) for path in _folder(results).glob("*.json"))
    found = (_newest(results, identity) for identity in sorted({name[1] for name in names if name}))
    return [claim for claim in found if claim]


def is_alive(claim: Claim, now: float) -> bool:
    """Whether the owner is alive: by its process on this machine, else by its last heartbeat before `now`.

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
    """This machine: its name, boot and process namespace, as far as the system reports them."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = [boot.read_text().strip()[:8], os.readlink(space)] if sys.platform == "linux" else []
    return " ".join([socket.gethostname(), *known])


def _runs(claim: Claim) -> bool:
    """Whether the process that made the claim still exists, and its number is not reused by another."""
    try:
        process = psutil.Process(claim.process)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= claim.started + MARGIN_SECONDS
    except psutil.NoSuchProcess:
        return False


def _newest(results: Path, identity: str) -> Claim | None:
    """The newest claim; if it cannot be read (yet), its owner is unknown and its heartbeat decides."""
    names = (NAME.fullmatch(path.name) for path in _folder(results).glob(f"{identity}.*.json"))
    for generation in sorted((int(name[2]) for name in names if name), reverse=True):
        path = _path(results, identity, generation)
        try:
            status = path.stat()
            stamp = status.st_mtime
            if not stat.S_ISREG(status.st_mode):  # a pipe would keep its reader waiting
                raise IsADirectoryError(path)
            content = json.loads(path.read_text(encoding="utf-8"))
            host, process, started = str(content["host"]), int(content["process"]), float(content["started"])
            return Claim(identity, host, process, started, stamp, str(content["cell"]), generation)
        except FileNotFoundError:  # released meanwhile
            continue
        except (IsADirectoryError, PermissionError, ValueError, TypeError, KeyError, OverflowError):
            return Claim(identity, "unknown", 0, stamp, stamp, "", generation)
    return None


def _path(results: Path, identity: str, generation: int) -> Path:
    return _folder(results) / f"{identity}.{generation}.json"


def _folder(results: Path) -> Path:
    return results / "claims"
