"""Pictures of one run: its data and an `ax` in, the `ax` out. A method has the same colour and mark in all figures."""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrtl_utils.files import results_folder
from lrtl_utils.methods.table import METHODS
from lrtl_utils.study.tables import folders

_SAFE = sns.color_palette("colorblind")
_PALETTE = [*_SAFE[:6], _SAFE[9], _SAFE[7], (0.0, 0.0, 0.0)]  # without the two that are faint on white and in grey
_MARKS = "XvosD^P*<h"  # one more than colours: a method that is added is told apart by the two together
COLOURS = dict(zip(METHODS, itertools.cycle(_PALETTE), strict=False))
MARKS = dict(zip(METHODS, itertools.cycle(_MARKS), strict=False))


def style() -> None:
    """The look of every figure, and tables shown whole."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.85)
    pd.options.display.max_rows, pd.options.display.max_columns = 1000, 30
    plt.rcParams |= {"figure.dpi": 84, "savefig.dpi": 144, "figure.constrained_layout.use": True}


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
    from lrtl_utils.models.encoding import decode_image  # brings torch, which no other figure needs

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


def save(figure: Figure | None, results: str | Sequence[str], name: str) -> Figure | None:
    """Keep the figure as `<results>/figures/<name>.png`, the same bytes for the same numbers; returns it.

    Of several folders of results it is the first; without a figure, there being nothing to show, nothing is written.
    """
    if figure is None:
        return None
    folder = results_folder(folders(results)[0]) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    return figure
