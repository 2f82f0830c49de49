"""Many runs: a grid, a search, and their state."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Exit, Option

from lrtl_utils.cli.common import LOCAL, Folder, NoCache, Results, Workers, interruptible, pair, require_package, show
from lrtl_utils.errors import InputError, counted, printable, require_name
from lrtl_utils.files import absolute_path, notebooks_folder, writable_folder


def shipped(grid: Path) -> Path:
    """The grid file; a name without a folder or suffix, `demo`, is one of the grids that come with the package."""
    if len(grid.parts) != 1 or grid.suffix or os.path.isfile(grid):
        return grid
    ours = notebooks_folder() / "grids"
    require_name("grid", str(grid), sorted(path.stem for path in ours.glob("*.yaml")))
    return ours / f"{grid}.yaml"


GRID_HELP = "A grid in YAML: your own file, or the name of one that comes with the package, such as demo."
Grid = Annotated[Path, Argument(help=GRID_HELP, callback=shipped)]
Deadline = Annotated[float | None, Option(min=1, help="Stop a run after this many seconds.")]


def sweep(
    grid: Grid,
    results: Results = LOCAL,
    workers: Workers = 1,
    deadline: Deadline = None,
    memory_limit: Annotated[
        float | None, Option(min=1, help="Stop a run that uses more than this many MiB of memory.")
    ] = None,
    on_oom: Annotated[
        Literal["fail", "halve"],
        Option(
            help="A run without enough memory fails, or is repeated with half the batch and twice the accumulation."
        ),
    ] = "fail",
    engine: Annotated[Literal["local", "dask", "slurm"], Option(help="What starts the workers.")] = "local",
    scheduler: Annotated[
        str | None, Option(help="Address of a Dask scheduler. Default: one is started on this machine.")
    ] = None,
    slurm: Annotated[
        list[str] | None, Option(help="name=value for dask-jobqueue (cores, memory, queue, …); may be repeated.")
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Estimate the cost, and run nothing.")] = False,
    price_per_hour: Annotated[float | None, Option(min=0, help="Price of one device hour, for --dry-run.")] = None,
    no_cache: NoCache = False,
) -> None:
    """Run every combination of a grid that has no completed record. If interrupted, run it again to continue."""
    from lrtl_utils.runs import store
    from lrtl_utils.runs.run import Run
    from lrtl_utils.sweep import engines
    from lrtl_utils.sweep.grid import plan, read_grid
    from lrtl_utils.sweep.sweep import sweep as run_cells

    job = slurm_parameters(slurm or [])
    if (job and engine != "slurm") or (scheduler and engine != "dask"):
        raise InputError("--slurm goes with --engine slurm, and --scheduler with --engine dask.")
    if price_per_hour is not None and not dry_run:
        raise InputError("--price-per-hour goes with --dry-run.")
    if engine != "local":
        require_package("distributed" if engine == "dask" else "dask_jobqueue")
        require_package("cryptography")
    if engine == "slurm":
        engines.require_resources(job, absolute_path(results))
    configs = read_grid(grid)
    store.require_apart(absolute_path(results), (asked for _, asked in configs))
    results = writable_folder(results)
    elsewhere = engine == "slurm" or scheduler is not None
    cells = plan(configs, Run.outline if dry_run else partial(Run, elsewhere=elsewhere))
    show([counted(len(configs), "cell"), counted(len(cells), "different cell")])
    if dry_run:
        from lrtl_utils.sweep import price
        from lrtl_utils.sweep.workers import last_of

        cells = [last_of(cell, results, on_oom)[0] for cell in cells]  # the half of a cell that ran out of memory
        threads = int(job["cores"]) if job else max(1, engines.cores() // workers)
        priced, how = price.estimate(cells, results, threads)
        show([*price.lines(priced, workers, price_per_hour), how])
        if engine == "slurm":
            print(engines.job_script(job))
        return
    start = {
        "local": engines.local,
        "dask": partial(engines.dask, address=scheduler),
        "slurm": partial(engines.slurm, parameters=job),
    }[engine]
    options = {"deadline_seconds": deadline, "memory_limit_mib": memory_limit, "on_oom": on_oom}
    options |= {"elsewhere": elsewhere, "shared": not no_cache}
    with interruptible("with the remaining runs"):
        outcome = run_cells(cells, results, workers=workers, engine=start, report=show, **options)
    show_outcome(outcome, cells, results)
    if outcome.left and engine != "local":
        show("The output of the Dask workers or of the SLURM jobs says why cells are left.")
    if outcome.failed or outcome.left:
        raise Exit(1)


def work(
    file: Annotated[Path, Argument(help="The plan of a sweep.")],
    threads: Annotated[int, Option(min=1)] = 1,
    gpu: Annotated[str | None, Option()] = None,
) -> None:
    """Run cells of a plan until none is left or standard input closes. An engine starts this on another machine."""
    from multiprocessing.connection import Connection

    from lrtl_utils.sweep import workers

    workers.work(file, workers.Slot(threads, gpu), Connection(os.dup(sys.stdin.fileno()), writable=False))


def search(
    space: Annotated[Path, Argument(help="A grid in YAML; each list in it is searched.", callback=shipped)],
    results: Results = LOCAL,
    trials: Annotated[
        int | None,
        Option(
            min=1,
            help="Number of settings to try (with --halving, to start). Default: a quarter of them all, at least 10.",
        ),
    ] = None,
    seed: Annotated[
        int, Option(min=0, max=2**31 - 1, help="Seed of the search. Scores are averaged over the grid's seeds.")
    ] = 0,
    halving: Annotated[
        int | None, Option(min=2, help="Use successive halving, and keep one setting in this many. Default: use TPE.")
    ] = None,
    fidelity: Annotated[
        str | None,
        Option(help="Parameter that successive halving increases. Default: epochs, else the number of examples."),
    ] = None,
    workers: Workers = 1,
    deadline: Deadline = None,
    replay: Annotated[
        int | None, Option(min=1, help="Run nothing; repeat the search this many times on the records of a grid.")
    ] = None,
) -> None:
    """Search a grid for its best setting by TPE or successive halving. Run it again to continue."""
    require_package("optuna")
    from lrtl_utils.study.benchmarks import replay as replays
    from lrtl_utils.sweep import search as searches

    if fidelity and not (halving or replay):
        raise InputError("--fidelity goes with --halving or --replay.")
    if replay and (trials or seed or deadline or workers > 1):
        raise InputError("--replay runs nothing, so --trials, --seed, --workers and --deadline do not go with it.")
    settings = searches.read_space(space)
    if replay:
        table, orders = searches.replays(settings, results, halving or 3, fidelity)
        path = replays.write_table(results, settings.name, [*settings.knobs], table, orders, replay)
        print(path.read_text(encoding="utf-8"), path, sep="\n")
        return
    options = {"trials": trials, "seed": seed, "keep": halving, "fidelity": fidelity}
    options |= {"workers": workers, "deadline_seconds": deadline, "report": show}
    with interruptible("with the remaining trials"):
        record = searches.search(settings, results, **options)
    show(searches.summary(record))
    if record["best"] is None:
        raise Exit(1)


def status(results: Folder = LOCAL) -> None:
    """Show the state of a sweep, from its folder alone: while it runs or later, on this machine or another."""
    from lrtl_utils.sweep import status as watch

    show(watch.status(results))


def slurm_parameters(pairs: list[str]) -> dict[str, Any]:
    """Parameters of dask-jobqueue; those that take a list collect the values of several options."""
    values: dict[str, list[str]] = {}
    for text in pairs:
        name, value = pair(text, "--slurm")
        values.setdefault(name, []).append(value)
    lists = {"job_extra_directives", "job_script_prologue", "job_directives_skip"}
    lists |= {"job_extra", "env_extra", "header_skip"}  # the names that these had earlier
    return {name: given if name in lists else given[-1] for name, given in values.items()}


def show_outcome(outcome: Any, cells: list[Any], results: Path) -> None:
    """Print what became of a sweep."""
    from lrtl_utils.sweep import estimates

    show(estimates.against(results, cells))
    left = f", {outcome.left} left undone" if outcome.left else ""
    show(f"{outcome.completed} completed, {outcome.found} already done, {len(outcome.failed)} failed{left}")
    for cell, reason in outcome.failed:
        print(printable(f"failed: {cell}: {reason}"), file=sys.stderr)
