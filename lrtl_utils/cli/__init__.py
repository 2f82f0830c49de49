"""The command line: `python -m lrtl_utils VERB`."""

import os
import sys
import warnings
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lrtl_utils.config import read_config
from lrtl_utils.errors import InputError, printable
from lrtl_utils.files import ROOT, results_folder

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

Results = Annotated[Path, typer.Option(help="Folder of records; relative to the repository's root.")]
Folder = Annotated[Path, typer.Argument(help="Folder of records; relative to the repository's root.")]


TextColumn = Annotated[str | None, typer.Option(help="Of your own files: what holds the input; guessed.")]
LabelColumn = Annotated[str | None, typer.Option(help="Of your own files: what holds the label; guessed.")]


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="A task notebook, without number and suffix: text_classification.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value; may be repeated.")] = None,
    results: Results = Path("results/local"),
    save_model: Annotated[Path | None, typer.Option(help="Folder to keep the trained model in.")] = None,
) -> None:
    """Run one notebook; the last line printed is the path of its record."""
    from lrtl_utils.deploy import export
    from lrtl_utils.runs import notebook as notebooks

    given = dict(_pair(text) for text in parameter or [])
    named = given.pop("save_model", save_model)
    kept = named and export.check(named)
    asked = notebooks.read_parameters(notebook, given)
    try:
        path = notebooks.run(notebook, asked, *notebooks.locate(asked), results_folder(results), kept)
    except notebooks.RunFailed as failure:
        print(failure.path)
        _complain(str(failure), code=1)
    except KeyboardInterrupt:
        _complain("Interrupted; the same command goes on from the last checkpoint.", code=130)
    if kept and (told := export.differs(kept, path)):
        print(printable(told), file=sys.stderr)
    print(path)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that --save-model wrote.")],
    file: Annotated[Path, typer.Argument(help="A table, a text file of a line each, a CoNLL file, or images.")],
    output: Annotated[Path | None, typer.Option(help="The CSV to write; FILE.predictions.csv.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Of a table; guessed where it has a usual name.")] = None,
) -> None:
    """Score a file by a kept model; the last line printed is the path of the CSV."""
    from lrtl_utils.deploy import predict as scoring

    print(scoring.predict(model, file, output, text_column))


class Engine(StrEnum):
    """Who starts the workers of a sweep."""

    local = "local"
    dask = "dask"
    slurm = "slurm"


class OnOom(StrEnum):
    """What becomes of a cell that ran out of memory."""

    fail = "fail"
    halve = "halve"


@app.command()
def sweep(
    grid: Annotated[Path, typer.Argument(help="A YAML grid: notebooks/grids/demo.yaml.")],
    results: Results = Path("results/local"),
    workers: Annotated[int, typer.Option(min=1, help="Cells at a time; the cores are divided among them.")] = 1,
    deadline: Annotated[float | None, typer.Option(min=1, help="Seconds after which a cell is ended.")] = None,
    memory_limit: Annotated[
        float | None, typer.Option(min=1, help="MiB of resident memory past which a cell is ended.")
    ] = None,
    on_oom: Annotated[OnOom, typer.Option(help="Out of memory: fail, or halve the batch and accumulate.")] = OnOom.fail,
    engine: Annotated[Engine, typer.Option(help="Who starts the workers.")] = Engine.local,
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler; without, one is started.")] = None,
    slurm: Annotated[
        list[str] | None, typer.Option(help="name=value for dask-jobqueue (cores, memory, …); may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell the price and run nothing.")] = False,
    price_per_hour: Annotated[float | None, typer.Option(min=0, help="Of a device, for --dry-run.")] = None,
    every_cell: Annotated[bool, typer.Option("--cells", help="With --dry-run, list every cell.")] = False,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Another folder of results, whose cells are not run again; repeatable.")
    ] = None,
) -> None:
    """Run every cell of a grid that has no record yet."""
    from lrtl_utils.runs import notebook as notebooks
    from lrtl_utils.sweep import engines, price
    from lrtl_utils.sweep import grid as grids
    from lrtl_utils.sweep import sweep as sweeps

    job = _slurm_parameters(slurm or [])
    if (job and engine != Engine.slurm) or (scheduler and engine != Engine.dask):
        raise InputError("--slurm goes with --engine slurm, and --scheduler with --engine dask.")
    start = {
        Engine.local: engines.local,
        Engine.dask: partial(engines.dask, address=scheduler),
        Engine.slurm: partial(engines.slurm, parameters=job),
    }[engine]
    configs = grids.read_grid(grid)
    cells = grids.plan(configs, price.outline if dry_run else notebooks.locate)
    _print_now(f"{len(configs)} cells")
    _print_now(f"{len(cells)} cells after clamping")
    for folder in beside or []:
        planned, cells = len(cells), grids.not_in(cells, folder)
        _print_now(f"{planned - len(cells)} of them are recorded in {folder}")
    if dry_run:
        _tell_price(cells, results, workers, price_per_hour, every_cell)
        if engine == Engine.slurm:
            print(engines.job_script(job))
        return
    try:
        outcome = sweeps.sweep(
            cells,
            results,
            workers=workers,
            deadline_seconds=deadline,
            memory_limit_mib=memory_limit,
            on_oom=on_oom.value,
            engine=start,
            report=_print_now,
        )
    except KeyboardInterrupt:
        _complain("Interrupted; the same command goes on with the cells that are left.", code=130)
    _tell_outcome(outcome, cells, results)
    if outcome.failed or outcome.left:
        raise typer.Exit(1)


@app.command(hidden=True)
def work(
    file: Annotated[Path, typer.Argument(help="The plan of a sweep.")],
    threads: Annotated[int, typer.Option(min=1)] = 1,
    gpu: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Claim and run cells of a plan until none is left or standard input closes: what an engine starts elsewhere."""
    from multiprocessing.connection import Connection

    from lrtl_utils.sweep import workers

    workers.work(file, workers.Slot(threads, gpu), Connection(os.dup(sys.stdin.fileno()), writable=False))


@app.command()
def search(
    space: Annotated[Path, typer.Argument(help="A YAML grid whose lists are the choices.")],
    results: Results = Path("results/local"),
    trials: Annotated[int | None, typer.Option(min=1, help="Settings to try; with --halving, to start with.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The search's; those of the runs are averaged.")] = 0,
    halving: Annotated[
        int | None, typer.Option(min=2, help="Successive halving, one in so many kept; else TPE.")
    ] = None,
    fidelity: Annotated[str | None, typer.Option(help="What halving raises: epochs (default), train_size.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Cells at a time; the cores are divided among them.")] = 1,
    deadline: Annotated[float | None, typer.Option(min=1, help="Seconds after which a cell is ended.")] = None,
    replay: Annotated[int | None, typer.Option(min=1, help="Run nothing: so many searches of a recorded grid.")] = None,
) -> None:
    """Look for the best setting of a grid by trying few: TPE, or successive halving; resumes."""
    from lrtl_utils.study.benchmarks import replay as replays
    from lrtl_utils.sweep import search as searches
    from lrtl_utils.sweep import strategies

    if fidelity and not (halving or replay):
        raise InputError("--fidelity goes with --halving or --replay.")
    settings = strategies.read_space(space)
    if replay:
        path = replays.write_table(settings, results, seeds=replay, keep=halving or 3, fidelity=fidelity)
        print(path.read_text(), path, sep="\n")
        return
    seeds = len(settings.combinations[0].cells)
    sampler = searches.choose_sampler(
        settings, seed=seed, keep=halving, fidelity=fidelity, at_once=max(1, workers // seeds)
    )
    options = {"trials": trials, "workers": workers, "deadline_seconds": deadline, "report": _print_now}
    try:
        record = searches.search(settings, results, sampler, **options)
    except KeyboardInterrupt:
        _complain("Interrupted; the same command goes on with the trials that are left.", code=130)
    print(*searches.summary(record), sep="\n")
    if record["best"] is None:
        raise typer.Exit(1)


@app.command()
def bench(
    grid: Annotated[Path, typer.Argument(help="The benchmark's grid.")] = Path("notebooks/grids/bench.yaml"),
    tuning: Annotated[Path, typer.Option(help="The grid that tunes `conventional` and `full`, run first.")] = Path(
        "notebooks/grids/bench_tuning.yaml"
    ),
    results: Results = Path("results/bench-local"),
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Run nothing; write the table of what is there.")
    ] = False,
) -> None:
    """Tune `conventional` and `full`, run every method beside it, and write the table; resumes."""
    from lrtl_utils.study.benchmarks import bench as benches
    from lrtl_utils.sweep import grid as grids
    from lrtl_utils.sweep import sweep as sweeps

    folder = results_folder(results)
    if not table_only:
        sweeps.sweep(grids.plan(grids.read_grid(tuning)), results, report=_print_now)
        cells = grids.read_grid(grid)
        sweeps.sweep(benches.cells(cells, benches.tuned(folder)), results, report=_print_now)
        benches.write_rung_zero(cells, folder)
    print(benches.write_table(folder))


@app.command()
def compare(
    dataset: Annotated[str, typer.Argument(help="A file or folder of your own, or a name.")],
    budget: Annotated[float, typer.Option(min=0, help="Minutes that the runs may take.")] = 30.0,
    results: Annotated[Path | None, typer.Option(help="Folder of records; results/compare-NAME.")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="No train example is in the test split too.")
    ] = False,
    model: Annotated[list[str] | None, typer.Option(help="May be repeated; else all that are on this machine.")] = None,
    parameter: Annotated[list[str] | None, typer.Option("-p", help="name=value, for every run.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Cells at a time; the cores are divided among them.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the data, tell the plan, and run nothing.")] = False,
) -> None:
    """Answer the four questions on a data set: check it, run a sweep that fits the budget, and say what came of it."""
    from lrtl_utils import comparison
    from lrtl_utils.data import load as tasks
    from lrtl_utils.study import checkup
    from lrtl_utils.sweep import engines, price
    from lrtl_utils.sweep import grid as grids
    from lrtl_utils.sweep import sweep as sweeps

    named = {"dataset": dataset, "text_column": text_column, "label_column": label_column, "drop_leaks": drop_leaks}
    fixed = read_config(dict(_pair(text) for text in parameter or []) | named)
    data = checkup.read(**tasks.reading(fixed))
    for line in [*checkup.page(data), "", "## What is run"]:
        _print_now(line)
    folder = results or Path("results") / f"compare-{data.name}"
    cells = grids.plan(comparison.wishes(data, fixed, model or comparison.models_at_hand(data.kind)))
    priced, how = price.estimate(cells, folder, max(1, engines.cores() // workers))
    kept, left_out = comparison.fit(priced, 60 * budget, workers)
    for line in [*comparison.lines(kept, left_out, len(data.train), 60 * budget, workers), how]:
        _print_now(line)
    if dry_run:
        return
    chosen = [one.cell for one in kept]
    try:
        outcome = sweeps.sweep(chosen, folder, workers=workers, report=_print_now)
    except KeyboardInterrupt:
        _complain("Interrupted; the same command goes on with the cells that are left.", code=130)
    _tell_outcome(outcome, chosen, folder)
    for line in ["", "## The answers", *comparison.answers(folder), "", "## Pictures, made by the summary notebooks"]:
        _print_now(line)
    summary(folder)
    report(folder)
    if outcome.failed or outcome.left:
        raise typer.Exit(1)


@app.command()
def summary(results: Results = Path("results/local")) -> None:
    """Execute the summary notebooks over a folder of records and say where their pictures are."""
    from lrtl_utils.runs import notebook as notebooks

    folder = results_folder(results)
    for path in notebooks.summary_notebooks():
        reason = notebooks.execute(path, {"results": str(folder)}, folder / "executed" / path.name)
        if reason:
            _complain(f"{path.name}: {reason}", code=1)
    pictures = sorted((folder / "figures").glob("*.png"))
    if not pictures:
        _complain(f"{folder} has no completed record to draw; `make demo` shows how they are made.", code=1)
    print(*pictures, sep="\n")


@app.command()
def report(results: Results = Path("results/local")) -> None:
    """Write a static site of a folder of records; the last line printed is the path of its index.html."""
    from lrtl_utils.study import report as reports

    print(reports.write(results))


@app.command()
def figures(
    folder: Annotated[Path, typer.Argument(help="Folder of notebooks.")] = Path("notebooks"),
) -> None:
    """Execute the summary notebooks in place, over the records that they name, and write the answers into the README
    beside them; same records, same bytes."""
    from lrtl_utils.runs import notebook as notebooks
    from lrtl_utils.study.benchmarks import readme

    folder = results_folder(folder)
    for path in notebooks.summary_notebooks(folder):
        notebooks.refresh(path)
        print(path)
    print(readme.refresh(folder.parent / "README.md", folder))


@app.command()
def status(results: Folder = Path("results/local")) -> None:
    """Say how a sweep stands, from its folder alone: on this machine or another, while it runs or after."""
    from lrtl_utils.sweep import status as watch

    for line in watch.status(results_folder(results)):
        _print_now(line)


@app.command()
def verify(results: Folder = Path("results/local")) -> None:
    """Check every record of a folder: schema, checksum, config hash, protocol; a line for each that fails."""
    from lrtl_utils.runs import verify as verifying

    folder = results_folder(results)
    report = verifying.verify(folder)
    for line in report.lines() if report.records else [f"There are no records below {folder / 'runs'}."]:
        _print_now(line)
    if report.faults:
        raise typer.Exit(1)


@app.command()
def doctor(
    dataset: Annotated[str | None, typer.Argument(help="A file or folder of your own to check, or a name.")] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Check the files of the mirror, without a network.")] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
) -> None:
    """Say what this machine has and where each data set and model would come from; or check a data set of your own."""
    from lrtl_utils.cli import doctor as doctors
    from lrtl_utils.data import sources
    from lrtl_utils.study import checkup

    lines, whole = doctors.mirror_report(sources.mirror()) if mirror else (doctors.report(), True)
    if dataset:
        lines = checkup.page(checkup.read(dataset, text_column=text_column, label_column=label_column))
    for line in lines:
        _print_now(line)
    if not whole:
        raise typer.Exit(1)


@app.command()
def fetch(
    datasets: Annotated[str | None, typer.Option(help="Names, with commas between.")] = None,
    models: Annotated[str | None, typer.Option(help="Names, with commas between.")] = None,
    to: Annotated[Path | None, typer.Option(help="The mirror; without, LRTL_MIRROR.")] = None,
) -> None:
    """Bring data sets and models of the hub, all unless some are named, into a folder that can be carried; resumes."""
    from lrtl_utils.data import fetch as fetching
    from lrtl_utils.data import sources

    mirror = ROOT / to.expanduser() if to else sources.mirror()
    named = [[name for name in (names or "").split(",") if name] for names in (datasets, models)]
    wanted = fetching.repositories(*named) if any(named) else fetching.repositories()
    try:
        failures = fetching.fetch(wanted, mirror, _print_now)
    except KeyboardInterrupt:
        _complain("Interrupted; the same command goes on from there.", code=130)
    print(mirror)
    if failures:
        _complain("; ".join(failures) + ". The same command goes on from there.", code=1)


def _tell_price(cells: list[Any], results: Path, workers: int, price_per_hour: float | None, every_cell: bool) -> None:
    from lrtl_utils.sweep import engines, price

    priced, how = price.estimate(cells, results, max(1, engines.cores() // workers))
    for line in [*price.lines(priced, workers, price_per_hour), how]:
        _print_now(line)
    for one in priced if every_cell else []:
        _print_now(f"{one.cell.identity} {'done' if one.done else f'{one.seconds:.3g} s'} {one.cell}")


def _tell_outcome(outcome: Any, cells: list[Any], results: Path) -> None:
    from lrtl_utils.sweep import price
    from lrtl_utils.sweep import status as watch

    overhead = watch.Watch(results_folder(results), [cell.identity for cell in cells]).look().overhead_seconds
    if outcome.completed and overhead is not None:
        _print_now(f"overhead: {overhead:.1f} s a cell beyond its clocked work (median)")
    for line in price.against(results):
        _print_now(line)
    left = f", {outcome.left} left undone" if outcome.left else ""
    _print_now(f"{outcome.completed} completed, {outcome.found} already done, {len(outcome.failed)} failed{left}")
    for cell, reason in outcome.failed:
        print(printable(f"failed: {cell}: {reason}"), file=sys.stderr)


def _slurm_parameters(pairs: list[str]) -> dict[str, Any]:
    """Parameters of dask-jobqueue; a name that is given more than once is a list."""
    values: dict[str, list[str]] = {}
    for text in pairs:
        name, value = _pair(text, "--slurm")
        values.setdefault(name, []).append(value)
    lists = {"job_extra_directives", "job_script_prologue", "job_directives_skip"}
    return {name: given if name in lists else given[-1] for name, given in values.items()}


def _pair(text: str, option: str = "-p") -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"{option} {text} has no '='; write {option} name=value.")
    return name, value


def _print_now(line: str) -> None:
    print(printable(line), flush=True)


def _complain(sentence: str, code: int) -> None:
    print(printable(sentence), file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    """Run the command line; what the user got wrong is one sentence on stderr and exit status 2."""
    warnings.formatwarning = lambda message, *_args, **_options: printable(f"warning: {message}") + "\n"
    try:
        app()
    except InputError as error:
        _complain(str(error), code=2)


if __name__ == "__main__":
    main()
