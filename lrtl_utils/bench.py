"""The benchmark: every method against `conventional` at its tuned best, in one table of scores and ratios of cost."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrtl_utils import runs, stats
from lrtl_utils.answers import outcomes
from lrtl_utils.config import InputError, RunConfig
from lrtl_utils.grids import Cell, plan
from lrtl_utils.summaries import BASELINE

PLANNED = (1e-5, 3e-5, 5e-5)  # the rates of the original plan
TUNED = ("learning_rate", "epochs")
# What is tuned: the method, and the rates that count; None for all of its tuning grid.
TUNINGS = {"plan": (BASELINE, PLANNED), "wide": (BASELINE, None), "full": ("full", None)}
COSTS = {"flops": "FLOPs", "device_seconds": "seconds", "peak_memory_mib": "memory"}
AGAINST = {
    "plan": f"{BASELINE} (plan-tuned)",
    "wide": f"{BASELINE} (wide-tuned)",
    "full": "full (tuned)",
    "progressive": "progressive",
}


def tuned(results: Path) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """For each data set and model, what `TUNINGS` names at its best on the carves: method, rate and epochs.

    Best is the highest mean validation score over the seeds, then the lowest mean loss.
    """
    frame = _tuning_runs(runs.load(results))
    if frame.empty:
        raise InputError(f"{results} has no tuning runs; notebooks/grids/bench_tuning.yaml makes them.")
    frame = frame.assign(validation_loss=[record["validation"]["loss"] for record in frame["record"]])
    best: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for (dataset, model, method), group in frame.groupby(["dataset", "model", "method"]):
        means = group.groupby(list(TUNED))[["validation_score", "validation_loss"]].mean().reset_index()
        means = means.sort_values(["validation_score", "validation_loss"], ascending=[False, True])
        for name, (tuned_method, rates) in TUNINGS.items():
            rows = means[means["learning_rate"].isin(rates)] if rates else means
            if method == tuned_method and len(rows):
                setting = {"learning_rate": float(rows.iloc[0]["learning_rate"]), "epochs": int(rows.iloc[0]["epochs"])}
                best.setdefault((dataset, model), {})[name] = {"method": method} | setting
    return best


def _tuning_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of tuned methods that a carve judged."""
    return frame[frame["method"].isin({method for method, _ in TUNINGS.values()}) & (frame["validation_share"] > 0)]


def cells(grid: Sequence[tuple[str, RunConfig]], settings: dict[tuple[str, str], Any]) -> list[Cell]:
    """The grid's cells, a tuned method at its tuned settings (and `conventional` left out where it was not tuned).

    A block of the grid runs seed by seed, so that what is compared ran in one stretch.
    """
    ordered = []
    for _, block in itertools.groupby(grid, key=lambda cell: (cell[1].dataset, cell[1].train_size)):
        for notebook, config in sorted(block, key=lambda cell: cell[1].seed):
            own = settings.get((config.dataset, config.model), {}).values()
            changes = [setting for setting in own if setting["method"] == config.method]
            if not changes and config.method != BASELINE:
                changes = [{}]
            ordered += [(notebook, config.model_copy(update=change)) for change in changes]
    return plan(ordered)


def table(results: Path) -> pd.DataFrame:
    """A row for each data set, number of labels and line: score, differences and ratios of cost to the baselines.

    Differences are paired, in points; differences and ratios are means over the seeds that both have.
    """
    frame = runs.load(results)
    frame = frame.drop(_tuning_runs(frame).index)
    rows = []
    for (dataset, model), settings in tuned(results).items():
        own = frame[(frame["dataset"] == dataset) & (frame["model"].isin([model, "none"]))]
        for labels, part in own.groupby("labels"):
            lines = _lines(part, settings)
            rows += [{"data set": dataset, "labels": labels, **row} for row in _compared(lines)]
    return pd.DataFrame(rows)


def write_table(results: Path) -> Path:
    """`<results>/table.md` and `table.csv`; returns the former."""
    frame = table(results)
    frame.to_csv(results / "table.csv", index=False)
    path = results / "table.md"
    runs.write_text(path, _page(frame, runs.machines(runs.records(results))))
    return path


def _page(frame: pd.DataFrame, machines: Sequence[str]) -> str:
    """The table as a page that names machine and versions."""
    about = ["# Benchmark", "", *(f"- {line}" for line in machines), ""]
    return "\n".join([*about, frame.fillna("").to_markdown(index=False, disable_numparse=True), ""])


def _lines(part: pd.DataFrame, settings: dict[str, dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """The runs of each line, by its name: tuned methods by their tuning, `progressive` by what it went without."""
    lines, others = {}, part[part["method"] != BASELINE]
    for name, setting in settings.items():
        at = np.logical_and.reduce([part[key] == value for key, value in setting.items()])
        lines[AGAINST[name]] = part[at]
        others = others.drop(part[at].index, errors="ignore")
    for (method, without, selection), group in others.fillna({"without": ""}).groupby(
        ["method", "without", "selection"]
    ):
        left_out = f", without {without}" if without else ""
        lines[method + left_out + (f", {selection}" if selection != "random" else "")] = group
    return {name: group.set_index("seed") for name, group in lines.items() if len(group)}


def _compared(lines: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    rows = []
    for name, group in lines.items():
        bounds = stats.interval(*outcomes(list(group["record"])))
        row = {"line": name, "seeds": len(group), "score": _with_interval(group["score"].mean(), bounds)}
        for title, line in AGAINST.items():
            row |= _against(group, lines[line], title) if line in lines and line != name else {}
        rows.append(row)
    if "linear_probe" in lines:
        rows.append(_floor(lines))
    return rows


def _floor(lines: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """One forward pass over the labelled data: what no method that looks at them with the model can go below."""
    phases = lines["linear_probe"]["flops_by_phase"]
    forward = pd.Series({seed: by_phase["features"] for seed, by_phase in phases.items()})
    row: dict[str, Any] = {"line": "floor: one forward pass", "seeds": len(forward)}
    for title, line in AGAINST.items():
        if line in lines:
            row[f"FLOPs / {title}"] = f"{(forward / lines[line]['flops']).mean():.4f}"
    return row


def _against(group: pd.DataFrame, baseline: pd.DataFrame, tuning: str) -> dict[str, Any]:
    """Paired difference in points, and costs as shares of the baseline's, over the seeds that both have."""
    seeds = group.index.intersection(baseline.index)
    if not len(seeds):
        return {}
    ours, theirs = group.loc[seeds], baseline.loc[seeds]
    difference = 100 * (ours["score"] - theirs["score"]).mean()
    bounds = stats.paired_interval(outcomes(list(ours["record"])), outcomes(list(theirs["record"])))
    # FLOPs are the same everywhere; seconds and memory are compared only where both ran on one machine.
    together = ours["run_device"] == theirs["run_device"]
    shares = {title: (ours[cost] / theirs[cost])[together | (cost == "flops")] for cost, title in COSTS.items()}
    ratios = {f"{title} / {tuning}": f"{share.mean():.3f}" for title, share in shares.items() if len(share)}
    return {f"points over {tuning}": _with_interval(difference, bounds and [100 * b for b in bounds], "+.1f")} | ratios


def _with_interval(value: float, bounds: Sequence[float] | None, form: str = ".3f") -> str:
    return f"{value:{form}}" + (f" [{bounds[0]:{form}}, {bounds[1]:{form}}]" if bounds else "")
