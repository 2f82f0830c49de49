"""Copies of tables in which each class has another's name: `python tests/support/wrong_names.py FOLDER…`.

A copy of FOLDER becomes build/<name>_wrong_names. The grid recipe_2.yaml runs `progressive` on them, because names that
mislead must not cost accuracy.
"""

import sys
from pathlib import Path

import pandas as pd

from lrtl_utils.files import ROOT


def copy(folder: Path) -> Path:
    """Write the copy; each class takes the name of the next in the alphabet."""
    target = ROOT / "build" / f"{folder.name}_wrong_names"
    target.mkdir(parents=True, exist_ok=True)
    names = sorted(pd.read_csv(folder / "train.csv", dtype=str)["label"].unique())
    others = dict(zip(names, [*names[1:], names[0]], strict=True))
    for file in folder.glob("*.csv"):
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        table.assign(label=table["label"].map(others)).to_csv(target / file.name, index=False)
    return target


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(copy(Path(name).resolve()))
