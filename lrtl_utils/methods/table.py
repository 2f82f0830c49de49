"""Ways of adapting a model: which blocks train, at which rate, and the defaults that stand for `None`."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrtl_utils.config import RunConfig, resolve_device
from lrtl_utils.data import load as tasks
from lrtl_utils.data import splits
from lrtl_utils.data.load import READING, TASKS
from lrtl_utils.data.sampling import count_labelled, share_of
from lrtl_utils.data.sources import Source
from lrtl_utils.data.splits import Data, Examples, Facts
from lrtl_utils.errors import InputError, require_name
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import defaults
from lrtl_utils.models import own as own_models
from lrtl_utils.models.catalog import MODELS, ONE_BLOCK, Backbone, backbone, find
from lrtl_utils.runs.store import run_id

if TYPE_CHECKING:
    from lrtl_utils.models.network import Model

# What a `fit` returns: a point an epoch or a rung, with `epoch`, `loss` in nats, `validation_loss`, `validation_score`
# (both None without a carve) and `meter.so_far()`, from which the point's cost is counted afterwards.
Curve = list[dict[str, Any]]
SIZES = ("shots", "train_size", "data_fraction")  # the first that is given counts
ALWAYS = {*READING, "model", "method", *SIZES, "selection", "seed", "device", "test_limit"}
NO_MODEL = "none"
PIECES = ("label_names", "tail", "warm_start", "soften", "decay", "average", "cache", "buckets")
LORA_RANK = 8
TFIDF_C = 10.0


@dataclass(frozen=True)
class Method:
    """One method: its function, the tasks it is for, the knobs it has with their defaults, and how its model is built.

    A knob that is not among the defaults does nothing here and is taken out of the config.
    """

    fit: Callable[["Setting"], Curve]
    defaults: Callable[[str, Backbone | None, int], dict[str, Any]]
    prepare: Callable[["Model"], None] | None = None  # decides what its steps train
    kinds: tuple[str, ...] = ("text", "image", "tokens")
    pretrained: bool = True
    pooling: str = "mean"
    plain: bool = False  # batches as an example script has them
    needs_model: bool = True
    features: bool = True  # frozen ones, to select examples by
    needs_blocks: bool = False  # some of which it trains and some not
    pieces: tuple[str, ...] = ()  # what `without` may leave out


@dataclass(frozen=True)
class Setting:
    """What a method works with: a fresh model, the examples that are labelled, and the meter whose clock is running.

    `carve` is None where nothing is carved off; in `work` a fit that takes long keeps its checkpoint, None: nowhere.
    """

    model: "Model"
    data: Data
    train: Examples
    carve: Examples | None
    config: RunConfig
    meter: CostMeter
    work: Path | None


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
    return METHODS[config.method].fit(Setting(model, data, train, carve, config, meter, work))


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


def _train(setting: Setting, decay: float = 1.0, *, buckets: bool = True) -> Curve:
    """Train what is not frozen; the rate falls by `decay` a block from the head down."""
    from lrtl_utils.methods import loop as training

    model, config = setting.model, setting.config
    rows = training.encode_training(model, setting.train, config.max_length)
    carve = setting.carve and model.reader.encode(setting.carve.inputs, setting.carve.targets)
    return training.fit(
        model,
        rows,
        config,
        model.rates(config.learning_rate, decay),
        meter=setting.meter,
        labels=setting.data.labels,
        buckets=buckets,
        carve=carve,
        work=setting.work,
    )


def fit_conventional(setting: Setting) -> Curve:
    """All weights at one rate, padded to full length, in fp32: what an example script does (Devlin et al. 2019)."""
    return _train(setting, buckets=False)


def fit_plainly(setting: Setting) -> Curve:
    """What is not frozen, at one rate, in length buckets."""
    return _train(setting)


def fit_full(setting: Setting) -> Curve:
    """What is not frozen, in length buckets, each block at 0.8 of the rate above it (after Howard & Ruder 2018)."""
    return _train(setting, defaults.DECAY)


def fit_lp_ft(setting: Setting) -> Curve:
    """The head first, on frozen features, then all blocks with it (Kumar et al. 2022)."""
    fit_linear_probe(setting)
    train_all(setting.model)
    return _train(setting, defaults.DECAY)


def keep_lowest(model: "Model") -> None:
    """Freeze a text model's lowest two blocks, where it has more than as many again."""
    model.fixed_statistics = True
    model.freeze(0 if model.reader.kind == "image" or len(model.blocks) < 4 else 2)


def train_all(model: "Model") -> None:
    """Train every block."""
    model.fixed_statistics = True
    model.freeze(0)


def train_biases(model: "Model") -> None:
    """Train the head and the bias terms, those of norms included (Ben Zaken et al. 2022)."""
    model.fixed_statistics = True
    for block in model.blocks:
        for name, weight in block.named_parameters():
            weight.requires_grad_(name.endswith("bias"))


def add_lora(model: "Model") -> None:
    """Train low-rank additions to linear layers and 1 × 1 convolutions, and the head (Hu et al. 2022)."""
    from peft import LoraConfig, get_peft_model

    model.fixed_statistics = True
    targets = [name for name, layer in model.named_modules() if _takes_lora(name, layer)]
    # By its full name: `head` alone would also be EfficientNet's `conv_head`.
    saved = ["model.head"] + ["model.crf"] * (getattr(model, "crf", None) is not None)
    options = {"target_modules": targets, "modules_to_save": saved}
    get_peft_model(model, LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, **options))


def fit_progressive(setting: Setting) -> Curve:
    """A ladder from a solved head to trained blocks, climbed while it pays: see `ladder`."""
    from lrtl_utils.methods import progressive as ladder

    return ladder.climb(
        setting.model, setting.data, setting.train, setting.carve, setting.config, setting.meter, setting.work
    )


def fit_linear_probe(setting: Setting) -> Curve:
    """A regularised linear head on features of the frozen backbone, extracted once."""
    from lrtl_utils.methods import loop as training
    from lrtl_utils.methods import solver as heads

    model, meter = setting.model, setting.meter
    model.freeze(len(model.blocks))
    rows = training.encode_training(model, setting.train, setting.config.max_length)
    chunks = training.extract(model, rows, setting.config, meter)
    loss = heads.solve_head(model, chunks, heads.L2[setting.data.kind], meter)
    return [_only_point(setting, loss)]


def fit_tfidf(setting: Setting) -> Curve:
    """TF-IDF of words and pairs of words with logistic regression: no pre-training at all."""
    import torch
    from sklearn.linear_model import LogisticRegression

    from lrtl_utils.measure.meter import linear_solver_flops, tfidf_flops
    from lrtl_utils.models.encoding import check_texts

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


def _takes_lora(name: str, layer: Any) -> bool:
    """Of the backbone: linear layers, and convolutions of one pixel that see all channels."""
    import torch
    from transformers.pytorch_utils import Conv1D

    pointwise = isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
    linear = isinstance(layer, (torch.nn.Linear, Conv1D))  # the latter is GPT's, transposed
    return name.startswith("backbone.") and (linear or pointwise)


def _only_point(setting: Setting, loss: float | None) -> dict[str, Any]:
    """The curve of a method that solves instead of stepping; the carve, where a grid asks for one, is scored once."""
    from lrtl_utils.measure import evaluation
    from lrtl_utils.methods import loop as training

    point = {"epoch": 1, "loss": loss, "validation_loss": None, "validation_score": None}
    if setting.carve is not None:
        model = setting.model
        rows = model.reader.encode(setting.carve.inputs, setting.carve.targets)
        prediction = training.predict_rows(model, rows, setting.config, setting.meter)
        metrics = evaluation.evaluate(model, rows.targets, prediction, setting.data.labels)
        point |= {"validation_loss": prediction.loss, "validation_score": evaluation.headline(model, metrics)}
    return point | setting.meter.so_far()


METHODS = {
    "tfidf": Method(fit_tfidf, defaults.tfidf, kinds=("text",), pretrained=False, needs_model=False, features=False),
    # The same architecture from random weights: what the pre-training is worth.
    "from_scratch": Method(fit_plainly, defaults.from_scratch, pretrained=False, features=False),
    "conventional": Method(fit_conventional, defaults.conventional, pooling="own", plain=True, features=False),
    "full": Method(fit_full, defaults.full, keep_lowest),
    "linear_probe": Method(fit_linear_probe, defaults.linear_probe),
    "lp_ft": Method(fit_lp_ft, defaults.lp_ft, train_all, needs_blocks=True),
    "bitfit": Method(fit_plainly, defaults.bitfit, train_biases, needs_blocks=True),
    "lora": Method(fit_plainly, defaults.lora, add_lora),
    "progressive": Method(fit_progressive, defaults.progressive, pieces=PIECES, needs_blocks=True),
}
