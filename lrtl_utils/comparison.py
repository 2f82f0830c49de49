"""Compare models and methods on one data set: run what fits a budget of time, and answer the four questions."""

import io
import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from lrtl_utils.config import NO_MODEL, RunConfig, read_config
from lrtl_utils.data import load, own
from lrtl_utils.data.splits import Data, share_of
from lrtl_utils.errors import InputError, counted
from lrtl_utils.files import absolute_path, data_name, writable_folder
from lrtl_utils.measure.metrics import require_metric
from lrtl_utils.methods import METHODS
from lrtl_utils.models.catalog import MODELS, backbone, find
from lrtl_utils.runs import store
from lrtl_utils.runs.notebook import NOTEBOOK_OF, read_parameters
from lrtl_utils.runs.run import Run
from lrtl_utils.study import advice, answers, checkup, figures, report, stats, tables
from lrtl_utils.sweep import engines, grid, price
from lrtl_utils.sweep import sweep as sweeps
from lrtl_utils.sweep.price import Priced

if TYPE_CHECKING:
    import datasets

# What a comparison varies, or takes by an option of its own.
COMPARED = {"dataset", "model", "method", "seed", "data_fraction", "train_size", "shots"}
METHODS_TO_TRY = ("tfidf", "linear_probe", "progressive", "full", "conventional")
OVERHEAD_SECONDS = 3.0  # of a run beside its measured work: the medians of the committed folders are 2.5 to 3.6
ANSWERING_SECONDS = 40.0  # of the budget, for answers, pictures and the report: on a slow machine, 15 were too few
ANSWER_EVERY_SECONDS = 60.0  # between two answers while the runs go on
OVERDUE = 5  # times their estimate after which the fewest runs that can be compared are ended
PLANNED = 0.9  # of the time: if the last runs were cut off, their number of labels would be left without an answer
LEAST_CONFIGURATIONS, LEAST_SIZES = 2, 3  # with fewer there is nothing to compare, and no curve


@dataclass(frozen=True)
class Comparison:
    """The four answers from the records below `results`; a notebook shows them with their figures.

    `cells` are the runs that were planned, and `outcome` says what became of them (None if nothing was run).
    `untried` names the configurations of which no run fitted the budget. `dataset` is where the data are now, which may
    be elsewhere than in the records.
    `metric` ranks the configurations; None is accuracy, or for tagged sentences entity F1. Only runs on the data `of`,
    from `tables.read_from`, count.
    """

    results: Path
    of: tuple[Any, ...]
    cells: Sequence[grid.Cell] = ()
    outcome: sweeps.Outcome | None = None
    metric: str | None = None
    untried: Sequence[str] = ()
    dataset: str | None = None

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs that are compared, as in `tables.read`."""
        return of_data(tables.read(self.results, self.metric), self.of)

    @cached_property
    def answers(self) -> list[answers.Answer]:
        """To each of the four questions: the sentence that answers it, and one for each dataset × model."""
        return [ask(self.runs) for ask, *_ in report.SECTIONS]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Mean score with its interval, and mean costs, of each configuration and number of labels."""
        return tables.summarise(self.runs)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figure of each answer, by name; those for which there are too few runs are missing."""
        # so that what `style` sets is undone
        with plt.rc_context(), pd.option_context("display.max_rows", None, "display.max_columns", None):
            figures.style()
            needs, best, baseline = tables.needs(self.runs), tables.best(self.runs), tables.tuned(self.runs)
            front = tables.front(self.runs, tables.at_most_labels(best), "device_seconds")
            drawn = {
                "accuracy_vs_data": figures.score_vs_data(self.table, needs, best, answers.claim_labels(self.runs)),
                "labels_needed": figures.labels_needed(needs),
                "accuracy_vs_seconds": figures.score_vs_cost(front, tables.at_most_labels(best), "device_seconds"),
                "differences": figures.differences(tables.differences(self.runs, baseline), baseline),
            }
        for figure in filter(None, drawn.values()):
            plt.close(figure)  # so that a notebook shows it only where it is asked for
        return {name: figure for name, figure in drawn.items() if figure}

    def lines(self) -> Iterator[str]:
        """Each question with its answer, as Markdown; a single data set and model needs no headline over its answer."""
        for answer in self.answers:
            yield answer.question
            yield from answer.each if len(answer.each) == 1 else answer.lines

    def advice(self) -> Iterator[str]:
        """What to do now: the method to use, the labels to collect, the time it takes, and the command for it."""
        first, *others = advice.lines(self.runs, self.results, self.dataset)
        yield first
        if self.untried:
            yield f"One that the budget left out may be better: {', '.join(self.untried)}."
        yield from others

    def __str__(self) -> str:
        return "\n".join([*self.lines(), "", *self.advice()])

    def _repr_html_(self) -> str:
        pictures = {name: _png(figure) for name, figure in self.figures.items()}
        named = zip(self.answers, report.SECTIONS, strict=True)
        pairs = [(answer, pictures.get(name)) for answer, (_, name, *_) in named]
        return report.render("comparison.html", answers=pairs, advice=[*self.advice()])


def compare(
    data: "str | Path | pd.DataFrame | datasets.Dataset",
    label: str | None = None,
    text: str | None = None,
    budget_minutes: float = 10,
    results: str | Path | None = None,
    *,
    models: Sequence[str] | None = None,
    metric: str | None = None,
    workers: int = 1,
    dry_run: bool = False,
    shared: bool = True,
    show: Callable[[str], None] = print,
    **parameters: Any,
) -> Comparison:
    """Run the models, methods, numbers of labels and seeds that fit the budget, and answer the four questions.

    `data` is a path, the name of a data set, a pandas DataFrame or a `datasets.Dataset`; `label` and `text` name its
    columns (None: recognised by usual names). `models` are those to compare (None: all on this machine that read such
    data), and `parameters` apply to every run (`max_length=64`). `metric` ranks the configurations: accuracy, macro_f1
    or entity_f1 (None: accuracy, or for tagged sentences entity_f1). A run that has a completed record below `results`
    (None: results/compare-NAME) is not run again, so a second call continues. `budget_minutes` of wall-clock time are 0
    or more: when they are over, running cells end at their checkpoints, unless even the least that can be compared
    takes longer. `workers` runs go at a time, and time that is left goes to further runs. `show` gets each line of the
    plan and of the progress. If `shared`, what several runs would compute in the same way is computed once. With
    `dry_run`, the data are checked, the plan is shown, and nothing runs. `InputError` if the data or a parameter cannot
    be used, or if no score could tell methods apart.
    """
    started = time.monotonic()
    _require_arguments(budget_minutes, workers, parameters)
    models = [models] if isinstance(models, str | Path) else models
    for name in models or ():
        backbone(str(name))  # refused before the data are checked
    columns = {name: column for name, column in (("label_column", label), ("text_column", text)) if column is not None}
    fixed, examples, folder = _read(data, parameters | columns, metric, results)
    for line in [*checkup.page(examples, broken=()), "", "## What will be run"]:
        show(line)
    if not dry_run:
        engines.clean_forks()  # imports for the workers while the plan is made
    runs = every_run(examples, fixed, models or models_at_hand(examples.kind))
    cells = grid.plan(runs, partial(Run, loaded=examples))
    writable_folder(folder)
    if metric:
        tables.records(folder, "completed", metric)  # refused before anything is run, where its records lack the metric
    show(f"Estimating the time of {len(cells)} possible runs, which takes up to a minute.")
    cells = _that_can_run(cells, examples, show)
    within = min(price.IN_ALL_SECONDS, 15 * budget_minutes)  # a quarter of a small budget
    priced, how = price.estimate(cells, folder, max(1, engines.cores() // workers), within)
    end = started + 60 * budget_minutes
    left = _seconds_until(end)
    kept, left_out = within_budget(priced, PLANNED * left, workers)
    untried = without_a_run(kept, left_out)
    for line in [*plan_in_words(kept, left_out, untried, len(examples.train), left, workers), how]:
        show(line)
    columns = own.columns_read(examples.notes, fixed.text_column, fixed.label_column)
    of, place = (examples.source.sha256, columns, fixed.drop_leaks), load.absolute(fixed.dataset)
    planned = Comparison(folder, of, [one.cell for one in kept], None, metric, untried, place)
    if dry_run:
        return planned
    answer = answer_so_far(planned, started, end, show)
    cells, outcome = _run_until(end, priced, kept, folder, workers, shared=shared, report=show, meanwhile=answer)
    return replace(planned, cells=cells, outcome=outcome)


def _read(
    data: Any, parameters: dict[str, Any], metric: str | None, results: str | Path | None
) -> tuple[RunConfig, Data, Path]:
    """What all runs have in common: their configuration, the checked data, and the folder of their records."""
    in_memory = not isinstance(data, str | Path)
    dataset = own.keep(data) if in_memory else data
    fixed = read_config(parameters | {"dataset": dataset})
    examples = checkup.read(**load.reading(fixed))
    if metric:
        require_metric(metric, examples.kind == "tokens", examples.name)
    # The folder of what was in memory is named by a checksum.
    name = f"table-{dataset.parent.name[:8]}" if in_memory else data_name(examples.name)
    folder = absolute_path(results or f"results/compare-{name}")
    store.require_apart(folder, [fixed])
    _require_comparable(examples)
    return fixed, examples, folder


def _require_arguments(budget_minutes: Any, workers: Any, parameters: Collection[str]) -> None:
    if fixed_here := COMPARED.intersection(parameters):
        raise InputError(f"{min(fixed_here)} cannot be given here: a comparison varies it, or has an option for it.")
    if not (isinstance(budget_minutes, Real) and budget_minutes >= 0):  # nor NaN
        raise InputError(f"budget_minutes={budget_minutes!r} is not a number of minutes; give 0 or more.")
    if not (isinstance(workers, Integral) and workers >= 1):
        raise InputError(f"workers={workers!r} is not a whole number of processes; give 1 or more.")


def _seconds_until(end: float) -> float:
    """What is left for runs."""
    return max(0.0, end - ANSWERING_SECONDS - time.monotonic())


def _run_until(
    end: float, priced: Sequence[Priced], kept: Sequence[Priced], folder: Path, workers: int, **options: Any
) -> tuple[list[grid.Cell], sweeps.Outcome]:
    """Run those that are `kept`, and then as long as there is time more of `priced`; the cells, and their outcome.

    Further runs are of the same configurations: one more, if the time ends during its runs, would be missing at the
    largest size, and then nothing is called best there.
    """
    priced, ran, outcome = _of(priced, {*map(_configuration, kept)}), {}, sweeps.Outcome()
    while chosen := {one.cell.id: one.cell for one in kept if one.cell.id not in ran}:
        if ran:
            more = counted(len(chosen), "more run")
            options["report"](f"The runs were quicker than estimated, so {more} can be made.")
        left = _seconds_until(end)
        due = seconds(kept, workers)
        stop = left if due <= left else OVERDUE * due  # the least that can be compared is run in any case
        outcome += sweeps.sweep([*chosen.values()], folder, workers=workers, stop_after_seconds=stop, **options)
        ran |= chosen
        priced = [replace(one, done=one.done or one.cell.id in ran) for one in priced]  # failed ones too
        kept, _ = within_budget(priced, PLANNED * _seconds_until(end), workers)
    return [*ran.values()], outcome


def _require_comparable(data: Data) -> None:
    """`InputError` where runs would fail, or no score could tell methods apart."""
    if broken := [*checkup.find_broken(data)]:
        named, more = ", ".join(filter(None, broken[:10])), ", …" if len(broken) > 10 else ""
        which = f": {named}{more}" if named else " (their places are not known)"
        texts = "store them as strings if they are texts, or " * (len(broken) == len(data.train) + len(data.test))
        raise InputError(
            f"{counted(len(broken), 'image')} of {data.name} cannot be decoded, and a run fails at the first one "
            f"that it reads; {texts}leave them out{which}."
        )
    if data.kind == "tokens" and not checkup.counts(data, data.test):
        raise InputError(f"No test sentence of {data.name} has an entity, so no score could tell methods apart.")
    if data.kind != "tokens" and len({*data.test.targets}) < 2:
        raise InputError(
            f"All test examples of {data.name} are of one class, so no score could tell methods apart; more examples "
            "of the other classes are needed."
        )


def _that_can_run(cells: Sequence[grid.Cell], data: Data, show: Callable[[str], None]) -> list[grid.Cell]:
    """The cells of methods that are for their model on these data; why another is not is shown.

    One cell of each method and model is counted. `InputError` where no method is for a model, or none is left at all.
    """
    refused: dict[tuple[str, str], str] = {}
    for key, cell in {(cell.config.model, cell.config.method): cell for cell in cells}.items():
        try:
            price.load(cell.config, data)
        except InputError as error:
            refused[key] = str(error)
    kept = [cell for cell in cells if (cell.config.model, cell.config.method) not in refused]
    for (model, _), reason in refused.items():
        if model not in {cell.config.model for cell in kept} and (model != NO_MODEL or not kept):
            raise InputError(reason)
        show(f"Left out: {reason}")
    return kept


def of_data(frame: pd.DataFrame, of: tuple[Any, ...]) -> pd.DataFrame:
    """The runs on these data. A folder may hold others, such as those with another column as label."""
    return frame[frame["record"].map(lambda record: tables.read_from(record) == of).astype(bool)]


def answer_so_far(compared: Comparison, started: float, end: float, show: Callable[[str], None]) -> Callable[[], None]:
    """A function to be called again and again: each minute it shows what is best so far, and the time until `end`.

    The first time is when a minute is over and a run has ended.
    """
    shown = started

    def answer() -> None:
        nonlocal shown
        if time.monotonic() - shown < ANSWER_EVERY_SECONDS:
            return
        frame = tables.read(compared.results, compared.metric)  # not `compared.runs`, which is read once
        row = advice.leading(advice.together(of_data(frame, compared.of)))
        if row is None:
            return
        show(f"So far: {answers.scored(row)}. {max(0.0, end - time.monotonic()) / 60:.1f} minutes are left.")
        shown = time.monotonic()

    return answer


def models_at_hand(kind: str) -> list[str]:
    """The pre-trained models for this kind of data that need not be downloaded."""
    found = []
    for name, row in MODELS.items():
        if kind in row.kinds and row.library != "ours":
            with suppress(InputError):  # it is not here
                find(name, fetch=False)
                found.append(name)
    return found


def every_run(data: Data, fixed: RunConfig, models: Sequence[str]) -> list[tuple[str, RunConfig]]:
    """Every run worth its time, for `grid.plan`: each method and model, several numbers of labels, five seeds.

    `fixed` holds the data set, and what else is the same in all.
    """
    notebook, given = NOTEBOOK_OF[data.kind], fixed.model_dump(exclude_unset=True)
    return [
        (notebook, read_parameters(notebook, given | cell, lambda *_: data.kind))
        for method in METHODS_TO_TRY
        if data.kind in METHODS[method].kinds
        for model in (models if METHODS[method].needs_model else models[:1])
        for fraction in checkup.steps(data).values()
        for seed in range(checkup.SEEDS)
        for cell in [{"method": method, "model": model, "data_fraction": fraction, "seed": seed}]
    ]


def seconds(priced: Sequence[Priced], workers: int) -> float:
    """How long those of these runs take that have no record yet."""
    return sum(one.seconds + one.predict_seconds + OVERHEAD_SECONDS for one in priced if not one.done) / workers


def within_budget(priced: Sequence[Priced], budget_seconds: float, workers: int) -> tuple[list[Priced], list[Priced]]:
    """The runs that fit the budget, in the order in which they come, and those that do not.

    All configurations run at the three smallest sizes, one of three seeds after the other, and then with three seeds at
    each larger size, because a method that did not run there cannot be compared. Last come the other two seeds. Of
    configurations that do not all fit at the three smallest sizes, the dearest over all sizes are left out altogether.
    The two cheapest are the least that can be compared, and are kept even if they do not fit; with seed 0 alone if
    three seeds do not.
    """
    costs: Counter[str] = Counter()
    for one in priced:
        costs[_configuration(one)] += 0.0 if one.done else one.seconds
    smallest = sorted({one.cell.config.data_fraction for one in priced})[:LEAST_SIZES]

    def rank(one: Priced) -> tuple[int, float, int]:
        size, seed = one.cell.config.data_fraction, one.cell.config.seed
        early = seed < stats.LEAST_SEEDS
        return (0, 0.0, seed) if early and size in smallest else (1 if early else 2, size, 0)

    names = sorted(costs, key=lambda name: (costs[name], name))
    first = [one for one in priced if rank(one)[0] == 0]
    while len(names) > LEAST_CONFIGURATIONS and seconds(_of(first, names), workers) > budget_seconds:
        names.pop()
    kept: list[Priced] = []
    for _, unit in itertools.groupby(sorted(_of(priced, names), key=rank), key=rank):
        more = [*kept, *unit]
        if kept and seconds(more, workers) > budget_seconds:
            break
        kept = more
    ids = {one.cell.id for one in kept}
    return kept, [one for one in priced if one.cell.id not in ids]


def _of(priced: Sequence[Priced], configurations: Collection[str]) -> list[Priced]:
    return [one for one in priced if _configuration(one) in configurations]


def without_a_run(kept: Sequence[Priced], left_out: Sequence[Priced]) -> list[str]:
    """The configurations of which no run is kept, and none was made before."""
    ran = [*kept, *(one for one in left_out if one.done)]
    return sorted({*map(_configuration, left_out)} - {*map(_configuration, ran)})


def plan_in_words(
    kept: Sequence[Priced],
    left_out: Sequence[Priced],
    untried: Sequence[str],
    available: int,
    budget_seconds: float,
    workers: int,
) -> Iterator[str]:
    """What is run and what is left out; `available` counts the examples of the whole train split."""
    due, given = seconds(kept, workers), answers.short(budget_seconds / 60)
    fits = "" if due <= budget_seconds else ", which is over the budget, but fewer runs could not be compared"
    yield f"{counted(len(kept), 'run')}, about {answers.short(due / 60)} of {given} minutes{fits}:"
    yield from _listed(kept, available)
    if left := sum(not one.done for one in left_out):
        without = f", among them every run of {', '.join(untried)}" if untried else ""
        yield f"Left out: {counted(left, 'run')}{without}. To include them, run again with a larger budget."


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return report.png_url(buffer.getvalue())


def _configuration(one: Priced) -> str:
    return " ".join(name for name in (one.cell.config.model, one.cell.config.method) if name != NO_MODEL)


def _listed(cells: Sequence[Priced], available: int) -> Iterator[str]:
    """For each configuration: its numbers of labels, those with the same seeds together."""
    seeds: dict[str, dict[float, list[int]]] = {}
    for one in cells:
        sizes = seeds.setdefault(_configuration(one), {})
        sizes.setdefault(one.cell.config.data_fraction, []).append(one.cell.config.seed)
    for configuration, sizes in seeds.items():
        alike: dict[str, list[str]] = {}
        for fraction, drawn in sizes.items():
            alike.setdefault(", ".join(map(str, sorted(drawn))), []).append(str(share_of(available, fraction)))
        words = [f"{', '.join(counts)} labels with seed{'s' * (', ' in each)} {each}" for each, counts in alike.items()]
        yield f"- {configuration}: {'; '.join(words)}"
