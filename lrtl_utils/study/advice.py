"""The four answers in one table, and what to do after a comparison: the method to use, and the labels to collect."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrtl_utils.config import RunConfig
from lrtl_utils.errors import counted
from lrtl_utils.files import absolute_path, from_here, named_by
from lrtl_utils.runs import store
from lrtl_utils.runs.notebook import NOTEBOOK_OF, notebook_path, parameters_of
from lrtl_utils.runs.record import kind_of
from lrtl_utils.study import answers, curves, tables

NOTHING = (
    "It is not recommended yet, because at no number of labels did two configurations run with the same three seeds; "
    "if `compare` made these runs, run it again with a larger budget."
)


def at_a_glance(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The four answers of each dataset × model in a row of words, for a person who looks once, and notes below it.

    The row has the variant with the highest mean and its score, the labels that give 95% of the highest score, the
    variant with the fewest FLOPs that is not shown to be worse, and the points of the highest over the baseline. Its
    cells have one or two short lines, so that it fits 100 columns; the model is named where a data set has several. A
    note gives the first doubt about labels that are not reliable. Without runs there are neither rows nor notes.
    """
    frame = tables.compared(frame)
    frame = frame.assign(configuration=frame["variant"])  # which is shorter, and of one configuration each
    best, needs = tables.at_most_labels(tables.best(frame)), tables.needs(frame)
    if best.empty:
        return best, []
    datasets = best["dataset_model"].str.split(" · ").str[0]
    titles = best["dataset_model"].where(datasets.duplicated(keep=False), datasets).map(tables.titled)
    needs = needs[needs["first"]].set_index("dataset_model")
    costs = answers.cost(frame).table.set_index("dataset_model")
    baseline = tables.tuned(frame)
    over = tables.differences(frame, baseline).set_index(["dataset_model", "configuration", "n_labels"])
    rows, notes = [], []
    for title, row in zip(titles, best.itertuples(), strict=True):
        key = (row.dataset_model, row.configuration, row.n_labels)
        need = needs.loc[row.dataset_model] if row.dataset_model in needs.index else None
        rows.append(
            {
                "data set\nlabels": f"{title}\n{row.n_labels} labels",
                f"highest\n{tables.metrics_of(frame)}": f"{row.configuration}\n"
                f"{row.score:.3f}{answers.between(row.low, row.high)}",
                "enough\nlabels": _enough(need),
                "cheapest not shown\nworse, in points": _cheapest(costs.loc[row.dataset_model]),
                f"points over\n{'default ' * (baseline == tables.BASELINE)}{baseline}": _over(
                    over, key, itself=row.configuration == baseline
                ),
            }
        )
        if need is not None and need["doubts"]:
            notes.append(f"{title}: how many labels are enough is not reliable ({need['doubts'][0]}).")
    return pd.DataFrame(rows), notes


def spent(frame: pd.DataFrame) -> str:
    """In one sentence, the device time of the runs, and the machines that they ran on."""
    costs = [record["cost"] for record in frame["record"]]
    seconds = sum(cost["device_seconds"] - (cost.get("cached_seconds") or 0.0) for cost in costs)
    machines = " + ".join(sorted(set(frame["device"])))
    return f"{counted(len(frame), 'run')} took {answers.short(seconds / 60)} device minutes ({machines})."


def _enough(need: pd.Series | None) -> str:
    if need is None:
        return "too few\nsizes"
    labels = "never" if np.isinf(need["n_labels"]) else f"{need['n_labels']:.0f}"
    if need["doubts"]:
        return f"{labels}\nnot reliable"
    if need["n_labels"] <= need["sizes"][0]:
        return f"at most\n{labels}"
    return labels if labels == "never" else f"{labels}\n({need['low']:.0f} to {need['high']:.0f})"


def _cheapest(cost: pd.Series) -> str:
    if not cost["compared"]:
        return "too few seeds\nor methods"
    if cost["cheapest"] == cost["best"]:
        return "the highest itself"
    share = answers.share(cost["cheapest_flops"] / cost["best_flops"])
    return f"{cost['cheapest']}\n{share} of FLOPs, {answers.points(cost['mean'])}"


def _over(over: pd.DataFrame, key: tuple[Any, ...], itself: bool) -> str:
    if key not in over.index:
        return "the baseline itself" if itself else "not compared"
    row = over.loc[key]
    return f"{answers.points(row['mean'], row['low'], row['high'])}\n{row['verdict']}"


def together(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of a data set, its models compared with each other if there are several."""
    across = tables.across_models(frame)
    return across if len(across) else frame


def leading(frame: pd.DataFrame) -> pd.Series | None:
    """The row of `tables.best` that answers which configuration is best; None without runs. `frame` is `together`."""
    best = tables.at_most_labels(tables.best(frame))
    return None if best.empty else best.iloc[0]


def lines(frame: pd.DataFrame, results: Path, dataset: str | None = None) -> Iterator[str]:
    """What to do after these runs on one data set, in sentences and commands: `advice`, how to train and save the
    configuration that it names on the train split, and how to choose the next examples to label.

    `dataset` is where the data are now; None is where the records say.
    """
    frame = together(frame)
    row = leading(frame)
    yield from advice(frame, row)
    if row is None:
        return
    best = (frame["configuration"] == row["configuration"]) & (frame["n_labels"] == row["n_labels"])
    record = frame[best].iloc[0]["record"]
    yield "To train it on all labels of the train split and save the model:"
    kind, config = kind_of(record), record["config"] | ({"dataset": dataset} if dataset else {})
    yield training(record | {"config": config}, results)
    if kind != "tokens" and not config.get("validation_share"):
        yield "Its probabilities are not calibrated; -p validation_share=0.2 calibrates them on a fifth of the labels."
    yield "To choose the next examples to label from POOL, your unlabelled examples:"
    given = ((name, config[name]) for name in ("text_column", "label_column") if config.get(name))
    columns = [f" --{name.replace('_', '-')} {shlex.quote(value)}" for name, value in given]
    place = shlex.quote(_here(config["dataset"], results))
    yield f"lrtl suggest {place}{''.join(columns)} --unlabelled POOL -n 50"


def training(record: Mapping[str, Any], results: Path) -> str:
    """The command that trains the configuration of a record on its whole train split and saves the model."""
    notebook, config = NOTEBOOK_OF[kind_of(record)], record["config"] | record["config"]["asked"]
    given = {name: _here(config[name], results) for name in ("dataset", "model")} | {"method": config["method"]}
    defaults = parameters_of(notebook_path(notebook))
    usual = RunConfig.of(defaults | given).model_dump()
    apart = {"asked", "train_size", "shots", "data_fraction", "seed", *given}
    given |= {name: value for name, value in config.items() if name not in apart and value != usual[name]}
    words = [f"-p {shlex.quote(f'{name}={value}')}" for name, value in {**given, "data_fraction": 1}.items()]
    kept = [shlex.quote(from_here(absolute_path(path))) for path in (results, results / "model")]
    return f"lrtl run {notebook} {' '.join(words)} --results {kept[0]} --save-model {kept[1]}"


def _here(name: str, results: Path) -> str:
    """A data set or model of a record below `results`, as a person types it here."""
    placed = Path(store.place(results, name))
    return named_by(Path(from_here(placed))) if placed.is_absolute() else name


def advice(frame: pd.DataFrame, row: pd.Series | None) -> Iterator[str]:
    """Sentences about the `leading` configuration: its score, the labels that it needs, and its cost."""
    if row is None:
        yield "No run has finished; to continue, run the same command again or raise its budget."
        return
    summary, needs = tables.summarise(frame), tables.needs(frame)
    own = summary[summary["configuration"] == row["configuration"]].sort_values("n_labels")
    needs = needs[needs["configuration"] == row["configuration"]]
    at = own[own["n_labels"] == row["n_labels"]].iloc[0]
    score = answers.scored(row)
    chosen = "It was chosen on these runs, so on average its score is a little too high."
    yield f"Use {score}. {chosen}" if row["compared"] else f"Highest so far is {score}. {NOTHING}"
    yield from _beside_one_answer(frame, row)
    yield from (f"{answers.needed(need)}." for need in needs.itertuples())
    if row["n_labels"] == at["full"] and pd.notna(row["low"]):
        yield "All labels of the train split were used, so the interval does not cover the choice of what to label."
    if len(own) > 1:
        yield _growth(frame, own, sure=any(not doubts for doubts in needs["doubts"]))
    if pd.notna(at["device_seconds"]):
        spent = f"{answers.short(at['device_seconds'])} device seconds ({at['device']})"
        yield f"Training it with {row['n_labels']} labels takes {spent}."


def _beside_one_answer(frame: pd.DataFrame, row: pd.Series) -> Iterator[str]:
    """A warning where the accuracy is not shown to be above that of always answering the most frequent class."""
    if row["score_name"] != "accuracy" or pd.isna(row["low"]):
        return
    runs = frame[(frame["configuration"] == row["configuration"]) & (frame["n_labels"] == row["n_labels"])]
    metrics = runs["record"].iloc[0]["metrics"]
    if not metrics["confusion"]:
        return
    counts = dict(zip(metrics["per_class"], map(sum, metrics["confusion"]), strict=True))
    most = max(counts, key=counts.__getitem__)
    if row["low"] <= (share := counts[most] / sum(counts.values())):
        yield f"This is not shown to be better than always answering {most!r}, whose accuracy is {share:.3f}."


def _growth(frame: pd.DataFrame, own: pd.DataFrame, sure: bool) -> str:
    """What the last labels gave, and by the curve, if that is `sure`, what as many again would give."""
    before, last = own.iloc[-2], own.iloc[-1]
    runs = frame[frame["configuration"] == last["configuration"]]
    sized = [runs[runs["n_labels"] == each["n_labels"]] for each in (last, before)]
    found = tables.paired(*map(tables.by_seed, sized))
    gained = (found["mean"], found["low"], found["high"]) if found else (last["score"] - before["score"],)
    sizes = f"From {before['n_labels']} to {last['n_labels']} labels"
    said = f"{sizes} its score changed by {answers.points(*gained)} points"
    if not sure:
        return f"{said}."
    law, more = curves.fit(own["n_labels"], own["score"]), 2 * last["n_labels"]
    expected = 100 * float(law.score(more) - law.score(last["n_labels"]))
    return f"{said}; according to its curve, going to {more} labels would change it by about {expected:+.1f} points."
