"""Processes of this machine: started quickly, measured, and ended with all that they started."""

import multiprocessing
from pathlib import Path
from typing import Any

import psutil

from lrtl_utils.files import lines_of
from lrtl_utils.runs import notebook as notebooks
from lrtl_utils.sweep import kernels

TERMINATION_SECONDS = notebooks.TERMINATION_SECONDS + 5  # a cell's, whose kernel writes its checkpoint first


def process_factory() -> Any:
    """Processes forked from a clean one that has imported everything once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(kernels.IMPORTED)
    return context


def end_softly(process: Any) -> None:
    """SIGTERM, which lets a cell write its checkpoint; then make sure."""
    process.terminate()
    process.join(TERMINATION_SECONDS)
    if process.is_alive():
        kill_tree(process.pid)
        process.join()


def kill_tree(pid: int) -> None:
    """End a process and all that came of it: a kernel leads a session of its own, so its group is not ours."""
    family = _family(pid)
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=5)


def resident_mib(pid: int) -> float:
    """What the family holds, a page that several share counted once among them (on Linux; elsewhere not at all)."""
    total = 0
    for member in _family(pid):
        try:
            held = member.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        total += getattr(held, "pss", held.uss)
    return total / 2**20


def oom_kills() -> int:
    """How often the system has ended a process of this control group for memory (Linux, cgroup v2); else 0."""
    groups = Path("/proc/self/cgroup")
    own = [line[3:].strip().lstrip("/") for line in lines_of(groups) if line.startswith("0::")]
    events = lines_of(Path("/sys/fs/cgroup") / own[0] / "memory.events") if own else []
    return sum(int(line.split()[1]) for line in events if line.startswith("oom_kill "))


def _family(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
