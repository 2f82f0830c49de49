"""Which examples are worth a label: chosen on frozen features of the unlabelled train inputs."""

import numpy as np
import torch

from lrtl_utils.config import RunConfig, derived_seed
from lrtl_utils.data.splits import Data, count_labelled
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop, solver
from lrtl_utils.methods.shared import Shared
from lrtl_utils.models.encoding import Encoded
from lrtl_utils.models.network import Batch, Model

ROUNDS = 4  # in which `margin` asks for labels


def choose(model: Model, data: Data, config: RunConfig, meter: CostMeter, shared: Shared | None = None) -> np.ndarray:
    """Indices of the train examples to label, in the order in which they are asked for, by their margins.

    It sees every train input and no label but those that it has already asked for.
    """
    total = count_labelled([len(data.train)], config.data_fraction, config.train_size, None)
    blocks = model.frozen
    model.freeze(len(model.blocks))
    rows = loop.encode_training(model, data.train, config.max_length)
    passes = config.model_copy(update={"batch_size": loop.PREDICT_BATCH})
    chunks = loop.extract(model, rows, passes, meter, shared=shared)
    rng = np.random.default_rng(derived_seed(config.seed, "selection"))
    chosen = margin(model, rows, chunks, total, rng, config, meter)
    model.freeze(blocks)
    return chosen


def next_to_label(model: Model, chunks: list[Batch], known: int, count: int, meter: CostMeter) -> np.ndarray:
    """Positions of the `count` rows to label next, in order; the first `known` rows have labels, the others none.

    They are those on which the head, solved on the labelled rows, is least sure. There are no rounds, because nobody
    answers in between.
    """
    parts = [_only(chunk, np.arange(known)) for chunk in chunks]
    solver.solve_head(model, [part for part in parts if len(part["targets"])], meter)
    sure = _margins(model, chunks)
    sure[:known] = np.inf
    return np.argsort(sure, kind="stable")[:count]


def margin(
    model: Model,
    rows: Encoded,
    chunks: list[Batch],
    total: int,
    rng: np.random.Generator,
    config: RunConfig,
    meter: CostMeter,
) -> np.ndarray:
    """Half at random, then in rounds those on which a head, solved on the labels so far, is least sure.

    The margin is that between the two likeliest classes (Scheffer et al. 2001), for a sentence its least sure word's.
    The head is left as it was.
    """
    if chunks[0]["features"].is_meta:
        return _walk_rounds(model, chunks, total / len(rows), total, meter)
    start = {name: weight.clone() for name, weight in model.state_dict().items() if name.startswith(("head", "crf"))}
    order = rng.permutation(len(rows))
    chosen = order[: -(-total // 2)]
    for left in range(min(ROUNDS, total - len(chosen)), 0, -1):
        parts = [_only(chunk, chosen) for chunk in chunks]
        known = [chunk for chunk in parts if len(chunk["targets"])]
        solver.solve_head(model, known, meter, config.penalty)
        sure = _margins(model, chunks)
        sure[chosen] = np.inf
        chosen = np.concatenate([chosen, np.argsort(sure, kind="stable")[: -(-(total - len(chosen)) // left)]])
    model.load_state_dict(start, strict=False)
    return chosen


def _walk_rounds(model: Model, chunks: list[Batch], share: float, total: int, meter: CostMeter) -> np.ndarray:
    """What `margin` solves, without weights: the features of half of the labels at first, of nearly all at last."""
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
