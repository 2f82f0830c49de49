"""How `conventional` and `full` were tuned on the development sets, from the records of the searches that did it.

notebooks/grids/tuning.yaml is the space. Each method, kind of task and number of labels has a search of its own, whose
score is the mean over the data sets on held-out train rows.
"""

import json
import math
from collections.abc import Collection, Sequence
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
NEAR = 0.005  # of score: of the settings so close to the best one, the one with the fewest FLOPs is taken
ABOUT = f"""Each row is what a search chose for one method, kind of task and number of labels: of the settings within
{100 * NEAR:g} points of the best, the one with the fewest FLOPs. Scores are means over the development sets, on
held-out train rows. A warm-up of 100,000 steps becomes a tenth of the steps of the run. "Tried" counts the settings,
and "at the end" names what could not be raised or lowered further."""


def spaces(grid: Sequence[tuple[str, RunConfig]]) -> dict[str, Grid]:
    """The cells of each search, by its name: `full-text-100` has 100 labels to train on."""
    found, kind_of = dict[str, Grid](), cache(load.kind_of)
    for notebook, config in grid:
        labels = config.train_size - share_of(config.train_size, config.validation_share)
        name = f"{config.method}-{kind_of(config.dataset)}-{labels}"
        found.setdefault(name, []).append((notebook, config))
    return found


def finished(results: Path) -> set[str]:
    """The names of the searches in the folder that have tried all that they were to try."""
    done = [each for each in _searches(results) if len(each["trials"]) >= min(TRIALS, each["space"]["settings"])]
    return {each["space"]["name"] for each in done}


def _searches(results: Path) -> list[dict[str, Any]]:
    paths = sorted((results / "search").glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def chosen(results: Path) -> pd.DataFrame:
    """A row for each search in the folder: method, kind, labels, the setting that `ABOUT` explains, and its score.

    `InputError` if there is no search, or one of which every run failed.
    """
    rows = []
    for search in _searches(results):
        if search["best"] is None:
            raise InputError(f"No setting of the search {search['space']['name']} in {results} has a score.")
        tried = [trial for trial in search["trials"] if trial["score"] is not None]
        near = [trial for trial in tried if trial["score"] >= search["best"]["score"] - NEAR]
        taken = min(near, key=lambda trial: trial["flops"])
        values, knobs = taken["config"], search["space"]["knobs"]
        ends = [name for name in ENDS if name in knobs and values[name] in (min(knobs[name]), max(knobs[name]))]
        about = dict(zip(("method", "kind", "labels"), search["space"]["name"].split("-"), strict=True))
        about |= {"labels": int(about["labels"]), "setting": values, "score": taken["score"]}
        about["search"] = search["space"]["name"]
        rows.append(about | {"tried": len(search["trials"]), "at the end": ends})
    if not rows:
        raise InputError(f"{results} has no search; the baselines are to be tuned first.")
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
    """The grid, with the setting that the search of each cell chose; `searches`, from `needed`, are in `results`."""
    found = chosen(results).set_index("search")["setting"] if any(searches) else {}
    return [
        (notebook, config.model_copy(update=found[name]) if name else config)
        for (notebook, config), name in zip(grid, searches, strict=True)
    ]


def write(results: Path) -> Path:
    """`<results>/tuning.md`: what was tuned, and to what, from `chosen`."""
    settings = chosen(results)
    about, values = ["kind", "method", "labels", "score", "tried"], pd.DataFrame(list(settings["setting"]))
    ends = settings["at the end"].map(", ".join)
    table = pd.concat([settings[about], values, ends], axis=1).astype(object).fillna("").to_markdown(index=False)
    path = results / "tuning.md"
    write_text(path, f"# How the baselines were tuned\n\n{ABOUT}\n\n{table}\n")
    return path
