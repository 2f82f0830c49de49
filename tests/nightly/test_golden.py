"""What was committed comes out again: the predictions of a grid, the texts byte by byte, the pictures to the eye."""

import base64
import io
import json
import os
import re
import subprocess

import complete
import golden
import numpy as np
import pytest
from PIL import Image

from lrtl_utils.files import ROOT

PICTURE = re.compile(rb'"image/png": "([^"\\]*)')
FIGURES = (
    "README.md",
    "docs/evidence.md",
    "docs/progressive.md",
    "notebooks/*.ipynb",
    "results/*/README.md",
    "results/*/figures/*",
)


def call(*words, cwd):
    done = complete.call(*words, cwd=cwd, env=os.environ | {"PYTHONPATH": str(cwd)})
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_grid_gives_the_same_predictions(tmp_path):
    call("sweep", golden.GRID, "--results", tmp_path, "--workers", "2", cwd=ROOT)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("runs/*/*.json")]
    expected = json.loads(golden.RUNS.read_text(encoding="utf-8"))
    assert len(records) == len(expected["cells"]) == 72
    counted = {golden.cell(record): record["cost"]["flops"] for record in filter(golden.is_counted_alike, records)}
    assert counted == {name: expected["cells"][name]["flops"] for name in counted}
    assert len(counted) == 48
    if any(golden.machine(record) != expected["machine"] for record in records):
        pytest.skip("another processor or another version of torch rounds differently")
    assert {golden.cell(record): golden.outcome(record) for record in records} == expected["cells"]


def test_figures_leaves_every_picture_notebook_and_the_readme_as_committed(tmp_path):
    committed, copy = tmp_path / "committed", tmp_path / "copy"
    for folder in (committed, copy):  # from the index: a run of the checkout's notebooks draws its pictures anew
        subprocess.run(["git", "checkout-index", "--all", f"--prefix={folder}/"], cwd=ROOT, check=True)
    call("figures", cwd=copy)
    made = [path for pattern in FIGURES for path in sorted(copy.glob(pattern))]
    changed = [str(path.relative_to(copy)) for path in made if not alike(path, committed / path.relative_to(copy))]
    assert changed == []


def alike(path, original):
    """Whether texts are the same, and pictures but for the edges of lines, which processors round differently."""
    if not original.is_file():
        return False
    new, old = path.read_bytes(), original.read_bytes()
    if path.suffix == ".png":
        return new == old or near(new, old)
    (*new,), (*old,) = (PICTURE.split(each) for each in (new, old))  # every second part is a picture of a notebook
    drawn = zip(new[1::2], old[1::2], strict=True) if len(new) == len(old) else []
    return new[::2] == old[::2] and all(a == b or near(*map(base64.b64decode, (a, b))) for a, b in drawn)


def near(new, old):
    new, old = (np.asarray(Image.open(io.BytesIO(each)).convert("RGB"), dtype=int) for each in (new, old))
    return new.shape == old.shape and abs(new - old).max() <= 2


def test_pictures_are_alike_if_only_an_edge_differs(tmp_path):
    drawn, buffers = np.full((8, 8, 3), 200, dtype=np.uint8), {}
    for name, change in (("old", 0), ("edge", 1), ("line", 90)):
        drawn[3, 3] = 200 - change
        Image.fromarray(drawn).save(buffers.setdefault(name, io.BytesIO()), "png")
        (tmp_path / f"{name}.png").write_bytes(buffers[name].getvalue())
        picture = base64.b64encode(buffers[name].getvalue()).decode()
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"image/png": picture + "\n", "text": "one"}))
    for kind in ("png", "ipynb"):
        assert alike(tmp_path / f"edge.{kind}", tmp_path / f"old.{kind}")
        assert not alike(tmp_path / f"line.{kind}", tmp_path / f"old.{kind}")
    (tmp_path / "edge.ipynb").write_text((tmp_path / "old.ipynb").read_text().replace("one", "two"))
    assert not alike(tmp_path / "edge.ipynb", tmp_path / "old.ipynb")
    assert not alike(tmp_path / "edge.png", tmp_path / "none.png")
