"""A head solved on fixed features instead of trained by steps."""

import math
from collections.abc import Callable

import torch

from lrtl_utils.config import RunConfig
from lrtl_utils.measure.flops import count_flops, ridge_flops
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.models.network import Batch, Model

SOLVER_STEPS = 100
CRF_STEPS = 10  # a CRF's transitions are few, and each look at them goes through the sequences word by word
# For each layer that the head reads, on standardised features; chosen on held-out train rows.
L2 = {"text": 300.0, "image": 300.0, "tokens": 30.0}
# How often the solver evaluates its loss depends on the data. Without weights it is taken to be the medians of the
# committed records.
EVALUATIONS = {"text": 16, "image": 26, "tokens": 65}


def penalty(model: Model, chunks: list[Batch], config: RunConfig) -> float:
    """The L2 penalty of a head on these features: `config.penalty` for each layer and row of a class, else `L2`.

    More columns that say the same need more of it, and more rows for each vector of weights do.
    """
    if config.penalty is None:
        return L2[model.reader.kind] * model.layers
    rows = sum(int(chunk["word_mask"].sum()) if "word_mask" in chunk else len(chunk["targets"]) for chunk in chunks)
    return config.penalty * model.layers * rows / model.head[-1].out_features


def solve_head(model: Model, chunks: list[Batch], l2: float, meter: CostMeter) -> float:
    """Fit the linear head on fixed features by L-BFGS, and a CRF on its scores after it; returns the mean loss reached.

    The head minimises the summed cross-entropy plus `l2 / 2 * |W|^2` on features standardised over the training rows,
    and the standardisation is folded into the weights: scikit-learn's `LogisticRegression(C=1 / l2)` on such features.
    (With two classes that is `C=2 / l2`: scikit-learn then has one vector of weights where this has two.) Solving head
    and CRF together, a sequence at a time, took several times as long as the features.
    """
    rows, targets = _visible(chunks)
    meter.register("solve", lambda shape: _solve_flops(shape, model.head[-1].out_features))
    if rows.is_meta:
        meter.tally("solve", tuple(rows.shape), EVALUATIONS[model.reader.kind])
        return math.nan
    shift, scale = rows.mean(0), rows.std(0, correction=0).clamp_min(1e-6)
    rows = (rows - shift) / scale
    linear = model.head[-1]
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    linear.requires_grad_(True)

    def loss() -> torch.Tensor:
        meter.tally("solve", tuple(rows.shape))
        return torch.nn.functional.cross_entropy(linear(rows), targets)

    _minimise(lambda: loss() + l2 / (2 * len(rows)) * linear.weight.square().sum(), linear, SOLVER_STEPS)
    with torch.no_grad():
        reached = float(loss())
        linear.weight /= scale
        linear.bias -= linear.weight @ shift
    return reached if getattr(model, "crf", None) is None else _solve_crf(model, chunks)


def _solve_crf(model: Model, chunks: list[Batch]) -> float:
    """Fit the transitions to the scores that the head gives."""
    with torch.no_grad():
        scored = [(model.head[-1](chunk["features"]), chunk) for chunk in chunks]
    words = [int(chunk["word_mask"].sum()) for chunk in chunks]
    model.crf.requires_grad_(True)

    def loss() -> torch.Tensor:
        losses = [model.loss(scores, chunk) * n for (scores, chunk), n in zip(scored, words, strict=True)]
        return torch.stack(losses).sum() / sum(words)

    _minimise(loss, model.crf, CRF_STEPS)
    with torch.no_grad():
        return float(loss())


def _minimise(loss: Callable[[], torch.Tensor], module: torch.nn.Module, steps: int) -> None:
    """L-BFGS with a line search over the module's weights."""
    weights = list(module.parameters())
    solver = torch.optim.LBFGS(
        weights, max_iter=steps, tolerance_grad=1e-6, tolerance_change=1e-8, line_search_fn="strong_wolfe"
    )

    def objective() -> torch.Tensor:
        solver.zero_grad()
        reached = loss()
        reached.backward()
        return reached

    solver.step(objective)


def leave_one_out(model: Model, chunks: list[Batch], l2: float, examples: int, meter: CostMeter) -> float | None:
    """Accuracy on each of the first `examples` rows of a ridge regression on all other rows, in closed form.

    On standardised features, with targets of one for the class and zero else; the penalty `l2` is the head's
    (Hastie et al. 2009, section 7.10). None without weights.
    """
    rows, targets = _visible(chunks)
    if rows.is_meta:
        meter.tally_closed_form(ridge_flops(*rows.shape, model.head[-1].out_features))
        return None
    rows = ((rows - rows.mean(0)) / rows.std(0, correction=0).clamp_min(1e-6)).cpu().double()
    n, width = rows.shape
    wanted = torch.nn.functional.one_hot(targets.cpu(), model.head[-1].out_features).double()
    products = rows.T @ rows + l2 * torch.eye(width, dtype=rows.dtype)
    spread = torch.linalg.solve(products, rows.T).T
    leverage = 1 / n + (spread * rows).sum(1, keepdim=True)
    fitted = wanted.mean(0) + spread @ (rows.T @ (wanted - wanted.mean(0)))
    left_out = wanted - (wanted - fitted) / (1 - leverage)
    meter.tally_closed_form(ridge_flops(n, width, wanted.shape[1]))
    right = left_out.argmax(1) == targets.cpu()
    return float(right[torch.cat([chunk["positions"] for chunk in chunks]) < examples].double().mean())


def _visible(chunks: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [rows, width] and targets [rows] of all chunks, without the words that a mask hides."""
    seen = [(chunk, chunk.get("word_mask", slice(None))) for chunk in chunks]
    return tuple(torch.cat([chunk[name][mask] for chunk, mask in seen]) for name in ("features", "targets"))


def _solve_flops(shape: tuple[int, ...], classes: int) -> int:
    rows, width = shape
    head = torch.nn.Linear(width, classes, device="meta")
    return count_flops(lambda: head(torch.empty(rows, width, device="meta")).sum().backward())
