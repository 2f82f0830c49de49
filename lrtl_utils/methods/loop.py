"""The only training loop, the only prediction, the only feature extraction."""

import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from lrtl_utils.config import RunConfig, derived_seed
from lrtl_utils.data.hub import require_weights
from lrtl_utils.data.splits import Examples
from lrtl_utils.errors import InputError
from lrtl_utils.files import require_claim, write_atomically, write_text
from lrtl_utils.measure.flops import count_flops, of_any_shape
from lrtl_utils.measure.memory import keep_freed
from lrtl_utils.measure.meter import CostMeter, Shape
from lrtl_utils.measure.metrics import PREDICT_BATCH, Prediction, evaluate, headline
from lrtl_utils.methods.feature_cache import Cache
from lrtl_utils.methods.method import Curve, Work, balanced
from lrtl_utils.methods.shared import Shared
from lrtl_utils.models.encoding import Encoded, answers, by_length, order, round_up
from lrtl_utils.models.network import Batch, Model

Rates = Sequence[tuple[Sequence[torch.nn.Parameter], float]]  # parameters with the peak rate of each group

PROGRESS_SECONDS = 5.0
NAMED = "This is about {}."  # the name of a class, as an example of it
NAME_COPIES = 4  # it counts as so many


class Interrupted(RuntimeError):
    """The run was asked to end (SIGTERM); its checkpoint is written, and the same command goes on from it."""


class OutOfBudget(RuntimeError):
    """The run's `budget_seconds` are spent."""


def train(work: Work, decay: float = 1.0, *, buckets: bool = True) -> Curve:
    """Train the weights that are not frozen; the rate falls by `decay` from one block to the one below it."""
    rows = with_names(encode_training(work.model, work.train, work.config.max_length), label_names(work))
    validation = work.validation and encode(work.model, work.validation)
    rates = work.model.rates(work.config.learning_rate, decay)
    return fit(work, rows, rates, buckets=buckets, validation=validation)


def only_point(work: Work, loss: float | None) -> dict[str, Any]:
    """The curve's only point, for a method that solves instead of stepping; a validation split is scored once."""
    validation = work.validation and encode(work.model, work.validation)
    return {"epoch": 1, "loss": loss} | validation_scores(work, validation) | work.meter.so_far()


def validation_scores(work: Work, validation: Encoded | None, cache: Cache | None = None) -> dict[str, Any]:
    """`validation_loss` and `validation_score` of the model now: None without a split, and without weights."""
    scores = {"validation_loss": None, "validation_score": None}
    if validation is None:
        return scores
    prediction = predict_rows(work.model, validation, work.config, work.meter, cache, work.shared)
    if on_meta(work.model):
        return scores
    metrics = evaluate(validation.targets, prediction, work.data.classes)
    return {"validation_loss": prediction.loss, "validation_score": headline(metrics)}


def on_meta(model: Model) -> bool:
    """Whether the model has shapes and no weights: then work is tallied and not done."""
    return next(model.parameters(), torch.empty(0)).is_meta


def encode(model: Model, examples: Examples) -> Encoded:
    """The examples as rows that the model reads."""
    return model.reader.encode(examples.inputs, examples.targets)


def encode_training(model: Model, examples: Examples, max_length: int | None, most: int = 256) -> Encoded:
    """The training examples as rows; fixes the model's `max_length`, by `length_rule` up to `most` if none is given."""
    data, reader = encode(model, examples), model.reader
    if reader.kind in {"text", "tokens"}:
        reader.max_length = min(max_length or min(length_rule(data.lengths), most), reader.limit)
        data = reader.cut(data)
    return data


def label_names(work: Work) -> Encoded | None:
    """A sentence with the name of each class: knowledge that a task already gives. None where it is not to be used."""
    names = [(name, label) for label, name in enumerate(work.data.classes) if any(map(str.isalpha, name))]
    if not (work.config.label_names and names):
        return None
    texts = [NAMED.format(name.replace("_", " ")) for name, _ in names]
    return work.model.reader.encode(texts, [label for _, label in names])


def with_names(rows: Encoded, names: Encoded | None) -> Encoded:
    """The rows, and the names as further examples."""
    return reduce(Encoded.joined, [names] * NAME_COPIES, rows) if names else rows


def length_rule(lengths: np.ndarray) -> int:
    """128 tokens, or 256 where the median text is longer than 128."""
    return 256 if np.median(lengths) > 128 else 128


def fit(
    work: Work,
    data: Encoded,
    rates: Rates,
    *,
    buckets: bool,
    validation: Encoded | None = None,
    cache: Cache | None = None,
    stage: str = "",
) -> Curve:
    """Train the parameters of `rates`, each group at its own peak rate; returns one curve point an epoch.

    `cache` holds what the frozen blocks give for `data`. With `work.folder`, progress and checkpoints (one for each
    `stage` of a method) are kept there, and training goes on from a checkpoint found there: the same weights, order and
    dropout as without the interruption, and the meter adds what was spent before. `InputError` where the loss is no
    longer finite; `ClaimLost` where another process has taken over the folder.
    """
    with _terminated() as asked_to_end:
        loop = _Loop(work, data, rates, buckets, cache, stage, asked_to_end)
        curve = loop.restore()
        for epoch in range(len(curve), work.config.epochs):
            point = {"epoch": epoch + 1, "loss": loop.run_epoch(epoch, curve)}
            curve.append(point | validation_scores(work, validation) | work.meter.so_far())
            loop.end_epoch(epoch, curve)
    return curve


class _Loop:
    """The state of one `fit`: what a step changes and a checkpoint keeps."""

    def __init__(
        self,
        work: Work,
        data: Encoded,
        rates: Rates,
        buckets: bool,
        cache: Cache | None,
        stage: str,
        asked_to_end: list[int],
    ):
        self.model, self.data, self.config, self.meter = work.model, data, work.config, work.meter
        self.buckets, self.cache, self.asked_to_end = buckets, cache, asked_to_end
        self.phase = f"step above block {self.model.frozen}" + (", cached" if cache else "")
        self.meter.register(self.phase, step_counter(self.model, cached=cache is not None))
        self.meter.register("forward", pass_counter(self.model, head=True))
        self.trained = [weight for weights, _ in rates for weight in weights]
        self.first_batch = 0
        self.folder, self.checkpoint = work.folder, work.folder and work.folder / f"checkpoint{stage}.pt"
        self.claim = work.claim
        self.saved_at = self.shown_at = time.monotonic()
        if on_meta(self.model):
            return
        config = self.config
        # Not the shared one: it keeps the optimizers it prepared, and they their weights.
        self.runtime = _new_accelerator(config.device, config.precision)
        self.model.to(self.runtime.device)
        steps = math.ceil(len(self.batches(0)) / config.accumulate) * config.epochs
        optimizer = _optimizer(config, rates)
        self.schedule = _schedule(config, optimizer, steps)
        self.optimizer = self.runtime.prepare(optimizer)
        self.loss = torch.zeros((), device=self.runtime.device)
        self.weights = None
        if config.class_weights:
            self.weights = torch.from_numpy(balanced(data.targets, len(work.data.classes))).to(self.runtime.device)
        torch.manual_seed(derived_seed(config.seed, "dropout"))

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch; one of a single row joins another where the model cannot be trained on it."""
        rng = np.random.default_rng([derived_seed(self.config.seed, "order"), epoch])
        batches = order(self.data.lengths, self.config.batch_size, rng, buckets=self.buckets)
        if min(map(len, batches)) > 1 or not _needs_two(self.model):
            return batches
        *others, last = sorted(batches, key=len, reverse=True)
        if not others or len(others[-1]) == 1:
            raise InputError(
                f"The batch normalisation of model {self.config.model!r} needs two images in a batch, or a larger "
                f"image_size than {self.config.image_size}."
            )
        return [*others[:-1], np.concatenate([others[-1], last])]

    def run_epoch(self, epoch: int, curve: list[dict[str, Any]]) -> float:
        """One pass over the data from `first_batch` on; returns the mean loss of its batches."""
        config, batches = self.config, self.batches(epoch)
        if on_meta(self.model):
            for positions in batches:
                self.meter.tally(self.phase, batch_shape(self.model, self.data, positions, train=True))
            return math.nan
        self.model.train()
        for i in range(self.first_batch, len(batches)):
            group = batches[i - i % config.accumulate : i - i % config.accumulate + config.accumulate]
            self._backward(batches[i], share=len(batches[i]) / sum(map(len, group)))
            if batches[i] is group[-1]:
                self._step()
            self._keep(epoch, i + 1, curve, _checkpoint_seconds())
        mean = float(self.loss) / len(batches)
        if not math.isfinite(mean):
            raise InputError(
                f"The loss is {mean} in epoch {epoch + 1}: learning_rate={config.learning_rate} is too high for this "
                f"model or precision={config.precision!r} too coarse."
            )
        self.first_batch, self.loss = 0, torch.zeros_like(self.loss)
        return mean

    def _backward(self, positions: np.ndarray, share: float) -> None:
        batch = _to(self.model.reader.batch(self.data, positions, train=True), self.runtime.device)
        with self.runtime.autocast(), _given(self.model, self.cache, positions, batch):
            scores = self.model(batch)
        loss = self.model.loss(scores, batch) if self.weights is None else self._weighted(scores, batch)
        self.runtime.backward(loss * share)
        self.loss += loss.detach()
        self.meter.tally(self.phase, self.model.shape(batch))

    def _weighted(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The loss with the weights of the classes; unlike the mean of torch, a batch counts as much as its weights."""
        return cross_entropy(scores.float(), batch["targets"], self.weights, reduction="sum") / len(scores)

    def _step(self) -> None:
        if self.config.max_grad_norm:
            self.runtime.clip_grad_norm_(self.trained, self.config.max_grad_norm)
        self.optimizer.step()
        if not self.optimizer.step_was_skipped:
            self.schedule.step()
        self.optimizer.zero_grad()

    def end_epoch(self, epoch: int, curve: list[dict[str, Any]]) -> None:
        """A run long enough for a crash to hurt is kept at every epoch's end."""
        self.shown_at = -math.inf
        self._keep(epoch + 1, 0, curve, _checkpoint_seconds() / 10)

    def _keep(self, epoch: int, batch: int, curve: list[dict[str, Any]], every: float) -> None:
        """Write the progress now and then, and a checkpoint every so many seconds or when the run is asked to end."""
        if self.config.budget_seconds and self.meter.seconds() > self.config.budget_seconds:
            raise OutOfBudget(f"{self.config.budget_seconds:g} s are spent")
        now = time.monotonic()
        if self.folder and now - self.shown_at > PROGRESS_SECONDS:
            require_claim(self.claim)
            write_progress(self.folder, self.meter, epoch, batch)
            self.shown_at = now
        if self.folder and (self.asked_to_end or now - self.saved_at > every):
            self._save(epoch, batch, curve)
        if self.asked_to_end:
            raise Interrupted(f"interrupted after {epoch} epochs, {batch} batches; the same command goes on from there")

    def _save(self, epoch: int, batch: int, curve: list[dict[str, Any]]) -> None:
        require_claim(self.claim)
        state = {
            "model": self.model.state_dict(),
            "gradients": [None if weight.grad is None else weight.grad for weight in self.trained],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.runtime.scaler.state_dict() if self.runtime.scaler else None,
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
            "epoch": epoch,
            "batch": batch,
            "loss": self.loss,
            "curve": curve,
            "meter": self.meter.state(),
        }
        write_atomically(self.checkpoint, lambda stream: torch.save(state, stream))
        self.saved_at = time.monotonic()

    def restore(self) -> list[dict[str, Any]]:
        """Go on from the checkpoint, if there is one; returns the curve so far."""
        if not self.checkpoint or not self.checkpoint.is_file():
            return []
        require_weights(self.checkpoint)
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        for weight, gradient in zip(self.trained, state["gradients"], strict=True):
            weight.grad = None if gradient is None else gradient.to(weight.device)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.runtime.scaler:
            self.runtime.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"][0])
        if len(state["random"]) > 1:
            torch.cuda.set_rng_state_all(state["random"][1:])
        self.first_batch, self.loss = state["batch"], state["loss"].to(self.runtime.device)
        self.meter.resume(state["meter"])
        return state["curve"]


def predict(model: Model, examples: Examples, config: RunConfig, shared: Shared | None = None) -> Prediction:
    """The model's answers for raw examples, encoding included in `seconds`."""
    meter = CostMeter(config.device)
    with meter.measure():
        rows = shared.rows(examples, meter) if shared else encode(model, examples)
        prediction = predict_rows(model, rows, config, meter, shared=shared)
    return replace(prediction, seconds=meter.device_seconds, cached_seconds=meter.cached_seconds)


def predict_rows(
    model: Model,
    data: Encoded,
    config: RunConfig,
    meter: CostMeter | None = None,
    cache: Cache | None = None,
    shared: Shared | None = None,
) -> Prediction:
    """The model's answers for encoded rows, in their order; tallied if a meter is given.

    `cache` holds what the model's frozen blocks give for them. With `shared`, which needs a meter, the features of a
    model that is still as it was loaded are computed once in a sweep.
    """
    start = time.perf_counter()
    predicted: list[Any] = [None] * len(data)
    logits: list[Any] = [None] * len(data)
    confidence, losses, weights = np.zeros(len(data)), [], []
    phase = f"forward above block {cache.depth}" if cache else "forward"
    if meter:
        meter.register(phase, pass_counter(model, head=True, given=cache.depth if cache else 0))
    if on_meta(model):
        for positions in by_length(data.lengths, PREDICT_BATCH):
            meter.tally(phase, batch_shape(model, data, positions))
        return Prediction(predicted, confidence, math.nan, 0.0, logits)
    runtime = _accelerator(config.device, config.precision)
    model.to(runtime.device).eval()
    batches = list(by_length(data.lengths, PREDICT_BATCH))
    known: Sequence[torch.Tensor | None] = [None] * len(batches)
    if shared and cache is None and shared.untouched(meter):
        known = _features(model, data, config, batches, (), meter, shared)
    for positions, features in zip(batches, known, strict=True):
        batch = model.reader.batch(data, positions) if features is None else answers(data, positions)
        batch = _to(batch, runtime.device)
        with torch.inference_mode():
            with runtime.autocast(), _given(model, cache, positions, batch):
                scores = model(batch) if features is None else model.head(features)
            classes, sure = model.decode(scores, batch)
            losses.append(float(model.loss(scores, batch)))
        weights.append(int(batch["word_mask"].sum()) if "word_mask" in batch else len(positions))
        confidence[positions] = sure.cpu().numpy()
        for position, answer, row in zip(positions, classes, scores.float().cpu().numpy(), strict=True):
            predicted[position] = answer
            logits[position] = row[: len(answer)] if isinstance(answer, list) else row
        if meter:
            meter.tally(phase, model.shape(batch) if features is None else batch_shape(model, data, positions))
    loss = float(np.average(losses, weights=weights))
    return Prediction(predicted, confidence, loss, time.perf_counter() - start, logits)


def extract(
    model: Model,
    data: Encoded,
    config: RunConfig,
    meter: CostMeter,
    caches: Sequence[Cache] = (),
    shared: Shared | None = None,
) -> list[Batch]:
    """What the head reads, once for each row: batches of `features` with `targets` (and `word_mask`), on the device.

    Each batch also has the `positions` of its rows. The same pass fills the `caches`. With `shared`, a model that is
    still as it was loaded makes this pass once in a sweep.
    """
    meter.register("features", pass_counter(model, head=False))
    batches = list(by_length(data.lengths, config.batch_size))
    for positions in batches:
        meter.tally("features", batch_shape(model, data, positions))
    if on_meta(model):
        return [_blank_features(model, data)]
    shared = shared if shared and shared.untouched(meter) else None
    chunks = []
    for positions, features in zip(
        batches, _features(model, data, config, batches, caches, meter, shared), strict=True
    ):
        chunk = {"features": features.float(), "positions": torch.from_numpy(positions)}
        chunks.append(chunk | _to(answers(data, positions), features.device))
    return chunks


def _features(
    model: Model,
    data: Encoded,
    config: RunConfig,
    batches: Sequence[np.ndarray],
    caches: Sequence[Cache],
    meter: CostMeter,
    shared: Shared | None,
) -> list[torch.Tensor]:
    """What the head reads of each batch, in the precision of the passes, computed here or by an earlier run."""
    runtime = _accelerator(config.device, config.precision)
    model.to(runtime.device).eval()

    def compute() -> list[torch.Tensor]:
        found = []
        for positions in batches:
            batch = _to(model.reader.batch(data, positions), runtime.device)
            with torch.no_grad(), runtime.autocast(), model.watched([cache.depth for cache in caches]) as outputs:
                found.append(model.features(batch))
            for cache in caches:
                cache.keep(positions, outputs[cache.depth])
        return found

    return shared.features(data, batches, caches, compute, meter) if shared else compute()


def warm_up(model: Model, config: RunConfig) -> None:
    """One small forward pass, off the clock: the first one on a device also loads its kernels.

    What training imports is imported here too, for the same reason.
    """
    if config.epochs:
        import transformers.optimization  # noqa: F401
    if config.class_weights:
        import sklearn.utils.class_weight  # noqa: F401
    if config.device == "cpu":
        keep_freed()
    if model.reader.kind == "bag":
        return
    runtime = _accelerator(config.device, config.precision)
    size = config.image_size
    shape = {"text": (1, 8), "tokens": (1, 8, 4), "image": (1, 3, size, size)}[model.reader.kind]
    model.to(runtime.device).eval()
    with torch.inference_mode(), runtime.autocast():
        model(model.blank(shape, runtime.device))


def batch_shape(model: Model, data: Encoded, positions: np.ndarray, *, train: bool = False) -> Shape:
    """What the cost of a batch of these rows depends on: `Model.shape` of it, without making it."""
    reader = model.reader
    if reader.kind == "image":
        return len(positions), 3, reader.collate.image_size, reader.collate.image_size
    if reader.kind == "bag":
        return len(positions), model.hidden[0].in_features
    tokens = reader.max_length if reader.plain and train else round_up(int(data.lengths[positions].max()))
    words = (max(len(data.rows[i][1]) for i in positions),) if reader.kind == "tokens" else ()
    return len(positions), tokens, *words


def _blank_features(model: Model, data: Encoded) -> Batch:
    """Features of all rows on the meta device, [rows, width], or [words, width] for tagging, with their targets."""
    rows = sum(len(words) for _, words in data.rows) if data.kind == "tokens" else len(data)
    features = torch.empty(rows, model.head[-1].in_features, device="meta")
    targets = torch.empty(rows, dtype=torch.long, device="meta")
    return {"features": features, "targets": targets, "positions": torch.arange(len(data))}


def write_progress(folder: Path, meter: CostMeter, epoch: int, batch: int) -> None:
    """Write what a run has spent so far, for whoever has to write its record if it dies."""
    spent = {"device_seconds": meter.seconds(), "peak_memory_mib": meter.peak(), "epoch": epoch, "batch": batch}
    write_text(folder / "progress.json", json.dumps(spent))


def _given(model: Model, cache: Cache | None, positions: np.ndarray, batch: Batch) -> Any:
    """Passes in which the blocks below the cache's boundary do not run."""
    if cache is None:
        return contextlib.nullcontext()
    return model.given(cache.depth, cache.batch(positions, model.shape(batch)[1]))


def _needs_two(model: Model) -> bool:
    """Whether a training batch of one image has no batch statistics: where its last feature map is a single value."""
    if model.reader.kind != "image":
        return False
    one, size = model.for_counting().train(), model.reader.collate.image_size
    try:
        one(one.blank((1, 3, size, size), one.device))
    except ValueError:  # torch's, which has no class of its own for it
        return True
    return False


def step_counter(model: Model, *, cached: bool) -> Callable[[Shape], int]:
    """Counts a training step of the model as it is now, by shape of batch; without the frozen blocks where `cached`."""
    twin, below = model.for_counting().eval(), model.frozen if cached else 0

    def count(shape: Shape) -> int:
        blank = twin.blank(shape, twin.device)
        with _as_if_cached(twin, blank, below):
            return count_flops(lambda: twin(blank).sum().backward())

    return of_any_shape(lambda: f"step above {below} of {twin.described(trained=True)}", model.reader.kind, count)


def pass_counter(model: Model, *, head: bool, given: int = 0) -> Callable[[Shape], int]:
    """Counts a forward pass with or without its head, above the lowest `given` blocks, by shape of batch."""

    @lru_cache(maxsize=1)
    def for_counting() -> Model:
        return model.for_counting().eval().requires_grad_(True)  # without, torch may fuse what has then no formula

    def count(shape: Shape) -> int:
        blank = for_counting().blank(shape, for_counting().device)
        with _as_if_cached(for_counting(), blank, given):
            return count_flops(lambda: (for_counting() if head else for_counting().features)(blank))

    what = f"{'scores' if head else 'features'} above {given} of "
    return of_any_shape(lambda: what + model.described(trained=False), model.reader.kind, count)


def _as_if_cached(model: Model, batch: Batch, depth: int) -> Any:
    """Passes on `batch` in which the lowest `depth` blocks do not run."""
    if not depth:
        return contextlib.nullcontext()
    with torch.no_grad(), model.watched([depth]) as kept:
        model(batch)
    return model.given(depth, kept[depth])


def _optimizer(config: RunConfig, rates: Rates) -> torch.optim.Optimizer:
    """Groups with and without weight decay: biases and norms, the one-dimensional weights, have none."""
    groups = []
    for weights, rate in rates:
        matrices = [weight for weight in weights if weight.ndim > 1]
        vectors = [weight for weight in weights if weight.ndim <= 1]
        groups += [{"params": matrices, "lr": rate, "weight_decay": config.weight_decay or 0.0}] if matrices else []
        groups += [{"params": vectors, "lr": rate, "weight_decay": 0.0}] if vectors else []
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, fused=config.device != "mps")


def _schedule(config: RunConfig, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    from transformers.optimization import get_scheduler

    name = "constant_with_warmup" if config.scheduler == "constant" else config.scheduler
    return get_scheduler(name, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=steps)


def _new_accelerator(device: str, precision: str | None) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # one process may do runs of several precisions, in tests
    return Accelerator(cpu=device == "cpu", mixed_precision={"fp32": "no", None: "no"}.get(precision, precision))


@lru_cache(maxsize=1)
def _accelerator(device: str, precision: str | None) -> Any:
    return _new_accelerator(device, precision)


def _checkpoint_seconds() -> float:
    return float(os.environ.get("LRTL_CHECKPOINT_SECONDS", "600"))


def _to(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


@contextlib.contextmanager
def _terminated() -> Iterator[list[int]]:
    """A list that SIGTERM fills, so that the loop can end at a step's end; only the main thread may listen."""
    received: list[int] = []
    try:
        before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    except ValueError:
        yield received
        return
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
