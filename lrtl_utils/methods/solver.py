"""A head solved on fixed features instead of trained by steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.utils.rnn import pad_sequence

from lrtl_utils.measure.flops import count_flops, left_out_flops
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods.method import balanced
from lrtl_utils.models import crf
from lrtl_utils.models.network import Batch, Model

SOLVER_STEPS = 30  # after which no score on held-out rows changes
CRF_STEPS = 10  # a CRF's transitions are few, and each look at them goes through the sequences word by word
# For each row and each layer that the head reads, on standardised features; the leave-one-out error chooses among them.
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MOST_ROWS = 4096  # on which the penalty is chosen; of more, as many at even distances
SCALES = tuple(2.0 ** (power / 4) for power in range(-8, 25))  # of the scores of a ridge regression, as logits
NOTHING = 1e-6  # of the largest eigenvalue; below it are rounding errors
EVALUATIONS = 33  # of its loss by the solver, where nothing can be solved: a usual number for so many steps


@dataclass(frozen=True)
class Solution:
    """A solved head: its mean loss in nats, the `penalty` that it has, and what leaving out each row says.

    `left_out_score` is the accuracy on each labelled row of a ridge regression on all others, and `left_out_loss` its
    mean loss, at the best scale of its scores as logits. `sureness`, in (0, 1], is the scale of the head's logits at
    which its loss on its own rows is the `left_out_loss`. `names_fit` says whether the names of the classes fell into
    their classes. All but the loss are None without weights, and `names_fit` also without names.
    """

    loss: float = math.nan
    penalty: float | None = None
    left_out_score: float | None = None
    left_out_loss: float | None = None
    sureness: float | None = None
    names_fit: bool | None = None


def solve_head(
    model: Model,
    chunks: list[Batch],
    meter: CostMeter,
    penalty: float | None = None,
    names: Sequence[Batch] = (),
    class_weights: str | None = None,
) -> Solution:
    """Fit the linear head on fixed features by L-BFGS, and a CRF on its scores after it.

    The head minimises the summed cross-entropy plus `l2 / 2 * |W|^2` on features standardised over the training rows,
    and the standardisation is folded into the weights: scikit-learn's `LogisticRegression(C=1 / l2)` on such features.
    (With two classes that is `C=2 / l2`: scikit-learn then has one vector of weights where this has two.) `l2` is
    `penalty` × layers × rows ÷ classes, so that it keeps its share of the curvature of the loss. Without a `penalty`
    it is that of `PENALTIES` with the least leave-one-out error.

    `names` are the names of the classes as further rows. They are used if the ridge regression on the examples alone
    gives their classes a mean likelihood above chance; elsewhere names are not what the examples are about.
    With `class_weights` the cross-entropy is weighted, and what is said of rows that are left out is not.

    Solving head and CRF together, a sequence at a time, took several times as long as the features.
    """
    rows, targets = _visible(chunks)
    named = _visible(names) if names else (rows[:0], targets[:0])
    classes, (n, width), total = model.head[-1].out_features, rows.shape, len(rows) + len(named[0])
    meter.register("solve", lambda shape: _solve_flops(shape, classes))
    tried = (penalty,) if penalty else PENALTIES
    meter.tally_closed_form(left_out_flops(n, min(n, MOST_ROWS), width, classes, len(tried)))
    if names:
        meter.tally_closed_form(left_out_flops(total, min(total, MOST_ROWS), width, classes, 0))
    if rows.is_meta:
        meter.tally("solve", (total, min(total - 1, width)), EVALUATIONS)
        return Solution()
    shift, deviation = _standards(rows)
    rows, named_rows = ((each - shift) / deviation for each in (rows, named[0]))
    ridge = _Ridge(rows, targets, classes)
    solution, scale = ridge.chosen(tried, model.layers)
    if names:
        scores = scale * ridge.scores(named_rows, solution.penalty * model.layers)
        solution = replace(solution, names_fit=float(cross_entropy(scores, named[1])) < math.log(classes))
    if solution.names_fit:
        rows, targets = torch.cat([rows, named_rows]), torch.cat([targets, named[1]])
        ridge = _Ridge(rows, targets, classes)
    l2 = solution.penalty * model.layers * len(rows) / classes
    basis = ridge.basis(solution.penalty * model.layers)
    weights = torch.from_numpy(balanced(targets.cpu(), classes)).to(rows) if class_weights else None
    weight, bias, scores = _logistic(rows @ basis, targets, l2 * basis.square().sum(0), classes, meter, weights)
    linear = model.head[-1].requires_grad_(True)
    with torch.no_grad():
        linear.weight.copy_(weight @ basis.T / deviation)
        linear.bias.copy_(bias - linear.weight @ shift)
    loss = float(cross_entropy(scores, targets)) if getattr(model, "crf", None) is None else _solve_crf(model, chunks)
    return replace(solution, loss=loss, sureness=_sureness(scores, targets, solution.left_out_loss))


def left_out(chunks: list[Batch], classes: int, layers: int) -> torch.Tensor:
    """Probabilities of the classes, [rows, classes], by a ridge regression on all other rows, in the chunks' order.

    Its penalty has the least leave-one-out error, and its scores are logits at the scale with the least loss. There may
    be at most `MOST_ROWS` rows.
    """
    rows, targets = _visible(chunks)
    shift, deviation = _standards(rows)
    ridge = _Ridge((rows - shift) / deviation, targets, classes)
    solution, scale = ridge.chosen(PENALTIES, layers)
    return (scale * ridge.left_out(solution.penalty * layers)).softmax(1)


def _standards(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each column; a column that never varies is to get no weight."""
    deviation = rows.std(0, correction=0)
    return rows.mean(0), deviation.where(deviation > 1e-6, torch.inf)


class _Ridge:
    """Ridge regression of one-hot targets on standardised rows, along the eigenvectors of their products.

    Of more than `MOST_ROWS` rows it takes as many at even distances.
    """

    def __init__(self, rows: torch.Tensor, targets: torch.Tensor, classes: int):
        some = slice(None, None, -(-len(rows) // MOST_ROWS))
        rows, self.targets = rows[some], targets[some]
        self.wanted = one_hot(self.targets, classes).to(rows.dtype)
        few = len(rows) <= rows.shape[1]
        sizes, vectors = torch.linalg.eigh(rows @ rows.T if few else rows.T @ rows)
        real = sizes > NOTHING * sizes[-1]
        self.sizes, vectors = sizes[real], vectors[:, real]
        self.directions = rows.T @ (vectors / self.sizes.sqrt()) if few else vectors
        self.along = rows @ self.directions
        self.mean = self.wanted.mean(0)

    def chosen(self, penalties: Sequence[float], layers: int) -> tuple[Solution, float]:
        """The penalty with the least squared leave-one-out error, with what leaving out says of it.

        Also the scale of its leave-one-out scores, as logits, with the least loss.
        """
        tried = {each: self.left_out(each * layers) for each in penalties}
        error = {each: float((scores - self.wanted).square().mean()) for each, scores in tried.items()}
        penalty = min(error, key=error.get)
        scores = tried[penalty]
        losses = {scale: float(cross_entropy(scale * scores, self.targets)) for scale in SCALES}
        scale = min(losses, key=losses.get)
        right = float((scores.argmax(1) == self.targets).double().mean())
        return Solution(math.nan, penalty, right, losses[scale]), scale

    def scores(self, rows: torch.Tensor, share: float) -> torch.Tensor:
        """The scores of other rows."""
        slopes = self.along.T @ (self.wanted - self.mean) / (self.sizes + share * len(self.along))[:, None]
        return self.mean + rows @ (self.directions @ slopes)

    def left_out(self, share: float) -> torch.Tensor:
        """The scores of each row by a regression on all others, in closed form (Hastie et al. 2009, section 7.10).

        The penalty is `share` × rows. Means and deviations are taken once, over all rows.
        """
        shrunk = self.sizes + share * len(self.along)
        leverage = 1 / len(self.along) + self.along.square() @ (1 / shrunk)
        fitted = self.mean + self.along @ ((self.along.T @ (self.wanted - self.mean)) / shrunk[:, None])
        return self.wanted - (self.wanted - fitted) / (1 - leverage)[:, None].clamp_min(NOTHING)

    def basis(self, share: float) -> torch.Tensor:
        """Directions [width, used], scaled so that a loss with this penalty is about as steep along each of them."""
        return self.directions / (self.sizes / len(self.along) + share).sqrt()


def _logistic(
    rows: torch.Tensor,
    targets: torch.Tensor,
    l2: torch.Tensor,
    classes: int,
    meter: CostMeter,
    weights: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights [classes, width], biases and scores of the regression whose columns have these penalties.

    `weights` [classes] weigh the rows of each class in the loss.
    """
    linear = torch.nn.Linear(rows.shape[1], classes, device=rows.device)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)

    def loss() -> torch.Tensor:
        meter.tally("solve", tuple(rows.shape))
        return cross_entropy(linear(rows), targets, weights) + (linear.weight.square() * l2).sum() / (2 * len(rows))

    _minimise(loss, linear, SOLVER_STEPS)
    with torch.no_grad():
        return linear.weight, linear.bias, linear(rows)


def _sureness(scores: torch.Tensor, targets: torch.Tensor, loss: float) -> float:
    """The scale in (0, 1] of these logits at which their mean loss is `loss`, to a thousandth; 1 if it never is."""
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if float(cross_entropy(middle * scores, targets)) <= loss else (middle, high)
    return high


def _solve_crf(model: Model, chunks: list[Batch]) -> float:
    """Fit the transitions to the scores that the head gives."""
    with torch.no_grad():
        scored = [each for chunk in chunks for each in model.head[-1](chunk["features"])]
    tags, seen = ([each for chunk in chunks for each in chunk[name]] for name in ("targets", "word_mask"))
    scores, tags, seen = (pad_sequence(each, batch_first=True) for each in (scored, tags, seen))
    model.crf.requires_grad_(True)

    def loss() -> torch.Tensor:
        return crf.loss(model.crf, scores, tags, seen) / seen.sum()

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


def _visible(chunks: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [rows, width] and targets [rows] of all chunks, without the words that a mask hides."""
    seen = [(chunk, chunk.get("word_mask", slice(None))) for chunk in chunks]
    return tuple(torch.cat([chunk[name][mask] for chunk, mask in seen]) for name in ("features", "targets"))


def _solve_flops(shape: tuple[int, ...], classes: int) -> int:
    rows, width = shape
    head = torch.nn.Linear(width, classes, device="meta")
    return count_flops(lambda: head(torch.empty(rows, width, device="meta")).sum().backward())
