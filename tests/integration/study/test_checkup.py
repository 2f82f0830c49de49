"""The check of a user's data: what the page says, and that it is true."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from own_files import of_one as rows
from own_files import written_csv as write_csv
from PIL import Image

from lrtl_utils.data import splits
from lrtl_utils.errors import InputError
from lrtl_utils.study import checkup, stats


@pytest.fixture
def spoilt(tmp_path):
    """A folder with one of everything that can be wrong with a table."""
    train = [*rows(90, "positive"), *rows(20, "negative"), ("once only", "positve"), ("capitals", "Negative")]
    train += [
        ("", "positive"),
        ("no verdict", ""),
        rows(1, "positive")[0],
        ("POSITIVE words of review  number 1", "negative"),
    ]
    write_csv(tmp_path / "train.csv", train)
    write_csv(tmp_path / "test.csv", [*rows(30, "positive", 85), *rows(9, "negative", 100), ("late", "mixed")])
    with (tmp_path / "train.csv").open("ab") as stream:
        stream.write("caf\xe9 au lait,positive\r\n".encode("cp1252"))
    return tmp_path


def test_the_page_lists_all_that_is_wrong_and_what_to_do(spoilt):
    page = "\n".join(checkup.page(checkup.read(str(spoilt))))
    for stated in (
        "115 examples to train on, 40 to test on (taken: test.csv).",
        "- inputs from column 'text', labels from column 'label'",
        "Always answering 'positive' gives an accuracy of 0.750.",
        "1. Train examples that are also in the test split (ignoring case and spaces): 5.",
        "-p drop_leaks=true leaves them out",
        "Inputs that occur with different labels: 1.",
        "Lines of train.csv that are not UTF-8 and were read as Windows-1252: 1.",
        "Rows of the train split that are left out: 1 without input, 1 without label.",
        "Label 'positve' (1) looks like 'positive' (122); is it a typo?",
        "Label 'Negative' (1) looks like 'negative' (30)",
        "These classes occur only in the test split, so they cannot be learned: mixed.",
        "Repeated examples: 2 in the train split, 0 in the test split.",
        "The largest class is 92 times as large as the smallest",
        "These classes have no test example, so no score says anything about them: Negative, positve.",
        "These classes have fewer than 10 test examples, so their scores say little: negative.",
        "Detecting 3 points takes 8150 test examples, or 650 with 10 seeds.",
    ):
        assert stated in page, f"{stated}\n\n{page}"


def test_of_many_classes_a_sentence_names_some(tmp_path):
    table = [row for i in range(12) for row in rows(8, f"intent {i:02}", 100 * i)]
    page = [*checkup.page(checkup.read(write_csv(tmp_path / "r.csv", table)))]
    named = ", ".join(f"intent {i:02}" for i in range(10))
    said = f"These classes have fewer than 10 test examples, so their scores say little: {named} and 2 more."
    assert any(line.endswith(said) for line in page)
    assert all(any(line.startswith(f"intent {i:02} ") for line in page) for i in range(12))


def test_clean_data_have_nothing_to_look_at(tmp_path):
    path = write_csv(tmp_path / "r.csv", [*rows(60, "good"), *rows(60, "bad")])
    data = checkup.read(path)
    page = [*checkup.page(data)]
    assert page[page.index("## To look at") + 1] == "Nothing."
    assert "Words: median 6, 95% have at most 6, the longest 6." in page
    path = write_csv(tmp_path / "long.csv", [*rows(300, "good"), *rows(300, "bad"), ("word " * 130, "bad")])
    long = "More than 128 words are in 1 of 601 inputs: max_length=128 would bound the cost."
    assert long in checkup.page(checkup.read(path))  # less than half a per cent


def test_steps_of_a_large_train_split_are_exact():
    for size in (1_400_000, 3_600_000):
        steps = checkup.steps(SimpleNamespace(train=range(size), strata_names=["good", "bad"]))
        for n, fraction in steps.items():
            assert n == splits.share_of(size, fraction) == splits.share_of(size, float(f"{fraction:g}"))  # as printed


def test_steps_are_fractions_that_give_those_labels(tmp_path):
    data = checkup.read(write_csv(tmp_path / "r.csv", [*rows(600, "good"), *rows(604, "bad")]))
    steps = checkup.steps(data)
    assert list(steps) == [32, 100, 316, 903]
    assert [splits.share_of(len(data.train), fraction) for fraction in steps.values()] == list(steps)
    page = "\n".join(checkup.page(data))
    assert "    316  0.349944" in page
    for count, sizes in ((526, [32, 100, 394]), (528, [32, 100, 316, 396])):  # none is nearly the whole
        halves = [*rows(count // 2, "good"), *rows(count // 2, "bad")]
        assert list(checkup.steps(checkup.read(write_csv(tmp_path / "r.csv", halves)))) == sizes


def test_typos_are_of_labels_that_occur_once_or_differ_by_case():
    found = Counter({"sports": 40, "Sports": 40, "sport": 1, "world": 50, "wordl": 1, "culture": 1, "worlds": 6})
    found["world\u200b"] = 9  # a space without width
    found |= {"\U0001fae9": 40, "\ue000": 30}  # unknown to a version of Unicode, and private
    typos = {"sports": "Sports", "sport": "Sports", "wordl": "world", "world\u200b": "world"}
    assert dict(checkup.typos(found)) == typos


def test_names_that_stand_for_a_missing_value_are_pointed_out(tmp_path):
    path = write_csv(tmp_path / "r.csv", [*rows(60, "good"), *rows(60, "bad"), *rows(20, "nan")])
    page = "\n".join(checkup.page(checkup.read(path)))
    assert (
        "Label 'nan' (20) looks like a missing value; where an example has no label, leave it out (in a table" in page
    )


def test_the_sizes_of_images_are_reported_and_the_broken_ones(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(12):
            size = (20, 10) if i else (40, 30)
            Image.fromarray(np.full((*size[::-1], 3), 10 * i + len(name), dtype=np.uint8)).save(
                tmp_path / name / f"{i}.png"
            )
    (tmp_path / "cat" / "broken.png").write_bytes(b"no image")
    page = "\n".join(checkup.page(checkup.read(str(tmp_path))))
    assert "2 sizes in pixels; the commonest: 20 × 10 (22), 40 × 30 (2)." in page
    assert "1. 1 image cannot be decoded, such as cat/broken.png" in page


def test_tagged_sentences_are_counted_by_entities(tmp_path):
    sentences = [f"Ada{i} B-PER\nLovelace I-PER\nmet O\nOslo B-{'LOC' if i else 'LCO'}" for i in range(40)]
    (tmp_path / "r.conll").write_text("\n\n".join(sentences))
    data = checkup.read(str(tmp_path / "r.conll"))
    found = checkup.counts(data, data.train) + checkup.counts(data, data.test)
    assert found == {"PER": 40, "LOC": 39, "LCO": 1}
    page = "\n".join(checkup.page(data))
    assert "10 test sentences" in page
    assert page.endswith("For entity F1 it is a rough guide.")
    assert "accuracy" not in page.partition("## Inputs")[0]


def test_a_train_split_without_an_entity_is_said_and_no_error(tmp_path):
    for split, tag in (("train", "O"), ("test", "B-PER")):
        (tmp_path / f"{split}.conll").write_text("\n\n".join(f"Ada{i} {tag}\nmet O" for i in range(30)))
    page = "\n".join(checkup.page(checkup.read(str(tmp_path))))
    assert "These classes occur only in the test split, so they cannot be learned: PER." in page


def test_the_smallest_difference_is_its_formula_and_what_the_paired_interval_finds(monkeypatch):
    def smallest(examples, seeds, measured):
        for name, value in zip(("DISAGREEMENT", "RECURRING", "TRAINING"), measured, strict=True):
            monkeypatch.setattr(stats, name, value)
        return stats.smallest_difference(examples, seeds)

    scatter = 0.84 * np.sqrt(0.2 * (0.5 + 0.5 / 4) / 100 + 0.02**2 / 4)
    drawn = 1.96 * np.sqrt(0.2 * (0.5 + 1.5 / 4) / 100 + 0.02**2 / 4)
    assert smallest(100, 4, (0.2, 0.5, 0.02)) == pytest.approx(drawn + scatter)
    over_seeds = 3.182 * np.sqrt((0.2 * 0.5 / 100 + 0.1**2) / 4)  # where seeds differ much, they decide
    scatter = 0.84 * np.sqrt(0.2 * (0.5 + 0.5 / 4) / 100 + 0.1**2 / 4)
    assert smallest(100, 4, (0.2, 0.5, 0.1)) == pytest.approx(over_seeds + scatter, rel=1e-3)
    examples, seeds, disagreement = 400, 5, 0.15
    gap = smallest(examples, seeds, (disagreement, 0.0, 0.0))
    rng, stated = np.random.default_rng(0), 0
    for _ in range(60):  # one right and the other wrong on a share of the examples, new ones for every seed
        differ = rng.random((seeds, examples)) < disagreement
        ours = differ & (rng.random((seeds, examples)) < 0.5 + gap / disagreement / 2)
        samples = [
            stats.sample(np.stack([right, np.ones_like(right)], axis=-1).astype(float), stats.accuracy)
            for right in (ours, differ & ~ours)
        ]
        found = stats.difference(*samples)
        stated += stats.verdict(found.mean, found.p) == "better"
    assert stated / 60 == pytest.approx(0.8, abs=0.12)


def test_a_name_of_the_table_can_be_checked_and_an_unknown_one_is_answered():
    page = "\n".join(checkup.page(checkup.read("entities_sample")))
    assert "To look at\n" in page
    with pytest.raises(InputError, match="did you mean 'news_sample'"):
        checkup.read("new_sample")
