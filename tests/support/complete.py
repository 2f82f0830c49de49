"""A command in a process of its own, and what holds for a grid that was run to its end, whatever happened meanwhile."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lrtl_utils.files import ROOT


def call(*words: Any, cwd: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
    """What `lrtl WORDS` gave; `options` are those of `subprocess.run`."""
    command = [sys.executable, "-m", "lrtl_utils", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, **options)


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What `condition` returns once it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


def claimed(results: Path) -> list[Any]:
    """The claims of the living. A worker that was killed between its record and the end of its claim leaves it."""
    from lrtl_utils.sweep import claims

    now = claims.file_system_now(results)
    return [claim for claim in claims.held(results) if claims.is_alive(claim, now)]


def require_complete(grid: Path, results: Path) -> None:
    """Every cell of the grid has exactly one record, each is valid, and no cell is claimed."""
    from lrtl_utils.runs.verify import verify
    from lrtl_utils.study.tables import records
    from lrtl_utils.sweep.grid import plan, read_grid

    completed = records(results, "completed")
    assert sorted(completed["run_id"]) == sorted(cell.id for cell in plan(read_grid(grid)))
    checked = verify(results)
    assert (checked.records, dict(checked.faults)) == (len(completed), {})
    assert not (results / "quarantine").exists()
    assert claimed(results) == []
