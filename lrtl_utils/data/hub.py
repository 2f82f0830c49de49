"""Where files come from: an installed package, a mirror, the hub's local cache, or the hub at a pinned revision."""

import hashlib
import importlib.util
import os
import re
import shutil
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from lrtl_utils.errors import Absent, InputError, reason
from lrtl_utils.files import absolute_path, write_text

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
PROBE_SECONDS = 2.0
ASKED_AGAIN = 60.0  # seconds for which an answer of the hub, or none, is believed
BESIDE = {"dataset": [], "model": ["*.json", "*.txt", "*.model"]}  # files that are fetched too
MANIFEST = "manifest.json"
PART = re.compile(r"(.+)-\d{5}-of-(\d{5}).*\.parquet")
PARTIAL = ".partial"  # in the mirror: incomplete downloads, a folder for each revision
WAITS = (1.0, 4.0)  # seconds before another attempt, after the client's own retries


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, and the patterns of its data or weights.

    `kind` is `dataset` or `model`; a `revision` of None is the newest, until a mirror's manifest fixes one.
    """

    kind: str
    id: str
    revision: str | None
    patterns: tuple[str, ...]

    @property
    def place(self) -> str:
        """Its folder in a mirror."""
        return f"{self.kind}s/{self.id}"


@dataclass(frozen=True)
class Source:
    """Files that were found: `kind`, `id`, `revision` (None if unknown), and where they are.

    `kind` is `package`, `mirror` or `hub`, or `folder` for the files at a path that a user gave.
    `beside` are files that are loaded with a model's weights: its configuration and its tokenizer. They are in one
    folder, which may be another package's.
    """

    kind: str
    id: str
    revision: str | None
    folder: Path
    files: tuple[Path, ...]
    beside: tuple[Path, ...] = ()

    @property
    def reading_folder(self) -> Path:
        """The folder of the configuration and the tokenizer, which is that of the weights if there are none."""
        return (self.beside or self.files)[0].parent

    @cached_property
    def _stamps(self) -> dict[Path, tuple[int, ...]]:
        """The inode, size and modification time of each file that is loaded, as they are at first use."""
        return {file: _stamp(file) for file in (*self.files, *self.beside)}

    @cached_property
    def sha256(self) -> str:
        """The checksum of everything that is loaded: of the one file, or of the names and sums of several."""
        files = tuple(self._stamps)
        if len(files) == 1:
            return file_sha256(files[0])
        folder = self.files[0].parent if self.beside else self.folder  # the same model has one sum wherever it is
        names = (file.relative_to(folder) if file.is_relative_to(folder) else file.name for file in files)
        lines = [f"{file_sha256(file)}  {name}" for file, name in zip(files, names, strict=True)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def require_unchanged(self) -> None:
        """Check, after the files were read, that none has changed since its checksum was taken; else `InputError`."""
        for file, stamp in self._stamps.items():
            if not file.is_file() or _stamp(file) != stamp:
                raise InputError(f"{file} changed while it was being read; start again when nothing writes to it.")

    def describe(self) -> dict[str, Any]:
        """What a record says about it."""
        return {"kind": self.kind, "id": self.id, "revision": self.revision, "sha256": self.sha256}


def mirror() -> Path:
    """The mirror's folder: `LRTL_MIRROR`, relative to the current folder, else `~/.cache/lrtl/mirror`."""
    return absolute_path(os.environ.get("LRTL_MIRROR") or "~/.cache/lrtl/mirror")


def find_on_hub(name: str, repository: Repository, *, fetch: bool = True) -> Source:
    """The files of a repository: from the mirror, else the hub's local cache, else the hub if `fetch` is true.

    Files of a mirror are checked against its manifest, if it has one, as is a revision, and no part of a table may be
    missing. `InputError` says what is wrong, and `Absent` what is missing and how to get it.
    """
    place, wanted = mirror() / repository.place, " or ".join(repository.patterns)
    if files := _matching(place, repository.patterns):
        return Source("mirror", repository.id, _revision_in_mirror(place, repository, files), place, files)
    _revision_in_mirror(place, repository, ())  # an error if the manifest lists files that the mirror lacks
    folder = download(repository, cached=True)
    if fetch and not (folder and _is_listed(folder)) and reachable():
        try:
            folder = download(repository)
        except InputError:
            if folder is None:  # else it is used as it is, as without a connection
                raise
    if folder and (files := _matching(folder, repository.patterns)):
        return Source("hub", repository.id, folder.name, folder, files)
    if pickles := _matching(place, PICKLES) if repository.kind == "model" else ():
        raise Absent(
            f"{name}: {pickles[0]} is a pickle, which may run code when it is read; weights are taken from {wanted} "
            "only."
        )
    if folder or place.is_dir():
        raise Absent(f"{name}: {repository.id if folder else place} holds no {wanted}.")
    unreached = f" and the hub at {endpoint()} cannot be reached" if fetch else ""
    raise Absent(
        f"{name} is not on this machine{unreached}: copy the files of {repository.id}, in the hub's layout, to "
        f"{place} (or set LRTL_MIRROR to a folder that holds {repository.place}), "
        "or run once with internet access."
    )


def find_in_package(module: str, file: str, sha256: str | None = None) -> Source:
    """A file of an installed package, which is not imported; checked against (the start of) `sha256`.

    `InputError` if the package or the file is missing, or if the checksum differs.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"The package {module} is not installed; `pip install -r requirements.txt` installs it.")
    folder = Path(next(iter(spec.submodule_search_locations)))
    path = folder / file
    restores = "`pip install --force-reinstall -r requirements.txt` restores it"
    if not path.is_file():
        raise InputError(f"{path} is missing; {restores}.")
    if sha256 and not file_sha256(path).startswith(sha256):
        raise InputError(f"{path} is changed, as its SHA-256 does not start with {sha256}; {restores}.")
    return Source("package", module, None, folder, (path,))


def require_weights(path: Path) -> None:
    """`InputError` unless it is safe to read the file: it is in the safetensors format, or it is a pickle that calls
    only functions that torch knows to be harmless."""
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "numpy"):
                return
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("it is compressed, which torch never does, and may unpack to more than fits in memory")
        from torch.serialization import get_unsafe_globals_in_checkpoint

        unsafe = get_unsafe_globals_in_checkpoint(path)
    except (SafetensorError, zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} has no weights in a supported format: {reason(error)}") from None
    if unsafe:
        raise InputError(f"{path} is a pickle that would call {', '.join(unsafe)} when it is read, and is refused.")


def reachable() -> bool:
    """Whether the hub answers one request within 2 s; False if `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` is set."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return not HF_HUB_OFFLINE and _answers_in_time(endpoint(), int(time.monotonic() // ASKED_AGAIN))


def endpoint() -> str:
    """The address of the hub, which `HF_ENDPOINT` can change."""
    from huggingface_hub.constants import ENDPOINT

    return ENDPOINT


def download(repository: Repository, folder: Path | None = None, *, cached: bool = False) -> Path | None:
    """Download a repository's files to `folder`, or to the hub's local cache; returns the folder.

    With `cached` the hub is not asked, and None means that the files are not in the cache. `InputError` on failure.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with asking_the_hub(repository):
        try:
            path = snapshot_download(
                repository.id,
                repo_type=repository.kind,
                revision=repository.revision,
                local_dir=folder,
                allow_patterns=[f"*{pattern}" for pattern in repository.patterns] + BESIDE[repository.kind],
                ignore_patterns="*/*" if repository.kind == "model" else None,  # the same weights in other formats
                local_files_only=cached,
            )
        except LocalEntryNotFoundError:
            if not cached:
                raise
            return None
    return Path(path)


def _is_listed(snapshot: Path) -> bool:
    """Whether the cache has a list of the files of this snapshot, with which the client finds that none is missing."""
    return (snapshot.parents[1] / "trees" / f"{snapshot.name}.json").is_file()


@contextmanager
def asking_the_hub(repository: Repository) -> Iterator[None]:
    """Turn an error of the hub's client into an `InputError` of one sentence, with the error as its cause."""
    import httpx
    from huggingface_hub.errors import RepositoryNotFoundError, XetDownloadError

    try:
        yield
    except (httpx.HTTPError, XetDownloadError, OSError, ValueError, ImportError) as error:
        # The outer error is long and says less, except of what is gated or not there.
        cause = error if isinstance(error, RepositoryNotFoundError) else error.__cause__ or error
        at = f" at revision {repository.revision}" if repository.revision else ""
        raise InputError(f"{repository.id}{at} could not be fetched from {endpoint()}: {reason(cause)}") from cause


@lru_cache(maxsize=8)
def _answers_in_time(url: str, _minute: int) -> bool:
    answer: list[bool] = []
    importlib.import_module("huggingface_hub.utils")  # before the time begins: a busy machine takes seconds for it
    # In a thread, because the time-out does not apply to looking up a host name.
    probe = threading.Thread(target=lambda: answer.append(_answers(url)), daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS + 0.2)
    return bool(answer and answer[0])


def _answers(url: str) -> bool:
    import httpx
    from huggingface_hub.utils import get_session

    try:
        get_session().head(url, timeout=PROBE_SECONDS)  # an error code is an answer too
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):  # such as an endpoint without https://
        return False
    except ImportError:  # of what a proxy needs: the request itself then says what is missing
        return True
    return True


def _revision_in_mirror(folder: Path, repository: Repository, files: tuple[Path, ...]) -> str | None:
    """The revision of these files by the mirror's manifest; None if the repository is not in it.

    `InputError` if it is not the one that is wanted, or if a file is not as the manifest has it.
    """
    locked = read_manifest(mirror()).repositories.get(repository.place)
    if locked is None:
        return None
    if repository.revision not in (None, locked.revision):
        raise InputError(
            f"{folder} holds revision {locked.revision}, but revision {repository.revision} is needed: replace it "
            f"(`lrtl fetch --to {mirror()}` does so for what has a name in the catalog), or give the path of a "
            "folder that holds it."
        )
    if fault := next(faults(folder, locked), None):
        raise InputError(f"{fault}; `lrtl fetch --to {mirror()}` restores it.")
    require_listed(repository.place, files)
    return locked.revision


def require_listed(place: str, files: Sequence[Path]) -> None:
    """`InputError` if one of these files of a mirror's folder is not in the manifest that lists the folder."""
    locked, folder = read_manifest(mirror()).repositories.get(place), mirror() / place
    for file in files if locked else ():
        if file.is_relative_to(folder) and file.relative_to(folder).as_posix() not in locked.files:
            raise InputError(f"{file} is not in the manifest of the mirror; move it away.")


def _matching(folder: Path, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """The files in the folder; `InputError` where a part of a table is missing."""
    found = tuple(sorted(path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()))
    parts = Counter((path.parent, part[1], int(part[2])) for path in found if (part := PART.fullmatch(path.name)))
    for (place, name, count), there in parts.items():
        if there < count:
            raise InputError(f"{place} has {there} of the {count} parts of {name}; fetch or copy the others.")
    return found


class Sum(BaseModel):
    """The size in bytes and the SHA-256 of one file."""

    size: int
    sha256: str


class Locked(BaseModel):
    """One repository: its commit, and its files by their path in the repository."""

    revision: str
    files: dict[str, Sum]


class Manifest(BaseModel):
    """A mirror: its repositories by their folder, `datasets/<org>/<name>` or `models/<org>/<name>`."""

    version: Literal[1] = 1
    repositories: dict[str, Locked] = {}


def read_manifest(mirror: Path) -> Manifest:
    """The manifest of a mirror; empty if it has none. `InputError` if it cannot be read."""
    path = mirror / MANIFEST
    if not path.is_file():
        return Manifest()
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fault = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else error.strerror
        raise InputError(
            f"{path} is not a valid manifest ({fault}); delete it and its folders, and `lrtl fetch` writes them again."
        ) from None


def sums(folder: Path, revision: str) -> Locked:
    """The manifest's entry for the files in `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {
        path.relative_to(folder).as_posix(): Sum(size=path.stat().st_size, sha256=file_sha256(path)) for path in files
    }
    return Locked(revision=revision, files=entries)


def faults(folder: Path, locked: Locked) -> Iterator[str]:
    """A sentence for each file of the entry that is missing from `folder` or has changed."""
    for name, expected in locked.files.items():
        path = folder / name
        if not path.is_file():
            yield f"{path} is missing"
        elif path.stat().st_size != expected.size:
            yield f"{path} has {path.stat().st_size} bytes where the manifest has {expected.size}"
        elif (found := file_sha256(path)) != expected.sha256:
            was, now = expected.sha256[:8], found[:8]
            yield f"{path} is damaged: its SHA-256 begins with {now}, but with {was} in the manifest"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, read again only if it is another file, or its size or time has changed."""
    return _sha256(path, _stamp(path))


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=2**18)  # as many as a folder of images may have: they are read one after the other, again and again
def _sha256(path: Path, _stamp: tuple[int, ...]) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(wanted: Mapping[str, Repository | None], mirror: Path, report: Callable[[str], None]) -> list[str]:
    """Download repositories to `mirror` and add them to its manifest; returns a sentence for each that failed.

    Complete repositories, and files that were complete when a download was interrupted, are not downloaded again.
    """
    if any(wanted.values()) and not reachable():
        raise InputError(
            f"The hub at {endpoint()} cannot be reached (or HF_HUB_OFFLINE is set): "
            "run `lrtl fetch` where there is internet access, and copy its folder to this machine."
        )
    failures = []
    for name, repository in wanted.items():
        try:
            report(f"{name}: {_bring(repository, mirror) if repository else 'installed, nothing to fetch'}")
        except (InputError, OSError) as error:
            failures.append(f"{name}: {error}")
    return failures


def _bring(repository: Repository, mirror: Path) -> str:
    """Download one repository unless it is complete; returns what was done. The mirror never holds half of one."""
    folder = mirror / repository.place
    held = read_manifest(mirror).repositories.get(repository.place)
    if folder.exists() and held is None:
        raise InputError(f"{folder} exists but is not in the manifest: move it away, or fetch to another folder.")
    revision = repository.revision or (held and held.revision) or _patiently(lambda: _newest(repository))
    if held and held.revision == revision and not any(faults(folder, held)):
        return f"already complete, at {revision}"
    partial = mirror / PARTIAL / revision
    _patiently(lambda: _download(replace(repository, revision=revision), partial))
    shutil.rmtree(partial / ".cache")  # the client's
    locked = sums(partial, revision)
    # The manifest first: a folder without an entry would be taken for one that the user made.
    entries = read_manifest(mirror).repositories | {repository.place: locked}
    write_text(mirror / MANIFEST, Manifest(repositories=dict(sorted(entries.items()))).model_dump_json(indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(folder)
    if not any(partial.parent.iterdir()):
        partial.parent.rmdir()
    return f"{len(locked.files)} files, {sum(one.size for one in locked.files.values()) / 1e6:.1f} MB, at {revision}"


def _patiently(ask: Callable[[], Any]) -> Any:
    """Call `ask`, and again after a while if it fails, unless the hub says that the request is wrong."""
    for wait in WAITS:
        try:
            return ask()
        except InputError as error:
            status = getattr(getattr(error.__cause__, "response", None), "status_code", 500)
            if 400 <= status < 500 and status not in (408, 429):
                raise
        time.sleep(wait)
    return ask()


def _newest(repository: Repository) -> str:
    """The newest commit of the default branch."""
    from huggingface_hub import repo_info

    with asking_the_hub(repository):
        return repo_info(repository.id, repo_type=repository.kind).sha


def _download(repository: Repository, folder: Path) -> None:
    """Download the files to `folder`; `InputError` if one differs from the checksum on the hub, and it is deleted."""
    from huggingface_hub import verify_repo_checksums

    download(repository, folder)
    given = {"repo_type": repository.kind, "revision": repository.revision, "local_dir": folder}
    with asking_the_hub(repository):
        found = verify_repo_checksums(repository.id, **given)
    if missing := [pattern for pattern in repository.patterns if not any(folder.rglob(pattern))]:
        raise InputError(f"{repository.id} at revision {repository.revision} has no {missing[0]}.")
    for wrong in found.mismatches:
        (folder / wrong["path"]).unlink()
    if found.mismatches:
        raise InputError(f"{repository.id}: {found.mismatches[0]['path']} does not match the hub's checksum.")
