"""Labels that may be wrong: those that a linear head, solved on all other examples, finds unlikely."""

import textwrap
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lrtl_utils.data import load
from lrtl_utils.data.splits import Data, Examples
from lrtl_utils.errors import InputError, Undecodable
from lrtl_utils.runs import store
from lrtl_utils.runs.run import Run

if TYPE_CHECKING:
    from lrtl_utils.models.network import Batch

MODEL_OF = {"text": "minilm", "image": "efficientnet_lite0"}  # reads the examples
FEW = 1000  # examples whose labels are checked without being asked for
SHOWN = 20
UNLIKELY, LIKELY = 0.1, 0.5  # a label looks wrong with less than the one, where another label has more than the other


def page(dataset: str, **reading: Any) -> Iterator[str]:
    """Lines of Markdown: how often the head agrees with the labels, and which look wrong, the least likely first."""
    yield from ("", "## Labels that may be wrong")
    run = probe(dataset, **reading)
    found, agreement, checked = suspects(run)
    yield (
        f"A linear head on frozen features of {run.config.model} predicts the given label for {agreement:.0%} of "
        f"{checked} examples; each is predicted by a head that was fitted without it."
    )
    rule = f"a probability below {UNLIKELY:.0%} where another label has more than {LIKELY:.0%}"
    if found.empty:
        yield f"No label looks wrong: none of those that cleanlab doubts has {rule}."
        yield "A head that is often wrong finds few of the wrong labels."
        return
    look = "1 label looks wrong: it has" if len(found) == 1 else f"{len(found)} labels look wrong: they have"
    yield (
        f"{look} {rule}. A person should check each one: the more often the head "
        "is wrong, the more such labels are in fact right."
    )
    for row in found.head(SHOWN).itertuples():
        yield f"- {row.place}: {row.label!r}, perhaps {row.likelier!r} ({row.probability:.0%}). {row.input}".rstrip()
    if len(found) > SHOWN:
        yield f"- … and {len(found) - SHOWN} more."


def probe(dataset: str, **reading: Any) -> Run:
    """A linear probe on all labels, which is not to be recorded: its data, model and configuration.

    `InputError` for tagged sentences. Warnings of the data are for their page, and not repeated.
    """
    kind = load.kind_of(dataset, reading.get("text_column"), reading.get("label_column"))
    if kind not in MODEL_OF:
        raise InputError(f"{dataset} has tagged sentences; this is for texts and images that have one label each.")
    with warnings.catch_warnings(action="ignore"):
        return Run(dataset=dataset, model=MODEL_OF[kind], method="linear_probe", data_fraction=1.0, **reading)


def features(run: Run, examples: Examples) -> "list[Batch]":
    """What the head of the run's model reads, by one pass of the frozen backbone, or from the cache of an earlier one.

    `InputError` says where an image is that cannot be decoded.
    """
    from lrtl_utils.methods import loop
    from lrtl_utils.methods.shared import Shared
    from lrtl_utils.models.encoding import name_undecodable

    config, model = run.config, run.model
    model.freeze(len(model.blocks))
    shared = Shared(model, run.weights.sha256, config.precision, store.device_name(config.device))
    with run.meter.measure():  # a pass that took long is kept
        try:
            rows = loop.encode_training(model, examples, config.max_length)
        except Undecodable:
            name_undecodable(examples.places, examples.inputs, model.reader.collate.image_size)
            raise
        return loop.extract(model, rows, config, run.meter, shared=shared)


def suspects(run: Run) -> tuple[pd.DataFrame, float, int]:
    """The labels of both splits that look wrong; and the share of labels that the head gives too, of so many checked.

    A row has `place`, `label`, `likelier`, the `probability` of that, in (0.5, 1], and as `input` the beginning of a
    text. The probabilities are those of a ridge regression on all other examples. From them cleanlab estimates how many
    labels are wrong (Northcutt et al. 2021), and no more than these are given.
    """
    import torch
    from cleanlab.filter import find_label_issues

    from lrtl_utils.methods import solver

    examples, classes = _all(run.data), run.data.classes
    examples = examples.take(examples.index[:: -(-len(examples) // solver.MOST_ROWS)])  # at even distances
    chunks, given = features(run, examples), np.asarray(examples.targets)
    odds = np.empty((len(examples), len(classes)))
    positions = torch.cat([chunk["positions"] for chunk in chunks]).numpy()
    odds[positions] = solver.left_out(chunks, len(classes), run.model.layers).cpu().numpy()
    with warnings.catch_warnings(action="ignore"):  # of classes with few examples
        ranked = find_label_issues(given, odds, return_indices_ranked_by="self_confidence", n_jobs=1)
    rows = [
        {"place": examples.places[i], "label": classes[given[i]], "likelier": classes[likelier]}
        | {"probability": odds[i, likelier], "input": _beginning(examples.inputs[i])}
        for i, likelier in zip(ranked, odds[ranked].argmax(1), strict=True)
        if odds[i, given[i]] < UNLIKELY and odds[i, likelier] > LIKELY
    ]
    columns = ["place", "label", "likelier", "probability", "input"]
    return pd.DataFrame(rows, columns=columns), float((odds.argmax(1) == given).mean()), len(examples)


def _all(data: Data) -> Examples:
    """The examples of both splits, each with its place: in a user's own files, or its row in the split, from 1."""
    inputs, targets, places = [], [], []
    for split, part in (("train", data.train), ("test", data.test)):
        inputs += part.inputs
        targets += list(part.targets)
        places += [*part.places] or [f"{split} split, row {row + 1}" for row in part.index]
    return Examples(inputs, np.array(targets), np.arange(len(inputs)), places)


def _beginning(value: Any) -> str:
    """The beginning of a text, up to the end of a word if that leaves half of it: not all scripts have spaces."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    short = textwrap.shorten(text, 80, placeholder=" …")
    return short if len(short) > 40 or len(text) <= 80 else f"{text[:78]} …"
