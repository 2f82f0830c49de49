"""What a grid will cost, told before it starts, and set against what it did cost."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrtl_utils.data import load as tasks
from lrtl_utils.files import data_name, results_folder, write_text
from lrtl_utils.runs import run as methods
from lrtl_utils.runs import store as runs
from lrtl_utils.runs.record import identity
from lrtl_utils.sweep.grid import Cell

if TYPE_CHECKING:
    from lrtl_utils.sweep.calibration import Job, Rates
    from lrtl_utils.sweep.workload import Load

ESTIMATE = "estimate.json"
BOX_SECONDS = 45.0  # for the calibration, less where the counting before it took long
IN_ALL_SECONDS = 65.0
IDLE = 0.8  # of a core, at least, is had by who times an idle machine
RECORD_KIB = 6.0  # of one run, as the demo grid's are
NOTEBOOK_KIB = 40.0  # of one executed, with its pictures, as the demo grid's are


@dataclass(frozen=True)
class Priced:
    """One cell with what it does and the device seconds that should take: on the clock, and to predict the test split.

    `done` cells have a completed record.
    """

    cell: Cell
    load: "Load"
    seconds: float
    predict_seconds: float
    done: bool


def estimate(cells: Sequence[Cell], results: str | Path, threads: int) -> tuple[list[Priced], str]:
    """Each cell priced for this machine with so many threads, and in a sentence how that was done.

    Times the machine for a minute at most. Kept in `<results>/estimate.json`, for `against`.
    """
    from lrtl_utils.sweep import calibration, workload

    results, began = results_folder(results), time.monotonic()
    done = {name for record in _completed(results) for name in _names(record)}
    jobs = []
    for cell in cells:
        known = workload.facts(**tasks.reading(cell.config))
        jobs.append(calibration.Job(cell.config, known, workload.load(cell.config, known)))
    counted, worked = time.monotonic(), time.process_time()
    rates = calibration.calibrate(jobs, threads, min(BOX_SECONDS, began + IN_ALL_SECONDS - counted))
    priced = [
        Priced(
            cell,
            job.load,
            min(job.seconds(rates, job.load.stages), cell.config.budget_seconds or float("inf")),
            job.seconds(rates, [job.load.test]),
            cell.id in done,
        )
        for cell, job in zip(cells, jobs, strict=True)
    ]
    expected = {p.cell.id: {"flops": p.load.flops, "device_seconds": p.seconds} for p in priced}
    write_text(results / ESTIMATE, json.dumps({"cells": expected}, indent=1))
    return priced, _how(jobs, rates, threads, time.monotonic() - counted, time.process_time() - worked)


def lines(priced: Sequence[Priced], workers: int, price_per_hour: float | None) -> Iterator[str]:
    """What is left to run will cost: in all, and for each data set, model and method."""
    left = [one for one in priced if not one.done]
    yield f"{len(priced) - len(left)} already done, {len(left)} to run"
    if not left:
        return
    hours, predicting = sum(one.seconds for one in left) / 3600, sum(one.predict_seconds for one in left) / 3600
    largest = max(left, key=lambda one: one.load.memory_mib)
    checkpoints = sorted((one.load.checkpoint_mib for one in left), reverse=True)[:workers]
    kept = len(left) * (RECORD_KIB + NOTEBOOK_KIB) / 1024
    yield f"estimated FLOPs: {sum(one.load.flops for one in left):.3g}"
    yield f"estimated device hours: {_round(hours)}, and off the clock {_round(predicting)} to predict the test splits"
    yield f"estimated peak memory: {largest.load.memory_mib:,.0f} MiB, weights included, for {largest.cell}"
    yield f"estimated disk: {kept:,.1f} MiB of records and notebooks, and up to {sum(checkpoints):,.0f} of checkpoints"
    if price_per_hour is not None:
        cost, beside = price_per_hour * hours, price_per_hour * predicting
        yield f"estimated money: {cost:,.2f} at {price_per_hour:g} a device hour, and {beside:,.2f} for the predictions"
    yield from _table(left)


def against(results: str | Path) -> list[str]:
    """The estimate that a dry run left in this folder, set against the records that came of it; nothing without one."""
    results = results_folder(results)
    if not (results / ESTIMATE).is_file():
        return []
    try:
        expected = json.loads((results / ESTIMATE).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{results / ESTIMATE} cannot be read; `sweep --dry-run` writes it anew."]
    found = [(name, record["cost"]) for record in _completed(results) for name in _names(record) & expected.keys()]
    if not found:
        return []
    compared = [f"of {len(found)} cells with a record, a dry run had estimated"]
    for what, key, unit in (("device hours", "device_seconds", 3600), ("FLOPs", "flops", 1)):
        estimated = sum(expected[name][key] for name, _ in found) / unit
        measured = sum(cost[key] for _, cost in found) / unit
        apart = 100 * (estimated / measured - 1)
        compared.append(f"{what}: {estimated:.3g} estimated, {measured:.3g} measured ({apart:+.0f} %)")
    return compared


def _completed(results: Path) -> Iterator[dict[str, Any]]:
    return (record for record in runs.records(results) if record["status"] == "completed")


def _names(record: Mapping[str, Any]) -> set[str]:
    """The run's id, and the one that `Run.outline` gives its config where data or weights are absent."""
    return {record["run_id"], identity(record, files=False)}


def _table(left: Sequence[Priced]) -> Iterator[str]:
    groups: dict[tuple[str, ...], list[Priced]] = {}
    for one in left:
        config = one.cell.config
        groups.setdefault((data_name(config.dataset), data_name(config.model), config.method), []).append(one)
    yield f"{'data set, model, method':44} {'cells':>6} {'FLOPs':>9} {'hours':>9} {'MiB':>8}"
    for names, ones in groups.items():
        flops, hours = sum(one.load.flops for one in ones), sum(one.seconds for one in ones) / 3600
        memory = max(one.load.memory_mib for one in ones)
        yield f"{' '.join(names):44} {len(ones):6} {flops:9.3g} {_round(hours):>9} {memory:8,.0f}"


def _round(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 1000 else f"{hours:.3g}"


def _how(jobs: Sequence["Job"], rates: "Rates", threads: int, seconds: float, worked: float) -> str:
    """How the figures were made; `worked` are the processor's seconds of those that the timing took."""
    running = [job for job in jobs if job.config.model != methods.NO_MODEL]
    timed, kinds = len({key for key, _ in rates}), len({job.key for job in running})
    device = runs.device_name(running[0].config.device if running else "cpu")
    absent = sorted({job.config.dataset for job in jobs if job.known.source is None})
    counts = f"; {', '.join(absent)}: row counts as published, the files are not here" if absent else ""
    busy = running and running[0].config.device == "cpu" and worked < IDLE * seconds
    others = f"; others kept this machine busy ({worked:.0f} s were ours), so hours are too high" if busy else ""
    return (
        f"FLOPs are counted. Of {kinds} kinds of cell {timed} were timed, {seconds:.0f} s in all, on random weights "
        f"and invented rows ({device}, threads a cell: {threads}){counts}{others}."
    )
