"""`lp_ft`: the head is solved on frozen features first, then all blocks are trained with it (Kumar et al. 2022)."""

from typing import Any

from lrtl_utils.methods import full, linear_probe, loop
from lrtl_utils.methods.method import Curve, Method, Work, what_is_read
from lrtl_utils.models.catalog import Backbone
from lrtl_utils.models.network import Model


def defaults(kind: str, backbone: Backbone, n_labels: int) -> dict[str, Any]:
    """As `full`, but for what the solved head reads, and its penalty."""
    return full.defaults(kind, backbone, n_labels) | what_is_read(kind, solved=kind != "text") | {"penalty": None}


def prepare(model: Model) -> None:
    """Train every block."""
    model.fixed_statistics = True
    model.freeze(0)


def fit(work: Work) -> Curve:
    """Solve the head as `linear_probe` does, then train as `full` does, but all blocks."""
    linear_probe.fit(work)
    prepare(work.model)
    return loop.train(work, full.DECAY)


METHOD = Method(fit, defaults, prepare=prepare, needs_blocks=True)
