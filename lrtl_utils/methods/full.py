"""`full`: fine-tuning as well as it is usually done.

Batches hold texts of like length, and the rate falls from the head down (after Howard & Ruder 2018).
"""

from typing import Any

from lrtl_utils.methods import loop
from lrtl_utils.methods.method import STEPS, Curve, Method, Work, input_size, what_is_read
from lrtl_utils.models.catalog import Backbone
from lrtl_utils.models.network import Model

DECAY = 0.8  # of the rate, from one block to the one below it; Howard & Ruder's factor is 1 / 2.6
LOWEST = 2  # blocks of a text model that stay frozen: the embeddings and the first layer


def defaults(kind: str, backbone: Backbone, n_labels: int) -> dict[str, Any]:
    """Chosen on minilm and efficientnet_lite0, on held-out rows of train splits."""
    # Wider transformers are known to want rates that fall about with the square of the width.
    rate = 1e-3 if kind == "image" else 5e-4 * (384 / backbone.width) ** 2
    rule = {"learning_rate": rate, "scheduler": "cosine", "warmup_steps": 0, "precision": "auto"}
    # A new head on few images, or on few sentences with their many tags, needs more passes than one on a text.
    rule |= {"epochs": {"text": 3, "image": 8, "tokens": 10}[kind]}
    return STEPS | rule | what_is_read(kind, solved=False) | input_size(kind, 160, "none")


def prepare(model: Model) -> None:
    """Freeze the lowest two blocks of a text model that has at least four."""
    model.fixed_statistics = True
    model.freeze(0 if model.reader.kind == "image" or len(model.blocks) < 2 * LOWEST else LOWEST)


def fit(work: Work) -> Curve:
    """Train what is not frozen, each block at 0.8 of the rate of the block above it."""
    return loop.train(work, DECAY)


METHOD = Method(fit, defaults, prepare=prepare)
