"""Whether one record keeps the protocol: the schema of its parts, and figures that follow from one another."""

import math
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lrtl_utils.config import RunConfig, read_config
from lrtl_utils.data import splits
from lrtl_utils.errors import InputError
from lrtl_utils.measure import metrics

Score = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """Keys that are not named in a part are not looked at."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Source(_Part):
    sha256: Sha256


class _Data(_Part):
    train_size: Annotated[int, Field(ge=1)]
    validation_size: Count
    test_size: Annotated[int, Field(ge=1)]
    available: Count
    labels: list[str]
    source: _Source
    subset_sha256: Sha256
    repeats: dict[str, Count] | None = None  # records of earlier versions have none


class _Rates(_Part):
    precision: Score
    recall: Score
    f1: Score


class _Class(_Rates):
    support: Count


class _Scores(_Rates):
    accuracy: Score
    loss: float
    per_class: dict[str, _Class]
    confusion: list[list[Count]] | None
    hits: str
    counts: str | None = None
    epochs_to_convergence: int | None
    score: Score | None = None


class _Spent(_Part):
    device_seconds: Amount
    gpu_hours: Amount


class _Cost(_Spent):
    flops: Count
    flops_by_phase: dict[str, Count] | None = None  # likewise
    peak_memory_mib: Amount
    energy_wh: Amount | None
    train_samples_per_second: Amount
    predict_seconds: Amount
    predict_samples_per_second: Amount
    overhead_seconds: float
    resumed_seconds: Amount | None = None  # likewise


class _Model(_Part):
    source: _Source | None
    parameters: Count
    trainable_parameters: Count


class _Point(_Part):
    epoch: int
    rung: int | None = None
    device_seconds: Amount
    flops: Count | None = None  # likewise
    validation_score: Score | None
    left_out_score: Score | None = None


class Failed(_Part):
    """A record of a run that did not complete."""

    error: Annotated[str, Field(min_length=1)]
    config: RunConfig
    metrics: None
    cost: _Spent


class Completed(_Part):
    """A record of a completed run, as far as it is checked."""

    error: None
    config: RunConfig
    data: _Data
    metrics: _Scores
    validation: _Scores | None
    cost: _Cost
    model: _Model
    curve: Annotated[list[_Point], Field(min_length=1)]
    started_at: Annotated[datetime, Field(strict=False)]
    finished_at: Annotated[datetime, Field(strict=False)]


def parts(record: Mapping[str, Any]) -> Completed | Failed:
    """The record's parts, typed; `InputError` or pydantic's `ValidationError` where one is of another form."""
    config = dict(record["config"])
    asked = config.pop("asked", None)
    if not isinstance(asked, dict):
        raise InputError("config: `asked` is no mapping of parameters to values.")
    read_config(config | asked)
    form = Completed if record["status"] == "completed" else Failed
    return form.model_validate(dict(record) | {"config": read_config(config)})


def faults(run: Completed | Failed) -> Iterator[str]:
    """What is wrong with a record whose parts have their schema, in words."""
    cost = run.cost
    if not _close(cost.gpu_hours, cost.device_seconds / 3600):
        yield f"cost: {cost.gpu_hours} GPU hours where there are {cost.device_seconds} device seconds"
    if isinstance(run, Failed):
        return
    yield from _sizes(run)
    yield from (f"metrics: {fault}" for fault in _scores(run.metrics, run.data.test_size, run.data.labels))
    if run.validation:
        scores, size = run.validation, run.data.validation_size
        yield from (f"validation: {fault}" for fault in _scores(scores, size, run.data.labels))
        headline = scores.accuracy if scores.counts is None else scores.f1
        if scores.score != headline:
            yield f"validation: score is {scores.score} where the headline is {headline}"
    yield from _costs(run)
    yield from _curve(run)


def gaps(run: Completed | Failed) -> Iterator[str]:
    """What cannot be checked on the record, and why."""
    if isinstance(run, Failed):
        yield "failed, so no checksums of data and weights stand on it from which to recompute its id"
        return
    if any(point.flops is None for point in run.curve):
        yield "of an earlier version, without FLOPs on its curve"
    if run.cost.flops_by_phase is None:
        yield "of an earlier version, without FLOPs by phase"
    if run.cost.resumed_seconds is None and run.cost.overhead_seconds < 0:
        yield "of an earlier version and resumed: its overhead_seconds are less than nothing, by what was done before"


def asked_labels(run: Completed) -> int:
    """How many labels the config gives the run; with `shots` at most, since a class may have fewer."""
    if run.config.shots:
        return run.config.shots * len(run.data.labels)
    return run.config.train_size or splits.share_of(run.data.available, run.config.data_fraction or 0)


def _sizes(run: Completed) -> Iterator[str]:
    data, config = run.data, run.config
    labels, asked = data.train_size + data.validation_size, asked_labels(run)
    if labels > asked or (labels < asked and not config.shots):
        yield f"data: {labels} labelled examples where the config makes them {asked}"
    if data.validation_size != splits.share_of(labels, config.validation_share or 0):
        yield f"data: a carve of {data.validation_size} where validation_share={config.validation_share}"
    if run.validation is None and config.validation_share:
        yield f"validation: no scores where validation_share={config.validation_share}"
    if run.validation and not config.validation_share:
        yield "validation: scores where there is no carve"
    if config.test_limit and data.test_size > config.test_limit:
        yield f"data: {data.test_size} test examples where test_limit={config.test_limit}"
    if run.model.trainable_parameters > run.model.parameters:
        yield "model: more trainable parameters than parameters"
    if run.finished_at < run.started_at:
        yield "it finished before it started"


def _scores(scores: _Scores, size: int, labels: list[str]) -> Iterator[str]:
    """The scores follow from what was answered on each of `size` examples."""
    try:
        hits = metrics.unpack_hits(scores.hits, size)
        counts = None if scores.counts is None else metrics.unpack_counts(scores.counts)
    except (ValueError, zlib.error) as error:
        yield f"hits or counts cannot be unpacked: {error}"
        return
    if counts is not None:
        yield from _from_counts(scores, hits, counts)
    elif [len(row) for row in scores.confusion or []] != [len(labels)] * len(labels):
        yield f"no confusion matrix of {len(labels)} labels"
    else:
        yield from _from_confusion(scores, hits, np.array(scores.confusion), labels)


def _from_counts(scores: _Scores, hits: np.ndarray, counts: np.ndarray) -> Iterator[str]:
    """Of entities: `counts` [sentences, 3] are those found rightly, predicted and expected."""
    if len(counts) != len(hits):
        yield f"counts of {len(counts)} sentences where there are {len(hits)}"
        return
    if np.any(counts[hits] != counts[hits][:, :1]) or np.any(counts[:, :1] > counts):
        yield "hits and counts contradict each other"
    right, predicted, expected = counts.sum(0).tolist()
    again = {"precision": (right, predicted), "recall": (right, expected), "f1": (2 * right, predicted + expected)}
    yield from _differences(scores, {name: part / max(whole, 1) for name, (part, whole) in again.items()})


def _from_confusion(scores: _Scores, hits: np.ndarray, confusion: np.ndarray, labels: list[str]) -> Iterator[str]:
    if confusion.sum() != len(hits):
        yield f"the confusion matrix holds {confusion.sum()} answers where there are {len(hits)}"
        return
    if confusion.trace() != hits.sum():
        yield f"{hits.sum()} hits where the confusion matrix has {confusion.trace()}"
    expected, predicted = np.divmod(np.repeat(np.arange(confusion.size), confusion.ravel()), len(labels))
    again = metrics.classification(expected, predicted, labels)
    yield from _differences(scores, {name: again[name] for name in ("accuracy", "precision", "recall", "f1")})
    if list(scores.per_class) != list(again["per_class"]):
        yield "per_class is not of the labels"
        return
    for label, each in again["per_class"].items():
        yield from (f"{label}: {fault}" for fault in _differences(scores.per_class[label], each))


def _differences(claimed: _Rates, again: dict[str, float]) -> Iterator[str]:
    for name, value in again.items():
        if not _close(getattr(claimed, name), value):
            yield f"{name} is {getattr(claimed, name)} where the answers make it {value}"


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _costs(run: Completed) -> Iterator[str]:
    cost = run.cost
    if cost.flops_by_phase is not None and sum(cost.flops_by_phase.values()) != cost.flops:
        yield f"cost: the phases' FLOPs sum to {sum(cost.flops_by_phase.values())}, not to {cost.flops}"
    if cost.resumed_seconds is not None and cost.overhead_seconds < 0:
        yield "cost: overhead_seconds are less than nothing"
    predicted = cost.predict_samples_per_second * cost.predict_seconds
    if not math.isclose(predicted, run.data.test_size, rel_tol=1e-6):
        yield f"cost: {predicted:.6g} test predictions were timed where each of {run.data.test_size} is due once"
    for name in ("device_seconds", "flops"):
        values = [getattr(point, name) for point in run.curve if getattr(point, name) is not None]
        if [*values, getattr(cost, name)] != sorted([*values, getattr(cost, name)]):
            yield f"curve: {name} fall, or end above the run's {getattr(cost, name)}"


def _curve(run: Completed) -> Iterator[str]:
    """A point an epoch; or a point a rung, the ground one epoch and each other one as many as the config has."""
    told = [point.epoch for point in run.curve]
    rungs = [point.rung for point in run.curve if point.rung is not None]
    epochs = run.config.epochs or 1
    due = [1 + i * epochs for i in range(len(told))] if rungs else list(range(1, epochs + 1))
    if told != due:
        yield f"curve: epochs {told} where epochs={run.config.epochs} makes them {due}"
    if rungs and (rungs[0] != 0 or rungs != sorted(set(rungs)) or len(rungs) < len(told)):
        yield f"curve: rungs {rungs} where they climb from 0"
    scored = [point.validation_score is not None for point in run.curve]
    if scored != [run.validation is not None] * len(scored):
        yield f"curve: {sum(scored)} of {len(scored)} points have validation scores"
    converged = metrics.epochs_to_convergence([point.model_dump() for point in run.curve])
    if converged != run.metrics.epochs_to_convergence:
        yield f"metrics: epochs_to_convergence is {run.metrics.epochs_to_convergence}, by the curve {converged}"
