"""The hub's files in a folder that can be carried to where there is no hub."""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lrtl_utils.data import load as tasks
from lrtl_utils.data import manifest, sources
from lrtl_utils.data.manifest import Locked, Manifest
from lrtl_utils.data.sources import Repository
from lrtl_utils.errors import InputError
from lrtl_utils.files import write_text
from lrtl_utils.models import catalog as models

PARTIAL = ".partial"  # below the mirror: what is not whole yet, by its revision
WAITS = (1.0, 4.0)  # seconds before another try, beyond the client's own


def repositories(
    dataset_names: Iterable[str] = tasks.TASKS, model_names: Iterable[str] = models.MODELS
) -> dict[str, Repository | None]:
    """Where on the hub each name lies; None for what is installed. `InputError` if a name is unknown."""
    return {name: tasks.repository(name) for name in dataset_names} | {
        name: models.repository(name) for name in model_names
    }


def fetch(wanted: Mapping[str, Repository | None], mirror: Path, report: Callable[[str], None]) -> list[str]:
    """Bring each repository into `mirror`, with what the manifest needs; returns a sentence for each that failed.

    What is there and whole is not fetched again, and files that came whole before an interruption neither.
    """
    if not sources.hub_reachable():
        raise InputError(
            f"The hub at {sources.hub_endpoint()} cannot be reached (or HF_HUB_OFFLINE is set): "
            "fetch where there is internet access, and carry the folder over."
        )
    failures = []
    for name, repository in wanted.items():
        try:
            report(f"{name}: {_bring(repository, mirror) if repository else 'installed, nothing to fetch'}")
        except (InputError, OSError) as error:
            failures.append(f"{name}: {error}")
    return failures


def _bring(repository: Repository, mirror: Path) -> str:
    """Fetch one repository unless it is there; returns what was done. It is in the mirror whole or not at all."""
    folder, partial = mirror / repository.place, mirror / PARTIAL
    held = manifest.read(mirror).repositories.get(repository.place)
    if folder.exists() and held is None:
        raise InputError(f"{folder} is there, and in no manifest: move it away, or fetch to another folder.")
    revision = repository.revision or (held and held.revision) or _patiently(lambda: _newest(repository))
    if held and held.revision == revision and not any(manifest.faults(folder, held)):
        return f"there, at {revision}"
    _patiently(lambda: _download(repository, revision, partial / revision))
    shutil.rmtree(partial / revision / ".cache")  # the client's
    locked = manifest.sums(partial / revision, revision)
    # In this order: a folder without an entry would be taken for one that the user made.
    _write(mirror, repository.place, locked)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    (partial / revision).rename(folder)
    if not any(partial.iterdir()):
        partial.rmdir()
    return f"{len(locked.files)} files, {sum(one.size for one in locked.files.values()) / 1e6:.1f} MB, at {revision}"


def _write(mirror: Path, place: str, locked: Locked) -> None:
    entries = manifest.read(mirror).repositories | {place: locked}
    text = Manifest(repositories=dict(sorted(entries.items()))).model_dump_json(indent=1)
    write_text(mirror / manifest.FILE, text)


def _patiently(ask: Callable[[], Any]) -> Any:
    """What `ask` returns; asked again after a while, unless the hub said that it is the question that is wrong."""
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
    """The commit that the hub's default branch is at."""
    from huggingface_hub import repo_info

    with sources.asking_the_hub(repository, None):
        return repo_info(repository.id, repo_type=repository.kind).sha


def _download(repository: Repository, revision: str, folder: Path) -> None:
    """Bring the files into `folder`; `InputError` unless each has the sum that the hub lists. Others are deleted."""
    from huggingface_hub import verify_repo_checksums

    sources.download(repository, revision, folder)
    with sources.asking_the_hub(repository, revision):
        found = verify_repo_checksums(repository.id, repo_type=repository.kind, revision=revision, local_dir=folder)
    if missing := [pattern for pattern in repository.patterns if not any(folder.rglob(pattern))]:
        raise InputError(f"{repository.id} at revision {revision} has no {missing[0]}.")
    for wrong in found.mismatches:
        (folder / wrong["path"]).unlink()
    if found.mismatches:
        raise InputError(f"{repository.id}: {found.mismatches[0]['path']} came with another sum than the hub lists.")
