"""A method's code and its version change together, because the version is part of a run's identity.

For a new method, record its digest with `python tests/unit/methods/test_versions.py`. When a digest no longer fits,
first raise the version in `lrtl_utils/methods/__init__.py` of each method whose results may change: for a file that
methods share, of all that call what was changed.
"""

import ast
import hashlib
import json
from pathlib import Path

from lrtl_utils.methods import VERSIONS

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "tests/golden/method_versions.json"
SHARED = ("loop", "solver", "feature_cache", "method", "shared")  # what every method may call


def digest(module: str) -> str:
    """A digest of a module's code and constants, without comments and docstrings."""
    tree = ast.parse((ROOT / "lrtl_utils/methods" / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return hashlib.sha256(repr(shape(tree)).encode()).hexdigest()[:16]


def shape(node) -> str | list:
    """A syntax tree as lists and texts, without empty fields: which of these there are depends on the Python."""
    if isinstance(node, list):
        return [shape(each) for each in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, shape(each)) for name, each in ast.iter_fields(node) if each is not None and each != [])
    return [type(node).__name__, *fields]


def current() -> dict[str, list]:
    methods = {name: [version, digest(name)] for name, version in VERSIONS.items()}
    return methods | {f"{name}.py": [None, digest(name)] for name in SHARED}


def test_code_that_changes_is_recorded_with_its_version():
    assert current() == json.loads(RECORDED.read_text()), __doc__


def test_a_comment_changes_no_digest_and_a_constant_does(tmp_path, monkeypatch):
    folder = tmp_path / "lrtl_utils/methods"
    folder.mkdir(parents=True)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    digests = []
    for source in ('"""One."""\nRATE = 0.1\n', '"""Two."""\nRATE = 0.1  # a reason\n', '"""One."""\nRATE = 0.2\n'):
        (folder / "ours.py").write_text(source)
        digests.append(digest("ours"))
    assert digests[0] == digests[1] != digests[2]


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(current(), indent=1) + "\n")
