"""What surrounds the work, in seconds, before and after: `make speed BASE=<commit>` prints a table.

The commit and the working tree are measured in turn, so that what else the machine does falls on both. Each number is
the median over the rounds. Of the wall time of a run, what was on its clock and its test prediction are subtracted;
processor seconds are of all.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from lrtl_utils.files import ROOT

ROUNDS = 3
CELLS = 4  # in the longer of two sweeps; their difference is the cost of a cell without the start of a sweep
TEXTS = "{dataset: news_sample, model: minilm, method: linear_probe, seed: %s}"
IMAGES = "{dataset: digits, model: efficientnet_lite0, method: linear_probe, image_size: 64, seed: %s}"


def call(checkout, home, *words):
    """Wall seconds and processor seconds of a command of that checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    before, started = os.times(), time.monotonic()
    command = [sys.executable, "-m", "lrtl_utils", *map(str, words)]
    subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, spent


def work_of(results):
    """Seconds of all runs below `results` on their clocks and for their test predictions."""
    costs = [json.loads(path.read_text())["cost"] for path in results.glob("runs/*/*.json")]
    return sum(cost["device_seconds"] + cost["predict_seconds"] for cost in costs)


def cold(notebook):
    """A linear probe by `lrtl run`."""

    def measure(checkout, folder):
        results = folder / "r"
        wall, processor = call(checkout, folder, "run", notebook, "-p", "method=linear_probe", "--results", results)
        return wall - work_of(results), processor

    return measure


def cell(grid):
    """A cell of a sweep with one worker."""

    def measure(checkout, folder):
        spent = {}
        for count in (1, CELLS):
            (folder / f"{count}.yaml").write_text(grid % list(range(count)))
            results = folder / f"r{count}"
            wall, processor = call(checkout, folder, "sweep", folder / f"{count}.yaml", "--results", results)
            spent[count] = wall - work_of(results), processor
        return [(more - one) / (CELLS - 1) for one, more in zip(spent[1], spent[CELLS], strict=True)]

    return measure


def price(checkout, folder):
    """What a grid will cost, on a machine that has counted nothing yet."""
    return call(checkout, folder, "sweep", "demo", "--dry-run", "--results", folder / "r", "--workers", 2)


def report(checkout, folder):
    """The answers and pages of the committed study."""
    (folder / "r").mkdir()
    (folder / "r" / "runs").symlink_to(ROOT / "results" / "study" / "runs")
    return call(checkout, folder, "report", "--results", folder / "r")


def summary(checkout, folder):
    """The five summary notebooks on the committed study."""
    (folder / "r").mkdir()
    (folder / "r" / "runs").symlink_to(ROOT / "results" / "study" / "runs")
    return call(checkout, folder, "summary", "--results", folder / "r")


MEASURES = {
    "`lrtl run` of a linear probe on texts, beyond its work": cold("text_classification"),
    "`lrtl run` of a linear probe on images, beyond its work": cold("image_classification"),
    "a cell of a sweep on texts, beyond its work": cell(TEXTS),
    "a cell of a sweep on images, beyond its work": cell(IMAGES),
    "`lrtl sweep demo --dry-run`, the first time": price,
    "`lrtl report` on the committed study": report,
    "`lrtl summary` on the committed study": summary,
}


def main(base):
    """Print the table as it goes."""
    packages = f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores"
    print(f"Seconds, median of {ROUNDS} rounds in turn, {packages}; before: {base}.\n")
    print("| what | wall before | wall after | ratio | processor before | processor after | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        before = Path(name) / "before"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", before, base], check=True)
        try:
            for what, measure in MEASURES.items():
                spent = {before: [], ROOT: []}
                for _ in range(ROUNDS):
                    for checkout, found in spent.items():
                        with tempfile.TemporaryDirectory() as folder:
                            found.append(measure(checkout, Path(folder)))
                columns = [
                    [statistics.median(round_[at] for round_ in found) for found in spent.values()] for at in (0, 1)
                ]
                row = [f"{first:.1f} | {second:.1f} | {second / first:.2f}" for first, second in columns]
                print(f"| {what} | {' | '.join(row)} |", flush=True)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", before], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
