"""The record of a run: one JSON file, written atomically, checked when read."""

import contextlib
import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lrtl_utils.config import RunConfig
from lrtl_utils.errors import InputError
from lrtl_utils.files import ROOT, data_name, lines_of, read_text, results_folder, write_text

SCHEMA = 1
MOST_BYTES = 2**25  # of a record, which has a few thousand
ASKED_FILE = "asked.json"  # in a run's work folder: what was planned where a sweep runs something smaller in its place


class RunRecord(BaseModel):
    """What stands in `<results>/runs/<dataset>/<run_id>.json`. A failed run has no metrics, but its cost so far."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1]
    run_id: str
    status: Literal["completed", "failed"]
    error: str | None
    started_at: str
    finished_at: str
    config: dict[str, Any]
    data: dict[str, Any] | None
    metrics: dict[str, Any] | None
    validation: dict[str, Any] | None
    cost: dict[str, Any]
    model: dict[str, Any] | None
    curve: list[dict[str, Any]]
    environment: dict[str, Any]


def run_id(config: Mapping[str, Any], data_sha256: str, weights_sha256: str | None) -> str:
    """First 12 hex digits of the SHA-256 of the resolved config and the checksums of data and weights.

    Knobs that are None or False do not enter, so that one that is added later leaves the names of earlier runs alone.
    Of a path only the last part does: the same files have the same runs wherever they lie.
    """
    given = {name: value for name, value in config.items() if value is not None and value is not False}
    given |= {name: data_name(given[name]) for name in ("dataset", "model")}
    identity = {"config": given, "data": data_sha256, "weights": weights_sha256}
    return hashlib.sha256(_canonical(identity)).hexdigest()[:12]


def identifying(record: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a record as its run's id has it: with the `max_length` that was asked for, see `methods.identify`.

    Not with the one on the record: that is what the training texts gave, or what the model allows.
    """
    config = {name: value for name, value in record["config"].items() if name != "asked"}
    length = config["max_length"]
    return config | {"max_length": length and record["config"]["asked"].get("max_length", length)}


def record_path(results: Path, dataset: str, identity: str) -> Path:
    """Where the record of that run lies."""
    return results / "runs" / data_name(dataset) / f"{identity}.json"


def in_words(config: Mapping[str, Any]) -> str:
    """The run of a resolved config, as a person would name it."""
    size = next((name for name in ("shots", "train_size") if config[name] is not None), "data_fraction")
    names = f"{data_name(config['dataset'])} {data_name(config['model'])} {config['method']}"
    return f"{names} {size}={config[size]} seed={config['seed']}"


def work_folder(results: Path, identity: str) -> Path:
    """Where a run keeps its progress and checkpoint until its record is written."""
    return results / "work" / identity


def completed(
    results: str | Path,
    identity: str,
    config: RunConfig,
    asked: RunConfig,
    *,
    data: dict[str, Any],
    metrics: dict[str, Any],
    validation: dict[str, Any] | None,
    cost: dict[str, Any],
    model: dict[str, Any],
    curve: list[dict[str, Any]],
    precision: str,
) -> Path:
    """Write the record of a completed run, and delete its progress and checkpoint; returns the record's path."""
    planned = work_folder(results_folder(results), identity) / ASKED_FILE
    in_place_of = json.loads(planned.read_text()) if planned.is_file() else {}
    clocked = cost["device_seconds"] - cost.get("resumed_seconds", 0.0) + cost["predict_seconds"]
    cost = cost | {"overhead_seconds": time.time() - _process_start() - clocked}
    record = {
        "status": "completed",
        "error": None,
        "config": config.model_dump() | {"asked": changed(asked, config) | in_place_of},
        "data": data,
        "metrics": metrics,
        "validation": validation,
        "cost": cost,
        "model": model,
        "curve": curve,
        "environment": environment(config.device, precision),
    }
    return _write(results_folder(results), identity, config.dataset, record, started=_process_start())


def failed(results: str | Path, identity: str, config: RunConfig, asked: RunConfig, error: str, started: float) -> Path:
    """Write the record of a run that did not complete, with the cost its progress file tells; keeps its checkpoint.

    A record that says completed stays.
    """
    results = results_folder(results)
    if is_completed(path := record_path(results, config.dataset, identity)):
        return path
    progress = work_folder(results, identity) / "progress.json"
    spent = json.loads(progress.read_text()) if progress.is_file() else {"device_seconds": 0.0}
    record = {
        "status": "failed",
        "error": error,
        "config": config.model_dump() | {"asked": changed(asked, config)},
        "data": None,
        "metrics": None,
        "validation": None,
        "cost": spent | {"gpu_hours": spent["device_seconds"] / 3600},
        "model": None,
        "curve": [],
        "environment": environment(config.device, None),
    }
    return _write(results, identity, config.dataset, record, started)


def changed(asked: RunConfig, used: RunConfig) -> dict[str, Any]:
    """The values that were asked for and that something else stands in for, clamped or resolved."""
    return {name: value for name, value in asked.model_dump().items() if value != getattr(used, name)}


def read(path: Path) -> dict[str, Any]:
    """One record, checked against its schema and its checksum; `InputError` says which failed."""
    try:
        record = json.loads(read_text(path, MOST_BYTES))
        checksum = record.pop("checksum")
        schema = record.pop("schema")
        RunRecord(schema_version=schema, **record)
        computed = _checksum({"schema": schema} | record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a readable record ({_reason(error)}).") from None
    if checksum != computed:
        raise InputError(f"{path} does not match its own checksum.")
    if record["run_id"] != path.stem:
        raise InputError(f"{path} does not match its own name: its run_id is {record['run_id']}.")
    return {"schema": schema} | record | {"checksum": checksum}


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"schema: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {error}"


def readable(path: Path) -> dict[str, Any] | None:
    """The record that lies there, or None. One that cannot be read is quarantined, not deleted."""
    if not path.is_file():
        return None
    try:
        return read(path)
    except InputError:
        quarantine(path)
        return None


def is_completed(path: Path) -> bool:
    """Whether a valid record of a completed run lies there."""
    record = readable(path)
    return record is not None and record["status"] == "completed"


def quarantine(path: Path) -> Path:
    """Move a record that cannot be trusted to `<results>/quarantine/`, keeping what is there."""
    folder = path.parents[2] / "quarantine"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{path.stem}-{time.time_ns()}.json"
    with contextlib.suppress(FileNotFoundError):  # another worker moved it first
        path.rename(target)
    return target


def records(results: str | Path) -> Iterator[dict[str, Any]]:
    """All valid records below `results`, in the order of their paths; others are passed over with a warning."""
    import warnings

    for path in sorted(results_folder(results).glob("runs/*/*.json")):
        try:
            yield read(path)
        except InputError as error:
            warnings.warn(str(error), stacklevel=2)


def environment(device: str, precision: str | None) -> dict[str, Any]:
    """The machine and the versions that a number depends on; nothing that names a person or a path."""
    import psutil

    packages = ("torch", "transformers", "datasets", "timm")
    return {
        "device": device_name(device),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": _threads(),
        "precision": precision,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "commit": _commit(),
    }


def device_name(device: str) -> str:
    """The card's name, or the processor's."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    model = [line for line in lines_of(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return f"{device}: {model[0].split(':', 1)[1].strip() if model else platform.processor() or platform.machine()}"


def machines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each machine that the records come from, then for each set of versions."""
    environments = [record["environment"] for record in records]
    names = ("python", "torch", "transformers", "datasets", "timm")
    devices = {f"{e['device']}, {e['threads']} threads" for e in environments}
    versions = {", ".join(f"{name} {e[name]}" for name in names) for e in environments}
    return [*sorted(devices), *sorted(versions)]


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def _process_start() -> float:
    import psutil

    return psutil.Process().create_time()


def _write(results: Path, identity: str, dataset: str, record: dict[str, Any], started: float) -> Path:
    record = {
        "schema": SCHEMA,
        "run_id": identity,
        **record,
        "started_at": _utc(started),
        "finished_at": _utc(time.time()),
    }
    record["checksum"] = _checksum(record)
    path = record_path(results, dataset, identity)
    text = json.dumps(record, indent=1, allow_nan=False)
    write_text(path, text)
    if record["status"] == "completed":
        shutil.rmtree(work_folder(results, identity), ignore_errors=True)
    return path


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical({key: record[key] for key in record if key != "checksum"})).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
