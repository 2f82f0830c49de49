"""What a model predicted and how good that is: accuracy, precision, recall and F1 in [0, 1], of classes or entities."""

import base64
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lrtl_utils.errors import InputError, require_name

CONVERGED_WITHIN = 0.005  # of the run's best validation score
MOST_BYTES = 2**26  # of a packed array
_SCORES = ("precision", "recall", "f1", "support")
BINS = 15  # of the confidence, for the calibration error
MOST_LOG = 3.0  # of the natural logarithm of a temperature, either way
PREDICT_BATCH = 32  # examples, at most, in a step of a prediction


class Metric(NamedTuple):
    """What runs can be ranked by: its `name` in words, and the keys of its score and of single examples on a record.

    `tagged` says whether it is for tagged sentences. How resampled examples are scored stands in `study.stats`.
    """

    name: str
    score: str
    packed: str
    tagged: bool = False


METRICS = {
    "accuracy": Metric("accuracy", "accuracy", "hits"),
    "macro_f1": Metric("macro F1", "f1", "answers"),
    "entity_f1": Metric("entity F1", "f1", "counts", tagged=True),
}


@dataclass(frozen=True)
class Prediction:
    """`predicted` classes [n] or lists of tags; `confidence` [n] in [0, 1]; mean `loss` in nats; `seconds` it took.

    `scores` are the logits in fp32: [classes] for each example, or [words, classes]. `cached_seconds` is the part of
    `seconds` that an earlier run spent, because it had computed a part of the prediction.
    """

    predicted: list[Any]
    confidence: np.ndarray
    loss: float
    seconds: float
    scores: list[np.ndarray]
    cached_seconds: float = 0.0


def evaluate(
    targets: Sequence[Any],
    prediction: Prediction,
    classes: Sequence[str],
    curve: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """All metrics of a prediction, with its loss, and of classes the calibration error.

    Words beyond the model's `max_length` count as tagged O.
    """
    if isinstance(prediction.predicted[0], list):  # the tags of a sentence
        expected = [[classes[tag] for tag in tags] for tags in targets]
        scores = entities(expected, tag_names(prediction, expected, classes))
    else:
        scores = classification(targets, prediction.predicted, classes)
        hits = np.asarray(targets) == np.asarray(prediction.predicted)
        scores["calibration_error"] = calibration_error(prediction.confidence, hits)
    return scores | {"loss": prediction.loss, "epochs_to_convergence": epochs_to_convergence(curve)}


def headline(metrics: Mapping[str, Any]) -> float:
    """The score that a run is judged by: entity F1 for tagging, else accuracy."""
    return metrics["f1" if "counts" in metrics else "accuracy"]


class Outcome(NamedTuple):
    """What a run is ranked by: the `metric`, its `score` on the test split, and the packed outcomes of the examples.

    `packed` are the record's `hits`, `answers` or `counts`, of so many `examples` of so many `classes`.
    """

    metric: str
    score: float
    packed: str
    examples: int
    classes: int

    @property
    def name(self) -> str:
        """The metric in words."""
        return METRICS[self.metric].name


def outcome(record: Mapping[str, Any], metric: str | None = None) -> Outcome:
    """The outcome of a completed run; without a `metric` by `headline`.

    `InputError` if its task does not have that metric, or its record is too old to have it for single examples.
    """
    scores, data = record["metrics"], record["data"]
    tagged = "counts" in scores
    metric = metric or ("entity_f1" if tagged else "accuracy")
    require_metric(metric, tagged, f"Run {record['run_id']}")
    row = METRICS[metric]
    packed = scores.get(row.packed)
    if packed is None:
        raise InputError(
            f"Run {record['run_id']} cannot be ranked by {row.name}: its record is of an earlier version, which did "
            "not keep what was predicted for each test example; run it again in another folder, or rank by accuracy."
        )
    return Outcome(metric, scores[row.score], packed, data["test_size"], len(data["labels"]))


def require_metric(metric: str, tagged: bool, what: str) -> None:
    """`InputError` unless that is a metric, and one of the task of `what`, which has tagged sentences or classes."""
    require_name("metric", metric, METRICS)
    if tagged != METRICS[metric].tagged:
        kind = "tagged sentences" if tagged else "single labels"
        fitting = " or ".join(name for name, row in METRICS.items() if row.tagged == tagged)
        raise InputError(f"{what} has {kind}, so it cannot be ranked by {metric}; the metric can be {fitting}.")


def tag_names(prediction: Prediction, expected: Sequence[Sequence[str]], classes: Sequence[str]) -> list[list[str]]:
    """Predicted tags by name, one for every expected word."""
    rows = zip(prediction.predicted, expected, strict=True)
    return [[classes[tag] for tag in tags] + ["O"] * (len(true) - len(tags)) for tags, true in rows]


def classification(expected: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro precision, recall and F1, the same per class, and the confusion matrix [true][predicted].

    `hits` packs which answers were right, and `answers` the true and the predicted class of each example, [n, 2].
    A class that is never predicted has precision 0. Macro scores are means over the classes that `expected` has.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # slow to import

    expected, predicted = np.asarray(expected), np.asarray(predicted)
    labels = np.arange(len(names))
    *each, support = precision_recall_fscore_support(expected, predicted, labels=labels, zero_division=0)
    support = support.astype(int)  # where not one answer is right, scikit-learn counts in floats
    hits = expected == predicted
    macro = {name: float(column[support > 0].mean()) for name, column in zip(_SCORES[:3], each, strict=True)}
    rows = zip(*(column.tolist() for column in [*each, support]), strict=True)
    return {
        "accuracy": float(hits.mean()),
        **macro,
        "per_class": {str(name): dict(zip(_SCORES, row, strict=True)) for name, row in zip(names, rows, strict=True)},
        "confusion": confusion_matrix(expected, predicted, labels=labels).tolist(),
        "hits": pack(hits),
        "answers": pack(np.stack([expected, predicted], axis=1)),
    }


def calibration_error(confidence: np.ndarray, hits: np.ndarray) -> float:
    """The expected calibration error in [0, 1], over 15 bins of equal width (Guo et al. 2017).

    It is the mean distance of a bin's mean `confidence` [n] from its share of `hits` [n], weighted by its examples.
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return float(np.abs(np.bincount(bins, weights=hits - confidence)).sum() / len(hits))


def temperature(scores: Sequence[np.ndarray], targets: Sequence[int]) -> float:
    """The temperature, in [1/20, 20], by which logits [n, classes] are divided for the least loss (Guo et al. 2017).

    Its logarithm has a standard normal prior: a few examples that are all right do not show that a model always is.
    """
    from scipy.optimize import minimize_scalar  # slow to import
    from scipy.special import log_softmax

    logits, true = np.asarray(scores, dtype=float), (np.arange(len(targets)), np.asarray(targets))

    def loss(logarithm: float) -> float:
        return float(logarithm**2 / 2 - log_softmax(logits / np.exp(logarithm), axis=1)[true].sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-MOST_LOG, MOST_LOG), method="bounded").x))


def entities(expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Micro-averaged precision, recall and F1 over whole entities, strict IOB2 (Tjong Kim Sang & De Meulder 2003).

    `accuracy` is over words; `hits` are the sentences without a mistake; `counts` packs, for each sentence, how many
    of its entities were found correctly, predicted and expected ([sentences, 3]), from which F1 is resampled.
    """
    by_sentence, by_type = [], defaultdict(lambda: [0, 0, 0])
    right_tokens, hits = 0, []
    for tags, guesses in zip(expected, predicted, strict=True):
        right_tokens += sum(tag == guess for tag, guess in zip(tags, guesses, strict=True))
        hits.append(list(tags) == list(guesses))
        true, found = spans(tags), spans(guesses)
        parts = true & found, found, true
        by_sentence.append([len(part) for part in parts])
        for part, members in enumerate(parts):
            for _, _, kind in members:
                by_type[kind][part] += 1
    counts = np.array(by_sentence)
    return {
        "accuracy": right_tokens / sum(map(len, expected)),
        **entity_scores(*counts.sum(0).tolist()),
        "per_class": {kind: entity_scores(*each) | {"support": each[2]} for kind, each in sorted(by_type.items())},
        "confusion": None,
        "hits": pack(np.array(hits)),
        "counts": pack(counts),
    }


def entity_scores(right: int, predicted: int, expected: int) -> dict[str, float]:
    """Precision, recall and F1 of so many entities; 0 where there are none."""
    precision, recall = right / max(predicted, 1), right / max(expected, 1)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """The entities of a sentence as (first word, word after the last, type): B-TYPE and the I-TYPE that follow it.

    An I-TYPE that follows neither B-TYPE nor I-TYPE of the same type belongs to no entity.
    """
    found, start = set(), None
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{tags[start][2:]}":
            found.add((start, i, tags[start][2:]))
            start = None
        if tag.startswith("B-"):
            start = i
    return found


def epochs_to_convergence(curve: Sequence[Mapping[str, Any]]) -> int | None:
    """The first epoch whose `validation_score` is within 0.5 points of the curve's best; None without scores."""
    scored = [point for point in curve if point["validation_score"] is not None]
    best = max((point["validation_score"] for point in scored), default=None)
    return next((point["epoch"] for point in scored if point["validation_score"] >= best - CONVERGED_WITHIN), None)


def pack(array: np.ndarray) -> str:
    """Booleans as bits, or counts below 2^16 as little-endian pairs of bytes, deflated, in base64."""
    raw = np.packbits(array) if array.dtype == bool else array.astype("<u2")
    return base64.b64encode(zlib.compress(raw.tobytes(), 9)).decode()


def unpack_hits(packed: str, size: int) -> np.ndarray:
    """The boolean array, shape [size], from `pack`; `ValueError` if it holds another number of values."""
    raw = _bytes(packed)
    if len(raw) != -(-size // 8):
        raise ValueError(f"{len(raw)} bytes of hits are not those of {size} examples")
    return np.unpackbits(raw, count=size).astype(bool)


def unpack_rows(packed: str, columns: int) -> np.ndarray:
    """What `pack` was given, shape [rows, columns]: 3 counts of entities, or the true and the predicted class."""
    return _bytes(packed).view("<u2").reshape(-1, columns)


def _bytes(packed: str) -> np.ndarray:
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(base64.b64decode(packed), MOST_BYTES)
    if not unpacker.eof:
        raise ValueError(f"the packed array is cut off, or holds more than {MOST_BYTES} bytes")
    return np.frombuffer(raw, dtype=np.uint8)
