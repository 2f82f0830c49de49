"""Records for other programs: tables, MLflow, trackio, and studies of Optuna for its dashboard."""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet

from lrtl_utils.errors import InputError, Unreadable, reason
from lrtl_utils.files import first_line, read_text, writable_folder, write_atomically, writing_to
from lrtl_utils.runs import store
from lrtl_utils.runs.record import in_words
from lrtl_utils.study import record_cache, tables

MOST_METRICS, MOST_RUNS = 1000, 50_000  # in one request to MLflow


def csv(results: Path, file: Path | None = None) -> list[str]:
    """Write a row for each run to `file` (None: `runs.csv` in the folder).

    The columns are those of `tables.records`, except `record` and `outcome`. `InputError` if the folder has no records,
    or if the file is there and holds something else.
    """
    return _table(results, file, "runs.csv", pd.DataFrame.to_csv, lambda path: first_line(path).split(","))


def parquet(results: Path, file: Path | None = None) -> list[str]:
    """What `csv` writes, as parquet, which keeps the types (None: `runs.parquet`)."""
    return _table(results, file, "runs.parquet", pd.DataFrame.to_parquet, _parquet_columns)


def _parquet_columns(file: Path) -> list[str]:
    try:
        return pyarrow.parquet.read_schema(file).names
    except pyarrow.ArrowInvalid:  # it is no parquet file
        return []


def _table(
    results: Path, file: Path | None, usual: str, write: Callable[..., Any], columns_of: Callable[[Path], list[str]]
) -> list[str]:
    file = file or results / usual
    if file.is_file() and columns_of(file)[:1] != tables.COLUMNS[:1]:
        raise InputError(f"{file} holds no table of runs, so it is not overwritten; name another file.")
    frame = tables.frame_of(_records(results)).drop(columns=["record", "outcome"])
    with writing_to(file):
        write_atomically(file, lambda stream: write(frame, stream, index=False))
    return [f"rows: {len(frame)}, columns: {len(frame.columns)}", str(file)]


def mlflow(results: Path, uri: str | None = None) -> list[str]:
    """Add the runs that are not there yet to the experiment with the folder's name, at a tracking URI of MLflow.

    None is the file `mlflow.db` in the folder. A run has the configuration as parameters, scores and costs as metrics,
    each point of its curve as a step, and as tags the id and the checksum of its record, by which it is known.
    """
    quick = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    os.environ.update(quick | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"} | os.environ)
    import mlflow as client_library
    from mlflow.entities import Metric, Param, RunTag

    records, uri = _records(results), uri or _sqlite(writable_folder(results) / "mlflow.db")
    try:
        client = client_library.MlflowClient(uri)
        experiment = client.get_experiment_by_name(results.name)
        number = experiment.experiment_id if experiment else client.create_experiment(results.name)
        there = {run.data.tags.get("checksum") for run in client.search_runs([number], max_results=MOST_RUNS)}
        new = [record for record in records if record["checksum"] not in there]
        for record in new:
            times = (datetime.fromisoformat(record[name]) for name in ("started_at", "finished_at"))
            started, finished = (int(time.timestamp() * 1000) for time in times)  # in milliseconds
            params, metrics = _parts(record)
            points = [Metric(name, value, finished, 0) for name, value in metrics.items()]
            points += [Metric(name, value, finished, step) for step, at in _curve(record) for name, value in at.items()]
            run = client.create_run(number, started, run_name=in_words(record["config"]))
            for first in range(0, len(points), MOST_METRICS):
                client.log_batch(run.info.run_id, points[first : first + MOST_METRICS])
            # Last, so that a run that was cut off is not known.
            tags = {"run_id": record["run_id"], "checksum": record["checksum"]}
            tags |= {"error": record["error"]} if record["error"] else {}
            client.log_batch(
                run.info.run_id,
                params=[Param(name, str(value)) for name, value in params.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
            client.set_terminated(
                run.info.run_id, "FINISHED" if record["status"] == "completed" else "FAILED", finished
            )
    except client_library.MlflowException as error:
        raise InputError(f"MLflow at {uri} cannot be used: {reason(error)}") from error
    local = "://" not in uri or uri.startswith("sqlite")
    opened = f"; `mlflow ui --backend-store-uri {shlex.quote(uri)}` opens it" if local else ""
    return [f"runs added: {len(new)}, already there: {len(records) - len(new)}{opened}", uri]


def trackio(results: Path) -> list[str]:
    """Add the runs that are not there yet to trackio's project with the folder's name, each under its run_id.

    A failed run has a name of its own, because the run that repairs it has the same id. The project is in the folder
    `trackio` in the results, unless `TRACKIO_DIR` or `TRACKIO_SERVER_URL` names another place.
    """
    records = _records(results)
    place = os.environ.setdefault("TRACKIO_DIR", str(results / "trackio"))
    import trackio as library  # it reads the variable

    there: set[str] = set()
    with contextlib.suppress(ValueError):  # there is no such project yet
        there = {run.name for run in library.Api().runs(results.name)}
    named = {record["run_id"] + (" failed" if record["error"] else ""): record for record in records}
    new = {name: record for name, record in named.items() if name not in there}
    with contextlib.redirect_stdout(sys.stderr):  # it prints how it is used
        for name, record in new.items():
            params, metrics = _parts(record)
            off = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
            run = library.init(results.name, name=name, config=params | {"status": record["status"]}, **off)
            for step, point in _curve(record):
                run.log(point, step=step)
            run.log(metrics, step=len(record["curve"]) + 1)
            run.finish()
    opened = f"`TRACKIO_DIR={shlex.quote(place)} trackio show` opens it"
    return [f"runs added: {len(new)}, already there: {len(records) - len(new)}; {opened}", place]


def optuna(results: Path, file: Path | None = None) -> list[str]:
    """Write the searches of `lrtl search` as studies of Optuna to a SQLite file (None: `optuna.db` in the folder).

    A trial is a setting with its mean validation score; settings that were known before the search come first. A study
    has the name of the search's file, and replaces one of that name. `InputError` where the folder has no search.
    """
    import optuna as library

    searches = {path.stem: _search(path) for path in sorted(results.glob("search/*.json"))}
    if not searches:
        raise InputError(f"There are no searches in {results / 'search'}; `lrtl search` makes them.")
    library.logging.set_verbosity(library.logging.WARNING)
    file = file or results / "optuna.db"
    with writing_to(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab+") as stream:
            stream.seek(0)
            if stream.read(15) not in {b"", b"SQLite format 3"}:
                raise InputError(f"{file} already exists and is not an SQLite database; name another file.")
    url = _sqlite(file)
    try:
        storage = library.storages.RDBStorage(url)
    except Exception as error:  # of Optuna for an older version's file, of SQLAlchemy for one that is locked or damaged
        raise InputError(f"{file} cannot be used by Optuna: {reason(error)}") from None
    for name, search in searches.items():
        with contextlib.suppress(KeyError):
            library.delete_study(study_name=name, storage=storage)
        study = library.create_study(storage=storage, study_name=name, direction="maximize")
        study.add_trials([_trial(row, search["knobs"]) for row in search["rows"]])
    return [f"studies written: {len(searches)}; `optuna-dashboard {shlex.quote(url)}` opens them", url]


def _sqlite(file: Path) -> str:
    """The address of a database file, whose name may have marks that an address gives a meaning."""
    from sqlalchemy import URL  # a requirement of both that use it

    return URL.create("sqlite", database=str(file)).render_as_string()


def _search(path: Path) -> dict[str, Any]:
    """The `knobs` of a search, and its `rows`: settings that were known before it, and its trials."""
    try:
        search = json.loads(read_text(path, store.MOST_BYTES))
        return {"knobs": search["space"]["knobs"], "rows": [*search["known"], *search["trials"]]}
    except Unreadable:  # it may be a whole record
        raise
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} is not the record of a search; delete it, and `lrtl search` makes it again."
        ) from None


def _trial(row: Mapping[str, Any], knobs: Mapping[str, list[Any]]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import TrialState, create_trial

    numeric = {name: all(type(choice) in (int, float) for choice in choices) for name, choices in knobs.items()}
    return create_trial(
        state=TrialState.FAIL if row["score"] is None else TrialState.COMPLETE,
        value=row["score"],
        params=row["config"],
        distributions={
            name: FloatDistribution(choices[0], choices[-1]) if numeric[name] else CategoricalDistribution(choices)
            for name, choices in knobs.items()
        },
        user_attrs={name: row[name] for name in row if name not in ("config", "score") and row[name] is not None},
    )


def _records(results: Path) -> list[dict[str, Any]]:
    records = record_cache.records(results)
    if not records:
        raise InputError(f"There are no records in {results / 'runs'}.")
    return records


def _parts(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """The configuration, and the scores and costs, under the names that the columns of a table of runs have."""
    row = {name: value for name, value in tables.row_of(record).items() if "." in name and value is not None}
    params = {name: value for name, value in row.items() if name.startswith("config.")}
    return params, {name: float(value) for name, value in row.items() if name not in params}


def _curve(record: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, float]]]:
    """The epoch of each point of the curve, and the values that it has."""
    for point in record["curve"]:
        yield point["epoch"], {f"curve.{name}": point[name] for name in tables.CURVE if point[name] is not None}
