"""Without the extras, every module but those of `lrtl search`, `lrtl export --onnx` and the peers can be imported."""

import subprocess
import sys

import pytest

from lrtl_utils.files import ROOT

CODE = """
import importlib, pathlib, sys

absent = {"dask", "distributed", "dask_jobqueue", "optuna", "jupyterlab", "ipywidgets", "pytest"}
needing = {"lrtl_utils/__main__.py", "lrtl_utils/sweep/search.py", "lrtl_utils/deploy/to_onnx.py"}
needing |= {"lrtl_utils/study/benchmarks/peers.py"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
sys.modules["onnxruntime"] = None  # absent too: other libraries look for it, and must be able to
for path in sorted(pathlib.Path("lrtl_utils").rglob("*.py")):
    if str(path) not in needing:
        importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
"""


@pytest.mark.slow
def test_every_module_is_imported_without_the_extras():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
