"""The record of one run: one typed schema, the run's identity, and the figures that must follow from one another."""

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AwareDatetime,
    BaseModel,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from lrtl_utils.config import SIZES, RunConfig, read_config
from lrtl_utils.data import splits
from lrtl_utils.files import data_name
from lrtl_utils.measure import metrics

SCHEMA = 2
# A parameter that a record lacks was added after it was written, and has the default with which it changes nothing.
NEEDED = {
    name for name, field in RunConfig.model_fields.items() if not (field.default is None or field.default is False)
}

Score = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
MOST = 10**30  # an integer that is much larger fits no float
Count = Annotated[int, Field(ge=0, lt=MOST)]
Positive = Annotated[int, Field(ge=1, lt=MOST)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Time = Annotated[AwareDatetime, Field(strict=False)]


class Part(BaseModel, strict=True, extra="forbid", allow_inf_nan=False):
    """A part of a record. Keys that it does not name are refused."""


class Source(Part):
    """Where bytes came from; the checksum covers everything that was loaded."""

    kind: str
    id: str
    revision: str | None
    sha256: Sha256


class DataPart(Part):
    """Sizes of the splits, and which examples were labelled. Early records have no `split`, `notes` or `repeats`."""

    train_size: Positive
    validation_size: Count
    test_size: Positive
    available: Count
    labels: list[str]
    source: Source
    split: str | None = None
    notes: list[str] = []
    repeats: dict[str, Count] | None = None
    subset_sha256: Sha256


class Rates(Part):
    """Scores of one class, or of all."""

    precision: Score
    recall: Score
    f1: Score


class ClassRates(Rates):
    """Scores of one class."""

    support: Count


class Scores(Rates):
    """All scores on one split. `score` is the one that a run is judged by, given for the validation split."""

    accuracy: Score
    loss: float
    per_class: dict[str, ClassRates]
    confusion: list[list[Count]] | None
    hits: str
    answers: str | None = None
    calibration_error: Score | None = None
    counts: str | None = None
    epochs_to_convergence: int | None
    score: Score | None = None


class Cost(Part):
    """What the run cost. Early records have no `resumed_seconds`.

    `cached_seconds` is the part of `device_seconds` that an earlier run spent on work that this run took from the
    cache of a sweep, and `cached_predict_seconds` is that part of `predict_seconds`.
    """

    device_seconds: Amount
    gpu_hours: Amount
    flops: Count
    flops_by_phase: dict[str, Count]
    peak_memory_mib: Amount
    energy_wh: Amount | None
    train_samples_per_second: Amount
    predict_seconds: Amount
    predict_samples_per_second: Amount
    overhead_seconds: float
    resumed_seconds: Amount | None = None
    cached_seconds: Amount = 0.0
    cached_predict_seconds: Amount = 0.0


class CostSoFar(Part):
    """What a run had cost when it failed."""

    device_seconds: Amount
    gpu_hours: Amount
    peak_memory_mib: Amount | None = None
    epoch: Count | None = None
    batch: Count | None = None


class ModelPart(Part):
    """Where the weights came from, and how many parameters there are."""

    source: Source | None
    parameters: Count
    trainable_parameters: Count
    temperature: Annotated[float, Field(gt=0)] | None = None
    note: str | None = None


class Point(Part, extra="allow"):
    """One point of the curve, after an epoch or a rung; a method may add keys."""

    epoch: int
    rung: int | None = None
    loss: float | None
    validation_loss: float | None
    validation_score: Score | None
    penalty: float | None = None
    left_out_score: Score | None = None
    left_out_loss: Amount | None = None
    names_fit: bool | None = None
    device_seconds: Amount
    flops: Count


class Environment(Part):
    """The machine and the versions that a number depends on; `host` is a checksum of a machine and its last start.

    `setfit` and `sentence_transformers` are of an environment that has them. Earlier records have neither, nor
    `scikit_learn`. Of the first records `host` is of the machine's name alone, or absent.
    """

    device: str
    host: str | None = None
    cores: Positive
    threads: Positive
    precision: str | None
    python: str
    torch: str
    transformers: str
    datasets: str
    timm: str
    scikit_learn: str | None = None
    setfit: str | None = None
    sentence_transformers: str | None = None
    commit: str | None
    method_version: Count


class Configuration(RunConfig):
    """The resolved configuration, and under `asked` the values that something else now stands for."""

    asked: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _has_what_is_needed(cls, config: Any) -> Any:
        if isinstance(config, Mapping) and (missing := sorted(NEEDED - config.keys())):
            raise ValueError(f"{missing[0]} is missing")
        return config

    @field_validator("asked")
    @classmethod
    def _asked_are_knobs(cls, asked: dict[str, Any]) -> dict[str, Any]:
        read_config(asked)
        return asked


class Record(Part):
    """What every record has."""

    number: Literal[2] = Field(alias="schema")
    run_id: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    config: Configuration
    environment: Environment
    started_at: Time
    finished_at: Time
    checksum: Sha256


class Failed(Record):
    """The record of a run that did not complete: its reason, and its cost so far."""

    status: Literal["failed"]
    error: Annotated[str, Field(min_length=1)]
    data: None
    metrics: None
    validation: None
    cost: CostSoFar
    model: None
    curve: Annotated[list[Any], Field(max_length=0)]


class Completed(Record):
    """The record of a completed run."""

    status: Literal["completed"]
    error: None
    data: DataPart
    metrics: Scores
    validation: Scores | None
    cost: Cost
    model: ModelPart
    curve: Annotated[list[Point], Field(min_length=1)]


_ADAPTER = TypeAdapter(Annotated[Completed | Failed, Field(discriminator="status")])


def parse(content: Any) -> Completed | Failed:
    """A record's content, typed; pydantic's `ValidationError` where it does not have the schema."""
    return _ADAPTER.validate_python(content)


def problem(error: ValidationError) -> str:
    """The first thing that does not have the schema, as `place: reason`; without a place the `status` is wrong."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("completed", "failed"))
    return f"{place or 'status'}: {first['msg']}"


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of everything in the record but its checksum."""
    return hashlib.sha256(_canonical({key: content[key] for key in content if key != "checksum"})).hexdigest()


def run_id(
    config: Mapping[str, Any], data: str, weights: str | None, method_version: int, split: str | None = None
) -> str:
    """First 12 hex digits of the SHA-256 of the resolved configuration, the checksums and the method's version.

    Knobs that are None or False do not enter, so that one that is added later leaves the names of earlier runs alone.
    Of a path only the last part does: the same files have the same runs wherever they lie. Of the `split`, only how
    repeated inputs were kept together does: before that was done, the same files had another test split.
    """
    given = {name: value for name, value in config.items() if value is not None and value is not False}
    given |= {name: data_name(given[name]) for name in ("dataset", "model")}
    identity = {"config": given, "data": data, "weights": weights, "method_version": method_version}
    identity |= {"split": split} if split == splits.TOGETHER else {}
    return hashlib.sha256(_canonical(identity)).hexdigest()[:12]


def kind_of(content: Mapping[str, Any]) -> str:
    """The kind of task of a completed run: `tokens`, `image` or `text`."""
    return "tokens" if "counts" in content["metrics"] else "image" if content["config"]["image_size"] else "text"


def identifying(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a record as it enters the id: with the `max_length` that was asked for.

    Where none was asked for, the training texts or the model decide it, and it follows from data and method.
    """
    config = {name: value for name, value in content["config"].items() if name != "asked"}
    length = config["max_length"]
    return config | {"max_length": length and content["config"]["asked"].get("max_length", length)}


def identity(content: Mapping[str, Any], *, files: bool = True) -> str:
    """The id that the record of a completed run must have; without `files`, the one that `Run.outline` gives it."""
    version, config = content["environment"]["method_version"], identifying(content)
    if not files:
        return run_id(config, "", None, version)
    data, weights = content["data"], content["model"]["source"]
    return run_id(config, data["source"]["sha256"], weights and weights["sha256"], version, data.get("split"))


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def faults(run: Completed | Failed) -> Iterator[str]:
    """Sentences on what contradicts itself in a record that has the schema."""
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


def labels_asked_for(run: Completed) -> int:
    """How many labels the configuration gives the run; with `shots` at most, since a class may have fewer."""
    if run.config.shots:
        return run.config.shots * len(run.data.labels)
    return run.config.train_size or splits.share_of(run.data.available, run.config.data_fraction or 0)


def _sizes(run: Completed) -> Iterator[str]:
    data, config = run.data, run.config
    n_labels, asked = data.train_size + data.validation_size, labels_asked_for(run)
    if n_labels > asked or (n_labels < asked and not config.shots):
        yield f"data: {n_labels} labelled examples, but the config asks for {asked}"
    if data.validation_size != splits.share_of(n_labels, config.validation_share or 0):
        yield f"data: {data.validation_size} validation examples where validation_share={config.validation_share}"
    if run.validation is None and config.validation_share:
        yield f"validation: no scores where validation_share={config.validation_share}"
    if run.validation and not config.validation_share:
        yield "validation: scores where there is no validation split"
    if config.test_limit and data.test_size > config.test_limit:
        yield f"data: {data.test_size} test examples where test_limit={config.test_limit}"
    if run.model.trainable_parameters > run.model.parameters:
        yield "model: more trainable parameters than parameters"
    if run.finished_at < run.started_at:
        yield "it finished before it started"


def _scores(scores: Scores, size: int, classes: list[str]) -> Iterator[str]:
    """The scores follow from which of `size` examples were right."""
    try:
        hits = metrics.unpack_hits(scores.hits, size)
        answers = None if scores.answers is None else metrics.unpack_rows(scores.answers, 2)
        counts = None if scores.counts is None else metrics.unpack_rows(scores.counts, 3)
    except (ValueError, zlib.error) as error:
        yield f"hits, answers or counts cannot be unpacked: {error}"
        return
    if counts is not None:
        yield from _from_counts(scores, hits, counts)
    elif [len(row) for row in scores.confusion or []] != [len(classes)] * len(classes):
        yield f"no confusion matrix of {len(classes)} classes"
    else:
        confusion = np.array(scores.confusion)
        yield from _from_confusion(scores, hits, confusion, classes)
        if answers is not None and not _fit(answers, hits, confusion):
            yield "answers contradict hits or the confusion matrix"


def _fit(answers: np.ndarray, hits: np.ndarray, confusion: np.ndarray) -> bool:
    """Whether the answers [examples, 2] are right where the hits say so, and make up the confusion matrix."""
    if len(answers) != len(hits) or answers.max(initial=0) >= len(confusion):
        return False
    counted = np.zeros_like(confusion)
    np.add.at(counted, tuple(answers.T), 1)
    return np.array_equal(answers[:, 0] == answers[:, 1], hits) and np.array_equal(counted, confusion)


def _from_counts(scores: Scores, hits: np.ndarray, counts: np.ndarray) -> Iterator[str]:
    """For entities: `counts` [sentences, 3] are those found rightly, predicted and expected."""
    if len(counts) != len(hits):
        yield f"counts of {len(counts)} sentences where there are {len(hits)}"
        return
    if np.any(counts[hits] != counts[hits][:, :1]) or np.any(counts[:, :1] > counts):
        yield "hits and counts contradict each other"
    yield from _differences(scores, metrics.entity_scores(*counts.sum(0).tolist()))


def _from_confusion(scores: Scores, hits: np.ndarray, confusion: np.ndarray, classes: list[str]) -> Iterator[str]:
    """For classes, without scikit-learn, which would take most of the time of a check of many records."""
    if confusion.sum() != len(hits):
        yield f"the confusion matrix holds {confusion.sum()} answers where there are {len(hits)}"
        return
    if confusion.trace() != hits.sum():
        yield f"{hits.sum()} hits where the confusion matrix has {confusion.trace()}"
    right, predicted, support = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    parts = {"precision": (right, predicted), "recall": (right, support), "f1": (2 * right, predicted + support)}
    each = {name: part / np.maximum(whole, 1) for name, (part, whole) in parts.items()}
    macro = {name: column[support > 0].mean() for name, column in each.items()}
    yield from _differences(scores, {"accuracy": hits.mean(), **macro})
    if list(scores.per_class) != classes:
        yield "per_class is not of the classes"
        return
    for i, (name, claimed) in enumerate(scores.per_class.items()):
        again = {rate: column[i] for rate, column in each.items()} | {"support": support[i]}
        yield from (f"{name}: {fault}" for fault in _differences(claimed, again))


def _differences(claimed: Rates, again: dict[str, float]) -> Iterator[str]:
    for name, value in again.items():
        if not _close(getattr(claimed, name), value):
            yield f"{name} is {getattr(claimed, name)} where the answers make it {value}"


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _costs(run: Completed) -> Iterator[str]:
    cost = run.cost
    if sum(cost.flops_by_phase.values()) != cost.flops:
        yield f"cost: the phases' FLOPs sum to {sum(cost.flops_by_phase.values())}, not to {cost.flops}"
    if cost.overhead_seconds < 0:
        yield "cost: overhead_seconds is negative"
    if cost.cached_seconds > cost.device_seconds or cost.cached_predict_seconds > cost.predict_seconds:
        yield "cost: more seconds are from the cache than there are"
    predicted = cost.predict_samples_per_second * cost.predict_seconds
    if not math.isclose(predicted, run.data.test_size, rel_tol=1e-6):
        yield f"cost: {predicted:.6g} test predictions were timed, but there are {run.data.test_size} test examples"
    for name in ("device_seconds", "flops"):
        values = [getattr(part, name) for part in (*run.curve, cost)]
        if values != sorted(values):
            yield f"curve: {name} decreases along the curve, or ends above the {getattr(cost, name)} of the run"


def _curve(run: Completed) -> Iterator[str]:
    """A point an epoch; or a point a rung: rung 0 is one epoch, each other rung as many as the configuration has."""
    reached = [point.epoch for point in run.curve]
    rungs = [point.rung for point in run.curve if point.rung is not None]
    epochs = run.config.epochs or 1
    each = (1 + i * epochs for i in range(len(reached))) if rungs else range(1, epochs + 1)
    due = [*islice(each, len(reached) + 1)]
    if reached != due:
        yield f"curve: epochs {reached} where epochs={run.config.epochs} makes them {due}"
    if rungs and (rungs[0] != 0 or rungs != sorted(set(rungs)) or len(rungs) < len(reached)):
        yield f"curve: rungs {rungs} where they climb from 0"
    scored = [point.validation_score is not None for point in run.curve]
    if scored != [run.validation is not None] * len(scored):
        yield f"curve: {sum(scored)} of {len(scored)} points have validation scores"
    converged = metrics.epochs_to_convergence([point.model_dump() for point in run.curve])
    if converged != run.metrics.epochs_to_convergence:
        yield f"metrics: epochs_to_convergence is {run.metrics.epochs_to_convergence}, by the curve {converged}"


def in_words(config: Mapping[str, Any]) -> str:
    """The run of a resolved configuration, as a person would name it."""
    size = next((name for name in SIZES if config[name] is not None), "data_fraction")
    names = f"{data_name(config['dataset'])} {data_name(config['model'])} {config['method']}"
    return f"{names} {size}={config[size]} seed={config['seed']}"
