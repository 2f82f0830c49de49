"""What a run of tests/golden/grid.yaml gave: the hash of its predictions, its loss to the last bit, its FLOPs."""

import hashlib
import json

from lrtl_utils.files import ROOT

ASKED = ("dataset", "model", "method", "data_fraction", "seed")
MACHINE = ("device", "threads", "torch", "transformers", "timm")  # another one rounds differently
GRID, RUNS = (ROOT / "tests" / "golden" / name for name in ("grid.yaml", "runs.json"))


def cell(record: dict) -> str:
    return " ".join(str(record["config"][name]) for name in ASKED)


def outcome(record: dict) -> dict:
    metrics = record["metrics"]
    predicted = json.dumps([metrics.get(name) for name in ("hits", "counts", "confusion")])
    return {
        "predictions": hashlib.sha256(predicted.encode()).hexdigest()[:16],
        "loss": metrics["loss"].hex(),
        "flops": record["cost"]["flops"],
    }


def machine(record: dict) -> dict:
    return {name: record["environment"][name] for name in MACHINE}
