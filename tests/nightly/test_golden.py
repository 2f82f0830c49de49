"""What was committed comes out again, byte by byte: the predictions of a grid, the figures, the summary notebooks."""

import json
import os
import shutil
import subprocess
import sys

import golden
import pytest

from lrtl_utils.files import ROOT

FIGURES = ("README.md", "notebooks/*.ipynb", "results/*/README.md", "results/*/figures/*")


def call(*words, cwd):
    environment = os.environ | {"PYTHONPATH": str(cwd)}
    command = [sys.executable, "-m", "lrtl_utils", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_grid_gives_the_same_predictions(tmp_path):
    call("sweep", golden.GRID, "--results", tmp_path, "--workers", "2", cwd=ROOT)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("runs/*/*.json")]
    expected = json.loads(golden.RUNS.read_text(encoding="utf-8"))
    assert len(records) == len(expected["cells"]) == 72
    if any(golden.machine(record) != expected["machine"] for record in records):
        pytest.skip("another processor or another version of torch rounds differently")
    assert {golden.cell(record): golden.outcome(record) for record in records} == expected["cells"]


def test_figures_leaves_every_picture_notebook_and_the_readme_as_committed(tmp_path):
    copy = tmp_path / "copy"
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    call("figures", cwd=copy)
    made = [path for pattern in FIGURES for path in sorted(copy.glob(pattern))]
    changed = [str(path.relative_to(copy)) for path in made if path.read_bytes() != committed(path, copy)]
    assert changed == []


def committed(path, copy):
    original = ROOT / path.relative_to(copy)
    return original.read_bytes() if original.is_file() else None
