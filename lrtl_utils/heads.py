"""A head solved on fixed features instead of trained by steps."""

from typing import TYPE_CHECKING

import torch

from lrtl_utils.cost import CostMeter, count_flops, ridge_flops

if TYPE_CHECKING:
    from lrtl_utils.networks import Batch, Model

SOLVER_STEPS = 100
INTERCEPT = 1e4  # its square root is the constant feature
L2 = {"text": 300.0, "image": 300.0, "tokens": 30.0}  # on standardised features; tried on held-out train rows


def solve_head(model: "Model", chunks: "list[Batch]", l2: float, meter: CostMeter) -> float:
    """Fit the linear head (and CRF) on fixed features by L-BFGS; returns the mean loss reached.

    Minimises the summed loss plus `l2 / 2 * |W|^2` on features standardised over the training rows, and folds the
    standardisation into the weights: scikit-learn's `LogisticRegression(C=1 / l2)` on such features. (With two classes
    that is `C=2 / l2`: scikit-learn then has one vector of weights where this has two.)
    """
    chunks, shift, scale = _standardised(chunks)
    linear, device = model.head[-1], shift.device
    weights = [float(chunk["word_mask"].sum() if "word_mask" in chunk else len(chunk["targets"])) for chunk in chunks]
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    trained = model.head_parameters()
    for weight in trained:
        weight.requires_grad_(True)
    solver = torch.optim.LBFGS(
        trained, max_iter=SOLVER_STEPS, tolerance_grad=1e-6, tolerance_change=1e-8, line_search_fn="strong_wolfe"
    )
    width, classes = linear.weight.shape[1], linear.weight.shape[0]
    meter.register("solve", lambda shape: _solve_flops(shape, classes))
    reached = torch.zeros((), device=device)

    def objective() -> torch.Tensor:
        nonlocal reached
        solver.zero_grad()
        reached = torch.zeros((), device=device)
        for chunk, weight in zip(chunks, weights, strict=True):
            loss = model.loss(linear(chunk["features"]), chunk) * (weight / sum(weights))
            loss.backward()
            reached += loss.detach()
        penalty = l2 / (2 * sum(weights)) * linear.weight.square().sum()
        penalty.backward()
        meter.tally("solve", (int(sum(c["features"].shape[:-1].numel() for c in chunks)), width))
        return reached + penalty.detach()

    solver.step(objective)
    with torch.no_grad():
        linear.weight /= scale
        linear.bias -= linear.weight @ shift
    return float(reached)


def leave_one_out(model: "Model", chunks: "list[Batch]", meter: CostMeter) -> float:
    """Accuracy on each row of a ridge regression on all others, in closed form (Hastie et al. 2009, section 7.10).

    On standardised features, with targets of one for the class and zero else; the penalty is the head's.
    """
    chunks, _, _ = _standardised(chunks)
    rows = torch.cat([chunk["features"] for chunk in chunks]).double()
    targets = torch.cat([chunk["targets"] for chunk in chunks])
    classes = model.head[-1].out_features
    wanted = torch.nn.functional.one_hot(targets, classes).double()
    n, width = rows.shape
    # The intercept is a feature that is not penalised, for all practical purposes.
    kernel = rows @ rows.T + INTERCEPT + L2[model.reader.kind] * torch.eye(n, dtype=rows.dtype, device=rows.device)
    inverse = torch.linalg.inv(kernel)
    left_out = wanted - (inverse @ wanted) / inverse.diagonal()[:, None]
    meter.closed_form_flops += ridge_flops(n, width, classes)
    return float((left_out.argmax(1) == targets).double().mean())


def _standardised(chunks: "list[Batch]") -> "tuple[list[Batch], torch.Tensor, torch.Tensor]":
    """Features at mean 0 and deviation 1 over all visible rows."""
    seen = [chunk["features"][chunk["word_mask"]] if "word_mask" in chunk else chunk["features"] for chunk in chunks]
    rows = torch.cat(seen)
    shift, scale = rows.mean(0), rows.std(0, correction=0).clamp_min(1e-6)
    return [chunk | {"features": (chunk["features"] - shift) / scale} for chunk in chunks], shift, scale


def _solve_flops(shape: tuple[int, ...], classes: int) -> int:
    rows, width = shape
    head = torch.nn.Linear(width, classes, device="meta")
    return count_flops(lambda: head(torch.empty(rows, width, device="meta")).sum().backward())
