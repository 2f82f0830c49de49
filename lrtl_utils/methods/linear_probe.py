"""`linear_probe`: a regularised linear head on features of the frozen backbone, which are extracted once."""

from typing import Any

from lrtl_utils.methods import loop, solver
from lrtl_utils.methods.method import Curve, Method, Work, input_size
from lrtl_utils.models.catalog import Backbone


def defaults(kind: str, backbone: Backbone, n_labels: int) -> dict[str, Any]:
    """Nothing is trained by steps, so there is neither a rate nor a number of epochs."""
    return {"batch_size": 32, "precision": "auto", "validation_share": 0.0} | input_size(kind, 224, None)


def fit(work: Work) -> Curve:
    """Extract the features of the training examples, and solve the head on them."""
    work.model.freeze(len(work.model.blocks))
    rows = loop.encode_training(work.model, work.train, work.config.max_length)
    chunks = loop.extract(work.model, rows, work.config, work.meter, shared=work.shared)
    loss = solver.solve_head(work.model, chunks, solver.L2[work.data.kind], work.meter)
    return [loop.only_point(work, loss)]


METHOD = Method(fit, defaults)
