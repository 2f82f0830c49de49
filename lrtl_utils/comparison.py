"""The four questions asked of one data set: a sweep of models, methods, sizes and seeds that fits a budget of time."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lrtl_utils.config import RunConfig
from lrtl_utils.data.sampling import share_of
from lrtl_utils.data.splits import Data
from lrtl_utils.errors import InputError
from lrtl_utils.methods import table as methods
from lrtl_utils.models.catalog import MODELS, find
from lrtl_utils.runs import notebook as notebooks
from lrtl_utils.study import checkup, stats
from lrtl_utils.sweep import grid as grids
from lrtl_utils.sweep.price import Priced

ASKED = ("tfidf", "linear_probe", "progressive", "full", "conventional")
OVERHEAD_SECONDS = 3.0  # of a cell beside its clocked work: the medians of the committed folders are 2.5 to 3.6
LEAST_LINES, LEAST_SIZES = 2, 3  # without them there is nothing to compare, and no curve


def models_at_hand(kind: str) -> list[str]:
    """Pre-trained models that read such data and need not be fetched."""
    return [name for name, row in MODELS.items() if kind in row.kinds and row.library != "ours" and _is_here(name)]


def wishes(data: Data, fixed: RunConfig, models: Sequence[str]) -> list[tuple[str, RunConfig]]:
    """Every cell worth a run, as `grids.plan` wants them: each method and model, each step of labels, five seeds.

    `fixed` holds the data set, and what else is the same in all.
    """
    notebook, given = grids.NOTEBOOK_OF[data.kind], fixed.model_dump(exclude_unset=True)
    return [
        (notebook, notebooks.read_parameters(notebook, given | cell))
        for method in ASKED
        if data.kind in methods.METHODS[method].kinds
        for model in (models if methods.METHODS[method].needs_model else models[:1])
        for fraction in checkup.steps(data).values()
        for seed in range(checkup.SEEDS)
        for cell in [{"method": method, "model": model, "data_fraction": fraction, "seed": seed}]
    ]


def seconds(priced: Sequence[Priced], workers: int) -> float:
    """What is still to be run of these takes, from the first to the last cell."""
    each = [one.seconds + one.predict_seconds + OVERHEAD_SECONDS for one in priced if not one.done]
    return sum(each) / workers


def fit(priced: Sequence[Priced], budget_seconds: float, workers: int) -> tuple[list[Priced], list[Priced]]:
    """The cells that fit the budget, and those that do not, in the order in which they are wished for.

    First comes the least that can be compared, kept even if it does not fit: the two cheapest lines at their two
    smallest sizes, with seed 0, then with 1, then with 2. Then every other line and size with those seeds, the cheapest
    first; last all of them with seeds 3 and 4.
    """
    kept, left_out = [], []
    for unit in _units(priced):
        fits = not kept or (not left_out and seconds([*kept, *unit], workers) <= budget_seconds)
        (kept if fits else left_out).extend(unit)
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
        yield f"Left out, {len(left_out)} cells, which the same command, or one with a larger --budget, goes on with:"
        yield from _listed(left_out, available)


def answers(results: str | Path) -> Iterator[str]:
    """The four answers, each a question and what the records say."""
    from lrtl_utils.study import answers as findings
    from lrtl_utils.study import tables as summaries

    frame = summaries.read(results)
    for answer in findings.ANSWERS:
        finding = answer(frame)
        yield finding.question
        yield from finding.lines


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


def _units(priced: Sequence[Priced]) -> Iterator[list[Priced]]:
    """Cells that come together or not at all, in order."""
    by_line: Counter[str] = Counter()
    by_size: Counter[tuple[str, float]] = Counter()
    for one in priced:
        by_line[_line(one)] += one.seconds
        by_size[_line(one), one.cell.config.data_fraction] += one.seconds
    cheapest = sorted(by_line, key=by_line.get)[:LEAST_LINES]
    smallest = sorted({fraction for _, fraction in by_size})[:LEAST_SIZES]

    def rank(one: Priced) -> tuple[Any, ...]:
        line, fraction, seed = _line(one), one.cell.config.data_fraction, one.cell.config.seed
        if line in cheapest and fraction in smallest and seed < stats.LEAST_SEEDS:
            return 0, seed
        return 1 + (seed >= stats.LEAST_SEEDS), by_size[line, fraction], line, fraction

    for _, unit in itertools.groupby(sorted(priced, key=rank), key=rank):
        yield list(unit)
