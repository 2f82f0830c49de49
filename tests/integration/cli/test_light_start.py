"""What a user waits for before anything happens: neither torch nor another slow import."""

import subprocess
import sys

import pytest

from lrtl_utils.files import ROOT

CODE = """
import sys
from lrtl_utils.cli import main
sys.argv = ["lrtl", *sys.argv[1:]]
try:
    main()
finally:
    print(*{"torch", "transformers", "timm", "datasets"} & set(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["run", "text_clasification"], 2),
        (["run", "text_classification", "-p", "metod=full"], 2),
        (["export", "no/such/folder", "--to", "csv"], 2),
        (["push", "no/such/folder", "org/name", "--license", "mit"], 2),
        (["predict", "results", "no/such.csv"], 2),
        (["predict", "no/such/model", "README.md"], 2),
        (["compare", "no/such.csv"], 2),
        (["doctor", "no/such.csv"], 2),
        (["suggest", "no/such.csv", "--unlabelled", "README.md"], 2),
        (["status", "results/search"], 0),
        (["verify", "results/search"], 0),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_torch_is_not_imported(words, status):
    done = subprocess.run([sys.executable, "-c", CODE, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr.splitlines()[-1] == ""
