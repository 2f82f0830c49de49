"""The four questions asked of one data set: a sweep of models, methods, sizes and seeds that fits a budget of time."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lrtl_utils import checkup, grids, methods, notebooks, tasks
from lrtl_utils.config import InputError, RunConfig
from lrtl_utils.models import MODELS, find
from lrtl_utils.price import Priced
from lrtl_utils.sampling import share_of
from lrtl_utils.tasks import Data

ASKED = ("tfidf", "linear_probe", "progressive", "full", "conventional")
SEEDS = 5
OVERHEAD_SECONDS = 5.0  # of a cell beside its clocked work and its prediction, as the records of the bench have it
LEAST_LINES, LEAST_SIZES = 2, 2  # what is never left out: without them there is nothing to compare


def models_at_hand(kind: str) -> list[str]:
    """Pre-trained models that read such data and need not be fetched."""
    return [name for name, row in MODELS.items() if kind in row.kinds and row.library != "ours" and _is_here(name)]


def wishes(data: Data, reading: RunConfig, models: Sequence[str]) -> list[tuple[str, RunConfig]]:
    """Every cell worth a run, as `grids.plan` wants them: each method and model, each step of labels, five seeds.

    `reading` holds the data set and how it is read.
    """
    notebook = grids.NOTEBOOK_OF[data.kind]
    return [
        (notebook, notebooks.read_parameters(notebook, tasks.reading(reading) | cell))
        for method in ASKED
        if data.kind in methods.METHODS[method].kinds
        for model in (models if methods.METHODS[method].needs_model else models[:1])
        for fraction in checkup.steps(data).values()
        for seed in range(SEEDS)
        for cell in [{"method": method, "model": model, "data_fraction": fraction, "seed": seed}]
    ]


def seconds(priced: Sequence[Priced], workers: int) -> float:
    """What is still to be run of these takes, from the first to the last cell."""
    each = [one.seconds + one.predict_seconds + OVERHEAD_SECONDS for one in priced if not one.done]
    return sum(each) / workers


def fit(priced: Sequence[Priced], budget_seconds: float, workers: int) -> tuple[list[Priced], list[Priced]]:
    """The cells that fit the budget, and those that were left out for it, in order.

    First go seeds 3 and 4; then the dearest line and size, one after the other, but for the two cheapest lines at their
    two smallest sizes; then seeds 1 and 2. What is left then is run even if it does not fit.
    """
    kept, left_out = list(priced), []
    for cut in _cuts(priced):
        if seconds(kept, workers) <= budget_seconds:
            break
        left_out += [one for one in kept if cut(one)]
        kept = [one for one in kept if not cut(one)]
    return kept, left_out


def lines(
    kept: Sequence[Priced], left_out: Sequence[Priced], available: int, budget_seconds: float, workers: int
) -> Iterator[str]:
    """What is run and what is not, in words; `available` examples make the whole train split."""
    due = seconds(kept, workers)
    fits = "" if due <= budget_seconds else ", more than that, but the least that can be compared"
    yield f"{len(kept)} cells, about {due / 60:.3g} of {budget_seconds / 60:.3g} minutes{fits}:"
    yield from _listed(kept, available)
    if left_out:
        yield f"Left out until it fitted, {len(left_out)} cells; a larger --budget has them, and finds these done:"
        yield from _listed(left_out, available)


def answers(results: str | Path) -> Iterator[str]:
    """The four answers, each a question and what the records say."""
    from lrtl_utils import findings, summaries

    frame = summaries.read(results)
    for answer in findings.ANSWERS:
        finding = answer(frame)
        yield f"{finding.question} {finding.headline}"


def _is_here(model: str) -> bool:
    try:
        find(model, fetch=False)
    except InputError:
        return False
    return True


def _line(one: Priced) -> str:
    return " ".join(name for name in (one.cell.config.model, one.cell.config.method) if name != methods.NO_MODEL)


def _listed(cells: Sequence[Priced], available: int) -> Iterator[str]:
    """A line for each model with method: its numbers of labels, those of the same seeds together."""
    seeds: dict[tuple[str, float], list[int]] = {}
    for one in cells:
        seeds.setdefault((_line(one), one.cell.config.data_fraction), []).append(one.cell.config.seed)
    for line in dict.fromkeys(line for line, _ in seeds):
        alike: dict[str, list[str]] = {}
        for (own, fraction), drawn in seeds.items():
            if own == line:
                alike.setdefault(", ".join(map(str, sorted(drawn))), []).append(str(share_of(available, fraction)))
        told = [f"{', '.join(sizes)} labels with seeds {each}" for each, sizes in alike.items()]
        yield f"- {line}: {'; '.join(told)}"


def _cuts(priced: Sequence[Priced]) -> Iterator[Callable[[Priced], bool]]:
    """What may be left out, in order, as whether a cell is part of it."""
    yield lambda one: one.cell.config.seed >= 3
    by_line: Counter[str] = Counter()
    by_size: Counter[tuple[str, float]] = Counter()
    for one in priced:
        by_line[_line(one)] += one.seconds
        by_size[_line(one), one.cell.config.data_fraction] += one.seconds
    cheapest = sorted(by_line, key=by_line.get)[:LEAST_LINES]
    smallest = sorted({fraction for _, fraction in by_size})[:LEAST_SIZES]
    for line, fraction in sorted(by_size, key=by_size.get, reverse=True):
        if not (line in cheapest and fraction in smallest):
            yield partial(_is_of, line, fraction)
    yield lambda one: one.cell.config.seed >= 1


def _is_of(line: str, fraction: float, one: Priced) -> bool:
    return (_line(one), one.cell.config.data_fraction) == (line, fraction)
