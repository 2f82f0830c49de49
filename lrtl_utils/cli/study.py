"""What many runs say: the comparison on your own data, summaries, the report, and this project's own confirmation."""

import io
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrtl_utils.cli.common import (
    LOCAL,
    Folder,
    LabelColumn,
    Metric,
    NoCache,
    Parameters,
    Results,
    TextColumn,
    Workers,
    fail,
    interruptible,
    pairs,
    require_package,
    show,
    show_line,
)
from lrtl_utils.cli.sweep import Grid, shipped, show_outcome
from lrtl_utils.config import read_config
from lrtl_utils.files import absolute_path, existing_folder, notebooks_folder, writing_to

if TYPE_CHECKING:
    import pandas as pd


def compare(
    dataset: Annotated[str, typer.Argument(help="Your own file or folder, or the name of a data set.")],
    budget: Annotated[float, typer.Option(min=0, help="Minutes of wall-clock time, plan and report included.")] = 30.0,
    results: Annotated[Path | None, typer.Option(help="Folder of the records. Default: results/compare-NAME.")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="Leave out train examples that are also in the test split.")
    ] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="A model to compare; may be repeated. Default: all on this machine.")
    ] = None,
    metric: Metric = None,
    parameter: Parameters = None,
    workers: Workers = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the data, show the plan, and run nothing.")] = False,
    no_cache: NoCache = False,
) -> None:
    """Find the best method for a data set: check the data, run what fits the budget, and answer the four questions."""
    from lrtl_utils.data import load

    given = pairs(parameter or []) | ({"drop_leaks": True} if drop_leaks else {})
    read_config(given)  # so that no name of an argument below is among them
    load.kind_of(dataset, text_column, label_column)  # data that are not there are refused before torch is imported
    from lrtl_utils import comparison

    with interruptible("with the remaining runs"):
        compared = comparison.compare(
            dataset,
            label_column,
            text_column,
            budget,
            results,
            models=model,
            metric=metric,
            workers=workers,
            dry_run=dry_run,
            shared=not no_cache,
            show=show_line,
            **given,
        )
    if dry_run:
        return
    show_outcome(compared.outcome, compared.cells, compared.results)
    if compared.outcome.failed and compared.runs.empty:
        fail("No run was completed, so there is nothing to compare; what failed is said above.", code=1)
    show(["", "## The answers", *compared.lines(), "", "## Pictures, made by the summary notebooks"])
    summary(compared.results, metric)
    show(["", "## What to do now", *compared.advice(), "", "The page with every run, answer and picture:"])
    _site(compared.results, metric)
    if compared.outcome.failed:  # what is left when the budget is over is no failure
        raise typer.Exit(1)


def summary(results: Folder = LOCAL, metric: Metric = None) -> None:
    """Execute the summary notebooks on a folder of records, and print the paths of their pictures."""
    from lrtl_utils.runs import notebook
    from lrtl_utils.study import tables
    from lrtl_utils.sweep import kernels

    folder = existing_folder(results)
    tables.records(folder, "completed", metric)  # so that the forks need not read them, and the metric is one of theirs
    paths, call = notebook.summary_notebooks(), partial(notebook.summarise, folder, metric)
    with _in_forks([*kernels.IN_SUMMARIES, "papermill"]) as each:
        for path, reason in zip(paths, each(partial(_in_fork, call), paths), strict=True):
            if reason:
                fail(f"{path.name}: {reason}", code=1)
    pictures = sorted((folder / "figures").glob("*.png"))
    if not pictures:
        fail(f"{folder} has no completed record to draw; `lrtl sweep demo` makes some.", code=1)
    print(*pictures, sep="\n")


@contextmanager
def _in_forks(modules: Sequence[str] = ()) -> Iterator[Callable[..., Iterable[Any]]]:
    """A `map` that makes its calls in forks of this process, one for each core; where forks are unsafe, the plain one.

    This process imports `modules` first, so that its forks need not.
    """
    if sys.platform != "linux":
        yield map
        return
    from lrtl_utils.sweep import engines, kernels

    if "torch" in sys.modules:  # it may have started threads, and a fork of this process would be unsafe
        context = engines.clean_forks()
    else:
        kernels.import_all(modules)
        context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(engines.cores(), context) as forks:
        yield forks.map


def _in_fork(call: Callable[[Path], Any], path: Path) -> Any:
    from lrtl_utils.sweep import kernels

    with kernels.forked_kernel(kernels.IN_SUMMARIES):
        return call(path)


def report(results: Folder = LOCAL, metric: Metric = None) -> None:
    """Print the answers in a table and write a static web site. The last line printed is the path of its index.html."""
    from lrtl_utils.study import advice, tables

    frame = tables.read(results, metric)
    if len(frame):
        show([*_table(advice.at_a_glance(frame)), advice.spent(frame), ""])
    _site(results, metric)


def _site(results: Path, metric: str | None) -> None:
    from lrtl_utils.study.report import write

    with _in_forks() as each, writing_to(absolute_path(results)):
        print(write(results, metric, each))


def _table(rows: "pd.DataFrame") -> Iterator[str]:
    """The lines of a table that is as wide as the terminal, or 100 columns elsewhere."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*rows.columns, box=SIMPLE, pad_edge=False)
    for row in rows.itertuples(index=False):
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 100, file=io.StringIO())
    console.print(table)
    yield from (line.rstrip() for line in console.file.getvalue().splitlines() if line.strip())


def figures(
    folder: Annotated[Path | None, typer.Argument(help="Folder of notebooks. Default: the committed ones.")] = None,
) -> None:
    """Execute the committed summary notebooks in place and write their answers into the README beside them.

    The same records give the same bytes.
    """
    from lrtl_utils.runs import notebook
    from lrtl_utils.study.benchmarks import readme
    from lrtl_utils.sweep import kernels

    folder = absolute_path(folder) if folder else notebooks_folder()
    paths = notebook.summary_notebooks(folder)
    with _in_forks([*kernels.IN_SUMMARIES, "papermill"]) as each:
        for path, _ in zip(paths, each(partial(_in_fork, notebook.refresh), paths), strict=True):
            print(path)
    print(readme.refresh(folder.parent / "README.md", folder))


def confirm(
    grid: Grid = Path("confirmation"),
    tuning: Annotated[
        Path,
        typer.Option(
            help="The space in which the baselines are tuned; a block's searches come before it.", callback=shipped
        ),
    ] = Path("tuning"),
    tuned: Annotated[Path, typer.Option(help="The folder of these searches.")] = Path("results/tuning"),
    results: Results = Path("results/confirmation"),
    workers: Workers = 1,
) -> None:
    """Run the frozen recipe against tuned baselines on data that were not used to choose it; can be continued."""
    require_package("optuna")
    from lrtl_utils.study.benchmarks import recipe
    from lrtl_utils.study.benchmarks import tuning as baselines
    from lrtl_utils.sweep.grid import plan, read_blocks, read_grid
    from lrtl_utils.sweep.search import search, space_of
    from lrtl_utils.sweep.sweep import sweep

    searches, folder, incomplete = absolute_path(tuned), absolute_path(results), False
    with interruptible("with the remaining runs"):
        recipe.require_frozen(folder, [grid, tuning])
        spaces, options = baselines.spaces(read_grid(tuning)), {"workers": workers, "report": show_line}
        for block, cells in read_blocks(grid).items():
            needed = baselines.needed(cells, spaces)
            for name in sorted({*filter(None, needed)} - baselines.finished(searches, spaces)):
                show_line(f"{block} needs the search {name}.")
                search(space_of(name, spaces[name]), searches, trials=baselines.TRIALS, **options)
                show_line(str(baselines.write(searches)))
            show_line(f"{block}:")
            planned = plan(baselines.tuned(cells, needed, searches))
            outcome = sweep(planned, folder, shared=False, **options)  # every run is timed
            show_outcome(outcome, planned, folder)
            incomplete |= bool(outcome.failed or outcome.left)
    print(recipe.write(folder))
    if incomplete:
        raise typer.Exit(1)
