"""What a search would have cost where the whole grid is recorded: nothing runs."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from lrtl_utils.errors import InputError
from lrtl_utils.files import results_folder, write_text
from lrtl_utils.runs import store as runs
from lrtl_utils.sweep import strategies
from lrtl_utils.sweep.search import Result, follow, recorded, total
from lrtl_utils.sweep.strategies import LABELS, Space, Strategy

SHARES = {"seconds": "device_seconds", "flops": "flops"}
TOLERANCE = 0.005  # half a point below the grid's best counts as reaching it


def write_table(space: Space, results: str | Path, *, seeds: int, keep: int, fidelity: str | None) -> Path:
    """`<results>/search.md`, and as `search.csv` each search: those of `replay`, as shares of the whole grid's cost.

    `InputError` where a combination of the space has no record.
    """
    results = results_folder(results)
    found = [recorded(combination, results) for combination in space.combinations]
    grid = [result for result in found if result]
    if len(grid) < len(found):
        missing = f"{len(found) - len(grid)} of the {len(found)} settings of {space.name}"
        raise InputError(f"{results} has no record of {missing}; `sweep` the same file there first.")
    if fidelity or strategies.fidelities(space):
        fidelity = strategies.find_fidelity(space, fidelity)
    spent = replay(space, grid, seeds=seeds, keep=keep, fidelity=fidelity)
    paths = [cell.path(results) for one in space.combinations for cell in one.cells]
    records = [runs.read(path) for path in paths if path.is_file()]  # where a seed failed, others may have none
    text = "\n".join([*_about(space, grid, _near(space, grid, fidelity), records, seeds), _table(spent, grid), ""])
    path = results / "search.md"
    write_text(path, text)
    shares = {f"{name}_share": spent[cost] / total(grid)[cost] for name, cost in SHARES.items()}
    write_text(path.with_suffix(".csv"), spent.assign(**shares).to_csv(index=False))
    return path


def replay(space: Space, grid: Sequence[Result], *, seeds: int, keep: int, fidelity: str | None) -> pd.DataFrame:
    """A row for each sampler and each search seed from 0 to `seeds` - 1: what it spends to reach the grid's best.

    `grid` holds the result of every combination. Columns: sampler, seed, and the trials, device seconds and FLOPs until
    the best score so far is within half a point of the grid's best, the trial that reaches it included.
    """
    near = _near(space, grid, fidelity)
    rows = []
    for name, sampler in _samplers(space, keep, fidelity).items():
        for seed in range(seeds):
            spent = []
            for at, result in follow(sampler(seed), lambda asked: [grid[n] for n in asked]):
                spent.append(result)
                if at in near:
                    break
            rows.append({"sampler": name, "seed": seed, "trials": len(spent), **total(spent)})
    return pd.DataFrame(rows)


def _near(space: Space, grid: Sequence[Result], fidelity: str | None) -> set[int]:
    """The settings within half a point of the best."""
    scores = {at: grid[at].score for at in strategies.comparable(space, fidelity) if grid[at].score is not None}
    if not scores:
        raise InputError(f"Every setting of {space.name} failed; there is no best to search for.")
    best = max(scores.values())
    return {at for at, score in scores.items() if score >= best - TOLERANCE - 1e-9}  # a mean over seeds is rounded


def _samplers(space: Space, keep: int, fidelity: str | None) -> dict[str, Callable[[int], Strategy]]:
    """By their names, those that the space is fit for; where labels are the fidelity, only halving can compare.

    Halving goes on with fresh arms, bracket after bracket, and with what it dropped after them.
    """
    samplers: dict[str, Callable[[int], Strategy]] = {}
    if fidelity not in LABELS:
        samplers["TPE"] = lambda seed: strategies.tpe(space, seed, {}, len(space.combinations))
    if fidelity:
        samplers[f"halving over {fidelity}, 1/{keep} kept"] = lambda seed: _halving(space, seed, fidelity, keep)
    return samplers | {"random order": lambda seed: strategies.random_order(space, seed)}


def _halving(space: Space, seed: int, fidelity: str, keep: int) -> Strategy:
    arms, size = strategies.arms(space, seed, fidelity), strategies.bracket_size(space, fidelity, keep)
    yield from strategies.halving([arms[start : start + size] for start in range(0, len(arms), size)], keep)
    yield from strategies.random_order(space, seed)


def _about(
    space: Space, grid: Sequence[Result], near: set[int], records: Sequence[dict[str, Any]], seeds: int
) -> list[str]:
    """What the table is of: the space, the grid's best and how many settings come near it, machine and versions."""
    best = max(grid[at].score or 0.0 for at in near)
    return [
        f"# Search over {space.name}, replayed on the recorded grid",
        "",
        f"- {len(grid)} distinct settings of {', '.join(space.knobs)}; the best has validation score {best:.4f}",
        f"- spent until the best so far is within {100 * TOLERANCE:g} points of it, as {len(near)} settings are",
        f"- means over {seeds} search seeds, lowest and highest in brackets; shares are of the whole grid's cost",
        *(f"- {line}" for line in runs.machines(records)),
        f"- optuna {version('optuna')}",
        "",
    ]


def _table(spent: pd.DataFrame, grid: Sequence[Result]) -> str:
    whole = total(grid)
    rows = []
    for name, group in spent.groupby("sampler", sort=False):
        row = {"search": name, "trials": f"{group['trials'].mean():.1f}"}
        row["device seconds"] = f"{group['device_seconds'].mean():.1f}"
        for cost, title in (("device_seconds", "seconds / grid"), ("flops", "FLOPs / grid")):
            shares = group[cost] / whole[cost]
            row[title] = f"{shares.mean():.3f} [{shares.min():.3f}, {shares.max():.3f}]"
        rows.append(row)
    seconds = f"{whole['device_seconds']:.1f}"
    rows.append({"search": "the whole grid", "trials": str(len(grid)), "device seconds": seconds})
    frame = pd.DataFrame(rows).fillna("1")
    return frame.to_markdown(index=False, disable_numparse=True)
