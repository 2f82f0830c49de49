"""The model card of a kept model, made from its record alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrtl_utils.files import data_name
from lrtl_utils.runs import store as runs
from lrtl_utils.runs.record import identifying
from lrtl_utils.study import stats

_LIBRARIES = {
    "PooledClassifier": "sentence-transformers",
    "OwnClassifier": "transformers",
    "Tagger": "transformers",
    "ImageClassifier": "timm",
}
_PIPELINES = {"text": "text-classification", "tokens": "token-classification", "image": "image-classification"}
_USE = {
    "sentence-transformers": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER")
logits = model.encode(["a text"])  # [texts, classes]; the classes are those of config.json's id2label""",
    "transformers": """from transformers import pipeline

pipeline("TASK", model="FOLDER")("a text")""",
    "timm": """import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
logits = model(transform(picture)[None])  # [1, classes]; the classes are config.json's label_names""",
}


def seeds(record: Path) -> list[dict[str, Any]]:
    """The completed records of the same results folder that differ in nothing but the seed, itself among them."""
    own = _but_seed(runs.read(record))
    return [
        other for other in runs.records(record.parents[2]) if other["status"] == "completed" and _but_seed(other) == own
    ]


def without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it may go elsewhere: names where it has paths of the machine that it was made on."""
    config = record["config"]
    names = {name: data_name(config[name]) for name in ("dataset", "model")}
    asked = {name: value for name, value in config["asked"].items() if name not in names}
    told = {name: value for name, value in record.items() if name != "checksum"}
    return told | {"config": config | names | {"asked": asked}}


def card(record: Mapping[str, Any], alike: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """README.md in the hub's form: what the model is, how it was made and judged, what it cost, how to use it.

    `alike` are the records that differ in the seed alone; from three on, the score has an interval. `facts` are
    `export`'s: the form of the files, the kind of task, the labels.
    """
    library = None if facts["head"] and facts["head"]["file"] == "head.safetensors" else _LIBRARIES.get(facts["form"])
    config, data, model = record["config"], record["data"], record["model"]
    front = {"pipeline_tag": _PIPELINES[facts["kind"]], "tags": ["lrtl"]} | (
        {"library_name": library} if library else {}
    )
    size = data["train_size"] + data["validation_size"]
    knobs = {name: value for name, value in config.items() if value is not None and name != "asked"}
    source = model["source"] or {"kind": "none", "id": "random weights", "revision": None, "sha256": None}
    lines = [
        "---",
        *(f"{name}: {json.dumps(value)}" for name, value in front.items()),
        "---",
        "",
        f"# {config['model']} adapted to {data_name(config['dataset'])} by {config['method']}",
        "",
        f"A classifier of {_INPUTS[facts['kind']]} with the labels "
        f"{', '.join(f'`{_plain(label)}`' for label in facts['labels'])}.",
        "",
        "## Data",
        "",
        f"{data_name(config['dataset'])}: {_origin(data['source'])}. {size} labelled examples of {data['available']}"
        f" were seen ({data['validation_size']} of them held out to judge by), {data['test_size']} tested on.",
        "",
        "## Protocol",
        "",
        f"Weights before: {_origin(source)}. {model['parameters']:,} parameters,"
        f" {model['trainable_parameters']:,} of them trained.",
        "The subset depends on data and seed alone; the test split was predicted once, last. Every knob:",
        "",
        "```json",
        json.dumps(knobs),
        "```",
        "",
        "## Scores on the test split",
        "",
        *_scores(record, alike),
        "",
        "## Cost",
        "",
        *_cost(record),
        "",
        "## Use",
        "",
        *_use(library, facts),
        "",
        f"Made by run `{record['run_id']}` of the low-resource transfer learning workbook; `record.json` is its record."
        " The licences of the data and of the weights before are those of their authors.",
        "",
    ]
    return "\n".join(lines)


_INPUTS = {"text": "texts", "tokens": "words", "image": "images"}


def _scores(record: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> list[str]:
    metrics = record["metrics"]
    names = ("accuracy", "precision", "recall", "f1", "loss")
    rows = ["| accuracy | precision | recall | F1 | loss |", "|---|---|---|---|---|"]
    rows.append("| " + " | ".join(f"{metrics[name]:.4f}" for name in names) + " |")
    name = "entity F1" if "counts" in metrics else "accuracy"
    limited = record["config"]["test_limit"]
    if limited:
        rows += ["", f"Only {limited} test examples were used: a smoke run, whose scores say little."]
    several = (
        stats.interval(*stats.outcomes(alike)) if len({other["data"]["test_size"] for other in alike}) == 1 else None
    )
    if several is None:
        return [*rows, "", f"One model, of one seed: under {stats.LEAST_SEEDS} seeds there is no interval."]
    low, high = several
    return [*rows, "", f"Over {len(alike)} seeds, {name} lies in [{low:.4f}, {high:.4f}] (95 %, seeds and examples)."]


def _cost(record: Mapping[str, Any]) -> list[str]:
    cost, made = record["cost"], record["environment"]
    energy = "" if cost["energy_wh"] is None else f", {cost['energy_wh']:.3g} Wh"
    return [
        f"{cost['device_seconds']:.1f} device seconds ({cost['gpu_hours']:.2g} device hours),"
        f" {cost['flops']:.3g} FLOPs, {cost['peak_memory_mib']:.0f} MiB at the peak{energy},"
        f" on {made['device']} in {made['precision']},"
        f" with torch {made['torch']} and transformers {made['transformers']}."
    ]


def _use(library: str | None, facts: Mapping[str, Any]) -> list[str]:
    ours = "With the workbook: `python -m lrtl_utils predict FOLDER FILE`."
    if library is None:
        return [ours]
    note = []
    if facts["crf"]:
        note = ["These are the scores before the CRF, whose transitions lie in crf.safetensors: with the workbook the"]
        note = [*note, "best sequence is decoded.", ""]
    code = _USE[library].replace("TASK", _PIPELINES[facts["kind"]])
    return [*note, "```python", code, "```", "", ours]


def _origin(source: Mapping[str, Any]) -> str:
    revision = f" at revision {source['revision']}" if source["revision"] else ""
    checksum = f", SHA-256 {source['sha256'][:12]}…" if source["sha256"] else ""
    return f"`{_plain(source['id'])}`{revision}{checksum}"


def _plain(text: str) -> str:
    """Between backticks, on one line."""
    return " ".join(str(text).replace("`", "'").split())


def _but_seed(record: Mapping[str, Any]) -> dict[str, Any]:
    weights = record["model"]["source"]
    return {"config": identifying(record) | {"seed": None}, "data": record["data"]["source"], "weights": weights}
