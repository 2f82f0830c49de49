"""The confirmation, end to end, once, on shipped data: refused until all is frozen, tuned, run, and checked."""

import pytest
import yaml
from complete import call

from lrtl_utils.files import ROOT
from lrtl_utils.runs.verify import verify
from lrtl_utils.study import tables
from lrtl_utils.study.benchmarks import recipe, tuning

SMALL = {"model": "efficientnet_lite0", "image_size": 32, "test_limit": 40, "device": "cpu"}
TUNING = SMALL | {"dataset": "digits", "method": ["full"], "learning_rate": [1e-4, 1e-3], "epochs": 1, "seed": 1000}
GRID = SMALL | {"dataset": "digits", "method": ["progressive", "full"], "train_size": 60, "epochs": 1, "seed": 2000}


@pytest.mark.slow
def test_the_frozen_recipe_runs_beside_a_baseline_that_was_tuned_first(tmp_path):
    space = TUNING | {"train_size": 80, "validation_share": 0.25}
    for label in "ab":  # a run on images that cannot be decoded fails
        (tmp_path / "broken" / label).mkdir(parents=True)
        for i in range(8):
            (tmp_path / "broken" / label / f"{i}.png").write_bytes(f"{label}{i}".encode())
    broken = {"dataset": "broken", "method": "linear_probe", "train_size": None, "data_fraction": 1.0}
    for name, content in (("space", space), ("grid", GRID | {"blocks": {"digits": {}, "broken": broken}})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    words = ["confirm", "grid.yaml", "--tuning", "space.yaml", "--tuned", "tuned", "--results", "confirmation"]
    refused = call(*words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert refused.returncode != 0
    assert "frozen before a confirmation begins" in refused.stderr
    assert not (tmp_path / "tuned").exists()
    recipe.freeze(tmp_path / "tuned")
    done = call(*words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines()[-1] == str(tmp_path / "confirmation" / "table.md")
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "broken" in said
    assert done.returncode == 1
    (chosen,) = tuning.chosen(tmp_path / "tuned").to_dict("records")
    assert (chosen["kind"], chosen["labels"], chosen["tried"]) == ("image", 60, "2 of 2")
    runs = tables.records(tmp_path / "confirmation", "completed").set_index("method")
    assert runs.loc["full", "config.learning_rate"] == chosen["setting"]["learning_rate"]
    assert verify(tmp_path / "confirmation").faults == {}
    assert "full (tuned)" in (tmp_path / "confirmation" / "table.md").read_text()
