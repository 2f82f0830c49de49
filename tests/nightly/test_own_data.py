"""The commands of docs/own_data.md, run in their order on a user's own file."""

import csv
import random
import re
import shlex
import subprocess
import sys

import pytest

from lrtl_utils.files import ROOT, absolute_path
from lrtl_utils.study.tables import records

WORDS = {
    "good": ["moving", "brilliant", "funny", "tender", "gripping", "superb"],
    "bad": ["dull", "tedious", "clumsy", "boring", "lifeless", "awful"],
}
FILLER = ["the", "a", "film", "story", "scene", "actor", "plot", "with", "from", "over", "many", "people", "again"]


def write_reviews(path, count, labels=True):
    """Invented reviews, the label in turn."""
    rng = random.Random(0)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"] if labels else ["text"])
        for i in range(count):
            label = ("good", "bad")[i % 2]
            text = " ".join([*rng.choices(FILLER, k=5), rng.choice(WORDS[label]), str(i)])
            writer.writerow([text, label] if labels else [text])


def commands(page):
    """The calls of a page's shell block, each as the words after `lrtl`."""
    (block,) = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    start = "lrtl "
    assert all(line.startswith(start) for line in block.splitlines())
    return [shlex.split(line.removeprefix(start)) for line in block.splitlines()]


@pytest.mark.slow
def test_commands_of_the_page_do_what_it_says(tmp_path):
    write_reviews(tmp_path / "reviews.csv", 90)
    write_reviews(tmp_path / "new.csv", 6, labels=False)
    said = {}
    for words in commands(ROOT / "docs" / "own_data.md"):
        # The user's files and results, in the test's own folder; a budget that only the least fits.
        places = [word.replace("my/", f"{tmp_path}/").replace("results/mine", f"{tmp_path}/mine") for word in words]
        if places[0] == "compare":
            places[places.index("--budget") + 1] = "0.4"
            places += ["--results", str(tmp_path / "compared")]
        done = subprocess.run([sys.executable, "-m", "lrtl_utils", *places], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)
        said[words[0]] = done.stdout
    assert list(said) == ["doctor", "compare", "run", "predict", "verify"]

    assert said["doctor"].startswith(
        "# reviews.csv: text, 2 classes\n67 examples to train on, 23 to test on (made: 25%"
    )
    page, _, about_labels = said["doctor"].partition("\n## Labels that may be wrong\n")
    assert page in said["compare"]
    assert "of 90 examples their label" in about_labels
    for stated in (
        "4 cells, about",
        "4 completed, 0 already done, 0 failed",
        "Which model and which method is best?",
        "How much data do I need?",
        "What does it cost?",
        "Is the difference real, or noise?",
    ):
        assert stated in said["compare"]
    pictures = [line for line in said["compare"].splitlines() if line.endswith(".png")]
    assert pictures
    assert all(absolute_path(picture).is_file() for picture in pictures)
    assert said["compare"].splitlines()[-1] == str(tmp_path / "compared" / "report" / "index.html")
    frame = records(tmp_path / "compared", "completed")
    assert (set(frame["method"]), set(frame["n_labels"])) == ({"tfidf", "linear_probe"}, {32, 67})

    (record,) = (tmp_path / "mine").glob("runs/reviews.csv/*.json")
    assert said["run"].splitlines()[-1] == str(record)
    assert len(list(csv.DictReader((tmp_path / "new.predictions.csv").open()))) == 6
    assert "1 record, 0 fail" in said["verify"]
