"""A kept model at work: files of inputs in, one CSV of answers out."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrtl_utils.data.own import conll as tags
from lrtl_utils.data.own import files, tables
from lrtl_utils.data.splits import Examples
from lrtl_utils.errors import InputError, require_name
from lrtl_utils.files import absolute_path, existing_folder, write_text, writing_to
from lrtl_utils.measure.metrics import Prediction, tag_names

if TYPE_CHECKING:
    import pandas as pd

    from lrtl_utils.deploy.export import Kept


def predict(model: str | Path, file: str | Path, output: str | Path | None = None, column: str | None = None) -> Path:
    """Score every input of `file` by the model kept in a folder; returns the path of the CSV that was written.

    Without `output` that is `<file>.predictions.csv`. A row an input, in their order: `text` or `file` with `label` and
    each class's probability, or `tokens` with `tags` and `confidence`. A text that a spreadsheet program would take for
    a formula has an apostrophe before it, and an empty one gets no label. A table's column of inputs is `column`, else
    the one that was named when the model was trained, else one of a usual name. `InputError` where something cannot be
    read.
    """
    file = absolute_path(file)
    target = absolute_path(output) if output else file.with_name(f"{file.stem}.predictions.csv")
    if not (file.is_file() or file.is_dir()):  # a pipe would keep its reader waiting
        raise InputError(f"There is no file or folder {file}.")
    if target == file or target.is_dir():
        raise InputError(
            f"The answers cannot be written to {target}: it is the input or a folder; set another --output."
        )
    folder = existing_folder(model)
    from lrtl_utils.deploy import export  # with torch, which takes seconds
    from lrtl_utils.methods import loop

    kept = export.load(folder)
    shown, examples = read(kept.kind, file, column, kept.column)
    answers = _table(shown, examples, loop.predict(kept.model, examples, kept.config), kept)
    with writing_to(target):
        write_text(target, answers.to_csv(index=False, float_format="%.6f", lineterminator="\r\n"))
    return target


def read(kind: str, file: Path, column: str | None = None, trained: str | None = None) -> tuple[list[str], Examples]:
    """What a file or folder has for a model of that kind, with targets that say nothing; and each as it is shown.

    `column` names the inputs of a table; without it they are in the column `trained`, or in one of a usual name.
    """
    try:
        shown, inputs = READERS[kind](file, column, trained)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}.") from None
    if not inputs:
        raise InputError(f"{file} has no inputs to predict.")
    targets = [[0] * len(words) for words in inputs] if kind == "tokens" else [0] * len(inputs)
    return shown, Examples(inputs, targets, np.arange(len(inputs)))


def _table(shown: list[str], examples: Examples, prediction: Prediction, kept: "Kept") -> "pd.DataFrame":
    """A row an input; words past the model's longest sequence are tagged O."""
    import pandas as pd
    from scipy.special import softmax

    inputs = [*map(_as_text, shown)]
    if kept.kind == "tokens":
        tags = map(" ".join, tag_names(prediction, examples.inputs, kept.classes))
        return pd.DataFrame({"tokens": inputs, "tags": [*map(_as_text, tags)], "confidence": prediction.confidence})
    labels = [_as_text(kept.classes[answer]) for answer in prediction.predicted]
    shares = softmax(np.asarray(prediction.scores, float) / kept.temperature, axis=1)
    empty = np.array([not each.strip() for each in shown])
    if empty.any():
        warnings.warn(f"Inputs that are empty, and get no label: {empty.sum()} of {len(empty)}.", stacklevel=3)
        labels, shares = np.where(empty, "", labels), np.where(empty[:, None], np.nan, shares)
    table = {"file" if kept.kind == "image" else "text": inputs, "label": labels}
    return pd.DataFrame(table | {f"p_{name}": share for name, share in zip(kept.classes, shares.T, strict=True)})


def _as_text(cell: str) -> str:
    """The cell with an apostrophe before what would begin a formula, as spreadsheet programs mark a text.

    A number is left as it is.
    """
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _texts(file: Path, column: str | None, trained: str | None) -> tuple[list[Any], list[Any]]:
    """Texts; a list of words stays one, and is refused by what reads texts."""
    cells = ["" if cell is None else cell for cell in _cells(file, column, trained)]
    texts = [cell if isinstance(cell, list) else str(cell) for cell in cells]
    return texts, texts


def _sentences(file: Path, column: str | None, trained: str | None) -> tuple[list[str], list[Any]]:
    """Words: the first field of each line of a CoNLL file, a table's column, else a text file's lines, at spaces."""
    suffix = file.suffix.lower()
    text = "" if file.is_dir() or suffix in tables.SUFFIXES else tables.decode(file.read_bytes(), file)[0]
    if text and (suffix in files.CONLL or tags.looks_tagged(text)):
        sentences = tags.read_words(text)
    else:
        cells = _cells(file, column, trained)
        sentences = [words for cell in cells if (words := cell if isinstance(cell, list) else str(cell or "").split())]
        if empty := len(cells) - len(sentences):
            warnings.warn(f"Inputs without a word, which get no row: {empty} of {len(cells)}.", stacklevel=4)
    return [" ".join(words) for words in sentences], sentences


def _pictures(file: Path, column: str | None, trained: str | None) -> tuple[list[str], list[bytes]]:
    """The images that a table lists; else an image, or all below a folder, in the order of their paths."""
    if file.suffix.lower() in tables.SUFFIXES:
        layout = files.look(str(file), column)
        listing = column or trained or layout.listing
        if listing is None:
            raise InputError(f"{file} has no column with nothing but paths of images; --text-column names one.")
        listed = _cells(file, listing, None)
        return [str(name) for name in listed], [layout.listed(name).read_bytes() for name in listed]
    if column:
        raise InputError("--text-column is for tables, but this model reads images.")
    found = [file] if file.is_file() else file.rglob("*")
    named = (path for path in found if path.suffix.lower() in files.IMAGES and not path.name.startswith("."))
    paths = sorted(path for path in named if path.is_file())
    base = file.parent if file.is_file() else file
    return [path.relative_to(base).as_posix() for path in paths], [path.read_bytes() for path in paths]


READERS = {"text": _texts, "tokens": _sentences, "image": _pictures}


def _cells(file: Path, column: str | None, trained: str | None) -> list[Any]:
    """A table's column of inputs, as `read` chooses it, or its only one; else the lines of a text file."""
    if file.is_dir():
        raise InputError(f"{file} is a folder, but this model needs a table, or a text file with one text per line.")
    if file.suffix.lower() not in tables.SUFFIXES:
        text, _ = tables.decode(file.read_bytes(), file)
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        return lines if lines[-1] else lines[:-1]
    columns = tables.read(file).columns
    if column:
        require_name(f"column of {file.name}", column, columns)
        return columns[column]
    found = tables.usual(columns, (trained.strip().lower(),) if trained else tables.INPUTS)
    if found is None and len(columns) != 1:
        raise InputError(f"{file} has the columns {', '.join(columns)}; --text-column says which one holds the inputs.")
    return columns[found or next(iter(columns))]
