"""The benchmark over shipped data, end to end: tuning first, then everything side by side, and the table."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from synthetic import write_run

from lrtl_utils.errors import InputError
from lrtl_utils.files import ROOT
from lrtl_utils.runs import store as runs
from lrtl_utils.study import tables
from lrtl_utils.study.benchmarks import bench
from lrtl_utils.sweep.footprint import kept_by_config
from lrtl_utils.sweep.grid import read_grid

SMALL = {"dataset": "digits", "model": "efficientnet_lite0", "image_size": 32, "train_size": 20, "test_limit": 60}
RATES = {"conventional": [5e-5, 1e-3], "full": [2e-3, 1e-3]}
BLOCKS = {method: {"method": method, "learning_rate": rates} for method, rates in RATES.items()}
TUNING = SMALL | {"validation_share": 0.2, "epochs": 1, "blocks": BLOCKS}
GRID = SMALL | {"method": ["linear_probe", "progressive", "full", "conventional"], "epochs": 1, "seed": [0, 1, 2]}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    for name, content in (("tuning", TUNING | {"seed": 100}), ("grid", GRID)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    command = [sys.executable, "-m", "lrtl_utils", "bench", folder / "grid.yaml", "--tuning", folder / "tuning.yaml"]
    run = subprocess.run([*command, "--results", folder / "out"], cwd=ROOT, capture_output=True, text=True, check=True)
    return folder, run.stdout


def test_baselines_are_tuned_on_carves_and_rerun_on_all_labels(done):
    folder, _ = done
    frame = tables.records(folder / "out", "completed")
    tuning, reported = frame[frame["seed"] >= 100], frame[frame["seed"] < 100]
    settings = bench.tuned(folder / "out")["digits", "efficientnet_lite0"]
    assert settings["plan"] == {
        "method": "conventional",
        "learning_rate": 5e-5,
        "epochs": 1,
    }  # the plan's only rate here
    for name, method in (("wide", "conventional"), ("full", "full")):
        scores = tuning[tuning["method"] == method].set_index("config.learning_rate")["validation.score"]
        assert sorted(scores.index) == sorted(RATES[method])
        assert scores[settings[name]["learning_rate"]] == scores.max()
    for method in RATES:
        rerun = reported[reported["method"] == method]
        assert set(rerun["config.learning_rate"]) == {
            s["learning_rate"] for s in settings.values() if s["method"] == method
        }
        assert set(rerun["config.validation_share"]) == {0.0}
        assert sorted(rerun["seed"].unique()) == [0, 1, 2]
    subsets = {seed: {r["data"]["subset_sha256"] for r in g["record"]} for seed, g in reported.groupby("seed")}
    assert all(len(hashes) == 1 for hashes in subsets.values())  # every method saw the same labels


def test_the_table_holds_what_the_records_do(done):
    folder, printed = done
    path = folder / "out" / "table.md"
    assert printed.splitlines()[-1] == str(path)
    table = pd.read_csv(folder / "out" / "table.csv").set_index("line")
    frame = tables.records(folder / "out", "completed")
    frame = frame[frame["seed"] < 100].set_index(["method", "config.learning_rate", "seed"]).sort_index()
    plan = frame.loc["conventional", 5e-5]
    ours = frame.loc["progressive"].droplevel(0)
    row = table.loc["progressive"]
    assert row["seeds"] == 3
    assert row["FLOPs / plan"] == pytest.approx((ours["cost.flops"] / plan["cost.flops"]).mean(), abs=1e-3)
    assert row["seconds / plan"] == pytest.approx(
        (ours["cost.device_seconds"] / plan["cost.device_seconds"]).mean(), abs=1e-3
    )
    assert row["memory / plan"] == pytest.approx(
        (ours["cost.peak_memory_mib"] / plan["cost.peak_memory_mib"]).mean(), abs=1e-3
    )
    assert row["points over plan"].startswith(f"{100 * (ours['score'] - plan['score']).mean():+.1f} [")
    floor = float(table.loc["floor: one forward pass", "FLOPs / plan"])
    assert 0 < floor < float(table.loc["linear_probe", "FLOPs / plan"])
    page = path.read_text()
    environment = frame["record"].iloc[0]["environment"]
    assert environment["device"] in page
    assert f"torch {environment['torch']}" in page


def test_the_bar_is_judged_on_what_the_records_hold(done):
    folder, _ = done
    table = bench.standing(bench.by_setting(folder / "out"), kept_by_config).set_index("against")
    frame = tables.records(folder / "out", "completed")
    frame = frame[frame["seed"] < 100].set_index(["method", "config.learning_rate", "seed"]).sort_index()
    ours, settings = frame.loc["progressive"].droplevel(0), bench.tuned(folder / "out")["digits", "efficientnet_lite0"]
    for name, most in bench.BAR.items():
        theirs = frame.loc[settings[name]["method"], settings[name]["learning_rate"]]
        row, points = table.loc[bench.AGAINST[name]], 100 * (ours["score"] - theirs["score"]).mean()
        assert row["points"].startswith(f"{points:+.1f} [")
        shares = {cost: (ours[f"cost.{cost}"] / theirs[f"cost.{cost}"]).mean() for cost in ("flops", "device_seconds")}
        assert float(row["FLOPs"]) == pytest.approx(shares["flops"], abs=1e-3)
        highest = float(row["points"].split(", ")[1].rstrip("]"))
        as_high = points >= -0.5 and highest >= 0
        assert (row["bar"] == "met") == (as_high and max(shares.values()) <= most)
        assert ("FLOPs" in row["bar"]) == (shares["flops"] > most)
    peaks = ours["cost.peak_memory_mib"] / frame.loc["linear_probe"].droplevel(0)["cost.peak_memory_mib"]
    assert 0 < float(table.loc["memory accounted for", "memory"]) < peaks.mean()
    assert f"Met in {sum(table['bar'] == 'met')} of 4." in (folder / "out" / "table.md").read_text()


def test_rung_0_is_timed_beside_a_forward_pass_once(done):
    folder, _ = done
    (row,) = pd.read_csv(folder / "out" / "rung_zero.csv").to_dict("records")
    assert (row["data set"], row["labels"], row["turns"]) == ("digits", 20, 4)
    assert 0 < row["lowest"] <= row["share"] <= row["highest"]
    page = (folder / "out" / "table.md").read_text()
    assert f"{row['share']:g}" in page.split("## Rung 0")[1]
    assert "at most 1.3 times for text, 2 times for tokens" in page


def test_memory_is_accounted_for_by_cache_trained_weights_and_a_batch_above_what_is_frozen():
    def accounted(cache=5.0, blocks=3, trained=0, batch=8, tokens=64):
        config = {"dataset": "sst2", "model": "minilm", "optimizer": "adamw", "batch_size": batch, "max_length": 128}
        curve = [{"cache_mib": cache, "trained_blocks": blocks}]
        model = {"trainable_parameters": trained}
        record = {"config": config, "curve": curve, "model": model, "data": {"labels": ["a", "b"]}}
        return bench._accounted_mib(record, tokens, kept_by_config)

    assert accounted(cache=7) - accounted() == pytest.approx(2)
    assert accounted(trained=2**20) - accounted() == pytest.approx(12)  # a gradient and two moments, 4 bytes each
    assert accounted(batch=16) - 5 == pytest.approx(2 * (accounted() - 5))
    assert accounted(blocks=6) > 1.5 * accounted()
    assert accounted(tokens=128) > 1.5 * accounted()


def test_a_batch_is_as_long_as_the_runs_longest_row(monkeypatch):
    config = {"dataset": "news_sample", "model": "minilm", "method": "progressive", "train_size": 40, "seed": 0}
    config |= {"data_fraction": None, "max_length": 128}
    longest, cut = bench._longest([{"config": config}, {"config": config | {"max_length": 16}}])
    assert longest % 8 == 0
    assert 8 < longest < 128
    assert cut == 16
    monkeypatch.delenv("LRTL_MIRROR", raising=False)
    rows = pd.DataFrame({"record": [{"config": config | {"dataset": "imdb"}}], "device": "here"}, index=[0])
    assert bench._memory(rows, rows, kept_by_config)["bar"] == ""  # its data are not at hand


def standing(tmp_path, wrong, **changes):
    """Of a ladder that has every answer of `full` but so many of 400, under three seeds."""
    right = np.arange(400) < 300
    for seed in range(3):
        ours = right & (np.arange(400) >= wrong)
        write_run(tmp_path, right, method="full", seed=seed, dataset="sst2", train_size=100)
        write_run(
            tmp_path, ours, method="progressive", seconds=0.1, flops=10, seed=seed, dataset="sst2", train_size=100
        )
    frame = tables.records(tmp_path, "completed").set_index("seed")
    ours, theirs = (frame[frame["method"] == method] for method in ("progressive", "full"))
    return bench._standing(ours.assign(**changes), theirs, "full")


@pytest.mark.parametrize(("wrong", "bar"), [(0, "met"), (1, "met"), (20, "missed: score")])
def test_as_high_is_the_protocols(tmp_path, wrong, bar):
    """One answer of 400 is 0.25 points, and its interval holds zero."""
    row = standing(tmp_path, wrong)
    assert (row["bar"], row["seeds"], row["timed"]) == (bar, 3, 3)


def test_what_was_not_timed_on_one_machine_is_not_met(tmp_path):
    row = standing(tmp_path, 0, device="another")
    assert (row["bar"], row["timed"]) == ("missed: seconds, not timed on one machine", 0)
    assert "seconds" not in row


def test_a_second_time_nothing_runs(done):
    folder, _ = done
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "runs").rglob("*.json")}
    command = [sys.executable, "-m", "lrtl_utils", "bench", folder / "grid.yaml", "--tuning", folder / "tuning.yaml"]
    run = subprocess.run([*command, "--results", folder / "out"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.count(" 0 to run") == 2
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "out" / "runs").rglob("*.json")}


def test_a_block_runs_seed_by_seed(done):
    folder, _ = done
    configs = [config for _, config in bench.tuned_grid(read_grid(folder / "grid.yaml"), bench.tuned(folder / "out"))]
    seeds = [config.seed for config in configs]
    assert seeds == sorted(seeds)
    each = np.array_split([config.method for config in configs], 3)
    assert {tuple(methods) for methods in each} == {tuple(each[0])}
    assert {"conventional", "full"} < set(each[0])


def test_without_tuning_there_is_nothing_to_compare_with(done, tmp_path):
    shutil.copytree(done[0] / "out" / "runs", tmp_path / "runs")
    for path in (tmp_path / "runs").rglob("*.json"):
        if runs.read(path)["config"]["seed"] >= 100:
            path.unlink()
    with pytest.raises(InputError, match="bench_tuning"):
        bench.by_setting(tmp_path)
