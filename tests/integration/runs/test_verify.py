"""Real records pass; each check is shown a real record in which just that is broken, signed again where it must be."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from whole_run import run

from lrtl_utils.config import RunConfig
from lrtl_utils.data import hub
from lrtl_utils.errors import InputError
from lrtl_utils.measure import metrics
from lrtl_utils.runs import store
from lrtl_utils.runs.record import checksum, identity
from lrtl_utils.runs.run import Run
from lrtl_utils.runs.store import record_path
from lrtl_utils.runs.verify import verify

DIGITS = {"dataset": "digits", "model": "efficientnet_lite0", "image_size": 32, "train_size": 40}
RUNS = {
    "plain": DIGITS | {"method": "linear_probe"},
    "split": DIGITS | {"model": "simple_nn", "method": "from_scratch", "epochs": 2, "validation_share": 0.25},
    "ladder": DIGITS | {"method": "progressive", "train_size": 80, "epochs": 1},
    "entities": {
        "dataset": "entities_sample",
        "model": "minilm",
        "method": "linear_probe",
        "train_size": 40,
        "max_length": 8192,  # more than the model allows: the length used is another than the one in the id
        "validation_share": 0.25,
    },
    "bag": {"dataset": "news_sample", "method": "tfidf", "max_length": 32, "shots": 8},
}
PLACES = {}  # of the records in their folder, by name; filled by `made`


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of records, one of them failed."""
    folder = tmp_path_factory.mktemp("made")
    for name, knobs in RUNS.items():
        PLACES[name] = run(folder, **knobs)[1].relative_to(folder)
    failed = Run(RunConfig(**DIGITS | {"method": "linear_probe", "train_size": 4}))
    path = store.failed(folder, failed.id, failed.config, {}, "InputError: too few labels", time.time())
    PLACES["failing"] = path.relative_to(folder)
    return folder


@pytest.fixture
def results(made, tmp_path):
    """A copy to break."""
    return shutil.copytree(made / "runs", tmp_path / "results" / "runs").parent


def change(path, edit, signed=True):
    """Edit the record in place, and sign it again unless stated otherwise."""
    record = json.loads(path.read_text())
    edit(record)
    if signed:
        record["checksum"] = checksum(record)
    path.write_text(json.dumps(record))


def put(place, value):
    """An edit: the value at a dotted place, or what a function makes of the old one."""

    def edit(record):
        *parents, last = place.split(".")
        for key in parents:
            record = record[int(key) if isinstance(record, list) else key]
        last = int(last) if isinstance(record, list) else last
        record[last] = value(record[last]) if callable(value) else value

    return edit


def without(name):
    return lambda part: {key: value for key, value in part.items() if key != name}


def flip_hit(record):
    hits = metrics.unpack_hits(record["metrics"]["hits"], record["data"]["test_size"])
    hits[0] = not hits[0]
    record["metrics"]["hits"] = metrics.pack(hits)


def moved(packed):
    return metrics.pack(np.roll(metrics.unpack_rows(packed, 2), 1, axis=0))


def scores_of_the_test(record):
    record["validation"] = record["metrics"]


def one_more_sentence(packed):
    return metrics.pack(np.append(metrics.unpack_rows(packed, 3), [[0, 0, 0]], axis=0))


def one_more_found(packed):
    counts = metrics.unpack_rows(packed, 3).copy()
    counts[np.argmin(counts[:, 0])] += 1
    return metrics.pack(counts)


def test_what_runs_wrote_passes_and_its_failed_record_is_noted(made, call):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    done = call("verify", made)
    assert (done.returncode, done.stderr) == (0, "")
    *notes, total = done.stdout.splitlines()
    assert total == "6 records, 0 fail"
    assert [note for note in notes if "no checksums of data and weights" in note] == notes
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*")}


def test_records_in_a_relative_folder_are_where_they_belong(made, monkeypatch):
    monkeypatch.chdir(made.parent)
    assert not verify(Path(made.name)).faults


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("plain", put("status", "finished"), "schema: status: "),
        ("plain", lambda record: record.pop("checksum"), "schema: checksum: Field required"),
        ("plain", put("metrics.accuracy", 0.99), "does not match its own checksum"),
    ],
)
def test_a_record_that_is_not_its_own_is_found(results, name, edit, said):
    path = results / PLACES[name]
    change(path, edit, signed=False)
    assert_one_fails(results, path, said)


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("plain", put("config.learning_rate", 0.5), "make the run_id"),
        ("plain", put("config.sed", 3), "config.sed: Extra inputs are not permitted"),
        ("plain", put("config.dropout", 2), "config.dropout: Input should be less than 1"),
        ("plain", put("config.asked", {"sed": 3}), "did you mean 'seed'"),
        ("plain", put("config.asked", [1]), "config.asked: Input should be a valid dictionary"),
        ("plain", put("data.source.sha256", "0" * 64), "make the run_id"),
        ("plain", put("model.source.sha256", "0" * 64), "make the run_id"),
        ("entities", put("config.asked.max_length", 128), "make the run_id"),
        ("plain", put("data", without("test_size")), "data.test_size: Field required"),
        ("plain", put("data.train_size", "40"), "data.train_size: Input should be a valid integer"),
        ("plain", put("data.train_size", 39), "39 labelled examples, but the config asks for 40"),
        ("bag", put("data.train_size", 33), "33 labelled examples, but the config asks for 32"),
        ("plain", put("data.available", 41), "data: available is 41, but 1348 when drawn again"),
        ("plain", put("data.subset_sha256", "0" * 64), "data: subset_sha256 is 0000"),
        ("split", put("data.validation_size", 9), "data: 9 validation examples where validation_share=0.25"),
        ("split", put("validation", None), "no scores where validation_share=0.25"),
        ("plain", scores_of_the_test, "validation: scores where there is no validation split"),
        ("plain", put("config.test_limit", 448), "data: 449 test examples where test_limit=448"),
        ("split", put("validation.score", lambda old: old / 2), "where the headline is"),
        ("split", put("validation.recall", lambda old: old / 2), "validation: recall is"),
        ("plain", put("data.test_size", 448), "57 bytes of hits are not those of 448 examples"),
        ("plain", put("metrics.accuracy", 1.2), "metrics.accuracy: Input should be less than or equal to 1"),
        ("plain", put("metrics.accuracy", lambda old: old + 1e-3), "metrics: accuracy is"),
        ("plain", put("metrics.f1", lambda old: old / 2), "metrics: f1 is"),
        ("plain", put("metrics.per_class.7.recall", 0.123), "metrics: 7: recall is 0.123"),
        ("plain", put("metrics.per_class", without("7")), "per_class is not of the classes"),
        ("plain", flip_hit, "hits where the confusion matrix has"),
        ("plain", put("metrics.hits", "AAAA"), "hits, answers or counts cannot be unpacked"),
        ("plain", put("metrics.hits", lambda old: old[:-8]), "hits, answers or counts cannot be unpacked"),
        ("plain", put("metrics.answers", moved), "answers contradict hits or the confusion matrix"),
        ("plain", put("metrics.confusion.0.0", lambda old: old + 1), "the confusion matrix holds 450 answers"),
        ("plain", put("metrics.confusion", lambda old: old[:9]), "no confusion matrix of 10 classes"),
        ("entities", put("metrics.counts", one_more_found), "metrics: f1 is"),
        ("entities", put("metrics.counts", one_more_sentence), " sentences where there are "),
        ("entities", put("metrics.f1", lambda old: old / 2 + 0.1), "metrics: f1 is"),
        ("entities", flip_hit, "contradict each other"),
        ("plain", put("cost.flops", -1), "cost.flops: Input should be greater than or equal to 0"),
        ("plain", put("cost.overhead_seconds", -1.0), "overhead_seconds is negative"),
        ("plain", put("cost.gpu_hours", 1.0), "1.0 GPU hours where there are"),
        ("failing", put("cost.gpu_hours", 1.0), "1.0 GPU hours where there are"),
        ("failing", put("error", ""), "error: String should have at least 1 character"),
        ("plain", put("error", "late"), "error: Input should be None"),
        ("plain", put("cost.flops_by_phase.features", 1), "the phases' FLOPs sum to"),
        ("plain", put("cost.cached_seconds", 1e6), "more seconds are from the cache than there are"),
        ("plain", put("cost.predict_seconds", lambda old: 2 * old), "898 test predictions were timed"),
        ("split", put("curve.1.device_seconds", 0.0), "curve: device_seconds decreases along the curve"),
        ("split", put("curve.1.flops", 10**18), "curve: flops decreases along the curve, or ends above"),
        ("split", put("curve.1.epoch", 3), "curve: epochs [1, 3] where epochs=2 makes them [1, 2]"),
        ("split", put("curve", lambda old: old[:1]), "curve: epochs [1] where"),
        ("split", put("curve.0.validation_score", None), "curve: 1 of 2 points have validation scores"),
        ("split", put("metrics.epochs_to_convergence", 7), "epochs_to_convergence is 7, by the curve"),
        ("plain", put("curve", []), "curve: List should have at least 1 item"),
        ("ladder", put("curve.0.rung", 1), "where they climb from 0"),
        ("ladder", put("curve.0.epoch", 2), "curve: epochs [2"),
        ("plain", put("model.trainable_parameters", 10**12), "more trainable parameters than"),
        ("plain", put("finished_at", "2001-01-01T00:00:00+00:00"), "it finished before it started"),
        ("plain", put("finished_at", "soon"), "finished_at: Input should be a valid datetime"),
        ("plain", put("finished_at", "2030-01-01T00:00:00"), "finished_at: Input should have timezone info"),
        ("plain", put("data.test_size", 10**400), "data.test_size: Input should be less than 10"),
        ("split", put("config.epochs", 10**9), "curve: epochs [1, 2] where epochs=1000000000 makes them [1, 2, 3"),
        ("split", put("config.epochs", 2**63), "curve: epochs [1, 2] where"),
    ],
)
def test_a_signed_record_that_breaks_the_protocol_is_found(results, name, edit, said):
    path = results / PLACES[name]
    change(path, edit)
    assert_one_fails(results, path, said)


def assert_one_fails(results, path, said):
    report = verify(results)
    assert set(report.faults) == {path}
    *_, total = lines = list(report.lines())
    assert total == "6 records, 1 fail"
    (line,) = [line for line in lines if line.startswith(str(path))]
    assert said in line
    assert line.count(str(path)) == 1


def test_a_record_elsewhere_under_another_name_or_twice_is_found(results):
    path = results / PLACES["plain"]
    moved = results / "runs" / "cifar10" / path.name
    moved.parent.mkdir()
    shutil.copy(path, moved)
    renamed = path.with_name("0123456789ab.json")
    shutil.copy(path, renamed)
    again = path.with_name("ba9876543210.json")
    shutil.copy(path, again)
    change(again, put("run_id", again.stem))
    report = verify(results)
    assert "a run on digits does not belong here" in report.faults[moved][0]
    assert "does not match its own name" in report.faults[renamed][0]
    assert "make the run_id" in report.faults[again][0]
    assert f"of the same run as {moved}" in "; ".join(report.faults[again])
    assert list(report.lines())[-1] == "9 records, 4 fail"


def elsewhere(results, **knobs):
    """A record like the plain one, with other knobs, and of data that are not here; returns its path."""
    record = json.loads((results / PLACES["plain"]).read_text())
    record["config"] |= knobs
    record["data"]["source"]["sha256"] = "e" * 64
    record["run_id"] = identity(record)
    path = record_path(results, "digits", record["run_id"])
    path.write_text(json.dumps(record | {"checksum": checksum(record)}))
    return path


def test_runs_that_are_paired_saw_the_same_examples_though_the_data_is_elsewhere(results):
    """Without the data, hashes are compared: the odd one of three fails, and a note says what was not done."""
    paths = [elsewhere(results, learning_rate=rate) for rate in (0.1, 0.2, 0.3)]
    report = verify(results)
    assert not report.faults
    assert report.notes["digits is not on this machine, so nesting was checked only by hashes"] == 3
    change(paths[1], put("data.subset_sha256", "0" * 64))
    assert dict(verify(results).faults) == {
        paths[1]: ["it saw other examples than 2 records with the same data, size and seed"]
    }


def test_data_that_only_somebody_else_may_read_are_noted_like_those_that_are_absent(results, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(hub, "file_sha256", denied)
    report = verify(results)
    assert not report.faults
    assert report.notes["digits is not on this machine, so nesting was checked only by hashes"] == 3


def test_a_test_split_of_another_size_is_found_though_the_data_is_elsewhere(results):
    """All figures of a cut-down test split are made to agree with it."""

    def smaller(record):
        record["metrics"] |= metrics.classification(np.arange(8), np.arange(8), record["data"]["labels"])
        record["data"]["test_size"] = 8
        record["cost"]["predict_samples_per_second"] = 8 / record["cost"]["predict_seconds"]

    *_, last = [elsewhere(results, seed=seed) for seed in (5, 6, 7)]
    change(last, smaller)
    assert dict(verify(results).faults) == {
        last: ["its test split has another size than that of 2 records with the same data"]
    }


def test_records_of_an_earlier_version_pass(results):
    path = results / PLACES["split"]

    def as_it_was(record):
        del record["cost"]["resumed_seconds"], record["metrics"]["answers"]

    change(path, as_it_was)
    assert not verify(results).faults
    change(path, put("metrics.recall", 0.123))
    assert_one_fails(results, path, "metrics: recall is 0.123 where the answers make it")


def test_a_record_may_lack_a_note_that_a_later_version_makes_and_may_not_make_one_up(tmp_path):
    (tmp_path / "own.csv").write_text("text,label\n" + "".join(f"text {i},{i % 21}\n" for i in range(168)))
    path = run(tmp_path, dataset=str(tmp_path / "own.csv"), method="tfidf", data_fraction=1.0)[1]
    noted = json.loads(path.read_text())["data"]["notes"]
    assert any("the 21 labels are whole numbers" in note for note in noted)
    change(path, put("data.notes", noted[:-1]))
    assert not verify(tmp_path).faults
    change(path, put("data.notes", [*noted, "nothing is repeated"]))
    ((fault,),) = verify(tmp_path).faults.values()
    assert fault.startswith("data: notes is ")


def test_what_is_no_record_fails_in_words(results):
    path = results / "runs" / "digits" / "foreign.json"
    path.write_text('{"checksum": 1, "schema": 1}')
    report = verify(results)
    assert set(report.faults) == {path}
    assert "is not a readable record" in report.faults[path][0]


def test_the_command_line_fails_in_words_and_steers_no_terminal(results, call):
    (results / "runs" / "digits" / "a\x1b[2Jb.json").mkdir()
    os.mkfifo(results / "runs" / "digits" / "pipe.json")
    done = call("verify", results)
    assert (done.returncode, done.stderr) == (1, "")
    assert r"a\x1b[2Jb.json: cannot be read" in done.stdout.splitlines()[0]
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1] == "8 records, 2 fail"


def test_a_missing_folder_and_one_without_records_are_errors(tmp_path, call):
    done = call("verify", tmp_path / "none")
    assert done.returncode == 2
    assert done.stderr == f"There is no folder {tmp_path / 'none'}.\n"
    done = call("verify", tmp_path)
    said = f"There are no records in {tmp_path / 'runs'}; give the folder that holds `runs`.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    with pytest.raises(InputError):
        verify(tmp_path / "none")


def test_records_of_a_confirmation_have_the_frozen_versions_and_are_younger(results):
    def freeze(**changes):
        frozen = {"confirmation": results.name, "frozen_at": "2020-01-01T00:00:00+00:00", "versions": {}}
        (results.parent / "frozen.json").write_text(json.dumps(frozen | changes))
        return verify(results).faults

    ladder = results / PLACES["ladder"]
    version = json.loads(ladder.read_text())["environment"]["method_version"]
    assert freeze(versions={"progressive": version}) == {}
    faults = freeze(versions={"progressive": version + 1})
    assert faults == {ladder: [f"it is of version {version} of progressive, and version {version + 1} was frozen"]}
    assert len(freeze(frozen_at="2100-01-01T00:00:00+00:00")) == len(RUNS)
    assert freeze(confirmation="another", frozen_at="2100-01-01T00:00:00+00:00") == {}
    for broken in ("{}", "{", "[]"):
        (results.parent / "frozen.json").write_text(broken)
        with pytest.raises(InputError, match=r"frozen\.json does not say what was frozen"):
            verify(results)


def test_files_beside_the_data_that_are_not_read_may_come_and_go(tmp_path):
    for split, first in (("train", 0), ("test", 100)):
        lines = [f"review {i},{'ab'[i % 2]}" for i in range(first, first + 20)]
        path = tmp_path / "data" / f"{split}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["text,label", *lines]))
    (tmp_path / "data/about.pdf").write_bytes(b"%PDF")
    (tmp_path / "data/more.csv").write_text("text,label\nnew,a\n")
    path = run(tmp_path / "out", dataset=str(tmp_path / "data"), method="tfidf", train_size=10)[1]
    assert len(json.loads(path.read_text())["data"]["notes"]) == 3
    (tmp_path / "data/more.csv").unlink()
    (tmp_path / "data/second.pdf").write_bytes(b"%PDF")
    report = verify(tmp_path / "out")
    assert (report.records, dict(report.faults)) == (1, {})
