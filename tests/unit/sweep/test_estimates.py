"""An estimate is compared with what was measured, and seconds from a cache were not."""

import json
from types import SimpleNamespace

from synthetic import outcomes, write_run

from lrtl_utils.sweep import estimates


def test_an_estimate_of_seconds_is_held_against_runs_that_took_none_from_a_cache(tmp_path):
    knobs = {"dataset": "sst2", "model": "minilm", "method": "linear_probe", "train_size": 32}
    for seed, cached in enumerate((0.0, 700.0)):
        write_run(tmp_path, outcomes(0.5, 32, seed), seconds=720.0, flops=200, cached=cached, seed=seed, **knobs)
    cells = [SimpleNamespace(id=path.stem) for path in tmp_path.glob("runs/*/*.json")]
    expected = {cell.id: {"device_seconds": 718.0, "flops": 100} for cell in cells}
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob(f"runs/*/{cells[0].id}.json"))
    expected |= dict.fromkeys(estimates.names(record), expected[cells[0].id])  # of a dry run without data, and one with
    (tmp_path / "estimate.json").write_text(json.dumps({"cells": expected}))
    assert estimates.against(tmp_path, cells) == [
        "2 of these cells had been estimated",
        "device hours of 1 cell, which took nothing from a cache: 0.199 estimated, 0.2 measured (+0%)",
        "FLOPs: 200 estimated, 400 measured (-50%)",
    ]
