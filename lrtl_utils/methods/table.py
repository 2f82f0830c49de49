"""Ways of adapting a model: which blocks train, at which rate, and the defaults that stand for `None`."""

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrtl_utils.config import RunConfig, resolve_device
from lrtl_utils.data import load as tasks
from lrtl_utils.data import splits
from lrtl_utils.data.catalog import TASKS
from lrtl_utils.data.hub import Source
from lrtl_utils.data.load import READING
from lrtl_utils.data.splits import Data, Examples, Facts, count_labelled, share_of
from lrtl_utils.errors import InputError, require_name
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import METHODS
from lrtl_utils.methods.method import Curve, Work
from lrtl_utils.models import own as own_models
from lrtl_utils.models.catalog import MODELS, ONE_BLOCK, backbone, find
from lrtl_utils.runs.store import run_id

if TYPE_CHECKING:
    from lrtl_utils.models.network import Model

SIZES = ("shots", "train_size", "data_fraction")  # the first that is given counts
ALWAYS = {*READING, "model", "method", *SIZES, "selection", "seed", "device", "test_limit"}
NO_MODEL = "none"


def resolve(asked: RunConfig, data: Data | Facts) -> RunConfig:
    """The config as it will run: defaults in the place of None, what does not apply taken out, the rest clamped.

    `max_length` and `precision='auto'` wait for the training texts and the device. `InputError` where dataset, model
    and method do not go together.
    """
    check(asked)
    method = METHODS[asked.method]
    row = backbone(asked.model) if method.needs_model else None
    values = asked.model_dump()
    size = next((name for name in SIZES if values[name] is not None), None)
    values |= {name: None for name in SIZES if name != size}
    labels = count_labelled(data.sizes, **{name: values[name] for name in SIZES})
    own = method.defaults(data.kind, row, labels)
    for name in set(values) - ALWAYS:
        values[name] = own.get(name) if values[name] is None else values[name] if name in own else None
    values["dataset"] = tasks.absolute(asked.dataset)
    values["model"] = own_models.absolute(asked.model) if method.needs_model else NO_MODEL
    values["device"] = resolve_device(asked.device) if method.needs_model else "cpu"
    return RunConfig(**values | _clamped(values, labels))


def check(asked: RunConfig) -> None:
    """`InputError` unless the names exist and go together; looks at no more of the data than tells its kind."""
    require_name("method", asked.method, METHODS)
    kind, method = tasks.kind_of(asked.dataset), METHODS[asked.method]
    if asked.dataset in TASKS and (asked.text_column or asked.label_column):
        raise InputError(f"text_column and label_column are for your own files; {asked.dataset!r} has its own.")
    if kind not in method.kinds:
        fitting = ", ".join(name for name, row in METHODS.items() if kind in row.kinds)
        raise InputError(f"Method {asked.method!r} is not for {kind}, as {asked.dataset!r} is; {fitting} are.")
    if asked.selection != "random" and not method.features:
        fitting = ", ".join(name for name, row in METHODS.items() if row.features)
        raise InputError(f"selection={asked.selection!r} needs frozen features; of the methods, {fitting} have them.")
    if asked.selection != "random" and asked.shots is not None:
        raise InputError(
            f"selection={asked.selection!r} cannot count shots of a class unseen; give train_size instead."
        )
    for piece in asked.without.split(",") if asked.without and method.pieces else []:
        require_name(f"piece of {asked.method}", piece, method.pieces)
    row = backbone(asked.model) if method.needs_model or asked.model != NO_MODEL else None
    if row is None or not method.needs_model:
        return
    if kind not in row.kinds:
        fitting = ", ".join(name for name, row in MODELS.items() if kind in row.kinds)
        raise InputError(f"Model {asked.model!r} does not read {kind}, as {asked.dataset!r} is; {fitting} do.")
    if method.pretrained and row.library == "ours":
        raise InputError(f"Model {asked.model!r} has no pre-trained weights; its method is 'from_scratch'.")


def identify(config: RunConfig, asked: RunConfig, data: Source | None, weights: Source | None) -> str:
    """The run's id.

    A `max_length` left to a rule, of `training.length_rule` or `defaults.LADDER_RULE`, enters as None: it follows from
    data and code. Where the code of a rule changes, the records of before are stale.

    Without `data` it is an id of the config alone, which names no record.
    """
    identity = config.model_dump() | {"max_length": asked.max_length and config.max_length}
    return run_id(identity, data.sha256 if data else "", weights and weights.sha256)


def find_weights(config: RunConfig, *, fetch: bool = True) -> Source | None:
    """Where the weights of a resolved config lie; None where its method or model has none. As `models.find`."""
    return None if config.model == NO_MODEL else find(config.model, fetch=fetch)


def build(config: RunConfig, data: Data | Facts, weights: Source | None) -> "Model":
    """The model of a resolved config, fresh, in the form its method wants; random and mute without `weights`."""
    from lrtl_utils.models import build as models

    method = METHODS[config.method]
    if not method.needs_model:
        return models.build_tfidf(len(data.labels))
    options = {"pooling": method.pooling, "plain": method.plain, "pretrained": method.pretrained}
    model = models.build(config, data.kind, len(data.labels), weights, **options)
    if len(model.blocks) == 1:
        if method.needs_blocks:
            fitting = ", ".join(name for name, row in METHODS.items() if row.needs_model and not row.needs_blocks)
            raise InputError(f"Method {config.method!r} is not for {config.model!r}: {ONE_BLOCK}; {fitting} are.")
        warnings.warn(f"{config.model}: {ONE_BLOCK}.", stacklevel=2)
    return model


def label(model: "Model", data: Data, config: RunConfig, meter: CostMeter) -> tuple[Examples, Examples | None]:
    """The examples whose labels this run may see, as (trained on, validation carve or None), by its `selection`."""
    if config.selection == "random":
        return splits.labelled(data, config)
    from lrtl_utils.methods import active as selection

    return splits.labelled(data, config, selection.choose(model, data, config, meter))


def fit(
    model: "Model",
    data: Data,
    train: Examples,
    carve: Examples | None,
    config: RunConfig,
    *,
    meter: CostMeter,
    work: Path | None = None,
) -> Curve:
    """Adapt `model` to the examples by the config's method; returns the curve of loss and cost."""
    prepare(model, config)
    return METHODS[config.method].fit(Work(model, data, train, carve, config, meter, work))


def prepare(model: "Model", config: RunConfig) -> None:
    """Freeze or adapt `model` as the steps of the config's method want it."""
    if METHODS[config.method].prepare:
        METHODS[config.method].prepare(model)


def _clamped(values: dict[str, Any], labels: int) -> dict[str, Any]:
    """A batch no larger than the data, and a warm-up longer than the run as a tenth of its steps."""
    if not values["batch_size"]:
        return {}
    trained = labels - share_of(labels, values["validation_share"] or 0)
    clamped = {"batch_size": max(1, min(values["batch_size"], trained))}
    if values["epochs"] and values["warmup_steps"]:
        batches = math.ceil(trained / clamped["batch_size"])
        steps = math.ceil(batches / values["accumulate"]) * values["epochs"]
        if values["warmup_steps"] > steps:
            clamped["warmup_steps"] = steps // 10
    return clamped
