"""Files: bounded reads, atomic writes, and where things are."""

import contextlib
import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from io import TextIOWrapper
from pathlib import Path, PurePath
from typing import IO, Any

from lrtl_utils.errors import Absent, ClaimLost, InputError, Unreadable

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # the repository, where the package is used from a checkout
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # of a folder, where the file system has no such thing


def absolute_path(path: str | Path) -> Path:
    """The absolute form of a path that a user gave: relative to the current folder; `~` is the home folder."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def from_here(path: Path) -> str:
    """An absolute path as a person would type it: relative to the current folder, if it is below that."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def named_by(path: PurePath) -> str:
    """A path as a text that cannot be taken for a name of a catalog: a bare name gets `./` in front."""
    return str(path) if path.parent.name or path.is_absolute() else os.path.join(".", path)


def existing_folder(path: str | Path) -> Path:
    """The absolute path of a folder; `InputError` if there is none."""
    folder = absolute_path(path)
    if not os.path.isdir(folder):  # of a name that is too long, `Path.is_dir` raises an error
        raise InputError(f"There is no folder {folder}.")
    return folder


def is_utf8(path: Path) -> bool:
    """Whether the name can be written into a text file, such as a notebook."""
    return os.fsencode(path).decode(errors="ignore") == str(path)


def writable_folder(path: str | Path) -> Path:
    """The absolute path of a folder, made if it is not there; `InputError` where no file can be written in it."""
    folder = absolute_path(path)
    if not is_utf8(folder):
        raise InputError(f"{os.fsencode(folder)!r} has a name that is not UTF-8; name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except FileExistsError:
        raise InputError(f"{folder} is a file or a broken link, and not a folder; name another folder.") from None
    except OSError as error:
        raise InputError(f"No file can be written in the folder {folder}: {error.strerror or error}.") from None
    return folder


def notebooks_folder() -> Path:
    """The folder of the notebooks and grids: inside an installed package, beside the package in a checkout."""
    installed = PACKAGE / "notebooks"
    return installed if installed.is_dir() else ROOT / "notebooks"


@lru_cache(maxsize=1024)
def data_name(dataset: str) -> str:
    """The name of a data set or model in ids, folders and pictures: its last part, without odd characters."""
    return re.sub(r"[^\w.-]+", "-", PurePath(dataset).name).strip(".-") or "data"


def read_text(path: Path, most: int) -> str:
    """The text of a regular UTF-8 file of at most `most` bytes; an `InputError` says why it cannot be read.

    `Absent` if there is no regular file, `Unreadable` if the system failed to read it, and otherwise a plain
    `InputError`: it is too large, or not UTF-8.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size <= most:
                return TextIOWrapper(stream, encoding="utf-8").read(most)
        reason = f"it has {size} bytes, more than the {most} allowed"
    except OSError as error:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        kind = Absent if absent else Unreadable
        raise kind(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        reason = str(error)
    raise InputError(f"{path} cannot be read: {reason}.")


def open_regular(path: Path) -> IO[bytes]:
    """A regular file, opened to be read; `IsADirectoryError` for everything else.

    A pipe or a device may keep its reader waiting, or have no end. It is opened before it is looked at, so that what is
    looked at is what is read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise IsADirectoryError(errno.EISDIR, "it is not a regular file", str(path))


def lines_of(path: Path) -> list[str]:
    """The lines of a text file; none where there is no such file."""
    return path.read_text().splitlines() if path.is_file() else []


def first_line(path: Path) -> str:
    """The first line of a file, whatever it holds; of a very long one the beginning."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline(2**16)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a text file with `write_atomically`."""
    write_atomically(path, lambda stream: stream.write(text.encode()), durable=durable)


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn an error of the system into an `InputError` that says that the user's `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any], *, durable: bool = True) -> None:
    """Call `write(stream)` on a temporary file beside `path`, sync it, and rename it: `path` is whole or as it was.

    The folder is synced after that, so that a crash of the machine does not undo it. What can be made again need not be
    `durable`: without the syncs, a crash of the machine may leave nothing of it, or a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")  # a longer one may be too long
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if durable:
        _sync_folder(path.parent)


def still_claimed(claim: Path | None) -> bool:
    """Whether this process may still write for its run: if it was given a claim, the file of that name is there."""
    if claim is None:
        return True
    try:
        claim.open().close()  # opening a file asks the server, where there is one; looking at its name need not
    except FileNotFoundError:
        return False
    return True


def require_claim(claim: Path | None) -> None:
    """Raise `ClaimLost` unless the run is `still_claimed`."""
    if not still_claimed(claim):
        raise ClaimLost("Another worker has taken over this run, so this process writes nothing more.")


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)
