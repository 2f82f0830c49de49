"""Search instead of grid: the order of trials is learnt; the cells, their notebook and their records are the grid's."""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lrtl_utils.errors import InputError
from lrtl_utils.files import read_text, results_folder, write_text
from lrtl_utils.runs import store as runs
from lrtl_utils.sweep import strategies
from lrtl_utils.sweep.strategies import Combination, Space, Strategy
from lrtl_utils.sweep.sweep import sweep

LEAST_TRIALS = 10
COSTS = ("device_seconds", "flops")
AT_ONCE = {"at_once": 1}  # follows from the workers, of which a later call may have others


@dataclass(frozen=True)
class Result:
    """What a combination came to: its mean validation score over the seeds, or why it has none, and what it cost."""

    score: float | None
    error: str | None
    device_seconds: float
    flops: int


def recorded(combination: Combination, results: Path) -> Result | None:
    """From its cells' records. A failed one makes the combination a failure; else it is None while one is missing."""
    records = [record for cell in combination.cells if (record := runs.readable(cell.path(results)))]
    failed = [record["error"] for record in records if record["status"] == "failed"]
    if len(records) < len(combination.cells) and not failed:
        return None
    scores = [(record["validation"] or {}).get("score") for record in records]
    error = failed[0] if failed else "a record has no validation score" if None in scores else None
    return Result(
        score=None if error else sum(scores) / len(scores),
        error=error,
        device_seconds=sum(record["cost"]["device_seconds"] for record in records),
        flops=sum(record["cost"].get("flops", 0) for record in records),
    )


def choose_sampler(
    space: Space, *, seed: int = 0, keep: int | None = None, fidelity: str | None = None, at_once: int = 1
) -> dict[str, Any]:
    """What, beside the scores, decides the order of trials; successive halving where `keep` is given, else TPE."""
    if keep is None:
        start = strategies.startup_trials(space)
        return {"name": "tpe", "seed": seed, "startup_trials": start, "at_once": at_once}
    fidelity = strategies.find_fidelity(space, fidelity)
    return {"name": "halving", "seed": seed, "keep": keep, "fidelity": fidelity, "rungs": space.knobs[fidelity]}


def default_trials(space: Space, sampler: dict[str, Any]) -> int:
    """For TPE a quarter of the space, at least ten; halving starts with as many as leave one for the last rung."""
    if sampler["name"] == "halving":
        return strategies.bracket_size(space, sampler["fidelity"], sampler["keep"])
    return max(LEAST_TRIALS, -(-len(space.combinations) // 4))


def search(
    space: Space,
    results: str | Path,
    sampler: dict[str, Any],
    *,
    trials: int | None = None,
    workers: int = 1,
    deadline_seconds: float | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Try settings of the space: by TPE `trials` of them, by halving so many at the lowest rung.

    Their cells run as a sweep's do, and one with a record is not run again, whether a search or a grid made it: a
    search that was killed goes on where it was when it is called again. TPE is told first what is recorded already.
    A setting with a failed cell has failed and is not asked for again (a `sweep` of the space runs failed cells).

    Returns the search's own record, kept at `<results>/search/` and written anew after every trial.
    """
    started, in_cells = time.monotonic(), 0.0
    results = results_folder(results)
    judged = strategies.comparable(space, sampler.get("fidelity"))
    path = results / "search" / f"{space.name}-{sampler['name']}-seed{sampler['seed']}.json"
    record = _begin(path, space, sampler, results)
    earlier = record["cost"]["own_seconds"]

    def measure(positions: list[int]) -> list[Result]:
        nonlocal in_cells
        entered = time.monotonic()
        chosen = [space.combinations[at] for at in positions]
        cells = {cell.identity: cell for one in chosen if recorded(one, results) is None for cell in one.cells}
        if cells:
            tell = report if len(positions) > 1 else lambda line: None  # of a single trial its own line says enough
            sweep([*cells.values()], results, workers=workers, deadline_seconds=deadline_seconds, report=tell)
        in_cells += time.monotonic() - entered
        return [_found(one, results) for one in chosen]

    def save() -> None:
        record["cost"]["own_seconds"] = earlier + time.monotonic() - started - in_cells
        write_text(path, json.dumps(record, indent=1, allow_nan=False))

    save()
    strategy = _strategy(space, record["sampler"], record["known"], trials or default_trials(space, sampler))
    for at, result in follow(strategy, measure):
        _add_trial(record, space.combinations[at], result, counts=at in judged)
        save()
        report(_trial_line(record["trials"][-1]))
    grid = [recorded(combination, results) for combination in space.combinations]
    record["grid"] = total(grid) if all(grid) else None
    save()
    return record


def summary(record: dict[str, Any]) -> Iterator[str]:
    """The best setting, and what finding it cost, beside the whole grid where that is recorded."""
    best, cost, grid = record["best"], record["cost"], record["grid"]
    if record["known"]:
        yield f"{len(record['known'])} settings were recorded before the search began"
    yield f"best: {words(best['config'])}: validation score {best['score']:.4f}" if best else "no trial completed"
    spent = f"{cost['device_seconds']:.1f} device seconds, {cost['flops']:.3g} FLOPs"
    yield f"cost: {len(record['trials'])} trials, {spent}; the search itself {cost['own_seconds']:.1f} s"
    settings = f"the whole grid of {record['space']['combinations']} settings"
    if grid:
        share = cost["device_seconds"] / grid["device_seconds"]
        yield f"{settings}, as recorded: {grid['device_seconds']:.1f} device seconds; the search took {share:.0%} of it"
    else:
        yield f"{settings} is not recorded whole"


def follow(strategy: Strategy, measure: Callable[[list[int]], list[Result]]) -> Iterator[tuple[int, Result]]:
    """The positions that a strategy asks for, in order, with what `measure` says of them; each is measured once."""
    results: dict[int, Result] = {}
    asked = next(strategy, None)
    while asked is not None:
        new = [at for at in asked if at not in results]
        results |= zip(new, measure(new), strict=True)
        yield from ((at, results[at]) for at in new)
        try:
            asked = strategy.send([results[at].score for at in asked])
        except StopIteration:
            return


def total(results: Sequence[Result]) -> dict[str, float]:
    """What they cost together."""
    return {name: sum(getattr(result, name) for result in results) for name in COSTS}


def _strategy(space: Space, sampler: dict[str, Any], known: Sequence[dict[str, Any]], trials: int) -> Strategy:
    seed = sampler["seed"]
    if sampler["name"] == "halving":
        return strategies.halving([strategies.arms(space, seed, sampler["fidelity"])[:trials]], sampler["keep"])
    scores = {space.places[tuple(row["config"].values())]: row["score"] for row in known}
    return strategies.tpe(space, seed, scores, trials, sampler["at_once"])


def _begin(path: Path, space: Space, sampler: dict[str, Any], results: Path) -> dict[str, Any]:
    """The search's record before its first trial.

    What was known then, and how many trials were asked for at once, is taken from an earlier call of the same search,
    so that its own trials are asked for again in the same order, and found done.
    """
    ids = [cell.identity for one in space.combinations for cell in one.cells]
    about = {
        "name": space.name,
        "knobs": space.knobs,
        "seeds": sorted({cell.config.seed for one in space.combinations for cell in one.cells}),
        "combinations": len(space.combinations),
        "run_ids_sha256": hashlib.sha256(" ".join(ids).encode()).hexdigest(),
    }
    earlier = _earlier(path, about, sampler)
    known = earlier["known"] if earlier else _known(space, results) if sampler["name"] == "tpe" else []
    best = max((row for row in known if row["score"] is not None), key=lambda row: row["score"], default=None)
    record = {
        "schema": 1,
        "space": about,
        "sampler": earlier["sampler"] if earlier else sampler,
        "versions": {"python": platform.python_version(), "optuna": version("optuna")},
        "known": known,
        "trials": [],
        "best": best and best | {"trial": None},
        "cost": {"device_seconds": 0.0, "flops": 0, "own_seconds": earlier["cost"]["own_seconds"] if earlier else 0.0},
        "grid": None,
    }
    return record


def _earlier(path: Path, about: dict[str, Any], sampler: dict[str, Any]) -> dict[str, Any] | None:
    """The record of an earlier call of the same search; one that cannot be read is as good as none."""
    try:
        record = json.loads(read_text(path, runs.MOST_BYTES))
        same = record["space"] == about and record["sampler"] | AT_ONCE == sampler | AT_ONCE
        return record if same else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _known(space: Space, results: Path) -> list[dict[str, Any]]:
    found = [(one, recorded(one, results)) for one in space.combinations]
    return [{"config": one.values, "score": result.score} for one, result in found if result]


def _found(combination: Combination, results: Path) -> Result:
    result = recorded(combination, results)
    if result is None:
        raise InputError(f"{words(combination.values)} was left undone; call the search again.")
    return result


def _add_trial(record: dict[str, Any], combination: Combination, result: Result, counts: bool) -> None:
    """A row for the trial, and the sums and the best so far; a score that does not count cannot be the best."""
    trial = len(record["trials"]) + 1
    best, cost = record["best"], record["cost"]
    if counts and result.score is not None and (best is None or result.score > best["score"]):
        best = {"config": combination.values, "score": result.score, "trial": trial}
    spent = {name: cost[name] + getattr(result, name) for name in COSTS}
    row = {
        "trial": trial,
        "config": combination.values,
        "run_ids": [cell.identity for cell in combination.cells],
        **asdict(result),
        **{f"total_{name}": value for name, value in spent.items()},
        "best_score": best and best["score"],
    }
    record |= {"trials": [*record["trials"], row], "best": best, "cost": cost | spent}


def _trial_line(row: dict[str, Any]) -> str:
    outcome = f"failed: {row['error']}" if row["score"] is None else f"validation score {row['score']:.4f}"
    best = "none yet" if row["best_score"] is None else f"{row['best_score']:.4f}"
    return f"trial {row['trial']}: {words(row['config'])}: {outcome}, best {best}, {row['device_seconds']:.1f} s"


def words(values: dict[str, Any]) -> str:
    """A setting in one line, as it is typed."""
    return " ".join(f"{name}={value}" for name, value in values.items()) or "the only setting"
