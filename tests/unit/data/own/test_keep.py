"""A table that is in memory becomes a file of the user's own."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lrtl_utils.data.load import load
from lrtl_utils.data.own import keep
from lrtl_utils.errors import InputError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def frame():
    return pd.DataFrame(
        {"text": [f"a text, number {i}" for i in range(20)], "label": [("bad", "good")[i % 2] for i in range(20)]}
    )


def test_a_data_frame_is_written_once_and_loads_like_a_file(home):
    path = keep(frame())
    assert path.parent.parent == home / ".cache/lrtl/tables"
    assert (len(path.parent.name), path.name) == (64, "table.parquet")
    written = path.stat().st_mtime_ns
    assert keep(frame()) == path
    assert path.stat().st_mtime_ns == written
    assert keep(frame().assign(text="another")) != path
    data = load(str(path))
    assert (data.kind, data.classes, len(data.train), len(data.test)) == ("text", ("bad", "good"), 15, 5)
    assert [*path.parent.iterdir()] == [path]  # no temporary file is left
    path.write_bytes(path.read_bytes()[:100])  # by a disk, say
    assert len(load(str(keep(frame()))).train) == 15


def test_categories_and_columns_with_numbers_for_names_are_kept(home):
    table = frame().astype({"label": "category"}).rename(columns={"text": 0, "label": 1})
    data = load(str(keep(table)), text_column="0", label_column="1")
    assert data.classes == ("bad", "good")


def test_a_dataset_keeps_the_names_of_its_classes_and_its_images(home):
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Picture

    paths = []
    for i in range(12):
        paths.append(str(home / f"{i}.png"))
        Image.fromarray(np.full((8, 8, 3), 20 * i, dtype=np.uint8)).save(paths[-1])
    features = Features({"image": Picture(), "label": ClassLabel(names=["dark", "bright"])})
    dataset = Dataset.from_dict({"image": paths, "label": [int(i > 5) for i in range(12)]}, features)
    data = load(str(keep(dataset.select(range(12)[::-1]))))
    assert (data.kind, data.classes) == ("image", ("bright", "dark"))
    assert all(image.startswith(b"\x89PNG") for image in data.train.inputs)
    assert data.train.inputs[0] == (home / f"{11 - data.train.index[0]}.png").read_bytes()


def test_mixed_values_and_categories_are_kept_as_texts(home):
    frame = pd.DataFrame({"text": [f"a text {i}" for i in range(9)] + [2024, None], "score": [*range(11)]})
    frame = frame.assign(label=pd.cut(frame["score"], 2), other=["n/a", *range(10)])
    data = load(str(keep(frame)))
    assert "2024" in {*data.train.inputs, *data.test.inputs}
    assert data.classes == ("(-0.01, 5.0]", "(5.0, 10.0]")


MIXED = "^The table cannot be kept: .* column label .*; a column must hold values of one type, and images must be in a"
CLASH = pd.DataFrame({"text": ["a", "b"], "label": [{"a": 1}, 1]})


@pytest.mark.parametrize(("table", "said"), [([1, 2], "not list"), (CLASH, MIXED)])
def test_what_cannot_be_kept_is_one_sentence(table, said, home):
    with pytest.raises(InputError, match=said):
        keep(table)


def test_a_home_in_which_nothing_can_be_written_is_one_sentence(home, monkeypatch):
    (home / "file").write_text("no folder")
    monkeypatch.setenv("HOME", str(home / "file"))
    with pytest.raises(InputError, match=r"table\.parquet cannot be written: Not a directory\."):
        keep(frame())


def test_splits_in_memory_are_to_be_saved_first(home):
    from datasets import DatasetDict

    with pytest.raises(InputError, match="not DatasetDict; save it with save_to_disk, and give the path"):
        keep(DatasetDict())


def test_nothing_is_printed_and_the_switch_of_the_bars_is_left_as_it_was(home, capfd):
    import datasets

    for disabled, switch in ((True, datasets.disable_progress_bars), (False, datasets.enable_progress_bars)):
        switch()
        keep(frame())
        assert datasets.are_progress_bars_disabled() is disabled
    assert capfd.readouterr().err == ""
