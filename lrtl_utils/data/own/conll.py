"""Tagged sentences: reading CoNLL files, and converting tags of other schemes to IOB2."""

import re
from collections.abc import Sequence
from pathlib import Path

from lrtl_utils.errors import InputError

Sentences = tuple[list[list[str]], list[list[str]]]  # words and tags

_TAG = re.compile(r"O|[BIESLU]-.+")
_INSIDE = {"E": "I", "L": "I", "S": "B", "U": "B"}  # edges of IOBES and BILOU, in IOB2


def read_conll(text: str, file: Path, token: str | None, tag: str | None) -> Sentences:
    """One word per line, and blank lines between sentences. `token` and `tag` are columns, counted from 1.

    Without them, the tags are the last column with tags only, and the words the first that is not a running number.
    """
    blocks = _blocks(text)
    rows = [row for block in blocks for row in block]
    if not rows:
        raise InputError(f"{file} has no tagged word.")
    width = min(map(len, rows))
    word = _position(token, width, file) if token else _word_column(rows, width)
    known = (i for i in reversed(range(width)) if i != word and all(_TAG.fullmatch(row[i]) for row in rows))
    mark = _position(tag, width, file) if tag else next(known, None)
    if mark is None:
        raise InputError(
            f"{file}: no column has only tags such as O, B-PER and I-PER; "
            "set label_column, for example label_column=3 for the third column."
        )
    return [[row[word] for row in block] for block in blocks], [[row[mark] for row in block] for block in blocks]


def read_words(text: str, file: Path, token: str | None) -> list[list[str]]:
    """The words of a CoNLL file, one list per sentence, in the column `token` if given; it may have no tags."""
    blocks = _blocks(text)
    rows = [row for block in blocks for row in block]
    width = min(map(len, rows), default=1)
    word = _position(token, width, file) if token else _word_column(rows, width)
    return [[row[word] for row in block] for block in blocks]


def looks_tagged(text: str) -> bool:
    """Whether the first lines of a text look like a CoNLL file."""
    rows = [row for block in _blocks(text) for row in block][:20]
    return bool(rows) and all(len(row) > 1 and any(map(_TAG.fullmatch, row[1:])) for row in rows)


def to_iob2(sentences: Sequence[Sequence[str]]) -> tuple[list[list[str]], str | None]:
    """Tags in strict IOB2, and the scheme that they were in (None if nothing had to change).

    `InputError` if a tag is not of the form EDGE-TYPE or O.
    """
    wrong = next((tag for tags in sentences for tag in tags if not _TAG.fullmatch(tag)), None)
    if wrong is not None:
        raise InputError(f"Tag {wrong!r} is of an unknown scheme; entities are tagged O, B-TYPE and I-TYPE (IOB2).")
    edges = {tag[0] for tags in sentences for tag in tags if tag != "O"}
    turned = [_with_beginnings([_INSIDE.get(t[0], t[0]) + t[1:] if t != "O" else t for t in s]) for s in sentences]
    if turned == [list(tags) for tags in sentences]:
        return turned, None
    scheme = "BILOU" if edges & {"L", "U"} else "IOBES" if edges & {"E", "S"} else "IOB1"
    return turned, scheme


def _with_beginnings(tags: Sequence[str]) -> list[str]:
    """Every entity begins with B, also after one of another type."""
    before = ["O", *tags]
    return [f"B{tag[1:]}" if tag[0] == "I" and before[i][1:] != tag[1:] else tag for i, tag in enumerate(tags)]


def _blocks(text: str) -> list[list[list[str]]]:
    """The fields of each line, one block per sentence, without comments and `-DOCSTART-`."""
    blocks: list[list[list[str]]] = [[]]
    for line in text.split("\n"):
        # A no-break space may be part of a word.
        fields = line.split("\t") if "\t" in line else re.split("[ \r]+", line.strip())
        if not line.strip() or fields[0] == "-DOCSTART-":
            blocks.append([])
        elif not (fields[0].startswith("#") and len(fields) > 1 and not any(map(_TAG.fullmatch, fields[1:]))):
            blocks[-1].append([field.strip() for field in fields])
    return [block for block in blocks if block]


def _word_column(rows: Sequence[Sequence[str]], width: int) -> int:
    """The first column, or the second if the first numbers the words of each sentence and the second is not tags."""
    return int(width > 1 and all(row[0].isdigit() for row in rows) and not all(_TAG.fullmatch(row[1]) for row in rows))


def _position(given: str, width: int, file: Path) -> int:
    if not given.isdigit() or not 1 <= int(given) <= width:
        raise InputError(f"{file} has columns 1 to {width}, and no column {given!r}.")
    return int(given) - 1
