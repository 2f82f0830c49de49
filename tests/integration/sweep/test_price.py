"""A price needs neither data nor weights, and its FLOPs are those that a real run counts; seconds are only ordered."""

import json
import re
from dataclasses import replace

import pieces as methods
import pytest
import torch
import yaml
from typer.testing import CliRunner

from lrtl_utils.cli import app
from lrtl_utils.config import RunConfig
from lrtl_utils.data import load as tasks
from lrtl_utils.data import splits
from lrtl_utils.errors import InputError
from lrtl_utils.files import ROOT
from lrtl_utils.measure import metrics as scoring
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop as training
from lrtl_utils.models import catalog as models
from lrtl_utils.runs import store as runs
from lrtl_utils.sweep import calibration, footprint, price, workload
from lrtl_utils.sweep import grid as grids

FULL = sorted((ROOT / "notebooks/grids").glob("full_*.yaml"))
TINY = {
    "text": {"dataset": "reviews_sample", "model": "minilm", "train_size": 32, "max_length": 40},
    "tokens": {"dataset": "entities_sample", "model": "minilm_crf", "train_size": 32, "max_length": 40},
    "image": {"dataset": "digits", "model": "efficientnet_lite0", "train_size": 64, "image_size": 32},
}
CASES = [(method, kind) for method, row in methods.METHODS.items() for kind in row.kinds if method != "tfidf"]


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No data set and no weights but those that packages carry, and no time to calibrate."""
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path / "empty"))
    monkeypatch.setattr(price, "BOX_SECONDS", 0.0)
    workload.facts.cache_clear()
    yield
    workload.facts.cache_clear()


def grid(tmp_path, content, name="grid.yaml"):
    path = tmp_path / name
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run(results=None, **knobs):
    """The config and the FLOPs of a real run, as the notebooks do it; with `results`, its record as well."""
    asked = RunConfig(**{"device": "cpu", "epochs": 1} | knobs)
    data = tasks.load(asked.dataset)
    config = methods.resolve(asked, data)
    weights = methods.find_weights(config)
    model, meter = methods.build(config, data, weights), CostMeter()
    with meter.measure():
        train, carve = methods.label(model, data, config, meter)
        curve = methods.fit(model, data, train, carve, config, meter=meter)
    if results:
        settled, identity = training.settled(config, model), methods.identify(config, asked, data.source, weights)
        test = splits.test_examples(data, config)
        prediction = training.predict(model, test, config)
        runs.completed(
            results,
            identity,
            settled,
            asked,
            data=splits.describe(data, train, carve, test),
            metrics=scoring.evaluate(test.targets, prediction, data.labels),
            validation=None,
            cost=meter.report(len(train), prediction.seconds, len(test)),
            model={},
            curve=meter.priced(curve),
            precision="fp32",
        )
    return config, meter.flops()


def estimated(config):
    return workload.load(config, workload.facts(config.dataset)).flops


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.stem)
def test_each_grid_of_the_plan_has_144_cells_that_need_no_data_to_be_planned(path, nothing_here):
    cells = grids.read_grid(path)
    assert len(cells) == len(set(cells)) == 144
    planned = grids.plan(cells, price.outline)
    assert {f"{cell.config.dataset}_{cell.config.model}" for cell in planned} == {path.stem.removeprefix("full_")}
    assert 72 <= len(planned) <= 144
    asked = {(c.learning_rate, c.batch_size, c.epochs, c.scheduler, c.dropout, c.warmup_steps) for _, c in cells}
    assert len(asked) == 144


def test_a_model_without_an_architecture_is_refused_by_name(nothing_here, monkeypatch):
    row = replace(models.MODELS["bert_base"], architecture=None)
    monkeypatch.setitem(models.MODELS, "bert_base", row)
    config = methods.resolve(RunConfig(dataset="sst2", model="bert_base", method="full"), workload.facts("sst2"))
    with pytest.raises(InputError, match="google-bert/bert-base-uncased cannot be priced: its line in MODELS names no"):
        estimated(config)


def test_a_method_that_is_added_is_priced_by_what_it_does(monkeypatch):
    for name, like in (("ours", "linear_probe"), ("theirs", "full")):
        monkeypatch.setitem(methods.METHODS, name, methods.METHODS[like])
        costs = []
        for method in (name, like):
            asked = RunConfig(**TINY["text"] | {"method": method})
            costs.append(estimated(methods.resolve(asked, workload.facts("reviews_sample"))))
        assert costs[0] == costs[1] > 0


def test_there_are_ten_grids_of_the_plan():
    assert len(FULL) == 10


def test_a_grid_extends_another(tmp_path):
    grid(tmp_path, {"method": "tfidf", "seed": [0, 1], "train_size": 20}, "base.yaml")
    cells = grids.read_grid(grid(tmp_path, {"extends": "base.yaml", "dataset": "news_sample", "train_size": [30, 40]}))
    assert [(c.method, c.seed, c.train_size) for _, c in cells] == [("tfidf", s, n) for s in (0, 1) for n in (30, 40)]


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({"metod": "tfidf"}, "did you mean 'method'"),
        ({"seed": [0, -1]}, "seed=-1"),
        ({"extends": "base.yaml"}, "a base stands alone"),
        (["a"], "not a mapping"),
        (None, "No such file"),
    ],
)
def test_what_is_wrong_with_a_base_is_told_in_a_sentence(tmp_path, base, said):
    if base is not None:
        grid(tmp_path, base, "base.yaml")
    with pytest.raises(InputError, match=said) as error:
        grids.read_grid(grid(tmp_path, {"extends": "base.yaml", "dataset": "news_sample"}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "kind", "labels", "parameters"),
    [
        # As the checkpoints are published: with two classes, a pooler where they have one; ImageNet's thousand classes.
        ("bert_base", "text", 2, 109_483_778),
        ("roberta_base", "text", 2, 124_647_170),
        ("distilbert", "text", 2, 66_955_010),
        ("minilm", "text", 2, 22_713_986),
        ("resnet50", "image", 1000, 25_557_032),
        ("efficientnet_b0", "image", 1000, 5_288_548),
        ("efficientnet_lite0", "image", 1000, 4_652_008),
    ],
)
def test_an_architecture_without_weights_has_the_parameters_of_the_published_one(model, kind, labels, parameters):
    built = footprint.architecture(footprint.Key(model, "conventional", 64, kind, labels))
    assert all(weight.is_meta for weight in built.parameters())
    assert 0.99 * parameters < sum(weight.numel() for weight in built.parameters()) <= parameters * 1.01


def test_shipped_weights_fit_the_architecture_of_their_row():
    for knobs in TINY.values():
        config = RunConfig(**knobs)
        data = tasks.load(config.dataset)
        real = methods.build(config, data, methods.find_weights(config))
        bare = footprint.architecture(footprint.key_of(config, workload.facts(config.dataset)))
        assert {n: w.shape for n, w in real.named_parameters()} == {n: w.shape for n, w in bare.named_parameters()}


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_flops_are_those_of_a_real_run(method, kind):
    config, counted = run(method=method, **TINY[kind])
    tolerance = 0.05 if method == "conventional" or kind == "image" else 0.25
    assert estimated(config) == pytest.approx(counted, rel=tolerance)


@pytest.mark.parametrize(
    "knobs",
    [
        TINY["text"] | {"method": "conventional", "validation_share": 0.25, "epochs": 2},
        TINY["image"] | {"method": "linear_probe", "validation_share": 0.25, "selection": "margin"},
        TINY["image"] | {"method": "linear_probe", "selection": "kcenter"},
        {"dataset": "news_sample", "model": "simple_nn", "method": "from_scratch", "train_size": 40},
    ],
    ids=["validation", "margin", "kcenter", "bags"],
)
def test_validation_and_selection_are_counted(knobs):
    config, counted = run(**knobs)
    assert estimated(config) == pytest.approx(counted, rel=0.25)


def test_a_climb_that_a_carve_judges_is_priced_at_its_dearest():
    config, counted = run(**TINY["image"] | {"method": "progressive", "validation_share": 0.25})
    assert 0.3 * estimated(config) < counted < 1.05 * estimated(config)


def test_tfidf_is_next_to_nothing():
    config, counted = run(dataset="news_sample", method="tfidf", train_size=100)
    full = methods.resolve(RunConfig(**TINY["text"] | {"method": "full"}), workload.facts("reviews_sample"))
    assert estimated(config) == pytest.approx(counted, rel=2)
    assert estimated(config) < 1e-3 * estimated(full)


def test_more_work_is_dearer_and_freezing_is_cheaper(nothing_here):
    def cost(**knobs):
        known = workload.facts("ag_news")
        asked = {"dataset": "ag_news", "model": "distilbert", "method": "conventional", "train_size": 100}
        return workload.load(methods.resolve(RunConfig(**asked | knobs), known), known)

    base = cost()
    assert cost(epochs=6).flops == pytest.approx(2 * base.flops)
    assert cost(train_size=200).flops == pytest.approx(2 * base.flops)
    assert cost(max_length=64).flops < 0.55 * base.flops
    assert cost(batch_size=32).memory_mib > 1.3 * base.memory_mib
    assert cost(method="full").memory_mib < base.memory_mib
    assert cost(method="linear_probe").memory_mib < 0.5 * base.memory_mib
    # Weights, gradients and two moments of 67 M parameters.
    assert base.checkpoint_mib == pytest.approx(16 * 66.96e6 / 2**20, rel=0.01)


def test_memory_kept_for_the_backward_pass_is_what_a_real_step_keeps():
    known, data = workload.facts("reviews_sample"), tasks.load("reviews_sample")
    config = methods.resolve(RunConfig(**TINY["text"] | {"method": "full"}), known)
    model = methods.build(config, data, methods.find_weights(config)).train()
    methods.prepare(model, config)
    kept = {}
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}

    def keep(tensor):
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(model.blank((16, 40), "cpu"))
    activations = sum(storage.nbytes() for storage in kept.values()) / 2**20
    load = workload.load(config, known)
    assert load.memory_mib - load.checkpoint_mib == pytest.approx(activations, rel=0.15)


def test_a_dry_run_tells_everything_with_nothing_at_hand(tmp_path, nothing_here):
    path = ROOT / "notebooks/grids/full_cifar10_efficientnet_b0.yaml"
    words = ["sweep", path, "--dry-run", "--results", tmp_path / "results", "--price-per-hour", 3]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    # Three epochs of 4,000 images in batches of 32 are 375 steps: there both warm-ups are clamped to the same tenth.
    assert lines[:3] == ["144 cells", "132 cells after clamping", "0 already done, 132 to run"]
    told = {
        line.split(": ")[0]: float(re.search(r"[\d.,e+]+", line.split(": ")[1])[0].replace(",", ""))
        for line in lines[3:8]
    }
    hours = told["estimated device hours"]
    assert 1e15 < told["estimated FLOPs"] < 1e18
    assert hours > 0
    assert told["estimated money"] == pytest.approx(3 * hours, rel=0.01)
    assert 100 < told["estimated peak memory"] < 10_000
    assert "row counts as published" in lines[-1]
    kept = json.loads((tmp_path / "results/estimate.json").read_text())["cells"]
    assert len(kept) == 132
    assert sum(cell["device_seconds"] for cell in kept.values()) == pytest.approx(3600 * hours, rel=0.01)


def test_cells_with_a_record_are_done_whether_their_data_is_here_or_not(tmp_path, mirror, monkeypatch):
    knobs = {
        "dataset": "cifar10",
        "model": "efficientnet_b0",
        "method": "linear_probe",
        "image_size": 32,
        "train_size": 16,
    }
    workload.facts.cache_clear()
    run(tmp_path, **knobs)
    cells = grids.read_grid(grid(tmp_path, knobs | {"seed": [0, 1], "device": "cpu"}))
    monkeypatch.setattr(price, "BOX_SECONDS", 0.0)
    here, _ = price.estimate(grids.plan(cells, price.outline), tmp_path, 1)
    assert [one.done for one in here] == [True, False]
    assert here[0].cell.id == next(runs.records(tmp_path))["run_id"]
    workload.facts.cache_clear()
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path / "empty"))
    gone, _ = price.estimate(grids.plan(cells, price.outline), tmp_path, 1)
    assert [one.done for one in gone] == [True, False]
    assert next(iter(price.lines(gone, 1, None))) == "1 already done, 1 to run"
    first, hours, flops = price.against(tmp_path)
    assert first.startswith("of 1 cells")
    assert "device hours" in hours
    apart = float(re.search(r"\(([+-]\d+) %\)", flops)[1])
    assert abs(apart) < 5
    workload.facts.cache_clear()


def test_without_an_estimate_there_is_nothing_to_set_against(tmp_path):
    assert price.against(tmp_path) == []
    (tmp_path / "estimate.json").write_text("{")
    assert "writes it anew" in price.against(tmp_path)[0]


def test_a_calibration_keeps_its_time_and_times_the_dearest_first(nothing_here):
    known = workload.facts("reviews_sample")
    jobs = []
    for method in ("linear_probe", "full"):
        config = methods.resolve(RunConfig(**TINY["text"] | {"method": method, "device": "cpu"}), known)
        jobs.append(calibration.Job(config, known, workload.load(config, known)))
    threads = torch.get_num_threads()
    rates = calibration.calibrate(jobs, 1, 0.0)
    assert {kind for _, kind in rates} == {"step", "predict"}
    assert torch.get_num_threads() == threads
    # What was not timed is priced by the most alike.
    assert all(job.seconds(rates, job.load.stages) > 0 for job in jobs)


def test_pixels_tokens_and_words_are_timed_by_the_loop_that_runs_them(nothing_here):
    for kind, method in (("tokens", "linear_probe"), ("image", "progressive")):
        known = workload.facts(TINY[kind]["dataset"])
        config = methods.resolve(RunConfig(**TINY[kind] | {"method": method, "device": "cpu"}), known)
        job = calibration.Job(config, known, workload.load(config, known))
        rates = calibration.calibrate([job], 1, 2.0)
        assert {stage.kind for stage in job.load.stages} <= {kind for _, kind in rates}
        assert all(rate.start + rate.batch + rate.flop > 0 for rate in rates.values())
