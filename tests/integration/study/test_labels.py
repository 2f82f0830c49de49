"""Labels that may be wrong: changed ones are found, and clean data raise no alarm."""

import flipped_labels
import numpy as np
import pytest
from own_files import rows, write_csv

from lrtl_utils.errors import InputError
from lrtl_utils.methods import shared
from lrtl_utils.study import labels


@pytest.mark.parametrize("share", [0.05, pytest.param(0.1, marks=pytest.mark.slow)])
def test_most_labels_that_were_changed_are_found_and_few_others(share, tmp_path):
    path, changed = flipped_labels.write("news_sample", share, tmp_path)
    found, agreement, checked = labels.suspects(labels.probe(str(path)))
    right = changed & {*found["place"]}
    assert checked == 524
    assert agreement == pytest.approx(0.96 - share, abs=0.03)
    assert len(right) >= 0.9 * len(found)
    assert len(right) >= 0.65 * len(changed)
    assert found["probability"].between(labels.LIKELY, 1).all()


def test_clean_data_raise_no_alarm():
    found, agreement, _ = labels.suspects(labels.probe("news_sample"))
    assert agreement > 0.95
    assert len(found) <= 3


@pytest.mark.slow
def test_clean_reviews_raise_few_alarms():
    said = [*labels.page("reviews_sample")]
    assert " of 524 examples; each is predicted by a head that was fitted without it." in said[2]
    assert int(said[3].split(" labels look wrong")[0]) < 0.03 * 524


@pytest.mark.parametrize("long", [False, True])
def test_a_wrong_label_is_shown_with_its_row_and_the_likelier_one(long, tmp_path):
    lines = [(text.replace(" ", "_") + 60 * "_" if long else text, label) for text, label in rows(60)]
    text, label = lines[17]
    lines[17] = (text, "good" if label == "bad" else "bad")
    shown = [*labels.page(str(write_csv(tmp_path / "r.csv", lines)))]
    assert shown[-1].startswith(f"- r.csv, row 18: {lines[17][1]!r}, perhaps {label!r} (")
    assert shown[-1].endswith(f" {text[:78]} …" if long else f" {text}")  # as a text without spaces is cut


def test_many_classes_of_few_examples_and_images_are_checked_and_tags_are_not(mirror):
    assert labels.suspects(labels.probe("cifar10"))[2] > 0
    with pytest.raises(InputError, match="has tagged sentences"):
        labels.probe("entities_sample")


def test_a_second_check_takes_the_features_of_the_first(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(shared.WORTH, "features", 0.0)
    first, again = (labels.probe(str(write_csv(tmp_path / "mine.csv", rows(60)))) for _ in range(2))
    features = [labels.features(run, run.data.train)[0]["features"] for run in (first, again)]
    assert np.array_equal(*features)
    assert first.meter.cached_seconds == 0 < again.meter.cached_seconds
