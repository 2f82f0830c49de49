"""What others reported, none of it measured here, and tables that set ours beside it."""

from typing import NamedTuple

import pandas as pd

from lrtl_utils.data.load import TASKS
from lrtl_utils.measure.evaluation import PREDICT_BATCH
from lrtl_utils.study import tables as summaries


class Figure(NamedTuple):
    """A score in [0, 1] of a model trained on a whole train split; `on` says which examples, `source` who says so."""

    dataset: str
    model: str
    score_name: str
    score: float
    on: str
    source: str


class Line(NamedTuple):
    """An evaluation as a trainer prints it: mean loss in nats, accuracy in [0, 1], seconds, and examples a second."""

    title: str
    examples: int
    loss: float
    accuracy: float
    runtime: float
    samples_per_second: float


NOT_HERE = "not measured here"
# fmt: off
FIGURES = (
    Figure("sst2", "BERT-base", "accuracy", 0.935, "GLUE's test set", "Devlin et al. 2019"),
    Figure("sst2", "DistilBERT", "accuracy", 0.913, "validation", "Sanh et al. 2019"),
    Figure("sst2", "RoBERTa-base", "accuracy", 0.945, "validation", "model card Bhumika/roberta-base-finetuned-sst2"),
    Figure("imdb", "BERT-base, pre-trained further", "accuracy", 0.9563, "test", "Sun et al. 2019"),
    Figure("imdb", "DistilBERT", "accuracy", 0.9282, "test", "Sanh et al. 2019"),
    Figure("ag_news", "BERT-base, pre-trained further", "accuracy", 0.952, "test", "Sun et al. 2019"),
    Figure("cifar10", "ResNet-50", "accuracy", 0.9276, "evaluation", "model card jialicheng/resnet-50-cifar10-21"),
    Figure("cifar10", "EfficientNet-B0", "accuracy", 0.981, "test", "Tan & Le 2019"),
    Figure("conll2003", "BERT-base, cased, no CRF", "entity F1", 0.9259, "test", "model card dslim/bert-base-NER"),
)
# The report that this project began with, which does not say of which data its lines are. 872 are SST-2's validation
# sentences.
REPORT = (
    Line("after one epoch", 500, 0.432, 0.856, 3.8, 130.7),
    Line("benchmark", 872, 0.699, 0.487, 6.3, 138.6),
)
# fmt: on


def beside(frame: pd.DataFrame) -> pd.DataFrame:
    """For each data set of the runs, the published figures, then the best line of each panel at its most labels.

    `labels` of a published figure are all of the train split; `measured` says where ours ran, and of theirs that they
    were not measured here.
    """
    best = summaries.at_most_labels(summaries.best(frame)).set_index("panel")
    summary = summaries.summarise(frame)
    columns = ["dataset", "model", "line", "labels", "score_name", "score", "on", "source", "measured"]
    rows = []
    for dataset, part in summary.groupby("dataset", sort=False):
        rows += [
            each._asdict() | {"labels": "all", "measured": NOT_HERE} for each in FIGURES if each.dataset == dataset
        ]
        for title, panel in summaries.by_panel(part):
            chosen = (panel["line"] == best["line"][title]) & (panel["labels"] == best["labels"][title])
            ours = panel[chosen].iloc[0].to_dict()
            rows.append(ours | {"on": _tested_on(dataset), "measured": ours["device"]})
    return pd.DataFrame(rows, columns=columns).fillna("")


def _tested_on(dataset: str) -> str:
    """The split whose score is called a test score; of data of one's own its record says more."""
    return (TASKS[dataset].test or "held out") if dataset in TASKS else "test"


def lines(frame: pd.DataFrame) -> pd.DataFrame:
    """The report's lines, then those of the runs in the same form: a row for each setting and number of test examples.

    Means over `seeds`. `runtime` is of the test prediction, in seconds, `steps_per_second` in steps of 32 examples;
    `device_seconds` are the training's. `points` over one epoch of the baseline on as many labels are paired, with
    their interval, fractions all.
    """
    rows = [line._asdict() | {"title": f"the report: {line.title}"} for line in REPORT]
    keys = ["dataset", "model", "method", "line", "labels", "epochs", "examples"]
    runs = frame.reset_index(drop=True).assign(examples=[record["data"]["test_size"] for record in frame["record"]])
    runs = summaries.with_lines(runs) if len(runs) else runs
    is_base = (runs["method"] == summaries.BASELINE) & (runs["epochs"] == 1)
    for values, group in runs.groupby(keys, dropna=False) if len(runs) else []:
        means = group[["loss", "accuracy", "predict_seconds", "device_seconds"]].astype(float).mean()
        about = dict(zip(keys, values, strict=True)) | {"title": "here", "seeds": len(group)}
        alike = [name for name in keys if name not in ("method", "line", "epochs")]
        base = runs[is_base & (runs[alike] == group[alike].iloc[0]).all(axis=1)]
        row = about | means.to_dict() | {"runtime": means["predict_seconds"]}
        found = summaries.paired(group, base) if about["method"] != summaries.BASELINE else {}
        rows.append(row | {"points": found.get("mean"), "low": found.get("low"), "high": found.get("high")})
    spent = ["seeds", "device_seconds", "loss", "accuracy", "points", "low", "high", "runtime", "samples_per_second"]
    columns = ["title", *keys, *spent]
    table = pd.DataFrame(rows, columns=columns)
    table["samples_per_second"] = table["samples_per_second"].fillna(table["examples"] / table["runtime"])
    counts = ["labels", "epochs", "seeds"]  # none of them on the report's lines
    table[counts] = table[counts].astype("Int64")
    table["steps_per_second"] = table["samples_per_second"] / PREDICT_BATCH
    return table
