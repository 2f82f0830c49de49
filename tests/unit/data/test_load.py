import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import CIFAR, NEWS, write_datasets

from lrtl_utils.config import read_config
from lrtl_utils.data import catalog, splits
from lrtl_utils.data import load as tasks
from lrtl_utils.data.load import load
from lrtl_utils.data.splits import describe, labelled
from lrtl_utils.errors import InputError

SHIPPED = ("news_sample", "reviews_sample", "entities_sample", "digits")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Invented data under the hub's names, in the hub's layout."""
    folder = tmp_path_factory.mktemp("mirror")
    write_datasets(folder / "datasets")
    return folder


@pytest.fixture
def copied(datasets, monkeypatch, tmp_path):
    """A mirror that a test may spoil."""
    shutil.copytree(datasets, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path))
    return tmp_path / "datasets"


def config(dataset="news_sample", **values):
    return read_config({"dataset": dataset} | values)


def rewrite(folder, change, split="train"):
    """Change the columns of a split, its features kept."""
    (path,) = folder.rglob(f"{split}-*.parquet")
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), path)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_data_is_split_once_for_all_and_evenly(name):
    data, again = load(name), load(name)
    assert data.test.index.tolist() == again.test.index.tolist()
    size = len(data.train) + len(data.test)
    assert sorted([*data.train.index, *data.test.index]) == list(range(size))
    assert len(data.test) == pytest.approx(tasks.TEST_SHARE * size, abs=1)
    shares = [
        np.bincount(data.strata(part), minlength=len(data.strata_names)) / len(part) for part in (data.train, data.test)
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.03)


def test_digits_are_grey_images_of_their_full_range():
    data = load("digits")
    image = data.train.inputs[0]
    assert (image.shape, image.dtype) == ((8, 8), np.uint8)
    assert max(image.max() for image in data.train.inputs) == 240


@pytest.mark.parametrize(
    ("name", "labels", "train", "test"),
    [
        ("ag_news", 4, 48, 24),
        ("imdb", ("neg", "pos"), 40, 20),  # without the `unsupervised` split
        ("sst2", ("negative", "positive"), 40, 20),
        ("cifar10", 10, 40, 20),
        ("fashion_mnist", 10, 40, 20),
        ("conll2003", 9, 40, 12),
    ],
)
def test_every_hub_data_set_reads_from_a_mirror(name, labels, train, test, copied):
    data = load(name)
    assert (len(data.train), len(data.test)) == (train, test)
    assert labels in (data.classes, len(data.classes))
    assert data.source.describe() | {"sha256": None} == {
        "kind": "mirror",
        "id": tasks.TASKS[name].hub,
        "revision": None,
        "sha256": None,
    }


def test_labels_and_columns_come_from_the_files(copied):
    assert load("ag_news").classes == tuple(NEWS)
    images = load("cifar10")
    assert images.classes == tuple(CIFAR)
    assert images.train.inputs[0].startswith(b"\x89PNG")
    tagged = load("conll2003")
    assert [len(tags) for tags in tagged.train.targets] == [len(words) for words in tagged.train.inputs]


def test_sst2_is_tested_on_its_validation_split(copied):
    expected = pq.read_table(copied / "stanfordnlp/sst2/data/validation-00000-of-00001.parquet")
    assert load("sst2").test.inputs == expected["sentence"].to_pylist()


def test_a_hub_data_set_without_a_test_split_holds_some_of_its_rows_out(copied, monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "ag_news", replace(tasks.TASKS["ag_news"], test=None))
    data = load("ag_news")
    assert len(data.train) + len(data.test) == 48
    assert len(data.test) > 0
    assert catalog.repository("ag_news").patterns == ("train-*.parquet",)


def test_shards_of_a_split_are_read_in_their_order(copied):
    whole = load("ag_news").train.inputs
    (path,) = copied.glob("fancyzhx/ag_news/data/train-*")
    table = pq.read_table(path)
    for number, rows in enumerate((table[:30], table[30:])):
        pq.write_table(rows, path.with_name(f"train-0000{number}-of-00002.parquet"))
    path.unlink()
    assert load("ag_news").train.inputs == whole


def test_a_split_that_is_missing_is_named(copied):
    (path,) = copied.glob("fancyzhx/ag_news/data/test-*")
    path.unlink()
    with pytest.raises(InputError, match=r"has no file test-\*\.parquet"):
        load("ag_news")


def test_a_column_with_another_name_is_answered_with_the_nearest(copied):
    (path,) = copied.glob("fancyzhx/ag_news/data/train-*")
    pq.write_table(pq.read_table(path).rename_columns(["texts", "label"]), path)
    with pytest.raises(InputError, match=r"no column .* 'text'; did you mean 'texts'"):
        load("ag_news")


@pytest.mark.parametrize("label", [-1, 4, None])
def test_a_label_out_of_range_is_named_with_its_row(copied, label):
    rewrite(copied / "fancyzhx/ag_news", lambda columns: columns["label"].__setitem__(7, label))
    with pytest.raises(InputError, match=r"ag_news: row 8 of the train split .* 0 to 3 \(World, Sports"):
        load("ag_news")


def test_a_tag_out_of_range_is_named_with_its_row(copied):
    rewrite(copied / "lhoestq/conll2003", lambda columns: columns["ner_tags"][3].__setitem__(0, 9), split="test")
    with pytest.raises(InputError, match="conll2003: row 4 of the test split has label 9"):
        load("conll2003")


@pytest.mark.parametrize(
    ("name", "column", "values", "said"),
    [
        ("ag_news", "label", [0.7, 1.7], "holds 0.7 where a whole number is expected"),
        ("ag_news", "label", [True, False], "holds True where a whole number is expected"),
        ("ag_news", "label", [[0], [1]], r"holds \[0\] where a whole number is expected"),
        ("ag_news", "text", [3, 4], "holds 3 where a text is expected"),
        ("conll2003", "ner_tags", [0, 1], "holds 0 where a list of whole numbers is expected"),
        ("conll2003", "tokens", ["Ada", "Bo"], "holds 'Ada' where a list of texts is expected"),
    ],
)
def test_a_column_of_another_type_is_refused(copied, name, column, values, said):
    (path,) = (copied / ("fancyzhx/ag_news" if name == "ag_news" else "lhoestq/conll2003")).rglob("test-*.parquet")
    table = pq.read_table(path)
    place = table.column_names.index(column)
    other = pa.array((values * len(table))[: len(table)])
    pq.write_table(table.replace_schema_metadata().set_column(place, column, other), path)
    with pytest.raises(InputError, match=rf"column '{column}', row 1 {said}"):
        load(name)


def test_a_sentence_with_fewer_tags_than_words_is_refused(copied):
    rewrite(copied / "lhoestq/conll2003", lambda columns: columns["ner_tags"][3].pop())
    with pytest.raises(InputError, match="row 4"):
        load("conll2003")


def test_a_row_without_an_image_is_refused(copied):
    rewrite(copied / "uoft-cs/cifar10", lambda columns: columns["img"].__setitem__(5, None))
    with pytest.raises(InputError, match="row 6 of"):
        load("cifar10")


def test_a_damaged_file_is_named(copied):
    (path,) = copied.glob("fancyzhx/ag_news/data/train-*")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="train-00000-of-00001"):
        load("ag_news")


@pytest.mark.parametrize("name", ["news_sample", "entities_sample"])
def test_labelled_examples_nest_and_hold_every_class(name):
    data = load(name)
    subsets = [labelled(data, config(name, data_fraction=fraction))[0] for fraction in (0.05, 0.2, 1.0)]
    small, middle, whole = (set(subset.index.tolist()) for subset in subsets)
    assert small < middle < whole == set(data.train.index.tolist())
    assert set(data.strata(subsets[0])) == set(data.strata(data.train))
    assert [data.train.inputs[list(data.train.index).index(row)] for row in subsets[0].index] == subsets[0].inputs


def test_labelled_examples_depend_on_the_seed_alone():
    data = load("news_sample")
    one, another = (labelled(data, config(seed=0, method=m, epochs=n))[0] for m, n in (("full", 3), ("tfidf", None)))
    assert one.index.tolist() == another.index.tolist()
    assert one.index.tolist() != labelled(data, config(seed=1))[0].index.tolist()


def test_the_validation_split_is_taken_from_the_labelled_examples():
    data = load("news_sample")
    whole, nothing = labelled(data, config(train_size=40))
    kept, with_validation = labelled(data, config(train_size=40, validation_share=0.2))
    assert nothing is None
    assert sorted([*kept.index, *with_validation.index]) == sorted(whole.index)
    assert Counter(with_validation.targets.tolist()) == {0: 2, 1: 2, 2: 2, 3: 2}


def test_a_size_that_leaves_an_entity_type_without_an_example_is_refused():
    with pytest.raises(InputError, match=r"None of the 3 labelled examples is of class '(LOC|MISC|ORG|PER|no entity)'"):
        labelled(load("entities_sample"), config("entities_sample", train_size=3))


def test_a_sentence_counts_for_its_rarest_type():
    data = load("entities_sample")
    names = [data.strata_names[stratum] for stratum in data.strata(data.train)]
    types = [{data.classes[tag][2:] for tag in tags} - {""} for tags in data.train.targets]
    assert all(name in found if found else name == "no entity" for name, found in zip(names, types, strict=True))
    rarest = min(data.strata_names[:-1], key=lambda kind: sum(kind in found for found in types))
    assert all(name == rarest for name, found in zip(names, types, strict=True) if rarest in found)


def test_test_split_is_whole_unless_limited():
    data = load("news_sample")
    assert len(splits.test_examples(data, config())) == len(data.test)
    assert len(splits.test_examples(data, config(test_limit=10))) == 10
    assert len(splits.test_examples(data, config(test_limit=10_000))) == len(data.test)


def test_description_sums_which_examples_were_labelled_and_not_their_order():
    data = load("news_sample")

    def stated(**values):
        return describe(data, *labelled(data, config(**values)), data.test)

    one, with_validation = stated(train_size=40), stated(train_size=40, validation_share=0.25)
    assert (one["train_size"], one["validation_size"], one["test_size"]) == (40, 0, len(data.test))
    assert (with_validation["train_size"], with_validation["validation_size"], with_validation["available"]) == (
        30,
        10,
        len(data.train),
    )
    assert one["subset_sha256"] == with_validation["subset_sha256"] != stated(train_size=41)["subset_sha256"]
    assert one["source"]["sha256"] == data.source.sha256


def test_a_name_that_looks_like_a_pattern_or_an_address_is_a_name(tmp_path):
    for name in ("a[1]*.parquet", "zip:x::y?.parquet"):
        columns = {"text": [f"text {i}" for i in range(20)], "label": ["a", "b"] * 10}
        pq.write_table(pa.table(columns), tmp_path / name)
        assert load(str(tmp_path / name)).classes == ("a", "b")
    assert len([*tmp_path.iterdir()]) == 2  # nothing is written beside the user's files


def test_an_arrow_file_is_read(tmp_path):
    table = pa.table({"text": [f"text {i}" for i in range(20)], "label": ["a", "b"] * 10})
    with pa.OSFile(str(tmp_path / "r.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert load(str(tmp_path / "r.arrow")).classes == ("a", "b")
