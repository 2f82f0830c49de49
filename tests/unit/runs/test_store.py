import contextlib
import hashlib
import json
import os
import resource
import stat

import pytest
from made_records import ASKED, CONFIG, complete, fail, parts, write

from lrtl_utils.config import RunConfig
from lrtl_utils.errors import ClaimLost, InputError, OfAnotherVersion, Unreadable
from lrtl_utils.files import ROOT, write_atomically
from lrtl_utils.runs import store
from lrtl_utils.runs.record import checksum


@pytest.fixture
def path(tmp_path):
    return write(tmp_path)


def test_record_lies_where_it_should_and_says_what_it_must(path, tmp_path):
    assert path == tmp_path / "runs" / "news_sample" / "0123456789ab.json"
    record = store.read(path)
    keys = "schema run_id status error checksum started_at finished_at config data metrics validation cost model curve"
    assert set(record) == {*keys.split(), "environment"}
    assert (record["status"], record["run_id"]) == ("completed", "0123456789ab")
    assert set(record["config"]) == {*RunConfig.model_fields, "asked"}
    assert record["config"]["asked"] == {"device": "auto", "batch_size": 64, "warmup_steps": 500}
    assert record["environment"]["precision"] == "fp32"
    assert str(ROOT) not in path.read_text()
    assert path.stat().st_size < 5000


def test_records_lie_in_no_folder_of_data_or_of_a_model_whatever_link_leads_there(tmp_path):
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "home").symlink_to("mine")
    data = RunConfig(dataset=str(tmp_path / "home"))
    model = RunConfig(dataset="news_sample", model=str(tmp_path / "mine/model"))
    for asked, place, what in (
        (data, "mine/results", "data"),
        (data, "home/results", "data"),
        (model, "home/model/results", "model"),
    ):
        with pytest.raises(InputError, match=f"is in the folder of the {what}, .*; choose another folder for results"):
            store.require_apart(tmp_path / place, [asked])
    store.require_apart(tmp_path / "mine-results", [data, model, RunConfig(dataset="news_sample")])
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/lrtl.json").write_text("{}")
    for place in ("saved", "saved/results"):
        with pytest.raises(InputError, match=r"is in the folder of the saved model, .*saved; choose another folder"):
            store.require_apart(tmp_path / place, [RunConfig(dataset="news_sample")])


def test_checksum_is_that_of_the_canonical_rest(path):
    record = json.loads(path.read_text())
    claimed = record.pop("checksum")
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    assert claimed == hashlib.sha256(canonical.encode()).hexdigest()


def test_completed_record_is_completed_and_a_failed_one_is_not(path, tmp_path):
    assert store.is_completed(path)
    assert not store.is_completed(fail(tmp_path))
    assert not store.is_completed(tmp_path / "runs" / "news_sample" / "none.json")
    assert not (tmp_path / "quarantine").exists()


def assert_refused_and_quarantined(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError):
        store.read(path)
    with pytest.warns(UserWarning, match="It was moved to .*quarantine.*, and no longer counts"):
        assert not store.is_completed(path)
    assert not path.exists()
    (kept,) = (path.parents[2] / "quarantine").iterdir()
    assert kept.read_bytes() == content
    kept.unlink()


def test_truncated_record_is_never_accepted(path):
    whole = path.read_bytes()
    for length in [0, 1, *range(2, len(whole) - 1, len(whole) // 40), len(whole) - 2, len(whole) - 1]:
        assert_refused_and_quarantined(path, whole[:length])


@pytest.mark.parametrize("flip", [0x01, 0x10, 0x80])
def test_a_changed_byte_is_never_accepted(path, flip):
    whole = path.read_bytes()
    seconds = whole.index(b'"overhead_seconds"')  # its last digits may be another way to write the same number
    for position in [p for p in range(0, len(whole), 23) if not seconds <= p < seconds + 40]:
        assert_refused_and_quarantined(path, whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"accuracy": 0.75', '"accuracy": 0.95'),
        ('"status": "completed"', '"status": "finished"'),
        ('"error": null', '"error": null, "note": "better"'),
        ('"schema": 2', '"schema": 1'),
        ('"run_id": "0123456789ab"', '"run_id": "fedcba987654"'),
        ('"accuracy": 0.75', '"accuracy": NaN'),
        ('"accuracy": 0.75', '"accuracy": 1e999'),
    ],
)
def test_a_tampered_record_is_refused(path, old, new):
    text = path.read_text()
    assert old in text
    assert_refused_and_quarantined(path, text.replace(old, new).encode())


def test_a_whole_record_of_another_version_is_neither_absent_nor_put_aside(path, tmp_path):
    record = json.loads(path.read_text())
    record["environment"]["accelerate"] = "1.0"
    path.write_text(json.dumps(record | {"checksum": checksum(record)}))
    with pytest.raises(
        OfAnotherVersion, match=r"another version of lrtl_utils \(schema: environment.accelerate: Extra"
    ):
        store.is_completed(path)
    assert path.exists()
    assert not (tmp_path / "quarantine").exists()
    with pytest.warns(UserWarning, match="another version"):
        assert not list(store.records(tmp_path))


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b'"text"', b"\xff\xfe", b"{" * 10_000])
def test_what_is_no_record_is_refused(path, content):
    assert_refused_and_quarantined(path, content)


@contextlib.contextmanager
def no_file_can_be_opened():
    """In the block, as in a process that has as many open files as it may; gives a function that ends that."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, before)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_record_that_the_system_cannot_read_is_neither_absent_nor_put_aside(path, monkeypatch):
    monkeypatch.setattr(store, "PAUSES", (0, 0, 0))
    with no_file_can_be_opened(), pytest.raises(Unreadable, match=r"0123456789ab.json cannot be read: Too many open"):
        store.is_completed(path)
    assert store.is_completed(path)
    assert not (path.parents[2] / "quarantine").exists()


def test_an_error_of_reading_that_passes_is_none(path, monkeypatch):
    with no_file_can_be_opened() as end:
        monkeypatch.setattr(store.time, "sleep", lambda _pause: end())
        assert store.is_completed(path)


def test_a_summary_does_without_no_record_that_could_not_be_read(path, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PAUSES", (0, 0, 0))
    link = path.with_name("aaaaaaaaaaaa.json")
    link.symlink_to(link)  # to itself
    with pytest.raises(Unreadable, match=r"aaaaaaaaaaaa.json cannot be read: Too many levels"):
        list(store.records(tmp_path))


def test_quarantine_keeps_all_that_comes(path, tmp_path):
    for content in (b"first", b"second"):
        path.write_bytes(content)
        assert not store.is_completed(path)
    assert {kept.read_bytes() for kept in (tmp_path / "quarantine").iterdir()} == {b"first", b"second"}


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b"old")

    def break_off(stream):
        stream.write(b"half of the n")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, break_off)
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]
    assert path.read_bytes() == b"old"
    write_atomically(path, lambda stream: stream.write(b"new"))
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("written", ["scratch", "ws/me"])
@pytest.mark.parametrize("seen", ["scratch", "ws/me"])
def test_data_are_found_from_a_folder_of_results_behind_a_link(tmp_path, written, seen):
    (tmp_path / "ws/me").mkdir(parents=True)
    (tmp_path / "scratch").symlink_to(tmp_path / "ws/me")
    (tmp_path / "my.csv").touch()
    path = write(tmp_path / written / "res", config=CONFIG.model_copy(update={"dataset": str(tmp_path / "my.csv")}))
    results = tmp_path / seen / "res"
    assert os.path.samefile(store.placed(results, store.read(path))["config"]["dataset"], tmp_path / "my.csv")


def test_numbers_that_json_has_no_word_for_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path, accuracy=float("nan"))
    assert list(tmp_path.rglob("*.json")) == []


def test_records_passes_over_what_cannot_be_trusted_with_a_warning(path, tmp_path):
    write(tmp_path, "aaaaaaaaaaaa")
    path.write_text(path.read_text().replace("0.75", "0.95"))
    with pytest.warns(UserWarning, match="0123456789ab.json does not match its own checksum"):
        assert [record["run_id"] for record in store.records(tmp_path)] == ["aaaaaaaaaaaa"]


def test_the_record_of_a_completed_run_stays(tmp_path):
    path = write(tmp_path, accuracy=0.75)
    before = path.read_bytes()
    write(tmp_path, accuracy=0.5)
    fail(tmp_path, "0123456789ab")
    assert path.read_bytes() == before


def test_the_folder_of_a_record_is_synced_before_its_checkpoint_is_deleted(tmp_path, monkeypatch):
    work = store.work_folder(tmp_path, "0123456789ab")
    work.mkdir(parents=True)
    sync, synced = os.fsync, []

    def noting(descriptor):
        sync(descriptor)
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), work.exists()))

    monkeypatch.setattr(os, "fsync", noting)
    write(tmp_path)
    assert synced == [(False, True), (True, True)]
    assert not work.exists()


def test_a_run_that_another_process_has_taken_over_writes_no_record(tmp_path):
    config, measured = CONFIG, parts(validation_size=8)
    with pytest.raises(ClaimLost, match="Another worker has taken over this run"):
        complete(tmp_path, "0123456789ab", config, ASKED, **measured, claim=tmp_path / "gone.json")
    assert list(tmp_path.rglob("*.json")) == []


def test_records_of_another_version_of_their_method_are_named(path):
    record = store.read(path)
    assert store.outdated([record]) == []
    record["environment"]["method_version"] = 0
    (sentence,) = store.outdated([record, record])
    assert sentence.startswith(
        f"Some methods have changed since these runs were made: {record['config']['method']} (version 0, "
    )
    assert store.machines([record])[-1] == sentence
