"""What a cell will do: its batches, their FLOPs, its memory. Told from counts; nothing is trained."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load as tasks
from lrtl_utils.data.splits import Facts, count_labelled, share_of
from lrtl_utils.measure.flops import distance_flops, linear_solver_flops, ridge_flops, tfidf_flops
from lrtl_utils.measure.meter import MIB
from lrtl_utils.methods import loop as training
from lrtl_utils.methods import progressive as ladder
from lrtl_utils.methods.active import ROUNDS
from lrtl_utils.models.catalog import backbone
from lrtl_utils.models.encoding import Encoded, by_length, order, round_up
from lrtl_utils.runs import run as methods
from lrtl_utils.sweep.footprint import architecture, held_bytes, kept_bytes, key_of, row_flops

# How often a head's solver looks at its loss: the medians of the committed records.
LOOKS = {"text": 16, "image": 26, "tokens": 65}
TFIDF_LOOKS = 15  # of scikit-learn's solver
TFIDF_TERMS = 1.5  # distinct words and pairs of words, a token
WORDS = 0.8  # of a tagged sentence, a token beyond the two special ones
NAME_TOKENS = 4  # of a class's name, the special ones with it
STATE_BYTES = {"adamw": 8, "adam": 8, "sgd": 4}  # of an optimizer, a trained parameter


@dataclass(frozen=True)
class Stage:
    """Work of one kind over all its batches: training `step`s, `features`, answers (`predict`), or solving a `head`."""

    kind: str
    batches: float
    flops: float


@dataclass(frozen=True)
class Load:
    """What a cell does on the clock, its prediction of the test split off it, and what it needs of memory and disk.

    `longest` is the tokens of its longest batch, 0 for images and bags.
    """

    stages: tuple[Stage, ...]
    test: Stage
    memory_mib: float
    checkpoint_mib: float
    longest: int

    @property
    def flops(self) -> float:
        """On the clock, as a record's."""
        return sum(stage.flops for stage in self.stages)


@lru_cache
def facts(dataset: str, **columns: Any) -> Facts:
    """`tasks.facts`, with its texts' lengths by the shipped tokenizer where the files are at hand."""
    found = tasks.facts(dataset, **columns)
    return found if found.lengths or found.kind == "image" else replace(found, lengths=_measured(dataset, **columns))


def load(config: RunConfig, known: Facts) -> Load:
    """What the cell of a resolved config does on a data set of which these facts are known."""
    return (_Tfidf if config.model == methods.NO_MODEL else _Cell)(config, known).load()


class _Cell:
    """The batches of one cell, drawn as the run will draw them, from lengths of the same distribution."""

    def __init__(self, config: RunConfig, known: Facts):
        self.config, self.known, self.kind = config, known, known.kind
        self.key = self.trained = key_of(config, known)
        self.model = architecture(self.key)
        # A forward pass is the same for all methods with that pooling; adapters would add about a hundredth to it.
        alike = "linear_probe" if methods.METHODS[config.method].pooling == "mean" else config.method
        self.forward = self.key._replace(method=alike)
        self.rng = np.random.default_rng(0)
        size = {name: getattr(config, name) for name in methods.SIZES}
        labels = count_labelled(known.sizes, **size)
        carved = share_of(labels, config.validation_share or 0)
        uncut = self._lengths(labels - carved)
        self.max_length = min(config.max_length or training.length_rule(uncut), self.model.reader.limit)
        self.train = self._rows(np.minimum(uncut, self.max_length))
        self.carve = self._drawn(carved)
        self.cache_mib = 0.0

    def load(self) -> Load:
        other = _steps if self.config.epochs else _probe
        stages = [*self._selection(), *_METHODS.get(self.config.method, other)(self)]
        test = self.predict(self._drawn(self.config.test_limit or self.known.test))
        longest = self._padded(self.max_length if self.model.reader.plain else self.train.lengths.max())
        weights = [(weight.numel(), weight.requires_grad) for weight in architecture(self.trained).parameters()]
        trained = sum(size for size, wanted in weights if wanted) if self.config.epochs else 0
        static = 4 * sum(size for size, _ in weights) + trained * (4 + STATE_BYTES.get(self.config.optimizer, 0))
        memory = (static + self._activations(longest)) / MIB + self.cache_mib
        return Load(tuple(stages), test, memory, static / MIB if self.config.epochs else 0.0, longest)

    def steps(self, rows: Encoded, depth: int | None = None, cached: bool = False, buckets: bool = True) -> Stage:
        """All epochs of training on `rows`, the lowest `depth` blocks frozen where one is given."""
        self.trained, plain = self.key._replace(depth=depth), self.model.reader.plain
        batches = order(rows.lengths, self.config.batch_size, self.rng, buckets=buckets and not plain)
        flops = self._flops(batches, rows, row_flops(self.trained, "step", depth if cached else 0), padded=plain)
        return Stage("step", len(batches) * self.config.epochs, flops * self.config.epochs)

    def features(self, rows: Encoded, size: int = training.PREDICT_BATCH) -> Stage:
        """One pass over `rows` for what the head reads."""
        batches = list(by_length(rows.lengths, size))
        return Stage("features", len(batches), self._flops(batches, rows, row_flops(self.forward, "forward")))

    def predict(self, rows: Encoded, times: int = 1, given: int = 0) -> Stage:
        """Answers for `rows`, by passes above the lowest `given` blocks."""
        batches = list(by_length(rows.lengths, training.PREDICT_BATCH))
        flops = self._flops(batches, rows, row_flops(self.forward, "forward", given))
        return Stage("predict", len(batches) * times, flops * times)

    def head(self, rows: Encoded, share: float = 1.0, times: int = 1) -> Stage:
        """Solving the head on the features of a share of the rows."""
        examples = WORDS * (rows.lengths.sum() - 2 * len(rows)) if self.kind == "tokens" else len(rows)
        looks = times * LOOKS[self.kind]
        width, classes = backbone(self.config.model).width, len(self.known.labels)
        flops = linear_solver_flops(share * examples * width, classes, looks)
        return Stage("head", len(rows) / training.PREDICT_BATCH * share * times, flops)

    def with_names(self) -> Encoded:
        """The training rows and the names of the classes, as the ladder adds them to texts."""
        names = len(self.known.labels) * ladder.NAME_COPIES if self.kind == "text" else 0
        return self.train.joined(self._rows(np.full(names, NAME_TOKENS)))

    def _selection(self) -> list[Stage]:
        """Choosing what to label looks at every train row."""
        if self.config.selection == "random":
            return []
        everything = self._drawn(sum(self.known.sizes))
        look, labels = self.features(everything), len(self.train) + len(self.carve)
        if self.config.selection == "kcenter":
            distances = distance_flops(len(everything), backbone(self.config.model).width, labels - 1)
            return [replace(look, flops=look.flops + distances)]
        # Its rounds solve on half of the labels up to nearly all of them.
        return [look, self.head(self.train, share=0.7, times=ROUNDS)]

    def _flops(
        self, batches: Iterable[np.ndarray], rows: Encoded, one_row: Callable[[int], float], padded: bool = False
    ) -> float:
        lengths = ((batch, self.max_length if padded else self._padded(rows.lengths[batch].max())) for batch in batches)
        return sum(len(batch) * one_row(length) for batch, length in lengths)

    def _padded(self, length: int) -> int:
        return round_up(int(length)) if self.model.reader.kind in {"text", "tokens"} else 0

    def _drawn(self, n: int) -> Encoded:
        return self._rows(np.minimum(self._lengths(n), self.max_length))

    def _lengths(self, n: int) -> np.ndarray:
        """Of n inputs, in random order: evenly spread over the known ones."""
        known = self.known.lengths or (1,)
        return self.rng.permutation([known[int((i + 0.5) / n * len(known))] for i in range(n)]).astype(int)

    def _rows(self, lengths: np.ndarray) -> Encoded:
        return Encoded(self.kind, [None] * len(lengths), lengths, [])

    def _activations(self, longest: int) -> int:
        """Bytes: what a step of full size keeps for its backward pass, or a pass holds at a time where none is made."""
        if self.config.epochs:
            return self.config.batch_size * kept_bytes(self.trained, longest)
        return training.PREDICT_BATCH * held_bytes(self.forward, longest)


class _Tfidf:
    """A cell without a model: next to nothing beside the others, and told no better than that."""

    def __init__(self, config: RunConfig, known: Facts):
        size = {name: getattr(config, name) for name in methods.SIZES}
        self.terms = count_labelled(known.sizes, **size) * float(np.mean(known.lengths)) * TFIDF_TERMS
        self.labels = len(known.labels)

    def load(self) -> Load:
        flops = tfidf_flops(self.terms) + linear_solver_flops(self.terms, self.labels, TFIDF_LOOKS)
        return Load((Stage("head", 1, flops),), Stage("predict", 0, 0.0), 24 * self.terms / MIB, 0.0, 0)


def _steps(cell: _Cell) -> list[Stage]:
    stages = [cell.steps(cell.train)]
    return [*stages, cell.predict(cell.carve, cell.config.epochs)] if len(cell.carve) else stages


def _probe(cell: _Cell) -> list[Stage]:
    stages = [cell.features(cell.train, size=cell.config.batch_size), cell.head(cell.train)]
    return [*stages, cell.predict(cell.carve)] if len(cell.carve) else stages


def _probe_then_steps(cell: _Cell) -> list[Stage]:
    return [*_probe(cell), *_steps(cell)]


def _rungs(cell: _Cell) -> list[Stage]:
    """Rung 0, then all rungs in reach where a carve judges them, else the highest: the dearest climb that there is."""
    config, without = cell.config, set((cell.config.without or "").split(","))
    rows = cell.train if "label_names" in without else cell.with_names()
    both = rows.joined(cell.carve)
    judged, blocks = len(cell.carve) > 0, len(cell.model.blocks)
    depths = list(ladder.depths_in_reach(cell.kind, blocks, len(cell.train), judged).values())
    wanted = dict.fromkeys(depths, both) | ({blocks: cell.carve} if judged else {})
    cached = ladder.caches_that_fit(cell.model, wanted, config)
    cell.cache_mib = sum(cached.values())
    stages = [cell.features(both), cell.head(rows)]
    if not judged and cell.kind != "tokens":
        width = backbone(config.model).width
        stages.append(Stage("head", 0, ridge_flops(len(rows), width, len(cell.known.labels))))
    for depth in depths if judged else depths[-1:]:
        stages.append(cell.steps(rows, depth, depth in cached, buckets="buckets" not in without))
        if judged:
            stages.append(cell.predict(cell.carve, given=depth if depth in cached else 0))
    return stages


_METHODS: dict[str, Callable[[_Cell], list[Stage]]] = {
    "linear_probe": _probe,
    "lp_ft": _probe_then_steps,
    "progressive": _rungs,
}


def _measured(dataset: str, rows: int = 1000, **columns: Any) -> tuple[int, ...]:
    """Tokens of the first train inputs by the shipped tokenizer, in order."""
    from transformers import AutoTokenizer

    from lrtl_utils.models.catalog import find

    tokenizer = AutoTokenizer.from_pretrained(find("minilm").files[0].parent)
    data = tasks.load(dataset, **columns)
    inputs = [x if isinstance(x, str) else list(x) for x in data.train.inputs[:rows]]
    ids = tokenizer(inputs, is_split_into_words=data.kind == "tokens", verbose=False)["input_ids"]
    return tuple(sorted(len(row) for row in ids))
