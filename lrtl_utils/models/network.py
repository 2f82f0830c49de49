"""What a model is made of: a backbone as an ordered list of blocks, features, and a head that scores them."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from lrtl_utils.errors import InputError
from lrtl_utils.models.encoding import SHAPE_COLUMNS, Reader

Batch = dict[str, torch.Tensor]
INPUT = {"text": "ids", "tokens": "ids", "image": "pixels", "bag": "bag"}  # by kind, what a model reads of a batch
TOLERANCE = 1e-4  # of the scores, when the recorded output of a block replaces the block


class Model(nn.Module):
    """A backbone with a head. `blocks` are ordered from the input to the top; what is in none of them is the head.

    `frozen` blocks from the bottom keep their weights and run in eval mode; so do all batch-norm statistics with
    `fixed_statistics`. The lowest `live` blocks run even where their output is given: others read from them too. The
    head reads the outputs of the top `layers` blocks.
    """

    def __init__(self, reader: Reader):
        super().__init__()
        self.reader = reader
        self.blocks: list[nn.Module] = []
        self.frozen = 0
        self.live = 0
        self.layers = 1
        self.fixed_statistics = False

    def features(self, batch: Batch) -> torch.Tensor:
        """What the head scores: [batch, width], or [batch, words, width] for tagging.

        With several `layers`, the top one's features come first, and those of the blocks below it follow downwards.
        """
        depths = range(len(self.blocks) - 1, self.lowest_read - 1, -1)
        with self.watched(depths, lambda output: self.pooled(output, batch)) as below:
            top = self.top(batch)
        return torch.cat([top, *(below[depth] for depth in depths)], -1) if depths else top

    def top(self, batch: Batch) -> torch.Tensor:
        """The features of the whole backbone."""
        raise NotImplementedError

    def pooled(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The features that one block's output gives."""
        raise NotImplementedError

    @property
    def lowest_read(self) -> int:
        """How many of the lowest blocks an input passes through before the lowest output that the head reads."""
        return len(self.blocks) - self.layers + 1

    def forward(self, batch: Batch) -> torch.Tensor:
        """Scores (logits), [batch, classes] or [batch, words, classes]."""
        return self.head(self.features(batch))

    def loss(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy over the batch, in nats."""
        return F.cross_entropy(scores.float(), batch["targets"])

    def decode(self, scores: torch.Tensor, batch: Batch) -> tuple[list[Any], torch.Tensor]:
        """Predicted classes, and how sure the model is of each, in [0, 1], shape [batch]."""
        confidence, predicted = scores.float().softmax(-1).max(-1)
        return predicted.tolist(), confidence

    def head_parameters(self) -> list[nn.Parameter]:
        """The weights that belong to no block."""
        inside = {id(weight) for block in self.blocks for weight in block.parameters()}
        return [weight for weight in self.parameters() if id(weight) not in inside]

    def freeze(self, blocks: int) -> None:
        """Keep the lowest `blocks` as they are; train all above."""
        self.frozen = blocks
        self.requires_grad_(True)
        for block in self.blocks[:blocks]:
            block.requires_grad_(False)

    def rates(self, rate: float, decay: float) -> list[tuple[list[nn.Parameter], float]]:
        """What is trained, with its rate: the head at `rate`, each block from the top down at `decay` of the last."""
        blocks = [list(block.parameters()) for block in reversed(self.blocks)]
        groups = [[weight for weight in group if weight.requires_grad] for group in (self.head_parameters(), *blocks)]
        return [(group, rate * decay**depth) for depth, group in enumerate(groups) if group]

    def train(self, mode: bool = True) -> "Model":
        super().train(mode)
        for block in self.blocks[: self.frozen]:
            block.eval()
        if self.fixed_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @contextlib.contextmanager
    def given(self, blocks: int, output: torch.Tensor) -> Iterator[None]:
        """In the block, passes do not run the lowest `blocks`: they take `output`, which these blocks gave earlier."""
        below = self.called(self.live, blocks)
        for module in below:
            gives = getattr(module, "gives", 0)
            given = (output, *[None] * (gives - 1)) if gives else output
            module.forward = lambda *_, given=given, **__: given
        try:
            yield
        finally:
            for module in below:
                del module.forward

    @contextlib.contextmanager
    def watched(
        self, depths: Sequence[int], form: Callable[[torch.Tensor], torch.Tensor] = torch.clone
    ) -> Iterator[dict[int, torch.Tensor]]:
        """In the block, passes keep the output of the lowest `depth` blocks, for each of `depths`; gives them by depth.

        `form` is applied to each output at once; by default it copies, because later layers may change the output in
        place.
        """
        kept: dict[int, torch.Tensor] = {}

        def keep(depth: int, output: Any) -> None:
            kept[depth] = form(output[0] if isinstance(output, tuple) else output)

        with contextlib.ExitStack() as hooks:
            for depth in depths:
                top = self.called(0, depth)[-1]
                hook = top.register_forward_hook(lambda _module, _inputs, output, depth=depth: keep(depth, output))
                hooks.enter_context(hook)
            yield kept

    def called(self, first: int, last: int) -> list[nn.Module]:
        """The modules of the blocks from `first` up to `last`, as the forward pass calls them."""
        parts: list[nn.Module] = []
        for block in self.blocks[first:last]:
            parts += block if isinstance(block, nn.ModuleList) else [block]
        return [part for part in parts if not isinstance(part, nn.ParameterList)]

    def shape(self, batch: Batch) -> tuple[int, ...]:
        """What the cost of a batch depends on: (rows, tokens), for tagging (rows, tokens, words), for images (rows,
        channels, height, width), for bags of words (rows, features).
        """
        return tuple(batch[INPUT[self.reader.kind]].shape) + (batch["words"].shape[1:] if "words" in batch else ())

    def blank(self, shape: tuple[int, ...], device: str | torch.device) -> Batch:
        """An empty batch of that shape."""
        if self.reader.kind in {"image", "bag"}:
            return {INPUT[self.reader.kind]: torch.zeros(shape, device=device)}
        ids = torch.zeros(shape[:2], dtype=torch.long, device=device)
        batch = {"ids": ids, "mask": torch.ones_like(ids)}
        if self.reader.kind == "tokens":
            batch["words"] = torch.zeros(shape[0], shape[2], dtype=torch.long, device=device)
            batch["word_mask"] = torch.ones_like(batch["words"], dtype=torch.bool)
        if self.reader.word_shape:
            batch["shapes"] = torch.zeros(*batch["words"].shape, SHAPE_COLUMNS, device=device)
        return batch

    def for_counting(self) -> "Model":
        """The same architecture on the CPU, for its shapes. Each weight is one zero, repeated without taking memory."""
        memo: dict[int, Any] = {id(self.reader): self.reader}
        for weight in self.parameters():
            zeros = torch.zeros((), dtype=weight.dtype, device="cpu").expand(weight.shape)
            memo[id(weight)] = twin = nn.Parameter(zeros, requires_grad=weight.requires_grad)
            if weight.requires_grad:
                twin.register_post_accumulate_grad_hook(_forget_gradient)
        memo |= {id(buffer): torch.zeros_like(buffer, device="cpu") for buffer in self.buffers()}
        twin = copy.deepcopy(self, memo)
        set_dropout(twin, 0.0)  # its draws would move the generator that the run itself draws from
        return twin

    def described(self, *, trained: bool) -> str:
        """A text of all that decides what a pass computes; with `trained`, also which weights it gives gradients."""
        configured = getattr(getattr(self, "backbone", None), "config", "")
        weights = [f"{name} {list(weight.shape)}" for name, weight in self.named_parameters()]
        wanted = [weight.requires_grad for weight in self.parameters()] if trained else ""
        return f"{self}\n{configured}\n{weights}\n{wanted}\n{self.live} {len(self.blocks)} {self.layers}"

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device


def _forget_gradient(weight: torch.Tensor) -> None:
    weight.grad = None


def _whole(names: Sequence[str], groups: dict[int, list[str]], number: int) -> list[str]:
    """A group's layers as the largest modules that hold none of another group: shortcuts belong to their stage."""
    others = [f"{name}." for other, group in groups.items() if other != number for name in group]
    whole = []
    for name in names:
        steps = name.split(".")
        prefixes = (".".join(steps[:length]) for length in range(1, len(steps) + 1))
        whole.append(next(p for p in prefixes if not any(other.startswith(f"{p}.") for other in others)))
    return [*dict.fromkeys(whole)]


def text_blocks(backbone: nn.Module) -> list[nn.Module]:
    """The embeddings, then the transformer's layers; the whole, where these have other names."""
    lists = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    if not lists or not hasattr(backbone, "embeddings"):
        return [backbone]
    return [backbone.embeddings, *max(lists, key=len)]


def image_blocks(backbone: nn.Module) -> list[nn.Module]:
    """The stem, then the stages, as timm groups them for rates that fall by layer; the whole, where it does not."""
    if not hasattr(backbone, "group_matcher"):
        return [backbone]
    from timm.models import group_modules, group_parameters  # its import takes seconds, and no text needs it

    matcher = backbone.group_matcher(coarse=True)
    groups, parameters = group_modules(backbone, matcher), group_parameters(backbone, matcher)
    blocks = []
    for number, names in sorted(groups.items()):
        whole = _whole(names, groups, number)
        # Some weights, as a vision transformer's positions, belong to no layer.
        bare = [name for name in parameters.get(number, []) if not any(name.startswith(f"{n}.") for n in whole)]
        parts = [backbone.get_submodule(name) for name in whole]
        parts += [nn.ParameterList(backbone.get_parameter(name) for name in bare)] if bare else []
        blocks.append(nn.ModuleList(parts))
    return blocks


def set_dropout(model: nn.Module, probability: float) -> None:
    """Give every dropout layer this probability; `InputError` if that is to be more than 0 and there is none."""
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for layer in layers:
        layer.p = probability
    if not layers and probability:
        raise InputError("dropout was asked for, and this model has no dropout layer; leave dropout out.")


def find_blocks(model: Model) -> None:
    """Keep the model's blocks if the lower ones can be replaced by their output, else take the backbone as one block.

    Tried on two small inputs, at every depth, without drawing from the global generator. Marks blocks that return
    tuples, and a lowest block whose output other blocks read too. On the meta device, which has no values, only shapes
    are compared. Raises whatever the architecture raises where it cannot score an input at all.
    """

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        module.gives = len(output) if isinstance(output, tuple) else 0

    with torch.no_grad():
        batch = small_batch(model)
        try:
            with contextlib.ExitStack() as hooks:
                for module in model.called(0, len(model.blocks)):
                    hooks.enter_context(module.register_forward_hook(note))
                model.eval()(batch)
        except RuntimeError:
            if model.device.type == "meta":
                raise RuntimeError("it looks at values as it runs, so it cannot be counted without weights") from None
            raise
        if len(model.blocks) > 1:
            for model.live in (0, 1):
                if _replaceable(model, batch):
                    return
    model.live = 0
    model.blocks = [model.backbone]


def _replaceable(model: Model, batch: Batch) -> bool:
    """Whether the scores stay the same when the lowest blocks' output is given instead of computed, at each depth."""
    depths = range(1, len(model.blocks) + 1)
    try:
        with model.watched(depths) as outputs:
            expected = model(batch)
        for depth in depths:
            with model.given(depth, outputs[depth]):
                scores = model(batch)
            if scores.shape != expected.shape:
                return False
            if not scores.is_meta and (scores - expected).abs().max() > TOLERANCE:
                return False
    except Exception:  # a block that reads what another leaves behind may raise anything
        return False
    return True


def small_batch(model: Model) -> Batch:
    """Two inputs that differ."""
    if model.reader.kind == "image":
        size = model.reader.collate.image_size
        pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        return {"pixels": pixels.to(model.device)}
    batch = model.blank((2, 8, 8) if model.reader.kind == "tokens" else (2, 8), model.device)
    return batch | {"ids": torch.arange(2, 18).reshape(2, 8).to(model.device)}
