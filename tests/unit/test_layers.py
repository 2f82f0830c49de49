import ast
import subprocess
import sys

import pytest

from lrtl_utils.files import ROOT

FLOORS = [
    {"config"},  # the ground: everybody may import it
    {"sampling", "metrics", "cost", "stats", "claims", "manifest", "parquet", "tags"},
    {"curves", "tables"},
    {"kernels", "sources", "runs", "batches", "networks", "evaluation", "heads", "layouts"},
    {"own_models", "cards", "folders", "blocks", "splits"},
    {"tasks", "models", "caches", "checks", "summaries"},
    {"training", "defaults", "fetch", "sentences", "effects", "published"},
    {"ladder", "selection", "findings"},
    {"methods", "export"},
    {"notebooks", "pages", "plots", "footprint", "scoring"},
    {"figures", "grids", "doctor", "checkup", "report", "verify", "watch", "workload", "processes"},
    {"workers", "calibration", "readme"},
    {"engines", "price"},
    {"sweep", "strategies"},
    {"bench", "search", "comparison"},
    {"replay"},
    {"__main__"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
MODULES = sorted(path for path in (ROOT / "lrtl_utils").glob("*.py") if path.stem != "__init__")
LIGHT = ("config", "sources", "runs", "tasks", "models", "methods", "grids", "sweep", "search", "__main__")
HEAVY = ("torch", "transformers", "timm", "datasets")


def imported(source):
    """Modules of the package that a module imports, at its top or in a function, but not for type checkers only."""
    names = set()
    waiting = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = {0: "", 1: "lrtl_utils."}[node.level] + (node.module or "")
            own = origin.rstrip(".") == "lrtl_utils"
            names |= {f"lrtl_utils.{alias.name}" for alias in node.names} if own else {origin}
        waiting += ast.iter_child_nodes(node)
    return {name.split(".")[1] for name in names if name.startswith("lrtl_utils.")}


def test_walk_sees_every_import_but_those_for_type_checkers():
    source = """
from typing import TYPE_CHECKING
import numpy, lrtl_utils.cost
from lrtl_utils.runs import store as runs
from lrtl_utils.data import load as t
from lrtl_utils.files import ROOT
from .stats import interval
from . import sampling
if TYPE_CHECKING:
    from lrtl_utils.methods.loop import Model
else:
    import lrtl_utils.data.sources
def later():
    from lrtl_utils.models import catalog as models
"""
    assert imported(source) == {"cost", "runs", "tasks", "config", "stats", "sampling", "sources", "models"}


def test_every_module_has_a_floor_and_every_floor_its_modules():
    assert {path.stem for path in MODULES} == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_floors(path):
    wrong = [name for name in imported(path.read_text(encoding="utf-8")) if FLOOR[name] >= FLOOR[path.stem]]
    assert wrong == [], f"{path.stem} imports from its own or a higher floor"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module):
    code = f"import sys, lrtl_utils.{module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
