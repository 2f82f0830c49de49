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


def is_counted_alike(record: dict) -> bool:
    """Whether its FLOPs are the same on every machine. How often a solver looks at its loss depends on rounding."""
    return "solve" not in record["cost"]["flops_by_phase"]


def machine(record: dict) -> dict:
    return {name: record["environment"][name] for name in MACHINE} | {"rounding": rounding()}


def rounding() -> str:
    """A hash of the last bits of what the models compute, at their sizes.

    Processors of one name may have other instructions or caches, by which libraries cut large products into blocks.
    """
    threads, random = torch.get_num_threads(), torch.Generator().manual_seed(0)
    torch.set_num_threads(1)
    shapes = ((1280, 384), (1536, 384), (16, 32, 32, 32), (64, 32, 1, 1), (64, 1, 3, 3))
    rows, wide, images, pointwise, depthwise = (torch.randn(*shape, generator=random) for shape in shapes)
    hidden = torch.nn.functional.gelu(torch.nn.functional.layer_norm(rows, (384,)) @ wide.T)
    heads = rows.view(32, 40, 12, 32).transpose(1, 2)
    attended = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
    maps = torch.nn.functional.conv2d(torch.nn.functional.conv2d(images, pointwise), depthwise, groups=64)
    products = [rows.T @ rows, (rows.T @ rows).double()]
    solved = [torch.linalg.cholesky(each + torch.eye(384)) for each in products]
    found = [hidden, hidden @ wide, torch.softmax(hidden, -1), attended, maps, *products, *solved]
    bits = b"".join(each.numpy().tobytes() for each in found) + np.linalg.eigvalsh(products[0].numpy()).tobytes()
    torch.set_num_threads(threads)
    return hashlib.sha256(bits).hexdigest()[:16]


if __name__ == "__main__":
    records = [json.loads(path.read_text(encoding="utf-8")) for path in Path(sys.argv[1]).glob("runs/*/*.json")]
    (made_on,) = {json.dumps(machine(record)) for record in records}
    cells = ",\n".join(sorted(f'  "{cell(record)}": {json.dumps(outcome(record))}' for record in records))
    RUNS.write_text(f'{{\n "machine": {made_on},\n "cells": {{\n{cells}\n }}\n}}\n', encoding="utf-8")
