"""A kept model at work: files of inputs in, one CSV of answers out."""

import os
import warnings
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrtl_utils.data import own
from lrtl_utils.data.own import conll, files, tables
from lrtl_utils.data.splits import Examples
from lrtl_utils.errors import InputError, Undecodable, require_name, shown
from lrtl_utils.files import absolute_path, existing_folder, first_line, writable_folder, write_text, writing_to
from lrtl_utils.measure.metrics import Prediction, tag_names
from lrtl_utils.models.own import KEPT_FILE

if TYPE_CHECKING:
    import pandas as pd

    from lrtl_utils.deploy.export import SavedModel

Columns = dict[str, list[Any]]
HEADS = ("text,label,p_", "file,label,p_", "tokens,tags,confidence")  # how a file of answers begins


def predict(model: str | Path, file: str | Path, output: str | Path | None = None, column: str | None = None) -> Path:
    """Predict every input of `file` with the model saved in a folder; returns the path of the CSV file.

    Without `output`, the CSV file is NAME.predictions.csv beside the input, where NAME is the name of the folder, or of
    the file without its suffix. It has a row for each input, in the same order. Texts and images have the columns
    `text` or `file`, `label`, and the probability of each class in [0, 1]; tagged sentences have `tokens`, `tags` and
    `confidence`. A table's other columns follow, with "(input)" after a name that is taken. A text that a spreadsheet
    program would take for a formula gets an apostrophe in front. An empty text gets no label; a sentence without a word
    and a missing image get no row. A table's inputs are read from `column`; without it, from the `text_column` of
    training; and if training had none, from the column that it found or from one with a usual name. `InputError` if
    something cannot be read or written.
    """
    file = absolute_path(file)
    name = file.name if os.path.isdir(file) else file.stem
    target = absolute_path(output) if output else file.with_name(f"{name}{files.ANSWERS}")
    if not (os.path.isfile(file) or os.path.isdir(file)):  # a pipe would keep its reader waiting
        raise InputError(f"There is no file or folder {file}.")
    if target == file or os.path.isdir(target):
        raise InputError(
            f"The answers cannot be written to {target}, which is the input or a folder; name another file with "
            "--output."
        )
    folder = existing_folder(model)
    if not (folder / KEPT_FILE).is_file():
        raise InputError(f"{folder} is not a folder that `lrtl run --save-model` wrote: it has no {KEPT_FILE}.")
    if target.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{folder} holds the model, so the answers cannot be written there; name a file elsewhere with --output."
        )
    if output:
        _require_ours(target)
    writable_folder(target.parent)
    from lrtl_utils.deploy import export  # with torch, which takes seconds
    from lrtl_utils.methods import loop
    from lrtl_utils.models.encoding import name_undecodable

    kept = export.load(folder)
    shown, examples, beside = read(kept, file, column)
    try:
        prediction = loop.predict(kept.model, examples, kept.config)
    except Undecodable:
        name_undecodable(shown, examples.inputs, kept.model.reader.collate.image_size)
        raise
    answers = _beside(_table(shown, examples, prediction, kept), beside)
    with writing_to(target):
        write_text(target, answers.to_csv(index=False, float_format="%.6f", lineterminator="\r\n"))
    return target


def _require_ours(target: Path) -> None:
    """`InputError` for a name that is not of a CSV file, or of a file that holds anything but answers."""
    if target.suffix.lower() != ".csv":
        raise InputError(f"The answers are a CSV file, so {target} must end in .csv; name such a file with --output.")
    if target.is_file() and not first_line(target).replace('"', "").startswith(HEADS):  # a class with a comma is quoted
        raise InputError(f"{target} holds no answers, so it is not overwritten; name another file with --output.")


def read(kept: "SavedModel", file: Path, column: str | None = None) -> tuple[list[str], Examples, Columns]:
    """What a file or folder has for a model; `column` names the inputs of a table.

    That is each input as it is shown, the inputs with placeholder targets, and a table's other columns.
    """
    try:
        shown, inputs, beside = READERS[kept.kind](file, column, kept.columns)
    except OSError as error:
        raise InputError(f"{error.filename or file} cannot be read: {error.strerror or error}.") from None
    if not inputs:
        raise InputError(f"{file} has no inputs to predict.")
    targets = [[0] * len(words) for words in inputs] if kept.kind == "tokens" else [0] * len(inputs)
    return shown, Examples(inputs, targets, np.arange(len(inputs))), beside


def _table(shown: list[str], examples: Examples, prediction: Prediction, kept: "SavedModel") -> "pd.DataFrame":
    """A row for each input; words past the model's longest sequence are tagged O."""
    import pandas as pd
    from scipy.special import softmax

    inputs = [*map(_as_text, shown)]
    if kept.kind == "tokens":
        rows = zip(prediction.predicted, examples.inputs, strict=True)
        if cut := sum(len(tags) < len(words) for tags, words in rows):
            long = f"{cut} of {len(inputs)}"
            warnings.warn(f"The last words of sentences that are too long are tagged O: {long}.", stacklevel=3)
        tags = map(" ".join, tag_names(prediction, examples.inputs, kept.classes))
        return pd.DataFrame({"tokens": inputs, "tags": [*map(_as_text, tags)], "confidence": prediction.confidence})
    labels = [_as_text(kept.classes[answer]) for answer in prediction.predicted]
    shares = softmax(np.asarray(prediction.scores, float) / kept.temperature, axis=1)
    empty = np.array([not each.strip() for each in shown])
    if empty.any():
        warnings.warn(f"Empty inputs get no label: {empty.sum()} of {len(empty)}.", stacklevel=3)
        labels, shares = np.where(empty, "", labels), np.where(empty[:, None], np.nan, shares)
    table = {"file" if kept.kind == "image" else "text": inputs, "label": labels}
    return pd.DataFrame(table | {f"p_{name}": share for name, share in zip(kept.classes, shares.T, strict=True)})


def _beside(answers: "pd.DataFrame", columns: Columns) -> "pd.DataFrame":
    """The answers with a table's other columns, whose cells stay as they are."""
    import pandas as pd

    named: Columns = {}
    for name, cells in columns.items():
        name = _as_text(name)
        while name in answers or name in named:
            name += " (input)"
        named[name] = [_as_text(cell) if isinstance(cell, str) else cell for cell in cells]
    return pd.concat([answers, pd.DataFrame(named, answers.index, dtype=object)], axis=1)


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


def _texts(file: Path, column: str | None, usual: Sequence[str]) -> tuple[list[Any], list[Any], Columns]:
    """Read texts; `InputError` for a list of words, or for bytes."""
    if file.suffix.lower() in files.CONLL:
        raise InputError(f"{file} has tagged sentences, but this model reads texts; write one text per line.")
    cells, beside = _cells(file, column, usual)
    texts = ["" if (text := own.input_of(cell, file)) is None else text for cell in cells]
    if row := next((row for row, text in enumerate(texts, 1) if not isinstance(text, str)), None):
        raise InputError(
            f"{file}, row {row} has {shown(texts[row - 1])} where a text is expected; store the texts as strings, "
            "or name another column."
        )
    return texts, texts, beside


def _sentences(file: Path, column: str | None, usual: Sequence[str]) -> tuple[list[str], list[Any], Columns]:
    """Words: those of a CoNLL file, of a table's column, or else of a text file's lines, split at spaces."""
    suffix = file.suffix.lower()
    tabular = file.is_dir() or suffix in tables.SUFFIXES
    either = not tabular or suffix == ".tsv"  # a .tsv file may be a table or tagged words
    text, odd_lines = tables.decode(file.read_bytes(), file) if either else ("", 0)
    if text and (suffix in files.CONLL or conll.looks_tagged(text)):
        number = column or next(filter(str.isdigit, usual), None)  # the columns of tables have names
        sentences, beside = conll.read_words(text, file, number), {}
        _warn_of(odd_lines)
    else:
        cells, beside = _cells(file, column, usual)
        for cell in filter(lambda cell: isinstance(cell, str), cells if tabular else ()):
            if own.LIST_AS_TEXT.fullmatch(cell.strip()):
                raise InputError(
                    f"{file} has a list that is written as a text, {shown(cell)}; write JSON lines or parquet, or the "
                    "words with spaces between them."
                )
        sentences = [own.input_of(cell, file) if isinstance(cell, list) else str(cell or "").split() for cell in cells]
        sentences, beside = _whole(sentences, beside, "a word")
    return [" ".join(words) for words in sentences], sentences, beside


def _whole(inputs: list[Any], beside: Columns, what: str) -> tuple[list[Any], Columns]:
    """The inputs that are not empty, and their cells of the other columns; `what` is what the others lack."""
    if empty := sum(not each for each in inputs):
        warnings.warn(f"Inputs without {what} get no row: {empty} of {len(inputs)}.", stacklevel=5)
    return [*filter(None, inputs)], {name: [*compress(cells, inputs)] for name, cells in beside.items()}


def _pictures(file: Path, column: str | None, usual: Sequence[str]) -> tuple[list[str], list[bytes], Columns]:
    """The images that a table lists or holds; else an image, or all below a folder, in the order of their paths."""
    if file.suffix.lower() in tables.SUFFIXES:
        layout = files.look(str(file), column)
        if file.suffix.lower() in (".csv", ".tsv"):
            usual = [name for name in (usual[0], layout.listing) if name]
            if not (column or usual):
                raise InputError(f"No column of {file} lists images that exist; name one with --text-column.")
        cells, beside = _cells(file, column, usual)
        named = [cell if isinstance(cell, str) else f"row {i}" for i, cell in enumerate(cells, 1)]
        listed = (layout.listed(cell).read_bytes() if cell and isinstance(cell, str) else cell for cell in cells)
        images = [own.input_of(image, file) for image in listed]
        return [*compress(named, images)], *_whole(images, beside, "an image")
    _require_no_column(column, file)
    base = file.parent if file.is_file() else file
    every = {path.relative_to(base): path for path in ([file] if file.is_file() else file.rglob("*"))}
    found = {name: path for name, path in every.items() if not any(part.startswith(".") for part in name.parts)}
    for folder in filter(Path.is_dir, found.values()):
        files.require_no_link(folder)
    images = {
        os.fsencode(name.as_posix()).decode(errors="backslashreplace"): path.read_bytes()  # not all are UTF-8
        for name, path in sorted(found.items())
        if name.suffix.lower() in files.IMAGES and path.is_file()
    }
    return [*images], [*images.values()], {}


def _require_no_column(column: str | None, file: Path) -> None:
    if column:
        raise InputError(f"--text-column names a column of a table, and {file} is not a table; leave the option out.")


def _warn_of(odd_lines: int) -> None:
    if odd_lines:
        warnings.warn(f"Lines {tables.ODD_LINES}: {odd_lines}.", stacklevel=6)


READERS = {"text": _texts, "tokens": _sentences, "image": _pictures}


def _cells(file: Path, column: str | None, usual: Sequence[str]) -> tuple[list[Any], Columns]:
    """The inputs of a table and its other columns, or the lines of a text file."""
    if file.is_dir():
        raise InputError(f"{file} is a folder, but this model needs a table, or a text file with one text per line.")
    if file.suffix.lower() not in tables.SUFFIXES:
        _require_no_column(column, file)
        text, odd_lines = tables.decode(file.read_bytes(), file)
        _warn_of(odd_lines)
        lines = tables.LINE_END.split(text)
        return lines if lines[-1] else lines[:-1], {}
    table = tables.read(file)
    _warn_of(table.odd_lines)
    columns = table.columns
    if column:
        require_name(f"column of {file.name}", column, columns)
    else:
        trained = usual[0] if usual and usual[0] in columns else None  # another may differ in case only
        column = trained or tables.usual(columns, [name.strip().lower() for name in usual if name])
    if column is None and len(columns) > 1:
        raise InputError(f"{file} has the columns {', '.join(columns)}; --text-column says which one holds the inputs.")
    if column is None and columns:
        (column,) = columns
        if file.suffix.lower() in (".csv", ".tsv"):
            warnings.warn(f"{file.name} has one column; its first line is its name: {shown(column)}.", stacklevel=5)
    inputs = columns.pop(column or "", [])
    return inputs, {name: cells for name, cells in columns.items() if not any(map(_is_picture, cells))}


def _is_picture(cell: Any) -> bool:
    return isinstance(cell, bytes) or (isinstance(cell, dict) and "bytes" in cell)
