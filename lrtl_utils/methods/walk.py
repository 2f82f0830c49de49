"""What a run does, from the method itself: its `fit` is walked with a model on the meta device.

Such a model has shapes and no weights, so the loop, the solver and the caches only tally the batches that they would
have computed, and the meter counts their FLOPs. No method is described a second time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from lrtl_utils.config import RunConfig
from lrtl_utils.data.splits import Data, Examples, Facts
from lrtl_utils.measure.meter import CLOSED_FORM, MIB, CostMeter, Shape
from lrtl_utils.methods import METHODS, loop
from lrtl_utils.methods.method import Work
from lrtl_utils.models.encoding import SHAPE_COLUMNS, Encoded, Reader
from lrtl_utils.models.network import Model

WORDS = 0.8  # of a tagged sentence whose words nobody counted, a token beyond the two special ones
NAME_TOKENS = 4  # of the name of a class, where there is no tokenizer at hand
PIXELS = 32  # a side, of an invented image
STATE_BYTES = {"adamw": 8, "adam": 8, "sgd": 4}  # of an optimizer, for each trained parameter


Sizes = dict[tuple[Any, ...], int]  # of memory, in bytes


@dataclass(frozen=True)
class Load:
    """What a run does on the clock, what its test prediction does off it, and what it needs of memory and disk."""

    flops_by_phase: dict[str, int]  # on the clock, as a record has them
    test_flops: int
    memory_mib: float
    checkpoint_mib: float
    at_most: bool  # the method decides by scores how far it goes, and may stop earlier

    @property
    def flops(self) -> int:
        """All FLOPs on the clock."""
        return sum(self.flops_by_phase.values())


def walk(
    model: Model,
    data: Data | Facts,
    train: Examples,
    validation: Examples | None,
    test: Examples,
    config: RunConfig,
    sizes: Sizes,
) -> Load:
    """Walk the method of `config` with `model`, which is on the meta device and not yet prepared by the method.

    The inputs of the examples may be numbers of tokens in the place of texts; images are not looked at. A path that
    depends on scores is walked at its dearest: every rung that may be climbed, and a solver's usual number of looks.
    `sizes` keeps what was measured for walks of the same architecture.
    """
    model.reader = Invented(**vars(model.reader))
    meter, method = CostMeter(config.device), METHODS[config.method]
    if method.prepare:
        method.prepare(model)
    curve = method.fit(Work(model, data, train, validation, config, meter))
    on_clock = meter.flops_by_phase()
    tokens = _longest(meter) if model.reader.kind in {"text", "tokens"} else 0  # an image or a bag has none
    loop.predict_rows(model, loop.encode(model, test), config, meter)
    weights = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    trained = sum(size for size, wanted in weights if wanted) if config.epochs else 0
    static = 4 * sum(size for size, _ in weights) + trained * (4 + STATE_BYTES.get(config.optimizer, 0))
    rows, of_a_row = (config.batch_size, kept_bytes) if config.epochs else (loop.PREDICT_BATCH, held_bytes)
    key = of_a_row, tokens, trained
    if key not in sizes:
        sizes[key] = of_a_row(model, tokens)
    memory = (static + rows * sizes[key]) / MIB + max(point.get("cache_mib", 0.0) for point in curve)
    test_flops = meter.flops() - sum(on_clock.values())
    return Load(on_clock, test_flops, memory, static / MIB if config.epochs else 0.0, at_most="rung" in curve[0])


def kept_bytes(model: Model, tokens: int) -> int:
    """What a training step of one row of `tokens` tokens keeps for its backward pass, in fp32, without the weights."""
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other storage gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(model.blank(_shape(model, 2, tokens), "meta"))  # one row alone has no batch statistics
    return sum(storage.nbytes() for storage in kept.values()) // 2


def held_bytes(model: Model, tokens: int) -> int:
    """What a forward pass of one row holds at a time: a layer's input, its output and one more of that size."""
    outputs = [0]

    def note(_layer: torch.nn.Module, _inputs: tuple, output: object) -> None:
        outputs.append(output.nbytes if isinstance(output, torch.Tensor) else 0)

    hooks = [layer.register_forward_hook(note) for layer in model.modules() if not list(layer.children())]
    with torch.no_grad():
        model.eval()(model.blank(_shape(model, 1, tokens), "meta"))
    for hook in hooks:
        hook.remove()
    return 3 * max(outputs)


def _shape(model: Model, rows: int, tokens: int) -> Shape:
    """The shape of a batch in which every token of a tagged sentence begins a word."""
    data = Encoded(model.reader.kind, [((), range(tokens))] * rows, np.full(rows, tokens), [])
    return loop.batch_shape(model, data, np.arange(rows))


class Invented(Reader):
    """Encodes numbers as texts of so many tokens, texts with the tokenizer where there is one, and images unseen."""

    def encode(self, inputs: Sequence[Any], targets: Sequence[Any]) -> Encoded:
        n = len(inputs)
        if self.kind == "image":
            return Encoded("image", [torch.zeros(3, PIXELS, PIXELS, dtype=torch.uint8)] * n, np.ones(n, int), targets)
        numbers = n == 0 or isinstance(inputs[0], int)
        if self.kind == "bag":
            bag = csr_matrix((1, self.tokenizer.n_features), dtype=np.float32)
            return Encoded("bag", [bag] * n, np.ones(n, int), targets)
        if self.tokenizer is not None and not numbers:
            return super().encode(inputs, targets)
        lengths = list(inputs) if numbers else [NAME_TOKENS] * n
        rows: list[Any] = [[1] * length for length in lengths]
        if self.kind == "tokens":
            rows = [(ids, list(range(1, 1 + words_of(len(ids))))) for ids in rows]
        shapes = [np.zeros((len(words), SHAPE_COLUMNS), np.uint8) for _, words in rows] if self.word_shape else None
        data = Encoded(self.kind, rows, np.array(lengths, int), targets, shapes)
        return self.cut(data) if self.max_length else data


def words_of(tokens: int) -> int:
    """About how many words a tagged sentence of so many tokens has."""
    return max(1, round(WORDS * (tokens - 2)))


def _longest(meter: CostMeter) -> int:
    """The tokens that the longest batch so far was padded to."""
    return max(shape[1] for phase, shape, _ in meter.so_far()["tally"] if phase not in {"solve", CLOSED_FORM})
