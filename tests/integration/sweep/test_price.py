"""A price needs neither data nor weights; its seconds come from this machine's records, or from a short timing."""

import json
import re
import warnings
from types import SimpleNamespace

import pytest
import torch
from grid_files import written
from own_files import leaky
from typer.testing import CliRunner

from lrtl_utils.cli import app
from lrtl_utils.config import RunConfig
from lrtl_utils.files import ROOT
from lrtl_utils.runs.run import Run
from lrtl_utils.sweep import estimates, grid, price, timing

FULL = sorted((ROOT / "notebooks/grids").glob("full_*.yaml"))
TEXT = {"dataset": "reviews_sample", "model": "minilm", "train_size": 32, "max_length": 40, "device": "cpu"}


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No data set and no weights but those that packages carry, and no time for a timing."""
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path / "empty"))
    monkeypatch.setattr(price, "IN_ALL_SECONDS", 0.0)


def job(**knobs):
    config = Run(RunConfig(**TEXT | knobs)).config
    return timing.Job(config, price.data_of(config), price.load(config))


def test_there_are_ten_grids_of_the_plan():
    assert len(FULL) == 10


@pytest.mark.parametrize("path", FULL, ids=lambda path: path.stem)
def test_each_grid_of_the_plan_has_144_cells_that_need_no_data_to_be_planned(path, nothing_here):
    cells = grid.read_grid(path)
    assert len(cells) == len(set(cells)) == 144
    planned = grid.plan(cells, Run.outline)
    assert {f"{cell.config.dataset}_{cell.config.model}" for cell in planned} == {path.stem.removeprefix("full_")}
    assert 72 <= len(planned) <= 144


def test_a_dry_run_prints_the_price_with_nothing_at_hand(tmp_path, nothing_here):
    path = ROOT / "notebooks/grids/full_cifar10_efficientnet_b0.yaml"
    words = ["sweep", path, "--dry-run", "--results", tmp_path / "results", "--price-per-hour", 3]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    # Three epochs of 4,000 images in batches of 32 are 375 steps: there both warm-ups are clamped to the same tenth.
    assert lines[:3] == ["144 cells", "132 different cells", "0 already done, 132 to run"]
    printed = {
        line.split(": ")[0]: float(re.search(r"[\d.,e+]+", line.split(": ")[1])[0].replace(",", ""))
        for line in lines[3:8]
    }
    hours = printed["estimated device hours"]
    assert 1e15 < printed["estimated FLOPs"] < 1e18
    assert hours > 0
    assert printed["estimated price"] == pytest.approx(3 * hours, rel=0.01)
    assert 100 < printed["estimated peak memory"] < 10_000
    assert "row counts are as published" in lines[-1]
    kept = json.loads((tmp_path / "results/estimate.json").read_text())["cells"]
    assert len(kept) == 132
    assert sum(cell["device_seconds"] for cell in kept.values()) == pytest.approx(3600 * hours, rel=0.01)


def test_trials_of_few_rows_do_not_warn(tmp_path, recwarn):
    knobs = {"dataset": leaky(tmp_path / "data"), "model": "minilm", "method": "linear_probe", "train_size": 6}
    path = written(tmp_path, knobs)
    done = CliRunner().invoke(app, ["sweep", str(path), "--dry-run", "--results", str(tmp_path / "results")])
    assert done.exit_code == 0, done.output
    (warned,) = [str(warning.message) for warning in recwarn if warning.category is UserWarning]
    assert "are also in the test split" in warned


def test_a_record_whose_data_is_gone_prices_no_predictions(tmp_path, nothing_here):
    knobs = {"dataset": leaky(tmp_path / "data"), "method": "tfidf", "train_size": 6, "device": "cpu"}
    cells = []
    for name in ("data", "moved"):
        with warnings.catch_warnings(action="ignore"):
            run = Run(RunConfig(**knobs | {"dataset": str(tmp_path / name)}), results=tmp_path / "results")
            if name == "data":
                run.fit(*run.label())
                run.record(run.test())
                (tmp_path / "data").rename(tmp_path / "moved")
            cells.append(grid.Cell.of("text_classification", run))
    (priced,), how = price.estimate(cells[1:], tmp_path / "results", 1)
    assert priced.seconds > 0 == priced.predict_seconds
    assert "for 1 of 1 kind of run" in how


def test_no_more_than_the_test_split_is_priced(nothing_here):
    config = RunConfig(dataset="sst2", method="tfidf", train_size=8, test_limit=10**6)
    data = price.data_of(config)
    assert len(price._examples(data, config)[2]) == data.test


def test_a_price_is_of_the_data_as_they_are(tmp_path):
    file, given = tmp_path / "own.csv", {"method": "tfidf", "data_fraction": 1.0, "device": "cpu"}
    priced = []
    for rows in (40, 400):
        file.write_text("text,label\n" + "".join(f"word{i} and {i % 7},{'ab'[i % 2]}\n" for i in range(rows)))
        priced.append(price.load(Run(RunConfig(dataset=str(file), **given)).config).flops)
    assert priced[1] > 2 * priced[0]


def test_a_recorded_cell_is_done_and_its_seconds_price_the_others(tmp_path, monkeypatch):
    knobs = {"dataset": "digits", "model": "efficientnet_lite0", "method": "linear_probe", "image_size": 32}
    path = written(tmp_path, knobs | {"train_size": 20, "seed": [0, 1], "device": "cpu"})
    recorded = Run(RunConfig(**knobs | {"train_size": 20, "device": "cpu", "seed": 0}), results=tmp_path)
    recorded.fit(*recorded.label())
    record = recorded.record(recorded.test())
    monkeypatch.setattr(timing, "_Bench", None)  # nothing is timed
    cells = grid.plan(grid.read_grid(path), Run.outline)
    priced, how = price.estimate(cells, tmp_path, torch.get_num_threads())
    assert [one.done for one in priced] == [True, False]
    assert "for 1 of 1 kind of run, and for 0 from a timing" in how
    for one in priced:
        assert one.seconds == pytest.approx(record["cost"]["device_seconds"], rel=0.01)  # its FLOPs are not quite equal
    assert next(iter(price.lines(priced, 1, None))) == "1 already done, 1 to run"
    assert estimates.against(tmp_path, cells) == []  # the run that was there before has not been estimated
    left = Run(RunConfig(**knobs | {"train_size": 20, "device": "cpu", "seed": 1}), results=tmp_path)
    left.fit(*left.label())
    left.record(left.test())
    first, hours, flops = estimates.against(tmp_path, cells)
    assert first == "1 of these cells had been estimated"
    assert "device hours" in hours
    assert abs(float(re.search(r"\(([+-]\d+)%\)", flops)[1])) < 5
    # After another grid in the same folder, the old estimate is not printed.
    assert estimates.against(tmp_path, []) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is to be absent")
def test_cells_for_a_device_that_is_not_here_are_priced_on_what_is(tmp_path):
    knobs = {"dataset": "news_sample", "model": "simple_nn", "method": "from_scratch", "device": "cuda"}
    (one,), how = price.estimate(grid.plan([("text_classification", RunConfig(**knobs))], Run.outline), tmp_path, 1)
    assert one.seconds > 0
    assert "The seconds are not those of cuda, which this machine does not have." in how


def test_without_an_estimate_there_is_nothing_to_compare(tmp_path):
    assert estimates.against(tmp_path, []) == []
    (tmp_path / "estimate.json").write_text("{")
    assert "writes it again" in estimates.against(tmp_path, [])[0]


def test_a_timing_keeps_its_time_and_takes_the_dearest_first():
    jobs, threads = [job(method=method) for method in ("tfidf", "linear_probe")], torch.get_num_threads()
    rates, how = timing.rates(jobs, [], len, 1, end=0.0)
    assert [key[2] for key in rates] == ["linear_probe"]
    assert "for 0 of 2 kinds of run, and for 1 from a timing" in how
    assert torch.get_num_threads() == threads
    assert all(seconds > 0 for one in jobs for seconds in timing.seconds(rates, one))  # the most alike stands for both


def test_seconds_of_one_size_grow_with_the_flops_of_another(tmp_path):
    """From one size the time at the start of a run cannot be estimated. The dearest unknown kind is always timed."""
    knobs = {"method": "linear_probe", "train_size": 16}
    run = Run(**TEXT | knobs, test_limit=8, results=tmp_path)
    run.fit(*run.label())
    one = run.record(run.test())
    others = [one | {"cost": one["cost"] | {"flops": share * one["cost"]["flops"]}} for share in (0.8, 1.1)]
    small, large, other = job(**knobs), job(method="linear_probe"), job(method="full")
    rates, how = timing.rates([small, large, other], [one, *others], len, one["environment"]["threads"], end=0.0)
    assert "for 1 of 2 kinds of run, and for 1 from a timing" in how
    (few, _), (more, _) = (timing.seconds(rates, each) for each in (small, large))
    assert more / few == pytest.approx(large.load.flops / small.load.flops)


@pytest.mark.parametrize(
    "knobs",
    [
        {"method": "tfidf"},
        pytest.param(
            {"dataset": "entities_sample", "model": "minilm_crf", "method": "linear_probe"}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"dataset": "digits", "model": "efficientnet_lite0", "method": "progressive", "image_size": 32},
            marks=pytest.mark.slow,
        ),
        {"model": "simple_nn", "method": "from_scratch"},
    ],
    ids=["tfidf", "tokens", "images", "bags"],
)
def test_every_kind_is_timed_by_the_method_that_runs_it(knobs):
    one = job(**TEXT | knobs)
    rates, _ = timing.rates([one], [], len, 1, end=float("inf"))
    assert all(seconds > 0 for seconds in timing.seconds(rates, one))


def test_a_timing_that_other_work_disturbs_is_taken_again(monkeypatch):
    monkeypatch.setattr(timing, "BUSY", 10.0)  # no process gets ten times a core's time
    bench = timing._Bench(job(method="linear_probe"), threads=1)
    runs = []
    fit = timing.METHODS["linear_probe"].fit
    monkeypatch.setattr(
        timing, "METHODS", {"linear_probe": type("Row", (), {"fit": lambda work: runs.append(1) or fit(work)})}
    )
    bench._point(2, end=float("inf"))
    assert bench.disturbed
    assert len(runs) == timing.TRIES


def test_a_clean_repetition_of_a_timing_counts_and_what_was_disturbed_before_is_not_forgotten(monkeypatch):
    bench = timing._Bench(job(method="tfidf"), threads=1)
    took = iter([10.0, 2.0, *[10.0] * timing.TRIES, 2.0])  # seconds, the first of which were taken by other work
    bench._fit = lambda rows: SimpleNamespace(device_seconds=next(took), flops=lambda: 1)
    processor = iter([0.0, 1.0, 0.0, 2.0, *[0.0, 1.0] * timing.TRIES, 0.0, 2.0])
    monkeypatch.setattr(timing.time, "process_time", lambda: next(processor))
    found = [(bench._point(2, end=float("inf"))[1], bench.disturbed) for _ in range(3)]
    assert found == [(2.0, False), (1.0, True), (2.0, True)]
