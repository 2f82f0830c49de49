"""The project's own method: one anytime ladder from a head on frozen features to trained blocks.

Rung 0 is a head solved on the features of the frozen backbone. Each next rung trains more blocks from the top, starting
from the rung below. A rung that the carve finds worse is undone, and the climb ends where it no longer pays.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrtl_utils import heads, training
from lrtl_utils.answers import evaluate, headline
from lrtl_utils.batches import Encoded
from lrtl_utils.caches import BOUND_MIB, Cache, size_mib
from lrtl_utils.config import RunConfig
from lrtl_utils.cost import CostMeter
from lrtl_utils.networks import Batch, Model
from lrtl_utils.tasks import Data, Examples

Point = dict[str, Any]

# Shares of the blocks above the embeddings or the stem that each rung trains. What a new task needs lies near the top
# (Yosinski et al. 2014; Lee et al. 2023), and what is not trained is run once, so half of them come first.
SHARES = {"text": (0.5, 0.84), "tokens": (0.5, 0.84), "image": (0.5, 1.0)}
# A solved head is surer of its training rows than it should be, and its small gradients then teach the blocks nothing.
SOFTENED = {"text": 0.3, "tokens": 0.3, "image": 1.0}
DECAY = 0.8  # of the rate, a block down (Howard & Ruder 2018)
PRICE = 0.01  # of score that a doubling of the FLOPs must earn
NAME_COPIES = 2  # the name of a class counts as so many examples of it


class _Ladder:
    """What the rungs of one run share."""

    def __init__(
        self,
        model: Model,
        data: Data,
        train: Examples,
        carve: Examples | None,
        config: RunConfig,
        meter: CostMeter,
        work: Path | None,
    ):
        self.model, self.data, self.config, self.meter, self.work = model, data, config, meter, work
        self.without = set((config.without or "").split(","))
        self.rows = training.encode_training(model, train, config.max_length)
        self.carve = carve and model.reader.encode(carve.inputs, carve.targets)
        self.depths = [rung_depth(len(model.blocks), share) for share in SHARES[data.kind]]
        if carve is None:  # nothing would tell whether a further rung pays
            self.depths = self.depths[:1]
        self.cache_mib = 0.0
        model.fixed_statistics = True

    def ground(self) -> Point:
        """Rung 0: features of all labelled rows, extracted once, and a head solved on those of the training rows.

        The same pass fills the caches at the boundaries of the rungs above, as far as memory is allowed.
        """
        self.model.freeze(len(self.model.blocks))
        caches = self._empty_caches()
        self.chunks = self._extract(self.rows, [cache for cache, _ in caches.values()]) + self._label_names()
        top = None
        if self.carve:
            top = Cache.empty(len(self.model.blocks), self.carve)
            self.carved_chunks = self._extract(self.carve, [*(carved for _, carved in caches.values()), top])
        self.caches = caches
        return self._point(0, self._solve(self.chunks), epoch=1) | self._judge(top)

    def train(self, rung: int, seen: int) -> Point:
        """Train the rung's blocks and the head from where they are; `seen` passes over the rows lie behind."""
        cache, carved = self.caches.get(self.depths[rung - 1], (None, None))
        epochs = max(1, self.config.epochs - 1) if self.finishes else self.config.epochs
        loss = self._fit(rung, self.rows, cache, epochs, f"-{rung}")
        return self._point(rung, loss, epoch=seen + epochs) | self._judge(carved)

    def finish(self, rung: int, seen: int) -> Point:
        """What the carve has decided stands; its labels come back, and the rung is trained once on all of them."""
        if rung == 0:
            return self._point(0, self._solve(self.chunks + self.carved_chunks), epoch=seen + 1)
        cache, carved = self.caches.get(self.depths[rung - 1], (None, None))
        rows = self.rows.joined(self.carve)
        loss = self._fit(rung, rows, cache and cache.joined(carved), 1, "-finish")
        return self._point(rung, loss, epoch=seen + 1)

    @property
    def finishes(self) -> bool:
        return self.carve is not None and "finish" not in self.without

    def soften(self) -> None:
        """Make a solved head less sure, so that the blocks below have something to learn."""
        linear = self.model.head[-1]
        with torch.no_grad():
            if "warm_start" in self.without:
                linear.reset_parameters()
            elif "soften" not in self.without:
                linear.weight *= SOFTENED[self.data.kind]
                linear.bias *= SOFTENED[self.data.kind]

    def weights(self, rung: int) -> dict[str, torch.Tensor]:
        """A copy of what the rung will train."""
        self.model.freeze(self.depths[rung - 1] if rung else len(self.model.blocks))
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters() if weight.requires_grad}

    def restore(self, weights: dict[str, torch.Tensor]) -> None:
        """Put a copy back."""
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if name in weights:
                    weight.copy_(weights[name])

    def _fit(self, rung: int, rows: Encoded, cache: Cache | None, epochs: int, stage: str) -> float:
        self.model.freeze(self.depths[rung - 1])
        config = self.config.model_copy(update={"epochs": epochs})
        curve = training.fit(
            self.model,
            rows,
            config,
            self.model.rates(config.learning_rate, 1.0 if "decay" in self.without else DECAY),
            meter=self.meter,
            labels=self.data.labels,
            buckets="buckets" not in self.without,
            cache=cache,
            work=self.work,
            stage=stage,
        )
        return curve[-1]["loss"]

    def _solve(self, chunks: list[Batch]) -> float:
        return heads.solve_head(self.model, chunks, heads.L2[self.data.kind], self.meter)

    def _extract(self, rows: Encoded, caches: Sequence[Cache]) -> list[Batch]:
        return training.extract(self.model, rows, self.config, self.meter, caches)

    def _empty_caches(self) -> dict[int, tuple[Cache, Cache | None]]:
        """Those that fit into the bound together, the one for the first rung first; their size is told before."""
        caches: dict[int, tuple[Cache, Cache | None]] = {}
        rows = self.rows.joined(self.carve) if self.carve else self.rows
        for depth in [] if "cache" in self.without else self.depths:
            size = size_mib(self.model, rows, depth, self.config.image_size)
            if self.cache_mib + size <= BOUND_MIB:
                self.cache_mib += size
                caches[depth] = Cache.empty(depth, self.rows), self.carve and Cache.empty(depth, self.carve)
        return caches

    def _label_names(self) -> list[Batch]:
        """The names of the classes, read as examples of them: knowledge that a task already gives."""
        names = [(name, label) for label, name in enumerate(self.data.labels) if any(map(str.isalpha, name))]
        if self.data.kind != "text" or "label_names" in self.without or not names:
            return []
        texts, targets = zip(*(names * NAME_COPIES), strict=True)
        return self._extract(self.model.reader.encode(texts, np.array(targets)), [])

    def _judge(self, cache: Cache | None) -> Point:
        """Score and loss on the carve; `cache` holds what the blocks that are frozen now give for it."""
        if self.carve is None:
            return {}
        prediction = training.predict_rows(self.model, self.carve, self.config, self.meter, cache)
        metrics = evaluate(self.model, self.carve.targets, prediction, self.data.labels)
        score = headline(self.model, metrics)
        return {"validation_loss": prediction.loss, "validation_score": score} | self.meter.so_far()

    def _point(self, rung: int, loss: float, epoch: int) -> Point:
        trained = len(self.model.blocks) - self.depths[rung - 1] if rung else 0
        about = {"rung": rung, "epoch": epoch, "trained_blocks": trained, "cache_mib": round(self.cache_mib, 3)}
        return about | {"loss": loss, "validation_loss": None, "validation_score": None} | self.meter.so_far()


def climb(
    model: Model,
    data: Data,
    train: Examples,
    carve: Examples | None,
    config: RunConfig,
    meter: CostMeter,
    work: Path | None = None,
) -> list[Point]:
    """Adapt `model` rung by rung; returns the curve, a point a rung and one for the last pass over all labels.

    A rung replaces the one below unless the carve says, by more than one standard error, that it is worse. Beyond the
    first trained rung, the climb goes on while the gain less its standard error is at least `PRICE` for every doubling
    of the FLOPs; without a carve, nothing could tell, and it ends there. Past `budget_seconds` the best rung stands.
    """
    ladder = _Ladder(model, data, train, carve, config, meter, work)
    curve = [ladder.ground()]
    kept = 0
    for rung in range(1, len(ladder.depths) + 1):
        before = ladder.weights(rung)
        if kept == 0:
            ladder.soften()
        try:
            point = ladder.train(rung, curve[-1]["epoch"])
        except training.OutOfBudget:
            ladder.restore(before)
            return curve
        curve.append(point)
        gain, error = _gain(curve[kept], point, carve)
        if gain < -error:
            ladder.restore(before)
            break
        below, kept = kept, rung
        if not _earned(gain - error, curve[below], point, meter):
            break
    if ladder.finishes:
        before = ladder.weights(kept)
        try:
            curve.append(ladder.finish(kept, curve[-1]["epoch"]))
        except training.OutOfBudget:
            ladder.restore(before)
    return curve


def rung_depth(blocks: int, share: float) -> int:
    """How many of the lowest blocks stay frozen where `share` of those above the first are trained, rounded up."""
    return blocks - math.ceil(share * (blocks - 1))


def _gain(below: Point, above: Point, carve: Examples | None) -> tuple[float, float]:
    """What a rung gained on the carve, and the standard error of a score on so many examples (binomial)."""
    if carve is None:
        return 0.0, 0.0
    score = above["validation_score"]
    return score - below["validation_score"], math.sqrt(max(score * (1 - score), 0.05) / len(carve))


def _earned(gain: float, below: Point, above: Point, meter: CostMeter) -> bool:
    """Whether the gain is worth the FLOPs that it took."""
    if gain <= 0:
        return False
    before, after = (point["flops"] for point in meter.priced([below, above]))
    return gain >= PRICE * math.log2(after / before)
