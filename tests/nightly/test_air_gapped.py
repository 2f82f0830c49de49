"""Without a hub: the mirror is enough, and internet sockets are not needed for anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lrtl_utils.files import ROOT
from lrtl_utils.runs import store as runs

FORBIDDEN = [sys.executable, str(ROOT / "tests" / "support" / "no_internet.py"), sys.executable]
OPEN = "import socket, sys; socket.socket(getattr(socket, sys.argv[1]))"


def call(*words, **variables):
    return subprocess.run(
        [*FORBIDDEN, *map(str, words)],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def forbidden():
    """Skips where the system lets no process forbid itself anything; fails where the filter forbids nothing."""
    if call("-c", OPEN, "AF_UNIX").returncode:
        pytest.skip("this system has no seccomp filters for a process of ours")
    for family in ("AF_INET", "AF_INET6"):
        assert "PermissionError" in call("-c", OPEN, family).stderr


@pytest.mark.usefixtures("forbidden")
def test_a_run_on_mirrored_data_and_weights_needs_no_internet_socket(mirror, tmp_path):
    words = ["dataset=sst2", "model=distilbert", "method=full", "train_size=16", "max_length=16", "epochs=1"]
    parameters = [word for pair in words for word in ("-p", pair)]
    done = call(
        "-m", "lrtl_utils", "run", "sentiment_analysis", *parameters, "--results", tmp_path,
        LRTL_MIRROR=str(mirror), HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = runs.read(Path(done.stdout.splitlines()[-1]))
    assert (record["data"]["source"]["kind"], record["model"]["source"]["kind"]) == ("mirror", "mirror")
