"""The model card of a saved model, made from its record alone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lrtl_utils.config import NO_MODEL
from lrtl_utils.files import data_name
from lrtl_utils.measure.metrics import outcome
from lrtl_utils.methods import METHODS
from lrtl_utils.runs import store
from lrtl_utils.runs.record import identity
from lrtl_utils.study import stats

HEAD_FILE = "head.safetensors"  # where the library's own form has no place for the head
_LIBRARIES = {
    "PooledClassifier": "sentence-transformers",
    "OwnClassifier": "transformers",
    "Tagger": "transformers",
    "ImageClassifier": "timm",
}
_TASKS = {"text": "text-classification", "tokens": "token-classification", "image": "image-classification"}
_INPUTS = {"text": "texts", "tokens": "words", "image": "images"}
USE = {
    "sentence-transformers": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER")
logits = model.encode(["a text"])  # [texts, classes]; the classes are those of config.json's id2label""",
    "transformers": """from transformers import pipeline

pipeline("TASK", model="FOLDER")("a text"CUT)""",
    "timm": """import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
logits = model(transform(picture)[None])  # [1, classes]; the classes are config.json's label_names""",
}
# Catalog models whose weights come in a package, by the hub's id of the same weights.
PACKAGED = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "minilm_crf": "sentence-transformers/all-MiniLM-L6-v2",
    "minilm_l3": "sentence-transformers/paraphrase-MiniLM-L3-v2",
    "minilm_l3_crf": "sentence-transformers/paraphrase-MiniLM-L3-v2",
}
TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

A classifier of {{ inputs }} with the labels {{ labels }}.

## Data

{{ dataset }}: {{ data_origin }}. {{ size }} labelled examples of {{ data.available }} were used \
({{ data.validation_size }} of them as the validation split); {{ data.test_size }} test examples were predicted.\
{% if data.repeats and data.repeats.across and not data.repeats.dropped %} Of all train examples, \
{{ data.repeats.across }} are also in the test split, so the scores may be too high.{% endif %}

## Training

{{ weights_origin }}. {{ "{:,}".format(model.parameters) }} parameters, \
{{ "{:,}".format(model.trainable_parameters) }} of them trained.
The test split was predicted once, after training. Configuration:

```json
{{ knobs }}
```

## Scores on the test split

| accuracy | precision | recall | F1 | loss |
|---|---|---|---|---|
| {{ "%.4f | %.4f | %.4f | %.4f | %.4f"|format(
    metrics.accuracy, metrics.precision, metrics.recall, metrics.f1, metrics.loss) }} |

{% if model.temperature -%}
For calibrated probabilities, divide the logits by the temperature {{ "%.4f"|format(model.temperature) }} \
before the softmax, as `lrtl predict` does.

{% endif -%}
{% if config.test_limit == data.test_size -%}
Only {{ config.test_limit }} test examples were used: a smoke run, whose scores say little.

{% endif -%}
{% if interval -%}
Over {{ seeds }} seeds, the 95% interval of {{ headline }} is [{{ "%.4f, %.4f"|format(*interval) }}] \
(the wider of a bootstrap over seeds and test examples and a t-interval over seeds).
{%- else -%}
There is no interval, because fewer than {{ least_seeds }} seeds were run.
{%- endif %}

## Cost

{{ "%.1f"|format(cost.device_seconds) }} device seconds ({{ "%.2g"|format(cost.gpu_hours) }} device hours\
{% if cost.cached_seconds -%}
; an earlier run of the sweep spent {{ "%.1f"|format(cost.cached_seconds) }} of these seconds\
{% endif %}), \
{{ "%.3g"|format(cost.flops) }} FLOPs, {{ "%.0f"|format(cost.peak_memory_mib) }} MiB peak memory\
{% if cost.energy_wh is not none %}, {{ "%.3g"|format(cost.energy_wh) }} Wh{% endif %}, \
on {{ environment.device }} in {{ environment.precision }}, with torch {{ environment.torch }} \
and transformers {{ environment.transformers }}.

## Use

{% if code and facts.crf -%}
The code below gives the scores before the CRF, whose transitions are in crf.safetensors; `lrtl predict` decodes the \
best sequence.

{% endif -%}
{% if code -%}
```python
{{ code }}
```

{% if facts.tail -%}
Of a text of more than {{ facts.max_length }} tokens, this code reads only the beginning. `lrtl predict` reads both \
ends, as the run did.

{% endif -%}
{% endif -%}
With the workbook: `lrtl predict FOLDER FILE`.

Made by run `{{ run_id }}` of the low-resource transfer learning workbook; `record.json` is its record. \
The licences of the data and of the pre-trained weights are those of their authors.
"""


def seeds(record: Path) -> list[dict[str, Any]]:
    """The completed records of the same results folder that differ in nothing but the seed, itself among them."""
    own, others = _but_seed(store.read(record)), map(store.valid, sorted(record.parent.glob("*.json")))
    return [each for each in others if each and each["status"] == "completed" and _but_seed(each) == own]


def without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it may go elsewhere: names where it has paths of the machine that it was made on."""
    config = record["config"]
    names = {name: data_name(config[name]) for name in ("dataset", "model")}
    asked = {name: value for name, value in config["asked"].items() if name not in names}
    kept = {name: value for name, value in record.items() if name != "checksum"}
    return kept | {"config": config | names | {"asked": asked}}


def card(record: Mapping[str, Any], alike: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """README.md in the hub's form: what the model is, how it was made and judged, what it cost, how to use it.

    `alike` are the records that differ in the seed alone; from three on, the score has an interval. `facts` are
    `export`'s: the form of the files, the kind of task, the labels.
    """
    library = None if facts["head"] and facts["head"]["file"] == HEAD_FILE else _LIBRARIES.get(facts["form"])
    config, data, metrics = record["config"], record["data"], record["metrics"]
    # A source of random weights is that of the tokenizer and the architecture alone.
    source = record["model"]["source"] if METHODS[config["method"]].pretrained else None
    what = "A linear head" if config["model"] == NO_MODEL else config["model"]
    task, dataset, model_name = _TASKS[facts["kind"]], data_name(config["dataset"]), data_name(config["model"])
    results = [
        EvalResult(task, dataset, dataset, name, round(metrics[name], 4), dataset_split="test")
        for name in ("accuracy", "precision", "recall", "f1")
    ]
    header = ModelCardData(
        base_model=source and {"package": PACKAGED.get(model_name), "folder": None}.get(source["kind"], source["id"]),
        library_name=library,
        pipeline_tag=task,
        tags=["lrtl"],
        model_name=f"{model_name}-{dataset}-{config['method']}",
        eval_results=results,
    )
    knobs = {name: value for name, value in config.items() if value is not None and name != "asked"}
    cut = ", truncation=True" if facts["kind"] == "text" else ""
    text = ModelCard.from_template(
        header,
        template_str=TEMPLATE,
        **record,
        dataset=dataset,
        inputs=_INPUTS[facts["kind"]],
        labels=", ".join(f"`{_plain(label)}`" for label in facts["labels"]),
        data_origin=_origin(data["source"]),
        title=f"{what} {'adapted to' if source else 'trained on'} {dataset} by {config['method']}",
        weights_origin=f"Pre-trained weights: {_origin(source)}" if source else "There are no pre-trained weights",
        size=data["train_size"] + data["validation_size"],
        knobs=json.dumps(knobs),
        interval=stats.interval(stats.sample_of(map(outcome, alike))),
        seeds=len(alike),
        least_seeds=stats.LEAST_SEEDS,
        headline=outcome(record).name,
        facts=facts,
        code=library and USE[library].replace("TASK", task).replace("CUT", cut),
    )
    return f"{text}\n"


def _origin(source: Mapping[str, Any]) -> str:
    revision = f" at revision {source['revision']}" if source["revision"] else ""
    checksum = f", SHA-256 {source['sha256'][:12]}…" if source["sha256"] else ""
    return f"`{_plain(source['id'])}`{revision}{checksum}"


def _plain(text: str) -> str:
    """Between backticks, on one line."""
    return " ".join(str(text).replace("`", "'").split())


def _but_seed(record: Mapping[str, Any]) -> str:
    """The id that the record would have with another seed: of its configuration, data, weights and method's version."""
    return identity({**record, "config": record["config"] | {"seed": 0}})
