"""The project's own method: one anytime ladder from a head on frozen features to trained blocks.

Rung 0 is a head solved on the features of the frozen backbone. Each next rung trains more blocks from the top, starting
from the rung below. With a carve, a rung that it finds worse is undone, and the climb ends where it no longer pays.
Without one, the rule below says how far to climb.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lrtl_utils.config import RunConfig
from lrtl_utils.data.splits import Data, Examples
from lrtl_utils.measure.evaluation import evaluate, headline
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop as training
from lrtl_utils.methods import solver as heads
from lrtl_utils.methods.defaults import DECAY
from lrtl_utils.methods.feature_cache import BOUND_MIB, Cache, size_mib
from lrtl_utils.models.encoding import Encoded
from lrtl_utils.models.network import Batch, Model

Point = dict[str, Any]

# The shares of the blocks above the embeddings or the stem that each rung trains. What a new task needs lies near the
# top (Yosinski et al. 2014), and what is not trained is run once, so half of them come first. Shares are rounded up: of
# six blocks 0.84 are all, 0.83 five.
SHARES = {"text": (0.5, 0.84), "tokens": (0.5, 0.83), "image": (0.5, 1.0)}
# Labels from which a rung is worth climbing where no carve tells. Sub-words' features say little of entities, so blocks
# are trained for those at any size, and more of them where there is enough to learn from; the features of photographs
# are good, and few of them easily hurt a network.
LEAST_LABELS = {"text": (32, 250), "tokens": (1, 250), "image": (64, 1000)}
# Of the way from chance to all right that rung 0 must have gone, left-out examples counted, for its features to be near
# enough to the task: then the rungs beyond the first have little to add.
NEAR = 2 / 3
# A solved head is surer of its training rows than it should be, and its small gradients then teach the blocks nothing.
# By kind: (labels below which a line holds, what the logits are scaled by); a fainter head takes more steps to learn.
SOFTENED = {"text": ((math.inf, 0.3),), "tokens": ((64, 0.3), (math.inf, 0.1)), "image": ((math.inf, 1.0),)}
# Where a rung's weights are left, of the way from its start to its end: halfway, half of what few images taught them by
# chance is undone, at no cost (Wortsman et al. 2022). Texts and tags gain nothing by it.
KEPT = {"text": 1.0, "tokens": 1.0, "image": 0.5}
# Of the tokens that a long text is cut to, the share that its end has: it often holds the verdict (Sun et al. 2019).
TAIL = 0.75
PRICE = 0.01  # of score that a doubling of the FLOPs must earn
NAME_COPIES = 2  # the name of a class counts as so many examples of it


class Ladder:
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
        self.examples = len(train)
        model.reader.tail = TAIL if data.kind == "text" and "tail" not in self.without else 0.0
        self.rows = self._with_label_names(training.encode_training(model, train, config.max_length))
        self.carve = carve and model.reader.encode(carve.inputs, carve.targets)
        self.depths = depths_in_reach(data.kind, len(model.blocks), len(train), carve is not None)
        self.caches: dict[int, tuple[Cache, Cache | None]] = {}
        self.cache_mib: dict[int, float] = {}
        model.fixed_statistics = True

    def ground(self) -> Point:
        """Rung 0: features of all labelled rows, extracted once, and a head solved on those of the training rows.

        The same pass fills the caches at the boundaries of the rungs above, as far as memory is allowed.
        """
        blocks = len(self.model.blocks)
        self.model.freeze(blocks)
        wanted = dict.fromkeys(self.depths.values(), self.rows.joined(self.carve) if self.carve else self.rows)
        self.cache_mib = caches_that_fit(self.model, wanted | ({blocks: self.carve} if self.carve else {}), self.config)
        caches = {
            depth: (Cache.empty(depth, self.rows), self.carve and Cache.empty(depth, self.carve))
            for depth in wanted
            if depth in self.cache_mib
        }
        chunks = self._extract(self.rows, [cache for cache, _ in caches.values()])
        loss = heads.solve_head(self.model, chunks, heads.L2[self.data.kind], self.meter)
        top = Cache.empty(blocks, self.carve) if blocks in self.cache_mib else None
        if top or (self.carve and caches):
            self._extract(self.carve, [*(carved for _, carved in caches.values()), *([top] if top else [])])
        self.caches = caches
        point = self._point(0, loss, epoch=1, cache=top)
        if self.carve or self.data.kind == "tokens":
            return point
        left_out = heads.leave_one_out(self.model, chunks, self.examples, self.meter)
        return point | {"left_out_score": left_out} | self.meter.so_far()

    def ahead(self, ground: Point) -> list[int]:
        """The rungs to climb: all within reach where a carve will judge, else the one that the rule names, or none."""
        rungs = list(self.depths)
        if self.carve:
            return rungs
        score, chance = ground.get("left_out_score"), 1 / len(self.data.labels)
        near = score is not None and score - chance >= NEAR * (1 - chance)
        return rungs[:1] if near else rungs[-1:]

    def keep_caches(self, rungs: Sequence[int]) -> None:
        """Let go of what none of these rungs will read."""
        depths = {self.depths[rung] for rung in rungs}
        self.caches = {depth: cache for depth, cache in self.caches.items() if depth in depths}
        self.cache_mib = {depth: mib for depth, mib in self.cache_mib.items() if depth in depths}

    def train(self, rung: int, seen: int) -> Point:
        """Train the rung's blocks and the head from where they are; `seen` passes over the rows lie behind."""
        depth = self.depths[rung]
        kept = 1.0 if "average" in self.without else KEPT[self.data.kind]
        start = self.weights(rung) if kept < 1 else {}
        self.model.freeze(depth)
        cache, carved = self.caches.get(depth, (None, None))
        curve = training.fit(
            self.model,
            self.rows,
            self.config,
            self.model.rates(self.config.learning_rate, 1.0 if "decay" in self.without else DECAY),
            meter=self.meter,
            labels=self.data.labels,
            buckets="buckets" not in self.without,
            cache=cache,
            work=self.work,
            stage=f"-{rung}",
        )
        with torch.no_grad():
            trained = dict(self.model.named_parameters())
            for name, weight in start.items():
                trained[name].lerp_(weight, 1 - kept)
        return self._point(rung, curve[-1]["loss"], epoch=seen + self.config.epochs, cache=carved)

    def soften(self) -> None:
        """Make a solved head less sure, so that the blocks below have something to learn."""
        linear = self.model.head[-1]
        if "warm_start" in self.without:
            linear.reset_parameters()
        elif "soften" not in self.without:
            scale = next(scale for below, scale in SOFTENED[self.data.kind] if self.examples < below)
            with torch.no_grad():
                linear.weight *= scale
                linear.bias *= scale

    def weights(self, rung: int) -> dict[str, torch.Tensor]:
        """A copy of what the rung will train."""
        self.model.freeze(self.depths[rung])
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters() if weight.requires_grad}

    def restore(self, weights: dict[str, torch.Tensor], rung: int) -> None:
        """Put a copy back, and freeze what the rung that it came from had frozen."""
        self.model.load_state_dict(weights, strict=False)
        self.model.freeze(self.depths[rung] if rung else len(self.model.blocks))

    def _extract(self, rows: Encoded, caches: Sequence[Cache]) -> list[Batch]:
        config = self.config.model_copy(update={"batch_size": training.PREDICT_BATCH})  # no gradients: there is room
        return training.extract(self.model, rows, config, self.meter, caches)

    def _with_label_names(self, rows: Encoded) -> Encoded:
        """The rows, and the names of the classes as further examples of them: knowledge that a task already gives."""
        names = [(name, label) for label, name in enumerate(self.data.labels) if any(map(str.isalpha, name))]
        if self.data.kind != "text" or "label_names" in self.without or not names:
            return rows
        texts, targets = zip(*(names * NAME_COPIES), strict=True)
        return rows.joined(self.model.reader.encode(texts, targets))

    def _point(self, rung: int, loss: float, epoch: int, cache: Cache | None) -> Point:
        """The curve's point; `cache` holds what the blocks that are frozen now give for the carve."""
        trained = len(self.model.blocks) - self.depths[rung] if rung else 0
        point = {
            "rung": rung,
            "epoch": epoch,
            "trained_blocks": trained,
            "cache_mib": round(sum(self.cache_mib.values()), 3),
        }
        point |= {"loss": loss, "validation_loss": None, "validation_score": None}
        if self.carve:
            prediction = training.predict_rows(self.model, self.carve, self.config, self.meter, cache)
            metrics = evaluate(self.model, self.carve.targets, prediction, self.data.labels)
            point |= {"validation_loss": prediction.loss, "validation_score": headline(self.model, metrics)}
        return point | self.meter.so_far()


def climb(
    model: Model,
    data: Data,
    train: Examples,
    carve: Examples | None,
    config: RunConfig,
    meter: CostMeter,
    work: Path | None = None,
) -> list[Point]:
    """Adapt `model` rung by rung; returns the curve, a point a rung.

    A rung replaces the one below unless the carve says, by more than one standard error, that it is worse. Beyond the
    first trained rung, the climb goes on while the gain less its standard error is at least `PRICE` for every doubling
    of the FLOPs. Past `budget_seconds` the last whole rung stands.
    """
    ladder = Ladder(model, data, train, carve, config, meter, work)
    curve = [ladder.ground()]
    ahead = ladder.ahead(curve[0])
    for at, rung in enumerate(ahead):
        ladder.keep_caches(ahead[at:])
        below = curve[-1]
        undoable = carve is not None or config.budget_seconds is not None
        before = ladder.weights(rung) if undoable else {}
        if below["rung"] == 0:
            ladder.soften()
        try:
            point = ladder.train(rung, below["epoch"])
        except training.OutOfBudget:
            ladder.restore(before, below["rung"])
            break
        curve.append(point)
        if carve is None:
            break
        gain, error = _gain(below, point, len(carve))
        if gain < -error:
            ladder.restore(before, below["rung"])
            break
        if not _earned(gain - error, below, point, meter):
            break
    return curve


def depths_in_reach(kind: str, blocks: int, labels: int, judged: bool) -> dict[int, int]:
    """How many of the lowest blocks each rung leaves frozen, of those that a carve will judge or the rule allows.

    A rung that would train no more blocks than the one below is none.
    """
    depths: dict[int, int] = {}
    for rung, (share, least) in enumerate(zip(SHARES[kind], LEAST_LABELS[kind], strict=True), 1):
        depth = rung_depth(blocks, share)
        if (judged or labels >= least) and depth not in depths.values():
            depths[rung] = depth
    return depths


def caches_that_fit(model: Model, wanted: dict[int, Encoded], config: RunConfig) -> dict[int, float]:
    """Of caches above so many lowest blocks, those that fit into the bound together, the first one first: MiB of each.

    None under `without=cache`, nor where images are to change from epoch to epoch.
    """
    if "cache" in (config.without or "").split(",") or config.augment == "light":
        return {}
    sizes: dict[int, float] = {}
    for depth, rows in wanted.items():
        size = size_mib(model, rows, depth, config.image_size)
        if sum(sizes.values()) + size <= BOUND_MIB:
            sizes[depth] = size
    return sizes


def rung_depth(blocks: int, share: float) -> int:
    """How many of the lowest blocks stay frozen where `share` of those above the first are trained, rounded up."""
    return blocks - math.ceil(share * (blocks - 1))


def _gain(below: Point, above: Point, examples: int) -> tuple[float, float]:
    """What a rung gained on the carve, and the standard error of a score on so many examples (binomial)."""
    score = above["validation_score"]
    return score - below["validation_score"], math.sqrt(max(score * (1 - score), 0.05) / examples)


def _earned(gain: float, below: Point, above: Point, meter: CostMeter) -> bool:
    """Whether the gain is worth the FLOPs that it took; they are counted only where there is one."""
    if gain <= 0:
        return False
    before, after = (point["flops"] for point in meter.priced([below, above]))
    return gain >= PRICE * math.log2(after / before)
