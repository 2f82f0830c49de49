"""Figures: a DataFrame and an `ax` in, the `ax` out. A method has the same colour and mark everywhere."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrtl_utils import stats
from lrtl_utils.answers import outcomes
from lrtl_utils.batches import decode_image
from lrtl_utils.config import InputError, RunConfig
from lrtl_utils.methods import METHODS
from lrtl_utils.runs import results_folder

_PALETTE = sns.color_palette("colorblind", len(METHODS))
COLOURS = dict(zip(METHODS, _PALETTE, strict=True))
MARKS = dict(zip(METHODS, "XvosD^P*<"[: len(METHODS)], strict=True))
DECIDED_BY_DATA = {"batch_size", "warmup_steps", "max_length"}  # clamped or left to a rule
COSTS = {
    "device_seconds": "device seconds",
    "gpu_hours": "device hours",
    "flops": "FLOPs",
    "peak_memory_mib": "peak memory (MiB)",
    "energy_wh": "energy (Wh)",
}


def style() -> None:
    """The look of every figure."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.85)
    plt.rcParams |= {"figure.dpi": 96, "savefig.dpi": 144, "figure.constrained_layout.use": True}


def class_balance(targets: Sequence[int], labels: Sequence[str], ax: Axes) -> Axes:
    """How many examples each class has."""
    counts = np.bincount(np.asarray(targets), minlength=len(labels))
    ax.barh(list(labels), counts, color=_PALETTE[0])
    ax.invert_yaxis()
    ax.set(xlabel="labelled examples", title="Class balance")
    return ax


def text_lengths(lengths: Sequence[int], ax: Axes) -> Axes:
    """How long the texts are, in words, with the median."""
    sns.histplot(x=np.asarray(lengths), ax=ax, color=_PALETTE[0], bins="auto")
    ax.axvline(np.median(lengths), color="black", linestyle="--", label=f"median {np.median(lengths):.0f}")
    ax.set(xlabel="words", ylabel="texts", title="Lengths")
    ax.legend()
    return ax


def tiles(images: Sequence[Any], titles: Sequence[str], axes: np.ndarray) -> np.ndarray:
    """One image an ax, with its label above."""
    for image, title, ax in zip(images, titles, axes.flat, strict=False):
        ax.imshow(decode_image(image))
        ax.set_title(title, fontsize=8)
    for ax in axes.flat:
        ax.set_axis_off()
    return axes


def learning_curve(curve: Sequence[dict[str, Any]], ax: Axes) -> Axes:
    """Loss on the training examples, and on the carve where there is one, by epoch."""
    frame = pd.DataFrame(curve)
    for column, name, mark in (("loss", "train", "o"), ("validation_loss", "validation", "s")):
        if frame[column].notna().any():
            ax.plot(frame["epoch"], frame[column].astype(float), marker=mark, label=name)
    ax.set(xlabel="epoch", ylabel="loss (nats)", title="Learning curve", ylim=(0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)
    if ax.get_legend_handles_labels()[1]:
        ax.legend()
    return ax


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], ax: Axes) -> Axes:
    """Test examples by true class (rows) and predicted class (columns)."""
    ticks = {"xticklabels": labels, "yticklabels": labels}
    sns.heatmap(np.asarray(matrix), annot=True, fmt="d", cmap="Blues", cbar=False, square=True, ax=ax, **ticks)
    ax.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    return ax


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, model, line and number of labels: mean score, its interval, mean cost, seeds.

    A line is a method, or where a method ran with several settings, the method with what tells them apart: runs of
    different settings are never averaged. `low` and `high` are NaN under three seeds.
    """
    keys = ["dataset", "model", "method", "line", "labels"]
    rows = []
    for values, group in [] if frame.empty else _with_lines(frame).groupby(keys, sort=True):
        bounds = stats.interval(*outcomes(list(group["record"]))) or (np.nan, np.nan)
        costs = {name: group[name].astype(float).mean() for name in COSTS}
        row = dict(zip(keys, values, strict=True)) | {"share": group["share"].mean(), "score": group["score"].mean()}
        score_name = group["score_name"].iloc[0]
        rows.append(row | {"low": bounds[0], "high": bounds[1], "seeds": len(group), "score_name": score_name} | costs)
    columns = [*keys, "share", "score", "low", "high", "seeds", "score_name", *COSTS]
    return pd.DataFrame(rows, columns=columns)


def _with_lines(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds `line`, and to the names of data sets that came from several sources, the source."""
    frame = frame.copy()
    sources = [record["data"]["source"]["sha256"][:6] for record in frame["record"]]
    several = frame.assign(source=sources).groupby("dataset")["source"].transform("nunique") > 1
    frame["dataset"] = [
        f"{d} {s}" if many else d for d, s, many in zip(frame["dataset"], sources, several, strict=True)
    ]
    settings = pd.Series([_settings(record["config"]) for record in frame["record"]], index=frame.index, dtype=object)
    frame["line"] = ""
    for (_, _, method), group in frame.groupby(["dataset", "model", "method"]):
        own = settings[group.index]
        differing = [name for name in own.iloc[0] if len({str(each[name]) for each in own}) > 1]
        for i, each in own.items():
            frame.loc[i, "line"] = ", ".join([method, *(f"{name}={each[name]}" for name in differing)])
    return frame


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """What must agree within a line: all but names, amount of data and seed; as asked, where the data decides."""
    apart = {"dataset", "model", "method", "data_fraction", "train_size", "shots", "seed", "asked"}
    as_asked = {name: config["asked"][name] for name in DECIDED_BY_DATA & set(config["asked"])}
    defaults = {name: field.default for name, field in RunConfig.model_fields.items()}  # a knob that came later
    return {name: value for name, value in (defaults | config | as_asked).items() if name not in apart}


def score_vs_data(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Test score against the number of labelled examples, a line a method, with 95 % intervals."""
    for points, look in _lines(summary):
        ax.plot(points["labels"], points["score"], **look)
        ax.fill_between(points["labels"], points["low"], points["high"], color=look["color"], alpha=0.15)
    share = summary.drop_duplicates("labels").sort_values("labels")
    ax.set_xscale("log")
    ax.set_xticks(share["labels"], [f"{n}\n{s:.3g}" for n, s in zip(share["labels"], share["share"], strict=True)])
    ax.minorticks_off()
    ax.set(xlabel="labelled examples (below: share of the train split)", ylabel=f"test {summary['score_name'].iloc[0]}")
    return ax


def score_vs_cost(summary: pd.DataFrame, ax: Axes, cost: str = "device_seconds") -> Axes:
    """Test score against cost, a line a method through its numbers of labels; rings mark the Pareto front."""
    for points, look in _lines(summary):
        ax.plot(points[cost], points["score"], linewidth=1, **look)
        ax.vlines(points[cost], points["low"], points["high"], color=look["color"])
    front = summary[stats.pareto_front(summary[cost], summary["score"])]
    ax.scatter(front[cost], front["score"], s=110, facecolors="none", edgecolors="black", label="Pareto front")
    ax.set_xscale("log")
    ax.set(xlabel=COSTS[cost], ylabel=f"test {summary['score_name'].iloc[0]}")
    return ax


def save(figure: Figure, results: str, name: str) -> Figure:
    """Keep the figure as `<results>/figures/<name>.png`, the same bytes for the same numbers; returns it."""
    folder = results_folder(results) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    return figure


def _lines(summary: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    """The points of each line with its look: colour and mark say the method, dashes the settings."""
    for method, part in summary.groupby("method", sort=False):
        for dashes, (line, points) in zip(itertools.cycle(("-", "--", ":", "-.")), part.groupby("line")):
            look = {"color": COLOURS[method], "marker": MARKS[method], "linestyle": dashes, "label": line}
            yield points.sort_values("labels"), look


def panels(summary: pd.DataFrame, draw: Any, **options: Any) -> Figure:
    """`draw(part, ax, **options)` for each data set and model, in one figure with one legend."""
    parts = list(_by_panel(summary))
    if not parts:
        raise InputError("There is no completed record in that folder of results; `make demo` shows how they are made.")
    columns = min(2, len(parts))
    rows = -(-len(parts) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5.4 * columns, 3.9 * rows), squeeze=False)
    for ax in axes.flat[len(parts) :]:
        ax.set_axis_off()
    handles: dict[str, Any] = {}
    for (title, part), ax in zip(parts, axes.flat, strict=False):
        draw(part, ax, **options).set_title(title)
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(6, len(handles)))
    return figure


def _by_panel(summary: pd.DataFrame) -> Any:
    """One part a data set and model; methods that need no model join every model's panel of their data set."""
    without = summary["model"] == "none"
    for dataset, part in summary.groupby("dataset", sort=False):
        shared = part[without.loc[part.index]]
        models = part[~without.loc[part.index]].groupby("model", sort=False)
        yield from ((f"{dataset} · {model}", pd.concat([own, shared])) for model, own in models)
        if not len(models):
            yield str(dataset), shared


def data_sentences(summary: pd.DataFrame) -> list[str]:
    """For each panel, what the figure shows of score against data, from its numbers."""
    return [_data_sentence(title, part) for title, part in _by_panel(summary)]


def cost_sentences(summary: pd.DataFrame, cost: str = "device_seconds") -> list[str]:
    """For each panel, what the best score costs beside the cheapest method's, from its numbers."""
    return [_cost_sentence(title, part, cost) for title, part in _by_panel(summary)]


def _data_sentence(title: str, part: pd.DataFrame) -> str:
    few, many = part["labels"].min(), part["labels"].max()
    best = {n: part[part["labels"] == n].nlargest(1, "score").iloc[0] for n in (few, many)}
    gained = best[many]["score"] - best[few]["score"]
    sure = "" if part["seeds"].min() >= stats.LEAST_SEEDS else " (too few seeds for an interval)"
    return (
        f"{title}: with {few} labels {best[few]['line']} is highest at {best[few]['score']:.3f}; with {many} labels "
        f"{best[many]['line']} at {best[many]['score']:.3f}, {100 * gained:+.1f} points{sure}."
    )


def _cost_sentence(title: str, part: pd.DataFrame, cost: str) -> str:
    top = part.nlargest(1, "score").iloc[0]
    cheap = part[part["labels"] == top["labels"]].nsmallest(1, cost).iloc[0]
    if cheap["method"] == top["method"]:
        return f"{title}: {top['line']} is both highest, at {top['score']:.3f}, and cheapest of its data size."
    return (
        f"{title}: the highest score, {top['score']:.3f} by {top['line']} with {top['labels']} labels, "
        f"costs {top[cost] / cheap[cost]:.1f} times the {COSTS[cost]} of {cheap['line']}, which reaches "
        f"{cheap['score']:.3f}."
    )
