import numpy as np
import pytest
from nervaluate import Evaluator

from lrtl_utils.measure.metrics import (
    calibration_error,
    classification,
    entities,
    epochs_to_convergence,
    pack,
    spans,
    temperature,
    unpack_hits,
    unpack_rows,
)

NAMES = ("cat", "dog", "fish")


def test_classification_by_hand():
    scores = classification([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1], NAMES)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["confusion"] == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]
    assert scores["precision"] == pytest.approx((1 + 2 / 4 + 0) / 3)
    assert scores["recall"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores["f1"] == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert scores["per_class"]["dog"] == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 2})
    assert unpack_hits(scores["hits"], 6).tolist() == [True, True, False, True, True, False]
    assert unpack_rows(scores["answers"], 2).T.tolist() == [[0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1]]
    with pytest.raises(ValueError, match="1 bytes of hits are not those of 9 examples"):
        unpack_hits(scores["hits"], 9)


def test_where_no_answer_is_right_the_supports_are_whole_numbers_too():
    scores = classification([0, 1, 1], [1, 0, 2], NAMES)
    assert scores["accuracy"] == 0
    supports = [row["support"] for row in scores["per_class"].values()]
    assert [type(each) for each in supports] == [int] * 3
    assert supports == [1, 2, 0]


def test_a_class_that_the_test_split_lacks_is_no_zero_in_the_mean():
    scores = classification([0, 1], [0, 1], NAMES)
    assert (scores["precision"], scores["recall"], scores["f1"]) == (1, 1, 1)
    assert scores["per_class"]["fish"]["support"] == 0


def test_entities_by_hand():
    expected = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O", "O"], ["O", "O"]]
    predicted = [["B-PER", "I-PER", "O", "B-ORG"], ["B-ORG", "O", "B-LOC"], ["O", "O"]]
    scores = entities(expected, predicted)
    assert scores["accuracy"] == pytest.approx(7 / 9)
    assert scores["precision"] == pytest.approx(2 / 4)
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert scores["per_class"]["PER"]["f1"] == 1
    assert scores["per_class"]["LOC"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert unpack_hits(scores["hits"], 3).tolist() == [False, False, True]
    assert unpack_rows(scores["counts"], 3).tolist() == [[1, 2, 2], [1, 2, 1], [0, 0, 0]]


def test_entities_agree_with_nervaluate():
    rng = np.random.default_rng(0)

    def sentence(words):
        tags = ["O"]
        for _ in range(words):
            going_on = [f"I-{tags[-1][2:]}"] if tags[-1] != "O" else []
            tags.append(str(rng.choice(["O", "B-PER", "B-LOC", "B-MISC", *3 * going_on])))
        return tags[1:]

    expected = [sentence(words) for words in rng.integers(1, 12, 300)]
    predicted = [tags if rng.random() < 0.5 else sentence(len(tags)) for tags in expected]
    scores = entities(expected, predicted)
    theirs = Evaluator(expected, predicted, tags=["PER", "LOC", "MISC"], loader="list").evaluate()
    overall = theirs["overall"]["strict"]
    assert 0.3 < scores["f1"] < 0.9
    for name in ("precision", "recall", "f1"):
        assert scores[name] == pytest.approx(getattr(overall, name))
        for kind, row in scores["per_class"].items():
            assert row[name] == pytest.approx(getattr(theirs["entities"][kind]["strict"], name))


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("", []),
        ("O O", []),
        ("B-PER I-PER O B-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
        ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
        ("I-PER I-PER O", []),
        ("O I-PER B-PER", [(2, 3, "PER")]),
        ("B-PER I-LOC I-PER", [(0, 1, "PER")]),
        ("B-PER I-PER I-LOC I-LOC", [(0, 2, "PER")]),
        ("B-A-B I-A-B I-A", [(0, 2, "A-B")]),
    ],
)
def test_spans_are_strict_iob2(tags, found):
    assert sorted(spans(tags.split())) == found


def test_sentences_without_entities():
    scores = entities([["O", "O"]], [["O", "O"]])
    assert (scores["accuracy"], scores["f1"], scores["per_class"]) == (1, 0, {})


def test_a_sentence_may_have_many_entities():
    tags = [["B-LOC"] * 300, ["O"]]
    assert unpack_rows(entities(tags, tags)["counts"], 3).tolist() == [[300, 300, 300], [0, 0, 0]]


@pytest.mark.parametrize("size", [1, 7, 8, 9, 2000])
def test_packed_hits_are_short_and_come_back(size):
    hits = np.random.default_rng(size).random(size) < 0.9
    assert (unpack_hits(pack(hits), size) == hits).all()
    assert len(pack(hits)) < 40 + size / 4


def test_the_answers_of_a_thousand_examples_of_64_classes_take_two_or_three_kb():
    rng = np.random.default_rng(0)
    true = rng.integers(64, size=1000)
    guess = np.where(rng.random(1000) < 0.7, true, rng.integers(64, size=1000))
    assert len(classification(true, guess, [str(i) for i in range(64)])["answers"]) < 2500


def test_calibration_error_by_hand():
    confidence = np.array([0.55, 0.59, 1.0, 1.0, 0.97])  # the first two share a bin, and so do the others
    hits = np.array([True, False, True, True, False])
    expected = 2 / 5 * abs(0.57 - 1 / 2) + 3 / 5 * abs(2.97 / 3 - 2 / 3)
    assert calibration_error(confidence, hits) == pytest.approx(expected)
    assert calibration_error(np.ones(3), np.ones(3, bool)) == 0


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_a_scale_of_the_logits(scale):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = (rng.random((4000, 1)) > odds.cumsum(1)).sum(1)
    assert temperature(list(scale * logits), targets) == pytest.approx(scale, rel=0.05)


def test_a_few_right_answers_prove_no_certainty():
    assert 0.2 < temperature([[2.0, 0.0]] * 10, [0] * 10) < 1


@pytest.mark.parametrize(
    ("scores", "epoch"),
    [
        ([0.5, 0.7, 0.897, 0.9], 3),
        ([0.9, 0.8, 0.7], 1),
        ([0.5, 0.8, 0.794, 0.8], 2),
        ([0.5], 1),
        ([], None),
        ([None, None], None),
    ],
)
def test_epochs_to_convergence(scores, epoch):
    curve = [{"epoch": number, "validation_score": score} for number, score in enumerate(scores, 1)]
    assert epochs_to_convergence(curve) == epoch
