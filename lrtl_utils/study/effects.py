"""What the hyperparameters of a recorded grid do: effects, interactions, and what a budget finds."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from lrtl_utils.errors import counted
from lrtl_utils.files import absolute_path
from lrtl_utils.study import stats, tables
from lrtl_utils.study.tables import DEFAULTS

TRIED = {"score_name": "first", "score": "mean", "device_seconds": "sum", "flops": "sum"}  # of each setting
SEARCHES = ["sampler", "seed", "trials", "device_seconds", "seconds_share"]


def trials(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str], str]:
    """The settings of the data set, model, method and number of labels that has the most, their knobs, and its name.

    A row for each setting: its knobs, its mean validation `score` over seeds, and the `device_seconds` and `flops` of
    all of them (no seconds if one of the runs took any from a cache). Knobs that the data, the machine or other knobs
    change, such as a warm-up, have the values that were asked for. Runs without a validation split do not count;
    without a knob that has two values there is nothing.
    """
    found: tuple[pd.DataFrame, list[str], str] = pd.DataFrame(columns=[*TRIED]), [], ""
    judged = frame[frame["validation.score"].notna()]
    for (dataset, model, method, n_labels), part in judged.groupby(["dataset", "model", "method", "n_labels"]):
        # A knob that was added later has its default.
        configs = [DEFAULTS | record["config"] for record in part["record"]]
        values = pd.DataFrame([{name: _asked(config, name) for name in DEFAULTS} for config in configs])
        if knobs := [name for name in DEFAULTS if values[name].nunique(dropna=False) > 1]:
            outcomes = part[["score_name", "validation.score", "cost.device_seconds", "cost.flops"]]
            outcomes = outcomes.set_axis([*TRIED], axis=1).reset_index(drop=True)
            settings = values[knobs].join(outcomes).groupby(knobs, dropna=False).agg(TRIED).reset_index()
            if tables.took_from_cache(part).any():
                settings["device_seconds"] = np.nan
            if len(settings) > len(found[0]):
                validation, seeds = part["record"].iloc[0]["data"]["validation_size"], part["seed"].nunique()
                judged_on = f"{counted(seeds, 'seed')}, {counted(validation, 'validation example')}"
                found = settings, knobs, f"{dataset} · {model}, {method} with {n_labels} labels ({judged_on})"
    return found


def main_effects(settings: pd.DataFrame, knobs: Sequence[str]) -> pd.DataFrame:
    """A row for each knob and value, those of the knob that explains most first.

    `score` is the mean over the settings with that value, with a 95% t-interval over them from `low` to `high`, NaN
    for one setting. `share` is that of the variance which the knob explains. `best` marks the highest mean of a knob,
    and `at_edge` a best one that is the lowest or highest number that was tried: a better one may lie beyond.
    """
    rows, shares = [], {knob: explained(settings, [knob]) for knob in knobs}
    for knob in sorted(knobs, key=lambda knob: -shares[knob]):
        means = settings.groupby(knob, dropna=False)["score"].agg(["mean", "sem", "size"])
        top, numbers = int(means["mean"].argmax()), int(means.index.notna().sum())  # None, which is none, comes last
        ends = (0, numbers - 1) if means.index.dtype.kind in "if" and numbers > 1 else ()
        alone = bool((means["mean"] > means["mean"].max() - 1e-9).sum() == 1)  # of equal ones none is at the edge
        for at, (value, mean, error, count) in enumerate(means.itertuples()):
            half = t.ppf(0.975, count - 1) * error
            row = {"knob": knob, "value": "None" if pd.isna(value) else value, "settings": count, "share": shares[knob]}
            row |= {"score_name": settings["score_name"].iloc[0]}
            row |= {"score": mean, "low": mean - half, "high": mean + half}
            rows.append(row | {"best": at == top, "at_edge": alone and at == top and at in ends})
    columns = ["knob", "value", "score_name", "score", "low", "high", "best", "at_edge", "settings", "share"]
    return pd.DataFrame(rows, columns=columns)


def interactions(settings: pd.DataFrame, knobs: Sequence[str]) -> pd.DataFrame:
    """A row for each pair of knobs: the share of variance that it explains beyond each of the two, largest first.

    It is at least zero: on an incomplete grid, the shares of the two overlap and can add up to more than that of both.
    """
    rows = []
    for first, second in combinations(knobs, 2):
        alone = explained(settings, [first]) + explained(settings, [second])
        beyond = max(explained(settings, [first, second]) - alone, 0.0)
        rows.append({"first": first, "second": second, "share": beyond})
    table = pd.DataFrame(rows, columns=["first", "second", "share"])
    return table.sort_values("share", ascending=False, kind="stable", ignore_index=True)


def explained(settings: pd.DataFrame, knobs: Sequence[str]) -> float:
    """The share of the variance of scores between groups of these knobs, in [0, 1] (analysis of variance).

    Shares add up only if the grid is whole; see `is_whole`.
    """
    means = settings.groupby(list(knobs), dropna=False)["score"].transform("mean")
    total = settings["score"].var(ddof=0)
    return float(means.var(ddof=0) / total) if total > 0 else 0.0


def is_whole(settings: pd.DataFrame, knobs: Sequence[str]) -> bool:
    """Whether every combination of the knobs' values was tried."""
    return len(settings) == math.prod(settings[knob].nunique(dropna=False) for knob in knobs)


def budget(settings: pd.DataFrame) -> pd.DataFrame:
    """The `expected` best validation score of 1, 2, … settings drawn at random, each at most once."""
    tries, seconds = np.arange(1, len(settings) + 1), settings["device_seconds"].mean()
    spent = {"trials": tries, "score_name": settings["score_name"], "device_seconds": tries * seconds}
    return pd.DataFrame(spent | {"expected": stats.expected_best(settings["score"])})


def _asked(config: dict[str, Any], name: str) -> Any:
    """The value of a knob that makes a setting: what was asked for where something else changes it, else what was used.

    A warm-up or a batch size of None is the method's default, which was used.
    """
    asked = config["asked"].get(name, config[name]) if name in tables.NOT_CHOSEN else config[name]
    return config[name] if name in ("warmup_steps", "batch_size") and asked is None else asked


def searches(results: str | Sequence[str]) -> pd.DataFrame:
    """A row for each search that was replayed on the folder: trials, device seconds, and their share of the grid's.

    Of several folders of results the first is used.
    """
    path = absolute_path(tables.folders(results)[0]) / "search.csv"
    return pd.read_csv(path)[SEARCHES] if path.is_file() else pd.DataFrame(columns=SEARCHES)
