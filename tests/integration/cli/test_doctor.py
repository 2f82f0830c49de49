"""`doctor FILE` prints the check of a user's data."""

import subprocess
import sys

from own_files import of_one as rows
from own_files import written_csv as write_csv

from lrtl_utils.cli import doctor
from lrtl_utils.files import ROOT


def test_doctor_prints_the_page_and_neutralises_what_would_steer_a_terminal(tmp_path, call):
    path = write_csv(tmp_path / "r.csv", [*rows(20, "good"), *rows(20, "\x1b[31mbad")])
    command = [sys.executable, "-m", "lrtl_utils", "doctor", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# r.csv: text, 2 classes\n30 examples to train on, 10 to test on (made: 25%")
    assert "\\x1b[31mbad" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert "No label looks wrong: none of those that cleanlab doubts has " in done.stdout
    wrong = call("doctor", path, "--text-column", "txt")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no column of r.csv named 'txt'; did you mean 'text'" in wrong.stderr


def test_labels_are_checked_as_asked_and_what_cannot_be_read_is_said(tmp_path):
    path = write_csv(tmp_path / "r.csv", [*rows(520, "good"), *rows(520, "bad")])
    assert [*doctor.check(path, None)][-1].startswith("With --labels, a model")
    assert not [line for line in doctor.check(path, False) if "labels" in line][-1].startswith("With --labels")
    said = [*doctor.check("entities_sample", True)][-1]
    assert said.startswith("The labels cannot be checked: entities_sample has tagged sentences")
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(f"no image {name} {i}".encode())
    assert [*doctor.check(str(tmp_path / "pets"), None)][-1].startswith("The labels cannot be checked: ")
