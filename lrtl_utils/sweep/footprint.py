"""What one row costs: its FLOPs and its bytes, counted on architectures that have no weights in memory."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from lrtl_utils.config import RunConfig
from lrtl_utils.data.load import kind_of
from lrtl_utils.data.splits import Facts
from lrtl_utils.measure.meter import Shape
from lrtl_utils.methods import loop as training
from lrtl_utils.models.catalog import HASHED_WORDS
from lrtl_utils.models.network import Model
from lrtl_utils.runs import run as methods

LENGTHS = (8, 64, 128)  # tokens; three counts are enough, see `row_flops`


class Key(NamedTuple):
    """Which architecture: as the method's steps train it, or with its lowest `depth` blocks frozen."""

    model: str
    method: str
    image_size: int | None
    kind: str
    labels: int
    depth: int | None = None


def key_of(config: RunConfig, known: Facts) -> Key:
    """The architecture of a resolved config on a data set of which these facts are known."""
    return Key(config.model, config.method, config.image_size, known.kind, len(known.labels))


@lru_cache
def architecture(key: Key) -> Model:
    """The model on the meta device: it has shapes, and no weights in memory."""
    config = RunConfig(model=key.model, method=key.method, image_size=key.image_size)
    with torch.device("meta"):
        model = methods.build(config, Facts(key.kind, ("",) * key.labels, (), 0, (), None), None)
        methods.prepare(model, config)
    if key.depth is not None:
        model.fixed_statistics = True
        model.freeze(key.depth)
    return model


@lru_cache
def row_flops(key: Key, phase: str, given: int = 0) -> Callable[[int], float]:
    """FLOPs of one row in a `step` or a `forward` pass above the lowest `given` blocks, by the tokens it is padded to.

    A batch costs its rows' sum. A transformer costs a polynomial of second degree in the tokens, which three counts
    tell; an image always costs the same.
    """
    model = architecture(key)
    if phase == "step":
        count = training.step_counter(model, cached=given > 0)
    else:
        count = training.pass_counter(model, head=True, given=given)
    if model.reader.kind not in {"text", "tokens"}:
        once = float(count(_shape(key, 1)))
        return lambda _tokens: once
    return np.polynomial.Polynomial.fit(LENGTHS, [count(_shape(key, 1, tokens)) for tokens in LENGTHS], 2)


@lru_cache
def kept_bytes(key: Key, tokens: int) -> int:
    """What a step of one row keeps for its backward pass, in fp32; weights are not among it."""
    model = architecture(key).train()
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(model.blank(_shape(key, 2, tokens), "meta"))  # one row has no batch statistics
    return sum(storage.nbytes() for storage in kept.values()) // 2


def kept_by_config(config: RunConfig, classes: int, trained_blocks: int, tokens: int) -> int:
    """`kept_bytes` of a step of this config that trains so many blocks."""
    key = Key(config.model, config.method, config.image_size, kind_of(config.dataset), classes)
    return kept_bytes(key._replace(depth=len(architecture(key).blocks) - trained_blocks), tokens)


@lru_cache
def held_bytes(key: Key, tokens: int) -> int:
    """What a forward pass of one row holds at a time: a layer's input, its output and one more of that size."""
    model = architecture(key).eval()
    outputs = [0]

    def note(_layer: torch.nn.Module, _inputs: tuple, output: object) -> None:
        outputs.append(output.nbytes if isinstance(output, torch.Tensor) else 0)

    hooks = [layer.register_forward_hook(note) for layer in model.modules() if not list(layer.children())]
    with torch.no_grad():
        model(model.blank(_shape(key, 1, tokens), "meta"))
    for hook in hooks:
        hook.remove()
    return 3 * max(outputs)


def _shape(key: Key, rows: int, tokens: int = 0) -> Shape:
    """The shape of a batch; every token of a tagged sentence begins a word."""
    if key.kind == "image":
        return rows, 3, key.image_size, key.image_size
    if architecture(key).reader.kind == "bag":
        return rows, HASHED_WORDS
    return (rows, tokens, tokens) if key.kind == "tokens" else (rows, tokens)
