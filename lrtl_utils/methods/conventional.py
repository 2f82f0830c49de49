"""`conventional`: fine-tuning as an example script does it, the frozen baseline of every comparison.

All weights at one rate, texts padded to full length, in fp32 (Devlin et al. 2019). With `padding="longest"` the texts
of a batch are padded to its longest. That costs less, and but for the draws of dropout it changes no answer.
"""

from typing import Any

from lrtl_utils.methods import loop
from lrtl_utils.methods.method import STEPS, Curve, Method, Work, input_size
from lrtl_utils.models.catalog import Backbone


def defaults(kind: str, backbone: Backbone, n_labels: int) -> dict[str, Any]:
    """Never tuned here: what transformers' example scripts and their like have."""
    rule = {"learning_rate": 5e-5, "epochs": 3, "scheduler": "linear", "warmup_steps": 0, "precision": "fp32"}
    return STEPS | rule | input_size(kind, 224, "light") | ({} if kind == "image" else {"padding": None})


def fit(work: Work) -> Curve:
    """Train all weights at one rate, batches in random order."""
    return loop.train(work, buckets=False)


METHOD = Method(fit, defaults, pooling="own", plain=True)
