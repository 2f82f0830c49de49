"""Which examples are worth a label: chosen on frozen features of the unlabelled train inputs."""

import numpy as np
import torch

from lrtl_utils.config import RunConfig, derived_seed
from lrtl_utils.data.splits import Data, count_labelled
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop, solver
from lrtl_utils.methods.shared import Shared
from lrtl_utils.models.network import Batch, Model

ROUNDS = 4  # in which `choose` asks for labels


def choose(model: Model, data: Data, config: RunConfig, meter: CostMeter, shared: Shared | None = None) -> np.ndarray:
    """Indices of the train examples to label, in the order in which they are asked for.

    Half are drawn at random, the others in rounds by `next_to_label`. It sees every train input and no label but those
    that it has already asked for, and leaves the model as it was.
    """
    total = count_labelled([len(data.train)], config.data_fraction, config.train_size, None)
    blocks = model.frozen
    model.freeze(len(model.blocks))
    rows = loop.encode_training(model, data.train, config.max_length)
    passes = config.model_copy(update={"batch_size": loop.PREDICT_BATCH})
    chunks = loop.extract(model, rows, passes, meter, shared=shared)
    model.freeze(blocks)
    if chunks[0]["features"].is_meta:
        return _walk_rounds(model, chunks, total / len(rows), total, meter)
    start = {name: weight.clone() for name, weight in model.state_dict().items() if name.startswith(("head", "crf"))}
    order = np.random.default_rng(derived_seed(config.seed, "selection")).permutation(len(rows))
    chosen = order[: -(-total // 2)]
    for left in range(min(ROUNDS, total - len(chosen)), 0, -1):
        more = -(-(total - len(chosen)) // left)
        chosen = np.concatenate([chosen, next_to_label(model, chunks, chosen, more, meter, config.penalty)])
    model.load_state_dict(start, strict=False)
    return chosen


def next_to_label(
    model: Model, chunks: list[Batch], known: np.ndarray, count: int, meter: CostMeter, penalty: float | None = None
) -> np.ndarray:
    """Positions of the `count` rows to label next, in order; those at the positions `known` have labels.

    They are those on which the head, solved on the labelled rows, is least sure: those with the least margin between
    its two likeliest classes (Scheffer et al. 2001), for a sentence that of its least sure word.
    """
    parts = [_only(chunk, known) for chunk in chunks]
    solver.solve_head(model, [part for part in parts if len(part["targets"])], meter, penalty)
    sure = _margins(model, chunks)
    sure[known] = np.inf
    return np.argsort(sure, kind="stable")[:count]


def _walk_rounds(model: Model, chunks: list[Batch], share: float, total: int, meter: CostMeter) -> np.ndarray:
    """What `choose` solves, without weights: the features of half of the labels at first, of nearly all at last."""
    (features,) = (chunk["features"] for chunk in chunks)
    known = -(-total // 2)
    for left in range(min(ROUNDS, total - known), 0, -1):
        rows = features[: round(len(features) * share * known / total)]
        solver.solve_head(model, [{"features": rows, "targets": rows[:, 0]}], meter)
        known += -(-(total - known) // left)
    return np.arange(total)


def _only(chunk: Batch, chosen: np.ndarray) -> Batch:
    """The chosen rows of a chunk."""
    here = torch.from_numpy(np.isin(chunk["positions"].numpy(), chosen))
    return {name: tensor[here.to(tensor.device)] for name, tensor in chunk.items()}


@torch.no_grad()
def _margins(model: Model, chunks: list[Batch]) -> np.ndarray:
    margins = np.empty(sum(len(chunk["features"]) for chunk in chunks))
    for chunk in chunks:
        best = model.head[-1](chunk["features"]).softmax(-1).topk(2, dim=-1).values
        gap = best[..., 0] - best[..., 1]
        if "word_mask" in chunk:
            gap = gap.masked_fill(~chunk["word_mask"], torch.inf).amin(1)
        margins[chunk["positions"].numpy()] = gap.cpu().numpy()
    return margins
