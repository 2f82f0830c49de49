"""What surrounds the work, in seconds, before and after: `make speed BASE=<commit>` prints a table.

The commit and the working tree are measured in turn, so that what else the machine does falls on both. Each number is
the median over the rounds, of wall time. Of a run's, what was on its clock and its test prediction are subtracted.
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
    """Wall seconds of a command of that checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    started, command = time.monotonic(), [sys.executable, "-m", "lrtl_utils", *map(str, words)]
    subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
    return time.monotonic() - started


def work_of(results):
    """Seconds of all runs below `results` on their clocks and for their test predictions, without what was shared."""
    costs = [json.loads(path.read_text())["cost"] for path in results.glob("runs/*/*.json")]
    spent = sum(cost["device_seconds"] + cost["predict_seconds"] for cost in costs)
    return spent - sum(cost.get(f"cached_{name}seconds", 0) for cost in costs for name in ("", "predict_"))


def cold(notebook):
    """A linear probe by `lrtl run`."""

    def measure(checkout, folder):
        results = folder / "r"
        wall = call(checkout, folder, "run", notebook, "-p", "method=linear_probe", "--results", results)
        return wall - work_of(results)

    return measure


def cell(grid):
    """A cell of a sweep with one worker."""

    def measure(checkout, folder):
        spent = {}
        for count in (1, CELLS):
            (folder / f"{count}.yaml").write_text(grid % list(range(count)))
            results = folder / f"r{count}"
            wall = call(checkout, folder, "sweep", folder / f"{count}.yaml", "--results", results)
            spent[count] = wall - work_of(results)
        return (spent[CELLS] - spent[1]) / (CELLS - 1)

    return measure


def price(checkout, folder):
    """What a grid will cost, on a machine that has counted nothing yet."""
    return call(
        checkout,
        folder,
        "sweep",
        ROOT / "tests" / "golden" / "grid.yaml",
        "--dry-run",
        "--results",
        folder / "r",
        "--workers",
        2,
    )


def compared(checkout, folder):
    """A comparison of the methods that a budget of nothing allows, from the check of the data to the report."""
    data, results = ROOT / "lrtl_utils" / "samples" / "reviews_sample.jsonl", folder / "r"
    wall = call(checkout, folder, "compare", data, "--budget", 0, "--model", "minilm", "--results", results)
    return wall - work_of(results)


def report(checkout, folder):
    """The answers and pages of the committed study."""
    (folder / "r").mkdir()
    (folder / "r" / "runs").symlink_to(ROOT / "results" / "study" / "runs")
    return call(checkout, folder, "report", folder / "r")


def summary(checkout, folder):
    """The five summary notebooks on the committed study."""
    (folder / "r").mkdir()
    (folder / "r" / "runs").symlink_to(ROOT / "results" / "study" / "runs")
    return call(checkout, folder, "summary", folder / "r")


def parts(grid, checkout, folder):
    """The median seconds of each cell of the notebook that a sweep's runs execute, by its first line."""
    (folder / "g.yaml").write_text(grid % list(range(CELLS)))
    call(checkout, folder, "sweep", folder / "g.yaml", "--results", folder / "r")
    found = {}
    for path in (folder / "r").glob("executed/*/*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                line = next(line for line in "".join(cell["source"]).splitlines() if line and line[0] != "#")
                found.setdefault(line, []).append(cell["metadata"]["papermill"]["duration"])
    return {line: statistics.median(spent) for line, spent in found.items()}


MEASURES = {
    "`lrtl run` of a linear probe on texts, beyond its work": cold("text_classification"),
    "`lrtl run` of a linear probe on images, beyond its work": cold("image_classification"),
    "a cell of a sweep on texts, beyond its work": cell(TEXTS),
    "a cell of a sweep on images, beyond its work": cell(IMAGES),
    "`lrtl sweep --dry-run` of 72 cells, the first time": price,
    "`lrtl compare` of the cheapest runs, beyond their work": compared,
    "`lrtl report` on the committed study": report,
    "`lrtl summary` on the committed study": summary,
}


def main(base, rounds=ROUNDS):
    """Print the tables as they go."""
    packages = f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores"
    print(f"Seconds, median of {rounds} rounds in turn, {packages}; before: {base}.\n")
    print("| what | before | after | ratio |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        before = Path(name) / "before"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", before, base], check=True)
        try:
            for what, measure in MEASURES.items():
                spent = {before: [], ROOT: []}
                for _ in range(rounds):
                    for checkout, found in spent.items():
                        with tempfile.TemporaryDirectory() as folder:
                            found.append(measure(checkout, Path(folder)))
                first, second = map(statistics.median, spent.values())
                print(f"| {what} | {first:.1f} | {second:.1f} | {second / first:.2f} |", flush=True)
            for grid in (TEXTS, IMAGES):
                print(f"\n`{grid % '…'}`, median of {CELLS} runs:\n\n| cell of the notebook | before | after |")
                print("|---|---|---|")
                both = []
                for checkout in (before, ROOT):
                    with tempfile.TemporaryDirectory() as folder:
                        both.append(parts(grid, checkout, Path(folder)))
                for line in both[1]:
                    then = f"{both[0][line]:.2f}" if line in both[0] else ""
                    print(f"| `{line}` | {then} | {both[1][line]:.2f} |", flush=True)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", before], check=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
