"""Whether what is taken for the blocks of a foreign architecture are its blocks: tried, not believed."""

import torch

from lrtl_utils.models.network import Batch, Model, OwnClassifier

TOLERANCE = 1e-4  # of the scores, when what a block gave is put in its place


def settle(model: Model) -> None:
    """Keep the model's blocks if each can stand still while those above it run, else take the backbone as one block.

    Tried on two small inputs, at every depth; nothing is drawn from the global generator. Blocks that give tuples are
    marked, and so is a lowest block that others read beside the next one. On the meta device, which has no values,
    shapes decide. Raises whatever the architecture raises where it cannot score an input at all.
    """
    batch = _small(model)
    if model.device.type == "meta" and not _runs_on_meta(model):
        raise RuntimeError("it looks at values as it runs, so it cannot be counted without weights")
    with torch.inference_mode():
        model.eval()(batch)
    model.runs_on_meta = _runs_on_meta(model)
    if len(model.blocks) > 1:
        _mark_tuples(model, batch)
        for model.live in (0, 1):
            if _stand_still(model, batch):
                return
    model.live = 0
    model.blocks = [model.net.base_model if isinstance(model, OwnClassifier) else model.backbone]


def _stand_still(model: Model, batch: Batch) -> bool:
    """Whether the scores stay when the lowest blocks' output is given instead of computed, for each number of them."""
    depths = range(1, len(model.blocks) + 1)
    try:
        with torch.inference_mode():
            with model.watched(depths) as kept:
                expected = model(batch)
            if not all(isinstance(kept.get(depth), torch.Tensor) for depth in depths):
                return False
            for depth in depths:
                with model.given(depth, kept[depth]):
                    scores = model(batch)
                if scores.shape != expected.shape:
                    return False
                if not scores.is_meta and (scores - expected).abs().max() > TOLERANCE:
                    return False
    except Exception:  # a block that reads what another leaves behind may raise anything
        return False
    return True


def _runs_on_meta(model: Model) -> bool:
    meta = model.for_counting().eval()
    try:
        with torch.no_grad():
            meta(_small(meta))
    except Exception:  # it looks at a value, or has none of its weights there
        return False
    return True


def _mark_tuples(model: Model, batch: Batch) -> None:
    def note(module: torch.nn.Module, _inputs: object, output: object) -> None:
        module.gives = len(output) if isinstance(output, tuple) else 0

    hooks = [module.register_forward_hook(note) for module in model.called(0, len(model.blocks))]
    with torch.inference_mode():
        model(batch)
    for hook in hooks:
        hook.remove()


def _small(model: Model) -> Batch:
    """Two inputs that differ; random draws come from a generator of their own."""
    reader, device = model.reader, model.device
    if reader.kind == "image":
        size = reader.collate.image_size
        pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        return {"pixels": pixels.to(device)}
    batch = model.blank((2, 8, 8) if reader.kind == "tokens" else (2, 8), device)
    return batch | {"ids": torch.arange(2, 18).reshape(2, 8).to(device)}
