"""Records on disk: where they are, how they are written whole, and how they are read."""

import contextlib
import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load
from lrtl_utils.errors import Absent, InputError, OfAnotherVersion, Unreadable, counted
from lrtl_utils.files import (
    ROOT,
    absolute_path,
    data_name,
    lines_of,
    read_text,
    require_claim,
    still_claimed,
    write_text,
)
from lrtl_utils.methods import VERSIONS
from lrtl_utils.models import own
from lrtl_utils.runs.record import SCHEMA, CostSoFar, checksum, parse, problem

MOST_BYTES = 2**25  # of a record, which has a few thousand
PAUSES = (0.1, 0.3, 0.6)  # seconds until a record that could not be read is tried again: most such errors pass


def record_path(results: Path, dataset: str, identity: str) -> Path:
    """Where the record of that run is."""
    return results / "runs" / data_name(dataset) / f"{identity}.json"


def work_folder(results: Path, identity: str) -> Path:
    """Where a run keeps its progress and checkpoint until its record is written."""
    return results / "work" / identity


def completed(
    results: Path,
    identity: str,
    config: RunConfig,
    asked: Mapping[str, Any],
    *,
    started: float,
    clocked: float,
    claim: Path | None = None,
    **parts: Any,
) -> dict[str, Any]:
    """Write the record of a completed run, and delete its progress and checkpoint; returns the record.

    A run may be done again for its model: the record of a run that was completed before stays.
    `started` is when this process began to work for the run, and `clocked` are the seconds that were timed since then.
    `parts` are the other parts of the record. `ClaimLost`, and nothing is written, where the run is no longer this
    process's; what another process then works with is not deleted.
    """
    require_claim(claim)
    parts["cost"] = parts["cost"] | {"overhead_seconds": time.time() - started - clocked}
    record = _write(results, identity, config, asked, started, None, parts)
    if still_claimed(claim):
        shutil.rmtree(work_folder(results, identity), ignore_errors=True)
    return record


def failed(
    results: Path, identity: str, config: RunConfig, asked: Mapping[str, Any], error: str, started: float
) -> Path:
    """Write the record of a run that did not complete, with its cost so far; keeps its checkpoint. Returns its path.

    The record of a completed run stays.
    """
    parts = dict.fromkeys(("data", "metrics", "validation", "model")) | {"curve": []}
    spent = progress(results, identity) or CostSoFar(device_seconds=0.0, gpu_hours=0.0)
    parts["cost"] = spent.model_dump(exclude_unset=True)
    _write(results, identity, config, asked, started, error, parts)
    return record_path(results, config.dataset, identity)


def progress(results: Path, identity: str) -> CostSoFar | None:
    """What a run has written of its cost (see `methods.loop.write_progress`); None if nothing, or nothing readable."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        spent = json.loads((work_folder(results, identity) / "progress.json").read_bytes())
        return CostSoFar(**spent, gpu_hours=spent["device_seconds"] / 3600)
    return None


def changed(asked: RunConfig, used: RunConfig) -> dict[str, Any]:
    """The values that were asked for but not used, because they were clamped or resolved."""
    return {name: value for name, value in asked.model_dump().items() if value != getattr(used, name)}


def _write(
    results: Path,
    identity: str,
    config: RunConfig,
    asked: Mapping[str, Any],
    started: float,
    error: str | None,
    parts: Mapping[str, Any],
) -> dict[str, Any]:
    record = {
        "schema": SCHEMA,
        "run_id": identity,
        "status": "completed" if error is None else "failed",
        "error": error,
        "config": {**_placeless(results, config.model_dump()), "asked": _placeless(results, dict(asked))},
        **parts,
        "environment": environment(config),
        "started_at": _utc(started),
        "finished_at": _utc(time.time()),
    }
    record["checksum"] = checksum(record)
    parse(record)
    path = record_path(results, config.dataset, identity)
    if not is_completed(path):
        write_text(path, json.dumps(record, indent=1, allow_nan=False))
    return record


def require_apart(results: Path, asked: Iterable[RunConfig]) -> None:
    """`InputError` where records would be written into a folder of data or of a model, which runs look through."""
    names = {(each.dataset, each.model) for each in asked}
    real = Path(os.path.realpath(results))
    folders = {("data", load.absolute(name)) for name, _ in names}
    folders |= {("model", own.absolute(name)) for _, name in names}
    folders |= {("saved model", str(each)) for each in (real, *real.parents) if (each / own.KEPT_FILE).is_file()}
    for what, folder in sorted(folders):
        if os.path.isabs(folder) and real.is_relative_to(os.path.realpath(folder)):
            raise InputError(f"{results} is in the folder of the {what}, {folder}; choose another folder for results.")


def _placeless(results: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with paths of own data and an own model relative to the results folder: a record names no place.

    Links are resolved first, because `..` after a link leads elsewhere; the last part of a path stays as given.
    """
    given = {name: values[name] for name in ("dataset", "model") if os.path.isabs(values.get(name) or "")}
    for name, path in given.items():
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        given[name] = os.path.join(".", os.path.relpath(real, os.path.realpath(results)))
    return {**values, **given}


def place(results: Path, name: str) -> str:
    """The path that a record of this folder means by a data set or model, or the name that it is."""
    if not name.startswith((".", os.sep)):
        return name
    seen = os.path.normpath(results.absolute() / name)
    # Earlier versions saw through links, and a folder may have been moved since, with a link left in its place.
    return seen if os.path.exists(seen) else os.path.normpath(os.path.join(os.path.realpath(results), name))


def placed(results: Path, record: dict[str, Any]) -> dict[str, Any]:
    """A record of this folder whose paths hold on this machine."""
    config = record["config"]
    return record | {"config": config | {name: place(results, config[name]) for name in ("dataset", "model")}}


def read(path: Path) -> dict[str, Any]:
    """One record, checked against its schema, its checksum and its name; `InputError` says which failed.

    It is `Unreadable` where the system could not read the file, even when tried again, and `OfAnotherVersion` where the
    checksum holds and the schema does not.
    """
    text = _text(path)
    try:
        record = json.loads(text)
        computed = checksum(record)
        parse(record)
    except ValidationError as error:
        if isinstance(record, dict) and record.get("checksum") == computed:
            what = f"{path} was written by another version of lrtl_utils (schema: {problem(error)})"
            raise OfAnotherVersion(f"{what}; use that version, or another folder for results.") from None
        raise InputError(f"{path} is not a readable record (schema: {problem(error)}).") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a readable record ({type(error).__name__}: {error}).") from None
    if record["checksum"] != computed:
        raise InputError(f"{path} does not match its own checksum.")
    if record["run_id"] != path.stem:
        raise InputError(f"{path} does not match its own name: its run_id is {record['run_id']}.")
    return record


def _text(path: Path) -> str:
    for pause in PAUSES:
        try:
            return read_text(path, MOST_BYTES)
        except Unreadable:
            time.sleep(pause)
    return read_text(path, MOST_BYTES)


def readable(path: Path) -> dict[str, Any] | None:
    """The record at that path, or None. One that is not valid goes to `<results>/quarantine/`.

    `Unreadable` or `OfAnotherVersion` as in `read`: the record may be as it should, so the run must not be done again.
    """
    try:
        return read(path)
    except (Unreadable, OfAnotherVersion):
        raise
    except Absent:
        return None
    except InputError as error:
        target = path.parents[2] / "quarantine" / f"{path.stem}-{time.time_ns()}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another worker moved it first
            path.rename(target)
            warnings.warn(f"{error} It was moved to {target}, and no longer counts.", stacklevel=2)
        return None


def is_completed(path: Path) -> bool:
    """Whether there is a valid record of a completed run."""
    record = readable(path)
    return record is not None and record["status"] == "completed"


def paths(results: str | Path) -> list[Path]:
    """The files of all records below `results`, valid or not, in order."""
    return sorted(absolute_path(results).glob("runs/*/*.json"))


def records(results: str | Path, status: str | None = None) -> Iterator[dict[str, Any]]:
    """The valid records below `results`, or those of one status, in the order of their paths; see `valid`."""
    found = (record for path in paths(results) if (record := valid(path)))
    return (record for record in found if status in (None, record["status"]))


def valid(path: Path) -> dict[str, Any] | None:
    """The record at that path, or None with a warning where it is not valid.

    `Unreadable` where the system could not read it, because without it the others may give another answer.
    """
    try:
        return read(path)
    except Unreadable:
        raise
    except InputError as error:
        warnings.warn(str(error), stacklevel=3)
        return None


def outdated(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence that names the methods whose records are of another version than is installed, if any are."""
    found = {(record["config"]["method"], record["environment"]["method_version"]) for record in records}
    changed = [
        f"{method} (version {version}, now {VERSIONS[method]})"
        for method, version in sorted(found)
        if VERSIONS.get(method, version) != version
    ]
    return [f"Some methods have changed since these runs were made: {', '.join(changed)}."] if changed else []


def environment(config: RunConfig) -> dict[str, Any]:
    """The machine and the versions that a number depends on; nothing that names a person or a path."""
    import psutil
    import torch

    packages = ("torch", "transformers", "datasets", "timm", "scikit-learn")
    peers = [name for name in ("setfit", "sentence-transformers") if any(distributions(name=name))]
    host = " ".join([platform.node(), *lines_of(Path("/proc/sys/kernel/random/boot_id"))])  # machines share names
    return {
        "device": device_name(config.device),
        "host": hashlib.sha256(host.encode()).hexdigest()[:8],
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": config.precision or "fp32",
        "python": platform.python_version(),
        **{package.replace("-", "_"): _version(package) for package in (*packages, *peers)},
        "commit": _commit(),
        "method_version": VERSIONS[config.method],
    }


_version = lru_cache(version)  # looked up in many folders


def device_name(device: str) -> str:
    """The card's name, or the processor's."""
    if device == "cuda":
        import torch

        try:
            return torch.cuda.get_device_name()
        except Exception:  # whatever CUDA raises of a device that has failed: the record of that must still be written
            return device
    model = [line for line in lines_of(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return f"{device}: {model[0].split(':', 1)[1].strip() if model else platform.processor() or platform.machine()}"


def machines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each machine that the records come from, for each set of versions, and for what has changed since."""
    records = list(records)
    environments = [record["environment"] for record in records]
    names = ("python", "torch", "transformers", "datasets", "timm")
    devices = {f"{e['device']}, {counted(e['threads'], 'thread')}" for e in environments}
    versions = {", ".join(f"{name} {e[name]}" for name in names) for e in environments}
    return [*sorted(devices), *sorted(versions), *outdated(records)]


def process_start() -> float:
    """When this process was started.

    On Linux psutil's answer may be a second off, since it adds to the time of the boot, known in whole seconds.
    """
    import psutil

    if sys.platform != "linux":
        return psutil.Process().create_time()
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def _commit() -> str | None:
    if not (ROOT / ".git").exists():  # an installed package may lie in an environment inside another repository
        return None
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
        words = [*git, "--no-optional-locks", "status", "--porcelain", "--", "lrtl_utils"]
        changed = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:  # there is no git, or none that may be started
        return None
    return head.stdout.strip() + "+" * bool(changed.stdout) or None


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
