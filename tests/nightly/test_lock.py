"""The locked versions, from a registry in a fresh environment, pass the unit tests."""

import os
import platform
import subprocess
import sys
import venv

import pytest

from lrtl_utils.files import ROOT

LOCKED_FOR = ("Linux", "x86_64", (3, 11))


@pytest.fixture
def python(tmp_path):
    """The interpreter of an empty environment that can install from a registry."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    probe = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path, "pyyaml"]
    if subprocess.run(probe).returncode:
        pytest.skip("no package registry can be reached")
    return python


@pytest.mark.skipif(
    (platform.system(), platform.machine(), sys.version_info[:2]) != LOCKED_FOR, reason="another platform"
)
def test_the_locked_versions_install_and_pass_the_unit_tests(python):
    pip = [python, "-m", "pip", "install", "--quiet", "--requirement", "requirements.txt"]
    subprocess.run([*pip, "--constraint", ".ci/constraints.txt"], cwd=ROOT, check=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    unit = [python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "tests/unit"]
    subprocess.run(unit, cwd=ROOT, env=environment, check=True)
