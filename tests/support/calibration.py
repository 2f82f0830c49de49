"""What the temperature does to the calibration error: `python tests/support/calibration.py` prints the docs' table.

Every row is a mean over seeds of runs on the shipped data, which need no network and take minutes.
"""

import tempfile
import warnings

import numpy as np
from scipy.special import softmax

from lrtl_utils import Run
from lrtl_utils.measure import metrics

DATA = ("news_sample", "reviews_sample")
METHODS = ("linear_probe", "progressive", "full")
SHARE = 0.2  # of the labels, which is the validation split
SIZE = 200  # labelled examples
SEEDS = 2


def measure(**knobs):
    """The temperature of one run, its calibration error on the test split, and the error with the temperature."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        run = Run(results=folder, **knobs)
        run.fit(*run.label())
        tested = run.test()
    odds = softmax(np.array(tested.prediction.scores, dtype=float) / tested.temperature, axis=1)
    hits = odds.argmax(1) == tested.examples.targets
    assert hits.mean() == tested.metrics["accuracy"]
    return tested.temperature, tested.metrics["calibration_error"], metrics.calibration_error(odds.max(1), hits)


def main():
    """Print the table as it goes."""
    print("| data | method | temperature | error without it | error with it |")
    print("|---|---|---|---|---|")
    for dataset in DATA:
        for method in METHODS:
            knobs = {"dataset": dataset, "method": method, "train_size": SIZE}
            each = [measure(**knobs, seed=seed, validation_share=SHARE) for seed in range(SEEDS)]
            temperature, before, after = np.mean(each, axis=0)
            print(f"| {dataset} | {method} | {temperature:.2f} | {before:.3f} | {after:.3f} |", flush=True)


if __name__ == "__main__":
    main()
