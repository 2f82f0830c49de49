"""Where bytes come from: an installed package, the mirror, the hub's cache, the hub at a pinned revision."""

import hashlib
import importlib.util
import os
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lrtl_utils.data import manifest
from lrtl_utils.data.manifest import file_sha256
from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
PROBE_SECONDS = 2.0
BESIDE = {"datasets": [], "models": ["*.json", "*.txt"]}  # what a client needs beside the files that are summed


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, and the files of it that a run reads and its checksum covers.

    `section` is `datasets` or `models`; a `revision` of None is the newest, until a mirror's manifest locks it.
    """

    section: str
    id: str
    revision: str | None
    patterns: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The hub's client's word for the section."""
        return self.section.removesuffix("s")

    @property
    def place(self) -> str:
        """Where it lies in a mirror."""
        return f"{self.section}/{self.id}"


@dataclass(frozen=True)
class Source:
    """Files that were found: `kind` (package, mirror, hub), `id`, `revision` (None if unknown), and where they lie."""

    kind: str
    id: str
    revision: str | None
    folder: Path
    files: tuple[Path, ...]

    @property
    def sha256(self) -> str:
        """Of the one file that matters, or of the sorted names and sums where they are several."""
        sums = [file_sha256(file) for file in self.files]
        if len(sums) == 1:
            return sums[0]
        lines = [f"{total}  {file.relative_to(self.folder)}" for total, file in zip(sums, self.files, strict=True)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """As it stands on a record."""
        return {"kind": self.kind, "id": self.id, "revision": self.revision, "sha256": self.sha256}


def mirror() -> Path:
    """The mirror's folder: `LRTL_MIRROR`, relative to the current folder, else `~/.cache/lrtl/mirror`."""
    return absolute_path(os.environ.get("LRTL_MIRROR") or "~/.cache/lrtl/mirror")


def find_on_hub(name: str, repository: Repository, *, fetch: bool = True) -> Source:
    """The files of a repository, from the mirror, else the hub's local cache, else, with `fetch`, the hub.

    Those of a mirror with a manifest are checked against it. `InputError` says what is wrong with them, or what is
    missing and the ways to get it.
    """
    folder = mirror() / repository.place
    if files := _matching(folder, repository.patterns):
        return Source("mirror", repository.id, _revision_in_mirror(folder, repository, files), folder, files)
    folder = download(repository, repository.revision, cached=True)
    if folder is None and fetch and hub_reachable():
        folder = download(repository, repository.revision)
    if folder and (files := _matching(folder, repository.patterns)):
        return Source("hub", repository.id, repository.revision or folder.name, folder, files)
    if pickles := _matching(mirror() / repository.place, PICKLES) if repository.section == "models" else ():
        raise InputError(
            f"{name}: {pickles[0]} is a pickle, which may run code when it is read; weights are taken from "
            f"{' or '.join(repository.patterns)} only."
        )
    if folder:
        raise InputError(f"{name}: {repository.id} holds no {' or '.join(repository.patterns)}.")
    unreached = " and the hub cannot be reached" if fetch else ""
    raise InputError(
        f"{name} is not on this machine{unreached}: copy {repository.id} as the hub lays it out to "
        f"{mirror() / repository.place} (or set LRTL_MIRROR to a folder that holds {repository.place}), "
        "or run once with internet access."
    )


def find_in_package(module: str, files: tuple[str, ...], sha256: str | None = None) -> Source:
    """Files that an installed package carries; the first is checked against `sha256` (or its first digits).

    The package is located, not imported. `InputError` if it is absent, or if the file is not the one expected.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"The package {module} is not installed; `pip install -r requirements.txt` brings it.")
    folder = Path(next(iter(spec.submodule_search_locations)))
    paths = tuple(folder / file for file in files)
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is missing; `pip install --force-reinstall -r requirements.txt` brings it back.")
    if sha256 and not file_sha256(paths[0]).startswith(sha256):
        raise InputError(f"{paths[0]} is not the file expected: its SHA-256 does not start with {sha256}.")
    return Source("package", module, None, folder, paths)


def require_weights(path: Path) -> None:
    """`InputError` unless reading the file runs no code: it is what the name safetensors says, or else a pickle that
    calls nothing but what torch knows to be harmless."""
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "numpy"):
                return
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("it is compressed, as torch writes none, and may be larger than any memory")
        from torch.serialization import get_unsafe_globals_in_checkpoint

        unsafe = get_unsafe_globals_in_checkpoint(path)
    except (SafetensorError, zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path} holds no weights in a form that is read here: {reason}") from None
    if unsafe:
        raise InputError(f"{path} is a pickle that would call {', '.join(unsafe)} when it is read, and is refused.")


def hub_reachable() -> bool:
    """One probe of 2 s, before any of the client's retries; False when `HF_HUB_OFFLINE` is set."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    return _answers_in_time(hub_endpoint())


def hub_endpoint() -> str:
    """The hub's address, as its client reads it."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def download(
    repository: Repository, revision: str | None, folder: Path | None = None, *, cached: bool = False
) -> Path | None:
    """Bring a repository's files at `revision` into `folder`, else into the hub's local cache; returns where they lie.

    With `cached` nothing is asked of the hub, and None says that they are not there. `InputError` if it failed.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with asking_the_hub(repository, revision):
        try:
            path = snapshot_download(
                repository.id,
                repo_type=repository.kind,
                revision=revision,
                local_dir=folder,
                allow_patterns=[f"*{pattern}" for pattern in repository.patterns] + BESIDE[repository.section],
                ignore_patterns="*/*" if repository.section == "models" else None,  # the same weights in other formats
                local_files_only=cached,
            )
        except LocalEntryNotFoundError:
            if not cached:
                raise
            return None
    return Path(path)


@contextmanager
def asking_the_hub(repository: Repository, revision: str | None) -> Iterator[None]:
    """What the hub's client raises becomes an `InputError` in one sentence, with that as its cause."""
    import httpx
    from huggingface_hub.errors import XetDownloadError

    try:
        yield
    except (httpx.HTTPError, XetDownloadError, OSError) as error:
        cause = error.__cause__ or error  # the outer one says what to do about it, in many words
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise InputError(
            f"{repository.id} at revision {revision} could not be fetched from {hub_endpoint()}: {reason}"
        ) from cause


@lru_cache(maxsize=8)
def _answers_in_time(url: str) -> bool:
    answer: list[bool] = []
    # In a thread, because a name that is looked up in vain does not heed the time-out.
    probe = threading.Thread(target=lambda: answer.append(_answers(url)), daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS + 0.2)
    return bool(answer and answer[0])


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS)
    except urllib.error.HTTPError:
        return True  # it answered, if only to say no
    except OSError:
        return False
    return True


def _revision_in_mirror(folder: Path, repository: Repository, files: tuple[Path, ...]) -> str | None:
    """What the mirror's manifest says of these files; None where it says nothing of the repository."""
    locked = manifest.read(mirror()).repositories.get(repository.place)
    if locked is None:
        return None
    unknown = [file for file in files if file.relative_to(folder).as_posix() not in locked.files]
    fault = next(manifest.faults(folder, locked), f"{unknown[0]} is not in the manifest" if unknown else None)
    if fault:
        raise InputError(f"{fault}; `fetch --to {mirror()}` brings back what belongs there.")
    return locked.revision


def _matching(folder: Path, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(sorted(path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()))
