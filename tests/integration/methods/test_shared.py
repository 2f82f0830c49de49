"""What runs of a sweep share: a run says the same with it as alone, and nothing that goes wrong with it ends a run."""

import multiprocessing
import os
import time

import pytest
import torch
from adapting import prepare

from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import shared as sharing
from lrtl_utils.methods import solver
from lrtl_utils.methods.shared import Shared
from lrtl_utils.runs.run import Run, build, find_weights

pytestmark = pytest.mark.usefixtures("mirror")

TINY = {"train_size": 16, "batch_size": 8, "image_size": 32, "device": "cpu"}
TEXT = {"dataset": "ag_news", "model": "bert_base", "max_length": 16}
JUDGED = {"epochs": 1, "train_size": 40, "validation_share": 0.25}
CELLS = {
    "linear_probe": TEXT | {"method": "linear_probe"},
    "judged": TEXT | {"method": "linear_probe", "validation_share": 0.25},
    "lp_ft": TEXT | {"method": "lp_ft", "epochs": 1},
    "progressive": TEXT | {"method": "progressive"} | JUDGED,
    "full": TEXT | {"method": "full", "epochs": 1},
    "tagger": {"dataset": "conll2003", "model": "bert_crf", "max_length": 16, "method": "linear_probe"},
    "layers_and_shapes": {"dataset": "conll2003", "model": "bert_crf", "max_length": 16, "method": "linear_probe"}
    | {"layers": 2, "penalty": 3.0, "word_shape": True},
    "images": {"dataset": "cifar10", "model": "resnet50", "method": "linear_probe"},
    "image_ladder": {"dataset": "cifar10", "model": "resnet50", "method": "progressive"} | JUDGED,
}
MEASURED = ("seconds", "hours", "memory", "energy", "per_second")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of the test's own, in which everything is kept."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sharing, "WORTH", {"rows": 0.0, "features": 0.0})
    return tmp_path


def record_of(results, shared, **knobs):
    """What the notebook of a sweep's cell does."""
    planned = Run(results=results, **TINY | knobs)
    plan = {"id": planned.id, "device": planned.config.device, "precision": planned.config.precision}
    run = Run(planned.asked, results=results, plan=plan | {"shared": shared})
    run.fit(*run.label())
    return run.record(run.test())


def essence(part):
    """A record without what two runs of one configuration differ in: times, and what was measured."""
    if isinstance(part, dict):
        left_out = ("checksum", "started_at", "finished_at")
        kept = {name: each for name, each in part.items() if name not in left_out}
        return {name: essence(each) for name, each in kept.items() if not any(word in name for word in MEASURED)}
    return [essence(each) for each in part] if isinstance(part, list) else part


SLOW = {"image_ladder"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in CELLS])
def test_a_record_is_that_of_the_run_alone_but_for_its_seconds(name, tmp_path):
    alone, first, second = (
        record_of(tmp_path / str(at), shared, **CELLS[name]) for at, shared in enumerate((False, True, True))
    )
    assert essence(alone) == essence(first) == essence(second)
    assert alone["run_id"] == second["run_id"]
    costs = [record["cost"] for record in (alone, first, second)]
    assert [cost["cached_seconds"] for cost in costs[:2]] == [cost["cached_predict_seconds"] for cost in costs[:2]]
    assert costs[1]["cached_seconds"] == 0  # who makes an entry has done all of its work
    assert costs[2]["device_seconds"] >= costs[2]["cached_seconds"]
    assert costs[2]["predict_seconds"] > costs[2]["cached_predict_seconds"] > 0
    assert (costs[2]["cached_seconds"] > 0) == (name != "full")
    assert costs[2]["peak_memory_mib"] >= 0
    assert all(cost["overhead_seconds"] > 0 for cost in costs)


def test_other_seeds_share_the_test_split_and_other_inputs_share_nothing(tmp_path):
    record_of(tmp_path, True, **CELLS["linear_probe"])
    other_seed = record_of(tmp_path, True, **CELLS["linear_probe"] | {"seed": 1})["cost"]
    assert other_seed["cached_seconds"] == 0 < other_seed["cached_predict_seconds"]
    for change in ({"max_length": 8}, {"model": "distilbert"}, {"dataset": "sst2"}):
        other = record_of(tmp_path, True, **CELLS["linear_probe"] | change)["cost"]
        assert other["cached_seconds"] == other["cached_predict_seconds"] == 0
    layers = record_of(tmp_path, True, **CELLS["linear_probe"] | {"layers": 1})["cost"]
    assert layers["cached_seconds"] == 0  # other features, of the same rows


def model_and_shared(folder, **knobs):
    _, data, config = prepare(**TINY | CELLS["linear_probe"] | knobs)
    weights = find_weights(config)
    model = build(config, data, weights)
    return model, Shared(model, weights.sha256, config.precision, "a machine", folder)


def test_only_a_frozen_backbone_with_the_weights_of_its_files_is_as_it_was_loaded(tmp_path):
    model, shared = model_and_shared(tmp_path)
    assert not shared.untouched(CostMeter())  # it may be trained
    model.freeze(len(model.blocks))
    features, targets = torch.randn(8, model.head[-1].in_features), torch.arange(8) % 4
    solver.solve_head(model, [{"features": features, "targets": targets}], CostMeter())
    assert shared.untouched(CostMeter())
    weight = next(model.blocks[-1].parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight[0] += 1e-3
        assert not shared.untouched(CostMeter())
        weight.copy_(before)
    assert shared.untouched(CostMeter())


@pytest.mark.parametrize("method", ["conventional", "full", "bitfit", "lora", "lp_ft"])
def test_a_trained_backbone_is_not_as_it_was_loaded(method, tmp_path):
    planned = Run(results=tmp_path, **TINY | TEXT | {"method": method, "epochs": 1})
    plan = {"id": planned.id, "device": "cpu", "precision": planned.config.precision, "shared": True}
    run = Run(planned.asked, results=tmp_path, plan=plan)
    model = run.model
    run.fit(*run.label())
    model.freeze(len(model.blocks))  # even if nothing were trained from now on
    assert not run._shared.untouched(CostMeter())


def test_a_trained_run_leaves_nothing_that_a_frozen_one_would_take(tmp_path):
    for at, name in enumerate(("full", "lp_ft", "progressive")):
        record_of(tmp_path / str(at), True, **CELLS[name])
    after, alone = (
        record_of(tmp_path / f"probe {shared}", shared, **CELLS["linear_probe"]) for shared in (True, False)
    )
    assert essence(after) == essence(alone)


def once(shared, value=1.0, seconds=0.01, size=4):
    """Make an entry, or read it; what it holds, and the meter."""

    def compute():
        time.sleep(seconds)
        return torch.full((size,), value)

    functions = compute, lambda made: {"value": made}, lambda kept: kept["value"]
    with (meter := CostMeter()).measure():
        found = shared._once(["features"], iter([b"input", str(size).encode()]), *functions, meter)
    return found, meter


def files(folder):
    return sorted(folder.glob("*.bin"))


def test_who_makes_an_entry_is_timed_and_who_takes_it_adds_that_time(tmp_path):
    _, shared = model_and_shared(tmp_path / "kept")
    _, maker = once(shared, seconds=0.2)
    value, taker = once(shared, value=2.0)
    assert value.tolist() == [1.0] * 4
    assert maker.cached_seconds == 0
    assert 0.2 <= taker.cached_seconds <= maker.device_seconds
    assert taker.clocked() == pytest.approx(taker.device_seconds - taker.cached_seconds)
    assert taker.peak_memory_mib >= maker.peak_memory_mib - 1


def test_a_damaged_entry_is_made_again(tmp_path):
    _, shared = model_and_shared(tmp_path / "kept")
    once(shared)
    (path,) = files(shared.folder)
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:50] + b"?" + whole[51:], b""):
        path.write_bytes(damaged)
        value, meter = once(shared)
        assert (value.tolist(), meter.cached_seconds) == ([1.0] * 4, 0)
        assert once(shared)[1].cached_seconds > 0
    assert files(shared.folder) == [path]


def test_what_was_not_used_for_longest_goes_first_and_what_is_too_large_is_not_kept(tmp_path, monkeypatch):
    _, shared = model_and_shared(tmp_path / "kept")
    monkeypatch.setattr(sharing, "BOUND", 20_000)
    monkeypatch.setattr(sharing, "ENTRY_SHARE", 0.5)
    for age, size in enumerate((1000, 1001, 1002)):
        once(shared, size=size)
        newest = max(files(shared.folder), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (age, age))
    once(shared, size=1000)  # used again, so the second is now the oldest
    for size in (1003, 1004):
        once(shared, size=size)
    assert sum(path.stat().st_size for path in files(shared.folder)) <= 20_000
    assert once(shared, size=1000)[1].cached_seconds > 0
    assert once(shared, size=1001)[1].cached_seconds == 0
    once(shared, size=3000)
    assert once(shared, size=3000)[1].cached_seconds == 0


def test_what_costs_next_to_nothing_is_not_kept(tmp_path, monkeypatch):
    _, shared = model_and_shared(tmp_path / "kept")
    monkeypatch.setattr(sharing, "WORTH", {"features": 0.5})
    once(shared)
    assert not files(shared.folder)


def test_a_folder_that_cannot_be_written_to_is_no_failure(tmp_path):
    (tmp_path / "a file").write_text("")
    _, shared = model_and_shared(tmp_path / "a file" / "kept")
    assert once(shared)[0].tolist() == once(shared)[0].tolist() == [1.0] * 4


def fill(shared, start, answers):
    start.wait()
    value, _ = once(shared, size=100_000)
    answers.put(float(value.sum()))


def test_two_processes_that_make_the_same_entry_do_each_other_no_harm(tmp_path):
    _, shared = model_and_shared(tmp_path / "kept")
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(2), context.Queue()
    workers = [context.Process(target=fill, args=(shared, start, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [answers.get(timeout=60) for _ in workers] == [100_000.0] * 2
    for worker in workers:
        worker.join()
    assert [path.suffix for path in shared.folder.iterdir()] == [".bin"]
    value, meter = once(shared, value=2.0, size=100_000)
    assert float(value.sum()) == 100_000.0
    assert meter.cached_seconds > 0
