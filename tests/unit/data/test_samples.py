from collections import Counter

import numpy as np
import pytest
from sample_files import SAMPLES, measured, read, texts
from sklearn.feature_extraction.text import CountVectorizer

from lrtl_utils.data.catalog import TASKS

NAMES = ("news_sample", "reviews_sample", "entities_sample")
TYPES = {"PER", "ORG", "LOC", "MISC"}


@pytest.mark.parametrize("name", ["news_sample", "reviews_sample"])
def test_classes_are_all_there_and_even(name):
    counts = Counter(row["label"] for row in read(name))
    assert set(counts) == set(TASKS[name].classes)
    assert counts.total() >= 480
    assert max(counts.values()) - min(counts.values()) <= 0.05 * counts.total()


def test_entities_are_many_and_of_all_types():
    rows = read("entities_sample")
    counts = Counter(tag[2:] for row in rows for tag in row["ner_tags"] if tag.startswith("B-"))
    assert len(rows) >= 320
    assert counts.total() >= 800
    assert set(counts) == TYPES
    assert min(counts.values()) >= 100


def test_tags_are_strict_iob2():
    for row in read("entities_sample"):
        tags = row["ner_tags"]
        assert len(tags) == len(row["tokens"]) > 0
        assert set(tags) <= set(TASKS["entities_sample"].classes)
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:], row


@pytest.mark.parametrize("name", NAMES)
def test_every_line_has_its_two_fields_and_clean_text(name):
    task = TASKS[name]
    for row in read(name):
        assert set(row) == {task.input, task.target}
        pieces = row["tokens"] if task.kind == "tokens" else [row["text"]]
        assert all(piece and piece == piece.strip() and piece.isprintable() for piece in pieces), row
        assert task.kind == "text" or not any(" " in piece for piece in pieces), row


@pytest.mark.parametrize("name", NAMES)
def test_no_two_are_alike(name):
    words = CountVectorizer(binary=True, token_pattern=r"\S+").fit_transform(texts(name)).toarray().astype(float)
    shared = words @ words.T
    sizes = words.sum(1)
    alike = shared / (sizes[:, None] + sizes - shared)
    np.fill_diagonal(alike, 0)
    assert alike.max() < 0.4
    assert alike.max() == pytest.approx(measured(name)[1], abs=0.02)


def test_the_data_card_gives_the_sizes():
    card = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        (row,) = [line for line in card.splitlines() if line.startswith(f"| `{name}.jsonl` |")]
        assert str(len(read(name))) in row
    assert all(word in card for word in ("Who wrote them", "Licence", "weaknesses"))


def test_samples_are_small():
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 500_000
