"""What to label next by features of a frozen model: what is chosen, and the command."""

import csv

import numpy as np
import pytest
from own_files import rows, write_csv
from PIL import Image

from lrtl_utils.errors import InputError
from lrtl_utils.methods import shared
from lrtl_utils.study import labels
from lrtl_utils.study.suggest import finding, suggest

ODD = "quarterly turbine throughput rose by nine percent"


@pytest.fixture
def mine(tmp_path):
    return str(write_csv(tmp_path / "mine.csv", rows(60)))


@pytest.fixture
def pool(tmp_path):
    """Reviews like the labelled ones, one of which says both; and a text of another kind."""
    texts = [text for text, _ in rows(12, 100)]
    texts += ["a fine and moving film number 1, a dull and clumsy film number 2", ODD]
    return write_csv(tmp_path / "pool.csv", [(text,) for text in texts], ("text",))


def test_margin_asks_for_what_is_between_the_classes(mine, pool):
    first = [text for text, _ in suggest(mine, pool, 14, by="margin").rows[:2]]
    assert all(("dull" in text and "moving" in text) or text == ODD for text in first)


def test_images_are_chosen_from_a_folder(mirror, tmp_path):
    for place, shade in (("mine/light", 200), ("mine/dark", 20), ("pool", 110)):
        (tmp_path / place).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(np.full((8, 8, 3), shade + i, dtype=np.uint8)).save(tmp_path / place / f"{i}.png")
    found = suggest(str(tmp_path / "mine"), tmp_path / "pool", 5, "margin", "efficientnet_b0")
    assert len({file for file, _ in found.rows} & {f"{i}.png" for i in range(8)}) == 5
    for place, name in (("pool/3.png", tmp_path / "pool/3.png"), ("mine/light/2.png", "light/2.png")):
        (tmp_path / place).write_bytes(b"torn")
        with pytest.raises(InputError, match=f"^{name} cannot be decoded"):
            suggest(str(tmp_path / "mine"), tmp_path / "pool", 5, "margin", "efficientnet_b0")


def test_a_second_call_takes_the_features_of_the_first(mine, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(shared.WORTH, "features", 0.0)
    first, again = labels.probe(mine), labels.probe(mine)
    features = [labels.features(run, run.data.train)[0]["features"] for run in (first, again)]
    assert np.array_equal(*features)
    assert first.meter.cached_seconds == 0 < again.meter.cached_seconds


def test_the_command_writes_beside_the_pool_and_prints_the_path_last(mine, pool, call):
    words = ["suggest", mine, "--unlabelled", pool, "-n", 3]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-1] == str(pool.with_name("pool.suggested.csv"))
    assert "3 rows are suggested, drawn at random. Fill in their column 'label'." in said
    assert finding() in said
    with open(said[-1], newline="") as stream:
        assert len([*csv.reader(stream)]) == 4
    again = call(*words)
    assert (again.returncode, again.stdout) == (2, "")
    assert "may hold labels that you filled in; name another file with --output" in again.stderr


def test_the_command_takes_the_columns_the_model_and_the_file_that_are_named(tmp_path, call):
    known = [(f"note {i}", *row) for i, row in enumerate(rows(60))]
    mine = write_csv(tmp_path / "mine.csv", known, ("text", "body", "stars"))
    asked = [(f"note {i}", text) for i, (text, _) in enumerate(rows(12, 100), 100)]
    pool = write_csv(tmp_path / "pool.csv", asked, ("text", "body"))
    words = ["suggest", mine, "--unlabelled", pool, "-n", 3, "--by", "margin", "--model", "minilm_l3"]
    words += ["--text-column", "body", "--label-column", "stars", "--output", tmp_path / "out.csv"]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out.csv")
    assert "3 rows are suggested, chosen by margin. Fill in their column 'stars'." in done.stdout
