"""How fast this machine is: the project's own loop on invented rows and random weights, for a minute at most."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from lrtl_utils.config import RunConfig
from lrtl_utils.data.splits import Facts
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop as training
from lrtl_utils.methods import progressive as ladder
from lrtl_utils.methods import solver as heads
from lrtl_utils.methods.feature_cache import Cache
from lrtl_utils.methods.method import Work
from lrtl_utils.models.catalog import HASHED_WORDS
from lrtl_utils.models.encoding import Encoded, round_up
from lrtl_utils.runs import run as methods
from lrtl_utils.sweep.footprint import key_of, row_flops
from lrtl_utils.sweep.workload import WORDS, Load, Stage

GROWTH = 4  # of the batch from one timing to the next
EPOCHS = 3  # of one batch each; the first also sets up
RATE = 1e-6  # that trains, and leaves random weights where they are
PIXELS = 32  # a side, of an invented image


@dataclass(frozen=True)
class Rate:
    """Seconds of one kind of work: to set it up, a batch, and a FLOP."""

    start: float
    batch: float
    flop: float

    def seconds(self, stage: Stage) -> float:
        """Of all of the stage's batches."""
        return self.start + self.batch * stage.batches + self.flop * stage.flops


Key = tuple[str, ...]  # what is timed apart: model, kind of task, method, precision, size of images
Rates = dict[tuple[Key, str], Rate]  # by that and the kind of stage


@dataclass(frozen=True)
class Job:
    """A cell that stands for all that are as fast: its config, the facts of its data, what it does."""

    config: RunConfig
    known: Facts
    load: Load

    @property
    def key(self) -> Key:
        config, kind = self.config, self.known.kind
        return config.model, kind, config.method, training.precision_used(config, kind), str(config.image_size)

    def seconds(self, rates: Rates, stages: Sequence[Stage]) -> float:
        """What these stages of it take at these rates; those of the most alike stand for what was not timed."""
        return sum(_nearest(rates, self.key, stage.kind).seconds(stage) for stage in stages)


def calibrate(jobs: Sequence[Job], threads: int, seconds: float) -> Rates:
    """The rates of these jobs with so many threads, the dearest first; those that the time is too short for are absent.

    The dearest is always timed, and what was begun is ended. On a machine that others use too, rates are rough.
    """
    work: defaultdict[Key, float] = defaultdict(float)
    stands_for: dict[Key, Job] = {}
    for job in jobs:
        if job.config.model != methods.NO_MODEL:
            work[job.key] += job.load.flops
            stands_for.setdefault(job.key, job)
    dearest = sorted(work, key=work.get, reverse=True)
    rates: Rates = {}
    end = time.monotonic() + seconds
    with _threads(threads):
        for i, key in enumerate(dearest):
            left = end - time.monotonic()
            if left > 0 or not rates:
                rates |= _Bench(stands_for[key]).rates(left / (len(dearest) - i))
    return rates


class _Bench:
    """One job's model, with random weights, and rows like the job's."""

    def __init__(self, job: Job):
        config, known, longest = job.config, job.known, job.load.longest
        self.job, self.known, self.kind, self.rng = job, known, known.kind, np.random.default_rng(0)
        self.config = config.model_copy(
            update={"epochs": EPOCHS, "accumulate": 1, "warmup_steps": 0, "budget_seconds": None}
        )
        self.model = methods.build(config, known, None)
        methods.prepare(self.model, config)
        self.model.reader.max_length = longest or None
        self.tokens = longest
        if longest and not self.model.reader.plain:
            self.tokens = min(longest, round_up(round(np.mean(known.lengths))))

    def rates(self, seconds: float) -> Rates:
        """Those of the job's kinds of stage, in about so many seconds: half of them for steps, the dearest."""
        kinds, key, found = {stage.kind for stage in self.job.load.stages}, self.job.key, {}
        if "step" in kinds:
            found[key, "step"] = self._step(seconds / 2)
        if "features" in kinds:
            found[key, "features"] = self._forward(self._features, seconds / 6)
        if "head" in kinds:
            found[key, "head"] = self._head()
        found[key, "predict"] = self._forward(self._predict, seconds / 6)
        return found

    def _step(self, seconds: float) -> Rate:
        """A `fit` of three epochs of one batch: the second and third are steps, the first sets up as well."""
        depth = None
        if self.config.method == "progressive":
            depth = ladder.rung_depth(len(self.model.blocks), ladder.SHARES[self.kind][0])
            self.model.fixed_statistics = True
            self.model.freeze(depth)
        starts = []

        def step(size: int) -> float:
            rows = self._rows(size)
            cache = None if depth is None else Cache.empty(depth, rows)
            config, meter = self.config.model_copy(update={"batch_size": size}), CostMeter(self.config.device)
            if cache:
                training.extract(self.model, rows, config, meter, [cache])
            work = Work(self.model, self.known, None, None, config, meter)
            with meter.measure():
                curve = training.fit(work, rows, self.model.rates(RATE, 1.0), buckets=False, cache=cache)
            ends = [point["device_seconds"] for point in curve]
            once = min(after - before for before, after in pairwise(ends))  # what disturbs a timing only lengthens it
            starts.append(ends[0] - once)
            return once

        key = key_of(self.job.config, self.known)._replace(depth=depth)
        flops = row_flops(key, "step", depth or 0)(self.tokens)
        rate = _line(_grown(step, self.job.config.batch_size, seconds / EPOCHS), flops)
        return Rate(max(0.0, starts[-1]), rate.batch, rate.flop)

    def _forward(self, run: Callable[[int], object], seconds: float) -> Rate:
        flops = row_flops(key_of(self.job.config, self.known), "forward")(self.tokens)
        return _line(_grown(lambda size: self._timed(partial(run, size)), training.PREDICT_BATCH, seconds), flops)

    def _head(self) -> Rate:
        """The solver on one batch of invented features, and on two."""
        batch = self.model.reader.batch(self._rows(training.PREDICT_BATCH), np.arange(training.PREDICT_BATCH))
        chunk = {name: batch[name].to(self.config.device) for name in ("targets", "word_mask") if name in batch}
        shape = (*chunk["targets"].shape, self.model.head[-1].in_features)
        chunk["features"] = torch.randn(shape, device=self.config.device)
        once, twice = (
            self._timed(partial(heads.solve_head, self.model, chunks, heads.L2[self.kind], CostMeter()))
            for chunks in ([chunk], [chunk] * 2)
        )
        batches = max(0.0, twice - once)
        return Rate(max(0.0, once - batches), batches, 0.0)

    def _features(self, size: int) -> list:
        config = self.config.model_copy(update={"batch_size": size})
        return training.extract(self.model, self._rows(size), config, CostMeter())

    def _predict(self, size: int) -> object:
        return training.predict_rows(self.model, self._rows(size), self.config)

    def _timed(self, run: Callable[[], object]) -> float:
        meter = CostMeter(self.config.device)
        with meter.measure():
            run()
        return meter.device_seconds

    def _rows(self, n: int) -> Encoded:
        """Invented rows, the labels in turn."""
        tokens, kind, labels = self.tokens, self.model.reader.kind, len(self.known.labels)
        targets: list = [i % labels for i in range(n)]
        if kind == "text":
            rows: list = [[1] * tokens] * n
        elif kind == "tokens":
            words = max(1, round(WORDS * (tokens - 2)))
            rows = [([1] * tokens, list(range(1, words + 1)))] * n
            targets = [[(i + word) % labels for word in range(words)] for i in range(n)]
        elif kind == "image":
            pixels = self.rng.integers(0, 256, (n, 3, PIXELS, PIXELS), dtype=np.uint8)
            rows = list(torch.from_numpy(pixels))
        else:
            from scipy.sparse import random as random_bag

            rows = [random_bag(1, HASHED_WORDS, density=0.01, format="csr", rng=self.rng) for _ in range(n)]
        return Encoded(kind, rows, np.full(n, tokens or 1), targets)


def _grown(timed: Callable[[int], float], most: int, seconds: float) -> list[tuple[int, float]]:
    """Seconds of ever larger batches up to `most`, as long as the next one should fit into what is left."""
    times, spent, size = [], 0.0, min(2, most)  # one row has no batch statistics
    while not times or spent + GROWTH * times[-1][1] < seconds:
        times.append((size, timed(size)))
        spent += times[-1][1]
        if size == most:
            break
        size = min(GROWTH * size, most)
    return times


def _line(times: Sequence[tuple[int, float]], row_flops: float) -> Rate:
    """The line through the two largest batches; one alone says nothing of what a batch costs whatever its size."""
    (small, before), (large, after) = times[-2:] if len(times) > 1 else [(0, 0.0), times[0]]
    flop = max(0.0, after - before) / (large - small) / row_flops
    return Rate(0.0, max(0.0, after - flop * large * row_flops), flop)


def _nearest(rates: Rates, key: Key, kind: str) -> Rate:
    """The rate of that key and kind of stage, else of the most alike; nothing where none is known."""

    def alike(other: tuple[Key, str]) -> int:
        shared = sum(mine == theirs for mine, theirs in zip(key, other[0], strict=True))
        return 10 * (other[1] == kind) + shared

    best = max(rates, key=alike, default=None)
    return rates[best] if best else Rate(0.0, 0.0, 0.0)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
