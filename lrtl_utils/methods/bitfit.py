"""`bitfit`: only the biases and the head are trained (Ben Zaken et al. 2022)."""

from typing import Any

from lrtl_utils.methods import full, loop
from lrtl_utils.methods.method import Curve, Method, Work
from lrtl_utils.models.catalog import Backbone
from lrtl_utils.models.network import Model


def defaults(kind: str, backbone: Backbone, n_labels: int) -> dict[str, Any]:
    """Biases want rates about ten times those of matrices (Ben Zaken et al. 2022), and more passes."""
    return full.defaults(kind, backbone, n_labels) | {"learning_rate": 5e-3, "epochs": 10}


def prepare(model: Model) -> None:
    """Train the head and the bias terms, those of norms included."""
    model.fixed_statistics = True
    for block in model.blocks:
        for name, weight in block.named_parameters():
            weight.requires_grad_(name.endswith("bias"))


def fit(work: Work) -> Curve:
    """Train what is not frozen, at one rate."""
    return loop.train(work)


METHOD = Method(fit, defaults, prepare=prepare, needs_blocks=True)
