"""Who runs which cell: a file, created exclusively in the results folder. That claim is the only scheduler.

Not a lock of the file system (`flock` succeeds for everyone on several network file systems): only the exclusive
creation of a name is relied on. A claim has a generation; whoever finds the newest one dead creates the next, which
can succeed only once, so that two who take over the same dead claim at the same time never both have it.
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
    """Claim a cell, told in words as `cell`; None if somebody who is alive has it, or was faster."""
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
    """Say that its owner lives; False if somebody has taken the claim over, so that it must be let go."""
    newest = _newest(results, claim.identity)
    if newest is None or newest.generation != claim.generation:
        return False
    os.utime(_path(results, claim.identity, claim.generation))
    return True


def release(results: Path, claim: Claim) -> None:
    """Give a cell back, its record written or not. Older generations go first: they must not seem the newest."""
    for generation in range(1, claim.generation + 1):
        _path(results, claim.identity, generation).unlink(missing_ok=True)


def held(results: Path) -> list[Claim]:
    """The newest claim of each cell that has one, dead or alive, in the order of their ids."""
    names = (NAME.fullmatch(path.name) for path in _folder(results).glob("*.json"))
    found = (_newest(results, identity) for identity in sorted({name[1] for name in names if name}))
    return [claim for claim in found if claim]


def is_alive(claim: Claim, now: float) -> bool:
    """Whether its owner lives. On this machine its process tells, at once; else its last heartbeat, at `now`.

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
    """This machine: its name, its boot and its space of process numbers, as far as the system tells them."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = [boot.read_text().strip()[:8], os.readlink(space)] if sys.platform == "linux" else []
    return " ".join([socket.gethostname(), *known])


def _runs(claim: Claim) -> bool:
    """Whether the process that claimed is there, and not another that got its number since."""
    try:
        process = psutil.Process(claim.process)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= claim.started + MARGIN_SECONDS
    except psutil.NoSuchProcess:
        return False


def _newest(results: Path, identity: str) -> Claim | None:
    """The claim in effect; one that cannot be read (yet) has an owner nobody knows, and lives by its heartbeat."""
    names = (NAME.fullmatch(path.name) for path in _folder(results).glob(f"{identity}.*.json"))
    for generation in sorted((int(name[2]) for name in names if name), reverse=True):
        path = _path(results, identity, generation)
        try:
            status = path.stat()
            stamp = status.st_mtime
            if not stat.S_ISREG(status.st_mode):  # a pipe would keep its reader waiting
                raise IsADirectoryError(path)
            told = json.loads(path.read_text(encoding="utf-8"))
            host, process, started = str(told["host"]), int(told["process"]), float(told["started"])
            return Claim(identity, host, process, started, stamp, str(told["cell"]), generation)
        except FileNotFoundError:  # released meanwhile
            continue
        except (IsADirectoryError, PermissionError, ValueError, TypeError, KeyError, OverflowError):
            return Claim(identity, "unknown", 0, stamp, stamp, "", generation)
    return None


def _path(results: Path, identity: str, generation: int) -> Path:
    return _folder(results) / f"{identity}.{generation}.json"


def _folder(results: Path) -> Path:
    return results / "claims"
