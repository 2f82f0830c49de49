"""One run as one object: what was asked for, what runs, the data, the model, the clock, and the record."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from lrtl_utils.config import NO_MODEL, SIZES, RunConfig, read_config, resolve_device, resolve_precision
from lrtl_utils.data import load, own, splits
from lrtl_utils.data.catalog import KINDS
from lrtl_utils.data.hub import Source
from lrtl_utils.data.splits import Data, Examples, Facts, count_labelled, share_of
from lrtl_utils.errors import InputError, Undecodable, require_name
from lrtl_utils.files import absolute_path, named_by, writable_folder
from lrtl_utils.measure import metrics
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import METHODS, VERSIONS
from lrtl_utils.methods.method import Curve, Work
from lrtl_utils.models.catalog import MODELS, ONE_BLOCK, backbone, find
from lrtl_utils.models.own import absolute
from lrtl_utils.runs import store
from lrtl_utils.runs.record import run_id

if TYPE_CHECKING:
    import pandas as pd

    from lrtl_utils.models.network import Model

ALWAYS = {*load.READING, "model", "method", *SIZES, "selection", "seed", "device", "test_limit"}
RESULTS = "results/local"
# By the monotonic clock, when this process last wrote a record; its time since then belongs to the next run.
_last_recorded = [-math.inf]


@dataclass(frozen=True)
class Tested:
    """The predictions on the test split, all scores on it, and those on the validation split (None without one).

    Logits that are divided by `temperature` are calibrated; it is fitted on the validation split, and None without one
    and for tagged sentences.
    """

    examples: Examples
    prediction: metrics.Prediction
    classes: tuple[str, ...]
    metrics: dict[str, Any]
    validation: dict[str, Any] | None
    temperature: float | None

    def mistakes(self, rows: int = 10) -> "pd.DataFrame":
        """The wrong predictions with the highest confidence; of a sentence, its wrongly tagged words."""
        import pandas as pd  # takes half a second, and the command line imports this module

        found, prediction, classes = [], self.prediction, self.classes
        for i in np.argsort(-prediction.confidence, kind="stable"):
            given, expected, predicted = self.examples.inputs[i], self.examples.targets[i], prediction.predicted[i]
            if isinstance(predicted, list):
                tags = predicted + [0] * (len(expected) - len(predicted))
                triples = zip(given, expected, tags, strict=True)
                wrong = "; ".join(f"{word}: {classes[a]} → {classes[b]}" for word, a, b in triples if a != b)
                row = {"input": " ".join(given), "wrong": wrong}
            else:
                wrong = expected != predicted
                row = {"input": given, "true": classes[expected], "predicted": classes[predicted]}
            if wrong:
                found.append(row | {"confidence": float(prediction.confidence[i])})
        columns = [*row, "confidence"]  # which are there too where nothing is wrong
        return pd.DataFrame(found[:rows], columns=columns)


class Run:
    """One run: checked, loaded, resolved and identified when it is made, and nowhere else.

    `asked` is what was asked for. `config` is what runs: the method's defaults replace None, device and precision are
    the ones used, values that do not apply are None, and a batch is no larger than the data. `id` names the run, and
    `path` is where its record is written. `data` are the examples, and `weights` the files that the model is loaded
    from (None if there are none).
    """

    curve: Curve | None = None  # until `fit`
    _labelled: tuple[Examples, Examples | None] | None = None  # by `label`
    _begun = False  # whether the model has been trained, wholly or in part
    _tested: Tested | None = None  # by the last `test`

    def __init__(
        self,
        asked: RunConfig | None = None,
        *,
        results: str | Path = RESULTS,
        plan: Mapping[str, Any] | None = None,
        elsewhere: bool = False,
        loaded: Data | None = None,
        **parameters: Any,
    ):
        """`parameters` are those of `RunConfig`; `dataset` may also be a pandas DataFrame or a `datasets.Dataset`.

        `InputError` says in one sentence why it cannot be run. `plan` is what a sweep planned: the `id` that this run
        must have, its `device` and `precision`, the planned values that it replaces (`asked`), the file without which
        the run is no longer this process's (`claim`), and whether it may take what an earlier run has computed
        (`shared`). A run that is only planned here, and runs `elsewhere`, may name a device that is not here. `loaded`
        is the data set, where it has been read already.
        """
        if asked is not None and (parameters or not isinstance(asked, RunConfig)):
            raise InputError("A Run takes a RunConfig, or else parameters by their names, such as Run(dataset=…).")
        asked = _absolute(asked or read_config(on_disk(parameters)))
        check(asked, load.kind_of if loaded is None else lambda *_: loaded.kind)
        data = loaded or read_again(load.find(asked.dataset, asked.text_column).sha256, **load.reading(asked))
        config = resolve(asked, data, elsewhere=elsewhere)
        self._identify(asked, config, data, find_weights(config))
        self.results = absolute_path(results)
        self.path = store.record_path(self.results, config.dataset, self.id)
        self.folder = store.work_folder(self.results, self.id)
        self.meter = CostMeter(config.device)
        plan = plan or {}
        self._planned, self._shares, self._shared = plan.get("asked", {}), bool(plan.get("shared")), None
        self._claim = Path(plan["claim"]) if plan.get("claim") else None
        if plan and plan["id"] != self.id:
            raise InputError(f"This would be run {self.id} and not {plan['id']}, which was planned: {self._why(plan)}.")

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "Run":
        """The run that a notebook's variables describe: `Run.from_parameters(globals())`; other names are ignored."""
        places = {name: parameters[name] for name in ("results", "plan") if name in parameters}
        return cls(RunConfig.of(on_disk(parameters)), **places)

    def _why(self, plan: Mapping[str, Any]) -> str:
        """Why this is another run than the planned one."""
        planned, here = (plan["device"], plan["precision"]), (self.config.device, self.config.precision)
        if planned == here:
            return "the data, the weights or the code here differ from those of the plan"
        return (
            f"the plan has device={planned[0]} and precision={planned[1]}, but here they are {here[0]} and {here[1]}; "
            "set both in the plan (device: cuda in a grid), or plan the run on a machine like this one"
        )

    @classmethod
    def outline(cls, asked: RunConfig) -> "Run":
        """The run as far as it is known without its device: `asked`, `config`, `id`, and as `data` its sizes.

        Nothing that has a name in the catalog is downloaded; a data set or model `org/name` of the hub is, because only
        its files say what it is. Published sizes replace data that is not on this machine. Without the data or the
        weights, the id is computed from the configuration alone, and no record has it.
        """
        asked = _absolute(asked)
        check(asked)
        run, data = cls.__new__(cls), data_at_hand(asked)
        config = resolve(asked, data, elsewhere=True)
        try:
            weights, whole = find_weights(config, fetch=False), isinstance(data, Data)
        except InputError:
            weights, whole = None, False
        run._identify(asked, config, data, weights, whole)
        return run

    def _identify(
        self, asked: RunConfig, config: RunConfig, data: Data | Facts, weights: Source | None, whole: bool = True
    ) -> None:
        self.asked, self.config, self.data, self.weights = asked, config, data, weights
        # A `max_length` of None follows from the data and the method, which are both in the id.
        identifying = config.model_dump() | {"max_length": asked.max_length and config.max_length}
        sums = (data.source.sha256, weights and weights.sha256) if whole else ("", None)
        self.id = run_id(identifying, *sums, VERSIONS[config.method], data.split if whole else None)

    @property
    def settings(self) -> "pd.DataFrame":
        """A table of every parameter: what was asked for, and what is used."""
        import pandas as pd

        table = {"asked": self.asked.model_dump(), "used": self.config.model_dump()}
        return pd.DataFrame(table).astype(object).fillna("–")

    @cached_property
    def model(self) -> "Model":
        """The model with a fresh head, on its device; loaded and warmed up off the clock."""
        from lrtl_utils.methods import loop

        model = build(self.config, self.data, self.weights)
        if self.weights:
            self.weights.require_unchanged()
        loop.warm_up(model, self.config)
        if self._shares and self.weights:
            from lrtl_utils.methods.shared import Shared

            machine = store.device_name(self.config.device)
            self._shared = Shared(model, self.weights.sha256, self.config.precision, machine)
        return model

    def describe_model(self) -> dict[str, Any]:
        """The source of the weights, and how many parameters the model has and trains."""
        from lrtl_utils.models.build import describe

        return describe(self.model, self.weights)

    def label(self) -> tuple[Examples, Examples | None]:
        """The labelled examples of this run, as (train, validation); validation is None if none are held back.

        The clock starts here. A second call returns the same.
        """
        if self._labelled:
            return self._labelled
        # Not before, because other runs may have come between; by the clock that nobody sets.
        self._started = max(_last_recorded[0], time.monotonic() - (time.time() - store.process_start()))
        with self.meter.measure():
            self._labelled = splits.labelled(self.data, self.config)
        return self._labelled

    def fit(self, train: Examples, validation: Examples | None) -> Curve:
        """Adapt the model to the examples by the run's method, on the clock; returns the curve of loss and cost.

        Afterwards `config` has the `max_length` that was used. A run is trained once: another Run of the same id
        continues an interrupted fit from its checkpoint. `InputError` for other examples than those of `label`.
        """
        if self._labelled is None or train is not self._labelled[0] or validation is not self._labelled[1]:
            raise InputError("A Run trains on its own examples: call label() first, and give fit what it returns.")
        if self._begun:
            raise InputError(
                "This run has been trained already, wholly or in part; make it anew. In a notebook, run the cell that "
                "makes `run` again, and then those below it."
            )
        store.require_apart(self.results, [self.asked])
        writable_folder(self.results)  # else the result would be lost
        method, model, self._begun = METHODS[self.config.method], self.model, True
        with self._images_named(), self.meter.measure():
            if method.prepare:
                method.prepare(model)
            places = {"folder": self.folder, "claim": self._claim, "shared": self._shared}
            work = Work(model, self.data, train, validation, self.config, self.meter, **places)
            curve = method.fit(work)
        self.config = self.config.model_copy(update={"max_length": model.reader.max_length})
        self.train, self.validation, self.curve = train, validation, self.meter.priced(curve)
        return self.curve

    def test(self) -> Tested:
        """Predict the test split, once and off the clock, and score the validation split with the final model.

        `InputError` before `fit`, and where the loss is not finite.
        """
        if self.curve is None:
            raise InputError("This run has no trained model to test; call its methods label and fit first.")
        from lrtl_utils.methods import loop

        examples, classes = splits.test_examples(self.data, self.config), self.data.classes
        with self._images_named():
            validated = self.validation and loop.predict(self.model, self.validation, self.config, self._shared)
            prediction = loop.predict(self.model, examples, self.config, self._shared)
        validation = validated and metrics.evaluate(self.validation.targets, validated, classes)
        if validation:
            validation["score"] = metrics.headline(validation)
        if not math.isfinite(prediction.loss):
            raise InputError(
                f"The loss on the test split is {prediction.loss}; lower the learning_rate or the penalty, or set "
                "another precision."
            )
        scores = metrics.evaluate(examples.targets, prediction, classes, self.curve)
        fitted = validated is not None and self.data.kind != "tokens"
        temperature = metrics.temperature(validated.scores, self.validation.targets) if fitted else None
        self._tested = Tested(examples, prediction, classes, scores, validation, temperature)
        return self._tested

    @contextmanager
    def _images_named(self) -> Iterator[None]:
        """In the block, an image of a user's own files that cannot be decoded is named by its place."""
        try:
            yield
        except Undecodable:
            if self.data.train.places:
                from lrtl_utils.models.encoding import name_undecodable

                for part in (self.data.train, self.data.test):
                    name_undecodable(part.places, part.inputs, self.config.image_size)
            raise

    def record(self, tested: Tested) -> dict[str, Any]:
        """Write the record to `path` and return it.

        A completed record is never overwritten: if there is one, the new record is only returned. `InputError` unless
        `tested` is what `test` of this run returned last.
        """
        if tested is None or tested is not self._tested:
            raise InputError("A Run records its own test: call test() of this run, and give record what it returns.")
        prediction, seen = tested.prediction, len(self.train) * self.curve[-1]["epoch"]
        record = store.completed(
            self.results,
            self.id,
            self.config,
            store.changed(self.asked, self.config) | self._planned,
            started=time.time() - (time.monotonic() - self._started),
            clocked=self.meter.clocked() + prediction.seconds - prediction.cached_seconds,
            claim=self._claim,
            data=splits.describe(self.data, self.train, self.validation, tested.examples),
            metrics=tested.metrics,
            validation=tested.validation,
            cost=self.meter.report(seen, prediction.seconds, len(tested.examples), prediction.cached_seconds),
            model=self.describe_model() | {"temperature": tested.temperature},
            curve=self.curve,
        )
        _last_recorded[0] = time.monotonic()
        return record


def on_disk(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters with a table in memory written to a file, and with its path instead of it."""
    dataset = parameters.get("dataset", "")
    if isinstance(dataset, str):
        return parameters
    return {**parameters, "dataset": named_by(dataset if isinstance(dataset, PurePath) else own.keep(dataset))}


def _absolute(asked: RunConfig) -> RunConfig:
    """With absolute paths, because a run may be planned in one folder and run in another."""
    paths = {"dataset": load.absolute(asked.dataset), "model": absolute(asked.model)}
    return asked.model_copy(update=paths)


def check(asked: RunConfig, kind_of: Callable[..., str] = load.kind_of) -> None:
    """`InputError` unless the names exist and fit together; reads only enough of the data to know its kind."""
    require_name("method", asked.method, METHODS)
    kind, method = kind_of(asked.dataset, asked.text_column, asked.label_column), METHODS[asked.method]
    if kind not in method.kinds:
        fitting = ", ".join(name for name, row in METHODS.items() if kind in row.kinds)
        raise InputError(
            f"Method {asked.method!r} does not fit {KINDS[kind]}, such as those of {asked.dataset!r}; use {fitting}."
        )
    if asked.class_weights and kind == "tokens":
        raise InputError(
            f"class_weights={asked.class_weights} needs one label for each input, but {asked.dataset!r} has tags."
        )
    for piece in asked.without.split(",") if asked.without and method.pieces else []:
        require_name(f"piece of {asked.method}", piece, method.pieces)
    row = backbone(asked.model) if method.needs_model or asked.model != NO_MODEL else None
    if row is None or not method.needs_model:
        return
    if kind not in row.kinds:
        fitting = ", ".join(name for name, row in MODELS.items() if kind in row.kinds)
        raise InputError(
            f"Model {asked.model!r} does not read {KINDS[kind]}, such as those of {asked.dataset!r}; use {fitting}."
        )
    if method.pretrained and row.library == "ours":
        raise InputError(f"Model {asked.model!r} has no pre-trained weights; use the method 'from_scratch'.")


def resolve(asked: RunConfig, data: Data | Facts, *, elsewhere: bool = False) -> RunConfig:
    """The configuration as it will run, here or `elsewhere`.

    Only `max_length` may change later: None is decided by the training texts, and it is at most what the model reads.
    """
    method = METHODS[asked.method]
    row = backbone(asked.model) if method.needs_model else None
    values = asked.model_dump()
    size = next((name for name in SIZES if values[name] is not None), None)
    values |= {name: None for name in SIZES if name != size}
    try:
        n_labels = count_labelled(data.sizes, **{name: values[name] for name in SIZES})
    except InputError as error:
        raise InputError(f"{asked.dataset}: {error}") from None
    defaults = method.defaults(data.kind, row, n_labels)
    for name in values.keys() - ALWAYS:
        if values[name] is None or name not in defaults:
            values[name] = defaults.get(name)
    if values["without"]:
        values["without"] = ",".join(sorted({*values["without"].split(",")}))
    values["model"] = asked.model if method.needs_model else NO_MODEL
    values["device"] = resolve_device(asked.device, elsewhere=elsewhere) if method.needs_model else "cpu"
    if values["precision"]:
        reads_tokens = data.kind != "image" and row.library == "transformers"
        values["precision"] = resolve_precision(values["precision"], values["device"], reads_tokens)
    return RunConfig(**values | _limited(values, n_labels))


def find_weights(config: RunConfig, *, fetch: bool = True) -> Source | None:
    """The files that the model of a resolved configuration is loaded from; None if there are none."""
    return None if config.model == NO_MODEL else find(config.model, fetch=fetch)


def data_at_hand(config: RunConfig) -> Data | Facts:
    """The examples if their files are on this machine, else what is published about them; `InputError` without both."""
    try:
        source = load.find(config.dataset, config.text_column, fetch=False)
    except InputError:
        facts = load.published(config.dataset)
        if facts is None:
            raise
        return facts
    return read_again(source.sha256, **load.reading(config))


def build(config: RunConfig, data: Data | Facts, weights: Source | None, *, pretrained: bool = True) -> "Model":
    """A new model for a resolved configuration, in the form its method needs.

    Its values are random without `weights`, or where they are not to be loaded (`pretrained=False`).
    """
    from lrtl_utils.models.build import build as build_model
    from lrtl_utils.models.build import build_tfidf

    method = METHODS[config.method]
    if not method.needs_model:
        return build_tfidf()
    plain = method.plain and config.padding != "longest"
    options = {"pooling": method.pooling, "plain": plain, "pretrained": pretrained and method.pretrained}
    model = build_model(config, data.kind, len(data.classes), weights, **options)
    if len(model.blocks) == 1:
        if method.needs_blocks:
            fitting = ", ".join(name for name, row in METHODS.items() if row.needs_model and not row.needs_blocks)
            raise InputError(
                f"Method {config.method!r} needs the blocks of a model, and those of {config.model!r} cannot be found; "
                f"use {fitting}."
            )
        warnings.warn(f"{config.model}: {ONE_BLOCK}.", stacklevel=2)
    if (config.max_length or 0) > model.reader.limit:
        at_most = f"{config.model} reads at most {model.reader.limit} tokens"
        warnings.warn(f"{at_most}, so max_length is {model.reader.limit} instead of {config.max_length}.", stacklevel=2)
    return model


def _limited(values: dict[str, Any], n_labels: int) -> dict[str, Any]:
    """A batch is at most as large as the data; a warm-up that is longer than the run becomes a tenth of its steps."""
    if not values["batch_size"]:
        return {}
    trained = n_labels - share_of(n_labels, values["validation_share"] or 0)
    limited = {"batch_size": max(1, min(values["batch_size"], trained))}
    if values["epochs"] and values["warmup_steps"]:
        batches = math.ceil(trained / limited["batch_size"])
        steps = math.ceil(batches / values["accumulate"]) * values["epochs"]
        if values["warmup_steps"] > steps:
            limited["warmup_steps"] = steps // 10
    return limited


@lru_cache(maxsize=4)
def read_again(_sha256: str, **reading: Any) -> Data:
    """The data set of that checksum, read only once if its files have not changed: a grid has many runs on it."""
    return load.load(**reading)
