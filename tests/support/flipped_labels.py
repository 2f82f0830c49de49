"""How many labels that were changed on purpose the check finds: `python tests/support/flipped_labels.py`.

It prints the table of docs/own_data.md: the shipped samples, with no label changed and with a share of them.
"""

import csv
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lrtl_utils.data import load
from lrtl_utils.study import labels

MOST = 600  # images, which take longer than texts


def write(dataset: str, share: float, folder: Path) -> tuple[Path, set[str]]:
    """A shipped data set as a user's own, with a share of the labels changed at random; and the places of these."""
    data, rng = load.load(dataset), np.random.default_rng(0)
    examples = labels._all(data).take(np.arange(min(MOST, len(data.train) + len(data.test))))
    changed = rng.permutation(len(examples))[: round(share * len(examples))]
    targets = examples.targets.copy()
    targets[changed] = (targets[changed] + rng.integers(1, len(data.classes), len(changed))) % len(data.classes)
    if data.kind == "text":
        path = folder / f"{dataset}.csv"
        with path.open("w", newline="") as stream:
            rows = [(text, data.classes[target]) for text, target in zip(examples.inputs, targets, strict=True)]
            csv.writer(stream).writerows([("text", "label"), *rows])
        return path, {f"{path.name}, row {i + 1}" for i in changed}
    names = [f"{data.classes[target]}/{i}.png" for i, target in enumerate(targets)]
    for name, image in zip(names, examples.inputs, strict=True):
        (folder / dataset / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / dataset / name)
    return folder / dataset, {names[i] for i in changed}


def scores(dataset: str, share: float) -> dict[str, object]:
    """A row of the table: how many labels look wrong, and how many of these were changed."""
    with tempfile.TemporaryDirectory() as folder:
        path, changed = write(dataset, share, Path(folder))
        found, agreement, checked = labels.suspects(labels.probe(str(path)))
    right = len(changed & {*found["place"]})
    row = {"data set": dataset, "examples": checked, "changed": len(changed), "agrees": f"{agreement:.0%}"}
    row |= {"look wrong": len(found), "of these changed": right}
    precision = f"{right / len(found):.2f}" if len(found) and share else ""
    return row | {"precision": precision, "recall": f"{right / len(changed):.2f}" if share else ""}


if __name__ == "__main__":
    table = [scores(name, share) for name in ("news_sample", "reviews_sample", "digits") for share in (0, 0.05, 0.1)]
    print(pd.DataFrame(table).to_markdown(index=False, disable_numparse=True))
