"""`progressive`: the project's own method, a ladder from a solved head to trained blocks.

Rung 0 is a head solved on the features of the frozen backbone. Each next rung trains more blocks from the top, and
starts from the weights of the rung below. With a validation split, a rung that scores worse on it is undone, and the
climb ends where it no longer pays. Without one, the rule below says how far to climb.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import full, loop, solver
from lrtl_utils.methods.feature_cache import BOUND_MIB, Cache, size_mib
from lrtl_utils.methods.method import Curve, Method, Work, what_is_read
from lrtl_utils.models.catalog import Backbone
from lrtl_utils.models.encoding import Encoded
from lrtl_utils.models.network import Batch, Model

Point = dict[str, Any]

# --- The rule. What each value earns, and what else was tried, stands in docs/tried.md.

# What `without` may leave out, for ablations.
PIECES = ("tail", "warm_start", "soften", "decay", "average", "cache", "buckets")

# Each value is given at a few numbers of labels, and in between it follows the logarithm of the number (`at`). It was
# chosen at about 32, 100 and 500 labels. By kind:
# Rates are multiples of `full`'s: a solved head wants less than a fresh one. Entities, with their many tags, need the
# most steps, and a lower rate where there are many labels; a high rate harms a network while images are few.
RATES = {"text": ((100, 0.6),), "tokens": ((100, 1.0), (500, 0.6)), "image": ((100, 0.3), (500, 0.6))}
# Few examples need more passes to make as many steps.
EPOCHS = {"text": ((32, 5), (100, 3), (500, 2)), "tokens": ((100, 6), (500, 4)), "image": ((100, 2),)}
# For images the solved head is a good start that small batches throw away.
BATCHES = {"text": 8, "tokens": 8, "image": 16}
# Both ends of a long text say nearly as much as twice the tokens, of which more are read where there are more labels.
TOKENS = ((100, 128), (500, 256))
# The share of the blocks above the embeddings or the stem that are trained, rounded up: of six blocks 0.84 are all,
# 0.83 five. What a new task needs lies near the top (Yosinski et al. 2014), and frozen blocks run only once. Where a
# validation split judges, the lowest share is the first rung and the highest the second.
SHARES = {"text": ((100, 0.5), (500, 0.84)), "tokens": ((100, 0.5), (500, 0.83)), "image": ((500, 0.5), (2500, 1.0))}
# Where a rung's weights end, on the way from its start to its last step. A few examples teach a network as much by
# chance as by the task, and what is between undoes half of it, at no cost (Wortsman et al. 2022).
KEPT = {"text": ((16, 0.0), (32, 1.0)), "tokens": ((16, 1.0),), "image": ((50, 0.0), (100, 0.5))}
# Where rung 0 has come two thirds of the way from chance to no error, by its leave-one-out score, its features are near
# enough to the task: the rungs beyond the first have little to add.
NEAR = 2 / 3
TAIL = 0.75  # of the tokens of a text that is cut, the share that its end has: it often holds the verdict (Sun 2019)
PRICE = 0.01  # of score that a doubling of the FLOPs must earn


def at(points: Sequence[tuple[int, float]], n_labels: int) -> float:
    """The value at so many labels, linear in their logarithm between the points and constant beyond them."""
    labels, values = zip(*points, strict=True)
    return float(np.interp(math.log(max(n_labels, 1)), np.log(labels), values))


def defaults(kind: str, backbone: Backbone, n_labels: int) -> dict[str, Any]:
    """As `full`, but for the rule above: a solved head and frozen lower blocks leave less to learn."""
    rule = full.defaults(kind, backbone, n_labels)
    rule |= {"learning_rate": at(RATES[kind], n_labels) * rule["learning_rate"], "batch_size": BATCHES[kind]}
    rule |= {"epochs": round(at(EPOCHS[kind], n_labels)), "penalty": None, "budget_seconds": None, "without": None}
    climbs = kind == "text" and at(KEPT[kind], n_labels) > 0
    return rule | what_is_read(kind, solved=not climbs, label_names=True) | {"validation_share": 0.0}


# --- The climb.


def fit(work: Work) -> Curve:
    """Adapt the model rung by rung; returns a point a rung.

    A rung replaces the one below unless the validation split says, by more than one standard error, that it is worse.
    Beyond the first trained rung, the climb goes on while the gain less its standard error is at least `PRICE` for
    every doubling of the FLOPs. Past `budget_seconds` the last whole rung stands. Without weights, on the meta device,
    nothing is scored, and the dearest climb is walked.
    """
    ladder = Ladder(work)
    curve = [ladder.ground()]
    ahead = ladder.ahead(curve[0])
    for at, rung in enumerate(ahead):
        ladder.keep_caches(ahead[at:])
        below = curve[-1]
        undoable = work.validation is not None or work.config.budget_seconds is not None
        before = ladder.weights(rung) if undoable else {}
        if below["rung"] == 0:
            ladder.soften()
        try:
            point = ladder.train(rung, below["epoch"])
        except loop.OutOfBudget:
            ladder.restore(before, below["rung"])
            break
        curve.append(point)
        if work.validation is None:
            break
        if point["validation_score"] is None:
            continue
        gain, error = _gain(below, point, len(work.validation))
        if gain < -error:
            ladder.restore(before, below["rung"])
            break
        if not _earned(gain - error, below, point, work.meter):
            break
    return curve


class Ladder:
    """What the rungs of one run share: the encoded rows, the depth of each rung, and the caches below them."""

    def __init__(self, work: Work):
        self.work, self.model, self.config, self.meter = work, work.model, work.config, work.meter
        self.kind, self.n_labels = work.data.kind, len(work.train)
        self.without = set((work.config.without or "").split(","))
        self.model.reader.tail = TAIL if self.kind == "text" and "tail" not in self.without else 0.0
        most = 8 * round(at(TOKENS, self.n_labels) / 8)
        self.rows = loop.encode_training(self.model, work.train, work.config.max_length, most)
        self.names = loop.label_names(work)
        self.validation = work.validation and loop.encode(self.model, work.validation)
        judged = work.validation is not None
        self.depths = depths_in_reach(self.kind, len(self.model.blocks), self.n_labels, judged)
        self.caches: dict[int, tuple[Cache, Cache | None]] = {}
        self.cache_mib: dict[int, float] = {}
        self.model.fixed_statistics = True

    def ground(self) -> Point:
        """Rung 0: features of all labelled rows, extracted once, and a head solved on those of the training rows.

        The same pass fills the caches at the boundaries of the rungs above, as far as memory is allowed.
        """
        read, validation = self.model.lowest_read, self.validation
        self.model.freeze(len(self.model.blocks))
        kept = loop.with_names(self.rows, self.names)
        wanted = dict.fromkeys(self.depths.values(), kept.joined(validation) if validation else kept)
        also = {read: validation} if validation and read not in wanted else {}
        self.cache_mib = caches_that_fit(self.model, wanted | also, self.config)
        caches = {
            depth: (Cache.empty(depth, self.rows), validation and Cache.empty(depth, validation))
            for depth in wanted
            if depth in self.cache_mib
        }
        chunks = self._extract(self.rows, [cache for cache, _ in caches.values()])
        named = {depth: Cache.empty(depth, self.names) for depth in caches if self.names}
        names = self._extract(self.names, [*named.values()]) if self.names else []
        options = self.config.penalty, names * loop.NAME_COPIES, self.config.class_weights
        solved = solver.solve_head(self.model, chunks, self.meter, *options)
        self.sureness, self.left_out_loss = solved.sureness, solved.left_out_loss
        if self.names and (solved.names_fit or loop.on_meta(self.model)):
            self.rows = kept
            for depth, (rows, below) in caches.items():
                caches[depth] = functools.reduce(Cache.joined, [named[depth]] * loop.NAME_COPIES, rows), below
        filled = {depth: below for depth, (_, below) in caches.items()} if validation else {}
        if validation and read in self.cache_mib:
            filled.setdefault(read, Cache.empty(read, validation))
        if filled:
            self._extract(validation, [*filled.values()])
        self.caches = caches
        point = self._point(0, solved.loss, epoch=1, cache=filled.get(read))
        return point | {
            name: getattr(solved, name) for name in ("penalty", "left_out_score", "left_out_loss", "names_fit")
        }

    def ahead(self, ground: Point) -> list[int]:
        """The rungs to climb: all in reach where a validation split judges, else the one the rule names, or none."""
        rungs = list(self.depths)
        if self.validation:
            return rungs
        score, chance = ground.get("left_out_score"), 1 / len(self.work.data.classes)
        near = self.kind != "tokens" and score is not None and score - chance >= NEAR * (1 - chance)
        return rungs[:1] if near else rungs[-1:]

    def keep_caches(self, rungs: Sequence[int]) -> None:
        """Let go of the caches that none of these rungs reads."""
        depths = {self.depths[rung] for rung in rungs}
        self.caches = {depth: cache for depth, cache in self.caches.items() if depth in depths}
        self.cache_mib = {depth: mib for depth, mib in self.cache_mib.items() if depth in depths}

    def train(self, rung: int, seen: int) -> Point:
        """Train the rung's blocks and the head from where they are; `seen` passes over the rows came before.

        Where weights are averaged, a rung that ends with a higher loss on its own rows than rung 0 has on rows that are
        left out has lost more than it learned: its weights go back to where they were.
        """
        depth = self.depths[rung]
        kept = 1.0 if "average" in self.without else at(KEPT[self.kind], self.n_labels)
        start = self.weights(rung) if kept < 1 else {}
        self.model.freeze(depth)
        cache, below = self.caches.get(depth, (None, None))
        rates = self.model.rates(self.config.learning_rate, 1.0 if "decay" in self.without else full.DECAY)
        options = {"buckets": "buckets" not in self.without, "cache": cache, "stage": f"-{rung}"}
        curve = loop.fit(self.work, self.rows, rates, **options)
        if start and self.left_out_loss is not None and curve[-1]["loss"] > self.left_out_loss:
            kept = 0.0
        with torch.no_grad():
            trained = dict(self.model.named_parameters())
            for name, weight in start.items():
                trained[name].lerp_(weight, 1 - kept)
        return self._point(rung, curve[-1]["loss"], epoch=seen + self.config.epochs, cache=below)

    def soften(self) -> None:
        """Make a solved head as unsure of its own rows as it is of rows that are left out.

        It is surer of its own, and its small gradients would then teach the blocks nothing.
        """
        linear = self.model.head[-1]
        if "warm_start" in self.without:
            linear.reset_parameters()
        elif "soften" not in self.without and not loop.on_meta(self.model):
            with torch.no_grad():
                linear.weight *= self.sureness
                linear.bias *= self.sureness

    def weights(self, rung: int) -> dict[str, torch.Tensor]:
        """A copy of what the rung will train."""
        self.model.freeze(self.depths[rung])
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters() if weight.requires_grad}

    def restore(self, weights: dict[str, torch.Tensor], rung: int) -> None:
        """Put a copy back, and freeze what the rung that it came from had frozen."""
        self.model.load_state_dict(weights, strict=False)
        self.model.freeze(self.depths[rung] if rung else len(self.model.blocks))

    def _extract(self, rows: Encoded, caches: Sequence[Cache]) -> list[Batch]:
        config = self.config.model_copy(update={"batch_size": loop.PREDICT_BATCH})  # no gradients, so there is room
        return loop.extract(self.model, rows, config, self.meter, caches, self.work.shared)

    def _point(self, rung: int, loss: float, epoch: int, cache: Cache | None) -> Point:
        """The curve's point; `cache` holds what the blocks that are frozen now give for the validation split."""
        point = {
            "rung": rung,
            "epoch": epoch,
            "trained_blocks": len(self.model.blocks) - self.depths[rung] if rung else 0,
            "cache_mib": round(sum(self.cache_mib.values()), 3),
            "loss": loss,
        }
        return point | loop.validation_scores(self.work, self.validation, cache) | self.meter.so_far()


def depths_in_reach(kind: str, blocks: int, n_labels: int, judged: bool) -> dict[int, int]:
    """How many of the lowest blocks each rung leaves frozen, by rung.

    Where no validation split judges, the rule gives the share of the second rung, and there is none where so few labels
    would leave the weights as they are. A rung that would train no more blocks than the one below is left out.
    """
    (_, first), *_, (_, most) = SHARES[kind]
    if not judged and at(KEPT[kind], n_labels) == 0:
        return {}
    depths: dict[int, int] = {}
    for rung, share in enumerate((first, most if judged else at(SHARES[kind], n_labels)), 1):
        depth = rung_depth(blocks, share)
        if depth not in depths.values():
            depths[rung] = depth
    return depths


def rung_depth(blocks: int, share: float) -> int:
    """How many of the lowest blocks stay frozen where `share` of those above the first are trained, rounded up."""
    return blocks - math.ceil(share * (blocks - 1))


def caches_that_fit(model: Model, wanted: dict[int, Encoded], config: Any) -> dict[int, float]:
    """The size in MiB of each cache that fits into the bound, the first wanted first, by the depth below it.

    None under `without=cache`, nor where images are to change from epoch to epoch, nor above a block whose output the
    head reads too.
    """
    if "cache" in (config.without or "").split(",") or config.augment == "light":
        return {}
    sizes: dict[int, float] = {}
    for depth, rows in wanted.items():
        if depth > model.lowest_read:
            continue
        size = size_mib(model, rows, depth, config.image_size)
        if sum(sizes.values()) + size <= BOUND_MIB:
            sizes[depth] = size
    return sizes


def _gain(below: Point, above: Point, examples: int) -> tuple[float, float]:
    """What a rung gained on the validation split, and the standard error of a score on so many examples (binomial)."""
    score = above["validation_score"]
    return score - below["validation_score"], math.sqrt(max(score * (1 - score), 0.05) / examples)


def _earned(gain: float, below: Point, above: Point, meter: CostMeter) -> bool:
    """Whether the gain is worth the FLOPs that it took; they are counted only where there is one."""
    if gain <= 0:
        return False
    before, after = (point["flops"] for point in meter.priced([below, above]))
    return gain >= PRICE * math.log2(after / before)


METHOD = Method(fit, defaults, pieces=PIECES, needs_blocks=True)
