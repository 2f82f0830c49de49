"""What a grid will cost, before it starts."""

import copy
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from lrtl_utils.config import NO_MODEL, SIZES, RunConfig, resolve_device
from lrtl_utils.data import load as loading
from lrtl_utils.data import splits
from lrtl_utils.data.hub import Source
from lrtl_utils.data.splits import Data, Examples, Facts, count_labelled, share_of
from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path, data_name
from lrtl_utils.measure.meter import CLOSED_FORM, CostMeter
from lrtl_utils.methods import METHODS
from lrtl_utils.methods.method import Work
from lrtl_utils.methods.walk import Load, Sizes, walk
from lrtl_utils.models.build import load_tokenizer
from lrtl_utils.models.catalog import find
from lrtl_utils.models.network import Model
from lrtl_utils.runs import store
from lrtl_utils.runs.record import identifying
from lrtl_utils.runs.run import build, data_at_hand, read_again
from lrtl_utils.sweep import estimates, timing
from lrtl_utils.sweep.grid import Cell, by_data

IN_ALL_SECONDS = 50.0  # for counting and timing
TFIDF_ROWS = 1000  # texts, at most, on which TF-IDF is really fitted to learn what it costs
KEPT_KIB = 182.0  # a record and its notebook, the mean of this project's runs; those of images have up to 470
FREE = ("scheduler", "warmup_steps", "dropout", "weight_decay", "budget_seconds")  # knobs without a price


@dataclass(frozen=True)
class Priced:
    """A cell, its work, and the seconds that this should take, on the clock and for the test prediction.

    `done` cells have a completed record.
    """

    cell: Cell
    load: Load
    seconds: float
    predict_seconds: float
    done: bool


def estimate(
    cells: Sequence[Cell], results: str | Path, threads: int, within: float = IN_ALL_SECONDS
) -> tuple[list[Priced], str]:
    """Price each cell for this machine with so many threads; also returns a sentence that says how.

    For what has a name in the catalog, neither data nor weights nor a network is needed. Seconds come from the records
    of `results` that a machine of this kind made, and where there are none, from a short timing, which takes about
    `within` seconds at most. The estimate is kept in `<results>/estimate.json`.
    """
    results, end = absolute_path(results), time.monotonic() + within
    recorded = [store.placed(results, record) for record in store.records(results, "completed")]
    done = {name for record in recorded for name in estimates.names(record)}
    configs = [_here(cell.config) for cell in cells]
    once = cache(lambda *reading: data_of(RunConfig(**dict(reading))))  # a folder may have many files to look at
    made = {}
    for config in (configs[at] for at in by_data(configs)):
        made[config] = timing.Job(config, one := once(*loading.reading(config).items()), load(config, one))
    jobs = [made[config] for config in configs]
    rates, how = timing.rates(jobs, recorded, _test_flops, threads, end)
    priced = []
    for cell, job in zip(cells, jobs, strict=True):
        spent, predicting = timing.seconds(rates, job)
        spent = min(spent, cell.config.budget_seconds or float("inf"))
        priced.append(Priced(cell, job.load, spent, predicting, cell.id in done))
    left = [one for one in priced if not one.done]
    expected = {p.cell.id: {"flops": p.load.flops, "device_seconds": p.seconds} for p in left}
    estimates.keep(results, expected)
    other = sorted({cell.config.device for cell, here in zip(cells, configs, strict=True) if cell.config != here})
    how += f". The seconds are not those of {', '.join(other)}, which this machine does not have" if other else ""
    absent = sorted({job.config.dataset for job in jobs if isinstance(job.data, Facts)})
    published = f" The files of {', '.join(absent)} are not here; row counts are as published." if absent else ""
    return priced, f"FLOPs are counted by a dry run of each method on a model without weights. {how}.{published}"


def _test_flops(record: Mapping[str, Any]) -> int:
    """The FLOPs of a record's prediction of its test split; 0 where its data are not here any more."""
    try:
        return load(RunConfig.of(identifying(record))).test_flops  # a `max_length` left to a rule is left to it again
    except InputError:
        return 0


def lines(priced: Sequence[Priced], workers: int, price_per_hour: float | None) -> Iterator[str]:
    """What the runs that are left will cost: in all, and for each data set, model and method."""
    left = [one for one in priced if not one.done]
    yield f"{len(priced) - len(left)} already done, {len(left)} to run"
    if not left:
        return
    hours, predicting = sum(one.seconds for one in left) / 3600, sum(one.predict_seconds for one in left) / 3600
    largest = max(left, key=lambda one: one.load.memory_mib)
    checkpoints = sorted((one.load.checkpoint_mib for one in left), reverse=True)[:workers]
    kept = f"{len(left) * KEPT_KIB / 1024:,.1f} MiB of records and notebooks"
    yield f"estimated FLOPs: {sum(one.load.flops for one in left):.3g}"
    yield f"estimated device hours: {_round(hours)}, and off the clock {_round(predicting)} to predict the test splits"
    yield f"estimated peak memory: {largest.load.memory_mib:,.0f} MiB, weights included, for {largest.cell}"
    yield f"estimated disk: {kept}, and up to {sum(checkpoints):,.0f} MiB of checkpoints"
    if price_per_hour is not None:
        cost, beside = price_per_hour * hours, price_per_hour * predicting
        at = f"{cost:,.2f} at {price_per_hour:g} per device hour"
        yield f"estimated price: {at}, and {beside:,.2f} for the predictions"
    if any(one.load.at_most for one in left):
        yield "A method that uses scores to decide how far to go is priced at its maximum."
    yield from _table(left)


def load(config: RunConfig, data: Data | Facts | None = None) -> Load:
    """What the run of a resolved configuration does; runs that differ in nothing that has a price are walked once.

    `data` is what `data_of` gives, if the caller has it.
    """
    data = data_of(config) if data is None else data
    seed, of = (config.seed, data.source.sha256) if isinstance(data, Data) else (0, None)
    rate = config.learning_rate and 1.0
    return _load(config.model_copy(update=dict.fromkeys(FREE) | {"seed": seed, "learning_rate": rate}), of)


def _here(config: RunConfig) -> RunConfig:
    """The configuration, on a device of this machine where its own is not here."""
    try:
        resolve_device(config.device)
    except InputError:
        precision = config.precision and "fp32"
        return config.model_copy(update={"device": resolve_device("auto"), "precision": precision})
    return config


def data_of(config: RunConfig) -> Data | Facts:
    """`data_at_hand`, without the warnings that planning has shown."""
    with warnings.catch_warnings(action="ignore"):
        return data_at_hand(config)


@lru_cache(maxsize=4096)
def _load(config: RunConfig, _of: str | None) -> Load:
    data = read_again(_of, **loading.reading(config)) if _of else data_of(config)
    train, validation, test = _examples(data, config)
    if config.model == NO_MODEL:
        return _tfidf(data, train, test, config)
    try:
        weights = find(config.model, fetch=False)
    except InputError:
        weights = None
    facts = Facts(data.kind, tuple(data.classes), (), 0, ())
    read = {name: getattr(config, name) for name in ("image_size", "layers", "word_shape")}
    model, sizes = _architecture(RunConfig(model=config.model, method=config.method, **read), facts, weights)
    model = copy.deepcopy(model, {id(model.reader): model.reader})
    return walk(model, data, train, validation, test, config, sizes)


def _examples(data: Data | Facts, config: RunConfig) -> tuple[Examples, Examples | None, Examples]:
    """Train, validation and test examples: those of the run, or invented ones with lengths as published."""
    if isinstance(data, Data):
        return *splits.labelled(data, config), splits.test_examples(data, config)
    n_labels = count_labelled(data.sizes, **{name: getattr(config, name) for name in SIZES})
    validation = share_of(n_labels, config.validation_share or 0)
    tested = min(config.test_limit or data.test, data.test)
    train, held, test = (timing.invented(data, size) for size in (n_labels - validation, validation, tested))
    return train, held if validation else None, test


def _tfidf(data: Data | Facts, train: Examples, test: Examples, config: RunConfig) -> Load:
    """TF-IDF is fitted, on at most `TFIDF_ROWS` texts, for what it costs: it is linear in them, and cheap."""
    few = timing.as_texts(train.take(np.arange(min(len(train), TFIDF_ROWS))))
    meter = CostMeter()
    try:
        with meter.measure():
            METHODS[config.method].fit(Work(build(config, data, None), data, few, None, config, meter))
    except ValueError as error:  # no text has a word of two letters
        raise InputError(f"Method {config.method} cannot be fitted to these texts: {error}.") from None
    flops = round(meter.flops() * len(train) / len(few))
    return Load({CLOSED_FORM: flops}, round(flops * len(test) / len(train)), meter.peak_memory_mib, 0.0, False)


@lru_cache
def _architecture(config: RunConfig, facts: Facts, weights: Source | None) -> tuple[Model, Sizes]:
    """The model on the meta device, in the form that the method wants, and what has been measured of it so far.

    Without files, texts are cut by the installed tokenizer, which cuts them about alike.
    """
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        model = build(config, facts, weights, pretrained=False)
    if model.reader.kind in {"text", "tokens"} and model.reader.tokenizer is None:
        model.reader.tokenizer = load_tokenizer(find("minilm").files[0].parent, facts.kind)
    return model, {}


def _table(left: Sequence[Priced]) -> Iterator[str]:
    groups: dict[tuple[str, ...], list[Priced]] = {}
    for one in left:
        config = one.cell.config
        groups.setdefault((data_name(config.dataset), data_name(config.model), config.method), []).append(one)
    rows = [("data set, model, method", "cells", "FLOPs", "hours", "MiB")]
    for names, ones in groups.items():
        flops, hours = sum(one.load.flops for one in ones), sum(one.seconds for one in ones) / 3600
        memory = max(one.load.memory_mib for one in ones)
        rows.append((" ".join(names), str(len(ones)), f"{flops:.3g}", _round(hours), f"{memory:,.0f}"))
    aligned = ("left", *["right"] * 4)
    yield from tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=aligned).splitlines()


def _round(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 1000 else f"{hours:.3g}"
