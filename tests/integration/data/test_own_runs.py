"""A run on a user's own files."""

from pathlib import Path

import pytest
from PIL import Image

from lrtl_utils.data.load import load
from lrtl_utils.data.splits import MADE
from lrtl_utils.errors import InputError
from lrtl_utils.runs import record, store
from lrtl_utils.runs.run import Run


def write(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"a film number {i},{('good', 'bad')[i % 2]}" for i in range(count)]
    (folder / "r.csv").write_text("\n".join(["text,label", *lines]))
    return str(folder)


def test_the_same_files_have_the_same_run_wherever_they_are(tmp_path):
    def identity(place, **more):
        return Run(dataset=place, method="tfidf", train_size=4, **more).id

    here, there = (write(tmp_path / place / "mine", 20) for place in ("here", "there"))
    assert identity(here) == identity(there) != identity(here, drop_leaks=True)
    write(tmp_path / "there/mine", 22)
    assert identity(here) != identity(there)


def test_repeated_inputs_that_are_kept_together_make_another_run_than_before(tmp_path):
    with (Path(write(tmp_path, 20)) / "r.csv").open("a") as stream:
        stream.write("\nA film number 1,bad\n")
    run = Run(dataset=str(tmp_path / "r.csv"), method="tfidf", train_size=4, results=tmp_path / "results")
    run.fit(*run.label())
    run.record(run.test())
    content = store.read(run.path)
    assert record.identity(content) == run.id
    content["data"]["split"] = MADE  # as a record of before says
    assert record.identity(content) != run.id


def test_columns_are_named_only_for_own_files():
    with pytest.raises(InputError, match="are for your own files"):
        Run(dataset="news_sample", text_column="text")
    with pytest.raises(InputError, match="are for your own files"):
        load("news_sample", label_column="label")


def test_a_broken_image_is_named_by_its_file(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.new("RGB", (16, 16), (20 * i, 90, 30)).save(tmp_path / name / f"{i}.png")
    torn = tmp_path / "cat" / "3.png"
    torn.write_bytes(torn.read_bytes()[:60])
    knobs = {"model": "simple_nn", "method": "from_scratch", "data_fraction": 1.0, "image_size": 32, "epochs": 1}
    one = Run(dataset=str(tmp_path), **knobs)

    def train_and_test():
        one.fit(*one.label())
        one.test()

    with pytest.raises(InputError, match=r"^cat/3\.png cannot be decoded"):
        train_and_test()
