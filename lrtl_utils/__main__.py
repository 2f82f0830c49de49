"""The command line: `python -m lrtl_utils VERB`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lrtl_utils.config import InputError, printable

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

Results = Annotated[Path, typer.Option(help="Folder of records; relative to the repository's root.")]
Folder = Annotated[Path, typer.Argument(help="Folder of records; relative to the repository's root.")]


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="A task notebook, without number and suffix: text_classification.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value; may be repeated.")] = None,
    results: Results = Path("results/local"),
) -> None:
    """Run one notebook; the last line printed is the path of its record."""
    from lrtl_utils import notebooks, runs

    asked = notebooks.read_parameters(notebook, dict(_pair(text) for text in parameter or []))
    try:
        path = notebooks.run(notebook, asked, *notebooks.locate(asked), runs.results_folder(results))
    except notebooks.RunFailed as failure:
        print(failure.path)
        _complain(str(failure), code=1)
    except KeyboardInterrupt:
        _complain("Interrupted; the same command goes on from the last checkpoint.", code=130)
    print(path)


@app.command()
def sweep(
    grid: Annotated[Path, typer.Argument(help="A YAML grid: notebooks/grids/demo.yaml.")],
    results: Results = Path("results/local"),
    workers: Annotated[int, typer.Option(min=1, help="Cells at a time; the cores are divided among them.")] = 1,
    deadline: Annotated[float | None, typer.Option(min=1, help="Seconds after which a cell is ended.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells and run none.")] = False,
) -> None:
    """Run every cell of a grid that has no record yet."""
    from lrtl_utils import grids, runs
    from lrtl_utils import sweep as sweeps

    configs = grids.read_grid(grid)
    cells = grids.plan(configs)
    print(f"{len(configs)} cells", f"{len(cells)} cells after clamping", sep="\n")
    if dry_run:
        folder = runs.results_folder(results)
        for cell in cells:
            print(cell.identity, "done" if runs.is_completed(cell.path(folder)) else "to run", cell)
        return
    try:
        outcome = sweeps.sweep(cells, results, workers=workers, deadline_seconds=deadline, report=_print_now)
    except KeyboardInterrupt:
        _complain("Interrupted; the same command goes on with the cells that are left.", code=130)
    print(f"{outcome.completed} completed, {outcome.found} already done, {len(outcome.failed)} failed")
    for cell, reason in outcome.failed:
        print(f"failed: {cell}: {reason}", file=sys.stderr)
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def bench(
    grid: Annotated[Path, typer.Argument(help="The benchmark's grid.")] = Path("notebooks/grids/bench.yaml"),
    tuning: Annotated[Path, typer.Option(help="The grid that tunes `conventional`, run first.")] = Path(
        "notebooks/grids/bench_tuning.yaml"
    ),
    results: Results = Path("results/bench-local"),
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Run nothing; write the table of what is there.")
    ] = False,
) -> None:
    """Tune `conventional`, run every method beside it, and write the table; resumes."""
    from lrtl_utils import bench as benches
    from lrtl_utils import grids, runs
    from lrtl_utils import sweep as sweeps

    folder = runs.results_folder(results)
    if not table_only:
        sweeps.sweep(grids.plan(grids.read_grid(tuning)), results, report=_print_now)
        sweeps.sweep(benches.cells(grids.read_grid(grid), benches.tuned(folder)), results, report=_print_now)
    print(benches.write_table(folder))


@app.command()
def summary(results: Results = Path("results/local")) -> None:
    """Execute the summary notebooks over a folder of records and say where their pictures are."""
    from lrtl_utils import notebooks, runs

    folder = runs.results_folder(results)
    for name in ("accuracy_vs_data", "accuracy_vs_cost"):
        output = folder / "executed" / f"{name}.ipynb"
        reason = notebooks.execute(notebooks.notebook_path(name), {"results": str(folder)}, output)
        if reason:
            _complain(f"{name}: {reason}", code=1)
    for picture in sorted((folder / "figures").glob("*.png")):
        print(picture)


@app.command()
def status(results: Folder = Path("results/local")) -> None:
    """Say how a sweep stands, from its folder alone: on this machine or another, while it runs or after."""
    from lrtl_utils import runs, watch

    for line in watch.status(runs.results_folder(results)):
        _print_now(line)


@app.command()
def verify(results: Folder = Path("results/local")) -> None:
    """Check every record of a folder: schema, checksum, config hash, protocol; a line for each that fails."""
    from lrtl_utils import runs
    from lrtl_utils import verify as verifying

    os.environ["HF_HUB_OFFLINE"] = "1"  # data that are here are looked at; none are fetched
    folder = runs.results_folder(results)
    report = verifying.verify(folder)
    for line in report.lines() if report.records else [f"There are no records below {folder / 'runs'}."]:
        _print_now(line)
    if report.faults:
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Say what this machine has, and for each data set and model where it would come from, or what is missing."""
    from lrtl_utils import doctor as doctors

    for line in doctors.report():
        print(line)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"-p {text} has no '='; write -p name=value.")
    return name, value


def _print_now(line: str) -> None:
    print(printable(line), flush=True)


def _complain(sentence: str, code: int) -> None:
    print(printable(sentence), file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    """Run the command line; what the user got wrong is one sentence on stderr and exit status 2."""
    try:
        app()
    except InputError as error:
        _complain(str(error), code=2)


if __name__ == "__main__":
    main()
