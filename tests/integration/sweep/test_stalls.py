"""A process that was stopped for longer than its claim lives changes nothing of the worker that has taken over."""

import importlib
import multiprocessing
import os
import signal
import sys

import pytest

from lrtl_utils.errors import ClaimLost
from lrtl_utils.methods import loop
from lrtl_utils.runs import store
from lrtl_utils.runs.run import Run
from lrtl_utils.sweep import claims, kernels

for module in kernels.IMPORTED:  # once, and not in each process
    importlib.import_module(module)
ASKED = {"dataset": "news_sample", "method": "from_scratch", "model": "simple_nn", "device": "cpu", "test_limit": 20}
ASKED |= {"train_size": 16, "batch_size": 4, "epochs": 2, "max_length": 16}
LOST = 7  # exit status


def stall():
    os.kill(os.getpid(), signal.SIGSTOP)


def cell(results, identity, point):
    """Claim and run the cell as a worker and its kernel do together, and stop at that point until SIGCONT."""
    claim = claims.take(results, identity, "words")
    plan = {"id": identity, "asked": {}, "claim": str(claims.path_of(results, claim))}
    if point == "checkpoint":
        save, saved = loop._Loop._save, []
        loop._Loop._save = lambda *state: (saved.append(0), len(saved) == 2 and stall(), save(*state))
    if point == "deletion":
        write = store._write
        store._write = lambda *parts: (write(*parts), stall())[0]
    try:
        run = Run(**ASKED, results=results, plan=plan)
        run.fit(*run.label())
        tested = run.test()
        if point == "record":
            stall()
        run.record(tested)
    except ClaimLost:
        sys.exit(LOST)
    if point == "release":
        stall()
    claims.release(results, claim)


@pytest.mark.parametrize(("point", "status"), [("checkpoint", LOST), ("record", LOST), ("deletion", 0), ("release", 0)])
def test_an_owner_that_wakes_after_its_claim_was_taken_over_leaves_the_new_one_alone(
    tmp_path, monkeypatch, point, status
):
    monkeypatch.setenv("LRTL_CHECKPOINT_SECONDS", "0")
    identity = Run(**ASKED, results=tmp_path).id
    owner = multiprocessing.get_context("fork").Process(target=cell, args=(tmp_path, identity, point))
    owner.start()
    _, how = os.waitpid(owner.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(how), how
    (held,) = claims.held(tmp_path)
    os.utime(claims.path_of(tmp_path, held))  # however long it took to come here
    assert not claims.take(tmp_path, identity, "too early")
    os.utime(claims.path_of(tmp_path, held), (0, 0))  # as after a long time without a heartbeat
    taken = claims.take(tmp_path, identity, "new words")
    theirs = store.work_folder(tmp_path, identity) / "checkpoint.pt"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_bytes(b"of the new owner")
    records = list(tmp_path.glob("runs/*/*.json"))
    os.kill(owner.pid, signal.SIGCONT)
    owner.join()
    assert owner.exitcode == status
    assert theirs.read_bytes() == b"of the new owner"
    assert list(tmp_path.glob("runs/*/*.json")) == records
    assert len(records) == (point in {"deletion", "release"})
    assert claims.beat(tmp_path, taken)
    assert [claim.cell for claim in claims.held(tmp_path)] == ["new words"]
