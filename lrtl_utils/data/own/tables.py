"""A user's own tables: CSV, TSV, JSON, JSON lines, parquet and Arrow files, and which columns have input and label."""

import codecs
import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrtl_utils.data import rows
from lrtl_utils.errors import InputError, counted, require_name, shown

# Usual names of columns; the first that a table has is read.
INPUTS = ("text", "sentence", "review", "content", "document", "comment", "message", "body", "tweet", "abstract")
OF_KIND = {"tokens": ("tokens", "words"), "image": ("image", "img")}
INPUTS += ("question", "query", "utterance", *OF_KIND["tokens"], *OF_KIND["image"])
TARGETS = ("label", "labels", "category", "class", "sentiment", "target", "topic", "intent", "ner_tags", "tags", "y")

LINE_END = re.compile(r"\r\n?|\n")
INDEX = re.compile(r"__index_level_\d+__")  # the column of a parquet file in which pandas keeps an index
UNNAMED = "\ue000"  # repeated, the name of a column that has none, and that is left out
ODD_LINES = "that are not UTF-8 and were read as Windows-1252"
UTF16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE  # how a file in UTF-16 begins

csv.field_size_limit(2**31 - 1)  # else a text of more than 128 KiB is an error


@dataclass(frozen=True)
class Table:
    """Columns of equal length; `names` of classes by column; `odd_lines` counts lines that were not UTF-8."""

    columns: dict[str, list[Any]]
    names: dict[str, list[str]] = field(default_factory=dict)
    odd_lines: int = 0


def read(file: Path) -> Table:
    """Read a table by its suffix, one of `READERS`; `InputError` names the file and the line that is wrong."""
    return READERS[file.suffix.lower()](file)


def decode(data: bytes, file: Path) -> tuple[str, int]:
    """The text of a file, and how many of its lines are not UTF-8 and were read as Windows-1252 instead."""
    if data.startswith(UTF16):
        return data.decode("utf-16", errors="replace"), 0
    if b"\0" in data:
        raise InputError(f"{file} is not a text file: it contains NUL bytes.")
    data = data.removeprefix(codecs.BOM_UTF8)
    lines, odd = [], 0
    for line in data.splitlines(keepends=True):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError:
            odd += 1
            try:
                lines.append(line.decode("cp1252"))
            except UnicodeDecodeError:
                lines.append(line.decode("latin-1"))
    return "".join(lines), odd


def choose(columns: Iterable[str], text: str | None, label: str | None, where: object) -> tuple[str, str]:
    """The columns of input and label: those given, else the usual names. In a two-column file the other column fills
    the missing role."""
    columns = list(columns)
    if not columns:
        raise InputError(f"{where} is empty.")
    for given in filter(None, (text, label)):
        require_name(f"column of {where}", given, columns)
    text = text or usual(columns, INPUTS, label)
    label = label or usual(columns, TARGETS, text)
    if len(columns) == 2 and (text or label):
        text = text or next(name for name in columns if name != label)
        label = label or next(name for name in columns if name != text)
    if len(columns) == 1:
        raise InputError(
            f"{where} has only the column {shown(columns[0])}; it needs one for inputs and one for labels."
        )
    if text is None or label is None:
        roles = (("inputs", "text_column", text), ("labels", "label_column", label))
        asked = {name: f"the one with the {what} with {name}" for what, name, column in roles if column is None}
        name = next(iter(asked))
        example = any(len(column.split()) > 3 for column in columns)
        hint = "; if these are an example, write a row of names above it, such as text,label" if example else ""
        raise InputError(
            f"{where} has the columns {', '.join(map(shown, columns))}; name {' and '.join(asked.values())} "
            f"(--{name.replace('_', '-')} NAME, or -p {name}=NAME){hint}."
        )
    if text == label:
        raise InputError(
            f"{where}: column {text!r} cannot have both the inputs and the labels; name another one with text_column "
            "or label_column."
        )
    return text, label


def label_name(value: Any) -> str | None:
    """The name of the class of a label; None if there is no label. 1 and 1.0, True and true are one class, and so are
    names that Unicode writes in two ways, as `é` is in file names of macOS."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    name = unicodedata.normalize("NFC", text).strip()
    if re.fullmatch(r"-?\d+\.0+", name):
        name = name.partition(".")[0]
    name = "0" if name == "-0" else name
    return (name.lower() if name.lower() in ("true", "false") else name) or None


def usual(columns: Iterable[str], names: Sequence[str], taken: str | None = None) -> str | None:
    """The column with the first of the usual `names` that a table has, except the one that is `taken`."""
    by_name = {name.strip().lower(): name for name in reversed([*columns]) if name != taken}
    return next((by_name[name] for name in names if name in by_name), None)


def _read_delimited(file: Path) -> Table:
    """A CSV or TSV file. Read by `csv`, because pandas counts no lines and silently fills short rows."""
    text, odd = decode(file.read_bytes(), file)
    if file.suffix.lower() == ".tsv":
        separator = "\t"
        lines = [line for line in text.split("\n") if line.strip(" \r")]
        # Where every line has as many tabs, each line is a row, and a lone quote is text.
        quoted = len({line.count("\t") for line in lines}) != 1
    else:
        quoted, first = True, io.StringIO(text.lstrip("\r\n"), newline="").readline().rstrip("\r\n")
        if declared := re.match(r"sep=(.)\r?\n", text):  # a line that Excel writes and reads
            separator, text = declared[1], text[declared.end() - 1 :]
        else:
            separator = max(",;\t|", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    header, *found = _rows(text, file, separator, quoting)
    columns = {name: [row[at] for row in found] for at, name in enumerate(header) if name.strip(UNNAMED)}
    if not quoted:
        columns = {name: [_unquoted(value) for value in column] for name, column in columns.items()}
    return Table(columns, odd_lines=odd)


def _unquoted(value: str) -> str:
    return value[1:-1].replace('""', '"') if re.fullmatch(r'"([^"]|"")*"', value) else value


def _rows(text: str, file: Path, separator: str, quoting: int) -> list[list[str]]:
    """The names of the columns, then the rows; `InputError` names the line that has other fields."""
    lines = io.StringIO(text.rstrip("\r\n"), newline="").readlines()
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)
    try:
        header = [name.strip() for name in next(filter(None, reader), [])]
        if quoting == csv.QUOTE_NONE:
            header = [_unquoted(name) for name in header]
        header = [name or UNNAMED * at for at, name in enumerate(header, 1)]  # of an index, or behind a last separator
        if not "".join(header).strip(UNNAMED):
            raise InputError(f"{file} is empty; its first line must name the columns.")
        if len(set(header)) < len(header):
            names = ", ".join(map(repr, header))
            raise InputError(f"{file}: the first line must name each column once; it has {names}.")
        found = [header]
        for row in reader:
            blank = len(row) < 2 and not "".join(row).strip(" \t") and '"' not in lines[reader.line_num - 1]
            if blank and len(header) > 1:
                continue
            row = [""] if blank else row  # as spreadsheet programs write an empty cell that is alone
            found.append(row)
            if len(row) != len(header):
                raise InputError(
                    f"{file}, line {reader.line_num} has {counted(len(row), 'field')}, but the first line names "
                    f"{counted(len(header), 'column')}; the first line must name them all, and a text with the "
                    "separator in it must be in quotes."
                )
    except csv.Error as error:
        right = "; a text with a quote in it must be in quotes, and each quote in it doubled" * (
            "limit" not in str(error)
        )
        raise InputError(f"{file}, line {reader.line_num}: {error}{right}.") from None
    return found


def _read_json(file: Path) -> Table:
    """One object a line, or one list of objects. Read by `json`, for its line numbers, and because `datasets` fails at
    empty lines and at labels of two types, and takes texts that look like dates for dates."""
    text, odd = decode(file.read_bytes(), file)
    whole = bool(re.match(r"\s*(\[|\{\s*\n)", text))  # a list, or one object over several lines
    numbered = [(1, text)] if whole else [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    objects = []
    for number, part in numbered:
        try:
            found = json.loads(part, parse_constant=lambda _: None)  # NaN, as pandas writes what is missing
            if "\\ud" in part.lower():  # may be half of an emoji, where a text was cut off, which is no UTF-8
                found = json.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
        except (ValueError, RecursionError) as error:  # json counts the lines of the part
            line = number + getattr(error, "lineno", 1) - 1
            raise InputError(f"{file}, line {line} is not JSON: {getattr(error, 'msg', error)}.") from None
        for item, each in enumerate(found if whole and isinstance(found, list) else [found], 1):
            if not isinstance(each, dict):
                at = f"item {item}" if whole else f"line {number}"
                raise InputError(f"{file}, {at} is not a JSON object of columns and values.")
            objects.append(each)
    names = list(dict.fromkeys(name for each in objects for name in each))
    return Table({name: [each.get(name) for each in objects] for name in names}, odd_lines=odd)


def _read_arrow(file: Path) -> Table:
    """A parquet file, or a data file of a folder that `datasets` saved."""
    columns, names = rows.read(file)
    return Table({name: cells for name, cells in columns.items() if not INDEX.fullmatch(name)}, names)


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
    ".parquet": _read_arrow,
    ".arrow": _read_arrow,
}
SUFFIXES = tuple(READERS)
