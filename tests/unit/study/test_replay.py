"""The replay's sums against sums by hand, over records that are written as a run writes them."""

import pytest
import yaml

from lrtl_utils.runs import store as runs
from lrtl_utils.study.benchmarks import replay
from lrtl_utils.sweep import strategies
from lrtl_utils.sweep.search import recorded

SPACE = {
    "dataset": "digits",
    "model": "simple_nn",
    "method": "from_scratch",
    "train_size": 40,
    "validation_share": 0.5,
    "device": "cpu",
    "learning_rate": [1e-4, 1e-3, 1e-2],
    "epochs": [1, 3],
}
# By rate and epochs: validation score, device seconds, FLOPs.
MEASURED = {
    (1e-4, 1): (0.500, 1.0, 100),
    (1e-3, 1): (0.600, 2.0, 100),
    (1e-2, 1): (0.400, 3.0, 100),
    (1e-4, 3): (0.700, 10.0, 300),
    (1e-3, 3): (0.900, 20.0, 300),
    (1e-2, 3): (0.896, 30.0, 300),
}


def write(cell, results, score, seconds, flops):
    source = {"kind": "package", "id": "digits", "revision": None, "sha256": "0" * 64}
    runs.completed(
        results,
        cell.identity,
        cell.config,
        cell.asked,
        data={"train_size": 20, "validation_size": 20, "test_size": 5, "source": source, "subset_sha256": "1" * 64},
        metrics={"accuracy": 0.1, "hits": ""},
        validation={"score": score},
        cost={"device_seconds": seconds, "flops": flops, "predict_seconds": 0.0},
        model={"source": None, "parameters": 10, "trainable_parameters": 10},
        curve=[],
        precision="fp32",
    )


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(SPACE, sort_keys=False))
    return strategies.read_space(path)


def record_all(space, results, measured):
    for one in space.combinations:
        write(one.cells[0], results, *measured[one.values["learning_rate"], one.values["epochs"]])


def replayed(space, results, **options):
    grid = [recorded(one, results) for one in space.combinations]
    frame = replay.replay(space, grid, **{"seeds": 4, "keep": 3, "fidelity": "epochs"} | options)
    return grid, {name: rows.to_dict("records") for name, rows in frame.groupby("sampler")}


def test_halving_pays_the_lowest_rung_and_the_best_again(space, tmp_path):
    record_all(space, tmp_path, MEASURED)
    _, rows = replayed(space, tmp_path)
    # Whatever the seed: 1 + 2 + 3 seconds for one epoch each, then the best of them, which is the grid's best.
    assert rows["halving over epochs, 1/3 kept"] == [
        {"sampler": "halving over epochs, 1/3 kept", "seed": seed, "trials": 4, "device_seconds": 26.0, "flops": 600}
        for seed in range(4)
    ]


def test_what_is_within_half_a_point_counts_and_nothing_below(space, tmp_path):
    record_all(space, tmp_path, MEASURED)
    _, rows = replayed(space, tmp_path)
    near = {space.places[1e-3, 3], space.places[1e-2, 3]}  # 0.900 and 0.896
    for row in rows["random order"]:
        order = [at for (at,) in strategies.random_order(space, row["seed"])]
        until = min(order.index(at) for at in near) + 1
        spent = [MEASURED[tuple(space.combinations[at].values.values())] for at in order[:until]]
        assert row["trials"] == until
        assert row["device_seconds"] == sum(seconds for _, seconds, _ in spent)
        assert row["flops"] == sum(flops for _, _, flops in spent)
    assert len({row["trials"] for row in rows["random order"]}) > 1


def test_where_every_setting_is_as_good_the_first_trial_does(space, tmp_path):
    record_all(space, tmp_path, {key: (0.5, seconds, flops) for key, (_, seconds, flops) in MEASURED.items()})
    _, rows = replayed(space, tmp_path)
    assert {row["trials"] for group in rows.values() for row in group} == {1}


def test_halving_that_drops_the_best_goes_on_with_the_next_arms_and_then_with_what_it_dropped(space, tmp_path):
    misled = MEASURED | {(1e-2, 1): (0.7, 3.0, 100), (1e-2, 3): (0.1, 30.0, 300)}
    record_all(space, tmp_path, misled)
    _, rows = replayed(space, tmp_path, keep=2, seeds=8)  # brackets of two arms, of which one is kept
    first = set()
    for row in rows["halving over epochs, 1/2 kept"]:
        arms = strategies.arms(space, row["seed"], "epochs")
        rates = frozenset(space.combinations[low].values["learning_rate"] for low, _ in arms[:2])
        seconds = {
            frozenset({1e-4, 1e-3}): 1 + 2 + 20,
            frozenset({1e-4, 1e-2}): 1 + 3 + 30 + 2 + 20,
            frozenset({1e-3, 1e-2}): 3 + 2 + 30 + 1 + 10 + 20,  # 1e-3 looks worse at first, and is dropped
        }
        assert row["device_seconds"] == seconds[rates]
        first.add(rates)
    assert len(first) == 3


def test_the_table_is_of_the_records_and_the_same_each_time(space, tmp_path):
    record_all(space, tmp_path, MEASURED)
    path = replay.write_table(space, tmp_path, seeds=2, keep=3, fidelity=None)
    text = path.read_text()
    assert path == tmp_path / "search.md"
    cells = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
        for line in text.splitlines()
        if "|" in line
    }
    assert cells["halving over epochs, 1/3 kept"] == ["4.0", "26.0", "0.394 [0.394, 0.394]", "0.500 [0.500, 0.500]"]
    assert cells["the whole grid"] == ["6", "66.0", "1", "1"]
    assert "6 distinct settings of learning_rate, epochs; the best has validation score 0.9000" in text
    assert "within 0.5 points of it, as 2 settings are" in text
    assert str(tmp_path) not in text
    assert replay.write_table(space, tmp_path, seeds=2, keep=3, fidelity=None).read_text() == text


def test_a_failed_setting_is_paid_for_and_never_the_best(space, tmp_path):
    record_all(space, tmp_path, MEASURED)
    cell = space.combinations[space.places[1e-3, 3]].cells[0]
    cell.path(tmp_path).unlink()  # a completed record would stay
    runs.failed(tmp_path, cell.identity, cell.config, cell.asked, "out of memory", started=1e9)
    grid, rows = replayed(space, tmp_path)
    assert grid[space.places[1e-3, 3]].error == "out of memory"
    assert all(row["trials"] > 0 for group in rows.values() for row in group)
    assert "validation score 0.8960" in replay.write_table(space, tmp_path, seeds=1, keep=3, fidelity=None).read_text()
