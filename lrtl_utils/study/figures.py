"""Figures: first those of one run, data and an `ax` in and the `ax` out; then those of many runs, from their tables.

Those of many runs are as wide as a README shows them, so that their text has nine points or more there. Their title is
a claim from `answers`. Marks and names say which method is meant, so that they can be read without colour.
"""

import itertools
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, LogLocator

from lrtl_utils.errors import counted
from lrtl_utils.files import absolute_path
from lrtl_utils.methods import METHODS
from lrtl_utils.study import answers, curves, stats, tables

_SAFE = sns.color_palette("colorblind")
# Without two that are faint on white and in grey; those of `NAMED` differ in grey too.
_PALETTE = [*(_SAFE[at] for at in (2, 1, 0, 3, 4, 5, 9, 7)), (0.0, 0.0, 0.0)]
_MARKS = "XvosD^P*ph"  # one more than colours, so that pairs of the two differ for many methods
COLOURS = dict(zip(METHODS, itertools.cycle(_PALETTE), strict=False))
MARKS = dict(zip(METHODS, itertools.cycle(_MARKS), strict=False))
NAMED = (tables.OURS, "full", tables.BASELINE, "linear_probe")  # have colours and names where there are many others
GREY = "0.7"  # of other methods
LEADER = {"arrowstyle": "-", "color": "0.55", "linewidth": 0.6}  # from a name to what it names
LONGEST = 30  # letters of a name beside which there is room for two data sets in a row
WIDEST_NOTE = 50  # letters in a line of a note below one of these
LONGEST_TITLE = 40  # letters of a title of one of these, with room for a target
NEAR = 0.25  # of the height of the named lines: others are drawn down to so far below them
MOST_NAMED = 40  # classes of a confusion matrix: more make a picture that no screen shows
STRENGTHS = (0.1, 0.4)  # of a difference: from here to there its colour grows, so that a decided one is never grey
WIDTH = 8.6  # inches: 826 pixels of a screen with 96 to the inch; a README shows it with 800
LINE = 0.18  # inches that a line of notes below an axis needs
NOTE = 9.35  # points: 9 on the screen of a README, like the smallest of the other texts


def style() -> None:
    """Set the look of every figure, and show tables in full."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.85)
    pd.options.display.max_rows, pd.options.display.max_columns = 1000, 30
    plt.rcParams |= {"figure.dpi": 84, "savefig.dpi": 144}


def save(figure: Figure | None, results: str | Sequence[str], name: str) -> Figure | None:
    """Write the figure to `<results>/figures/<name>.png` and return it; the same numbers give the same bytes.

    Of several folders of results the first is used. Without a figure nothing is written, and an earlier one is deleted.
    """
    path = absolute_path(tables.folders(results)[0]) / "figures" / f"{name}.png"
    if figure is None:
        path.unlink(missing_ok=True)
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return figure


# One run


def _plain(names: Sequence[str]) -> list[str]:
    """Names that users gave, as they are: what stands between two dollars would be drawn as a formula."""
    return [name.replace("$", r"\$") for name in names]


def class_balance(targets: Sequence[int], classes: Sequence[str], ax: Axes) -> Axes:
    """How many examples each class has."""
    counts = np.bincount(np.asarray(targets), minlength=len(classes))
    ax.barh(range(len(classes)), counts, color=_SAFE[0])
    few = len(classes) <= MOST_NAMED
    ax.set_yticks(range(len(classes)) if few else [], _plain(classes) if few else [])
    ax.invert_yaxis()
    ax.set(xlabel="examples to train on", title="Class balance")
    return ax


def text_lengths(lengths: Sequence[int], ax: Axes) -> Axes:
    """How many words the texts have, with the median."""
    ax.hist(lengths, bins="auto", color=_SAFE[0], histtype="stepfilled")  # one shape, however long the longest is
    ax.axvline(np.median(lengths), color="black", linestyle="--", label=f"median {np.median(lengths):.0f}")
    ax.set(xlabel="words", ylabel="texts", title="Lengths")
    ax.legend()
    return ax


def tiles(images: Sequence[Any], titles: Sequence[str], ax: Axes, columns: int = 5) -> Axes:
    """The images in rows of `columns`, each with its title above, in one ax: an ax for each would be slow to draw."""
    from lrtl_utils.models.encoding import UNDECODABLE, decode_image  # it imports torch, which no other figure needs

    rows = -(-len(images) // columns)
    for i, (image, title) in enumerate(zip(images, _plain(titles), strict=True)):
        try:
            pixels = np.asarray(decode_image(image))
        except UNDECODABLE:  # a run that reads it says so
            continue
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
    """Test examples by true class (rows) and predicted class (columns); where there is none the field is empty.

    With more than `MOST_NAMED` classes there are colours alone.
    """
    counts, few = np.asarray(matrix), len(classes) <= MOST_NAMED
    ticks = dict.fromkeys(("xticklabels", "yticklabels"), _plain(classes) if few else False)
    shown = np.where(counts, counts.astype(str), "") if few else False
    sns.heatmap(counts, annot=shown, fmt="", cmap="Blues", cbar=False, square=True, ax=ax, **ticks)
    ax.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    return ax


# Many runs


def headline(gains: pd.DataFrame) -> Figure | None:
    """A row for each row of `tables.gains`: the gain over the tuned baseline, and the share of its cost."""
    if gains.empty:
        return None
    rows, at = gains.iloc[::-1], np.arange(len(gains))
    figure, (left, right) = _subplots(1.7 + 0.3 * len(gains), 2, 2, sharey=True, width_ratios=(3, 2))
    left.hlines(at, 100 * rows["low"].astype(float), 100 * rows["high"].astype(float), color="black")
    fill = np.where(rows["verdict"].isin(answers.DECIDED), "black", "white")
    left.scatter(100 * rows["mean"], at, color=fill, edgecolors="black", s=50, zorder=3)
    left.axvline(0, color="black", linewidth=1)
    sizes = [f", {n} labels" if gains["n_labels"].nunique() > 1 else "" for n in rows["n_labels"]]
    left.set_yticks(at, [tables.titled(name) + size for name, size in zip(rows["dataset_model"], sizes, strict=True)])
    left.set(xlabel=f"points of {tables.metrics_of(gains)}\nover {tables.TUNED}", ylim=(-0.6, len(gains) - 0.4))
    for column, name, look in (
        ("flops_ratio", "FLOPs", {"marker": "D", "color": "black", "s": 50}),
        ("seconds_ratio", "time", {"marker": "x", "color": _SAFE[1], "s": 70, "linewidths": 2.5}),
    ):
        if rows[column].notna().any():
            right.scatter(rows[column], at, zorder=3, label=name, **look)
    right.axvline(1, color="black", linewidth=1)
    right.margins(x=0.06)
    right.set(xscale="log", xlabel=f"cost of {tables.OURS},\nas a share of that of\n{tables.TUNED}")
    _ticks(right, "{x:g}")
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    note = "Left: differences with 95% intervals; a hollow mark is undecided. Right: time is shown only where the "
    note += "runs of three pairs had one machine and began within an hour of each other. Each data set and model is "
    note += "shown with one number of labels."
    return _finished(figure, answers.claim_gains(gains), note)


def score_vs_data(summary: pd.DataFrame, needs: pd.DataFrame, best: pd.DataFrame, claim: str = "") -> Figure | None:
    """Test score against the number of labelled examples, for each dataset × model; the tables are from `tables`.

    A curve goes on to the whole train split, with the interval that `needs` has there, if it passes through its marks.
    The claim is `answers.claim_labels`; without one it is that of `best`.
    """
    figure = _each_data_set(summary, _score_vs_data, 2.7, needs=needs)
    note = _others([_near(tables.with_enough_seeds(part)) for _, part in tables.by_dataset_and_model(summary)])
    note += "Bands and bars are 95% intervals. " if summary["low"].notna().any() else ""
    if figure and any(line.get_linestyle() == ":" for ax in figure.axes for line in ax.get_lines()):
        note += f"A dotted curve is a power law that comes within {100 * curves.MOST_MISSED:g} points of each of its "
        note += "marks; beyond the last mark it is a guess."
    return figure and _finished(figure, claim or answers.claim_best(best), note)


def _score_vs_data(summary: pd.DataFrame, ax: Axes, needs: pd.DataFrame) -> None:
    ends = needs[needs["dataset_model"] == summary["dataset_model"].iloc[0]].set_index("variant")
    names, marks = [], set(summary["n_labels"])
    enough = tables.with_enough_seeds(summary)
    near = _near(enough)
    aside = [
        f"not drawn: {variant}, {answers.span(points['score'], '{:.3f}'.format)} with "
        f"{answers.span(points['n_labels'], '{:,}'.format)} labels"
        for variant, points in enough.drop(near.index).groupby("variant")
    ]
    aside += _too_few(summary)
    for variant, points in _lines(near, ax):
        colour, sizes, scores = _look(variant)["color"], points["n_labels"].tolist(), points["score"].tolist()
        end = sizes[-1], scores[-1]
        law = curves.fit(sizes, scores) if len(sizes) >= curves.LEAST_SIZES else None
        if law and np.abs(law.score(np.array(sizes)) - scores).max() <= curves.MOST_MISSED:
            drawn = np.geomspace(sizes[0], points["full"].iloc[0])
            ax.plot(drawn, law.score(drawn), color=colour, linestyle=":", linewidth=1.2)
            if pd.notna(ends.loc[variant, "full_low"]):
                ax.vlines(drawn[-1], *ends.loc[variant, ["full_low", "full_high"]], color=colour)
            end = drawn[-1], law.score(drawn[-1])
            marks.add(points["full"].iloc[0])
        names.append((variant, *end))
    _of_labels(ax, marks)
    _below(ax, ax.get_xlabel(), aside)
    ax.set_ylabel(f"test {summary['score_name'].iloc[0]}")
    _name_ends(ax, names)


def _near(summary: pd.DataFrame) -> pd.DataFrame:
    """What is not so far below the named lines that these would share the top of the picture."""
    named = summary[summary["variant"].isin(_named(summary))]
    lowest, highest = named[["low", "score"]].min().min(), named["score"].max()
    return summary[summary["score"] >= lowest - NEAR * (highest - lowest)]


def labels_needed(needs: pd.DataFrame) -> Figure | None:
    """The labels that reach the target of each dataset × model, by the curves of `tables.needs` without a doubt."""
    sure = needs[needs["doubts"].map(len) == 0]
    figure = _each_data_set(sure, _labels_needed, 1.0 + 0.22 * _most_rows(sure))
    note = f"The target is {curves.SHARE:.0%} of the highest {tables.metrics_of(needs)} at the largest size. "
    note += "Bars are the middle 95% of bootstrap draws. "
    note += "An arrow means that even all labels do not reach it. " if (sure["n_labels"] == np.inf).any() else ""
    note += "A hollow mark means more labels than its method ran with. " if _beyond(sure).any() else ""
    if left := len(needs) - len(sure):
        note += f"Left out: {counted(left, 'curve')} that cannot be relied on."
    return figure and _finished(figure, answers.claim_needs(sure), note)


def _beyond(needs: pd.DataFrame) -> pd.Series:
    """Whether a curve reaches the target, but with more labels than its last mark has."""
    return needs["n_labels"].between(needs["sizes"].map(max), np.inf, inclusive="neither")


def _labels_needed(needs: pd.DataFrame, ax: Axes) -> None:
    rows, full = needs.sort_values("n_labels", ascending=False, kind="stable"), needs["full"].iloc[0]
    for at, row in enumerate(rows.assign(beyond=_beyond(rows)).itertuples()):
        look = _look(row.variant)
        if np.isinf(row.n_labels):
            look["marker"] = "$→$"
        else:
            ax.hlines(at, row.low, row.high, color=look["color"])
        fill = "white" if row.beyond else look["color"]
        ax.scatter(min(row.n_labels, full), at, s=60, zorder=3, facecolor=fill, **look)
    ax.set_yticks(range(len(rows)), rows["variant"])
    ax.set(ylim=(-0.6, len(rows) - 0.4))
    ax.set_title(f"{tables.titled(needs['dataset_model'].iloc[0])}: target {needs['target'].iloc[0]:.3f}", loc="left")
    _of_labels(ax, {*(10**power for power in range(1, 7) if 2 * 10**power < full), full})
    ax.set_xlim(min(10, *rows["low"], *rows["n_labels"]), 1.3 * full)


def score_vs_cost(front: pd.DataFrame, best: pd.DataFrame, cost: str) -> Figure | None:
    """Test score against a cost, a named point for each method, at one size; `front` and `best` are from `tables`."""
    figure = _each_data_set(front, _score_vs_cost, 3.3, cost=cost)
    note = "Bars are 95% intervals. " if front["low"].notna().any() else ""
    note += "The steps are the Pareto front: nothing is both cheaper and better. Of each "
    note += "method there is one setting: the best configuration, or else the tuned one if there is one."
    if cost == "device_seconds":  # of several machines and hours, so that no two are compared
        note += " Seconds are those of the machine that a run had; a device hour has 3,600."
        return figure and _finished(figure, answers.claim_spent(front, best, cost), note)
    return figure and _finished(figure, answers.claim_cost(front, best, cost), note)


def _score_vs_cost(front: pd.DataFrame, ax: Axes, cost: str) -> None:
    enough = tables.with_enough_seeds(front)
    far = enough["method"].isin(("tfidf", "from_scratch"))  # so cheap or so low that the others would share a corner
    shown = enough if far.all() else enough[~far]
    brief = partial(answers.short, digits=2)
    form, amount = (EngFormatter(), EngFormatter(places=1)) if cost == "flops" else ("{x:g}", brief)
    unit = "s" if cost == "device_seconds" else tables.COSTS[cost]
    aside = [
        f"not drawn: {row['variant']}, {row['score']:.3f} at {amount(row[cost])} {unit}"
        for row in enough[far & ~far.all()].to_dict("records")
    ]
    aside += _too_few(front)
    aside += [f"not measured: {names}" for names in front["unmeasured"].unique() if names]
    steps = shown[shown["on_front"]].sort_values(cost)
    places = [*steps[cost], shown[cost].max()], [*steps["score"], steps["score"].max()]
    ax.step(*places, where="post", color="0.5", linewidth=1, zorder=1)
    for row in shown.to_dict("records"):
        look = _look(row["variant"])
        ax.vlines(row[cost], row["low"], row["high"], color=look["color"], linewidth=1)
        ax.scatter(row[cost], row["score"], s=45, zorder=3, **look)
        dark = [0.7 * part for part in to_rgb(look["color"])]
        ax.text(row[cost], row["score"], row["variant"].replace(" (", "\n("), color=dark, gid=_NAME, in_layout=False)
    ax.margins(0.15, 0.3)
    ax.set_xscale("log")
    _below(ax, _with_labels(front, cost), aside)
    ax.set_ylabel(f"test {front['score_name'].iloc[0]}")
    _ticks(ax, form)


def memory(front: pd.DataFrame, best: pd.DataFrame) -> Figure | None:
    """The peak memory of one configuration of each method, at one size; `front` and `best` are from `tables`."""
    figure = _each_data_set(front, _memory, 1.0 + 0.22 * _most_rows(front), best=best)
    note = "On a CPU, it is the memory beyond what the process used when the clock started. A black bar is "
    note += "that of the best configuration."
    return figure and _finished(figure, answers.claim_spent(front, best, "peak_memory_mib"), note)


def _memory(front: pd.DataFrame, ax: Axes, best: pd.DataFrame) -> None:
    rows = tables.with_enough_seeds(front).sort_values("peak_memory_mib", ascending=False)
    known = best[best["compared"] > 0].set_index("dataset_model")["configuration"]
    top = known.get(front["dataset_model"].iloc[0])
    colours = ["black" if name == top else _SAFE[0] for name in rows["configuration"]]
    ax.bar_label(ax.barh(rows["variant"], rows["peak_memory_mib"], color=colours), fmt="{:,.0f}", padding=2)
    ax.margins(x=0.25)
    ax.grid(visible=False)  # a line would cross a number
    _below(ax, _with_labels(front, "peak_memory_mib"), _too_few(front))


def differences(table: pd.DataFrame, baseline: str) -> Figure | None:
    """Paired differences of `tables.differences` in points: a cell for each configuration and number of labels."""
    few = table["verdict"] == stats.TOO_FEW_SEEDS
    drawn = table[table["dataset_model"].isin(table["dataset_model"][~few])]
    figure = _each_data_set(drawn, _differences, 0.9 + 0.24 * _most_rows(drawn))
    note = f"Points of {tables.metrics_of(table)} over {baseline}, paired by seed and test example: blue is better, "
    note += "red is worse, grey and in brackets is undecided (the table has the intervals)."
    note += " Where a cell is blank, the two share fewer than three seeds." if few[drawn.index].any() else ""
    return figure and _finished(figure, answers.claim_differences(table, baseline), note)


def _differences(table: pd.DataFrame, ax: Axes) -> None:
    decided, few = table["verdict"].isin(answers.DECIDED), table["verdict"] == stats.TOO_FEW_SEEDS
    strength = table["mean"].abs().clip(*STRENGTHS) * np.sign(table["mean"])
    points = table["mean"].map(answers.signed)
    colour = strength.where(decided, 0).mask(few)  # without a colour a cell is blank
    table = table.assign(colour=colour, points=points.where(decided, "(" + points + ")"))
    places = {method: place for place, method in enumerate(METHODS)}
    order = sorted(set(table["variant"]), key=lambda variant: (places.get(_method(variant), len(places)), variant))
    cells = table.pivot(index="variant", columns="n_labels").loc[order]
    look = {"cmap": "coolwarm_r", "vmin": -STRENGTHS[1], "vmax": STRENGTHS[1], "linewidths": 1, "cbar": False}
    sns.heatmap(cells["colour"], annot=cells["points"], fmt="", ax=ax, **look)
    ax.grid(visible=False)
    ax.set(xlabel="labelled examples", ylabel="")
    ax.tick_params(axis="y", rotation=0)


def aggregate(table: pd.DataFrame) -> Figure | None:
    """Interquartile mean over data sets of normalised scores against labels: 0 is `from_scratch`, 1 the best.

    At each size, only variants that ran on all of its data sets are drawn; None with fewer than two sizes.
    """
    table = table[table["dataset_models"] == table.groupby("n_labels")["dataset_models"].transform("max")]
    if table["n_labels"].nunique() < 2:
        return None
    table = table.assign(method=table["variant"].map(_method), configuration=table["variant"], score=table["iqm"])
    figure, (ax,) = _subplots(3.8)
    names = [(variant, *points[["n_labels", "score"]].iloc[-1]) for variant, points in _lines(table, ax)]
    _of_labels(ax, set(table["n_labels"]))
    ax.set_ylabel(f"normalised {tables.metrics_of(table)}\n(interquartile mean)")
    _name_ends(ax, names)
    pairs = table.groupby("n_labels")["dataset_models"].max()
    over = ", ".join(f"{count} with {n_labels} labels" for n_labels, count in pairs.items())
    note = "0 is from_scratch and 1 the best of each pair of data set and model. Bands are 95% intervals. "
    note += f"Pairs: {over}."
    return _finished(figure, answers.claim_aggregate(table), f"{_others([table])}{note}")


def main_effects(effects: pd.DataFrame) -> Figure | None:
    """From `effects.main_effects`, the mean validation score at each value of each knob, the strongest knob first."""
    if effects.empty:
        return None
    knobs = list(effects.groupby("knob", sort=False))
    columns = min(5, len(knobs))
    figure, axes = _subplots(1.2 + 2.4 * -(-len(knobs) // columns), len(knobs), columns, sharey=True)
    for ax, (knob, values) in zip(axes, knobs, strict=True):
        at = np.arange(len(values))
        ax.errorbar(at, values["score"], yerr=values["high"] - values["score"], color="black", capsize=3, linewidth=1)
        ax.scatter(at, values["score"], color=np.where(values["best"], "black", "white"), edgecolors="black", zorder=3)
        ax.set_xticks(at, [str(value) for value in values["value"]])
        ax.margins(x=0.2)
        edge = "\nbest at the edge" if values["at_edge"].any() else ""
        ax.set_title(f"{knob}\n{answers.share(values['share'].iloc[0])} of variance{edge}")
    figure.supylabel(f"mean validation {tables.metrics_of(effects)}", fontsize="medium")
    note = "Bars are 95% intervals over settings; the best value is filled."
    note += " Where it is at the edge of the grid, a better one may lie beyond." if effects["at_edge"].any() else ""
    return _finished(figure, answers.claim_effects(effects), note)


def interaction(pairs: pd.DataFrame, settings: pd.DataFrame) -> Figure | None:
    """Mean validation score of the settings at every pair of values of the first two knobs in `pairs`."""
    if pairs.empty:
        return None
    first, second = pairs.iloc[0][["first", "second"]]
    means = settings.groupby([first, second], dropna=False)["score"].mean().unstack()
    for axis in (0, 1):
        means = means.rename(lambda value: "None" if pd.isna(value) else value, axis=axis)
    figure, (ax,) = _subplots(1.4 + 0.4 * len(means))
    light = sns.light_palette(_SAFE[9], as_cmap=True)  # so that dark numbers can be read on each of its colours
    sns.heatmap(means, annot=True, annot_kws={"color": "black"}, fmt=".3f", cmap=light, cbar=False, ax=ax)
    ax.tick_params(axis="y", rotation=0)
    note = f"A cell is the mean validation {tables.metrics_of(settings)} of all settings with these two values."
    return _finished(figure, answers.interaction(settings, pairs)[0], note)


def expected_best(budget: pd.DataFrame) -> Figure | None:
    """Expected best validation score against the number of settings that are tried at random."""
    if budget.empty:
        return None
    figure, (ax,) = _subplots(3.4)
    ax.plot(budget["trials"], budget["expected"], color="black")
    ax.set(xlabel="settings tried at random", ylabel=f"expected best validation {tables.metrics_of(budget)}")
    seconds = budget["device_seconds"].iloc[0]
    if np.isfinite(seconds):
        above = ax.secondary_xaxis("top", functions=(lambda n: n * seconds, lambda s: s / seconds))
        above.set_xlabel("device seconds")
    return _finished(figure, answers.expected_best(budget)[0])


def searches(table: pd.DataFrame) -> Figure | None:
    """Share of the whole grid's device seconds that each search spent; a row for each sampler, a mark for each seed."""
    known = table.dropna(subset="seconds_share")
    if known.empty:
        return None
    names = list(known["sampler"].unique())
    figure, (ax,) = _subplots(1.6 + 0.35 * len(names))
    for at, (_, rows) in enumerate(known.groupby("sampler", sort=False)):
        ax.scatter(100 * rows["seconds_share"], [at] * len(rows), facecolors="none", edgecolors="black")
        ax.scatter(100 * rows["seconds_share"].mean(), at, marker="D", color="black")
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("% of the whole grid's device seconds, until within half a point of its best setting")
    ax.set(xlim=(0, None), ylim=(len(names) - 0.5, -0.5))
    note = "A ring is a seed of the search, a diamond the mean of them."
    return _finished(figure, answers.claim_searches(known), note)


# What these share

_NAME = "name"  # marks the texts that find their places when the layout is known
_MARK = 4  # pixels from the middle of a mark to its edge
_APART = 3  # pixels at least around a name
_OWN = 30  # pixels that a name is moved further, at most, if it is then nearer to its own mark than to the others


def _subplots(height: float, count: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of that height in inches, and its axes, which stand in rows of `columns`."""
    size = {"figsize": (WIDTH, height), "squeeze": False}
    figure, axes = plt.subplots(-(-count // columns), columns, **size, **options)
    for ax in axes.flatten()[count:]:
        ax.set_axis_off()
    return figure, axes.flatten()[:count]


def _each_data_set(table: pd.DataFrame, draw: Callable[..., None], height: float, **options: Any) -> Figure | None:
    """`draw(part, ax, **options)` for each dataset × model, in rows of that height; None if there is none."""
    named = "dataset_model" in table
    parts = list(table.groupby("dataset_model", sort=False) if named else tables.by_dataset_and_model(table))
    if not parts:
        return None
    longest, widest = table["variant"].map(len).max(), max(len(tables.titled(name)) for name, _ in parts)
    columns = 1 if len(parts) == 1 or longest > LONGEST or widest > LONGEST_TITLE else 2
    figure, axes = _subplots(0.8 + height * -(-len(parts) // columns), len(parts), columns)
    for (name, part), ax in zip(parts, axes, strict=True):
        ax.set_title(tables.titled(name), loc="left")
        draw(part.assign(dataset_model=name), ax, **options)
    lines = [ax.get_xlabel().count("\n") for ax in axes]  # of notes, which take no room from the plots
    lines = sum(max(lines[at : at + columns]) for at in range(0, len(lines), columns))
    figure.set_figheight(figure.get_figheight() + LINE * lines)
    return figure


def _finished(figure: Figure, claim: str, note: str = "") -> Figure:
    """The figure with its claim above and its note below; names that would overlap are moved apart."""
    figure.suptitle(textwrap.fill(claim.rstrip("."), 88), x=0.01, ha="left", weight="bold")
    figure.supxlabel(textwrap.fill(note, 112), x=0.01, ha="left", size=NOTE)
    figure.set_layout_engine("constrained")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # places are looked for in the layout as it stays
    for ax in figure.axes:
        if names := [text for text in ax.texts if text.get_gid() == _NAME]:
            _place(names, ax)
    return figure


def _place(names: Sequence[Text], ax: Axes) -> None:
    """Move each name from its mark to the nearest place where it meets no mark, line, other name or edge of the axes.

    It goes a little further to be nearer to its own mark than to others. A line leads to a name that is not beside its
    mark. All is counted in pixels from the lower left corner of the axes.

    Not left to adjustText, which knows points and boxes: it put every fifth name of a cost picture onto a line or name.
    """
    corner = ax.get_window_extent().min
    marks = [ax.transData.transform(name.get_position()) - corner for name in names]
    taken = _taken(ax, marks)
    for at, (name, mark) in enumerate(zip(names, marks, strict=True)):
        box = np.ceil(name.get_window_extent().size).astype(int) + 2 * _APART
        width, height = box = np.minimum(box, taken.shape[::-1])
        y, x = np.ogrid[: taken.shape[0] - height + 1, : taken.shape[1] - width + 1]  # lower left corners of all places
        sums = np.pad(taken.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        met = sums[y + height, x + width] - sums[y, x + width] - sums[y + height, x] + sums[y, x]
        apart = [np.hypot(right - np.clip(right, x, x + width), up - np.clip(up, y, y + height)) for right, up in marks]
        away, closer = apart[at], apart[at] > np.min(apart, axis=0)
        low, left = np.unravel_index((away + _OWN * closer + sum(taken.shape) * met).argmin(), met.shape)
        taken[low : low + height, left : left + width] = 1
        place = np.array([left, low])
        near, middle = (np.clip(mark, place + _APART, place + box - _APART), place + box / 2)
        near, middle = ax.transData.inverted().transform([near + corner, middle + corner])
        if away[low, left] > 2 * _MARK:
            ax.annotate("", name.get_position(), near, arrowprops=LEADER)
        name.set(position=middle, ha="center", va="center")


def _taken(ax: Axes, marks: Sequence[np.ndarray]) -> np.ndarray:
    """Which pixels [y, x] of the axes have a line, a bar or one of the marks, whose places are in pixels."""
    corner, size = ax.get_window_extent().min, ax.get_window_extent().size
    taken = np.zeros(size.astype(int)[::-1], dtype=int)
    bars = [bar for drawn in ax.collections if isinstance(drawn, LineCollection) for bar in drawn.get_paths()]
    paths = [*bars, *(line.get_path() for line in ax.get_lines())]
    lines = [ax.transData.transform(path.vertices) - corner for path in paths]
    for mark, up in itertools.product(marks, range(-_MARK, _MARK + 1)):
        lines.append(mark + np.array([[-_MARK, up], [_MARK, up]]))
    for line in lines:
        for one, other in itertools.pairwise(line[np.isfinite(line).all(axis=1)]):
            x, y = np.linspace(one, other, int(np.abs(other - one).max()) + 2).astype(int).T
            inside = (x >= 0) & (y >= 0) & (x < taken.shape[1]) & (y < taken.shape[0])
            taken[y[inside], x[inside]] = 1
    return taken


def _named(table: pd.DataFrame) -> list[str]:
    """The variants that have colours and names: of `NAMED` methods one each; all, if there are no more than these."""
    variants = table.drop_duplicates("variant")
    if len(variants) > len(NAMED):
        variants = tables.one_a_method(variants)
        named = variants[variants["method"].isin(NAMED)]
        variants = named if len(named) else variants[: len(NAMED)]
    return list(variants["variant"])


def _lines(table: pd.DataFrame, ax: Axes) -> Iterator[tuple[str, pd.DataFrame]]:
    """Draw a line for each variant, with bands for the named ones, which are returned with their points."""
    named = _named(table)
    for variant, points in table.sort_values("n_labels").groupby("variant"):
        sizes, look = points["n_labels"], _look(variant)
        if variant in named:
            ax.plot(sizes, points["score"], **look, zorder=2 + (len(points) == 1))  # no line hides a mark that is alone
            ax.fill_between(sizes, points["low"], points["high"], color=look["color"], alpha=0.15)
            if len(points) == 1:
                ax.vlines(sizes, points["low"], points["high"], color=look["color"], linewidth=1)
            yield variant, points
        else:
            ax.plot(sizes, points["score"], color=GREY, marker=".", linewidth=1, zorder=1)
    ax.margins(y=0.1)


def _others(parts: Sequence[pd.DataFrame]) -> str:
    """A sentence on what is drawn in grey on the data sets whose rows these are, if anything is."""
    grey = {method for part in parts for method in part[~part["variant"].isin(_named(part))]["method"]}
    others = [*sorted(grey - {*NAMED}), *(["other settings"] if grey & {*NAMED} else [])]
    return f"Drawn in grey: {', '.join(others)}. " if others else ""


def _below(ax: Axes, label: str, notes: Sequence[str]) -> None:
    """The name of the lower axis, and notes below it that are not wider than half a figure."""
    ax.set_xlabel("\n".join([label, *(textwrap.fill(note, WIDEST_NOTE) for note in notes)]))


def _too_few(rows: pd.DataFrame) -> list[str]:
    """Notes on what is not drawn because it has too few seeds, while others have enough."""
    few = rows.drop(tables.with_enough_seeds(rows).index).groupby(["variant", "seeds"])["n_labels"]
    return [
        f"not drawn: {variant}, {counted(seeds, 'seed')} with {answers.span(sizes, '{:,}'.format)} labels"
        for (variant, seeds), sizes in few
    ]


def _name_ends(ax: Axes, names: Sequence[tuple[str, float, float]]) -> None:
    """The name of each line beside the axes, as high as its end (name, x, y) or near it, in its colour."""
    names = sorted(names, key=lambda each: each[2])
    ends, places = np.array([y for *_, y in names]), []
    apart = 0.09 * np.ptp(ax.get_ylim())
    for end in ends:
        places.append(max([end, *(place + apart for place in places[-1:])]))
    places = np.array(places) - np.mean(places - ends)
    for (name, x, y), place in zip(names, places, strict=True):
        where = {"xytext": (1.04, place), "textcoords": ax.get_yaxis_transform(), "annotation_clip": False}
        named = textwrap.fill(name, LONGEST)
        ax.annotate(named, (x, y), color=_look(name)["color"], va="center", arrowprops=LEADER, **where)


def _of_labels(ax: Axes, sizes: set[int]) -> None:
    """A logarithmic axis of labelled examples, with ticks at those of these sizes that do not come too close."""
    kept: list[int] = []
    for size in sorted(sizes, reverse=True):
        above = min(kept, default=np.inf)
        apart = 0.0233 * len(f"{size:,}{above:,}")  # as a share of the axis: half of each number, and a gap
        kept += [size] if size <= above * (min(sizes) / max(sizes)) ** apart else []
    ax.set_xscale("log")
    ax.set_xticks(kept, [f"{size:,}" for size in kept])
    ax.minorticks_off()
    ax.set_xlabel("labelled examples")


def _ticks(ax: Axes, form: Any) -> None:
    """Ticks at 1 and 3 of each power of ten on a logarithmic axis of a cost."""
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.xaxis.set_major_formatter(form)
    ax.minorticks_off()


def _with_labels(front: pd.DataFrame, cost: str) -> str:
    return f"{tables.COSTS[cost]} with {front['n_labels'].iloc[0]} labels"


def _most_rows(table: pd.DataFrame) -> int:
    return table.groupby("dataset_model")["variant"].nunique().max() if len(table) else 0


def _look(variant: str) -> dict[str, Any]:
    """Colour and mark of a variant, by its method; another tool, whose records lie beside these, is grey."""
    method = _method(variant)
    return {"color": COLOURS.get(method, GREY), "marker": MARKS.get(method, ".")}


def _method(variant: str) -> str:
    return variant.split(" ")[0]
