"""Runs of tests/golden/grid.yaml predict what they did before; `tests/nightly/test_golden.py` compares all of them."""

import json

import golden
import pytest

from lrtl_utils import Run

CELLS = {
    "news": {"dataset": "news_sample", "model": "minilm", "max_length": 40},
    "digits": {"dataset": "digits", "model": "efficientnet_lite0", "image_size": 64, "epochs": 3},
    "entities": {"dataset": "entities_sample", "model": "minilm_crf", "max_length": 48},
}


@pytest.mark.parametrize("block", CELLS)
def test_a_run_of_the_grid_gives_the_same_predictions(block, tmp_path):
    run = Run(results=tmp_path, method="linear_probe", data_fraction=0.05, seed=0, **CELLS[block])
    run.fit(*run.label())
    run.record(run.test())
    record = json.loads(run.path.read_text(encoding="utf-8"))
    expected = json.loads(golden.RUNS.read_text(encoding="utf-8"))
    if golden.machine(record) != expected["machine"]:
        pytest.skip("another processor or another version of torch rounds differently")
    assert golden.outcome(record) == expected["cells"][golden.cell(record)]
