"""Ways of adapting a model: which blocks train, at which rate, and the defaults that stand for `None`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrtl_utils.config import InputError, RunConfig, require_name, resolve_device
from lrtl_utils.cost import CostMeter
from lrtl_utils.models import MODELS, Backbone, find
from lrtl_utils.runs import run_id
from lrtl_utils.sampling import count_labelled, share_of
from lrtl_utils.sources import Source
from lrtl_utils.tasks import TASKS, Data, Examples

if TYPE_CHECKING:
    from lrtl_utils.networks import Model

Curve = list[dict[str, Any]]
SIZES = ("shots", "train_size", "data_fraction")  # the first that is given counts
ALWAYS = {"dataset", "model", "method", *SIZES, "selection", "seed", "device", "test_limit"}
NO_MODEL = "none"


@dataclass(frozen=True)
class Method:
    """One method: its function, the tasks it is for, the knobs it has with their defaults, and how its model is built.

    A knob that is not among the defaults does nothing here and is taken out of the config.
    """

    fit: Callable[["Setting"], Curve]
    defaults: Callable[[str, Backbone | None], dict[str, Any]]
    kinds: tuple[str, ...] = ("text", "image", "tokens")
    pretrained: bool = True
    pooling: str = "mean"
    plain: bool = False  # batches as an example script has them
    needs_model: bool = True


@dataclass(frozen=True)
class Setting:
    """What a method works with."""

    model: "Model"
    data: Data
    train: Examples
    carve: Examples | None
    config: RunConfig
    meter: CostMeter
    work: Path | None


def resolve(asked: RunConfig, data: Data) -> RunConfig:
    """The config as it will run: defaults in the place of None, what does not apply taken out, the rest clamped.

    `max_length` and `precision='auto'` wait for the training texts and the device. `InputError` where dataset, model
    and method do not go together.
    """
    check(asked)
    method = METHODS[asked.method]
    backbone = MODELS[asked.model] if method.needs_model else None
    defaults = method.defaults(data.kind, backbone)
    values = asked.model_dump()
    size = next((name for name in SIZES if values[name] is not None), None)
    values |= {name: None for name in SIZES if name != size}
    for name in set(values) - ALWAYS:
        values[name] = defaults.get(name) if values[name] is None else values[name] if name in defaults else None
    values["model"] = asked.model if method.needs_model else NO_MODEL
    values["device"] = resolve_device(asked.device) if method.needs_model else "cpu"
    sizes = np.bincount(data.strata(data.train)).tolist()
    labels = count_labelled(sizes, **{name: values[name] for name in SIZES})
    return RunConfig(**values | _clamped(values, labels))


def check(asked: RunConfig) -> None:
    """`InputError` unless the names exist and go together; looks at no data."""
    for what, table in (("dataset", TASKS), ("model", MODELS), ("method", METHODS)):
        require_name(what, getattr(asked, what), table)
    kind, method = TASKS[asked.dataset].kind, METHODS[asked.method]
    if kind not in method.kinds:
        fitting = ", ".join(name for name, row in METHODS.items() if kind in row.kinds)
        raise InputError(f"Method {asked.method!r} is not for {kind}, as {asked.dataset!r} is; {fitting} are.")
    if not method.needs_model:
        return
    backbone = MODELS[asked.model]
    if kind not in backbone.kinds:
        fitting = ", ".join(name for name, row in MODELS.items() if kind in row.kinds)
        raise InputError(f"Model {asked.model!r} does not read {kind}, as {asked.dataset!r} is; {fitting} do.")
    if method.pretrained and backbone.library == "ours":
        raise InputError(f"Model {asked.model!r} has no pre-trained weights; its method is 'from_scratch'.")


def identify(config: RunConfig, asked: RunConfig, data: Source, weights: Source | None) -> str:
    """The run's id. A `max_length` left to the rule enters as None: what the rule gives follows from the data."""
    identity = config.model_dump() | {"max_length": asked.max_length and config.max_length}
    return run_id(identity, data.sha256, weights and weights.sha256)


def find_weights(config: RunConfig) -> Source | None:
    """Where the weights of a resolved config lie; None where its method or model has none."""
    return None if config.model == NO_MODEL else find(config.model)


def build(config: RunConfig, data: Data, weights: Source | None) -> "Model":
    """The model of a resolved config, fresh, in the form its method wants."""
    from lrtl_utils import models

    method = METHODS[config.method]
    if not method.needs_model:
        return models.build_tfidf(len(data.labels))
    options = {"pooling": method.pooling, "plain": method.plain, "pretrained": method.pretrained}
    return models.build(config, data.kind, len(data.labels), weights, **options)


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
    return METHODS[config.method].fit(Setting(model, data, train, carve, config, meter, work))


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


def _train(setting: Setting, frozen: int, decay: float, *, buckets: bool) -> Curve:
    """Train all blocks above the `frozen` lowest; the rate falls by `decay` a block from the head down."""
    from lrtl_utils import training

    model, config = setting.model, setting.config
    model.freeze(frozen)
    rows = training.encode_training(model, setting.train, config.max_length)
    carve = setting.carve and model.reader.encode(setting.carve.inputs, setting.carve.targets)
    rates = [(model.head_parameters(), config.learning_rate)]
    for depth, block in enumerate(reversed(model.blocks[frozen:]), 1):
        rates.append((list(block.parameters()), config.learning_rate * decay**depth))
    return training.fit(
        model,
        rows,
        config,
        rates,
        meter=setting.meter,
        labels=setting.data.labels,
        buckets=buckets,
        carve=carve,
        work=setting.work,
    )


def fit_conventional(setting: Setting) -> Curve:
    """All weights at one rate, padded to full length, in fp32: what an example script does (Devlin et al. 2019)."""
    return _train(setting, frozen=0, decay=1.0, buckets=False)


def fit_from_scratch(setting: Setting) -> Curve:
    """The same architecture from random weights: what the pre-training is worth."""
    return _train(setting, frozen=0, decay=1.0, buckets=True)


def fit_full(setting: Setting) -> Curve:
    """All blocks but a text model's lowest two, rates falling 0.8 a block (Howard & Ruder 2018), in length buckets."""
    text = setting.data.kind != "image"
    setting.model.fixed_statistics = True
    return _train(setting, frozen=2 if text else 0, decay=0.8, buckets=True)


def fit_linear_probe(setting: Setting) -> Curve:
    """A regularised linear head on features of the frozen backbone, extracted once."""
    from lrtl_utils import heads, training

    model, meter = setting.model, setting.meter
    model.freeze(len(model.blocks))
    rows = training.encode_training(model, setting.train, setting.config.max_length)
    chunks = training.extract(model, rows, setting.config, meter)
    loss = heads.solve_head(model, chunks, PROBE_L2[setting.data.kind], meter)
    return [_only_point(setting, loss)]


def fit_tfidf(setting: Setting) -> Curve:
    """TF-IDF of words and pairs of words with logistic regression: no pre-training at all."""
    import torch
    from sklearn.linear_model import LogisticRegression

    from lrtl_utils.batches import check_texts
    from lrtl_utils.cost import linear_solver_flops, tfidf_flops

    model, labels = setting.model, setting.data.labels
    check_texts(setting.train.inputs)
    matrix = model.reader.tokenizer.fit_transform(setting.train.inputs)
    solver = LogisticRegression(C=TFIDF_C, max_iter=1000).fit(matrix, setting.train.targets)
    weights, bias = torch.from_numpy(solver.coef_), torch.from_numpy(solver.intercept_)
    if len(solver.classes_) == 2:  # scikit-learn keeps the difference of the two classes' scores
        weights, bias = torch.cat([-weights, weights]) / 2, torch.cat([-bias, bias]) / 2
    model.head = torch.nn.Linear(matrix.shape[1], len(labels))
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(float("-1e4"))  # a class without an example is never answered
        model.head.weight[solver.classes_] = weights.float()
        model.head.bias[solver.classes_] = bias.float()
    iterations = int(max(solver.n_iter_))
    setting.meter.closed_form_flops += tfidf_flops(matrix.nnz)
    setting.meter.closed_form_flops += linear_solver_flops(matrix.nnz, len(labels), iterations)
    return [_only_point(setting, None)]


def _only_point(setting: Setting, loss: float | None) -> dict[str, Any]:
    """The curve of a method that solves instead of stepping; the carve, where a grid asks for one, is scored once."""
    from lrtl_utils import answers, training

    point = {"epoch": 1, "loss": loss, "validation_loss": None, "validation_score": None}
    if setting.carve is not None:
        model = setting.model
        rows = model.reader.encode(setting.carve.inputs, setting.carve.targets)
        prediction = training.predict_rows(model, rows, setting.config, setting.meter)
        metrics = answers.evaluate(model, rows.targets, prediction, setting.data.labels)
        point |= {"validation_loss": prediction.loss, "validation_score": answers.headline(model, metrics)}
    return point | {"device_seconds": setting.meter.seconds()}


TFIDF_C = 10.0
PROBE_L2 = {"text": 300.0, "image": 300.0, "tokens": 30.0}
STEPS = {
    "batch_size": 16,
    "accumulate": 1,
    "optimizer": "adamw",
    "dropout": None,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "validation_share": 0.0,
}


def _conventional(kind: str, backbone: Backbone) -> dict[str, Any]:
    """Frozen: every comparison of this project is against these."""
    rule = {"learning_rate": 5e-5, "epochs": 3, "scheduler": "linear", "warmup_steps": 0, "precision": "fp32"}
    return STEPS | rule | _input_size(kind, 224, "light")


def _full(kind: str, backbone: Backbone) -> dict[str, Any]:
    # Tried on minilm; wider transformers are known to want rates that fall about with the square of the width.
    rate = 1e-3 if kind == "image" else 5e-4 * (384 / backbone.width) ** 2
    rule = {"learning_rate": rate, "scheduler": "cosine", "warmup_steps": 0, "precision": "auto"}
    # A new head on few images, or on few sentences with their many tags, needs more passes than one on a text.
    rule |= {"epochs": {"text": 3, "image": 8, "tokens": 10}[kind]}
    return STEPS | rule | _input_size(kind, 160, "none")


def _from_scratch(kind: str, backbone: Backbone) -> dict[str, Any]:
    rule = {"learning_rate": 5e-4, "epochs": 10, "scheduler": "cosine", "warmup_steps": 0, "precision": "auto"}
    if backbone.library == "ours":
        rule |= {"optimizer": "adam", "epochs": 30, "scheduler": "constant", "precision": "fp32"}
        return STEPS | rule | {"weight_decay": 0.0} | (_input_size(kind, 32, "none") if kind == "image" else {})
    return STEPS | rule | _input_size(kind, 160, "light")


def _linear_probe(kind: str, backbone: Backbone) -> dict[str, Any]:
    return {"batch_size": 32, "precision": "auto", "validation_share": 0.0} | _input_size(kind, 224, None)


def _tfidf(kind: str, backbone: None) -> dict[str, Any]:
    return {"validation_share": 0.0}


def _input_size(kind: str, image_size: int, augment: str | None) -> dict[str, Any]:
    if kind != "image":
        return {"max_length": None}
    return {"image_size": image_size} | ({"augment": augment} if augment else {})


METHODS = {
    "tfidf": Method(fit_tfidf, _tfidf, kinds=("text",), pretrained=False, needs_model=False),
    "from_scratch": Method(fit_from_scratch, _from_scratch, pretrained=False),
    "conventional": Method(fit_conventional, _conventional, pooling="own", plain=True),
    "full": Method(fit_full, _full),
    "linear_probe": Method(fit_linear_probe, _linear_probe),
}
