"""What a dry run has estimated, and how that compares with what the grid did cost. It imports no torch."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lrtl_utils.errors import counted
from lrtl_utils.files import absolute_path, write_text
from lrtl_utils.runs import store
from lrtl_utils.runs.record import identity
from lrtl_utils.sweep.grid import Cell

ESTIMATE = "estimate.json"


def keep(results: Path, expected: Mapping[str, Mapping[str, float]]) -> None:
    """Write the FLOPs and device seconds that are expected of each cell, by its id; those of other cells are kept."""
    write_text(results / ESTIMATE, json.dumps({"cells": (_kept(results) or {}) | expected}, indent=1))


def _kept(results: Path) -> dict[str, Any] | None:
    """What `keep` has written, by the ids of cells; None where that cannot be read."""
    try:
        return dict(json.loads((results / ESTIMATE).read_text(encoding="utf-8"))["cells"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def against(results: str | Path, cells: Iterable[Cell]) -> list[str]:
    """The estimate that a dry run left in this folder beside what these cells have cost; empty without either."""
    results, wanted = absolute_path(results), {cell.id for cell in cells}
    if not (results / ESTIMATE).is_file():
        return []
    if (expected := _kept(results)) is None:
        return [f"{results / ESTIMATE} cannot be read; `lrtl sweep --dry-run` writes it again."]
    found = [
        (name, record["cost"])
        for record in store.records(results, "completed")
        if record["run_id"] in wanted
        for name in sorted(names(record) & expected.keys())[:1]  # one under the other name is of the same cell
    ]
    if not found:
        return []
    compared = [f"{len(found)} of these cells had been estimated"]
    timed = [(name, cost) for name, cost in found if not cost.get("cached_seconds")]  # the others did a part only
    for what, key, unit, of in (("device hours", "device_seconds", 3600, timed), ("FLOPs", "flops", 1, found)):
        if not of:
            continue
        estimated = sum(expected[name][key] for name, _ in of) / unit
        measured = sum(cost[key] for _, cost in of) / unit
        apart = 100 * (estimated / measured - 1)
        part = f" of {counted(len(of), 'cell')}, which took nothing from a cache" if len(of) < len(found) else ""
        compared.append(f"{what}{part}: {estimated:.3g} estimated, {measured:.3g} measured ({round(apart):+d}%)")
    return compared


def names(record: Mapping[str, Any]) -> set[str]:
    """The run's id, and the one that a plan gives it where data or weights are absent."""
    return {record["run_id"], identity(record, files=False)}
