"""Figures that others published, from `published.yaml`, in tables and sentences beside ours."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lrtl_utils.config import NO_MODEL
from lrtl_utils.measure.metrics import PREDICT_BATCH
from lrtl_utils.study import answers, tables
from lrtl_utils.study.tables import BASELINE, OURS

PUBLISHED = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
FIRST = f"{OURS}, version 1"
HERE, NOT_HERE = "here", "not measured here"
ONE_EPOCH = ["dataset", "model", "method", "configuration", "n_labels", "epochs", "examples"]


def beside(frame: pd.DataFrame) -> pd.DataFrame:
    """For each data set of the runs: the published figures, then the best configuration of each dataset × model.

    The best is that at its most labels. `n_labels` of a published figure are all labels of the train split; `measured`
    names the machine of our runs, and says of published figures that they were not measured here.
    """
    best = tables.at_most_labels(tables.best(frame)).set_index("dataset_model")
    records = frame.groupby("dataset")["record"].first()
    columns = ["dataset", "model", "configuration", "n_labels", "score_name", "score", "on", "source", "measured"]
    rows = []
    for dataset, part in tables.summarise(frame).groupby("dataset", sort=False):
        name = dataset.split(" ")[0] if dataset.endswith("]") else dataset
        alike = {"dataset": name, "score_name": part["score_name"].iloc[0]}
        theirs = [figure | {"dataset": dataset} for figure in PUBLISHED["figures"] if alike.items() <= figure.items()]
        rows += [figure | {"n_labels": "all", "measured": NOT_HERE} for figure in theirs]
        on = f"{records[dataset]['data']['test_size']:,} test examples of the copy used here"
        for dataset_model, means in tables.by_dataset_and_model(part):
            top = best.loc[dataset_model]
            chosen = (means["configuration"] == top["configuration"]) & (means["n_labels"] == top["n_labels"])
            ours = means[chosen].iloc[0].to_dict()
            rows.append(ours | {"on": on, "measured": ours["device"]})
    return pd.DataFrame(rows, columns=columns).fillna("")


def few_shot(frame: pd.DataFrame) -> pd.DataFrame:
    """Published accuracies with few examples of each class, and below them ours with as many labels.

    `frame` is of `recipe.runs`. Of ours, those with three seeds or more, on a whole train split or with as many
    examples of each class. `parameters` are in millions, `names_of_classes` says of ours whether they are read, and
    `differs` what a published figure has that ours have not.
    """
    at, theirs = ["dataset", "n_labels"], pd.DataFrame(PUBLISHED["few_shot"])
    whole = frame["n_labels"] == [record["data"]["available"] for record in frame["record"]]
    scores = tables.with_enough_seeds(tables.summarise(frame[whole | frame["config.shots"].notna()]))
    reads = frame["record"].map(lambda record: bool(record["config"].get("label_names"))) | (frame["method"] == FIRST)
    reads = reads.map({True: "read", False: "not read"}).rename("names_of_classes")
    scores = scores.join(reads.groupby([frame[name] for name in tables.KEYS]).first(), on=tables.KEYS)
    millions = frame.groupby("model")["record"].first().map(lambda record: record["model"]["parameters"] / 1e6)
    named = (scores["configuration"] + " with " + scores["model"]).str.removesuffix(" with none")
    ours = scores.assign(parameters=scores["model"].map(millions).round(1), model=named, source=HERE)
    ours = ours.merge(theirs[at].drop_duplicates())
    both = pd.concat([theirs.merge(ours[at].drop_duplicates()), ours])
    both = both.sort_values(at, kind="stable", ignore_index=True)
    scored = [*at, "model", "parameters", "names_of_classes", "seeds", "score", "low", "high"]
    return both.reindex(columns=[*scored, "device_seconds", "device", "flops", "source", "differs"])


def beside_in_words(table: pd.DataFrame) -> list[str]:
    """For each data set of `beside`, our best configuration and the lowest published figure, if one is listed."""
    return [_beside_in_words(name, part) for name, part in table.groupby("dataset", sort=False)] or [answers.NOTHING]


def _beside_in_words(dataset: str, part: pd.DataFrame) -> str:
    ours, theirs = part[part["source"] == ""], part[part["source"] != ""]
    best = ours.nlargest(1, "score").iloc[0]
    model = "" if best["model"] == NO_MODEL else f" of {best['model']}"
    score = f"{best['score']:.3f} {best['score_name']}"
    reached = f"{best['configuration']}{model} reaches {score} with {best['n_labels']} labels on {best['on']}"
    if theirs.empty:
        return f"{dataset}: {reached}; no published figure is listed for it."
    low = theirs.nsmallest(1, "score").iloc[0]
    figure = f"{low['score']:.3f}{' or more' if len(theirs) > 1 else ''}, by {low['model']} ({low['source']})"
    return f"{dataset}: {reached}; published, with all labels on its own {low['on']} split: {figure}."


def one_epoch(frame: pd.DataFrame) -> pd.DataFrame:
    """The evaluations of the first report, then ours: a row for each configuration and number of test examples.

    Ours are means over `seeds`. `runtime` is the seconds of the test prediction, `steps_per_second` counts steps of 32
    examples, and `device_seconds` are those of the training, both of runs that are `tables.timed`. `difference` is
    the paired one to one epoch of the baseline on as many labels, with its interval, all as fractions; it is missing
    where that epoch ran with several settings.
    """
    rows = [row | {"title": f"the report: {row['title']}"} for row in PUBLISHED["report"]]
    tested = [record["data"]["test_size"] for record in frame["record"]]
    runs = tables.timed(frame).assign(examples=tested)
    parts = [tables.compared(part) for _, part in runs.groupby("examples")] or [tables.compared(runs)]
    runs = pd.concat(parts).rename(columns={"config.epochs": "epochs"})
    is_base, alike = (runs["method"] == BASELINE) & (runs["epochs"] == 1), ["dataset", "model", "n_labels", "examples"]
    bases = {key: part for key, part in runs[is_base].groupby(alike) if part["configuration"].nunique() == 1}
    means = {name: f"metrics.{name}" for name in ("loss", "accuracy")}
    means |= {"runtime": "cost.predict_seconds", "device_seconds": "cost.device_seconds"}
    for values, group in runs.groupby(ONE_EPOCH, dropna=False):
        row = dict(zip(ONE_EPOCH, values, strict=True)) | {"title": HERE, "seeds": len(group)}
        row |= {name: group[column].astype(float).mean() for name, column in means.items()}
        base = bases.get(tuple(row[name] for name in alike), runs[:0])
        found = tables.paired(tables.by_seed(group), tables.by_seed(base)) if row["method"] != BASELINE else {}
        row |= {"difference": found.get("mean"), "low": found.get("low"), "high": found.get("high")}
        ratio = tables.seconds_ratio(*(tables.by_seed(part, "record") for part in (group, base)))
        rows.append(row | {"seconds_ratio": ratio})
    found = ["seeds", "device_seconds", "seconds_ratio", "loss", "accuracy", "difference", "low", "high"]
    table = pd.DataFrame(rows, columns=["title", *ONE_EPOCH, *found, "runtime", "samples_per_second"])
    table["samples_per_second"] = table["samples_per_second"].fillna(table["examples"] / table["runtime"])
    counts = ["n_labels", "epochs", "seeds"]  # absent from the rows of the report
    table[counts] = table[counts].astype("Int64")
    table["steps_per_second"] = table["samples_per_second"] / PREDICT_BATCH
    return table


def one_epoch_in_words(table: pd.DataFrame) -> list[str]:
    """For each data set and number of test examples of `one_epoch`: the baseline's one epoch, and what others reach."""
    reported = table[table["dataset"].isna()].set_index("examples")["accuracy"]
    found = []
    for (dataset, model, n_labels, examples), part in table.groupby(["dataset", "model", "n_labels", "examples"]):
        of_baseline = part["method"] == BASELINE
        for base in part[of_baseline & (part["epochs"] == 1)].itertuples():
            each = [f"{base.accuracy:.3f} (loss {base.loss:.3f})"]
            each += [_reached(row) for row in part[~of_baseline].itertuples()]
            each += [
                f"the report has {accuracy:.3f} on as many of a data set that it does not name"
                for accuracy in reported[reported.index == examples]
            ]
            where = f"{dataset} · {model}, {examples} test examples"
            found.append(
                f"{where}: one epoch of {base.configuration} on {n_labels:.0f} labels reaches {'; '.join(each)}."
            )
    return found or [f"No run here is one epoch of {BASELINE}."]


def _reached(row: Any) -> str:
    points = "" if pd.isna(row.difference) else f", {answers.points(row.difference, row.low, row.high)} points"
    spent = "" if pd.isna(row.seconds_ratio) else f" in {answers.short(row.seconds_ratio, 2)} times its device seconds"
    return f"{row.configuration} reaches {row.accuracy:.3f}{points}{spent}"
