"""Records as runs write them, with outcomes that a test chooses: for what reads many runs and makes none."""

import json
import math

import numpy as np

from lrtl_utils.config import read_config
from lrtl_utils.data import load
from lrtl_utils.measure import metrics
from lrtl_utils.runs import record as schema
from lrtl_utils.runs import store

MODEL = {"conll2003": "minilm_crf", "cifar10": "efficientnet_lite0", "fashion_mnist": "efficientnet_lite0"}
TESTED = 400
SKILL = {"tfidf": 0.3, "from_scratch": 0.1, "linear_probe": 0.6, "progressive": 0.8, "full": 0.7, "conventional": 0.5}
VERSIONS = {"python": "3.12.0", "torch": "2.9.0", "transformers": "5.0.0", "datasets": "4.0.0", "timm": "1.0.20"}


def environment(config):
    """Like `store.environment`, of an invented machine, and without asking torch and git."""
    known = {"device": f"{config.device}: invented", "cores": 2, "threads": 1, "precision": "fp32", "commit": None}
    return known | VERSIONS | {"method_version": 1}


def resolved(asked, labels):
    """As `run.resolve`, with invented defaults, for which no method's file and no torch is imported."""
    few = asked.method == "progressive" and labels < 500  # defaults that follow the number of labels
    defaults = {"learning_rate": 5e-5, "batch_size": 16, "epochs": 10 if few else 3, "accumulate": 1}
    defaults |= {"scheduler": "linear", "warmup_steps": 0, "validation_share": 0.0 if few or labels < 500 else 0.2}
    defaults |= {} if asked.method == "progressive" else {"validation_share": 0.0}
    values = {name: defaults.get(name) if value is None else value for name, value in asked.model_dump().items()}
    steps = values["epochs"] * math.ceil(round(labels * (1 - values["validation_share"])) / values["batch_size"])
    values["warmup_steps"] = values["warmup_steps"] if values["warmup_steps"] <= steps else steps // 10
    needs_no_model = {"model": "none"} if asked.method == "tfidf" else {}
    return asked.model_copy(update=values | needs_no_model | {"data_fraction": None})


def write_run(
    results,
    right,
    *,
    seconds=1.0,
    flops=100,
    validation=None,
    energy=None,
    memory=50.0,
    cached=0.0,
    data="0",
    weights=None,
    **knobs,
):
    """A record whose hits are `right` [examples], or with two columns its answers, or with three its entity counts.

    Returns its path. It took `cached` of its seconds from the cache of a sweep. The checksums of `data` and `weights`
    consist of that digit; without the latter there are no weights.
    """
    asked = read_config({"device": "cpu", "precision": "fp32"} | knobs)
    facts = load.published(asked.dataset) or load.load(asked.dataset)
    labels = asked.train_size or asked.shots * len(facts.classes)
    config = resolved(asked, labels)
    held_out = round(labels * (config.validation_share or 0))
    right = np.asarray(right)
    if right.shape[1:] == (2,):
        found = metrics.classification(*right.T, facts.classes)
        score, outcome = found["accuracy"], {name: found[name] for name in ("hits", "answers", "f1")}
    elif right.ndim == 2:
        found, predicted, expected = right.sum(axis=0)
        score = 2 * found / (predicted + expected)
        outcome = {"counts": metrics.pack(right), "hits": metrics.pack(right[:, 0] == right[:, 2])}
    else:
        score, outcome = right.mean(), {"hits": metrics.pack(right)}
    rest = {"per_class": {}, "confusion": None, "epochs_to_convergence": None}
    scores = dict.fromkeys(("accuracy", "precision", "recall", "f1"), float(score)) | {"loss": 1 - float(score)} | rest
    judged = {"accuracy": validation, "precision": validation, "recall": validation, "f1": validation}
    source = {"kind": "mirror", "id": asked.dataset, "revision": None, "sha256": data * 64}
    loaded = weights and {"kind": "folder", "id": "own", "revision": None, "sha256": weights * 64}
    sizes = {"train_size": labels - held_out, "validation_size": held_out, "test_size": len(right)}
    point = {"epoch": 1, "loss": 0.5, "validation_loss": None, "validation_score": validation}
    values, version = config.model_dump(), 1
    changed = {name: value for name, value in asked.model_dump().items() if value != values[name]}
    content = {
        "schema": schema.SCHEMA,
        "run_id": schema.run_id(values, source["sha256"], loaded and loaded["sha256"], version),
        "status": "completed",
        "error": None,
        "config": values | {"asked": changed},
        "data": {
            **sizes,
            "available": sum(facts.sizes),
            "labels": list(facts.classes),
            "source": source,
            "subset_sha256": "1" * 64,
        },
        "metrics": scores | outcome,
        "validation": validation and judged | rest | {"score": validation, "loss": 1 - validation, "hits": ""},
        "cost": {
            "device_seconds": float(seconds),
            "gpu_hours": seconds / 3600,
            "flops": flops,
            "flops_by_phase": {"features": flops},
            "peak_memory_mib": memory,
            "energy_wh": energy,
            "train_samples_per_second": labels / seconds,
            "predict_seconds": 0.1,
            "predict_samples_per_second": len(right) / 0.1,
            "overhead_seconds": 1.0,
            "cached_seconds": cached,
            "cached_predict_seconds": min(cached, 0.1),
        },
        "model": {"source": loaded, "parameters": 10, "trainable_parameters": 10},
        "curve": [point | {"device_seconds": float(seconds), "flops": flops}],
        "environment": environment(config),
        "started_at": "2026-01-01T00:00:00+00:00",
        "finished_at": "2026-01-01T00:00:01+00:00",
    }
    content["checksum"] = schema.checksum(content)
    schema.parse(content)
    path = store.record_path(results, config.dataset, content["run_id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, allow_nan=False))
    return path


def outcomes(skill, labels, seed, *, tagged=False):
    """Which of 400 test examples are right, hard ones last: the more labels and skill, the more; paired by seed."""
    chance = 1 - (1.1 - 0.5 * skill) * labels**-0.2 + 0.03 * np.random.default_rng(seed).standard_normal()
    hits = np.random.default_rng(99).random(TESTED) < chance
    return np.stack([hits, np.ones_like(hits), np.ones_like(hits)], axis=-1).astype(int) if tagged else hits


def write_study(results, datasets=("sst2", "conll2003"), sizes=(32, 100, 316, 1000), seeds=3, names=tuple(SKILL)):
    """Every method on every data set at every size, as far as they go together; costs grow with size and skill."""
    for dataset in datasets:
        tagged = dataset == "conll2003"
        for name in names:
            if name == "tfidf" and (tagged or dataset in ("cifar10", "fashion_mnist")):
                continue
            for labels in sizes:
                for seed in range(seeds):
                    right = outcomes(SKILL.get(name, 0.55), labels, seed, tagged=tagged)
                    cost = labels * (1 + 10 * SKILL.get(name, 0.55))
                    knobs = {"dataset": dataset, "model": MODEL.get(dataset, "minilm"), "method": name, "seed": seed}
                    write_run(results, right, seconds=cost / 50, flops=int(1e9 * cost), train_size=labels, **knobs)
