"""Search instead of a grid: Optuna chooses which settings of a grid file to try. Their runs are those of a sweep."""

import hashlib
import itertools
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from lrtl_utils.config import SIZES, RunConfig, derived_seed
from lrtl_utils.errors import InputError, Unreadable, counted, require_name
from lrtl_utils.files import absolute_path, read_text, write_text
from lrtl_utils.runs import store
from lrtl_utils.sweep.grid import Cell, each_cell, read_grid
from lrtl_utils.sweep.sweep import sweep

FIDELITIES = ("epochs", *SIZES)
LEAST_TRIALS = 10
MOST_REPEATS = 100  # of settings that are known, before one that is left is drawn at random
Climb = tuple[int, ...]  # positions of the settings that differ in the fidelity only, fidelity ascending


@dataclass(frozen=True)
class Setting:
    """One combination of values, with a cell for each seed and data set."""

    values: dict[str, Any]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Space:
    """The distinct settings of a grid file, and the knobs in which they differ with their choices, numbers ascending.

    `places` maps a choice for every knob, in the order of the knobs, to the position of its setting. Choices that
    clamping makes identical share a setting.
    """

    name: str
    knobs: dict[str, list[Any]]
    settings: list[Setting]
    places: dict[tuple[Any, ...], int]


@dataclass(frozen=True)
class Result:
    """The mean validation score of a setting over its cells, or why it has none, and what its runs cost."""

    score: float | None
    error: str | None
    device_seconds: float
    flops: int
    cached_seconds: float = 0.0  # of the device seconds, those that runs took from the cache of a sweep


Measure = Callable[[list[int]], list[Result]]  # runs the settings at these positions


def read_space(path: str | Path) -> Space:
    """The space that a grid file describes, as `space_of`."""
    return space_of(Path(path).stem, read_grid(path))


def space_of(name: str, grid: Sequence[tuple[str, RunConfig]]) -> Space:
    """The space that the cells of a grid make. A setting's score is its mean over the seeds and the data sets in it.

    `InputError` if a cell has no validation split, or if a setting lacks a data set or a seed that another has.
    """
    groups: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for (notebook, asked), cell in zip(grid, each_cell(grid), strict=True):
        if not cell.config.validation_share:
            raise InputError(f"{name}: {cell} has no validation split; give a validation_share, such as 0.2.")
        groups.setdefault((notebook, asked.model_copy(update={"seed": 0, "dataset": ""})), {})[cell.id] = cell
    drawn = {frozenset((cell.config.dataset, cell.config.seed) for cell in each.values()) for each in groups.values()}
    if len(drawn) > 1:
        raise InputError(
            f"{name}: settings that differ in data sets or seeds cannot be compared; give every setting the same ones."
        )
    distinct: dict[tuple[str, ...], RunConfig] = {}
    for (_, asked), cells in groups.items():
        distinct.setdefault(tuple(cells), asked)
    varied = [name for name in RunConfig.model_fields if len({getattr(one, name) for one in distinct.values()}) > 1]
    choices = {name: list(dict.fromkeys(getattr(asked, name) for _, asked in groups)) for name in varied}
    knobs = {name: sorted(c) if _are_numbers(c) else c for name, c in choices.items()}
    numbers = {ids: at for at, ids in enumerate(distinct)}
    settings: dict[int, Setting] = {}
    places: dict[tuple[Any, ...], int] = {}
    for (_, asked), cells in groups.items():
        values, at = {name: getattr(asked, name) for name in knobs}, numbers[tuple(cells)]
        settings.setdefault(at, Setting(values, tuple(cells.values())))
        places.setdefault(tuple(values.values()), at)
    return Space(name, knobs, list(settings.values()), places)


def comparable(space: Space, fidelity: str | None) -> set[int]:
    """The settings whose scores may be compared: all, or those with the most examples where that is the fidelity.

    `InputError` if they differ in the number of examples and it is not the fidelity: more examples would always win.
    """
    for name in (*SIZES, "validation_share"):
        if name in space.knobs and name != fidelity:
            way = f"one value, or search with --halving 3 --fidelity {name}" if name in SIZES else "one value"
            raise InputError(f"{space.name}: settings that differ in {name} cannot be compared; give it {way}.")
    most = space.knobs[fidelity][-1] if fidelity in SIZES else None
    return {at for at, setting in enumerate(space.settings) if most is None or setting.values[fidelity] == most}


def find_fidelity(space: Space, asked: str | None) -> str:
    """The knob that successive halving raises: the one asked for, else epochs, else a number of examples."""
    if asked is not None:
        require_name("fidelity", asked, FIDELITIES)
    for name in [asked] if asked else FIDELITIES:
        if _are_numbers(space.knobs.get(name, [None])):
            return name
    name = asked or f"one of {', '.join(FIDELITIES)}"
    raise InputError(f"{space.name}: successive halving raises a number; give a list of numbers for {name}.")


def recorded(setting: Setting, results: Path) -> Result | None:
    """The result of a setting from its records; one failed run makes it fail. None while a record is missing."""
    records = [record for cell in setting.cells if (record := store.readable(cell.path(results)))]
    failed = [record["error"] for record in records if record["status"] == "failed"]
    if len(records) < len(setting.cells) and not failed:
        return None
    scores = [(record["validation"] or {}).get("score") for record in records]
    error = failed[0] if failed else "a record has no validation score" if None in scores else None
    return Result(
        score=None if error else sum(scores) / len(scores),
        error=error,
        device_seconds=sum(record["cost"]["device_seconds"] for record in records),
        cached_seconds=sum(record["cost"].get("cached_seconds", 0.0) for record in records),
        flops=sum(record["cost"].get("flops", 0) for record in records),
    )


def search(
    space: Space,
    results: str | Path,
    *,
    trials: int | None = None,
    seed: int = 0,
    keep: int | None = None,
    fidelity: str | None = None,
    workers: int = 1,
    deadline_seconds: float | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run `trials` settings of the space (None: a quarter, at least ten), chosen as in `explore`.

    A cell that has a record is not run again, whether a search or a sweep made it, so a search that was killed goes on
    when it is called again. A setting with a failed run has failed; a sweep of the same file runs failed cells again.
    Returns the search's own record, kept at `<results>/search/` and written again after every trial. It keeps the
    trials of earlier calls, although this one may ask for fewer.
    """
    started, running = time.monotonic(), 0.0
    results = absolute_path(results)
    fidelity = find_fidelity(space, fidelity) if keep else None
    judged = comparable(space, fidelity)
    at_once = max(1, workers // len(space.settings[0].cells))
    sampler = {"name": "halving" if keep else "tpe", "seed": seed, "keep": keep, "fidelity": fidelity}
    store.require_apart(results, (cell.asked for setting in space.settings for cell in setting.cells))
    path, record, rows = _begin(space, sampler, at_once, results)
    earlier = record["cost"]["own_seconds"]

    def measure(positions: list[int]) -> list[Result]:
        nonlocal running
        entered, chosen = time.monotonic(), [space.settings[at] for at in positions]
        cells = {cell.id: cell for setting in chosen if not recorded(setting, results) for cell in setting.cells}
        if cells:
            options = {"workers": workers, "deadline_seconds": deadline_seconds, "report": report}
            sweep([*cells.values()], results, shared=False, **options)  # what a search costs is measured
        running += time.monotonic() - entered
        found = [recorded(setting, results) for setting in chosen]
        if None in found:
            raise InputError(f"{words(chosen[found.index(None)].values)} was not run; run the same search again.")
        return found

    def save() -> None:
        record["cost"]["own_seconds"] = earlier + time.monotonic() - started - running
        write_text(path, json.dumps(record, indent=1, allow_nan=False))

    done = set()
    for row in rows:  # if this call asks for fewer or is killed, or another version of Optuna chooses others, they stay
        at = space.places[tuple(row["config"].values())]
        if result := recorded(space.settings[at], results):
            report(_add_trial(record, space.settings[at], result, counts=at in judged))
            done.add(at)
    save()
    known = {space.places[tuple(row["config"].values())]: row["score"] for row in record["known"]}
    options = {"seed": seed, "keep": keep, "fidelity": fidelity, "at_once": record["at_once"], "known": known}
    for at, result in explore(space, measure, trials, **options):
        if at not in done:
            line = _add_trial(record, space.settings[at], result, counts=at in judged)
            save()
            report(line)
    save()
    return record


def explore(
    space: Space,
    measure: Measure,
    trials: int | None = None,
    *,
    seed: int = 0,
    keep: int | None = None,
    fidelity: str | None = None,
    at_once: int = 1,
    known: Mapping[int, float | None] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Positions of settings in the order in which they are tried, each with what `measure` gave for it.

    The tree-structured Parzen estimator (Bergstra et al. 2011) of Optuna chooses. Its settings are published ones,
    chosen before any grid was looked at: multivariate, and d + 1 random trials for d knobs (BOHB, Falkner et al. 2018).
    Numbers are given to it as ordered ranks, whatever their scale. It learns the scores of `known` settings first.

    With a `fidelity` a trial is a choice of the other knobs. It is measured at the lowest value of the fidelity, then
    at the next for as long as Optuna's asynchronous successive halving (Li et al. 2020), which goes on with one in
    `keep`, does not stop it.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    knobs = {name: choices for name, choices in space.knobs.items() if name != fidelity}
    distributions = {name: _distribution(choices) for name, choices in knobs.items()}
    climbs = _climbs(space, fidelity)
    ranks = {climb: dict(zip(knobs, chosen, strict=True)) for chosen, climb in reversed(climbs.items())}
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=len(knobs) + 1),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=keep) if keep else None,
    )
    for at, score in (known or {}).items():
        state = TrialState.FAIL if score is None else TrialState.COMPLETE
        trial = optuna.trial.create_trial(params=ranks[at,], distributions=distributions, value=score, state=state)
        study.add_trial(trial)
    left = [climb for climb in dict.fromkeys(climbs.values()) if climb[0] not in (known or {})]
    trials = min(trials or max(LEAST_TRIALS, -(-len(ranks) // 4)), len(left))
    random, results = np.random.default_rng(derived_seed(seed, "search")), {}
    while trials > 0:
        batch: dict[Climb, optuna.Trial] = {}
        repeated: list[optuna.Trial] = []  # open while others are asked for, so that Optuna turns elsewhere
        while len(batch) < min(at_once, trials):
            if len(repeated) >= MOST_REPEATS:
                study.enqueue_trial(ranks[left[random.integers(len(left))]])
            trial = study.ask(distributions)
            climb = climbs.get(tuple(trial.params[name] for name in knobs))
            if climb in left:
                left.remove(climb)
                batch[climb] = trial
            else:
                repeated.append(trial)
        trials -= len(batch)
        yield from _climb(study, batch, measure, results, keep)
        for trial in repeated:
            study.tell(trial, state=TrialState.FAIL)


def _climb(
    study: optuna.Study,
    batch: dict[Climb, optuna.Trial],
    measure: Measure,
    results: dict[int, Result],
    keep: int | None,
) -> Iterator[tuple[int, Result]]:
    """Measure a batch of trials at rung after rung, until each has failed, is pruned, or is at its top."""
    for rung in itertools.count():
        new = [at for at in dict.fromkeys(climb[rung] for climb in batch) if at not in results]
        results |= zip(new, measure(new), strict=True)
        yield from ((at, results[at]) for at in new)
        for climb, trial in [*batch.items()]:
            score = results[climb[rung]].score
            if score is not None and climb[rung] != climb[-1]:
                trial.report(score, keep**rung)
                if not trial.should_prune():
                    continue
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, score, state=TrialState.FAIL if score is None else None)
            del batch[climb]
        if not batch:
            return


def _climbs(space: Space, fidelity: str | None) -> dict[tuple[int, ...], Climb]:
    """For the ranks of a choice of every knob but the fidelity: the positions of its settings, fidelity ascending."""
    rungs = space.knobs[fidelity] if fidelity else [None]
    found: dict[tuple[int, ...], dict[Any, int]] = {}
    for choice, at in space.places.items():
        values = dict(zip(space.knobs, choice, strict=True))
        rung = values.pop(fidelity, None)
        found.setdefault(tuple(space.knobs[name].index(value) for name, value in values.items()), {})[rung] = at
    if any(len(climb) < len(rungs) for climb in found.values()):
        of = f"{fidelity}: {', '.join(map(str, rungs))}"
        raise InputError(f"{space.name}: successive halving needs every setting with each value of {of}.")
    return {ranks: tuple(climb[rung] for rung in rungs) for ranks, climb in found.items()}


def _are_numbers(choices: Sequence[Any]) -> bool:
    return all(isinstance(choice, int | float) for choice in choices)


def _distribution(choices: Sequence[Any]) -> BaseDistribution:
    """The ranks of the choices, ordered where these are numbers."""
    ranks = range(len(choices))
    return IntDistribution(0, ranks[-1]) if _are_numbers(choices) else CategoricalDistribution(ranks)


def replays(
    space: Space, results: str | Path, keep: int, fidelity: str | None
) -> tuple[pd.DataFrame, dict[str, Callable[[int], Iterator[int]]]]:
    """What searches of a recorded grid can be computed from, without a run: a row for each setting, and the searches.

    A search gives for a seed the rows in the order in which it tries them. `InputError` if a setting has no record.
    """
    results = absolute_path(results)
    grid = [recorded(setting, results) for setting in space.settings]
    if missing := grid.count(None):
        raise InputError(
            f"{results} has no record of {missing} of the {len(grid)} settings of {space.name}; "
            "run `lrtl sweep` on the same file there first."
        )
    if fidelity or any(_are_numbers(space.knobs.get(name, [None])) for name in FIDELITIES):
        fidelity = find_fidelity(space, fidelity)
    judged = comparable(space, fidelity)
    if any(result.cached_seconds for result in grid):
        raise InputError(
            f"{results} has runs that reused work from a cache, so their seconds cannot be compared; run `lrtl sweep "
            "--no-cache` on the same file with another --results folder."
        )
    table = pd.DataFrame(map(asdict, grid)).assign(
        comparable=[at in judged for at in range(len(grid))],
        paths=[[cell.path(results) for cell in setting.cells] for setting in space.settings],
    )

    def order(**options: Any) -> Iterator[int]:
        return (at for at, _ in explore(space, lambda asked: [grid[at] for at in asked], len(grid), **options))

    searches = {}
    if fidelity not in SIZES:  # else only halving compares settings that saw as many examples
        searches["TPE"] = lambda seed: order(seed=seed)
    if fidelity:
        halving = f"halving over {fidelity}, 1/{keep} kept"
        searches[halving] = lambda seed: order(seed=seed, keep=keep, fidelity=fidelity)
    return table, searches


def summary(record: dict[str, Any]) -> Iterator[str]:
    """The best setting, and what finding it cost."""
    best, cost = record["best"], record["cost"]
    if known := len(record["known"]):
        yield f"{counted(known, 'setting')} {'was' if known == 1 else 'were'} recorded before the search began"
    yield f"best: {words(best['config'])}: validation score {best['score']:.4f}" if best else "no trial completed"
    if failed := sum(row["score"] is None for row in [*record["known"], *record["trials"]]):
        again = "a search tries no failed setting again, but `lrtl sweep` of the same grid does"
        yield f"{counted(failed, 'setting')} failed; {again}"
    spent = f"{cost['device_seconds']:.1f} device seconds, {cost['flops']:.3g} FLOPs"
    yield f"cost: {counted(len(record['trials']), 'trial')}, {spent}; the search itself {cost['own_seconds']:.1f} s"


def _begin(
    space: Space, sampler: dict[str, Any], at_once: int, results: Path
) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    """Where the search's record is, the record before its first trial, and the trials of an earlier call.

    What was known then, and how many trials are asked for at once, is taken from an earlier call of the same search:
    it then asks for its own trials again, in the same order, and finds them done. Another search of the same name, such
    as one of the grid before it was edited, keeps its file, and this one gets the next: `-2.json`.
    """
    ids = " ".join(cell.id for setting in space.settings for cell in setting.cells)
    about = {
        "name": space.name,
        "knobs": space.knobs,
        "seeds": sorted({cell.config.seed for setting in space.settings for cell in setting.cells}),
        "settings": len(space.settings),
        "run_ids_sha256": hashlib.sha256(ids.encode()).hexdigest(),
    }
    found = [] if sampler["keep"] else [(setting, recorded(setting, results)) for setting in space.settings]
    known = [{"config": setting.values} | asdict(result) for setting, result in found if result]
    own_seconds, rows = 0.0, []
    for number in itertools.count(1):
        stem = f"{space.name}-{sampler['name']}-seed{sampler['seed']}" + (f"-{number}" if number > 1 else "")
        path = results / "search" / f"{stem}.json"
        try:
            earlier = json.loads(read_text(path, store.MOST_BYTES))
            if (earlier["space"], earlier["sampler"]) != (about, sampler):
                continue
            at_once, own_seconds = earlier["at_once"], earlier["cost"]["own_seconds"]
            known = [_as_it_is_now(row, space, results) for row in earlier["known"]]
            rows = earlier["trials"]
        except Unreadable:  # it may be a whole record, which must not be written over
            raise
        except (ValueError, KeyError, TypeError, RecursionError):
            pass  # what is no record is as good as none
        break
    best = max((row for row in known if row["score"] is not None), key=lambda row: row["score"], default=None)
    record = {
        "schema": 2,
        "space": about,
        "sampler": sampler,
        "at_once": at_once,
        "versions": {"python": platform.python_version(), "optuna": version("optuna")},
        "known": known,
        "trials": [],
        "best": best and {"config": best["config"], "score": best["score"], "trial": None},
        "cost": {"device_seconds": 0.0, "flops": 0, "own_seconds": own_seconds},
    }
    return path, record, rows


def _as_it_is_now(row: dict[str, Any], space: Space, results: Path) -> dict[str, Any]:
    """A setting that was known before the search: meanwhile a sweep may have run again what had failed."""
    result = recorded(space.settings[space.places[tuple(row["config"].values())]], results)
    return row | asdict(result) if result else row


def _add_trial(record: dict[str, Any], setting: Setting, result: Result, counts: bool) -> str:
    """Add a trial and its cost, make it the best if it counts and is, and return what to report about it."""
    trial, cost = len(record["trials"]) + 1, record["cost"]
    ids = [cell.id for cell in setting.cells]
    record["trials"].append({"trial": trial, "config": setting.values, "run_ids": ids} | asdict(result))
    cost["device_seconds"] += result.device_seconds
    cost["flops"] += result.flops
    best = record["best"]
    if counts and result.score is not None and (best is None or result.score > best["score"]):
        best = record["best"] = {"config": setting.values, "score": result.score, "trial": trial}
    outcome = f"failed: {result.error}" if result.score is None else f"validation score {result.score:.4f}"
    so_far = f"{best['score']:.4f}" if best else "none yet"
    return f"trial {trial}: {words(setting.values)}: {outcome}, best {so_far}, {result.device_seconds:.1f} s"


def words(values: Mapping[str, Any]) -> str:
    """A setting in one line, as it is typed."""
    return " ".join(f"{name}={value}" for name, value in values.items()) or "the only setting"
