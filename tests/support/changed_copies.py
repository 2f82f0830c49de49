"""Changed copies of data sets in build/, for the grid recipe_2.yaml: `python tests/support/changed_copies.py FOLDER…`.

A table becomes <name>_wrong_names, in which each class has another's name, because names that mislead must not cost
accuracy. A folder of tagged sentences becomes <name>_lowercased, whose test split has no capitals, because what a
tagger learns from capitals must not break it where there are none.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

from lrtl_utils.files import ROOT


def wrong_names(folder: Path, target: Path) -> None:
    """Write the copy; each class takes the name of the next in the alphabet."""
    names = sorted(pd.read_csv(folder / "train.csv", dtype=str)["label"].unique())
    others = dict(zip(names, [*names[1:], names[0]], strict=True))
    for file in folder.glob("*.csv"):
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        table.assign(label=table["label"].map(others)).to_csv(target / file.name, index=False)


def lowercased(folder: Path, target: Path) -> None:
    """Write the copy; a line is a word and, after a tab, its tag, which keeps its capitals."""
    shutil.copy(folder / "train.conll", target)
    lines = (folder / "test.conll").read_text(encoding="utf-8").split("\n")
    pairs = (line.rpartition("\t") for line in lines)
    text = "\n".join(f"{word.lower()}{tab}{tag}" for word, tab, tag in pairs)
    (target / "test.conll").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        source = Path(name).resolve()
        change = wrong_names if (source / "train.csv").is_file() else lowercased
        copy = ROOT / "build" / f"{source.name}_{change.__name__}"
        copy.mkdir(parents=True, exist_ok=True)
        change(source, copy)
        print(copy)
