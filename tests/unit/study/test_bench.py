"""The benchmark's tables, from records whose outcomes were chosen."""

import numpy as np
import pytest
from synthetic import write_run

from lrtl_utils.config import read_config
from lrtl_utils.errors import InputError
from lrtl_utils.study import tables
from lrtl_utils.study.benchmarks import bench

SST2 = {"dataset": "sst2", "model": "minilm", "train_size": 100}
# Validation score by method and rate, of the tuning runs.
TUNING = {("conventional", 5e-5): 0.6, ("conventional", 1e-3): 0.8, ("full", 2e-3): 0.7, ("full", 1e-3): 0.9}
GRID = {"progressive": None, "tfidf": None, "full": 1e-3, "conventional": 5e-5}
RIGHT = np.arange(400) < 300


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    for (method, rate), score in TUNING.items():
        knobs = SST2 | {"method": method, "learning_rate": rate, "seed": 100, "validation_share": 0.2}
        write_run(folder, RIGHT, validation=score, **knobs)
    for seed in range(3):
        for method, rate in [*GRID.items(), ("conventional", 1e-3)]:
            knobs = SST2 | {"method": method, "learning_rate": rate, "seed": seed, "validation_share": 0.0}
            spent = {"flops": 5, "seconds": 0.15, "memory": 25.0} if method == "progressive" else {}
            write_run(folder, RIGHT & (np.arange(400) >= (rate == 5e-5)), **spent, **knobs)
    return folder


def test_baselines_are_tuned_on_validation_splits(results):
    assert bench.tuned(tables.records(results)) == {
        ("sst2", "minilm"): {
            "plan": {"method": "conventional", "learning_rate": 5e-5, "epochs": 3},  # the only rate of the plan
            "wide": {"method": "conventional", "learning_rate": 1e-3, "epochs": 3},
            "full": {"method": "full", "learning_rate": 1e-3, "epochs": 3},
        }
    }


def test_without_tuning_there_is_nothing_to_compare_with(tmp_path):
    write_run(tmp_path, RIGHT, method="full", **SST2)
    with pytest.raises(InputError, match="bench_tuning"):
        bench.by_setting(tmp_path)


def test_a_tuned_method_runs_at_its_tuned_settings_and_a_block_runs_seed_by_seed(results):
    methods = ("linear_probe", "full", "conventional")
    grid = [("text", read_config(SST2 | {"method": method, "seed": seed})) for method in methods for seed in (0, 1)]
    configs = [config for _, config in bench.tuned_grid(grid, bench.tuned(tables.records(results)))]
    of_a_seed = [("linear_probe", None), ("full", 1e-3), ("conventional", 5e-5), ("conventional", 1e-3)]
    assert [(config.method, config.learning_rate) for config in configs] == 2 * of_a_seed
    assert [config.seed for config in configs] == 4 * [0] + 4 * [1]
    assert {config.method for _, config in bench.tuned_grid(grid, {})} == {"linear_probe", "full"}


def test_the_table_holds_what_the_records_do(results):
    table = bench.table(bench.by_setting(results)).set_index("line")
    assert set(table.index) == {"progressive", "tfidf", *bench.AGAINST.values()}
    row = table.loc["progressive"]
    assert (row["seeds"], row["labels"], row["data set"]) == (3, 100, "sst2")
    assert (row["FLOPs / plan"], row["seconds / plan"], row["memory / plan"]) == ("0.050", "0.150", "0.500")
    assert row["points over plan"].startswith("+0.2 [")
    assert row["points over full"] == "+0.0 [-0.9, +0.9]"


def test_the_bar_is_judged_on_what_the_records_hold_and_written_to_a_page(results, tmp_path):
    (results / "rung_zero.csv").write_text("data set,model,labels,turns,share\nsst2,minilm,100,4,1.1\n")
    page = bench.write_table(results).read_text()
    assert "Met in 2 of 3." in page  # more than a tenth of the seconds of the first
    assert "torch" in page
    assert "met" in page.split("## Rung 0")[1]
    bars = bench.standing(bench.by_setting(results)).set_index("against")["bar"]
    assert bars.to_dict() == {
        "conventional (plan-tuned)": "missed: seconds",
        "conventional (wide-tuned)": "met",
        "full (tuned)": "met",
    }


def standing(results, wrong, **changes):
    """Of a `progressive` that has every answer of `full` but so many of 400, under three seeds."""
    for seed in range(3):
        knobs = SST2 | {"seed": seed}
        write_run(results, RIGHT, method="full", **knobs)
        write_run(results, RIGHT & (np.arange(400) >= wrong), method="progressive", seconds=0.1, flops=10, **knobs)
    frame = tables.records(results).set_index("seed")
    ours, theirs = (frame[frame["method"] == method] for method in ("progressive", "full"))
    return bench._standing(ours.assign(**changes), theirs, "full")


@pytest.mark.parametrize(("wrong", "bar"), [(0, "met"), (1, "missed: score"), (20, "missed: score")])
def test_as_high_is_the_protocols(tmp_path, wrong, bar):
    """One answer of 400 is 0.25 points, and of so few examples the interval reaches below -1."""
    row = standing(tmp_path, wrong)
    assert (row["bar"], row["seeds"], row["timed"]) == (bar, 3, 3)


def test_what_was_not_timed_on_one_machine_is_not_met(tmp_path):
    row = standing(tmp_path, 0, device="another")
    assert (row["bar"], row["timed"]) == ("missed: seconds, not timed on one machine", 0)
    assert "seconds" not in row


def test_seconds_from_a_cache_meet_no_bar(tmp_path):
    for seed in range(3):
        knobs = SST2 | {"seed": seed}
        write_run(tmp_path, RIGHT, method="full", cached=0.5 * (seed == 1), **knobs)
        write_run(tmp_path, RIGHT, method="progressive", seconds=0.1, flops=10, cached=0.05 * (seed != 2), **knobs)
    frame = tables.timed(tables.records(tmp_path)).set_index("seed")
    ours, theirs = (frame[frame["method"] == method] for method in ("progressive", "full"))
    row = bench._standing(ours, theirs, "full")
    assert (row["seeds"], row["timed"], row["seconds"]) == (3, 1, "0.100")
    row = bench._standing(ours[ours.index < 2], theirs, "full")  # and two seeds show nothing of the score
    assert (row["bar"], row["timed"]) == ("missed: score; seconds, not timed on one machine", 0)
