"""What a model answered, how right it was, and where it was wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrtl_utils.measure.metrics import classification, entities, epochs_to_convergence

if TYPE_CHECKING:
    import pandas as pd

    from lrtl_utils.data.splits import Examples
    from lrtl_utils.models.network import Model

PREDICT_BATCH = 32  # examples, at most, in a step of a prediction


@dataclass(frozen=True)
class Prediction:
    """`predicted` classes [n] or lists of tags; `confidence` [n] in [0, 1]; mean `loss` in nats; `seconds` it took.

    `scores` are the logits, fp32: [classes] of each example, or [words, classes].
    """

    predicted: list[Any]
    confidence: np.ndarray
    loss: float
    seconds: float
    scores: list[np.ndarray]


def evaluate(
    model: "Model",
    targets: Sequence[Any],
    prediction: Prediction,
    labels: Sequence[str],
    curve: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """All metrics of a prediction, with its loss. Words past the model's `max_length` count as tagged O."""
    if model.reader.kind == "tokens":
        expected = [[labels[tag] for tag in tags] for tags in targets]
        scores = entities(expected, tag_names(prediction, expected, labels))
    else:
        scores = classification(targets, prediction.predicted, labels)
    converged = epochs_to_convergence(curve)
    return scores | {"loss": prediction.loss, "epochs_to_convergence": converged}


def mistakes(examples: "Examples", prediction: Prediction, labels: Sequence[str], rows: int = 10) -> "pd.DataFrame":
    """The wrong answers that the model is surest of; of a sentence, its wrongly tagged words, expected → predicted."""
    import pandas as pd

    found = []
    for i in np.argsort(-prediction.confidence, kind="stable"):
        expected, predicted = examples.targets[i], prediction.predicted[i]
        if isinstance(predicted, list):
            tags = predicted + [0] * (len(expected) - len(predicted))
            triples = zip(examples.inputs[i], expected, tags, strict=True)
            wrong = "; ".join(f"{word}: {labels[a]} → {labels[b]}" for word, a, b in triples if a != b)
            row = {"input": " ".join(examples.inputs[i]), "wrong": wrong}
        else:
            wrong = expected != predicted
            row = {"input": examples.inputs[i], "true": labels[expected], "predicted": labels[predicted]}
        if wrong:
            found.append(row | {"confidence": float(prediction.confidence[i])})
    return pd.DataFrame(found[:rows])


def tag_names(prediction: Prediction, expected: Sequence[Sequence[str]], labels: Sequence[str]) -> list[list[str]]:
    """Predicted tags by name, one for every expected word."""
    rows = zip(prediction.predicted, expected, strict=True)
    return [[labels[tag] for tag in tags] + ["O"] * (len(true) - len(tags)) for tags, true in rows]


def headline(model: "Model", metrics: dict[str, Any]) -> float:
    """The score a run is judged by: entity F1 for tagging, else accuracy."""
    return metrics["f1" if model.reader.kind == "tokens" else "accuracy"]
