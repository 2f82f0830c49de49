"""What a user waits for before anything happens: neither torch nor another slow import."""

import json
import os
import subprocess
import sys

from lrtl_utils.files import ROOT

CODE = """
import json, sys
from lrtl_utils.cli import main
found = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["lrtl", *words]
    try:
        main()
    except SystemExit as ended:
        slow = sorted({"torch", "transformers", "timm", "datasets"} & set(sys.modules))
        found.append([words, ended.code, slow])
print(json.dumps(found))
"""
CALLS = [
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
]


def test_a_letter_that_the_terminal_lacks_is_printed_as_its_code(tmp_path):
    file = tmp_path / "\u00fcber.csv"
    file.write_text("text,label\n" + "".join(f"{word} {i},{word}\n" for i in range(8) for word in ("good", "bad")))
    words = [sys.executable, "-m", "lrtl_utils", "doctor", str(file), "--no-labels"]
    done = subprocess.run(
        words, env=os.environ | {"PYTHONIOENCODING": "ascii"}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert r"\xfcber.csv" in done.stdout


def test_torch_is_not_imported():
    """One process runs them all: what one imports, those after it have too."""
    asked = json.dumps([words for words, _ in CALLS])
    done = subprocess.run([sys.executable, "-c", CODE, asked], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[words, status, []] for words, status in CALLS]
