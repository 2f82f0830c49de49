"""The cache of checked records, against the records themselves."""

import json
import os
from collections import Counter

import pytest
from synthetic import outcomes, write_run

from lrtl_utils.runs import store
from lrtl_utils.study import record_cache, tables

RUN = {"dataset": "sst2", "model": "minilm", "method": "full"}


@pytest.fixture
def reads(monkeypatch):
    """How often each record was read and checked."""
    counted, read = Counter(), store.read
    monkeypatch.setattr(store, "read", lambda path: counted.update([path.stem]) or read(path))
    monkeypatch.setattr(record_cache, "WORTH", 3)
    return counted


@pytest.fixture
def folder(tmp_path, reads):
    write(tmp_path)
    as_another_process(tmp_path)
    reads.clear()
    return tmp_path


def as_another_process(folder):
    record_cache._LAST.clear()
    return record_cache.records(folder)


def write(folder):
    for seed in range(4):
        write_run(folder, outcomes(0.5, 100, seed), seed=seed, train_size=100, **RUN)


def test_a_record_is_checked_once_and_then_comes_from_the_cache(folder, reads):
    written = (folder / record_cache.NAME).stat().st_mtime_ns
    assert as_another_process(folder) == list(store.records(folder))
    assert reads.total() == 4  # by the store alone
    assert (folder / record_cache.NAME).stat().st_mtime_ns == written
    assert len(tables.read(folder)) == 4


def test_a_process_and_its_forks_do_not_read_the_cache_again(folder, reads):
    (folder / record_cache.NAME).unlink()
    assert len(record_cache.records(folder)) == 4
    assert not reads


def test_a_record_that_was_changed_added_or_deleted_is_as_it_is_now(folder, reads):
    changed, deleted, *_ = store.paths(folder)
    seed = json.loads(changed.read_text())["config"]["seed"]
    assert write_run(folder, outcomes(0.9, 100, seed), seed=seed, train_size=100, **RUN) == changed
    deleted.unlink()
    added = write_run(folder, outcomes(0.5, 50, 0), train_size=50, **RUN)
    assert as_another_process(folder) == list(store.records(folder))
    assert reads == dict.fromkeys((path.stem for path in store.paths(folder)), 1) | {changed.stem: 2, added.stem: 2}
    reads.clear()
    assert [record["run_id"] for record in as_another_process(folder)] == [path.stem for path in store.paths(folder)]
    assert not reads


def test_a_record_that_is_not_valid_is_passed_over_with_a_warning_each_time(folder):
    broken = store.paths(folder)[0]
    broken.write_text(broken.read_text().replace("minilm", "minilm_l3", 1))
    for _ in range(2):
        with pytest.warns(UserWarning, match=broken.stem):
            assert len(as_another_process(folder)) == 3


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def put_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [cut, put_a_pipe, lambda path: path.write_text("{}")])
def test_a_damaged_cache_is_made_anew(folder, reads, damage):
    whole = (folder / record_cache.NAME).read_bytes()
    damage(folder / record_cache.NAME)
    assert len(as_another_process(folder)) == reads.total() == 4
    assert (folder / record_cache.NAME).read_bytes() == whole


def test_whichever_byte_of_the_cache_is_damaged_the_records_are_right(folder):
    cache, right = folder / record_cache.NAME, list(store.records(folder))
    whole = cache.read_bytes()
    for at in range(0, len(whole), 29):
        cache.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        assert as_another_process(folder) == right


def test_records_that_an_earlier_schema_found_valid_are_checked_again(folder, reads, monkeypatch):
    monkeypatch.setattr(record_cache, "CHECKS", "of another version")
    assert len(as_another_process(folder)) == reads.total() == 4


def test_without_a_place_for_a_cache_the_records_are_read_each_time(folder, reads, monkeypatch):
    def refused(path, write):
        raise PermissionError(path)

    (folder / record_cache.NAME).unlink()
    monkeypatch.setattr(record_cache, "write_atomically", refused)
    assert len(as_another_process(folder)) == len(as_another_process(folder)) == 4
    assert reads.total() == 8


def test_few_records_get_no_cache(tmp_path):
    write(tmp_path)
    assert len(as_another_process(tmp_path)) == 4
    assert not (tmp_path / record_cache.NAME).exists()
