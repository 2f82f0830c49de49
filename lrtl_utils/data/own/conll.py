"""Tagged sentences: reading CoNLL files, and converting tags of other schemes to IOB2."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lrtl_utils.data.own.tables import LINE_END
from lrtl_utils.errors import InputError, counted, shown

Sentences = tuple[list[list[str]], list[list[str]]]  # words and tags

BLANK = "_"  # stands for a tag that is not given, as in CoNLL-U
_TAG = re.compile(r"O|[BIESLU]-.+")
_TAG_OR_BLANK = re.compile(f"{_TAG.pattern}|{BLANK}")
# The number of a word in its sentence. In CoNLL-U, a number with a dash or a dot marks a line that repeats or adds a
# word. `untagged` writes a blank.
_NUMBER = re.compile(rf"\d+([-.]\d+)?|{BLANK}")


def read_conll(text: str, file: Path, token: str | None, tag: str | None) -> tuple[Sentences, tuple[str, str], bool]:
    """One word per line, and blank lines between sentences. `token` and `tag` are columns, counted from 1.

    Without them, the tags are the last column with tags only, else the last with tags and blanks, and the words are the
    first that is not a running number. Returns the sentences, without any tags where one is blank; the two columns; and
    whether other columns could have been the tags.
    """
    blocks = _blocks(text)
    if not blocks:
        raise InputError(f"{file} has no tagged word.")
    _require_even(blocks, file)
    blocks, word, width = _words_of(blocks, token, file)
    rows = [row for block in blocks for row in block]
    found = {i: {row[i] for row in rows} for i in reversed(range(width)) if i != word}
    marks = [i for i, cells in found.items() if cells != {BLANK} and all(map(_TAG_OR_BLANK.fullmatch, cells))]
    known = [i for i in marks if BLANK not in found[i]] or marks
    mark = _position(tag, width, file) if tag else next(iter(known), None)
    if mark is None:
        raise InputError(
            f"{file}: no column has only tags such as O, B-PER and I-PER; "
            "set label_column, for example label_column=3 for the third column, or fill in the tags."
        )
    if mark == word:
        raise InputError(f"{file}: column {mark + 1} cannot have both the words and the tags; set text_column too.")
    if {BLANK} < (cells := found[mark]) and "O" not in cells:
        raise InputError(
            f"{file}: column {mark + 1} has {BLANK!r} but never O; {BLANK!r} stands for a tag that is not given yet, "
            "so write O for each word that is in no entity."
        )
    words, tags = ([[row[column] for row in block] for block in blocks] for column in (word, mark))
    sentences = words, [[] if BLANK in each else each for each in tags]
    return sentences, (str(word + 1), str(mark + 1)), len(known) > 1 and not tag


def read_words(text: str, file: Path, token: str | None) -> list[list[str]]:
    """The words of a CoNLL file, one list per sentence, in the column `token` if given; it may have no tags."""
    blocks, word, _ = _words_of(_blocks(text, tagged=looks_tagged(text)), token, file)
    return [[row[word] for row in block] for block in blocks]


def untagged(sentences: Sequence[Sequence[str]], word: int, tag: int) -> str:
    """A CoNLL file to fill in: the words in the column `word`, counted from 1, and blanks in all others up to `tag`."""
    width = max(word, tag)
    rows = ([[each if i == word else BLANK for i in range(1, width + 1)] for each in words] for words in sentences)
    return "\n".join("".join("\t".join(row) + "\n" for row in block) for block in rows)


def looks_tagged(text: str) -> bool:
    """Whether the first lines of a text look like a CoNLL file: each has a tag, and most have as many fields.

    Prose has words that look like tags too, such as E-mail, but hardly in two lines of the same number of words.
    """
    rows = [row for block in _blocks(text) for row in block][:20]
    most = max(Counter(map(len, rows)).values(), default=0)
    return len(rows) > 1 and most > len(rows) / 2 and all(map(_is_tagged, rows))


def is_tag(label: str) -> bool:
    """Whether a label is `O` or of the form EDGE-TYPE."""
    return bool(_TAG.fullmatch(label))


def to_iob2(sentences: Sequence[Sequence[str]], places: Sequence[str]) -> tuple[list[list[str]], str | None]:
    """Tags in strict IOB2, and the scheme that they were in (None if nothing had to change).

    `InputError` names the place of the first sentence with a tag that is not of the form EDGE-TYPE or O.
    """
    tagged = zip(sentences, places, strict=True)
    if wrong := next(((place, tag) for tags, place in tagged for tag in tags if not _TAG.fullmatch(tag)), None):
        raise InputError(
            f"{wrong[0]} has the tag {wrong[1]!r}, which is of an unknown scheme; tag each word O, B-TYPE or "
            "I-TYPE (IOB2)."
        )
    edges = {tag[0] for tags in sentences for tag in tags if tag != "O"}
    turned = [*map(_in_iob2, sentences)]
    if turned == [list(tags) for tags in sentences]:
        return turned, None
    scheme = "BILOU" if edges & {"L", "U"} else "IOBES" if edges & {"E", "S"} else "IOB1"
    return turned, scheme


def _in_iob2(tags: Sequence[str]) -> list[str]:
    """Every entity begins with B, also after one of another type, and after one that has ended (E, L, S or U)."""
    turned = []
    for before, tag in zip(["O", *tags], tags, strict=False):
        begins = tag[0] in "BSU" or before[0] in "ELSU" or before[1:] != tag[1:]
        turned.append(tag if tag == "O" else f"{'B' if begins else 'I'}{tag[1:]}")
    return turned


def _blocks(text: str, tagged: bool = True) -> list[list[list[str]]]:
    """The fields of each line, one block per sentence, without comments and `-DOCSTART-`.

    In a file that is `tagged`, a comment begins with `#` and has no tag; in another, `#` is a field of its own. Beside
    lines with tabs, one that begins with `# ` and has no tab is a comment, whatever its words look like.
    """
    blocks: list[list[list[str]]] = [[]]
    lines = LINE_END.split(text)
    tabbed = any("\t" in line and line[0] != "#" for line in lines)
    for line in lines:
        # A no-break space may be part of a word.
        fields = [field.strip() for field in (line.split("\t") if "\t" in line else re.split("[ \r]+", line.strip()))]
        bare = not _is_tagged(fields) or (tabbed and "\t" not in line and line.startswith("# "))
        comment = fields[0].startswith("#") and bare if tagged else fields[0] == "#"
        if not line.strip() or fields[0] == "-DOCSTART-":
            blocks.append([])
        elif not (comment and len(fields) > 1):
            blocks[-1].append(fields)
    return [block for block in blocks if block]


def _is_tagged(row: list[str]) -> bool:
    """Whether a line has a tag behind its first field, or is as `untagged` writes it: a word, and else only blanks."""
    return len(row) > 1 and (any(map(_TAG.fullmatch, row[1:])) or row.count(BLANK) >= len(row) - 1)


def _require_even(blocks: list[list[list[str]]], file: Path) -> None:
    """`InputError` if a line has more or fewer fields than most lines, because other tags would be in its columns."""
    rows = [row for block in blocks for row in block]
    ((most, _),) = Counter(map(len, rows)).most_common(1)
    if odd := next((row for row in rows if len(row) != most), None):
        raise InputError(
            f"{file}: the line {shown(' '.join(odd))} has {counted(len(odd), 'field')}, but most lines have {most}; "
            "give all lines the same columns, with tabs between them if a word has a space in it."
        )


def _words_of(blocks: list[list[list[str]]], token: str | None, file: Path) -> tuple[list[list[list[str]]], int, int]:
    """The rows that are words, the column of the words, and the number of columns that all have.

    Without a `token`, the words are the first column, or the second if the first numbers the words of each sentence and
    the second is not tags. Where a number has a dash or a dot, the line is no word of its own.
    """
    rows = [row for block in blocks for row in block]
    width = min(map(len, rows), default=1)
    numbered = width > 1 and all(_NUMBER.fullmatch(row[0]) for row in rows)
    numbered = numbered and not all(_TAG_OR_BLANK.fullmatch(row[1]) for row in rows)
    word = _position(token, width, file) if token else int(numbered)
    if numbered and word:
        blocks = [[row for row in block if row[0] == BLANK or row[0].isdigit()] for block in blocks]
    return [block for block in blocks if block], word, width


def _position(given: str, width: int, file: Path) -> int:
    if not given.isdecimal() or not 1 <= int(given) <= width:
        raise InputError(f"{file} has columns 1 to {width}, and no column {given!r}.")
    return int(given) - 1
