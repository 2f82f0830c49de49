"""Where bytes come from: an installed package, the mirror, the hub's cache, the hub at a pinned revision."""

import hashlib
import importlib.util
import os
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lrtl_utils.config import ROOT, InputError

PROBE_SECONDS = 2.0
BESIDE = {"datasets": [], "models": ["*.json", "*.txt"]}  # what a client needs beside the files that are summed


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
    """The mirror's folder: `LRTL_MIRROR`, relative to the repository's root, else `~/.cache/lrtl/mirror`."""
    return ROOT / Path(os.environ.get("LRTL_MIRROR") or "~/.cache/lrtl/mirror").expanduser()


def find_on_hub(
    name: str, section: str, hub_id: str, revision: str | None, patterns: tuple[str, ...], *, fetch: bool = True
) -> Source:
    """The files of a hub repository, from the mirror, else the hub's local cache, else, with `fetch`, the hub.

    `section` is `datasets` or `models`; `patterns` name the files that a run reads and its checksum covers.
    `InputError` says what is missing and the two ways to get it.
    """
    folder = mirror() / section / hub_id
    if files := _matching(folder, patterns):
        return Source("mirror", hub_id, None, folder, files)
    folder = _snapshot(section, hub_id, revision, patterns, local=True)
    if folder is None and fetch and hub_reachable():
        folder = _snapshot(section, hub_id, revision, patterns, local=False)
    if folder and (files := _matching(folder, patterns)):
        return Source("hub", hub_id, revision or folder.name, folder, files)
    raise InputError(
        f"{name} is not on this machine and the hub cannot be reached: copy {hub_id} as the hub lays it out to "
        f"{mirror() / section / hub_id} (or set LRTL_MIRROR to a folder that holds {section}/{hub_id}), "
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


def hub_reachable() -> bool:
    """One probe of 2 s, before any of the client's retries; False when `HF_HUB_OFFLINE` is set."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    return _answers_in_time(hub_endpoint())


def hub_endpoint() -> str:
    """The hub's address, as its client reads it."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file; read once as long as its size and time stay."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


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


def _snapshot(
    section: str, hub_id: str, revision: str | None, patterns: tuple[str, ...], *, local: bool
) -> Path | None:
    """The folder of a pinned snapshot; None if it is not in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = snapshot_download(
            hub_id,
            repo_type="dataset" if section == "datasets" else "model",
            revision=revision,
            allow_patterns=[f"*{pattern}" for pattern in patterns] + BESIDE[section],
            local_files_only=local,
        )
    except LocalEntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{hub_id} at revision {revision} could not be fetched from {hub_endpoint()}: {reason}"
        ) from None
    return Path(path)


def _matching(folder: Path, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(sorted(path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()))
