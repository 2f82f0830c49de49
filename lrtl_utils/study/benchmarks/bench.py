"""The benchmark: every method against `conventional` at its tuned best, in one table of scores and ratios of cost."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrtl_utils.config import RunConfig
from lrtl_utils.errors import InputError
from lrtl_utils.files import write_text
from lrtl_utils.models.catalog import backbone
from lrtl_utils.runs import store
from lrtl_utils.study import answers, stats, tables
from lrtl_utils.study.tables import BASELINE, OURS

PLANNED = (1e-5, 3e-5, 5e-5)  # the rates of the original plan
TUNED = ("learning_rate", "epochs")
# What is tuned: the method, and the rates that count; None for all of its tuning grid.
TUNINGS = {"plan": (BASELINE, PLANNED), "wide": (BASELINE, None), "full": ("full", None)}
COSTS = {"flops": "FLOPs", "device_seconds": "seconds", "peak_memory_mib": "memory"}
AGAINST = {
    "plan": f"{BASELINE} (plan-tuned)",
    "wide": f"{BASELINE} (wide-tuned)",
    "full": "full (tuned)",
    OURS: OURS,
}
# The bar: with no more than this share of the FLOPs and seconds of each, `progressive` scores at least as high.
BAR = {"plan": 0.1, "wide": 0.2, "full": 0.5}
RUNG_ZERO = {"text": 1.3, "tokens": 1.5, "image": 1.3}  # at most so many times the seconds of one forward pass
SLACK = 1.1  # times the memory of `progressive` that can be accounted for
Runs = dict[str, pd.DataFrame]  # of each configuration, by its name, with seeds as index
Setting = tuple[dict[str, Any], Runs]  # data set and number of labels, and the runs there
Accounted = Callable[[list[dict[str, Any]]], list[float]]  # MiB that runs of `progressive` need beside the frozen model


def tuned(frame: pd.DataFrame) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """For each data set and model, what `TUNINGS` names at its best on validation splits: method, rate and epochs.

    Best is the highest mean validation score over the seeds, then the lowest mean loss. `frame` is from
    `tables.records`.
    """
    frame = _tuning_runs(frame).rename(columns={f"config.{name}": name for name in TUNED})
    if frame.empty:
        raise InputError("There are no tuning runs among the records; notebooks/grids/bench_tuning.yaml makes them.")
    judged = ["validation.score", "validation.loss"]
    best: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for (dataset, model, method), group in frame.groupby(["dataset", "model", "method"]):
        means = group.groupby(list(TUNED))[judged].mean().reset_index().sort_values(judged, ascending=[False, True])
        for name, (tuned_method, rates) in TUNINGS.items():
            rows = means[means["learning_rate"].isin(rates)] if rates else means
            if method == tuned_method and len(rows):
                setting = {"learning_rate": float(rows.iloc[0]["learning_rate"]), "epochs": int(rows.iloc[0]["epochs"])}
                best.setdefault((dataset, model), {})[name] = {"method": method} | setting
    return best


def _tuning_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of tuned methods that a validation split judged."""
    tuned_method = frame["method"].isin({method for method, _ in TUNINGS.values()})
    return frame[tuned_method & (frame["config.validation_share"] > 0)]


def tuned_grid(
    grid: Sequence[tuple[str, RunConfig]], settings: dict[tuple[str, str], Any]
) -> list[tuple[str, RunConfig]]:
    """The grid with tuned methods at their tuned settings, and without `conventional` where it was not tuned.

    A block of the grid runs seed by seed, so that the runs that are compared are close in time.
    """
    ordered = []
    for _, block in itertools.groupby(grid, key=lambda cell: (cell[1].dataset, cell[1].train_size)):
        for notebook, config in sorted(block, key=lambda cell: cell[1].seed):
            own = settings.get((config.dataset, config.model), {}).values()
            changes = [setting for setting in own if setting["method"] == config.method]
            if not changes and config.method != BASELINE:
                changes = [{}]
            ordered += [(notebook, config.model_copy(update=change)) for change in changes]
    return ordered


def by_setting(results: Path) -> list[Setting]:
    """Each data set and number of labels, with the runs of each configuration; a tuned method's by its tuning."""
    frame = tables.timed(tables.records(results, "completed"))
    reported = frame.drop(_tuning_runs(frame).index)
    settings = []
    for (dataset, model), tunings in tuned(frame).items():
        own = reported[(reported["dataset"] == dataset) & (reported["model"].isin([model, "none"]))]
        for n_labels, part in own.groupby("n_labels"):
            settings.append(({"data set": dataset, "labels": n_labels}, _by_configuration(part, tunings)))
    return settings


def _by_configuration(part: pd.DataFrame, tunings: dict[str, dict[str, Any]]) -> Runs:
    """The runs of each configuration: tuned methods by their tuning, `progressive` by the pieces left out."""
    found, others = {}, part[part["method"] != BASELINE]
    for name, setting in tunings.items():
        columns = {key if key == "method" else f"config.{key}": value for key, value in setting.items()}
        at = np.logical_and.reduce([part[column] == value for column, value in columns.items()])
        found[AGAINST[name]] = part[at]
        others = others.drop(part[at].index, errors="ignore")
    others = others.assign(without=others["config.without"].fillna(""))
    for (method, without, selection), group in others.groupby(["method", "without", "config.selection"]):
        left_out = f", without {without}" if without else ""
        found[method + left_out + (f", {selection}" if selection != "random" else "")] = group
    return {name: group.set_index("seed") for name, group in found.items() if len(group)}


def table(settings: Sequence[Setting]) -> pd.DataFrame:
    """A row for each data set, number of labels and configuration: score, differences and ratios to the baselines.

    Differences are paired, in points; differences and ratios are means over the seeds that both have.
    """
    return pd.DataFrame(about | row for about, runs in settings for row in _compared(runs))


def standing(settings: Sequence[Setting], accounted_mib: Accounted | None = None) -> pd.DataFrame:
    """A row for each bar of `progressive` in each setting: what it reached, and whether that meets the bar.

    Seconds and memory are judged if both ran on one machine, seconds also only if neither took any from a cache: for
    `timed` seeds. The bar is not met without any. Memory is judged with `accounted_mib` only.
    """
    rows = []
    for about, runs in settings:
        against = {name: AGAINST[name] for name in BAR if AGAINST[name] in runs}
        if OURS in runs and against:
            ours = runs[OURS]
            rows += [about | _standing(ours, runs[configuration], name) for name, configuration in against.items()]
            rows += [about | _memory(ours, runs["linear_probe"], accounted_mib)] if "linear_probe" in runs else []
    columns = ["data set", "labels", "against", "seeds", "timed", "points", "FLOPs", "seconds", "memory", "bar"]
    return pd.DataFrame(rows, columns=columns)


def write_table(results: Path, accounted_mib: Accounted | None = None) -> Path:
    """`<results>/table.md` and `table.csv`; returns the former."""
    settings = by_setting(results)
    frame = table(settings)
    frame.to_csv(results / "table.csv", index=False)
    path = results / "table.md"
    page = _page(frame, standing(settings, accounted_mib), store.machines(store.records(results)))
    if (timed := results / "rung_zero.csv").is_file():
        page += rung_zero_page(pd.read_csv(timed))
    write_text(path, page)
    return path


def _page(frame: pd.DataFrame, bars: pd.DataFrame, machines: Sequence[str]) -> str:
    """The tables as a page that names machine and versions."""
    shares = ", ".join(f"{share:g} of {AGAINST[name]}'s" for name, share in BAR.items())
    asked = f"`{OURS}` is to score at least as high at no more than {shares} FLOPs and device seconds, and in no"
    asked += (
        f" more memory than {SLACK:g} times linear_probe's peak, its cache, and what trained blocks and a batch hold."
    )
    margin = 100 * stats.MARGIN
    asked += f" As high is an interval of the difference that does not reach below -{margin:.1f} points."
    met = f"{asked} Met in {sum(bars['bar'] == 'met')} of {sum(bars['bar'] != '')}."
    about = ["# Benchmark", "", *(f"- {line}" for line in machines)]
    bars, frame = (each.fillna("").to_markdown(index=False, disable_numparse=True) for each in (bars, frame))
    return "\n".join([*about, "", "## The bar", "", met, "", bars, "", "## Every line", "", frame, ""])


def rung_zero_page(timed: pd.DataFrame) -> str:
    """The rows of `measured.rung_zero` beside their bars."""
    most = timed["model"].map(lambda name: RUNG_ZERO["tokens" if backbone(name).crf else backbone(name).kinds[0]])
    timed = timed.assign(bar=np.where(timed["share"] <= most, "met", "missed"))
    asked = ", ".join(f"{bar:g} times for {kind}" for kind, bar in RUNG_ZERO.items())
    about = f"Seconds of rung 0 over those of one forward pass over its rows, in turns; it is to take at most {asked}."
    return "\n".join(["", "## Rung 0", "", about, "", timed.to_markdown(index=False), ""])


def _compared(runs: Runs) -> list[dict[str, Any]]:
    rows = []
    for name, group in runs.items():
        bounds = stats.interval(stats.sample_of(group["outcome"]))
        between = f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""
        row = {"line": name, "seeds": len(group), "score": f"{group['score'].mean():.3f}{between}"}
        for title, baseline in AGAINST.items():
            row |= _against(group, runs[baseline], title) if baseline in runs and baseline != name else {}
        rows.append(row)
    if "linear_probe" in runs:  # no method that applies the model to the labelled data can need less
        forward = runs["linear_probe"]["record"].map(lambda record: record["cost"]["flops_by_phase"]["features"])
        row = {"line": "floor: one forward pass", "seeds": len(forward)}
        shares = {title: forward / runs[name]["cost.flops"] for title, name in AGAINST.items() if name in runs}
        rows.append(row | {f"FLOPs / {title}": f"{share.mean():.4f}" for title, share in shares.items()})
    return rows


def _against(group: pd.DataFrame, baseline: pd.DataFrame, tuning: str) -> dict[str, Any]:
    """Paired difference in points, and costs as shares of the baseline's, over the seeds that both have."""
    ours, theirs = _paired(group, baseline)
    if not len(ours):
        return {}
    ratios = {f"{title} / {tuning}": f"{share:.3f}" for title, share in _shares(ours, theirs).items()}
    return {f"points over {tuning}": answers.points(*_difference(ours, theirs)[:3])} | ratios


def _standing(group: pd.DataFrame, baseline: pd.DataFrame, tuning: str) -> dict[str, Any]:
    ours, theirs = _paired(group, baseline)
    spent = ours["cost.device_seconds"] / theirs["cost.device_seconds"]
    timed = spent[ours["device"] == theirs["device"]].notna().sum()
    row: dict[str, Any] = {"against": AGAINST[tuning], "seeds": len(ours), "timed": timed}
    if not len(ours):
        return row | {"bar": ""}
    found = _difference(ours, theirs)
    shares = {title: share for title, share in _shares(ours, theirs).items() if title != "memory"}
    missed = [] if found.low is not None and found.low >= -stats.MARGIN else ["score"]
    missed += [title for title, share in shares.items() if share > BAR[tuning]]
    missed += [] if timed else ["seconds, not timed on one machine"]
    row |= {"points": answers.points(*found[:3])} | {title: f"{share:.3f}" for title, share in shares.items()}
    return row | {"bar": f"missed: {'; '.join(missed)}" if missed else "met"}


def _memory(group: pd.DataFrame, probe: pd.DataFrame, accounted_mib: Accounted | None) -> dict[str, Any]:
    """The peak of `progressive` beside what accounts for it: the peak of the probe, and its own cache and training."""
    ours, theirs = _paired(group, probe)
    alike = ours["device"] == theirs["device"]
    row: dict[str, Any] = {"against": "memory accounted for", "seeds": len(ours), "timed": alike.sum(), "bar": ""}
    if accounted_mib is None or not alike.any():
        return row
    try:
        accounted = accounted_mib(list(ours["record"][alike]))
    except InputError:  # its data are not on this machine
        return row
    share = (ours["cost.peak_memory_mib"][alike] / (theirs["cost.peak_memory_mib"][alike] + accounted)).mean()
    return row | {"memory": f"{share:.3f}", "bar": "met" if share <= SLACK else "missed: memory"}


def _paired(group: pd.DataFrame, baseline: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both at the seeds that both have."""
    seeds = group.index.intersection(baseline.index)
    return group.loc[seeds], baseline.loc[seeds]


def _difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> stats.Difference:
    return stats.difference(*(stats.sample_of(each["outcome"]) for each in (ours, theirs)))


def _shares(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float]:
    """Costs as shares of theirs. FLOPs are the same everywhere; others count only if both ran on one machine."""
    together, shares = ours["device"] == theirs["device"], {}
    for cost, title in COSTS.items():
        share = (ours[f"cost.{cost}"] / theirs[f"cost.{cost}"])[together | (cost == "flops")].dropna()
        shares |= {title: share.mean()} if len(share) else {}
    return shares
