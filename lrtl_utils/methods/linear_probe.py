"""`linear_probe`: a regularised linear head on features of the frozen backbone, which are extracted once."""

from typing import Any

from lrtl_utils.methods import loop, solver
from lrtl_utils.methods.method import Curve, Method, Work, input_size, what_is_read
from lrtl_utils.models.catalog import Backbone


def defaults(kind: str, backbone: Backbone, n_labels: int) -> dict[str, Any]:
    """Nothing is trained by steps, so there is neither a rate nor a number of epochs."""
    rule = {"batch_size": 32, "precision": "auto", "validation_share": 0.0, "penalty": None, "class_weights": None}
    return rule | what_is_read(kind, solved=True) | input_size(kind, 224, None)


def fit(work: Work) -> Curve:
    """Extract the features of the training examples, and solve the head on them."""
    work.model.freeze(len(work.model.blocks))
    rows = loop.encode_training(work.model, work.train, work.config.max_length)
    chunks = loop.extract(work.model, rows, work.config, work.meter, shared=work.shared)
    names = loop.label_names(work)
    named = loop.extract(work.model, names, work.config, work.meter) * loop.NAME_COPIES if names else []
    options = work.config.penalty, named, work.config.class_weights
    solution = solver.solve_head(work.model, chunks, work.meter, *options)
    return [loop.only_point(work, solution.loss) | {"penalty": solution.penalty, "names_fit": solution.names_fit}]


METHOD = Method(fit, defaults)
