"""What a search would have cost where the whole grid is recorded. Nothing runs."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from lrtl_utils.config import derived_seed
from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path, write_text
from lrtl_utils.runs import store

COSTS = {"device_seconds": "seconds", "flops": "flops"}
TOLERANCE = 0.005  # half a point below the grid's best counts as reaching it
Searches = Mapping[str, Callable[[int], Iterable[int]]]  # by name: from a seed, rows of the grid in the order tried


def write_table(
    results: str | Path, name: str, knobs: Sequence[str], grid: pd.DataFrame, searches: Searches, seeds: int
) -> Path:
    """`<results>/search.md`, and each search of `replay` as a row of `search.csv`, with its share of the grid's cost.

    `grid` has a row for each setting, as `replay` needs it, and its records' `paths`.
    """
    results = absolute_path(results)
    spent = replay(grid, searches, seeds)
    spent = spent.assign(**{f"{short}_share": spent[cost] / sum(grid[cost]) for cost, short in COSTS.items()})
    # Where one seed has failed, others may have no record.
    records = [store.read(path) for paths in grid["paths"] for path in paths if path.is_file()]
    path = results / "search.md"
    write_text(path, "\n".join([*_about(name, knobs, grid, records, seeds), _table(spent, grid), ""]))
    write_text(path.with_suffix(".csv"), spent.to_csv(index=False))
    return path


def replay(grid: pd.DataFrame, searches: Searches, seeds: int) -> pd.DataFrame:
    """A row for each search and each seed from 0 to `seeds` - 1: what it spends to come near the grid's best.

    `grid` has a row for each setting: its `score` (NaN if it failed), whether it is `comparable` with the others,
    `device_seconds` and `flops`. Near is within half a point of the best comparable score. What a search did not try
    follows it in a random order. Columns: sampler, seed, trials (the one that comes near included) and their costs.
    """
    near, rows = _near(grid), []
    for name, order in (searches | {"random order": lambda _seed: ()}).items():
        for seed in range(seeds):
            rest = np.random.default_rng(derived_seed(seed, "random order")).permutation(len(grid))
            tried = list(dict.fromkeys([*order(seed), *rest.tolist()]))
            trials = next(number for number, at in enumerate(tried, 1) if at in near)
            spent = grid.iloc[tried[:trials]]
            rows.append({"sampler": name, "seed": seed, "trials": trials} | {cost: sum(spent[cost]) for cost in COSTS})
    return pd.DataFrame(rows)


def _near(grid: pd.DataFrame) -> Collection[int]:
    scores = grid["score"].where(grid["comparable"])
    if scores.isna().all():
        raise InputError("Every setting failed, so there is no best one to search for.")
    return set(np.flatnonzero(scores >= scores.max() - TOLERANCE - 1e-9).tolist())  # a mean over seeds is rounded


def _about(name: str, knobs: Sequence[str], grid: pd.DataFrame, records: Sequence[dict], seeds: int) -> list[str]:
    """What the table is of: the space, the grid's best and how many settings come near it, machine and versions."""
    best = grid["score"].where(grid["comparable"]).max()
    return [
        f"# Search over {name}, replayed on the recorded grid",
        "",
        f"- {len(grid)} distinct settings of {', '.join(knobs)}; the best has validation score {best:.4f}",
        f"- a search is charged until it has tried one of the {len(_near(grid))} settings that are within "
        f"{100 * TOLERANCE:g} points of that score",
        f"- means over {seeds} search seeds, lowest and highest in brackets; shares are of the whole grid's cost",
        *(f"- {line}" for line in store.machines(records)),
        f"- optuna {version('optuna')}",
        "",
    ]


def _table(spent: pd.DataFrame, grid: pd.DataFrame) -> str:
    rows = []
    for name, group in spent.groupby("sampler", sort=False):
        row = {"search": name, "trials": f"{group['trials'].mean():.1f}"}
        row["device seconds"] = f"{group['device_seconds'].mean():.1f}"
        for short, title in (("seconds", "seconds / grid"), ("flops", "FLOPs / grid")):
            shares = group[f"{short}_share"]
            row[title] = f"{shares.mean():.3f} [{shares.min():.3f}, {shares.max():.3f}]"
        rows.append(row)
    seconds = f"{grid['device_seconds'].sum():.1f}"
    rows.append({"search": "the whole grid", "trials": str(len(grid)), "device seconds": seconds})
    return pd.DataFrame(rows).fillna("1").to_markdown(index=False, disable_numparse=True)
