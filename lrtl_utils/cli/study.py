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

from typer import Argument, Exit, Option

from lrtl_utils.cli import common
from lrtl_utils.cli.common import fail, interruptible, pairs, require_package, show
from lrtl_utils.cli.sweep import Grid, shipped, show_outcome
from lrtl_utils.config import read_config
from lrtl_utils.files import absolute_path, existing_folder, notebooks_folder, writing_to

if TYPE_CHECKING:
    import pandas as pd


def compare(
    dataset: Annotated[str, Argument(help="Your own file or folder, or the name of a data set.")],
    budget: Annotated[float, Option(min=0, help="Minutes of wall-clock time, plan and report included.")] = 30.0,
    results: Annotated[Path | None, Option(help="Folder of the records. Default: results/compare-NAME.")] = None,
    text_column: common.TextColumn = None,
    label_column: common.LabelColumn = None,
    drop_leaks: Annotated[
        bool, Option("--drop-leaks", help="Leave out train examples that are also in the test split.")
    ] = False,
    model: Annotated[
        list[str] | None, Option(help="A model to compare; may be repeated. Default: all on this machine.")
    ] = None,
    metric: common.Metric = None,
    parameter: common.Parameters = None,
    workers: common.Workers = 1,
    dry_run: Annotated[bool, Option("--dry-run", help="Check the data, show the plan, and run nothing.")] = False,
    no_cache: common.NoCache = False,
) -> None:
    """Find the best method for a data set: check the data, run what fits the budget, and answer the four questions."""
    from lrtl_utils.data import load

    given = pairs(parameter or []) | ({"drop_leaks": True} if drop_leaks else {})
    asked = read_config(given)  # so that no name of an argument below is among them
    label, text = label_column or asked.label_column, text_column or asked.text_column
    load.kind_of(dataset, text, label)  # data that are not there are refused before torch is imported
    from lrtl_utils import comparison

    with interruptible("with the remaining runs"):
        options = {"models": model, "metric": metric, "workers": workers, "dry_run": dry_run, "shared": not no_cache}
        compared = comparison.compare(dataset, label, text, budget, results, show=show, **options, **given)
    if dry_run:
        return
    show_outcome(compared.outcome, compared.cells, compared.results)
    if compared.runs.empty:
        next_step = "the reasons are above" if compared.outcome.failed else "run it again with a larger --budget"
        fail(f"No run was completed, so there is nothing to compare; {next_step}.", code=1)
    show(["", "## The answers", *compared.lines(), "", "## Pictures, made by the summary notebooks"])
    summary(compared.results, metric)
    show(["", "## What to do now", *compared.advice(), "", "The page with every run, answer and picture:"])
    _site(compared.results, metric)
    if compared.outcome.failed:  # what is left when the budget is over is no failure
        raise Exit(1)


def summary(results: common.Folder = common.LOCAL, metric: common.Metric = None) -> None:
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


def report(results: common.Folder = common.LOCAL, metric: common.Metric = None) -> None:
    """Print the answers in a table and write a static web site. The last line printed is the path of its index.html."""
    from lrtl_utils.study import advice, tables
    from lrtl_utils.study.report import sources

    frame = tables.read(sources(existing_folder(results)), metric)
    if len(frame):
        rows, notes = advice.at_a_glance(frame)
        show([*_table(rows), "", *notes, advice.spent(frame), ""])
    _site(results, metric)


def _site(results: Path, metric: str | None) -> None:
    from lrtl_utils.study.report import write

    with _in_forks() as each, writing_to(absolute_path(results)):
        print(write(results, metric, each))


def _table(rows: "pd.DataFrame") -> Iterator[str]:
    """The lines of a table that is as wide as the terminal, or 100 columns elsewhere; no word is cut."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    columns = (Column(Text(name), overflow="fold") for name in rows)
    table = Table(*columns, box=SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True, leading=1)
    for row in rows.itertuples(index=False):
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 100, file=io.StringIO())
    console.print(table)
    yield from map(str.rstrip, console.file.getvalue().splitlines())


def figures(
    folder: Annotated[Path | None, Argument(help="Folder of notebooks. Default: the committed ones.")] = None,
) -> None:
    """Execute the summary notebooks in place, and write their answers.

    These go to README.md, docs/evidence.md and docs/progressive.md one folder up, and beside the records. On one
    machine, the same records give the same bytes.
    """
    from lrtl_utils.runs import notebook
    from lrtl_utils.study.benchmarks import readme
    from lrtl_utils.sweep import kernels

    folder = absolute_path(folder) if folder else notebooks_folder()
    paths = notebook.summary_notebooks(folder)
    with _in_forks([*kernels.IN_SUMMARIES, "nbclient"]) as each:
        for path, _ in zip(paths, each(partial(_in_fork, notebook.refresh), paths), strict=True):
            print(path)
    print(readme.refresh(folder.parent / "README.md", folder))


def confirm(
    grid: Grid = Path("confirmation"),
    tuning: Annotated[
        Path,
        Option(
            help="Grid in which the baselines are tuned. A search runs before the first block that needs it.",
            callback=shipped,
        ),
    ] = Path("tuning"),
    tuned: Annotated[Path, Option(help="Folder of the searches that tuned the baselines.")] = Path("results/tuning"),
    results: Annotated[Path | None, Option(help="Folder of the records. Default: results/GRID.")] = None,
    workers: common.Workers = 1,
) -> None:
    """Run a grid of frozen methods and tuned baselines, and write its table. Run it again to continue."""
    require_package("optuna")
    from lrtl_utils.study.benchmarks import recipe
    from lrtl_utils.study.benchmarks import tuning as baselines
    from lrtl_utils.sweep.grid import plan, read_blocks, read_grid
    from lrtl_utils.sweep.search import search, space_of
    from lrtl_utils.sweep.sweep import sweep

    folder, searches = absolute_path(results or Path("results", grid.stem)), absolute_path(tuned)
    incomplete = False
    with interruptible("with the remaining runs"):
        recipe.require_frozen(folder, [grid, tuning])
        spaces, options = baselines.spaces(read_grid(tuning)), {"workers": workers, "report": show}
        for block, cells in read_blocks(grid).items():
            needed = baselines.needed(cells, spaces)
            for name in sorted({*filter(None, needed)} - baselines.finished(searches, spaces)):
                show(f"{block} needs the search {name}.")
                search(space_of(name, spaces[name]), searches, trials=baselines.TRIALS, **options)
                show(str(baselines.write(searches)))
            show(f"{block}:")
            planned = plan(baselines.tuned(cells, needed, searches))
            outcome = sweep(planned, folder, shared=False, **options)  # every run is timed
            show_outcome(outcome, planned, folder)
            incomplete |= bool(outcome.failed or outcome.left)
    print(recipe.write(folder))
    if incomplete:
        raise Exit(1)
