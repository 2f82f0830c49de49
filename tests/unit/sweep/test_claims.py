"""A claim is had by one at a time, whoever races for it, dies with it, or has a wrong clock."""

import os
import time
from dataclasses import replace

import psutil
import pytest
from claim_files import only_file, write

from lrtl_utils.sweep import claims

FAR = 10 * claims.DEAD_SECONDS


def stamp(results, seconds_ago):
    moment = time.time() - seconds_ago
    os.utime(only_file(results), (moment, moment))


def test_a_claim_is_exclusive_until_it_is_released(tmp_path):
    claim = claims.take(tmp_path, "cell", "words")
    assert claims.take(tmp_path, "cell", "words") is None
    assert claims.take(tmp_path, "other", "words") is not None
    assert [held.identity for held in claims.held(tmp_path)] == ["cell", "other"]
    claims.release(tmp_path, claim)
    assert claims.take(tmp_path, "cell", "words") is not None


def test_a_step_of_the_clock_kills_no_owner(tmp_path, monkeypatch):
    claim = claims.take(tmp_path, "cell", "words")
    booted = psutil.boot_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: booted + 3600)  # as seen after a step of an hour
    assert claims.is_alive(claim, time.time())
    assert claims.take(tmp_path, "cell", "words") is None


def test_a_process_that_got_the_number_of_a_dead_owner_is_not_the_owner(tmp_path):
    write(tmp_path, born=-1e6)  # long before this process
    assert claims.take(tmp_path, "cell", "words") is not None


def test_a_number_that_no_process_has_owns_nothing(tmp_path):
    write(tmp_path, process=-5)
    assert claims.take(tmp_path, "cell", "words") is not None


@pytest.mark.parametrize(
    ("seconds_ago", "free"), [(0, False), (claims.DEAD_SECONDS / 2, False), (FAR, True), (-FAR, True)]
)
def test_on_another_host_the_heartbeat_decides(tmp_path, seconds_ago, free):
    write(tmp_path, host="elsewhere", process=1)
    stamp(tmp_path, seconds_ago)
    assert (claims.take(tmp_path, "cell", "words") is not None) == free


def test_a_machine_that_does_not_report_its_boot_can_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "lines_of", lambda path: [])
    claim = claims.take(tmp_path, "cell", "words")
    assert claims.is_alive(claim, time.time())
    assert claims.take(tmp_path, "cell", "words") is None


def test_a_heartbeat_keeps_a_claim(tmp_path):
    claim = write(tmp_path, host="elsewhere", process=1)
    stamp(tmp_path, FAR)
    assert claims.beat(tmp_path, claim)
    assert claims.take(tmp_path, "cell", "words") is None


def test_an_owner_that_slept_can_neither_renew_nor_release_what_others_hold(tmp_path):
    slept = write(tmp_path, host="elsewhere", process=1)
    stamp(tmp_path, FAR)
    second = claims.take(tmp_path, "cell", "second")
    claims.release(tmp_path, second)
    third = claims.take(tmp_path, "cell", "third")
    for former in (slept, second):
        assert not claims.beat(tmp_path, former)
        claims.release(tmp_path, former)
    assert claims.beat(tmp_path, third)
    assert [claim.cell for claim in claims.held(tmp_path)] == ["third"]


def test_a_taker_that_was_slow_gets_nothing_that_others_had_meanwhile(tmp_path, monkeypatch):
    write(tmp_path, host="elsewhere", process=1)
    stamp(tmp_path, FAR)
    now, others = claims.file_system_now, []

    def slowly(results):
        """Between the look at the dead claim and the creation of the next, another worker has it and lets go of it."""
        if not others:
            others.append(None)
            others[0] = claims.take(results, "cell", "fast")
            claims.release(results, others[0])
        return now(results)

    monkeypatch.setattr(claims, "file_system_now", slowly)
    assert claims.take(tmp_path, "cell", "slow") is None
    assert others[0].generation == 2
    assert claims.held(tmp_path) == []
    assert claims.take(tmp_path, "cell", "again").generation == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"identity": "cell"}', b"\xff\xfe"])
def test_a_claim_that_cannot_be_read_lives_by_its_stamp(tmp_path, content):
    claims.take(tmp_path, "cell", "words")
    only_file(tmp_path).write_bytes(content)
    assert claims.take(tmp_path, "cell", "words") is None
    stamp(tmp_path, FAR)
    assert claims.take(tmp_path, "cell", "words") is not None


def test_clocks_of_hosts_do_not_matter_but_the_file_systems_does(tmp_path):
    claim = claims.take(tmp_path, "cell", "words")
    abroad = replace(claim, host="elsewhere", started=0.0, beat=1e9)
    assert claims.is_alive(abroad, now=1e9 + 1)
    assert not claims.is_alive(abroad, now=1e9 + FAR)
    assert abs(claims.file_system_now(tmp_path) - only_file(tmp_path).stat().st_mtime) < 5


def test_a_claim_of_another_user_whose_processes_cannot_be_seen_lives_by_its_heartbeat(tmp_path, monkeypatch):
    claims.take(tmp_path, "cell", "words")
    monkeypatch.setattr(claims.os, "getuid", lambda: -1)
    monkeypatch.setattr(claims, "_runs", lambda claim: False)
    assert claims.take(tmp_path, "cell", "words") is None
    stamp(tmp_path, FAR)
    assert claims.take(tmp_path, "cell", "words") is not None
