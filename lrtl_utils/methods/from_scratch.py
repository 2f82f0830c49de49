"""`from_scratch`: the same architecture from random weights, which shows what the pre-training is worth."""

from typing import Any

from lrtl_utils.methods import loop
from lrtl_utils.methods.method import STEPS, Curve, Method, Work, input_size
from lrtl_utils.models.catalog import Backbone


def defaults(kind: str, backbone: Backbone, n_labels: int) -> dict[str, Any]:
    """Random weights need more epochs; a model of ours, one hidden layer, takes plain Adam and still more of them."""
    rule = {"learning_rate": 5e-4, "epochs": 10, "scheduler": "cosine", "warmup_steps": 0, "precision": "auto"}
    if backbone.library == "ours":
        rule |= {"optimizer": "adam", "epochs": 30, "scheduler": "constant", "precision": "fp32"}
        return STEPS | rule | {"weight_decay": 0.0} | (input_size(kind, 32, "none") if kind == "image" else {})
    return STEPS | rule | input_size(kind, 160, "light")


def fit(work: Work) -> Curve:
    """Train all weights at one rate, in batches of texts of like length."""
    return loop.train(work)


METHOD = Method(fit, defaults, pretrained=False)
