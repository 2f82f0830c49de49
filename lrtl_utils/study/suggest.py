"""Which examples of a pool to label next: a random draw of those that have no label yet."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrtl_utils.config import derived_seed
from lrtl_utils.data import own, splits
from lrtl_utils.data.catalog import TASKS
from lrtl_utils.data.own import conll, files, tables
from lrtl_utils.data.splits import Data
from lrtl_utils.errors import InputError, counted, require_name
from lrtl_utils.files import absolute_path, write_text, writing_to
from lrtl_utils.study import checkup


@dataclass(frozen=True)
class Pool:
    """A user's unlabelled rows: the columns of a CSV file that has them, if any, and the input of each."""

    name: str
    columns: dict[str, list[Any]]
    inputs: Sequence[Any]


@dataclass(frozen=True)
class Suggestion:
    """Rows to label next, in order, below the names of their columns; `left_out` counts rows of the pool by reason.

    Rows of sentences are their words, and `places` the columns of words and tags in a CoNLL file, counted from 1.
    """

    header: list[str]
    rows: list[list[Any]]
    left_out: Counter[str]
    places: tuple[int, int] | None = None

    def write(self, path: str | Path) -> Path:
        """Write a CSV or CoNLL file to fill in; `InputError` where a file is, because it may have been filled in."""
        path, stream = absolute_path(path), io.StringIO()
        require_absent(path)
        if self.places:
            if path.suffix.lower() in tables.SUFFIXES:
                raise InputError(f"{path}: tagged sentences are no table; give a name that ends in .conll.")
            stream.write(conll.untagged(self.rows, *self.places))
        else:
            csv.writer(stream).writerows([self.header, *self.rows])
        with writing_to(path):
            write_text(path, stream.getvalue())
        return path

    @property
    def to_do(self) -> str:
        """What a person does with the file."""
        drawn = f"Drawn at random: {counted(len(self.rows), 'sentence' if self.places else 'row')}."
        if self.places:
            return f"{drawn} In column {self.places[1]}, replace each {conll.BLANK!r} by the tag of the word."
        return f"{drawn} Fill in the column {self.header[-1]!r}."


def require_absent(path: Path) -> None:
    """`InputError` where a file is that may have been filled in."""
    if path.exists():
        raise InputError(f"{path} exists and may hold labels that you filled in; name another file with --output.")


def suggest(dataset: str, pool: str | Path, count: int, **reading: str | None) -> Suggestion:
    """The `count` rows of a pool to label next, or all that can be suggested if they are fewer.

    They are drawn at random: no way of choosing them has met its bar (docs/tried.md). Left out are rows without an
    input, rows that have a label in `dataset` or (except for tagged sentences) in the pool, rows that are in the test
    split, and repeated rows. `InputError` if no row is left.
    """
    data = checkup.read(dataset, **reading)
    task = TASKS.get(dataset)
    found = (task.input, task.target) if task else own.columns_of(dataset, **reading)
    text, label = found or ("file", "label")
    if data.kind == "tokens":
        places = (1, 2) if found else own.places_of(dataset, **reading)
        unlabelled = _sentences(absolute_path(pool), None if found else reading.get("text_column"))
    else:
        unlabelled = _read(pool, data.kind, text, named=bool(reading.get("text_column")))
    label = tables.usual(unlabelled.columns, [label.strip().lower()]) or label  # names of columns differ in case
    kept, left_out = _sort(unlabelled, data, label)
    if not kept:
        why = in_words(left_out) if left_out else "it has no rows"
        raise InputError(f"{unlabelled.name} has no row to suggest: {why}.")
    drawn = np.random.default_rng(derived_seed(0, "suggestion")).permutation(kept)[:count]
    if data.kind == "tokens":
        return Suggestion([], [unlabelled.inputs[i] for i in drawn], left_out, places)
    header = [name for name in unlabelled.columns if name != label]
    rows = [[*(unlabelled.columns[name][i] for name in header), ""] for i in drawn]
    return Suggestion([*header, label], rows, left_out)


def in_words(left_out: Counter[str]) -> str:
    """How many rows were left out, and why."""
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none"


def _read(pool: str | Path, kind: str, text: str, named: bool) -> Pool:
    """A table that has the column `text` or, unless a person named that, another that is recognised; for images, a
    folder or a list of them."""
    layout = files.look(str(pool))
    columns = tables.read(layout.first).columns if layout.form in {"table", "listed"} else {}
    if text in columns:
        layout = files.look(str(pool), text)
    name, paths = absolute_path(pool).name, layout.files
    if kind == "image":
        if layout.form == "images":
            names = [str(path.relative_to(layout.folder)) for path in paths]
            return Pool(name, {"file": names}, [path.read_bytes() for path in paths])
        if layout.form == "listed":
            names = columns[layout.listing]
            return Pool(name, columns, [path and layout.listed(path).read_bytes() for path in names])
        raise InputError(
            f"{pool} must be a folder of images, or a CSV or TSV file with their paths, because the labelled examples "
            "are images."
        )
    if layout.form != "table" or len(paths) > 1:
        raise InputError(
            f"{pool} must be one table of texts ({', '.join(tables.SUFFIXES)}), as the labelled examples are texts."
        )
    usual = text if named or text in columns else tables.usual(columns, tables.INPUTS) or text
    require_name(f"column of {name}", usual, columns)
    cells = {each: ["" if value is None else value for value in column] for each, column in columns.items()}
    return Pool(name, cells, [*map(str, cells[usual])])


def _sentences(pool: Path, token: str | None) -> Pool:
    """The words of each sentence: of a CoNLL file, in the column `token` if given, or of a line of text."""
    if not pool.is_file():
        raise InputError(f"{pool} is not a file; the unlabelled sentences must be in one.")
    text, _ = tables.decode(pool.read_bytes(), pool)
    if pool.suffix.lower() in files.CONLL or conll.looks_tagged(text):
        return Pool(pool.name, {}, conll.read_words(text, pool, token))
    if pool.suffix.lower() in tables.SUFFIXES:
        raise InputError(
            f"{pool} must be a CoNLL file, or a text file with a sentence in each line, because the labelled examples "
            "are tagged sentences."
        )
    return Pool(pool.name, {}, [*filter(None, map(str.split, tables.LINE_END.split(text)))])


def _sort(pool: Pool, data: Data, label: str) -> tuple[list[int], Counter[str]]:
    """Positions of the rows that can be suggested, and how many others there are by reason."""
    train, test = ({*map(splits.same, part)} for part in ([*data.train.inputs, *data.aside], data.test.inputs))
    marks = pool.columns.get(label, [""] * len(pool.inputs))
    kept, left_out, seen = [], Counter(), set()
    for i, (value, mark) in enumerate(zip(pool.inputs, marks, strict=True)):
        key, name = splits.same(value), tables.label_name(mark)
        given = name and (name != own.HIDDEN or own.HIDDEN in data.classes)
        reasons = {"without an input": not key, "in the test split": key in test}
        reasons |= {"labelled already": key in train or given, "repeated": key in seen}
        reason = next((each for each, holds in reasons.items() if holds), None)
        seen.add(key)
        if reason:
            left_out[reason] += 1
        else:
            kept.append(i)
    return kept, left_out
