"""Files: bounded reads, atomic writes, and where things are."""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import IO, Any

from lrtl_utils.errors import InputError

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # the repository, where the package is used from a checkout


def absolute_path(path: str | Path) -> Path:
    """The absolute form of a path that a user gave: relative to the current folder; `~` is the home folder."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def notebooks_folder() -> Path:
    """The folder of the notebooks and grids: inside an installed package, beside the package in a checkout."""
    installed = PACKAGE / "notebooks"
    return installed if installed.is_dir() else ROOT / "notebooks"


def data_name(dataset: str) -> str:
    """The name of a data set or model in ids, folders and pictures: its last part, without odd characters."""
    return re.sub(r"[^\w.-]+", "-", PurePath(dataset).name).strip(".-") or "data"


def read_text(path: Path, most: int) -> str:
    """The text of a regular UTF-8 file of at most `most` bytes; an `InputError` says why it cannot be read.

    A pipe or a device is refused, because it may keep its reader waiting, or have no end.
    """
    try:
        size = path.stat().st_size
        if path.is_file() and size <= most:
            return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    reason = f"it has {size} bytes, and {most} are the most" if path.is_file() else "it is no file"
    raise InputError(f"{path} cannot be read: {reason}.")


def lines_of(path: Path) -> list[str]:
    """The lines of a text file; none where there is no such file."""
    return path.read_text().splitlines() if path.is_file() else []


def write_text(path: Path, text: str) -> None:
    """Write a text file with `write_atomically`."""
    write_atomically(path, lambda stream: stream.write(text.encode()))


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Call `write(stream)` on a temporary file beside `path`, sync it, and rename it: `path` is whole or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
