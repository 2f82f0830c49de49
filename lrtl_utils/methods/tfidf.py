"""`tfidf`: TF-IDF of words and pairs of words with logistic regression, which needs no pre-training at all."""

from typing import Any

import torch
from sklearn.linear_model import LogisticRegression

from lrtl_utils.measure.flops import linear_solver_flops, tfidf_flops
from lrtl_utils.methods import loop
from lrtl_utils.methods.method import Curve, Method, Work
from lrtl_utils.models.encoding import check_texts
from lrtl_utils.models.heads import take_over

C = 10.0  # inverse strength of the L2 penalty, as scikit-learn has it


def defaults(kind: str, backbone: None, n_labels: int) -> dict[str, Any]:
    """Nothing is tuned."""
    return {"validation_share": 0.0, "class_weights": None}


def fit(work: Work) -> Curve:
    """Fit the vectorizer and the classifier, and take the classifier's weights over into the model's head."""
    model, classes = work.model, len(work.data.classes)
    check_texts(work.train.inputs)
    matrix = model.reader.tokenizer.fit_transform(work.train.inputs)
    weights = work.config.class_weights
    solver = LogisticRegression(C=C, max_iter=1000, class_weight=weights).fit(matrix, work.train.targets)
    model.head = torch.nn.Linear(matrix.shape[1], classes)
    take_over(model.head, solver)
    iterations = int(max(solver.n_iter_))
    work.meter.tally_closed_form(tfidf_flops(matrix.nnz) + linear_solver_flops(matrix.nnz, classes, iterations))
    return [loop.only_point(work, None)]


METHOD = Method(fit, defaults, kinds=("text",), pretrained=False, needs_model=False)
