"""What a run of tests/golden/grid.yaml gave: the hash of its predictions, its loss to the last bit, its FLOPs.

`python tests/support/golden.py RESULTS` writes tests/golden/runs.json anew, from the records of a sweep of that grid.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

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
    return {name: record["environment"][name] for name in MACHINE} | {"rounding": rounding()}


def rounding() -> str:
    """A hash of the last bits of a few results: processors of one name may have different instructions."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    rows, images, kernels = (
        torch.randn(*shape, generator=random) for shape in ((64, 384), (2, 8, 16, 16), (8, 8, 3, 3))
    )
    product = rows @ rows.T
    found = [product, torch.nn.functional.conv2d(images, kernels), torch.softmax(product / 8, -1)]
    bits = b"".join(each.numpy().tobytes() for each in found) + np.linalg.eigvalsh(product.numpy()).tobytes()
    torch.set_num_threads(threads)
    return hashlib.sha256(bits).hexdigest()[:16]


if __name__ == "__main__":
    records = [json.loads(path.read_text(encoding="utf-8")) for path in Path(sys.argv[1]).glob("runs/*/*.json")]
    (made_on,) = {json.dumps(machine(record)) for record in records}
    cells = ",\n".join(sorted(f'  "{cell(record)}": {json.dumps(outcome(record))}' for record in records))
    RUNS.write_text(f'{{\n "machine": {made_on},\n "cells": {{\n{cells}\n }}\n}}\n', encoding="utf-8")
