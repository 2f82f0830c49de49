"""Tables of a user's own: the rows of CSV, TSV, JSON lines and parquet, and which columns hold input and label."""

import codecs
import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrtl_utils.data import parquet
from lrtl_utils.errors import InputError, require_name

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
# Usual names; the first that a table has is read.
INPUTS = ("text", "sentence", "review", "content", "document", "comment", "message", "body", "tweet", "abstract")
INPUTS += ("question", "query", "utterance", "tokens", "words", "image", "img")
TARGETS = ("label", "labels", "category", "class", "sentiment", "target", "topic", "intent", "ner_tags", "tags", "y")


@dataclass(frozen=True)
class Table:
    """Columns of equal length; `names` those of labels that are numbers; `odd_lines` were not UTF-8."""

    columns: dict[str, list[Any]]
    names: dict[str, list[str]] = field(default_factory=dict)
    odd_lines: int = 0


def read(file: Path) -> Table:
    """The rows of a table by its suffix, one of `READERS`; `InputError` names the file and the line that is wrong."""
    return READERS[file.suffix.lower()](file)


def decode(data: bytes, file: Path) -> tuple[str, int]:
    """The text of a file, and how many of its lines are not UTF-8 and were read as Windows-1252 instead."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace"), 0
    if b"\0" in data:
        raise InputError(f"{file} is no text: it holds zero bytes.")
    data = data.removeprefix(codecs.BOM_UTF8)
    lines, odd = [], 0
    for line in data.split(b"\n"):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError:
            odd += 1
            try:
                lines.append(line.decode("cp1252"))
            except UnicodeDecodeError:
                lines.append(line.decode("latin-1"))
    return "\n".join(lines), odd


def choose(columns: Iterable[str], text: str | None, label: str | None, where: object) -> tuple[str, str]:
    """The columns of input and label: those given, else the usual names, else of two the one that is left."""
    columns = list(columns)
    for given in filter(None, (text, label)):
        require_name(f"column of {where}", given, columns)
    text = text or usual(columns, INPUTS, label)
    label = label or usual(columns, TARGETS, text)
    if len(columns) == 2 and (text or label):
        text = text or next(name for name in columns if name != label)
        label = label or next(name for name in columns if name != text)
    if text is None or label is None:
        raise InputError(
            f"{where} has the columns {', '.join(map(repr, columns))}; say which one holds the input and which the "
            "label: text_column=NAME and label_column=NAME."
        )
    return text, label


def label_name(value: Any) -> str | None:
    """A label as its name; None where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip() or None


def usual(columns: Iterable[str], names: Sequence[str], taken: str | None = None) -> str | None:
    """The column with the first of the usual `names` that a table has, but for the one that is `taken`."""
    by_name = {name.strip().lower(): name for name in reversed([*columns]) if name != taken}
    return next((by_name[name] for name in names if name in by_name), None)


def _read_csv(file: Path) -> Table:
    text, odd = decode(file.read_bytes(), file)
    first = io.StringIO(text, newline="").readline().rstrip("\r\n")
    delimiter = max(",;\t|", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    return _columns(_rows(text, file, delimiter), file, odd)


def _read_tsv(file: Path) -> Table:
    """Quoted where tabs or line ends are within fields; else each line is a row, and lone quotes are text."""
    text, odd = decode(file.read_bytes(), file)
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    counts = {line.count("\t") for line in lines if line}
    if len(counts) != 1:
        return _columns(_rows(text, file, "\t"), file, odd)
    return _columns(((i, _unquoted(line)) for i, line in enumerate(lines, 1) if line), file, odd)


def _unquoted(line: str) -> list[str]:
    plain = line.split("\t")
    try:
        quoted = next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error:
        return plain
    return quoted if len(quoted) == len(plain) else plain


def _rows(text: str, file: Path, delimiter: str) -> Iterable[tuple[int, list[str]]]:
    """The rows with the number of the line that each ends in."""
    before = csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: {error}.") from None
    finally:
        csv.field_size_limit(before)
    return rows


def _columns(rows: Iterable[tuple[int, list[str]]], file: Path, odd: int) -> Table:
    rows = list(rows)
    if not rows:
        raise InputError(f"{file} is empty; its first line names the columns.")
    header = [name.strip() for name in rows[0][1]]
    if len(set(header)) < len(header) or not all(header):
        raise InputError(f"{file}: the first line must name each column once; it has {', '.join(map(repr, header))}.")
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{file}, line {line}: {len(row)} fields where the first line names {len(header)} columns; "
                "a text that holds the separator must be in quotes."
            )
    return Table({name: [row[i] for _, row in rows[1:]] for i, name in enumerate(header)}, odd_lines=odd)


def _read_json(file: Path) -> Table:
    """One object a line, or one list of objects."""
    text, odd = decode(file.read_bytes(), file)
    whole = text.lstrip().startswith("[")
    numbered = [(1, text)] if whole else [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    rows = []
    for number, part in numbered:
        try:
            found = json.loads(part)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}, line {number} is not JSON: {error}.") from None
        rows += [(number, row) for row in (found if whole else [found])]
    for number, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{file}, line {number} is not a JSON object of columns and values.")
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    return Table({name: [row.get(name) for _, row in rows] for name in names}, odd_lines=odd)


def _read_parquet(file: Path) -> Table:
    table = parquet.read(file)
    return _from_arrow(table, parquet.named_labels(table.schema.metadata))


def _read_arrow(file: Path) -> Table:
    """A data file of a folder that `datasets` saved, with its features beside it; read without importing that."""
    import pyarrow as pa

    try:
        info = json.loads((file.parent / "dataset_info.json").read_text(encoding="utf-8"))
        with pa.memory_map(str(file)) as source:
            stream = pa.ipc.open_stream(source)
            return _from_arrow(parquet.gather(stream, stream.schema, file), parquet.names_in(info["features"]))
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{file} cannot be read as `datasets` saves it: {str(error).splitlines()[0]}") from None


def _from_arrow(table: Any, names: dict[str, list[str]]) -> Table:
    return Table({name: table[name].to_pylist() for name in table.column_names}, names)


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
