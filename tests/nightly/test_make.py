"""Targets of the Makefile that no other test runs."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
from complete import wait_for

from lrtl_utils.files import ROOT

# This environment as it is: nothing is installed.
MAKE = ["make", "--old-file", ".venv/installed", f"BIN={Path(sys.executable).parent}"]


def test_lab_listens_on_loopback_and_answers_only_with_its_token(tmp_path):
    config = {"open_browser": False, "allow_root": True, "port": 0}
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": config}))
    places = dict.fromkeys(
        ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"), str(tmp_path)
    )
    with open(tmp_path / "log", "w") as log:
        lab = subprocess.Popen(
            [*MAKE, "lab"], cwd=ROOT, env=os.environ | places, stdout=log, stderr=log, start_new_session=True
        )
    try:
        info = wait_for(lambda: next(tmp_path.glob("jpserver-*.json"), None))
        server = json.loads(info.read_text())
        assert len(server["token"]) >= 32
        address = f"http://127.0.0.1:{server['port']}/api/contents"
        wait_for(lambda: status(address))
        assert status(address) == 403
        assert status(f"{address}?token=guessed") == 403
        assert status(f"{address}?token={server['token']}") == 200
        opened = psutil.Process(server["pid"]).net_connections(kind="inet")
        assert {one.laddr.ip for one in opened if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(lab.pid, signal.SIGTERM)
        lab.wait(timeout=60)
    assert not psutil.pid_exists(server["pid"])


def test_the_demo_answers_the_four_questions_and_says_how_to_go_on(tmp_path):
    done = subprocess.run(
        [*MAKE, "--no-print-directory", "demo", f"RESULTS={tmp_path}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    _, _, told = done.stdout.partition("60 completed, 0 already done, 0 failed\n")
    table, took, page, following = (part.strip() for part in re.split(r"(60 runs took .*\n)\n(.*)\n", told))
    digits, entities, news, *_ = re.split(r"\n(?=(?:Digits|Entities|News).* {2})|\n\n(?=.*:)", table)[1:]
    for row in (digits, entities, news):
        assert len(re.findall(r"[+-]\d+\.\d \[", row)) == 1  # over conventional, with its interval
        assert "not compared" not in row
        assert "too few" not in row
    assert "not reliable" not in news
    assert re.search(r"\(\d+ to \d+\)", news)  # how many labels are enough, with its interval
    assert "…" not in table
    assert took.startswith("60 runs took ")
    assert Path(page) == tmp_path / "report" / "index.html"
    assert Path(page).is_file()
    assert following.endswith("lrtl compare my.csv --budget 10")


def status(address):
    """Of an answer, or None where nobody answers."""
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_audit_without_a_network_says_that_nothing_was_looked_up():
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [*MAKE, "audit"], cwd=ROOT, env=os.environ | nowhere, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "Nothing was looked up: pypi.org" in done.stderr
    assert "pip-audit" not in done.stdout
