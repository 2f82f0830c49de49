"""The defaults of each method: what stands where a knob is None.

Each function takes the kind of task, the model's row and the number of labelled examples, and knows no data set.
"""

from typing import Any

from lrtl_utils.models.catalog import Backbone

DECAY = 0.8  # of the rate, a block down (after Howard & Ruder 2018, whose factor is 1 / 2.6)
STEPS = {
    "batch_size": 16,
    "accumulate": 1,
    "optimizer": "adamw",
    "dropout": None,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "validation_share": 0.0,
}


def conventional(kind: str, backbone: Backbone, labels: int) -> dict[str, Any]:
    """Frozen: every comparison of this project is against these."""
    rule = {"learning_rate": 5e-5, "epochs": 3, "scheduler": "linear", "warmup_steps": 0, "precision": "fp32"}
    return STEPS | rule | _input_size(kind, 224, "light")


def full(kind: str, backbone: Backbone, labels: int) -> dict[str, Any]:
    # Tried on minilm; wider transformers are known to want rates that fall about with the square of the width.
    rate = 1e-3 if kind == "image" else 5e-4 * (384 / backbone.width) ** 2
    rule = {"learning_rate": rate, "scheduler": "cosine", "warmup_steps": 0, "precision": "auto"}
    # A new head on few images, or on few sentences with their many tags, needs more passes than one on a text.
    rule |= {"epochs": {"text": 3, "image": 8, "tokens": 10}[kind]}
    return STEPS | rule | _input_size(kind, 160, "none")


def from_scratch(kind: str, backbone: Backbone, labels: int) -> dict[str, Any]:
    rule = {"learning_rate": 5e-4, "epochs": 10, "scheduler": "cosine", "warmup_steps": 0, "precision": "auto"}
    if backbone.library == "ours":
        rule |= {"optimizer": "adam", "epochs": 30, "scheduler": "constant", "precision": "fp32"}
        return STEPS | rule | {"weight_decay": 0.0} | (_input_size(kind, 32, "none") if kind == "image" else {})
    return STEPS | rule | _input_size(kind, 160, "light")


def linear_probe(kind: str, backbone: Backbone, labels: int) -> dict[str, Any]:
    return {"batch_size": 32, "precision": "auto", "validation_share": 0.0} | _input_size(kind, 224, None)


def tfidf(kind: str, backbone: None, labels: int) -> dict[str, Any]:
    return {"validation_share": 0.0}


def lp_ft(kind: str, backbone: Backbone, labels: int) -> dict[str, Any]:
    """As `full`, all blocks; the head is solved first."""
    return full(kind, backbone, labels)


def bitfit(kind: str, backbone: Backbone, labels: int) -> dict[str, Any]:
    """Biases want rates about ten times those of matrices (Ben Zaken et al. 2022), and more passes."""
    rule = full(kind, backbone, labels)
    return rule | {"learning_rate": 5e-3, "epochs": 10}


def lora(kind: str, backbone: Backbone, labels: int) -> dict[str, Any]:
    """Low-rank matrices begin at zero and want higher rates than what they adapt (Hu et al. 2022)."""
    rule = full(kind, backbone, labels)
    return rule | {"learning_rate": 2e-3, "epochs": max(5, rule["epochs"])}


# By kind: (labels below which it holds, its rate as a multiple of `full`'s, batch size, epochs, most tokens of a text).
# Few texts need more passes to make as many steps, at a lower rate than a fresh head wants, and both ends of a long one
# tell nearly as much as twice the tokens. Entities, with their many tags, need the most steps, and a lower rate where
# there are many. For images the solved head is a good start that small batches throw away, and a high rate too while
# they are few.
LADDER_RULE = {
    "text": ((64, 0.6, 8, 5, 128), (250, 0.6, 8, 3, 128), (float("inf"), 0.6, 8, 2, None)),
    "tokens": ((250, 1.0, 8, 6, None), (float("inf"), 0.6, 8, 4, None)),
    "image": ((400, 0.3, 16, 2, None), (float("inf"), 0.6, 16, 2, None)),
}


def progressive(kind: str, backbone: Backbone, labels: int) -> dict[str, Any]:
    """As `full`, but for the rule above: a solved head and frozen lower blocks leave less to learn.

    A carve takes its labels from training (a fifth of 100 cost 3.7 points on SST-2), and under 200 examples it hardly
    tells two rungs apart: so there is none before it is a fifth, and it stays at 200 from there on.
    """
    rule = full(kind, backbone, labels)
    rate, batch_size, epochs, tokens = next(line for below, *line in LADDER_RULE[kind] if labels < below)
    rule |= {"learning_rate": rate * rule["learning_rate"], "batch_size": batch_size, "epochs": epochs}
    rule |= {"max_length": tokens} if kind == "text" else {}
    share = round(200 / labels, 4) if labels >= 1000 else 0.0
    return rule | {"validation_share": share, "budget_seconds": None, "without": None}


def _input_size(kind: str, image_size: int, augment: str | None) -> dict[str, Any]:
    if kind != "image":
        return {"max_length": None}
    return {"image_size": image_size} | ({"augment": augment} if augment else {})
