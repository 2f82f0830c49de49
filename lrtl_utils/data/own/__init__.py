"""A user's own files: examples with their labels, and notes on what was guessed, converted and left out."""

import hashlib
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lrtl_utils.data.hub import Source, file_sha256
from lrtl_utils.data.own import conll, tables
from lrtl_utils.data.own.files import Layout, find_own_on_hub, is_image, look, names_image, names_split, split_of
from lrtl_utils.data.rows import MOST_BYTES
from lrtl_utils.data.splits import Data, Examples
from lrtl_utils.errors import InputError, counted, shown
from lrtl_utils.files import absolute_path, data_name, write_atomically, writing_to

if TYPE_CHECKING:
    import pandas as pd

LEAST_ROWS = 8  # labelled rows without which there is nothing to learn
MOST_CLASSES = 1000  # a record's confusion matrix has the square of it
MOST_TYPES = 100  # of entities; a CRF weighs each pair of their tags at each word
FEW_NUMBERS = 20  # so many different numbers may be classes, whatever they are
MOST_SEVERAL = 0.1  # of the rows may have several labels; so few may be mistakes, or names with a comma
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
HIDDEN = "-1"  # stands for a label that is not published, unless rows to train on have it
# Such texts are what pandas writes for lists of texts or numbers in a CSV file.
LIST_AS_TEXT = re.compile(r"\[(['\"].*|-?\d[\d.]*([,\s]+-?\d[\d.]*)+)\]", re.DOTALL)


class Row(NamedTuple):
    """An input and the name of its class (None: no label), or a list of words and a list of tags.

    `place` says where it is: its file, and its number there, counted from 1.
    """

    input: Any
    target: Any
    place: str


@dataclass
class Notes:
    """Sentences about the reading: `noted` says what was guessed, converted and not used; `warned` what may do harm."""

    noted: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)


def keep(table: Any) -> Path:
    """Write a pandas DataFrame or a `datasets.Dataset` once, as a parquet file that loads like any other own file.

    It is in `~/.cache/lrtl/tables`, in a folder named by the checksum of its content.
    """
    import datasets
    import pandas as pd
    import pyarrow as pa
    from datasets.table import embed_table_storage

    if not isinstance(table, (pd.DataFrame, datasets.Dataset)):
        known = "a path, a name, a pandas DataFrame or a datasets.Dataset"
        saved = "; save it with save_to_disk, and give the path" * isinstance(table, datasets.DatasetDict)
        raise InputError(f"Data must be {known}, not {type(table).__name__}{saved}.")
    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        if isinstance(table, pd.DataFrame):
            table = datasets.Dataset.from_pandas(table.apply(_plain).rename(columns=str), preserve_index=False)
        # Images that are only named by their path are read here, because a parquet file holds their bytes.
        whole = embed_table_storage(table.with_format("arrow")[:])
        content = io.BytesIO()
        datasets.Dataset(whole, info=datasets.DatasetInfo(features=table.features)).to_parquet(content)
    except (pa.ArrowException, TypeError, ValueError, OSError) as error:
        reason = next(iter(str(error.args[-1] if error.args else error).splitlines()), "")
        several = "; a column must hold values of one type, and images must be in a datasets.Dataset"
        several *= isinstance(error, pa.ArrowException)
        raise InputError(f"The table cannot be kept: {reason.rstrip('.')}{several}.") from None
    finally:
        if bars:
            datasets.enable_progress_bars()
    checksum = hashlib.sha256(content.getbuffer()).hexdigest()
    path = absolute_path("~/.cache/lrtl/tables") / checksum / "table.parquet"
    if not path.is_file() or file_sha256(path) != checksum:  # the disk may have damaged it
        with writing_to(path):
            write_atomically(path, lambda stream: stream.write(content.getbuffer()))
    return path


def _plain(column: "pd.Series") -> "pd.Series":
    """Replace categories by their names. Where texts and other values are mixed, turn all values into texts."""
    if column.dtype == "category":
        return column.cat.rename_categories(str).astype(object)
    kinds = {type(value) for value in column.dropna()} if column.dtype == object else set()
    return column.map(str, na_action="ignore") if str in kinds and len(kinds) > 1 else column


def find(dataset: str, text_column: str | None = None, *, fetch: bool = True) -> Source:
    """Find the files at a path, whose source has no revision, or those of a repository of the hub.

    If the input column of a table, `text_column`, names images, their files are included. `InputError` if there is
    nothing that can be read.
    """
    if source := find_own_on_hub(dataset, fetch=fetch):
        return source
    layout = look(dataset, text_column)
    return Source("folder", data_name(dataset), None, layout.folder, layout.files)


def kind_of(dataset: str, text_column: str | None = None, label_column: str | None = None) -> str:
    """`text`, `image` or `tokens`."""
    layout = look(dataset, text_column)
    if layout.form in {"conll", "images", "listed"}:
        return "tokens" if layout.form == "conll" else "image"
    file = layout.first
    if file.suffix.lower() in {".csv", ".tsv"}:
        return "text"
    return _kind_of_table(file, file.stat().st_mtime_ns, text_column, label_column)


@lru_cache(maxsize=4)
def _kind_of_table(file: Path, _modified: int, *columns: str | None) -> str:
    table = tables.read(file)
    inputs = table.columns[tables.choose(table.columns, *columns, file.name)[0]]
    first = next((value for value in inputs if value is not None), "")
    input_of(first, Path(file.name))
    return _kind(first)


def read(dataset: str, source: Source, *columns: str | None) -> Data:
    """Read the examples. Rows without an input or a label are left out and counted, and the classes are sorted.

    `columns` are those of the inputs and the labels as a user named them; None is one that has to be recognised. The
    test split is that of the files, or else their validation split, or else None. `InputError` if there is nothing to
    learn.
    """
    layout = look(dataset, columns[0])
    if layout.form in {"images", "listed"}:
        _require_room(layout)
    notes = Notes(list(layout.noted))
    parts = {
        split: [row for file in files for row in _READERS[layout.form](file, layout, split, columns, notes)]
        for split, files in layout.splits.items()
    }
    parts = {split: _whole(split, rows, notes) for split, rows in _unhidden(parts).items()}
    splits, taken = _choose(parts, layout, notes)
    if len(splits["train"]) < LEAST_ROWS:
        what = {"conll": "tagged sentence", "images": "labelled image"}.get(layout.form, "labelled row")
        labelled = counted(len(splits["train"]), what)
        left_out = "; ".join(["", *(note for note in notes.warned if note.startswith("rows"))])
        ends = "; an empty line ends a sentence" if layout.form == "conll" else ""
        raise InputError(f"{dataset} has {labelled} to train on, but at least {LEAST_ROWS} are needed{left_out}{ends}.")
    kind = _kind(splits["train"][0].input)
    if kind != "tokens":
        _require_single([row.target for row in splits["train"]], dataset, notes)
    for rows in splits.values():
        _require_alike(kind, rows)
    targets = {split: [row.target for row in rows] for split, rows in splits.items()}
    if kind == "tokens":
        for split, tags in targets.items():
            targets[split], scheme = conll.to_iob2(tags, [row.place for row in splits[split]])
            notes.noted += [f"tags converted from {scheme} to IOB2"] if scheme else []
    else:
        _require_shared(targets, dataset)
    classes = _classes(kind, [target for part in targets.values() for target in part], dataset)
    _require_names(classes, kind, layout.form, dataset)
    if len(classes) > FEW_NUMBERS and all(map(str.isdigit, classes)):
        notes.warned.append(
            f"the {len(classes)} labels are whole numbers, which are taken for names of classes; if they are amounts, "
            "this is regression, which is not supported: use scikit-learn or AutoGluon"
        )
    index = {label: i for i, label in enumerate(classes)}
    examples = {split: _examples(kind, rows, targets[split], index) for split, rows in splits.items()}
    sentences = tuple(dict.fromkeys(notes.noted)), tuple(notes.warned)
    train, test = examples["train"], examples.get("test")
    validation = parts.get("validation", [])
    unused = kind != "image" and splits.get("test") is not validation  # images would fill the memory
    aside = [row.input for row in validation if unused]
    return Data(source.id, kind, classes, train, test, source, f"taken: {taken}", *sentences, aside=aside)


def _require_room(layout: Layout) -> None:
    held = sum(file.stat().st_size for file in layout.files)
    if held > MOST_BYTES:
        raise InputError(
            f"{layout.folder} has {held / 2**30:.1f} GiB of images, more than the {MOST_BYTES / 2**30:.0f} GiB that a "
            "run holds in memory; save smaller copies, because models read a few hundred pixels a side."
        )


def _require_names(classes: Sequence[str], kind: str, form: str, dataset: str) -> None:
    """`InputError` if the names are not those of classes, but of splits or of the tags of words."""
    if form == "images" and all(map(names_split, classes)):
        raise InputError(
            f"{dataset}: the folders of the images are named after splits ({', '.join(classes)}) and not after "
            f"classes; put each image into a folder named after its class, such as {classes[0]}/cat/1.png."
        )
    if kind == "text" and "O" in classes and all(map(conll.is_tag, classes)):
        raise InputError(
            f"{dataset}: the labels are tags of words, such as {shown(classes[0])}, with one word in each row; tagged "
            "sentences are read from a CoNLL file, which has no line of names, or from a table with lists of words and "
            "of tags."
        )


def _examples(kind: str, rows: Sequence[Row], targets: Sequence[Any], index: Mapping[str, int]) -> Examples:
    """The rows with the numbers of their classes."""
    if kind == "tokens":
        numbers = [[index[tag] for tag in tags] for tags in targets]
    else:
        numbers = np.array([index[label] for label in targets])
    return Examples([row.input for row in rows], numbers, np.arange(len(rows)), [row.place for row in rows])


Columns = tuple[str | None, str | None]
COLUMNS_READ = "inputs from column "  # begins the note on a table


def columns_read(notes: Iterable[str], *given: str | None) -> tuple[str | None, ...]:
    """What tells two readings of a data set apart: the notes that name its columns, or without such, those `given`."""
    return tuple(note for note in notes if note.startswith(COLUMNS_READ)) or given


def _read_table(file: Path, layout: Layout, split: str, columns: Columns, notes: Notes) -> list[Row]:
    where, table = file.relative_to(layout.folder), tables.read(file)
    _warn_of(table.odd_lines, where, notes)
    first, training = layout.first, split in {"train", "all"}
    if file != first:  # its columns are those of the first file; chosen anew, a column of ids might become the labels
        chosen = _columns_of(first, first.stat().st_mtime_ns, *columns)
        unlabelled = not training or chosen[1] not in table.columns
        if {*chosen} <= {*table.columns} or (unlabelled and tables.usual(table.columns, tables.TARGETS) is None):
            columns = chosen
    try:
        text, label = tables.choose(table.columns, *columns, where)
    except InputError:
        # A test split without labels, as competitions publish it, has its inputs at least.
        text = columns[0] or tables.usual(table.columns, tables.INPUTS, columns[1])
        if training or text not in table.columns:
            raise
        return _rows(table.columns[text], [None] * len(table.columns[text]), where)
    others = ", ".join(repr(name) for name in table.columns if name not in (text, label))
    unread = f"; not read: {others}" if others else ""
    notes.noted.append(f"{COLUMNS_READ}{text!r}, labels from column {label!r}{unread}")
    inputs = [input_of(value, where) for value in table.columns[text]]
    pictures = [cell for cell in inputs if names_image(cell)]
    if layout.form == "table" and len(pictures) > len(inputs) / 2:
        odd = [cell for cell in inputs if cell and not is_image(cell, layout.folder)]
        raise InputError(
            f"{where}: column {text!r} names images, such as {shown(pictures[0])}, but images must be listed in one "
            "CSV or TSV file, given by its own path, in which each cell of the column is the path of an image file "
            f"relative to its folder (with /){f', and {shown(odd[0])} is not one' if odd else ''}; if another column "
            "has texts, name it with text_column."
        )
    targets = [_target(value, table.names.get(label), where) for value in table.columns[label]]
    for i, (value, target) in enumerate(zip(inputs, targets, strict=True)):
        # One label in a list is that label, but a sentence of one word has a list of one tag.
        alone = isinstance(target, list) and len(target) == 1 and not isinstance(target[0], list)
        if alone and not isinstance(value, list):
            targets[i] = target[0]
    return _rows(inputs, targets, where)


def columns_of(dataset: str, text_column: str | None = None, label_column: str | None = None) -> tuple[str, str] | None:
    """The columns of input and label in the tables at a path; None where the data are in none."""
    layout = look(dataset, text_column)
    file = layout.first
    tabular = layout.form not in {"images", "conll"}
    return _columns_of(file, file.stat().st_mtime_ns, text_column or layout.listing, label_column) if tabular else None


@lru_cache(maxsize=4)
def _columns_of(file: Path, _modified: int, *columns: str | None) -> tuple[str, str]:
    return tables.choose(tables.read(file).columns, *columns, file.name)


def _read_conll(file: Path, layout: Layout, split: str, columns: Columns, notes: Notes) -> list[Row]:
    where = file.relative_to(layout.folder)
    text, odd_lines = tables.decode(file.read_bytes(), where)
    _warn_of(odd_lines, where, notes)
    first = layout.first
    if file != first:  # as in tables: else another column that has tags might be the labels there
        columns = _conll_columns(first, first.stat().st_mtime_ns, *columns)
    sentences, (words, tags), several = conll.read_conll(text, where, *columns)
    notes.noted += [f"words from column {words}, tags from column {tags}; others have only tags too"] if several else []
    return _rows(*sentences, where, "sentence")


def places_of(dataset: str, text_column: str | None = None, label_column: str | None = None) -> tuple[int, int]:
    """The columns of the words and the tags in CoNLL files at a path, counted from 1."""
    file = look(dataset, text_column).first
    word, tag = _conll_columns(file, file.stat().st_mtime_ns, text_column, label_column)
    return int(word), int(tag)


@lru_cache(maxsize=4)
def _conll_columns(file: Path, _modified: int, *columns: str | None) -> Columns:
    return conll.read_conll(tables.decode(file.read_bytes(), file)[0], file, *columns)[1]


def _read_image(file: Path, layout: Layout, split: str, columns: Columns, notes: Notes) -> list[Row]:
    if any(columns):
        raise InputError(
            f"text_column and label_column are for tables and CoNLL files, but {layout.folder} has images; omit them."
        )
    inside = file.relative_to(layout.folder).parts[0 if split == "all" else 1 :]
    label = unicodedata.normalize("NFC", inside[0]) if len(inside) > 1 else None  # as competitions publish a test split
    if label is None and split in {"train", "all"}:
        raise InputError(f"{file} is not in a class folder; put each image into a folder named after its class.")
    return [Row(file.read_bytes(), label, str(file.relative_to(layout.folder)))]


def _read_listed(file: Path, layout: Layout, split: str, columns: Columns, notes: Notes) -> list[Row]:
    rows = _read_table(file, layout, split, (columns[0] or layout.listing, columns[1]), notes)
    return [row._replace(input=row.input and layout.listed(row.input).read_bytes()) for row in rows]


_READERS: dict[str, Callable[[Path, Layout, str, Columns, Notes], list[Row]]] = {
    "table": _read_table,
    "saved": _read_table,
    "conll": _read_conll,
    "images": _read_image,
    "listed": _read_listed,
}


def _rows(inputs: Sequence[Any], targets: Sequence[Any], where: Path, what: str = "row") -> list[Row]:
    return [Row(x, y, f"{where}, {what} {i}") for i, (x, y) in enumerate(zip(inputs, targets, strict=True), 1)]


def _warn_of(odd_lines: int, where: Path, notes: Notes) -> None:
    if odd_lines:
        notes.warned.append(f"lines of {where} {tables.ODD_LINES}: {odd_lines}")


def input_of(value: Any, where: Path) -> Any:
    """The value of a cell as a text, a list of words, or the bytes of an image."""
    if isinstance(value, dict):
        if not {"bytes", "path"} & value.keys():
            raise InputError(
                f"{where} has an object, {shown(value)}, where a text, a list of words or an image is expected; write "
                "one JSON object for each row (with pandas: orient='records'), with the text itself in a column."
            )
        if value.get("bytes") is None and value.get("path"):
            raise InputError(
                f"{where} has paths of images instead of images; list the paths and the labels in a CSV or TSV file."
            )
        return value.get("bytes")
    if isinstance(value, list):
        if None in value:
            raise InputError(f"{where} has a list of words in which one is missing: {shown(value)}.")
        return [str(word) for word in value]
    missing = value is None or value != value  # NaN
    return None if missing else value if isinstance(value, bytes) else str(value)


def _target(value: Any, names: list[str] | None, where: Path) -> Any:
    if isinstance(value, list):
        return [_target(each, names, where) for each in value]
    if isinstance(value, dict):
        raise InputError(f"{where} has an object, {shown(value)}, where a label is expected; write the label itself.")
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None  # −1 stands for a hidden label
    return tables.label_name(value)


def _kind(value: Any) -> str:
    return {list: "tokens", bytes: "image", dict: "image"}.get(type(value), "text")


def _require_alike(kind: str, rows: Sequence[Row]) -> None:
    """`InputError` unless every row has the kind of input that the first has, and the answer that goes with it."""
    form, first, answer = {
        "text": (str, "a text", "a label"),
        "image": (bytes, "an image", "a label"),
        "tokens": (list, "a list of words", "a list of tags"),
    }[kind]
    for row in rows:
        tagged = isinstance(row.target, list) and all(isinstance(tag, str) for tag in row.target)
        if not isinstance(row.input, form) or not (tagged if kind == "tokens" else isinstance(row.target, str)):
            raise InputError(
                f"{row.place} does not have {first} and {answer}; the first input is {first}, so each row needs both."
            )


def _require_shared(targets: Mapping[str, Sequence[str]], dataset: str) -> None:
    """`InputError` if the rows to train on have one class, or none that the test split has."""
    train, test = ({*targets.get(split, ())} for split in ("train", "test"))
    if test and not train & test:
        raise InputError(
            f"{dataset}: the train and the test split have no label in common, but labels such as "
            f"{shown(min(train))} in the one and {shown(min(test))} in the other; use the same names in both."
        )
    if len(train) < 2 <= len(train | test):
        raise InputError(
            f"{dataset}: all rows to train on have the label {shown(min(train))}; add rows with other labels."
        )


def _require_single(targets: Sequence[Any], dataset: str, notes: Notes) -> None:
    """`InputError` if many rows have several labels: in a list, or separated by semicolons, bars or commas.

    A few such texts are noted as a warning.
    """
    lists = _lists({target for target in targets if isinstance(target, str)})
    several = [target for target in targets if isinstance(target, list) or target in lists]
    if len(several) > MOST_SEVERAL * len(targets):
        parts = [
            part
            for target in several
            for part in (target if isinstance(target, list) else re.findall(r"['\"]([^'\"]+)['\"]", target))
        ]
        if parts and all(isinstance(part, str) and conll.is_tag(part) for part in parts):
            raise InputError(
                f"{dataset}: the labels are lists of tags, but the inputs are texts; name the column of the words with "
                "text_column, and write JSON lines or parquet, because a list in a CSV file is a text."
            )
        if any(isinstance(part, list) for part in parts):
            raise InputError(
                f"{dataset}: the labels are lists in lists, such as {shown(several[0])}; entities that are given by "
                "their positions in a text are not read: write a CoNLL file, or lists of words and of tags."
            )
        raise InputError(
            f"{dataset}: {len(several)} of {len(targets)} rows have several labels, such as {shown(several[0])}, but a "
            "row may have only one; train a model for each label, on a column that says yes or no, or replace the "
            "separator in the labels if each of them is one name."
        )
    if several:
        notes.warned.append(
            f"rows that look as if they had several labels: {len(several)}, such as {shown(several[0])}; each such "
            "label is taken for one name"
        )


def _lists(cells: set[str]) -> set[str]:
    """Find the labels that are lists of labels: those in brackets, and those whose parts other labels have too.

    The parts are what separators stand between. In mere names, such as `News; World` and `News; Sport`, a part that
    several labels have is always at the same place, so these are no lists.
    """
    parts = {
        cell: [cell] if NUMBER.fullmatch(cell) else [part.strip() for part in re.split("[;|,]", cell)] for cell in cells
    }
    places: dict[str, dict[str, tuple[int, bool]]] = {}  # of a part, in each of the labels that have it
    for cell, names in parts.items():
        for at, name in enumerate(names):
            places.setdefault(name, {})[cell] = at, len(names) == 1
    shared = {name for name, found in places.items() if len(found) > 1}
    moved = any(len({*places[name].values()}) > 1 for name in shared)
    listed = {cell for cell, names in parts.items() if moved and len(names) > 1 and shared.issuperset(names)}
    return listed | {cell for cell in cells if LIST_AS_TEXT.fullmatch(cell)}


def _unhidden(parts: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows of each split, with None for a hidden label."""
    if HIDDEN in [row.target for row in parts["train" if "train" in parts else "all"]]:
        return parts
    return {
        split: [row._replace(target=None) if row.target == HIDDEN else row for row in rows]
        for split, rows in parts.items()
    }


def _whole(split: str, rows: Sequence[Row], notes: Notes) -> list[Row]:
    """The rows that have an input and a label."""
    if all(row.target in (None, []) for row in rows):
        return []
    filled = [row for row in rows if (row.input.strip() if isinstance(row.input, str) else row.input)]
    whole = [row for row in filled if row.target not in (None, [])]
    if len(whole) < len(rows):
        where = "" if split == "all" else f" of the {split} split"
        empty, bare = len(rows) - len(filled), len(filled) - len(whole)
        notes.warned.append(f"rows{where} that are left out: {empty} without input, {bare} without label")
    return whole


def _choose(parts: dict[str, list[Row]], layout: Layout, notes: Notes) -> tuple[dict[str, list[Row]], str | None]:
    """The train split and the test split, if there is one with labels; and the file or folder of the test split."""
    train = parts["train" if "train" in parts else "all"]
    for split in ("test", "validation"):
        if split in parts and not parts[split]:
            notes.noted.append(f"the {split} split has no labels and is not used")
        elif split in parts:
            if split == "test" and "validation" in parts:
                notes.noted.append(
                    "the validation split is not used: validation examples are taken from the labelled ones"
                )
            file = layout.splits[split][0].relative_to(layout.folder)
            named = (part for part in file.parts if split_of([part]) == split)
            return {"train": train, "test": parts[split]}, next(named, file.parts[0])
    return {"train": train}, None


def _classes(kind: str, targets: Sequence[Any], dataset: str) -> tuple[str, ...]:
    if kind == "tokens":
        types = sorted({tag[2:] for marks in targets for tag in marks if tag != "O"})
        if not types:
            raise InputError(f"{dataset}: every word is tagged O; there is no entity to learn.")
        if len(types) > MOST_TYPES:
            raise InputError(
                f"{dataset}: {len(types)} types of entities, such as {shown(types[0])}, are too many; there may be at "
                f"most {MOST_TYPES}."
            )
        return ("O", *(f"{edge}-{each}" for each in types for edge in "BI"))
    counts = Counter(targets)
    if len(counts) < 2:
        (alone,) = counts
        inside = os.path.join(dataset, alone)  # os.path takes the longest of names
        hint = f" (if they are the folders in {inside}, give that path)" if os.path.isdir(inside) else ""
        raise InputError(f"{dataset}: every row has the label {alone!r}; two different labels are needed{hint}.")
    numbers = all(map(NUMBER.fullmatch, counts))
    if numbers and _are_amounts([*map(_number, counts)]):
        raise InputError(
            f"{dataset}: the labels are {len(counts)} different numbers, such as {next(iter(counts))}, so this looks "
            "like regression, which is not supported; use scikit-learn or AutoGluon, or write words if they are names "
            f"of classes, such as 'class {next(iter(counts))}'."
        )
    if len(counts) > min(MOST_CLASSES, max(20, len(targets) / 2)):
        raise InputError(
            f"{dataset}: {len(counts)} different labels on {len(targets)} rows are too many for classes; there may be "
            f"at most {MOST_CLASSES}, and, if they are more than 20, at most half as many as rows."
        )
    return tuple(sorted(counts, key=(lambda label: (_number(label), label)) if numbers else None))


def _number(label: str) -> float:
    return float(label.replace(",", "."))


def _are_amounts(numbers: Sequence[float]) -> bool:
    """Whether different numbers are amounts and not running numbers of classes from 0 or 1, of which few are absent."""
    running = all(map(float.is_integer, numbers)) and min(numbers) in (0, 1) and max(numbers) <= 2 * len(numbers)
    return len(numbers) > FEW_NUMBERS and not running
