"""What a method is, what it is given, and the defaults that several methods share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrtl_utils.config import RunConfig
from lrtl_utils.data.splits import Data, Examples
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.models.catalog import Backbone

if TYPE_CHECKING:
    from lrtl_utils.methods.shared import Shared
    from lrtl_utils.models.network import Model

# One point an epoch or a rung. Each has `epoch`, `loss` in nats, `validation_loss` and `validation_score` (None without
# a validation split), and what `CostMeter.so_far` says, from which the FLOPs of the point are counted afterwards.
Curve = list[dict[str, Any]]


@dataclass(frozen=True)
class Work:
    """What a method works with: a fresh model, the labelled examples, and a meter whose clock is running.

    `validation` is None where no labels are set aside. A fit that takes long keeps its checkpoint in `folder`, or
    keeps none where `folder` is None. If a file `claim` is given and is gone, the folder is another process's. On the
    meta device the model has shapes and no weights: the same fit then computes nothing, and the meter counts what it
    would have computed. In a sweep, features come from `shared` where an earlier run has computed them.
    """

    model: "Model"
    data: Data
    train: Examples
    validation: Examples | None
    config: RunConfig
    meter: CostMeter
    folder: Path | None = None
    claim: Path | None = None
    shared: "Shared | None" = None


@dataclass(frozen=True)
class Method:
    """One way of adapting a model.

    A knob that `defaults(kind, backbone, n_labels)` does not name does nothing here, and leaves the configuration.
    """

    fit: Callable[[Work], Curve]
    defaults: Callable[[str, Backbone | None, int], dict[str, Any]]
    prepare: Callable[["Model"], None] | None = None  # decides which weights are trained
    kinds: tuple[str, ...] = ("text", "image", "tokens")
    pretrained: bool = True
    pooling: str = "mean"  # of text features; "own" is the architecture's
    plain: bool = False  # batches as an example script has them: texts padded to full length
    needs_model: bool = True
    needs_blocks: bool = False  # it trains some blocks and not others
    pieces: tuple[str, ...] = ()  # what `without` may leave out


STEPS = {
    "batch_size": 16,
    "accumulate": 1,
    "optimizer": "adamw",
    "dropout": None,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "class_weights": None,
    "validation_share": 0.0,
}


def what_is_read(kind: str, *, solved: bool, label_names: bool = False) -> dict[str, Any]:
    """The knobs of what a new head reads: `layers` beside the top one, of words their shape, the names of classes.

    Lower layers help a head that is solved. Where they are then trained, or the head starts at random, they help a
    text model no longer: its blocks carry all to the top.
    """
    layers = 0.5 if solved or kind == "image" else None
    beside = {"text": {"label_names": label_names}, "tokens": {"word_shape": True}}
    return {"layers": layers} | beside.get(kind, {})


def balanced(targets: Sequence[int], classes: int) -> np.ndarray:
    """The weight of each class, float32 [classes]: examples / (classes that have one × its own); 0 without an example.

    It is scikit-learn's "balanced" (King & Zeng 2001): every class counts the same, and the mean over examples is 1.
    """
    from sklearn.utils.class_weight import compute_class_weight  # slow to import

    present, weights = np.unique(targets), np.zeros(classes, np.float32)
    weights[present] = compute_class_weight("balanced", classes=present, y=np.asarray(targets))
    return weights


def input_size(kind: str, image_size: int, augment: str | None) -> dict[str, Any]:
    """The knobs that bound an input: `max_length` of a text, or `image_size` and `augment` of an image."""
    if kind != "image":
        return {"max_length": None}
    return {"image_size": image_size} | ({"augment": augment} if augment else {})
