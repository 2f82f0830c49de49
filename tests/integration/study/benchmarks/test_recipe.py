import pandas as pd
from whole_run import run

from lrtl_utils.study.benchmarks import recipe

DIGITS = {"dataset": "digits", "model": "efficientnet_lite0", "image_size": 32, "train_size": 80}


def test_rung_zero_and_memory_stand_on_the_page_beside_their_bars(tmp_path):
    for folder, precision in ((tmp_path, "fp32"), (tmp_path / "bf16", "bf16")):
        run(folder, **DIGITS, method="linear_probe", precision=precision)
        run(folder, **DIGITS, method="progressive", epochs=1, precision=precision)
    page = recipe.measure(tmp_path).read_text()
    before, of_memory = page.split("## Memory")
    assert "## Rung 0" in before
    (rung,) = pd.read_csv(tmp_path / "rung_zero.csv").to_dict("records")
    assert (rung["data set"], rung["model"], rung["labels"]) == ("digits", "efficientnet_lite0", 80)
    assert 0 < rung["lowest"] <= rung["share"] <= rung["highest"]
    held = pd.read_csv(tmp_path / "memory.csv").to_dict("records")
    assert [row["precision"] for row in held] == ["fp32", "bf16"]
    for memory in held:
        assert (memory["data set"], memory["labels"], memory["seeds"]) == ("digits", 80, 1)
        assert 0 < memory["share"] <= memory["highest"]
        assert f"{memory['share']:g}" in of_memory
        assert f"In {memory['precision']} it is at most 1.1 in " in page
    assert recipe.write(tmp_path).read_text() == page
