"""Figures: data and an `ax` in, the `ax` out. First those of one run, then those of many runs.

Colour and mark show the method, dashes its settings, so that a figure can be read without colour.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrtl_utils.files import absolute_path
from lrtl_utils.methods import METHODS
from lrtl_utils.study import curves, stats
from lrtl_utils.study.tables import COSTS, by_dataset_and_model, folders, metrics_of

_SAFE = sns.color_palette("colorblind")
_PALETTE = [*_SAFE[:6], _SAFE[9], _SAFE[7], (0.0, 0.0, 0.0)]  # without two that are faint on white and in grey
_MARKS = "XvosD^P*<h"  # one more than colours, so that pairs of the two differ for many methods
COLOURS = dict(zip(METHODS, itertools.cycle(_PALETTE), strict=False))
MARKS = dict(zip(METHODS, itertools.cycle(_MARKS), strict=False))
DASHES = ("--", ":", "-.")  # of settings other than a method's default
CERTAIN = 0.95  # of the bootstrap draws
LAYOUT = "constrained"  # of figures that compare runs; a run draws several, and it would double their time


def style() -> None:
    """Set the look of every figure, and show tables in full."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.85)
    pd.options.display.max_rows, pd.options.display.max_columns = 1000, 30
    plt.rcParams |= {"figure.dpi": 84, "savefig.dpi": 144}


def save(figure: Figure | None, results: str | Sequence[str], name: str) -> Figure | None:
    """Write the figure to `<results>/figures/<name>.png` and return it; the same numbers give the same bytes.

    Of several folders of results the first is used. Without a figure nothing is written.
    """
    if figure is None:
        return None
    folder = absolute_path(folders(results)[0]) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    return figure


# One run


def class_balance(targets: Sequence[int], classes: Sequence[str], ax: Axes) -> Axes:
    """How many examples each class has."""
    counts = np.bincount(np.asarray(targets), minlength=len(classes))
    ax.barh(list(classes), counts, color=_PALETTE[0])
    ax.invert_yaxis()
    ax.set(xlabel="labelled examples", title="Class balance")
    return ax


def text_lengths(lengths: Sequence[int], ax: Axes) -> Axes:
    """How many words the texts have, with the median."""
    ax.hist(lengths, bins="auto", color=_PALETTE[0])
    ax.axvline(np.median(lengths), color="black", linestyle="--", label=f"median {np.median(lengths):.0f}")
    ax.set(xlabel="words", ylabel="texts", title="Lengths")
    ax.legend()
    return ax


def tiles(images: Sequence[Any], titles: Sequence[str], ax: Axes, columns: int = 5) -> Axes:
    """The images in rows of `columns`, each with its title above, in one ax: an ax for each would be slow to draw."""
    from lrtl_utils.models.encoding import decode_image  # it imports torch, which no other figure needs

    rows = -(-len(images) // columns)
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        pixels = np.asarray(decode_image(image))
        y, x = divmod(i, columns)
        height, width = 0.8 * np.array(pixels.shape[:2]) / max(pixels.shape[:2])
        ax.imshow(pixels, extent=(x, x + width, y + height, y))
        ax.text(x + width / 2, y - 0.05, title, ha="center", fontsize=8)
    ax.set(xlim=(0, columns), ylim=(rows, -0.25))
    ax.set_axis_off()
    return ax


def learning_curve(curve: Sequence[dict[str, Any]], ax: Axes) -> Axes:
    """Loss on the training examples, and on the validation split if there is one, by epoch."""
    frame = pd.DataFrame(curve)
    for column, name, mark in (("loss", "train", "o"), ("validation_loss", "validation", "s")):
        if frame[column].notna().any():
            ax.plot(frame["epoch"], frame[column].astype(float), marker=mark, label=name)
    ax.set(xlabel="epoch", ylabel="loss (nats)", title="Learning curve", ylim=(0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)
    if ax.get_legend_handles_labels()[1]:
        ax.legend()
    return ax


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], ax: Axes) -> Axes:
    """Test examples by true class (rows) and predicted class (columns); where there is none the field is empty."""
    counts, ticks = np.asarray(matrix), {"xticklabels": classes, "yticklabels": classes}
    shown = np.where(counts, counts.astype(str), "")
    sns.heatmap(counts, annot=shown, fmt="", cmap="Blues", cbar=False, square=True, ax=ax, **ticks)
    ax.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    return ax


# Many runs


def single(table: pd.DataFrame, draw: Callable[..., Axes], **options: Any) -> Figure | None:
    """`draw(table, ax, **options)` in a figure of its own; None if the table is empty."""
    if table.empty:
        return None
    figure, ax = plt.subplots(figsize=(7.2, 3.6), layout=LAYOUT)
    draw(table, ax, **options)
    return figure


def panels(table: pd.DataFrame, draw: Callable[..., Axes], **options: Any) -> Figure | None:
    """`draw(part, ax, **options)` for each dataset × model, in one figure with one legend; None if there is none."""
    named = "dataset_model" in table
    parts = list(table.groupby("dataset_model", sort=False) if named else by_dataset_and_model(table))
    if not parts:
        return None
    columns = min(2, len(parts))
    rows = -(-len(parts) // columns)
    height = max(HEIGHTS[draw](part) for _, part in parts) if draw in HEIGHTS else 3.9
    figure, axes = plt.subplots(rows, columns, figsize=(5.4 * columns, height * rows), squeeze=False, layout=LAYOUT)
    for ax in axes.flat[len(parts) :]:
        ax.set_axis_off()
    handles: dict[str, Any] = {}
    for (title, part), ax in zip(parts, axes.flat, strict=False):
        draw(part.assign(dataset_model=title), ax, **options).set_title(title)
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(5, len(handles)))
    return figure


def score_vs_data(summary: pd.DataFrame, ax: Axes, needs: pd.DataFrame) -> Axes:
    """Test score against the number of labelled examples, a line for each configuration, with 95 % intervals.

    A configuration with four sizes or more has a power law fitted to it, drawn as a thin line up to the whole train
    split, where `needs` (from `tables.needs`) has its interval.
    """
    ends = needs.set_index(["dataset_model", "configuration"])
    extended = False
    for points, look in _configurations(summary):
        ax.plot(points["n_labels"], points["score"], **look)
        ax.fill_between(points["n_labels"], points["low"], points["high"], color=look["color"], alpha=0.15)
        if len(points) >= curves.LEAST_SIZES:
            extended = True
            sizes = np.geomspace(points["n_labels"].max(), points["full"].iloc[0])
            law = curves.fit(points["n_labels"], points["score"])
            ax.plot(sizes, law.score(sizes), color=look["color"], linewidth=0.8)
            end = ends.loc[summary["dataset_model"].iloc[0], points["configuration"].iloc[0]]
            if pd.notna(end["full_low"]):
                ax.vlines(end["full"], end["full_low"], end["full_high"], color=look["color"], linewidth=0.8)
    full = summary["full"].iloc[0]
    sizes = sorted({*summary["n_labels"], full} if extended else set(summary["n_labels"]))
    near = [False, *(size < 2 * before for before, size in itertools.pairwise(sizes))]  # their shares would overlap
    shares = ["" if left_out else _percent(size / full) for left_out, size in zip(near, sizes, strict=True)]
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size}\n{share}" for size, share in zip(sizes, shares, strict=True)], fontsize="small")
    ax.minorticks_off()
    ax.set(xlabel="labelled examples (below: share of the train split)", ylabel=f"test {summary['score_name'].iloc[0]}")
    return ax


def labels_needed(needs: pd.DataFrame, ax: Axes) -> Axes:
    """Labels needed for the target score, with intervals; marks are hollow if there are doubts.

    An arrow stands where the target is never reached.
    """
    for at, row in enumerate(needs.itertuples()):
        look = _look(row.configuration)
        if pd.notna(row.low) and np.isfinite(row.low):
            ax.hlines(at, row.low, min(row.high, row.full), color=look["color"])
        fill = "white" if row.doubts else look["color"]
        never = np.isinf(row.n_labels)
        mark = {"marker": "$→$" if never else look["marker"], "facecolors": look["color"] if never else fill}
        ax.scatter(min(row.n_labels, row.full), at, edgecolors=look["color"], s=75, zorder=3, **mark)
    ax.axvline(needs["full"].iloc[0], color="black", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(needs)), needs["variant"])
    ax.set_ylim(len(needs) - 0.5, -0.5)
    ax.set_xscale("log")
    ax.set_xlim(10 ** np.floor(np.log10(ax.get_xlim()[0])), None)  # a tick at least
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.minorticks_off()
    doubtful = "(hollow: unreliable; arrow: never; dotted: full data)"
    ax.set(xlabel=f"labels needed for {curves.SHARE:.0%} of the best {metrics_of(needs)}\n{doubtful}")
    return ax


def score_vs_cost(front: pd.DataFrame, ax: Axes, cost: str = "device_seconds", name: str | None = None) -> Axes:
    """Test score against cost, a line for each configuration; rings mark the Pareto front.

    A ring is dotted if fewer than 95 % of the bootstrap draws have the point on the front, or if seeds are too few.
    """
    for points, look in _configurations(front):
        ax.plot(points[cost], points["score"], **look | {"linewidth": 1})
        ax.vlines(points[cost], points["low"], points["high"], color=look["color"])
    certain = front["front_share"] >= CERTAIN
    for among, linestyle, label in ((certain, "-", "Pareto front"), (~certain, ":", "Pareto front, not sure")):
        ringed = front[front["on_front"] & among]
        at = ringed[cost], ringed["score"]
        ax.scatter(*at, s=110, facecolors="none", edgecolors="black", linestyle=linestyle, label=label)
    ax.set_xscale("log")
    ax.set(xlabel=name or COSTS[cost], ylabel=f"test {front['score_name'].iloc[0]}")
    return ax


def differences(table: pd.DataFrame, ax: Axes, baseline: str) -> Axes:
    """Paired differences in points with 95 % intervals, a row for each configuration and number of labels.

    Marks are hollow where nothing is decided. An empty row separates configurations; few labels are on top.
    """
    table = table.sort_values(["configuration", "n_labels"], ignore_index=True)
    rows = np.arange(len(table)) + table["configuration"].ne(table["configuration"].shift()).cumsum()
    for at, row in zip(rows, table.to_dict("records"), strict=True):
        look = _look(row["configuration"])
        if row["verdict"] != stats.TOO_FEW_SEEDS:
            ax.hlines(at, 100 * row["low"], 100 * row["high"], color=look["color"])
        fill = look["color"] if row["verdict"] in ("better", "worse") else "white"
        look = {"marker": look["marker"], "facecolors": fill, "edgecolors": look["color"]}
        ax.scatter(100 * row["mean"], at, s=22, zorder=3, **look)
    ax.axvline(0, color="black", linewidth=1)
    parts = table.assign(at=rows, sizes=table["n_labels"].astype(str)).groupby("configuration", sort=False)
    named = [f"{part['variant'].iloc[0]}: {', '.join(part['sizes'])}" for _, part in parts]
    ax.set_yticks(parts["at"].mean(), named, fontsize="x-small")
    ax.yaxis.grid(False)
    ax.set_ylim(rows.max() + 1, 0)
    ax.set(
        xlabel=f"points of {metrics_of(table)} over {baseline}\n(hollow: undecided)",
        ylabel="configuration: its numbers of labels, downwards",
    )
    return ax


def aggregate(table: pd.DataFrame, ax: Axes) -> Axes:
    """Interquartile mean over data sets of normalised scores against labels: 0 is `from_scratch`, 1 the best."""
    most = table["dataset_models"].max()
    for variant, points in table.groupby("variant"):
        look, count = _look(variant), points["dataset_models"].min()
        name = f"{variant} ({count} of {most} pairs)" if count < most else variant
        dashes = "-" if variant in COLOURS else DASHES[0]
        ax.plot(points["n_labels"], points["iqm"], label=name, linestyle=dashes, **look)
        ax.fill_between(points["n_labels"], points["low"], points["high"], color=look["color"], alpha=0.15)
    ax.set_xscale("log")
    sizes = sorted(table["n_labels"].unique())
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set(xlabel="labelled examples", ylabel=f"normalised {metrics_of(table)}\n(interquartile mean)")
    ax.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def main_effects(effects: pd.DataFrame) -> Figure | None:
    """Mean validation score at each value of each knob, with standard errors over settings; an ax for each knob."""
    if effects.empty:
        return None
    knobs = list(effects.groupby("knob", sort=False))
    size = (2.4 * len(knobs), 3.2)
    figure, axes = plt.subplots(1, len(knobs), figsize=size, sharey=True, squeeze=False, layout=LAYOUT)
    for ax, (knob, rows) in zip(axes.flat, knobs, strict=True):
        at = range(len(rows))
        ax.errorbar(at, rows["score"], yerr=rows["error"], marker="o", capsize=3, color="black")
        ax.set_xticks(at, [str(value) for value in rows["value"]])
        ax.set(xlabel=knob, title=f"{rows['share'].iloc[0]:.0%} of variance")
    axes.flat[0].set(ylabel=f"mean validation {metrics_of(effects)}")
    return figure


def interaction(pairs: pd.DataFrame, ax: Axes, settings: pd.DataFrame) -> Axes:
    """Mean validation score of the settings at every pair of values of the first two knobs in `pairs`."""
    first, second = pairs.iloc[0][["first", "second"]]
    means = settings.pivot_table(index=first, columns=second, values="score", observed=True)
    sns.heatmap(
        means,
        annot=True,
        fmt=".3f",
        cmap="cividis",
        cbar_kws={"label": f"mean validation {metrics_of(settings)}"},
        ax=ax,
    )
    return ax


def expected_best(budget: pd.DataFrame, ax: Axes) -> Axes:
    """Expected best validation score against the number of settings that are tried at random."""
    ax.plot(budget["trials"], budget["once"], color="black", label="each setting once")
    ax.plot(budget["trials"], budget["replacement"], color="grey", linestyle="--", label="with replacement")
    ax.set(xlabel="settings tried at random", ylabel=f"expected best validation {metrics_of(budget)}")
    seconds = budget["device_seconds"].iloc[0]
    if np.isfinite(seconds):
        above = ax.secondary_xaxis("top", functions=(lambda n: n * seconds, lambda s: s / seconds))
        above.set_xlabel("device seconds")
    ax.legend()
    return ax


def searches(table: pd.DataFrame, ax: Axes) -> Axes:
    """Share of the whole grid's device seconds that each search spent; a row for each sampler, a mark for each seed."""
    for at, (_, rows) in enumerate(table.groupby("sampler", sort=False)):
        ax.scatter(100 * rows["seconds_share"], [at] * len(rows), marker="o", facecolors="none", edgecolors="black")
        ax.scatter(100 * rows["seconds_share"].mean(), at, marker="D", color="black")
    names = list(table["sampler"].unique())
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="% of the whole grid's device seconds (diamond: mean)", xlim=(0, None), ylim=(len(names) - 0.5, -0.5))
    return ax


def warmups(table: pd.DataFrame, ax: Axes) -> Axes:
    """Warm-up asked for and used against the steps of the run; above the dashed line it is longer than the run."""
    ax.scatter(table["steps"], table["asked"], marker="x", color="black", label="asked")
    ax.scatter(table["steps"], table["used"], marker="o", facecolors="none", edgecolors="black", label="used")
    longest = max(table["steps"].max(), 1)
    ax.plot([0, longest], [0, longest], color="grey", linestyle="--", label="as long as the run")
    ax.set(xlabel="steps of the run", ylabel="warm-up steps")
    ax.legend()
    return ax


HEIGHTS: dict[Callable[..., Axes], Callable[[pd.DataFrame], float]] = {  # inches, if it has a line for each row
    labels_needed: lambda table: 1.2 + 0.19 * len(table),
    differences: lambda table: 1.2 + 0.1 * (len(table) + table["configuration"].nunique()),
}


def _configurations(summary: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    """The points of each configuration with their look: colour and mark show the method, dashes the settings."""
    for method, part in summary.groupby("method", sort=False):
        dashes = itertools.cycle(DASHES)
        for configuration, points in part.groupby("configuration"):
            look = _look(configuration) | {"label": points["variant"].iloc[0]}
            look |= {"linestyle": "-" if configuration == method else next(dashes)}
            yield points.sort_values("n_labels"), look


def _percent(share: float) -> str:
    return f"{float(f'{100 * share:.2g}'):g} %"


def _look(configuration: str) -> dict[str, Any]:
    """Colour and mark of a configuration, which begins with the method's name."""
    method = configuration.split(" ")[0]
    return {"color": COLOURS[method], "marker": MARKS[method]}
