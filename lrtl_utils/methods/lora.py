"""`lora`: low-rank additions to the backbone's linear layers are trained, and the head (Hu et al. 2022), by peft."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers.pytorch_utils import Conv1D

from lrtl_utils.methods import full, loop
from lrtl_utils.methods.method import Curve, Method, Work
from lrtl_utils.models.catalog import Backbone
from lrtl_utils.models.network import Model

RANK = 8


def defaults(kind: str, backbone: Backbone, n_labels: int) -> dict[str, Any]:
    """Low-rank matrices begin at zero and want higher rates than what they adapt (Hu et al. 2022)."""
    rule = full.defaults(kind, backbone, n_labels)
    return rule | {"learning_rate": 2e-3, "epochs": max(5, rule["epochs"])}


def prepare(model: Model) -> None:
    """Add the low-rank matrices; all else but the head is frozen."""
    model.fixed_statistics = True
    targets = [name for name, layer in model.named_modules() if _is_adapted(name, layer)]
    # By its full name: `head` alone would also be EfficientNet's `conv_head`.
    saved = ["model.head"] + ["model.crf"] * (getattr(model, "crf", None) is not None)
    get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets, modules_to_save=saved))


def fit(work: Work) -> Curve:
    """Train what is not frozen, at one rate."""
    return loop.train(work)


def _is_adapted(name: str, layer: Any) -> bool:
    """Adapted are the backbone's linear layers, and its convolutions of one pixel that see all channels."""
    pointwise = isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
    linear = isinstance(layer, (torch.nn.Linear, Conv1D))  # the latter is GPT's, transposed
    return name.startswith("backbone.") and (linear or pointwise)


METHOD = Method(fit, defaults, prepare=prepare)
