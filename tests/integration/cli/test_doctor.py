"""`doctor FILE` prints the check of a user's data."""

import csv
import subprocess
import sys

from lrtl_utils.files import ROOT


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return str(path)


def rows(count, label, start=0):
    return [(f"{label} words of review number {i}", label) for i in range(start, start + count)]


def test_doctor_prints_the_page_and_neutralises_what_would_steer_a_terminal(tmp_path):
    path = write_csv(tmp_path / "r.csv", [*rows(20, "good"), *rows(20, "\x1b[31mbad")])
    command = [sys.executable, "-m", "lrtl_utils", "doctor", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# r.csv: text, 2 classes\n30 examples to train on, 10 to test on (made: 25%")
    assert "\\x1b[31mbad" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    wrong = subprocess.run([*command, "--text-column", "txt"], cwd=ROOT, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no column of r.csv 'txt'; did you mean 'text'" in wrong.stderr
