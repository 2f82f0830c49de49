"""The space that a search looks through, and the order in which it tries the settings there."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrtl_utils.config import derived_seed
from lrtl_utils.errors import InputError, require_name
from lrtl_utils.runs.run import Run
from lrtl_utils.sweep.grid import Cell, cell_of, read_grid

LABELS = ("train_size", "data_fraction", "shots")
FIDELITIES = ("epochs", *LABELS)
ASKS = 100  # for one trial; after so many answers that are no news, a setting left over is drawn at random

# What a strategy says and hears: the positions to measure next, then their scores in that order, None for a failure.
Strategy = Generator[list[int], list[float | None], None]


@dataclass(frozen=True)
class Combination:
    """One setting of the space: the values that set it apart, and its cells, one a seed."""

    values: dict[str, Any]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Space:
    """The distinct combinations of a grid, and the knobs by which they differ, with their choices, numbers ascending.

    `places` gives for a choice of every knob, in the knobs' order, the position of its combination.
    """

    name: str
    knobs: dict[str, list[Any]]
    combinations: list[Combination]
    places: dict[tuple[Any, ...], int]


def read_space(path: str | Path) -> Space:
    """The space in a grid file. Seeds are averaged over; combinations that clamping makes identical are one.

    `InputError` where a cell has no carve to be judged on, or where the cells are of several data sets.
    """
    path = Path(path)
    cells: dict[tuple[Any, ...], list[Cell]] = {}
    for notebook, asked in read_grid(path):
        cell = cell_of(notebook, Run(asked))
        cells.setdefault((notebook, asked.model_copy(update={"seed": 0})), []).append(cell)
        if not cell.config.validation_share:
            raise InputError(f"{path}: {cell} keeps no carve to be judged on; give a validation_share, such as 0.2.")
    groups = [tuple({cell.identity: cell for cell in group}.values()) for group in cells.values()]
    if len({cell.config.dataset for group in groups for cell in group}) > 1:
        raise InputError(f"{path}: a search looks for the best setting on one data set; give each a file of its own.")
    return _space(path.stem, groups)


def comparable(space: Space, fidelity: str | None) -> set[int]:
    """Positions whose scores may be compared: where labels are the fidelity, those that see the most of them.

    `InputError` where settings see different labels and no fidelity says so: more labels would always win.
    """
    for name in (*LABELS, "validation_share"):
        if name in space.knobs and name != fidelity:
            way = f"one value, or --halving 3 --fidelity {name}" if name in LABELS else "one value"
            raise InputError(f"{space.name}: settings that differ in {name} cannot be compared; give it {way}.")
    everywhere = range(len(space.combinations))
    if fidelity not in LABELS:
        return set(everywhere)
    return {at for at in everywhere if space.combinations[at].values[fidelity] == space.knobs[fidelity][-1]}


def fidelities(space: Space) -> list[str]:
    """The fields that successive halving can climb here: those with a list of numbers."""
    return [name for name in FIDELITIES if name in space.knobs and _is_ordered(space.knobs[name])]


def find_fidelity(space: Space, asked: str | None) -> str:
    """The one asked for, else the first that can be climbed: epochs, then labels."""
    if asked is not None:
        require_name("fidelity", asked, FIDELITIES)
    listed = fidelities(space)
    if not listed or asked not in (None, *listed):
        name = asked or f"one of {', '.join(FIDELITIES)}"
        raise InputError(f"{space.name}: successive halving climbs a list of numbers; give one to {name}.")
    return asked or listed[0]


def bracket_size(space: Space, fidelity: str, keep: int) -> int:
    """As many arms as leave one for the last rung (Li et al. 2018)."""
    return keep ** (len(space.knobs[fidelity]) - 1)


def startup_trials(space: Space) -> int:
    """Random trials before the first model: one more than there are knobs (Falkner et al. 2018)."""
    return len(space.knobs) + 1


def tpe(space: Space, seed: int, known: Mapping[int, float | None], trials: int, at_once: int = 1) -> Strategy:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), by Optuna, over what `known` leaves of the space.

    The published settings, chosen before any grid was looked at: the multivariate estimator and d + 1 random trials
    for d knobs, both after BOHB (Falkner et al. 2018); the rest is Optuna's own: the upper tenth counts as good, 24
    candidates a trial. Knobs of numbers are told as ordered, by rank, whatever their scale. `known` is told before the
    first question. In a small space it asks for what is known already; such an answer stays open while it is asked
    again, which Optuna counts as poor (its constant liar), so that it turns elsewhere.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=True, constant_liar=True, n_startup_trials=startup_trials(space)
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {name: _distribution(choices) for name, choices in space.knobs.items()}
    ranks = [
        {name: choices.index(combination.values[name]) for name, choices in space.knobs.items()}
        for combination in space.combinations
    ]
    for at, score in known.items():
        state = optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE
        told = {"params": ranks[at], "distributions": distributions, "value": score, "state": state}
        study.add_trial(optuna.trial.create_trial(**told))
    rng = np.random.default_rng(derived_seed(seed, "search"))
    left = set(range(len(space.combinations))) - set(known)
    while left and trials > 0:
        fresh: dict[int, Any] = {}
        stale: list[Any] = []
        while len(fresh) < min(at_once, trials, len(left)):
            if len(stale) >= ASKS:
                study.enqueue_trial(ranks[rng.choice(sorted(left - fresh.keys()))])
            trial = study.ask(distributions)
            at = space.places.get(tuple(choices[trial.params[name]] for name, choices in space.knobs.items()))
            if at in left and at not in fresh:
                fresh[at] = trial
            else:
                stale.append(trial)
        for trial, score in zip(fresh.values(), (yield list(fresh)), strict=True):
            study.tell(trial, score, state=optuna.trial.TrialState.FAIL if score is None else None)
        for trial in stale:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        left -= fresh.keys()
        trials -= len(fresh)


def halving(brackets: Sequence[Sequence[tuple[int, ...]]], keep: int) -> Strategy:
    """Successive halving (Jamieson & Talwalkar 2016), bracket after bracket of `arms`.

    A bracket measures its arms at the lowest rung, and the best 1/`keep` of them, rounded down but at least one, at
    the next. An arm that failed is out; ties go to the earlier.
    """
    for arms in brackets:
        for rung in range(len(arms[0])):
            asked = list(dict.fromkeys(arm[rung] for arm in arms))
            scores = dict(zip(asked, (yield asked), strict=True))
            standing = [arm for arm in arms if scores[arm[rung]] is not None]
            standing.sort(key=lambda arm: -scores[arm[rung]])
            arms = standing[: max(1, len(arms) // keep)]
            if not arms:
                break


def arms(space: Space, seed: int, fidelity: str) -> list[tuple[int, ...]]:
    """What successive halving chooses among, in an order drawn from `seed`.

    An arm is a choice of every knob but the fidelity: the positions of its combinations, fidelity ascending.
    """
    others = [name for name in space.knobs if name != fidelity]
    rungs = space.knobs[fidelity]
    positions: dict[tuple[Any, ...], dict[Any, int]] = {}
    for choice, at in space.places.items():
        values = dict(zip(space.knobs, choice, strict=True))
        positions.setdefault(tuple(values[name] for name in others), {})[values[fidelity]] = at
    for arm in positions.values():
        if len(arm) < len(rungs):
            raise InputError(f"{space.name}: successive halving needs every setting at each {fidelity} of {rungs}.")
    climbs = list(dict.fromkeys(tuple(arm[rung] for rung in rungs) for arm in positions.values()))
    order = np.random.default_rng(derived_seed(seed, "search")).permutation(len(climbs))
    return [climbs[at] for at in order]


def random_order(space: Space, seed: int) -> Strategy:
    """Every combination once, in an order drawn from `seed`: the baseline."""
    for at in np.random.default_rng(derived_seed(seed, "random order")).permutation(len(space.combinations)):
        yield [int(at)]


def _space(name: str, groups: Sequence[tuple[Cell, ...]]) -> Space:
    """The distinct ones among groups of cells that differ in seed only; what never differs among them is no knob."""
    ids = [tuple(cell.identity for cell in group) for group in groups]
    distinct: dict[tuple[str, ...], tuple[Cell, ...]] = {}
    for key, group in zip(ids, groups, strict=True):
        distinct.setdefault(key, group)
    asked = [group[0].asked.model_dump(exclude={"seed"}) for group in distinct.values()]
    choices = {name: list(dict.fromkeys(values[name] for values in asked)) for name in asked[0]}
    knobs = {name: sorted(v) if _is_ordered(v) else v for name, v in choices.items() if len(v) > 1}
    combinations = [
        Combination({name: values[name] for name in knobs}, group)
        for values, group in zip(asked, distinct.values(), strict=True)
    ]
    number = {key: at for at, key in enumerate(distinct)}
    places: dict[tuple[Any, ...], int] = {}
    for key, group in zip(ids, groups, strict=True):
        places.setdefault(tuple(getattr(group[0].asked, name) for name in knobs), number[key])
    return Space(name, knobs, combinations, places)


def _is_ordered(choices: Sequence[Any]) -> bool:
    return all(isinstance(choice, int | float) for choice in choices)


def _distribution(choices: Sequence[Any]) -> Any:
    """The ranks of the choices, ordered where these are numbers."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    last = len(choices) - 1
    return IntDistribution(0, last) if _is_ordered(choices) else CategoricalDistribution(range(last + 1))
