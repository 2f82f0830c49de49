"""`progressive` beside the other methods, in one table: `python -m` this module with a folder of records.

That is the folder of the grid recipe_2.yaml, whose `version-1` has records of the first version of `progressive` and
whose `bf16` has runs in that precision, or that of a confirmation. With `measure` as second argument, the cost of rung
0 and the memory are measured anew, on a machine that is idle. With `freeze`, the versions of all methods are frozen for
the confirmation that follows.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lrtl_utils.config import NO_MODEL
from lrtl_utils.data.catalog import TASKS
from lrtl_utils.data.hub import file_sha256
from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path, notebooks_folder, write_text
from lrtl_utils.methods import VERSIONS
from lrtl_utils.models.catalog import backbone
from lrtl_utils.runs import store, verify
from lrtl_utils.study import answers, stats, tables
from lrtl_utils.study.benchmarks import published
from lrtl_utils.study.benchmarks.published import FIRST
from lrtl_utils.study.tables import OURS

READ = {"label_names": True, "layers": 0.5, "word_shape": True}  # by `progressive`, where nothing else is asked for
CONFIRMATION = "confirmation"  # the folder beside this one with its records
WON = {"worse": "won", "better": "lost", "undecided": "undecided"}  # by what is said of the other configuration
AT = ["dataset_model", "n_labels"]
GAIN, DATA_SET_GAIN = ["gain", "low", "high"], ["data_set_gain", "data_set_low", "data_set_high"]
SPLIT = r"_\d+$"  # how the names of the published splits of one data set end
RUNG_ZERO = {"text": 1.3, "tokens": 1.5, "image": 1.3}  # at most so many times the seconds of one forward pass
SLACK = 1.1  # times the memory of `progressive` that can be accounted for
ABOUT = """Scores are means of accuracy, or of entity F1, on the test split. Points are the score of the configuration
less that of `progressive`, paired, with a 95% interval: below zero, `progressive` is ahead. P is corrected over the
settings of each configuration. FLOPs and seconds are multiples of those of `progressive`; seconds are of at least three
pairs of runs of one machine, within an hour of each other. {given}"""
GIVEN = """[baselines.md](../../docs/baselines.md) says what each configuration was given, and
[evidence.md](../../docs/evidence.md) what is claimed and which runs were left out."""
BY_DEFAULT = "The methods have their defaults, except for what a name has in brackets."
MEMORY = """Peak memory of `progressive` as a share of the expected amount: the peak of `linear_probe`, the cache, and
what the trained blocks and one batch hold, counted as in fp32."""
PUBLISHED = """Accuracy in per cent with few examples of each class. What others published is on the same training and
test examples, unless the last column says what differs. Parameters are in millions, and seconds on different devices
cannot be compared. What others reached was not measured here, and they had other models and other information: minilm
(all-MiniLM-L6-v2) was trained on pairs of sentences, and some of the methods here read the names of the classes."""
GLANCE = """The same rows by data set. A cell has the number of labels, the score with its interval, a star where the
corrected p-value shows a difference from `progressive`, FLOPs, and seconds where they can be compared."""
PIECES = """How far `progressive` with something left out or changed is from `progressive`, in points with a 95%
interval. A value below zero means that the piece helps. A star marks what the corrected p-value shows.
`..._wrong_names` are copies of data sets in which each class has the name of another, and `budget_seconds=1e-06` ends
the training after rung 0."""
SUMMED = f"""In how many settings (data set, model, labels) `progressive` won or lost against each configuration, after
this correction. The gain is the mean over the settings of the score of `progressive` less that of the configuration,
with a 95% interval: above zero, `progressive` is ahead. "At least as good" counts the settings in which the interval
of this difference stays above -{100 * stats.MARGIN:.1f} points, uncorrected. Settings that differ only in the number of
labels or in the model share a test split, so they are not independent, and the interval of the gain is too narrow. The
gain by data set is the mean of one mean for each data set, with the interval that follows from these."""


def runs(results: Path) -> pd.DataFrame:
    """The runs that are compared, those of version 1 among them as a method of its own.

    `conventional` and `full` are named as tuned where their learning rate was chosen, whatever it is at each size, and
    `progressive` is named by what was left out or changed.
    """
    frame, first = tables.records(results, "completed"), results / "version-1"
    if first.is_dir():
        frame = pd.concat([frame, tables.records(first, "completed").assign(method=FIRST)])
    frame = tables.compared(frame).reset_index(drop=True)
    tuned, ours = frame["variant"].str.endswith(" (tuned)"), frame["method"] == OURS
    names = frame["configuration"].mask(tuned, frame["variant"]).mask(ours, OURS + frame["record"].map(_changed))
    frame = frame.assign(configuration=names, variant=frame["variant"].mask(ours, names))
    return pd.concat([tables.by_machine(frame[ours]), frame[~ours]]).sort_index()


def _changed(record: dict[str, Any]) -> str:
    """What was asked of this run of `progressive` that it does not usually do, in brackets."""
    config = tables.DEFAULTS | record["config"]
    passed_over = {*config["asked"], *tables.NOT_CHOSEN}
    changes = [
        f"{name}={config[name]}"
        for name, usual in tables.DEFAULTS.items()
        if name not in passed_over and config[name] not in (usual, READ.get(name))
    ]
    return f" [{', '.join(changes)}]" if changes else ""


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each configuration at each size: its mean score and costs, and its difference from `progressive`.

    `frame` is from `runs` and not empty. A method that needs no model has rows only where a model ran. P-values and
    verdicts are corrected over the settings of each configuration.
    """
    parts = tables.by_dataset_and_model(tables.summarise(frame))
    scores = pd.concat([part.assign(dataset_model=name) for name, part in parts], ignore_index=True)
    ran = (scores["model"] != NO_MODEL).groupby([scores[name] for name in AT]).transform("any")
    scores = scores[ran | ~ran.groupby(scores[AT[0]]).transform("any")]  # `tfidf` joins a model only where that ran
    scores = scores.sort_values([AT[0], "configuration", AT[1]], ignore_index=True)
    pairs = [frame[frame["variant"].isin([OURS, each])] for each in sorted({*frame["variant"]} - {OURS})]
    differences = pd.concat([tables.differences(pair, OURS) for pair in pairs or [frame]], ignore_index=True)
    differences = differences.rename(columns={"low": "points_low", "high": "points_high"})
    differences["as_good"] = np.where(
        differences["points_high"].isna(), None, differences["points_high"] <= stats.MARGIN
    )
    added = ["mean", "points_low", "points_high", "p_corrected", "verdict", "as_good"]
    table = scores.merge(differences[[*AT, "configuration", *added]], "left", [*AT, "configuration"])
    ours = scores[scores["configuration"] == OURS].set_index(AT)
    table["flops"] /= pd.MultiIndex.from_frame(table[AT]).map(ours["flops"])
    by_seed = {
        (name, *key): tables.by_seed(each, "record")
        for name, part in tables.by_dataset_and_model(frame)
        for key, each in part.groupby(["n_labels", "variant"])
    }
    table["seconds"] = [
        tables.seconds_ratio(by_seed[*at, each], by_seed.get((*at, OURS), {}))
        for *at, each in scores[[*AT, "variant"]].itertuples(index=False)
    ]
    return table[[*AT, "configuration", "seeds", "score_name", "score", "low", "high", *added, "flops", "seconds"]]


def planned(grid: Path) -> int:
    """How many settings (data set, model, number of labels) a grid file has on data sets that are not of the plan."""
    usual = yaml.safe_load(grid.read_bytes())
    blocks = [usual | block for block in usual["blocks"].values()]
    size = ("model", "train_size", "shots", "data_fraction")
    settings = {
        (name, *(block.get(key) for key in size)) for block in blocks for name in np.atleast_1d(block["dataset"])
    }
    return sum(name not in TASKS for name, *_ in settings)


def of_the_plan(names: pd.Series) -> pd.Series:
    """For each name of a data set, or of one with a model, whether the data set is one of the original plan."""
    return names.str.split().str[0].isin(TASKS)


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """For each configuration of `compared`: in how many settings `progressive` won, lost, or neither was shown.

    These verdicts are corrected for their number. `at_least_as_good`, which is not, counts the settings in which the
    interval shows `progressive` to be no more than `stats.MARGIN` below, and `settings` those with three seeds or more.
    `gain` is the mean difference of `progressive` over these settings, from `low` to `high`, and `data_set_gain` that
    over one mean for each data set, of which there are `data_sets`: t-intervals, for three values or more.
    """
    judged = table[table["verdict"].isin(WON)]
    found = pd.crosstab(judged["configuration"], judged["verdict"].map(WON)).reindex(columns=WON.values(), fill_value=0)
    found["at_least_as_good"] = judged.groupby("configuration")["as_good"].sum().astype(int)
    found["settings"] = judged.groupby("configuration").size()
    found[[*GAIN, "data_sets", *DATA_SET_GAIN]] = np.nan
    for name, part in judged.groupby("configuration"):
        gains = -part["mean"].astype(float)
        means = by_data_set(gains, part["dataset_model"])
        found.loc[name, GAIN] = gains.mean(), *stats.t_interval(gains)
        found.loc[name, ["data_sets", *DATA_SET_GAIN]] = len(means), means.mean(), *stats.t_interval(means)
    return found.astype({"data_sets": int}).reset_index()


def by_data_set(values: pd.Series, names: pd.Series) -> pd.Series:
    """The mean of the values of each data set, whose published splits count as one; `names` have the model too."""
    return values.groupby(names.str.split().str[0].replace(SPLIT, "", regex=True)).mean()


def write(results: Path) -> Path:
    """`<results>/table.md` and `table.csv`; returns the former. `InputError` if no run is completed there."""
    frame = runs(results)
    if frame.empty:
        raise InputError(f"{results} has no completed run, so there is no table to write.")
    table = compared(frame)
    named = {"mean": "points", "p_corrected": "p", "verdict": "beside progressive", "flops": "FLOPs"}
    words = table.assign(
        score=_percent(table),
        mean=_points(table, "mean", "points_low", "points_high"),
        p_corrected=table["p_corrected"].map(lambda p: f"{p:.3f}" if p >= 0.001 else "< 0.001", na_action="ignore"),
        flops=table["flops"].map("{:.3f}".format, na_action="ignore"),
        seconds=table["seconds"].map("{:.2f}".format, na_action="ignore"),
    )[[*AT, "configuration", "seeds", "score", *named, "seconds"]].fillna("")
    shown = tables.shown(words.rename(columns=named))
    table.to_csv(results / "table.csv", index=False)
    machines = [f"- {each}" for each in store.machines(frame["record"][frame["method"] != FIRST])]
    failed = tables.records(results, "failed")
    machines += [f"- Runs that failed, and are in no row: {len(failed)}."] if len(failed) else []
    others = table[~is_piece(table)]
    planned = of_the_plan(others["dataset_model"])
    counted = {"The data sets of the plan": others[planned], "The other data sets": others[~planned]}
    page = [
        f"# `progressive` beside the other methods: {results.name}",
        "\n".join(machines),
        ABOUT.format(given=GIVEN if results.name in (CONFIRMATION, "study") else BY_DEFAULT),
        SUMMED,
        *(f"{title}:\n\n{_counted(rows)}" for title, rows in counted.items() if rows["verdict"].isin(WON).any()),
        _behind(others),
        *_pieces(table),
        "## Every setting",
        shown.to_markdown(index=False, disable_numparse=True),
        "## Every data set, by the number of labels",
        GLANCE,
        _by_labels(frame, words).to_markdown(index=False, disable_numparse=True) + "\n",
    ]
    write_text(results / "table.md", "\n\n".join(page) + _beside_published(frame, results) + _measured(results))
    return results / "table.md"


def is_piece(table: pd.DataFrame) -> pd.Series:
    """Whether a row is of `progressive` with something left out or changed."""
    return table["configuration"].str.startswith(f"{OURS} [")


def _by_labels(frame: pd.DataFrame, words: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, model and configuration, and a column for each range of numbers of labels that ran.

    `words` has the columns of `compared` as they are shown.
    """
    parts = tables.by_dataset_and_model(frame.dropna(subset=["config.shots"]))
    few = {(name, size) for name, part in parts for size in part["n_labels"]}
    sizes = ["few of each class", "up to 100 labels", "more labels"]
    at = [(row.dataset_model, row.n_labels) for row in words.itertuples()]
    size = [sizes[0] if each in few else sizes[1 + (each[1] > 100)] for each in at]
    cells = words["n_labels"].astype(str) + ": " + words["score"]
    cells += words["verdict"].isin(answers.DECIDED).map({True: " *", False: ""})
    for name in ("flops", "seconds"):
        cells += words[name].map(lambda word: f", {word}" if word else "")
    words = words.assign(cell=cells, size=size)
    keys = [AT[0], "configuration"]
    pivot = words.pivot_table(index=keys, columns="size", values="cell", aggfunc="; ".join)
    pivot = pivot.reindex(columns=[each for each in sizes if each in pivot])
    return tables.shown(pivot.astype(object).fillna("").reset_index())


def _pieces(table: pd.DataFrame) -> list[str]:
    """What each change of `progressive` does, a column each, where there was one."""
    rows = table[is_piece(table) & table["mean"].notna()]
    if rows.empty:
        return []
    star = np.where(rows["verdict"].isin(answers.DECIDED), " *", "")
    points = _points(rows, "mean", "points_low", "points_high") + star.astype(object)
    rows = rows.assign(points=points, configuration=rows["configuration"].str.removeprefix(OURS).str.strip(" []"))
    pivot = rows.pivot(index=AT, columns="configuration", values="points").fillna("").reset_index()
    return ["## What each piece does", PIECES, tables.shown(pivot).to_markdown(index=False)]


def _counted(table: pd.DataFrame) -> str:
    found = counts(table)
    found = found.assign(gain=_points(found, *GAIN), data_set_gain=_points(found, *DATA_SET_GAIN))
    return tables.shown(found.drop(columns=[*GAIN[1:], *DATA_SET_GAIN[1:]])).to_markdown(index=False)


def _behind(table: pd.DataFrame) -> str:
    """In how many settings the mean of another configuration with enough seeds is higher by more than the margin."""
    ahead = table[table["points_low"].notna()].groupby(AT)["mean"].max() > stats.MARGIN
    points = f"{100 * stats.MARGIN:.1f} points"
    return f"In {ahead.sum()} of {len(ahead)} settings the mean of another configuration is more than {points} higher."


def _beside_published(frame: pd.DataFrame, results: Path) -> str:
    """What others reached with as many labels, as a part of the page, where there is such a figure.

    Runs with as many examples of each class may also be in the folder of what was added to these results.
    """
    added = results.parent / f"{results.name}-added"
    if added.is_dir():
        frame = pd.concat([frame, runs(added).dropna(subset=["config.shots"])], ignore_index=True)
    table = published.few_shot(frame)
    if table.empty:
        return ""
    table["score"] = _percent(table)
    for name, form in (("device_seconds", "{:.1f}"), ("flops", "{:.2e}"), ("seeds", "{:.0f}")):
        table[name] = table[name].map(form.format, na_action="ignore")
    shown = tables.shown(table.drop(columns=["low", "high"])).astype(object).fillna("")
    return f"\n## Beside published figures\n\n{PUBLISHED}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n"


def _percent(table: pd.DataFrame) -> list[str]:
    """The scores in percent, each with its interval where there is one."""
    rows = 100 * table[["score", "low", "high"]].astype(float).to_numpy()
    bounded = "{:.1f} [{:.1f}, {:.1f}]"
    return ["" if pd.isna(row[0]) else ("{:.1f}" if pd.isna(row[1]) else bounded).format(*row) for row in rows]


def _points(table: pd.DataFrame, *columns: str) -> list[str]:
    """A difference in points, with its interval where there is one."""
    rows = table[[*columns]].astype(float).to_numpy()
    return ["" if pd.isna(row[0]) else answers.points(*row) for row in rows]


def measure(results: Path) -> Path:
    """`rung_zero.csv` and `memory.csv` in the folder, made anew; returns the page that shows them."""
    from lrtl_utils.study.benchmarks import measured

    measured.write_rung_zero(results)
    measured.write_memory(results)
    return write(results)


def _measured(results: Path) -> str:
    """What `measure` wrote, as the end of the page: the rows of `measured.rung_zero` beside their bars, and memory."""
    page, timed, held = "", results / "rung_zero.csv", results / "memory.csv"
    if timed.is_file():
        rows = pd.read_csv(timed)
        most = rows["model"].map(lambda name: RUNG_ZERO["tokens" if backbone(name).crf else backbone(name).kinds[0]])
        rows = rows.assign(bar=np.where(rows["share"] <= most, "met", "missed"))
        bars = ", ".join(f"{bar:g} for {kind}" for kind, bar in RUNG_ZERO.items())
        about = "How many times as long as one forward pass over its rows rung 0 takes: the median, the lowest and the "
        about += f"highest of turns in which the two alternate. The bar is {bars}."
        page += "\n".join(["", "## Rung 0", "", about, "", rows.to_markdown(index=False), ""])
    if held.is_file():
        rows = pd.read_csv(held)
        within = [
            f"In {precision} it is at most {SLACK:g} in {sum(part['share'] <= SLACK)} of {len(part)} settings."
            for precision, part in rows.groupby("precision", sort=False)
        ]
        about = " ".join([MEMORY, *within])
        page += "\n".join(["", "## Memory", "", about, "", rows.to_markdown(index=False), ""])
    return page


def freeze(results: Path) -> Path:
    """`frozen.json` beside the folder, once: the version of each method, which the records of a confirmation must have.

    It also has the checksums of the plan, and how many completed runs beside and below the folder had been tested on
    the whole test split of each data set. `InputError` if there is one, since what is frozen stays.
    """
    path = results.parent / verify.FROZEN
    if path.exists():
        raise InputError(f"{path} already exists, and what is frozen stays.")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    seen: Counter[str] = Counter()
    for folder in {path.parents[2] for path in results.parent.glob("**/runs/*/*.json")}:
        whole = tables.records(folder, "completed")
        seen.update(whole[whole["config.test_limit"].isna()]["dataset"])
    planned = [notebooks_folder() / "grids" / f"{name}.yaml" for name in ("tuning", "confirmation")]
    frozen = {
        "confirmation": CONFIRMATION,
        "frozen_at": now,
        "versions": dict(VERSIONS),
        "grids": {path.name: file_sha256(path) for path in planned},
        "seen": dict(sorted(seen.items())),
    }
    write_text(path, json.dumps(frozen, indent=1))
    return path


def require_frozen(results: Path, grids: Sequence[Path] = ()) -> None:
    """`InputError` unless methods and grids are as they were frozen, and a confirmation is to go to the named folder.

    Other grids, such as that of the study, may run the frozen methods in other folders.
    """
    path = results.parent / verify.FROZEN
    if not path.is_file():
        raise InputError(f"There is no {path}; the recipe is frozen before a confirmation begins.")
    frozen = json.loads(path.read_text(encoding="utf-8"))
    if f"{frozen['confirmation']}.yaml" in {path.name for path in grids} and frozen["confirmation"] != results.name:
        raise InputError(
            f"{path} names the folder {frozen['confirmation']!r} as confirmation, and not {results.name!r}."
        )
    changed = [name for name, version in frozen["versions"].items() if VERSIONS.get(name) != version]
    changed += [path.name for path in grids if frozen["grids"].get(path.name, file_sha256(path)) != file_sha256(path)]
    if changed:
        raise InputError(f"{', '.join(changed)} changed after {path} was written; a confirmation runs what was frozen.")


if __name__ == "__main__":
    folder, *then = sys.argv[1:]
    print({"": write, "measure": measure, "freeze": freeze}["".join(then)](absolute_path(folder)))
