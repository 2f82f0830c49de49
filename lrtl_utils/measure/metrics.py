"""Scores in [0, 1]: accuracy, macro precision, recall and F1, entity F1, and epochs to convergence."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CONVERGED_WITHIN = 0.005  # of the run's best validation score
MOST_BYTES = 2**26  # of a packed array


def classification(expected: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro precision, recall and F1, the same per class, the confusion matrix [true][predicted], and hits.

    A class that is never predicted has precision 0 (scikit-learn's `zero_division=0`).
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    expected, predicted = np.asarray(expected), np.asarray(predicted)
    labels = np.arange(len(names))
    each = precision_recall_fscore_support(expected, predicted, labels=labels, zero_division=0)
    present = each[3] > 0  # macro scores are over the classes that the test split has
    hits = expected == predicted
    return {
        "accuracy": float(hits.mean()),
        **{
            key: float(column[present].mean()) for key, column in zip(("precision", "recall", "f1"), each, strict=False)
        },
        "per_class": _per_class(names, each),
        "confusion": confusion_matrix(expected, predicted, labels=labels).tolist(),
        "hits": pack(hits),
    }


def entities(expected: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Micro-averaged precision, recall and F1 over whole entities, strict IOB2 (Tjong Kim Sang & De Meulder 2003).

    `accuracy` is over tokens; `hits` tells the sentences without a mistake; `counts` packs, for each sentence, its
    entities found rightly, predicted and expected ([sentences, 3]), from which F1 is resampled.
    """
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    report = classification_report(
        [list(tags) for tags in expected],
        [list(tags) for tags in predicted],
        output_dict=True,
        mode="strict",
        scheme=IOB2,
        zero_division=0,
    )
    pairs = list(zip(expected, predicted, strict=True))
    tokens = sum(len(tags) for tags in expected)
    right = sum(a == b for true, guess in pairs for a, b in zip(true, guess, strict=True))
    types = [name for name in report if not name.endswith("avg")]
    each = [[report[name][key] for name in types] for key in ("precision", "recall", "f1-score", "support")]
    micro = report["micro avg"]
    return {
        "accuracy": right / tokens,
        "precision": float(micro["precision"]),
        "recall": float(micro["recall"]),
        "f1": float(micro["f1-score"]),
        "per_class": _per_class(types, each),
        "confusion": None,
        "hits": pack(np.array([list(true) == list(guess) for true, guess in pairs])),
        "counts": pack(np.array([_entity_counts(true, guess) for true, guess in pairs])),
    }


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
    """The boolean array, shape [size], that `pack` made a string of; `ValueError` where another number is in it."""
    raw = _bytes(packed)
    if len(raw) != -(-size // 8):
        raise ValueError(f"{len(raw)} bytes of hits are not those of {size} examples")
    return np.unpackbits(raw, count=size).astype(bool)


def unpack_counts(packed: str) -> np.ndarray:
    """The entity counts, shape [sentences, 3], that `pack` made a string of."""
    return _bytes(packed).view("<u2").reshape(-1, 3)


def _bytes(packed: str) -> np.ndarray:
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(base64.b64decode(packed), MOST_BYTES)
    if not unpacker.eof:
        raise ValueError(f"it ends too soon, or holds more than {MOST_BYTES} bytes")
    return np.frombuffer(raw, dtype=np.uint8)


def _entity_counts(expected: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    from seqeval.scheme import IOB2, Entities

    true, guess = (
        {(e.start, e.end, e.tag) for e in Entities([list(tags)], IOB2).entities[0]} for tags in (expected, predicted)
    )
    return len(true & guess), len(guess), len(true)


def _per_class(names: Sequence[str], columns: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    precision, recall, f1, support = columns
    return {
        str(name): {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, name in enumerate(names)
    }
