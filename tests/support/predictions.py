"""What a test prediction takes by the size of its steps and by padding: `python tests/support/predictions.py`.

Each number is the median over the rounds of a ratio to the prediction as it is, both made in the same round.
Encoding is left out. Words after it choose among the kinds.
"""

import os
import statistics
import sys
import tempfile
from unittest import mock

import torch

from lrtl_utils.data import splits
from lrtl_utils.methods import loop
from lrtl_utils.models import encoding
from lrtl_utils.runs.run import Run

ROUNDS = 3
LITE = {"dataset": "digits", "model": "efficientnet_lite0"}
KINDS = {
    "texts, 64 tokens": {"dataset": "reviews_sample", "model": "minilm", "max_length": 64},
    "texts, 128 tokens": {"dataset": "news_sample", "model": "minilm", "max_length": 128},
    "tags, 64 tokens": {"dataset": "entities_sample", "model": "minilm_crf", "max_length": 64},
    "images, 64 pixels": LITE | {"image_size": 64},
    "images, 96 pixels": LITE | {"image_size": 96},
    "images, 224 pixels": LITE | {"image_size": 224},
}
ROWS = {"images, 224 pixels": 64}  # else 256
# Rows of a step, what padded lengths are multiples of, and the least share of a step's length that a row has.
AS_IT_IS = (loop.PREDICT_BATCH, encoding.MULTIPLE, encoding.FILLED)
STEPS = [(rows, *AS_IT_IS[1:]) for rows in (8, 16, 64, 128)]
PADDING = [(32, 4, 0.9), (32, 2, 0.9), (32, 1, 0.9), (32, 1, 1.0)]


def predicted(run, data, rows, multiple, filled):
    """The prediction with these constants; its `seconds` are those without encoding."""
    with (
        mock.patch.object(loop, "PREDICT_BATCH", rows),
        mock.patch.object(encoding, "MULTIPLE", multiple),
        mock.patch.object(encoding, "FILLED", filled),
    ):
        return loop.predict_rows(run.model, data, run.config)


def furthest(one, other):
    """The largest difference of a score."""
    return max(float(abs(a - b).max()) for a, b in zip(one.scores, other.scores, strict=True))


def measure(kind):
    """A row for each variant: its ratio, the largest difference of a score, and whether an answer differs."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(method="linear_probe", train_size=32, device="cpu", results=folder, **KINDS[kind])
        run.fit(*run.label())
        examples, rows = splits.test_examples(run.data, run.config), ROWS.get(kind, 256)
        data = run.model.reader.encode(examples.inputs[:rows], examples.targets[:rows])
        variants = STEPS + ([] if kind.startswith("images") else PADDING)
        before, spent = predicted(run, data, *AS_IT_IS), {variant: [] for variant in variants}
        for _ in range(ROUNDS):
            base = predicted(run, data, *AS_IT_IS).seconds
            for variant, ratios in spent.items():
                ratios.append(predicted(run, data, *variant).seconds / base)
        for variant, ratios in spent.items():
            after = predicted(run, data, *variant)
            yield variant, statistics.median(ratios), furthest(before, after), before.predicted == after.predicted


def main(kinds):
    """Print the table as it goes."""
    print(
        f"Ratios to {AS_IT_IS}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}.\n"
    )
    print("| kind | rows a step | multiple | filled | ratio | scores differ by | same answers |")
    print("|---|---|---|---|---|---|---|")
    for kind in kinds or KINDS:
        for variant, ratio, difference, same in measure(kind):
            knobs = " | ".join(map(str, variant))
            print(f"| {kind} | {knobs} | {ratio:.2f} | {difference:.0e} | {'yes' if same else 'no'} |", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
