"""The shipped samples as they are on disk."""

import json
import re

from lrtl_utils.files import ROOT

SAMPLES = ROOT / "lrtl_utils" / "samples"


def read(name):
    return [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def texts(name):
    return [row["text"] if "text" in row else " ".join(row["tokens"]) for row in read(name)]


def measured(name):
    """The data card's measurements of a corpus: TF-IDF accuracy in percent (or None), Jaccard of the closest pair."""
    (cells,) = re.findall(rf"^\| {name} \|(.+)\|$", (SAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    accuracy, *_, closest = (cell.strip(" %") for cell in cells.split("|"))
    return (float(accuracy) if accuracy != "–" else None), float(closest)
