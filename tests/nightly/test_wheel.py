"""A built wheel, installed in an environment of its own and used in an empty folder."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from lrtl_utils.files import ROOT

REVIEWS = "text,label\n" + "".join(f"a {word} film number {i},{word}\n" for i in range(40) for word in ("fine", "dull"))


@pytest.fixture(scope="module")
def lrtl(tmp_path_factory):
    """The console script of the installed wheel; what the wheel depends on comes from this environment."""
    source, built, place = (tmp_path_factory.mktemp(name) for name in ("source", "built", "installed"))
    for name in ("lrtl_utils", "notebooks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = ["-m", "pip", "--quiet"]
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", built, source]
    subprocess.run([sys.executable, *pip, *build], check=True)
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    subprocess.run([python, *pip, "install", "--no-deps", "--no-index", *built.glob("*.whl")], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "zz_borrowed.pth").write_text("\n".join(site.getsitepackages()))
    git = ["git", "-C", place, "-c", "user.name=A User", "-c", "user.email=user@example.org"]
    for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "The user's own"]):
        subprocess.run([*git, *words], check=True)  # a commit that no record of ours may name
    return place / "bin" / "lrtl"


def test_type_checkers_find_its_types(lrtl):
    assert len([*lrtl.parent.parent.glob("lib/python*/site-packages/lrtl_utils/py.typed")]) == 1


def test_an_installed_wheel_works_in_an_empty_folder(lrtl, tmp_path):
    (tmp_path / "my.csv").write_text(REVIEWS)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*words):
        done = subprocess.run([lrtl, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = ["-p", "method=linear_probe", "-p", "train_size=16", "-p", "max_length=16"]
    record = call("run", "text_classification", *small).splitlines()[-1]
    assert record.startswith(str(tmp_path / "results" / "local" / "runs" / "news_sample"))
    assert json.loads(Path(record).read_text())["environment"]["commit"] is None
    assert call("doctor", "my.csv").startswith("# my.csv: text, 2 classes")
    own = call("run", "text_classification", "-p", "dataset=my.csv", "-p", "method=tfidf", "-p", "data_fraction=1")
    assert own.splitlines()[-1].startswith(str(tmp_path / "results" / "local" / "runs" / "my.csv"))
    assert "2 cells done" in call("status")
    assert "2 records, 0 fail" in call("verify")
    assert re.match(r"[1-9]\d* cells\n", call("sweep", "demo", "--dry-run"))
