"""What a user got wrong, in one clear sentence; and words for such sentences."""

import difflib
from collections.abc import Iterable
from typing import Any

MOST_SHOWN = 200  # characters of a value in a sentence


class InputError(ValueError):
    """What the user gave cannot be used; the message says in one sentence what, where, and what would be right.

    A sentence that quotes something very long loses its middle.
    """

    def __init__(self, sentence: str):
        super().__init__(sentence if len(sentence) < 1500 else f"{sentence[:1000]} … {sentence[-400:]}")


class Absent(InputError):
    """What was looked for is not there."""


class Unreadable(InputError):
    """A file that the system could not read, which says nothing about what it holds."""


class OfAnotherVersion(InputError):
    """A record that is whole, as its checksum shows, but does not have the schema of this version."""


class Undecodable(InputError):
    """An image that cannot be decoded."""


class ClaimLost(RuntimeError):
    """Another process has taken over the run of this one, which must write nothing more."""


def require_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raise an `InputError` that suggests the nearest known name, unless `name` is known."""
    known = list(known)
    if name in known:
        return
    text = shown(name)
    asked = text.strip("'")
    near = difflib.get_close_matches(asked, known, n=1) or [one for one in known if asked and _is_short_for(asked, one)]
    hint = f"did you mean {near[0]!r}?" if near else f"the known ones are {', '.join(known)}."
    raise InputError(f"There is no {what} named {text}; {hint}")


def _is_short_for(asked: str, name: str) -> bool:
    """Whether it is the initials of a name (`lr`) or its beginning (`conv`), or ends with it (`num_train_epochs`)."""
    initials = "".join(word[:1] for word in name.split("_"))
    return asked == initials or name.startswith(asked) or (name != "" and asked.endswith(name))


def shown(value: Any) -> str:
    """A value as Python writes it, cut off after `MOST_SHOWN` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out a number of very many digits
        text = "that number"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def reason(error: BaseException) -> str:
    """What a library's error says, on one line of at most 300 characters; its type if it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def counted(number: int, what: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def printable(text: str) -> str:
    """Text from elsewhere, safe to print: control characters are written out (`\\x1b`), on one line.

    The two joiners, which are in the words of some languages and in emoji, are left.
    """
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else c.encode("unicode_escape").decode() for c in text)
