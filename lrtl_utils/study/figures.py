"""Figures of many runs: a table and an `ax` in, the `ax` out; `panels` draws one ax a data set and model.

Colour and mark say the method, dashes its settings, so that a figure can be read in grey.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrtl_utils.study import curves
from lrtl_utils.study.plots import COLOURS, MARKS
from lrtl_utils.study.tables import COSTS, by_panel

DASHES = ("--", ":", "-.")  # of settings other than a method's own
SURE = 0.95


def single(table: pd.DataFrame, draw: Callable[..., Axes], **options: Any) -> Figure | None:
    """`draw(table, ax, **options)` in a figure of its own; None where the table is empty."""
    if table.empty:
        return None
    figure, ax = plt.subplots(figsize=(7.2, 3.6))
    draw(table, ax, **options)
    return figure


def panels(table: pd.DataFrame, draw: Callable[..., Axes], **options: Any) -> Figure | None:
    """`draw(part, ax, **options)` for each data set and model, in one figure with one legend; None without any."""
    parts = list(table.groupby("panel", sort=False) if "panel" in table else by_panel(table))
    if not parts:
        return None
    columns = min(2, len(parts))
    rows = -(-len(parts) // columns)
    height = max(HEIGHTS[draw](part) for _, part in parts) if draw in HEIGHTS else 3.9
    figure, axes = plt.subplots(rows, columns, figsize=(5.4 * columns, height * rows), squeeze=False)
    for ax in axes.flat[len(parts) :]:
        ax.set_axis_off()
    handles: dict[str, Any] = {}
    for (title, part), ax in zip(parts, axes.flat, strict=False):
        draw(part.assign(panel=title), ax, **options).set_title(title)
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(5, len(handles)))
    return figure


def score_vs_data(summary: pd.DataFrame, ax: Axes, needs: pd.DataFrame) -> Axes:
    """Test score against the number of labelled examples, a line a method, with 95 % intervals.

    Where a line has four sizes or more, the law fitted to it goes on, thin, to the whole train split, where `needs`, of
    `summaries.needs`, has its interval.
    """
    ends = needs.set_index(["panel", "line"])
    goes_on = False
    for points, look in _lines(summary):
        ax.plot(points["labels"], points["score"], **look)
        ax.fill_between(points["labels"], points["low"], points["high"], color=look["color"], alpha=0.15)
        if len(points) >= curves.LEAST_SIZES:
            goes_on = True
            sizes = np.geomspace(points["labels"].max(), points["full"].iloc[0])
            law = curves.fit(points["labels"], points["score"])
            ax.plot(sizes, law.score(sizes), color=look["color"], linewidth=0.8)
            end = ends.loc[summary["panel"].iloc[0], points["line"].iloc[0]]
            if pd.notna(end["full_low"]):
                ax.vlines(end["full"], end["full_low"], end["full_high"], color=look["color"], linewidth=0.8)
    full = summary["full"].iloc[0]
    sizes = sorted({*summary["labels"], full} if goes_on else set(summary["labels"]))
    near = [False, *(size < 2 * before for before, size in itertools.pairwise(sizes))]  # their shares would overlap
    shares = ["" if left_out else _percent(size / full) for left_out, size in zip(near, sizes, strict=True)]
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size}\n{share}" for size, share in zip(sizes, shares, strict=True)], fontsize="small")
    ax.minorticks_off()
    ax.set(xlabel="labelled examples (below: share of the train split)", ylabel=f"test {summary['score_name'].iloc[0]}")
    return ax


def labels_needed(needs: pd.DataFrame, ax: Axes) -> Axes:
    """Labels needed for 95 % of the score at full data, with intervals; hollow where the data cannot say."""
    for at, row in enumerate(needs.itertuples()):
        look = _look(row.line)
        if row.low is not None and not np.isnan(row.low):
            ax.hlines(at, row.low, row.high, color=look["color"])
        fill = "white" if row.doubts else look["color"]
        ax.scatter(row.labels, at, marker=look["marker"], facecolors=fill, edgecolors=look["color"], s=75, zorder=3)
    ax.axvline(needs["full"].iloc[0], color="black", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(needs)), needs["variant"])
    ax.set_ylim(len(needs) - 0.5, -0.5)
    ax.set_xscale("log")
    ax.set_xlim(10 ** np.floor(np.log10(ax.get_xlim()[0])), None)  # a tick at least
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.minorticks_off()
    ax.set(xlabel="labels needed (hollow: unreliable; dotted: full data)")
    return ax


def score_vs_cost(front: pd.DataFrame, ax: Axes, cost: str = "device_seconds", name: str | None = None) -> Axes:
    """Test score against cost, a line a method through its numbers of labels; rings mark the Pareto front.

    A ring is dotted where fewer than 95 % of bootstrap draws keep the point there, or too few seeds can say.
    """
    for points, look in _lines(front):
        ax.plot(points[cost], points["score"], **look | {"linewidth": 1})
        ax.vlines(points[cost], points["low"], points["high"], color=look["color"])
    sure = front["front_share"] >= SURE
    for among, linestyle, label in ((sure, "-", "Pareto front"), (~sure, ":", "Pareto front, not sure")):
        ringed = front[front["on_front"] & among]
        at = ringed[cost], ringed["score"]
        ax.scatter(*at, s=110, facecolors="none", edgecolors="black", linestyle=linestyle, label=label)
    ax.set_xscale("log")
    ax.set(xlabel=name or COSTS[cost], ylabel=f"test {front['score_name'].iloc[0]}")
    return ax


def differences(table: pd.DataFrame, ax: Axes, baseline: str) -> Axes:
    """Paired differences in points with 95 % intervals, a row a line and size; hollow where no more than a tie.

    Lines stand apart, each with its numbers of labels, from few at the top to many.
    """
    table = table.sort_values(["line", "labels"], ignore_index=True)
    rows = np.arange(len(table)) + table["line"].ne(table["line"].shift()).cumsum()  # an empty row before each line
    for at, row in zip(rows, table.to_dict("records"), strict=True):
        look = _look(row["line"])
        if row["verdict"] != "open":
            ax.hlines(at, 100 * row["low"], 100 * row["high"], color=look["color"])
        fill = look["color"] if row["verdict"] in ("better", "worse") else "white"
        look = {"marker": look["marker"], "facecolors": fill, "edgecolors": look["color"]}
        ax.scatter(100 * row["mean"], at, s=22, zorder=3, **look)
    ax.axvline(0, color="black", linewidth=1)
    lines = table.assign(at=rows, labels=table["labels"].astype(str)).groupby("line", sort=False)
    named = [f"{part['variant'].iloc[0]}: {', '.join(part['labels'])}" for _, part in lines]
    ax.set_yticks(lines["at"].mean(), named, fontsize="x-small")
    ax.yaxis.grid(False)
    ax.set_ylim(rows.max() + 1, 0)
    ax.set(xlabel=f"points over {baseline}\n(hollow: tie or open)", ylabel="line: its numbers of labels, downwards")
    return ax


def aggregate(table: pd.DataFrame, ax: Axes) -> Axes:
    """Interquartile mean over data sets of normalised scores against labels: 0 is `from_scratch`, 1 the best."""
    for line, points in table.groupby("variant"):
        look = _look(line)
        dashes = "-" if line in COLOURS else DASHES[0]
        fewer = points["panels"].min() < table["panels"].max()
        name = f"{line} ({points['panels'].min()} of {table['panels'].max()} panels)" if fewer else line
        ax.plot(points["labels"], points["iqm"], label=name, linestyle=dashes, **look)
        ax.fill_between(points["labels"], points["low"], points["high"], color=look["color"], alpha=0.15)
    ax.set_xscale("log")
    sizes = sorted(table["labels"].unique())
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set(xlabel="labelled examples", ylabel="normalised score (interquartile mean)")
    ax.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def main_effects(effects: pd.DataFrame) -> Figure | None:
    """Mean validation score at each value of each knob, an ax a knob, with standard errors over settings."""
    if effects.empty:
        return None
    knobs = list(effects.groupby("knob", sort=False))
    figure, axes = plt.subplots(1, len(knobs), figsize=(2.4 * len(knobs), 3.2), sharey=True, squeeze=False)
    for ax, (knob, rows) in zip(axes.flat, knobs, strict=True):
        at = range(len(rows))
        ax.errorbar(at, rows["score"], yerr=rows["error"], marker="o", capsize=3, color="black")
        ax.set_xticks(at, [str(value) for value in rows["value"]])
        ax.set(xlabel=knob, title=f"{rows['share'].iloc[0]:.0%} of variance")
    axes.flat[0].set(ylabel="mean validation score")
    return figure


def interaction(pairs: pd.DataFrame, ax: Axes, settings: pd.DataFrame) -> Axes:
    """Mean validation score of the settings at every pair of values of the two knobs that stand first in `pairs`."""
    first, second = pairs.iloc[0][["first", "second"]]
    means = settings.pivot_table(index=first, columns=second, values="score", observed=True)
    sns.heatmap(means, annot=True, fmt=".3f", cmap="cividis", cbar_kws={"label": "mean validation score"}, ax=ax)
    return ax


def expected_best(budget: pd.DataFrame, ax: Axes) -> Axes:
    """Expected best validation score against the number of settings tried, at random."""
    ax.plot(budget["trials"], budget["once"], color="black", label="each setting once")
    ax.plot(budget["trials"], budget["replacement"], color="grey", linestyle="--", label="with replacement")
    ax.set(xlabel="settings tried at random", ylabel="expected best validation score")
    seconds = budget["device_seconds"].iloc[0]
    above = ax.secondary_xaxis("top", functions=(lambda n: n * seconds, lambda s: s / seconds))
    above.set_xlabel("device seconds")
    ax.legend()
    return ax


def searches(table: pd.DataFrame, ax: Axes) -> Axes:
    """Share of the whole grid's device seconds that each search spent, a row a sampler, a mark a search seed."""
    for at, (_, rows) in enumerate(table.groupby("sampler", sort=False)):
        ax.scatter(100 * rows["seconds_share"], [at] * len(rows), marker="o", facecolors="none", edgecolors="black")
        ax.scatter(100 * rows["seconds_share"].mean(), at, marker="D", color="black")
    names = list(table["sampler"].unique())
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="% of the whole grid's device seconds (diamond: mean)", xlim=(0, None), ylim=(len(names) - 0.5, -0.5))
    return ax


def warmups(table: pd.DataFrame, ax: Axes) -> Axes:
    """Warm-up asked for and used against the steps of the run; above the line, a warm-up is longer than its run."""
    ax.scatter(table["steps"], table["asked"], marker="x", color="black", label="asked")
    ax.scatter(table["steps"], table["used"], marker="o", facecolors="none", edgecolors="black", label="used")
    longest = max(table["steps"].max(), 1)
    ax.plot([0, longest], [0, longest], color="grey", linestyle="--", label="as long as the run")
    ax.set(xlabel="steps of the run", ylabel="warm-up steps")
    ax.legend()
    return ax


HEIGHTS: dict[Callable[..., Axes], Callable[[pd.DataFrame], float]] = {  # inches of a panel with a row for each entry
    labels_needed: lambda table: 1.2 + 0.19 * len(table),
    differences: lambda table: 1.2 + 0.1 * (len(table) + table["line"].nunique()),
}


def _lines(summary: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    """The points of each line with its look: colour and mark say the method, dashes the settings."""
    for method, part in summary.groupby("method", sort=False):
        dashes = itertools.cycle(DASHES)
        for line, points in part.groupby("line"):
            look = _look(line) | {"label": points["variant"].iloc[0]}
            look |= {"linestyle": "-" if line == method else next(dashes)}
            yield points.sort_values("labels"), look


def _percent(share: float) -> str:
    return f"{float(f'{100 * share:.2g}'):g} %"


def _look(line: str) -> dict[str, Any]:
    """Colour and mark of a line, which begins with its method's name."""
    method = line.split(" ")[0]
    return {"color": COLOURS[method], "marker": MARKS[method]}
