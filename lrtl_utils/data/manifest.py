"""A mirror's manifest: for each repository in it the revision, and the size and SHA-256 of each file."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from lrtl_utils.errors import InputError

FILE = "manifest.json"


class Sum(BaseModel):
    """One file: bytes, and hex digits."""

    size: int
    sha256: str


class Locked(BaseModel):
    """One repository: its commit, and its files by their path in it."""

    revision: str
    files: dict[str, Sum]


class Manifest(BaseModel):
    """A whole mirror: its repositories by their path in it, `datasets/<org>/<name>` or `models/<org>/<name>`."""

    version: Literal[1] = 1
    repositories: dict[str, Locked] = {}


def read(mirror: Path) -> Manifest:
    """The manifest of a mirror, an empty one where there is none; `InputError` where it cannot be understood."""
    path = mirror / FILE
    if not path.is_file():
        return Manifest()
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else error.strerror
        raise InputError(f"{path} is no manifest ({reason}); `fetch` writes one.") from None


def sums(folder: Path, revision: str) -> Locked:
    """What a manifest says of the files that lie below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {
        path.relative_to(folder).as_posix(): Sum(size=path.stat().st_size, sha256=file_sha256(path)) for path in files
    }
    return Locked(revision=revision, files=entries)


def faults(folder: Path, locked: Locked) -> Iterator[str]:
    """A sentence for each file of the manifest that is not below `folder`, or not as it was fetched."""
    for name, expected in locked.files.items():
        path = folder / name
        if not path.is_file():
            yield f"{path} is missing"
        elif path.stat().st_size != expected.size:
            yield f"{path} has {path.stat().st_size} bytes where the manifest has {expected.size}"
        elif (found := file_sha256(path)) != expected.sha256:
            yield f"{path} is damaged: its SHA-256 begins {found[:8]}, in the manifest {expected.sha256[:8]}"


def file_sha256(path: Path) -> str:
    """Hex digest of a file; read once as long as its size and time stay."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
