"""Records with the schema and nothing else in them: for tests of what writes and reads one."""

import time
from unittest import mock

from synthetic import environment

from lrtl_utils.config import RunConfig
from lrtl_utils.runs import store

CONFIG = RunConfig(device="cpu", learning_rate=5e-5, batch_size=16, warmup_steps=2)
ASKED = RunConfig(learning_rate=5e-5, batch_size=64, warmup_steps=500)


def parts(train_size=32, validation_size=0, test_size=131, available=400, labels=("neg", "pos"), **changed):
    """The parts of a record that a run measures, as little as the schema wants; `changed` goes over `metrics`."""
    source = {"kind": "package", "id": "lrtl_utils", "revision": None, "sha256": "0" * 64}
    sizes = {"train_size": train_size, "validation_size": validation_size, "test_size": test_size}
    scores = {"accuracy": 0.75, "precision": 0.7, "recall": 0.7, "f1": 0.7, "loss": 0.5, "per_class": {}}
    scores |= {"confusion": None, "hits": "", "epochs_to_convergence": None} | changed
    cost = {"device_seconds": 2.0, "gpu_hours": 2 / 3600, "flops": 10**12, "peak_memory_mib": 50.0, "energy_wh": None}
    cost |= {"flops_by_phase": {"features": 10**12}}
    speed = {"predict_seconds": 0.5, "predict_samples_per_second": test_size / 0.5, "train_samples_per_second": 16.0}
    point = {"epoch": 1, "loss": 0.6, "validation_loss": None, "validation_score": None}
    point |= {"device_seconds": 1.0, "flops": 10**12}
    more = {"available": available, "labels": list(labels), "source": source, "subset_sha256": "1" * 64}
    return {
        "data": sizes | more,
        "metrics": scores,
        "validation": scores | {"score": 0.625} if validation_size else None,
        "cost": cost | speed,
        "model": {"source": source, "parameters": 100, "trainable_parameters": 90},
        "curve": [point],
    }


def complete(results, identity, config, asked, **measured):
    """Write the record of a completed run on an invented machine; returns its path."""
    with mock.patch.object(store, "environment", environment):
        times = {"started": time.time(), "clocked": 0.0}
        store.completed(results, identity, config, store.changed(asked, config), **times, **measured)
    return store.record_path(results, config.dataset, identity)


def write(results, identity="0123456789ab", config=CONFIG, accuracy=0.75, **cost):
    """A completed record with what a run puts there."""
    measured = parts(validation_size=8, accuracy=accuracy)
    return complete(results, identity, config, ASKED, **measured | {"cost": measured["cost"] | cost})


def fail(results, identity="fedcba987654"):
    with mock.patch.object(store, "environment", environment):
        changed = store.changed(ASKED, CONFIG)
        return store.failed(results, identity, CONFIG, changed, error="out of memory", started=1.0e9)
