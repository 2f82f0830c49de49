"""The benchmark of shipped data, end to end, once; and what needs a model to be judged."""

import subprocess
import sys

import pandas as pd
import pytest
import yaml

from lrtl_utils.files import ROOT
from lrtl_utils.study import tables
from lrtl_utils.study.benchmarks import bench, measured

ACCOUNTED = measured.accounted_mib
SMALL = {"dataset": "digits", "model": "efficientnet_lite0", "image_size": 32, "train_size": 20, "test_limit": 60}
TUNING = SMALL | {"method": ["conventional", "full"], "learning_rate": 5e-5, "validation_share": 0.2, "seed": 100}
GRID = SMALL | {"method": ["linear_probe", "progressive", "full", "conventional"]}


@pytest.mark.slow
def test_baselines_are_tuned_and_everything_runs_beside_them_once(tmp_path):
    for name, content in (("tuning", TUNING | {"epochs": 1}), ("grid", GRID | {"epochs": 1})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    words = ["bench", tmp_path / "grid.yaml", "--tuning", tmp_path / "tuning.yaml", "--results", tmp_path / "out"]
    command = [sys.executable, "-m", "lrtl_utils", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / "table.md")
    frame = tables.records(tmp_path / "out")
    reported = frame[frame["seed"] < 100]
    assert reported["method"].value_counts().to_dict() == dict.fromkeys(GRID["method"], 1)  # one rate for both tunings
    assert reported["record"].map(lambda record: record["data"]["subset_sha256"]).nunique() == 1
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("line")
    floor = table.loc["floor: one forward pass", "FLOPs / plan"]
    assert 0 < float(floor) < float(table.loc["linear_probe", "FLOPs / plan"])
    against = bench.standing(bench.by_setting(tmp_path / "out"), ACCOUNTED).set_index("against")
    assert float(against.loc["memory accounted for", "memory"]) > 0
    (row,) = pd.read_csv(tmp_path / "out" / "rung_zero.csv").to_dict("records")
    assert (row["data set"], row["labels"], row["turns"]) == ("digits", 20, 4)
    assert 0 < row["lowest"] <= row["share"] <= row["highest"]
    measured.write_memory(tmp_path / "out")
    (row,) = pd.read_csv(tmp_path / "out" / "memory.csv").to_dict("records")
    assert (row["data set"], row["labels"], row["seeds"]) == ("digits", 20, 1)
    assert 0 < row["share"] <= row["highest"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*.json")}
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert again.stdout.count(" 0 to run") == 2
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*.json")}


def test_memory_is_accounted_for_by_cache_trained_weights_and_a_batch_above_what_is_frozen():
    def accounted(cache=5.0, blocks=3, trained=0, batch=8, tokens=64):
        config = {"dataset": "sst2", "model": "minilm", "optimizer": "adamw", "batch_size": batch, "max_length": 128}
        curve = [{"cache_mib": cache, "trained_blocks": blocks}]
        model = {"trainable_parameters": trained}
        record = {"config": config, "curve": curve, "model": model, "data": {"labels": ["a", "b"]}}
        return measured._accounted_mib(record, tokens)

    assert accounted(cache=7) - accounted() == pytest.approx(2)
    assert accounted(trained=2**20) - accounted() == pytest.approx(12)  # a gradient and two moments, 4 bytes each
    assert accounted(batch=16) - 5 == pytest.approx(2 * (accounted() - 5))
    assert accounted(blocks=6) > 1.5 * accounted()
    assert accounted(tokens=128) > 1.5 * accounted()


def test_a_batch_is_as_long_as_the_runs_longest_row(monkeypatch):
    config = {"dataset": "news_sample", "model": "minilm", "method": "progressive", "train_size": 40, "seed": 0}
    config |= {"data_fraction": None, "max_length": 128}
    longest, cut = measured.longest([{"config": config}, {"config": config | {"max_length": 16}}])
    assert longest % 8 == 0
    assert 8 < longest < 128
    assert cut == 16
    monkeypatch.delenv("LRTL_MIRROR", raising=False)
    rows = pd.DataFrame({"record": [{"config": config | {"dataset": "imdb"}}], "device": "here"}, index=[0])
    assert bench._memory(rows, rows, ACCOUNTED)["bar"] == ""  # its data are not at hand
