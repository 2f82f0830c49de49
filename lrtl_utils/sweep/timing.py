"""How fast this machine is: by the records of a machine of its kind, and where there are none, by a short timing."""

import itertools
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from lrtl_utils.config import NO_MODEL, RunConfig
from lrtl_utils.data.splits import Data, Examples, Facts
from lrtl_utils.errors import counted
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import METHODS, loop
from lrtl_utils.methods.method import Work
from lrtl_utils.methods.walk import Invented, Load, words_of
from lrtl_utils.runs import store
from lrtl_utils.runs.record import kind_of
from lrtl_utils.runs.run import build

BUSY = 0.8  # of one core's time, under which a timing was disturbed by other work
TRIES = 3  # of a timing that was disturbed
ALIKE = 0.4  # of the most FLOPs, how far those of runs of one size may lie apart
PREDICTIONS = 3  # records of one kind that say how fast a prediction is
GROWTH = 2  # of the number of rows, from one timing to the next
MOST_BATCHES = 4  # in the longest timing
LEARNING_RATE = 1e-6  # leaves random weights where they are


@dataclass(frozen=True)
class Job:
    """A resolved configuration, its data or what is published of it, and what its run does."""

    config: RunConfig
    data: Data | Facts
    load: Load


@dataclass(frozen=True)
class Rate:
    """Seconds of a run of one kind: before any work, for each FLOP, and for each FLOP of a prediction."""

    start: float
    flop: float
    predict: float


Key = tuple[str, ...]  # what is timed apart: model, kind of task, method, precision, size of images


def rates(
    jobs: Sequence[Job],
    records: Sequence[Mapping[str, Any]],
    test_flops: Callable[[Mapping[str, Any]], int],
    threads: int,
    end: float,
) -> tuple[dict[Key, Rate], str]:
    """The rates of these jobs with so many threads, by `end` of the monotonic clock; and in words, how they were found.

    `test_flops(record)` counts a record's test prediction. The most expensive kind of job without a record is
    timed first, even if no time is left. A timing that has begun is finished.
    """
    alike: defaultdict[Key, list[Job]] = defaultdict(list)
    for job in jobs:
        alike[_key(job.config, job.data.kind)].append(job)
    found = _recorded(records, alike.keys(), test_flops, threads)
    by_work = sorted(alike, key=lambda key: sum(job.load.flops for job in alike[key]), reverse=True)
    known, waiting = len(found), [key for key in by_work if key not in found]
    timed, disturbed, began = 0, False, time.monotonic()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(threads)
        stack.enter_context(warnings.catch_warnings(action="ignore"))  # of what is degenerate in so few rows
        for i, key in enumerate(waiting):
            left = end - time.monotonic()
            if left > 0 or not timed:
                bench = _Bench(alike[key][0], threads)
                found[key], timed = bench.rate(left / (len(waiting) - i)), timed + 1
                disturbed |= bench.disturbed
                del bench
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # for the workers
    devices = " and ".join(sorted(map(store.device_name, {job.config.device for job in jobs})))
    how = f"Seconds come from records of this kind of machine for {known} of {counted(len(alike), 'kind')} of run, "
    how += f"and for {timed} from a timing of {time.monotonic() - began:.0f} s "
    how += f"({devices}, {counted(threads, 'thread')} a run)"
    return found, how + (". Other work disturbed the timing" if disturbed else "")


def seconds(rates: Mapping[Key, Rate], job: Job) -> tuple[float, float]:
    """Seconds of the job's run, on the clock and for its test prediction.

    A kind of run without a rate gets that of the kind most like it.
    """
    key = _key(job.config, job.data.kind)
    rate = rates[max(rates, key=lambda other: sum(a == b for a, b in zip(key, other, strict=True)))]
    return rate.start + rate.flop * job.load.flops, rate.predict * job.load.test_flops


def invented(data: Data | Facts, size: int) -> Examples:
    """Examples of which only the number of tokens is known, spread evenly over the known lengths, in random order."""
    known = _lengths(data)
    lengths = [int(known[int((i + 0.5) / size * len(known))]) for i in range(size)]
    lengths = np.random.default_rng(0).permutation(lengths).tolist()
    classes = len(data.classes)
    targets: Any = np.arange(size) % classes
    if data.kind == "tokens":
        targets = [[(i + word) % classes for word in range(words_of(n))] for i, n in enumerate(lengths)]
    return Examples(lengths, targets, np.arange(size))


def as_texts(examples: Examples) -> Examples:
    """The same examples with words in the place of numbers of tokens, rare ones and frequent ones."""
    if not len(examples) or not isinstance(examples.inputs[0], int):
        return examples
    ends = np.cumsum(examples.inputs)
    words = np.random.default_rng(0).zipf(1.3, ends[-1]).astype(str)
    pairs = zip(examples.inputs, ends, strict=True)
    return replace(examples, inputs=[" ".join(words[end - length : end]) for length, end in pairs])


def _lengths(data: Data | Facts) -> Sequence[int]:
    """Lengths in tokens as published, or in words of the first train inputs; 1 for images."""
    if data.kind == "image":
        return (1,)
    if isinstance(data, Facts):
        return data.lengths
    inputs = data.train.inputs[:1000]
    return sorted(2 + len(text.split() if isinstance(text, str) else text) for text in inputs)


def _key(config: RunConfig, kind: str) -> Key:
    return config.model, kind, config.method, str(config.precision), str(config.image_size)


def _recorded(
    records: Sequence[Mapping[str, Any]],
    wanted: Collection[Key],
    test_flops: Callable[[Mapping[str, Any]], int],
    threads: int,
) -> dict[Key, Rate]:
    """The rates of those wanted kinds of run that a machine with this device has recorded with so many threads."""
    groups: defaultdict[Key, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        environment, config, kind = record["environment"], RunConfig.of(record["config"]), kind_of(record)
        here = environment["threads"] == threads and environment["device"] == store.device_name(config.device)
        measured = not record["cost"].get("cached_seconds") and not record["cost"].get("cached_predict_seconds")
        if here and measured and _key(config, kind) in wanted:
            groups[_key(config, kind)].append(record)
    found = {}
    for key, alike in groups.items():
        flops, times = (np.array([r["cost"][name] for r in alike], float) for name in ("flops", "device_seconds"))
        counted = ((record["cost"]["predict_seconds"], test_flops(record)) for record in alike)
        few = list(itertools.islice((each for each in counted if each[1]), PREDICTIONS))
        predicting = sum(seconds for seconds, _ in few) / max(1, sum(flops for _, flops in few))
        found[key] = Rate(*_line(flops, times), predicting)
    return found


def _line(flops: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Seconds at the start and for each FLOP: least squares of relative errors, neither below zero.

    Where all have about as many FLOPs, as seeds of one size have, nothing tells the two apart, and all seconds are
    taken to be for FLOPs.
    """
    if np.ptp(flops) < ALIKE * flops.max():
        return 0.0, float(np.mean(times / flops))
    unit = flops.max()
    table = np.stack([np.ones_like(flops), flops / unit], 1) / times[:, None]
    start, flop = nnls(table, np.ones(len(times)))[0]
    return float(start), float(flop) / unit


class _Bench:
    """One kind of run, done for real on random weights and invented examples, in one epoch."""

    def __init__(self, job: Job, threads: int):
        self.data, self.threads, self.disturbed = job.data, threads, False
        config = job.config
        once = {"epochs": config.epochs and 1, "warmup_steps": config.epochs and 0, "validation_share": 0.0}
        still = {"learning_rate": config.learning_rate and LEARNING_RATE, "budget_seconds": None}
        self.config = config.model_copy(update=once | still)
        self.model = build(self.config, self.data, None)
        if METHODS[config.method].prepare:
            METHODS[config.method].prepare(self.model)
        if config.model != NO_MODEL:
            self.model.reader = Invented(**vars(self.model.reader))

    def rate(self, seconds: float) -> Rate:
        """The rate of the last two of runs with more and more rows, as many as should fit into the time."""
        size, most, points = 2, MOST_BATCHES * (self.config.batch_size or loop.PREDICT_BATCH), []
        end = time.monotonic() + seconds
        self._fit(size)  # sets things up
        while True:
            points.append(self._point(size, end))
            if size == most or time.monotonic() + (GROWTH + 1) * points[-1][1] > end:  # the next, and a prediction
                break
            size = min(GROWTH * size, most)
        flops, times = (np.array(each, float) for each in zip(*points[-2:], strict=True))
        predict = self._predict(min(size, loop.PREDICT_BATCH))
        return Rate(*_line(flops, times), predict)

    def _point(self, rows: int, end: float) -> tuple[int, float]:
        """FLOPs and seconds of one whole fit; timed again, until `end`, where other work took the processor."""
        best, disturbed = math.inf, False
        for _ in range(TRIES):
            worked = time.process_time()
            meter = self._fit(rows)
            worked = time.process_time() - worked
            disturbed = self.config.device == "cpu" and worked < BUSY * meter.device_seconds
            best = min(best, worked / self.threads) if disturbed else meter.device_seconds
            if not disturbed or time.monotonic() > end:
                break
        self.disturbed |= disturbed
        return max(1, meter.flops()), best

    def _fit(self, rows: int) -> CostMeter:
        batch = self.config.batch_size and min(rows, self.config.batch_size)
        config, meter = self.config.model_copy(update={"batch_size": batch}), CostMeter(self.config.device)
        with meter.measure():
            METHODS[config.method].fit(Work(self.model, self.data, self._examples(rows), None, config, meter))
        return meter

    def _predict(self, rows: int) -> float:
        """Seconds for each FLOP of a prediction; those that it worked, where other work took the processor."""
        examples, meter = self._examples(rows), CostMeter(self.config.device)
        loop.predict_rows(self.model, loop.encode(self.model, examples), self.config, meter)
        worked = time.process_time()
        seconds = loop.predict(self.model, examples, self.config).seconds
        worked = time.process_time() - worked
        if self.config.device == "cpu" and worked < BUSY * seconds:
            self.disturbed, seconds = True, worked / self.threads
        return seconds / max(1, meter.flops())

    def _examples(self, rows: int) -> Examples:
        examples = invented(self.data, rows)
        return as_texts(examples) if self.config.model == NO_MODEL else examples
