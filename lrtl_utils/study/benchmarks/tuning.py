"""How `conventional` and `full` were tuned on the development sets, from the records of the searches that did it.

notebooks/grids/tuning.yaml is the space. Each method, kind of task and number of labels has a search of its own, whose
score is the mean over the data sets on held-out train rows.
"""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load
from lrtl_utils.data.splits import count_labelled, share_of
from lrtl_utils.errors import InputError
from lrtl_utils.files import write_text

Grid = list[tuple[str, RunConfig]]  # notebook and configuration of each cell
ENDS = ("learning_rate", "epochs")  # whose best value should lie between others
TRIALS = 12  # settings that each search tries
NAME = re.compile(r"(?P<method>\w+)-(?P<kind>\w+)-(?P<labels>\d+)")  # of a search; others are not for tuning
NEAR = 0.005  # of score: of the settings so close to the best one, the one with the fewest FLOPs is taken
ABOUT = f"""Each row is what a search chose for one method, kind of task and number of labels: of the settings within
{100 * NEAR:g} points of the best, the one with the fewest FLOPs. Scores are means over the development sets, on
held-out train rows. A warm-up of 100,000 steps becomes a tenth of the steps of the run. "Tried" counts the settings;
while they are fewer than the search is to try, its row may still change. "At the end" names what could not be raised
or lowered further; where that is the number of epochs, "fewer epochs" is the best score that fewer have reached."""


def spaces(grid: Sequence[tuple[str, RunConfig]]) -> dict[str, Grid]:
    """The cells of each search, by its name: `full-text-100` has 100 labels to train on.

    `InputError` for a cell without a `train_size` and a `validation_share`, which the name follows from.
    """
    found, kind_of = dict[str, Grid](), cache(load.kind_of)
    for notebook, config in grid:
        if not config.train_size or not config.validation_share:
            raise InputError("Baselines are tuned on a validation split: give a train_size and a validation_share.")
        labels = config.train_size - share_of(config.train_size, config.validation_share)
        name = f"{config.method}-{kind_of(config.dataset)}-{labels}"
        found.setdefault(name, []).append((notebook, config))
    return found


def finished(results: Path, spaces: Mapping[str, Grid]) -> set[str]:
    """The names of the searches in the folder that have tried all that they were to try.

    `InputError` if one of them searched another space than `spaces` has under its name.
    """
    searches = _searches(results)
    for name, knobs in ((each["space"]["name"], each["space"]["knobs"]) for each in searches):
        asked = {knob: {getattr(config, knob) for _, config in spaces.get(name, [])} for knob in knobs}
        if name in spaces and asked != {knob: set(choices) for knob, choices in knobs.items()}:
            raise InputError(f"{results} has a search {name} of another space; name another folder for the new one.")
    return {each["space"]["name"] for each in searches if len(_tried(each)) >= _due(each)}


def _tried(search: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings whose score a search knows, those that were recorded before it began among them."""
    return search["known"] + search["trials"]


def _due(search: dict[str, Any]) -> int:
    return min(TRIALS, search["space"]["settings"])


def _searches(results: Path) -> list[dict[str, Any]]:
    """The last search of each name: another method version or other data make a new one, whose file is `…-2.json`."""
    paths = sorted((results / "search").glob("*.json"), key=lambda path: (len(path.name), path.name))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [*{search["space"]["name"]: search for search in found if NAME.fullmatch(search["space"]["name"])}.values()]


def chosen(results: Path) -> pd.DataFrame:
    """A row for each search in the folder: method, kind, labels, the setting that `ABOUT` explains, and its score.

    A search of which nothing has a score yet is left out. `InputError` if none is left.
    """
    rows = []
    for search in (each for each in _searches(results) if each["best"]):
        tried = [trial for trial in _tried(search) if trial["score"] is not None]
        near = [trial for trial in tried if trial["score"] >= search["best"]["score"] - NEAR]
        taken = min(near, key=lambda trial: trial["flops"])
        values, knobs = taken["config"], search["space"]["knobs"]
        ends = [name for name in ENDS if name in knobs and values[name] in (min(knobs[name]), max(knobs[name]))]
        about = NAME.fullmatch(search["space"]["name"]).groupdict()
        about |= {"labels": int(about["labels"]), "setting": values, "score": taken["score"]}
        about |= {"search": search["space"]["name"], "fewer epochs": None}
        if "epochs" in knobs and values["epochs"] == max(knobs["epochs"]):
            fewer = [trial["score"] for trial in tried if trial["config"]["epochs"] < values["epochs"]]
            about["fewer epochs"] = max(fewer, default=None)
        rows.append(about | {"tried": f"{len(_tried(search))} of {_due(search)}", "at the end": ends})
    if not rows:
        raise InputError(f"{results} has no search with a score; the baselines are to be tuned first.")
    return pd.DataFrame(rows).sort_values(["kind", "method", "labels"], ignore_index=True)


def needed(grid: Sequence[tuple[str, RunConfig]], searches: Collection[str]) -> list[str | None]:
    """For each cell the search whose setting it takes: that of the nearest number of labels, by the logarithm.

    None for a method that is not tuned. `searches` are names, as `spaces` gives them.
    """
    kind_of, sizes = cache(load.kind_of), cache(lambda **reading: load.load(**reading).sizes)

    def of(config: RunConfig) -> str | None:
        name = f"{config.method}-{kind_of(config.dataset)}-"
        labels = [int(each.removeprefix(name)) for each in searches if each.startswith(name)]
        if not labels:
            return None
        n_labels = count_labelled(sizes(**load.reading(config)), config.data_fraction, config.train_size, config.shots)
        return name + str(min(labels, key=lambda each: abs(math.log(each / n_labels))))

    return [of(config) for _, config in grid]


def tuned(grid: Sequence[tuple[str, RunConfig]], searches: Sequence[str | None], results: Path) -> Grid:
    """The grid, with the setting that the search of each cell chose; `searches`, from `needed`, are in `results`.

    Where the grid has no precision, it is fp32: it may go on on a machine that is faster with another (`auto`).
    `InputError` if nothing that one of them tried has a score.
    """
    found = chosen(results).set_index("search")["setting"] if any(searches) else {}
    if failed := sorted({*filter(None, searches)} - {*found.keys()}):
        raise InputError(f"No setting of the search {failed[0]} in {results} has a score.")
    return [
        (notebook, config.model_copy(update={"precision": config.precision or "fp32"} | (found[name] if name else {})))
        for (notebook, config), name in zip(grid, searches, strict=True)
    ]


def write(results: Path) -> Path:
    """`<results>/tuning.md`: what was tuned, and to what, from `chosen`."""
    settings = chosen(results)
    about = ["kind", "method", "labels", "score", "fewer epochs", "tried"]
    values = pd.DataFrame(list(settings["setting"]))
    ends = settings["at the end"].map(", ".join)
    table = pd.concat([settings[about], values, ends], axis=1).astype(object).fillna("").to_markdown(index=False)
    path = results / "tuning.md"
    write_text(path, f"# How the baselines were tuned\n\n{ABOUT}\n\n{table}\n")
    return path
