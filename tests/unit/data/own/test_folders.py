"""A user's own files as data: read, guessed at, split, and run through the same ways as the named ones."""

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own_files import leaky, rows, write_csv
from PIL import Image

from lrtl_utils.config import read_config
from lrtl_utils.data import load as tasks
from lrtl_utils.data import splits
from lrtl_utils.data.load import find, load
from lrtl_utils.data.own import conll, files, tables
from lrtl_utils.errors import InputError
from lrtl_utils.files import data_name
from lrtl_utils.models import own

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # a test that expects a warning says so


def write_images(folder, names=("cat", "dog"), count=6, shade=0):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((8, 8, 3), 40 * number + i + shade, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def write_jsonl(path, columns):
    lines = [json.dumps(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines))
    return path


def names(data, examples):
    return [data.classes[target] for target in examples.targets]


def every(data):
    """All examples as (input, label), whichever split they are in."""
    return sorted(pair for part in (data.train, data.test) for pair in zip(part.inputs, names(data, part), strict=True))


@pytest.mark.parametrize("form", ["csv", "semicolon", "tsv", "jsonl", "json", "parquet", "bom", "utf16"])
def test_a_table_is_read_whatever_its_form(form, tmp_path):
    expected = [('first, with "quotes" and a comma\nand two lines; all that', "good"), *rows(19)]
    path = tmp_path / f"reviews.{form}"
    columns = {"id": list(range(20)), "Review": [x for x, _ in expected], "Sentiment": [y for _, y in expected]}
    lines = list(zip(*columns.values(), strict=True))
    if form in {"csv", "semicolon", "bom", "utf16"}:
        encoding = {"bom": "utf-8-sig", "utf16": "utf-16"}.get(form, "utf-8")
        delimiter = ";" if form == "semicolon" else ","
        path = write_csv(tmp_path / "reviews.csv", lines, columns, encoding, delimiter=delimiter)
    elif form == "tsv":
        write_csv(path, lines, columns, delimiter="\t")
    elif form == "parquet":
        pq.write_table(pa.table(columns), path)
    elif form == "jsonl":
        write_jsonl(path, columns)
    else:
        path.write_text(json.dumps([dict(zip(columns, line, strict=True)) for line in lines]))
    data = load(str(path))
    assert (data.kind, data.classes) == ("text", ("bad", "good"))
    assert every(data) == sorted(expected)
    assert "inputs from column 'Review', labels from column 'Sentiment'; not read: 'id'" in data.notes


def test_a_split_that_is_missing_is_made_stratified_and_the_same_every_time(tmp_path):
    path = write_csv(tmp_path / "r.csv", [*rows(60), ("the only one", "odd")])
    data, again = load(str(path)), load(str(path))
    assert data.test.index.tolist() == again.test.index.tolist()
    assert Counter(names(data, data.test)) == {"good": 8, "bad": 8}
    assert names(data, data.train).count("odd") == 1  # who has one example learns from it
    assert data.split.startswith("made: 25% of the rows, stratified")


def test_a_line_of_excel_that_names_the_separator_is_none_of_the_data(tmp_path):
    path = write_csv(tmp_path / "reviews.csv", [(f"{text}, a, b, c", label) for text, label in rows(20)], delimiter=";")
    path.write_text(f"sep=;\n{path.read_text()}")
    assert every(load(str(path))) == sorted((f"{text}, a, b, c", label) for text, label in rows(20))
    path.write_text(path.read_text() + "one;two;three\n")
    with pytest.raises(InputError, match=r"line 23 has 3 fields"):
        load(str(path))


def test_half_of_a_character_becomes_a_question_mark(tmp_path):
    texts = [text for text, _ in rows(20)]
    columns = {"text": ["cut \ud83d", "whole 😀", *texts[2:]], "label": [*"ab"] * 10}
    path = write_jsonl(tmp_path / "posts.jsonl", columns)
    inputs = [text for text, _ in every(load(str(path)))]
    assert {"cut ?", "whole 😀"} < {*inputs}


def test_an_index_without_a_name_and_a_last_separator_are_no_columns(tmp_path):
    (tmp_path / "r.csv").write_text(",text,label,\n" + "".join(f'{i},"film, {i}",{i % 2},\n' for i in range(20)))
    data = load(str(tmp_path / "r.csv"))
    assert data.train.inputs[0].startswith("film, ")
    assert data.notes == ("inputs from column 'text', labels from column 'label'",)
    (tmp_path / "bare.csv").write_text(",\n" + "a,b\n" * 20)
    with pytest.raises(InputError, match="its first line must name the columns"):
        load(str(tmp_path / "bare.csv"))


def test_one_class_that_is_written_in_two_ways_is_one(tmp_path):
    lines = [(f"a text {i}", ("1", "0", "1.0", "0.00")[i % 4]) for i in range(40)]
    assert load(str(write_csv(tmp_path / "r.csv", lines))).classes == ("0", "1")
    zeros = [0.0, -0.0, "-0.0", "0", 1, "1.00"]
    path = write_jsonl(tmp_path / "z.jsonl", {"text": [f"a text {i}" for i in range(30)], "label": zeros * 5})
    assert load(str(path)).classes == ("0", "1")
    lines = [(f"a text {i}", ("True", "false", "true")[i % 3]) for i in range(30)]
    assert load(str(write_csv(tmp_path / "b.csv", lines))).classes == ("false", "true")


@pytest.mark.parametrize(
    "names",
    [
        ("drugsComTrain_raw", "drugsComTest_raw"),
        ("trainset", "testset"),
        ("newstrain", "newstest"),
        ("NEWSTRAINING", "NEWSTEST"),
        ("newstrain/part", "newstest/part"),
    ],
)
def test_the_name_of_a_split_may_be_a_part_of_a_word(names, tmp_path):
    for start, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_csv(tmp_path / f"{name}.csv", rows(10 + start, start=100 * start))
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test)) == (10, 11)


def test_words_that_end_like_a_split_are_no_splits(tmp_path):
    for start, name in enumerate(("latest", "contest", "strain")):
        write_csv(tmp_path / f"{name}.csv", rows(20, start=100 * start))
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test)) == (45, 15)


def test_files_of_other_types_are_counted_and_json_of_a_split_is_read(tmp_path):
    write_csv(tmp_path / "train.csv", rows(20))
    (tmp_path / "test.json").write_text(json.dumps([{"text": f"a {i}", "label": "good"} for i in range(9)]))
    (tmp_path / "about.json").write_text("{}")
    (tmp_path / "dev.xlsx").write_bytes(b"PK")
    data = load(str(tmp_path))
    assert len(data.test) == 9
    assert "files of type '.xlsx' that are not read: 1" in data.notes


def test_folders_that_are_too_deep_are_counted(tmp_path):
    deep = tmp_path / "a/b/c/d"
    (deep / "e").mkdir(parents=True)
    write_csv(deep / "train.csv", rows(20))
    write_csv(deep / "e" / "test.csv", rows(9, 100))
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test)) == (15, 5)
    (note,) = [note for note in data.notes if files.is_of_unread(note)]
    assert note == "folders more than 4 levels deep that are not read: 1"


def test_a_split_with_nothing_but_minus_one_has_no_labels(tmp_path):
    for name, size in (("train", 20), ("validation", 9), ("test", 11)):
        labels = [-1 if name == "test" else i % 2 for i in range(size)]
        write_csv(tmp_path / f"{name}.csv", [(f"a {name} text {i}", label) for i, label in enumerate(labels)])
    data = load(str(tmp_path))
    assert (data.classes, len(data.test)) == (("0", "1"), 9)
    assert "the test split has no labels and is not used" in data.notes


def test_a_minus_one_beside_labels_is_a_class_only_where_rows_to_train_on_have_it(tmp_path):
    for name, labels in (("train", [0, 1] * 10), ("test", [0, 1, -1] * 4)):
        write_csv(tmp_path / f"{name}.csv", [(f"a {name} text {i}", label) for i, label in enumerate(labels)])
    with pytest.warns(UserWarning, match="rows of the test split that are left out: 0 without input, 4 without label"):
        data = load(str(tmp_path))
    assert (data.classes, len(data.test)) == (("0", "1"), 8)
    write_csv(tmp_path / "train.csv", [(f"a train text {i}", i % 3 - 1) for i in range(20)])
    data = load(str(tmp_path))
    assert (data.classes, len(data.test)) == (("-1", "0", "1"), 12)


def test_the_columns_of_the_first_file_are_those_of_the_others(tmp_path):
    write_csv(tmp_path / "a.csv", rows(20), ("text", "sentiment"))
    write_csv(tmp_path / "b.csv", [(f"new {i}", "shoes", "good") for i in range(9)], ("text", "category", "sentiment"))
    assert load(str(tmp_path)).classes == ("bad", "good")


def test_texts_beside_addresses_of_images_are_texts(tmp_path):
    lines = [(f"a hat {i}", "ab"[i % 2], f"https://x.com/{i}.jpg") for i in range(20)]
    path = write_csv(tmp_path / "shop.csv", lines, ("title", "category", "image_url"))
    data = load(str(path), text_column="title", label_column="category")
    assert (data.kind, data.train.inputs[0][:5]) == ("text", "a hat")
    path = write_csv(tmp_path / "gone.csv", [(f"{i}.png", "ab"[i % 2]) for i in range(20)], ("image", "label"))
    with pytest.raises(InputError, match=r"column 'image' names images, such as '0.png', but .* '0.png' is not one"):
        load(str(path))
    posts = [(f"{text} https://x.com/{i}.jpg", label) for i, (text, label) in enumerate(rows(20))]
    assert load(str(write_csv(tmp_path / "posts.csv", posts))).kind == "text"


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    with pytest.raises(InputError, match="has a name that is not UTF-8; rename it"):
        load(str(tmp_path))


def test_a_split_that_is_made_has_equal_inputs_on_one_side(tmp_path):
    again = [(text.upper(), label) for text, label in rows(30)]
    clash = [("said of both", "good"), ("said of both", "bad")]
    data = load(str(write_csv(tmp_path / "r.csv", [*rows(60), *again, *clash])))
    train, test = ({text.lower() for text in part.inputs} for part in (data.train, data.test))
    assert len(data.train) + len(data.test) == 92
    assert len(test) == 16  # a quarter of 61, rounded up
    assert not train & test
    assert data.repeats == {"train": 92 - len(data.test) - 45, "test": len(data.test) - 16, "across": 0, "dropped": 0}
    assert data.split.startswith("made: 25% of the different inputs, each with its repetitions")
    write_csv(tmp_path / "few.csv", [("yes", "good"), ("no", "bad")] * 20)
    with pytest.warns(UserWarning, match=r"few\.csv: 30 of 30 train examples are also in the test split"):
        assert len(load(str(tmp_path / "few.csv")).test) == 10


@pytest.mark.parametrize("layout", ["{}.csv", "{}/part.csv", "my_{}_set.csv", "data/{}-00000-of-00001.csv"])
def test_splits_that_are_there_are_taken(layout, tmp_path):
    for start, split in enumerate(("train", "test", "validation")):
        write_csv(tmp_path / layout.format(split), rows(10 + start, 100 * start))
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test)) == (10, 11)
    assert "test" in data.split or data.split == "taken: data"
    assert any("validation split is not used" in note for note in data.notes)


def test_validation_stands_in_for_a_test_split_without_labels(tmp_path):
    write_csv(tmp_path / "train.csv", rows(10))
    write_csv(tmp_path / "dev.csv", rows(6, 100))
    write_csv(tmp_path / "test.csv", [(text,) for text, _ in rows(4, 200)], ("text",))
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test), data.split) == (10, 6, "taken: dev.csv")
    assert "the test split has no labels and is not used" in data.notes


def test_rows_of_a_test_file_without_labels_beside_one_with_labels_are_counted(tmp_path):
    write_csv(tmp_path / "train.csv", rows(10))
    write_csv(tmp_path / "test.csv", rows(6, 100))
    write_csv(tmp_path / "test_new.csv", [(text,) for text, _ in rows(4, 200)], ("text",))
    with pytest.warns(UserWarning, match="rows of the test split that are left out: 0 without input, 4 without label"):
        assert len(load(str(tmp_path)).test) == 6


def test_ids_beside_the_texts_of_a_test_split_are_no_labels(tmp_path):
    write_csv(tmp_path / "train.csv", [(i, *row) for i, row in enumerate(rows(20))], ("id", "text", "label"))
    write_csv(tmp_path / "test.csv", [(1000 + i, text) for i, (text, _) in enumerate(rows(6, 100))], ("id", "text"))
    data = load(str(tmp_path))
    assert (data.classes, len(data.train), len(data.test)) == (("bad", "good"), 15, 5)
    assert "the test split has no labels and is not used" in data.notes


def test_ids_beside_the_texts_of_a_second_training_file_are_no_labels(tmp_path):
    write_csv(tmp_path / "a.csv", rows(30))
    write_csv(tmp_path / "b.csv", [(i, text) for i, (text, _) in enumerate(rows(9, 100))], ("id", "text"))
    with pytest.raises(InputError, match=r"no column of b\.csv named 'label'; the known ones are id, text"):
        load(str(tmp_path))


def test_other_files_are_left_aside(tmp_path):
    write_csv(tmp_path / "train.csv", rows(10))
    write_csv(tmp_path / "test.csv", rows(6, 100))
    write_csv(tmp_path / "sample_submission.csv", rows(3, 200))
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "about.json").write_text("{}")
    (tmp_path / ".hidden.csv").write_text("nothing")
    write_csv(tmp_path / "test.predictions.csv", rows(6, 300))
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test)) == (10, 6)
    assert data.notes[0] == "sample_submission.csv is not read: its name has no split in it"


def test_a_table_without_names_above_it_is_said_to_lack_them(tmp_path):
    path = write_csv(tmp_path / "r.csv", [("a dull and cold film", "bad")], ("a great film that I loved", "good"))
    with pytest.raises(
        InputError, match=r"if these are an example, write a row of names above it, such as text,label\.$"
    ):
        load(str(path))


def test_columns_are_guessed_or_given(tmp_path):
    lines = [(label, text, "x") for text, label in rows(12)]
    path = str(write_csv(tmp_path / "r.csv", lines, ("how", "what", "more")))
    with pytest.raises(
        InputError,
        match="columns 'how', 'what', 'more'; name the one with the inputs with text_column and the one with",
    ):
        load(path)
    with pytest.raises(
        InputError,
        match=r"name the one with the labels with label_column \(--label-column NAME, or -p label_column=NAME\)",
    ):
        load(path, text_column="what")
    with pytest.raises(InputError, match=r"no column of r.csv named 'wat'; did you mean 'what'"):
        load(path, text_column="wat", label_column="how")
    assert every(load(path, text_column="what", label_column="how")) == sorted(rows(12))
    with pytest.raises(InputError, match="column 'how' cannot have both the inputs and the labels"):
        load(path, text_column="how", label_column="how")
    two = str(write_csv(tmp_path / "two.csv", [(label, text) for text, label in rows(12)], ("category", "answer")))
    assert every(load(two)) == sorted(rows(12))


def test_a_label_in_two_spellings_of_unicode_is_one_class(tmp_path):
    names = "caf\u00e9", "cafe\u0301", "the"
    path = write_csv(tmp_path / "r.csv", [(f"text {i}", names[i % 3]) for i in range(24)])
    assert load(str(path)).classes == ("caf\u00e9", "the")
    for i, name in enumerate(4 * names):
        (tmp_path / "shades" / name).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * i).save(tmp_path / "shades" / name / f"{i}.png")
    assert load(str(tmp_path / "shades")).classes == ("caf\u00e9", "the")


def test_labels_keep_their_names_and_are_sorted_numbers_as_numbers(tmp_path):
    path = write_csv(tmp_path / "r.csv", [(f"text {i}", (1, 10, 2)[i % 3]) for i in range(24)])
    assert load(str(path)).classes == ("1", "2", "10")
    path = write_jsonl(tmp_path / "r.jsonl", {"text": [f"text {i}" for i in range(20)], "label": [True, False] * 10})
    assert load(str(path)).classes == ("false", "true")


def test_rows_without_text_or_label_are_left_out_counted_and_reported(tmp_path):
    path = write_csv(tmp_path / "r.csv", [*rows(20), ("", "good"), ("  ", "bad"), ("no verdict", "")])
    with pytest.warns(UserWarning, match="left out: 2 without input, 1 without label"):
        data = load(str(path))
    assert len(data.train) + len(data.test) == 20
    assert data.warned == ("rows that are left out: 2 without input, 1 without label",)


def test_lines_of_another_encoding_are_read_and_reported(tmp_path):
    lines = [f"{text} café,{label}" for text, label in rows(20)]
    mixed = [line.encode("cp1252" if i < 3 else "utf-8") for i, line in enumerate(lines)]
    (tmp_path / "r.csv").write_bytes(b"\n".join([b"text,label", *mixed]))
    with pytest.warns(UserWarning, match="not UTF-8 and were read as Windows-1252: 3"):
        data = load(str(tmp_path / "r.csv"))
    assert all(text.endswith("café") for text, _ in every(data))


def test_lone_quotes_in_a_tsv_are_text(tmp_path):
    lines = [f'" {text}\t{label}' for text, label in rows(12)]
    (tmp_path / "r.tsv").write_text("\n".join(["sentence\tlabel", *lines]))
    assert every(load(str(tmp_path / "r.tsv"))) == sorted((f'" {text}', label) for text, label in rows(12))


def test_lines_of_spaces_are_no_rows_unless_there_is_one_column(tmp_path):
    lines = [f"{text},{label}" for text, label in rows(12)]
    (tmp_path / "r.csv").write_text("\n".join(["text,label", *lines[:6], "   ", *lines[6:], "  "]))
    assert every(load(str(tmp_path / "r.csv"))) == sorted(rows(12))
    (tmp_path / "texts.csv").write_text('text\none\n  \ntwo\n \n" "\n\u00a0\n')
    found = [text.strip() for text in tables.read(tmp_path / "texts.csv").columns["text"]]
    assert found == ["one", "", "two", "", "", ""]
    (tmp_path / "r.tsv").write_text('text\tlabel\na 5" disc\tgood\n  \nanother\tbad\n')
    assert tables.read(tmp_path / "r.tsv").columns["text"] == ['a 5" disc', "another"]


def test_a_conll_file_whose_tags_are_of_another_form_is_not_of_a_wrong_type(tmp_path):
    (tmp_path / "r.conll").write_text("Ada\tPER\nran\tO\n\n" * 9)
    with pytest.raises(InputError, match="no column has only tags such as O, B-PER and I-PER; set label_column"):
        load(str(tmp_path / "r.conll"))
    with pytest.raises(InputError, match="no column has only tags such as O, B-PER and I-PER; set label_column"):
        load(str(tmp_path))
    (tmp_path / "one.conll").write_text("Ada B-PER\nran O\n" * 20)
    with pytest.raises(InputError, match=r"has 1 tagged sentence to train on.* needed; an empty line ends a sentence"):
        load(str(tmp_path / "one.conll"))
    (tmp_path / "short.conll").write_text("Ada B-PER\nran O\nhome\n\n" * 9)
    with pytest.raises(InputError, match="the line 'home' has 1 field, but most lines have 2; give all lines the same"):
        load(str(tmp_path / "short.conll"))
    (tmp_path / "chunks.conll").write_text("Ada B-NP B-PER\nran B-VP O\n\n" * 9 + "home B-NP\n")
    with pytest.raises(InputError, match="the line 'home B-NP' has 2 fields, but most lines have 3"):
        load(str(tmp_path / "chunks.conll"))  # before, the chunks were the tags of all lines
    with pytest.raises(InputError, match=r"r\.conll, sentence 1 has the tag 'PER', which is of an unknown scheme"):
        load(str(tmp_path / "r.conll"), label_column="2")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"text,label\nunquoted, comma,good\n", "line 2 has 3 fields, but the first line names 2"),
        (b'text,label\n"never closed,good\n', "unexpected end of data"),
        (b"", "is empty"),
        (b"text,label\nonly one,good\n", "1 labelled row to train on, but at least 8 are needed"),
        (b"text,label\n" + b"".join(b"t %d,same\n" % i for i in range(9)), "every row has the label 'same'"),
        (b"text,label\n" + b"".join(b"t %d,%d\n" % (i, i) for i in range(30)), "too many for classes"),
        (b"text,price\n" + b"".join(b"t %d,%d.5\n" % (i, i % 30) for i in range(300)), "regression.*or AutoGluon"),
        (b"text,year\n" + b"".join(b"t %d,%d\n" % (i, 1900 + i % 30) for i in range(300)), "regression.*or AutoGluon"),
        (
            b"text,label\n" + b"".join(b"t %d,c%d\n" % (i, i // 3) for i in range(3003)),
            "there may be at most 1000, and",
        ),
        (
            b"text,label\n" + b"".join(b"t %d,a;b\nu %d,c\nv %d,b|c\n" % (i, i, i) for i in range(9)),
            "9 of 27 rows have several labels, such as 'b|c'",
        ),
        (b"text,label\n" + b"".join(b't %d,"a,b"\nu %d,a\nv %d,b\n' % (i, i, i) for i in range(9)), "such as 'a,b'"),
        (b"text,label\n" + b"".join(b"t %d,a;b\nu %d,a\nv %d,b\n" % (i, i, i) for i in range(9)), "9 of 27 rows"),
        (b"text;cost\n" + b"".join(b"t %d;%d,5\n" % (i, i % 30) for i in range(300)), "regression.*or AutoGluon"),
        (b"text,label\n" + b"".join(b"t %d,\"['a', 'b']\"\n" % i for i in range(9)), "9 of 9 rows have several labels"),
        (
            b"token,label\n" + b"".join(b"Ada%d,B-PER\nmet%d,O\n" % (i, i) for i in range(9)),
            "labels are tags of words, such as 'B-PER', with one word in each row",
        ),
        (b"text,text\na,b\n", "must name each column once"),
        (b'text,label\n"one" two,a\n', "in quotes, and each quote in it doubled"),
        (b"te\0xt,label\n", "not a text file: it contains NUL bytes"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(content, said, tmp_path):
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        load(str(tmp_path / "r.csv"))
    assert "\n" not in str(error.value)


def test_running_numbers_with_a_warning_and_a_few_amounts_are_classes(tmp_path, recwarn):
    for labels, warned in ((range(64), 1), (range(101), 1), (range(1, 21), 0), ([i / 2 for i in range(11)], 0)):
        path = write_csv(tmp_path / "r.csv", [(f"text {i} {label}", label) for i in range(9) for label in labels])
        recwarn.clear()
        assert len(load(str(path)).classes) == len(labels)
        said = [str(each.message) for each in recwarn]
        assert len(said) == warned
        assert all(f"the {len(labels)} labels are whole numbers" in s and "this is regression" in s for s in said)


def test_types_of_entities_without_end_are_refused(tmp_path):
    rows = [json.dumps({"tokens": [f"w{i}"], "tags": [f"B-{i}"]}) for i in range(101)]
    (tmp_path / "r.jsonl").write_text("\n".join(rows))
    with pytest.raises(InputError, match="101 types of entities, such as '0', are too many; there may be at most 100"):
        load(str(tmp_path / "r.jsonl"))


def test_a_list_of_labels_in_most_rows_is_refused_and_a_bar_in_a_few_is_part_of_a_name(tmp_path):
    path = write_jsonl(tmp_path / "r.jsonl", {"text": [x for x, _ in rows(20)], "label": [["good", "long"]] * 20})
    with pytest.raises(InputError, match=r"such as \['good', 'long'\], but a row may have only one"):
        load(str(path))
    path = write_csv(
        tmp_path / "r.csv", [(text, "tar|zip" if i % 3 == 0 else y) for i, (text, y) in enumerate(rows(20))]
    )
    assert "tar|zip" in load(str(path)).classes
    for labels in (["1", "2", "1;2"], ["1", "2", "3", "1,2,3"], ["[1, 2]", "[1, 3]"]):
        path = write_csv(tmp_path / "r.csv", [(x, labels[i % len(labels)]) for i, (x, _) in enumerate(rows(24))])
        with pytest.raises(InputError, match="rows have several labels, such as "):
            load(str(path))
    path = write_csv(tmp_path / "r.csv", [(text, ("1", "1,5", "2")[i % 3]) for i, (text, _) in enumerate(rows(24))])
    assert load(str(path)).classes == ("1", "1,5", "2")
    path = write_csv(tmp_path / "r.csv", [(text, f"News; {y}") for text, y in rows(20)])
    assert {name[:6] for name in load(str(path)).classes} == {"News; "}
    names = ("Arts", "Arts, Crafts", "New York, New York")
    path = write_csv(tmp_path / "r.csv", [(text, names[i % 3]) for i, (text, _) in enumerate(rows(24))])
    assert load(str(path)).classes == names


WORDS = {"text": "EU rejects", "tokens": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (WORDS, "labels are lists of tags, but the inputs are texts; name the column of the words with text_column"),
        (
            {"text": "['EU', 'rejects']", "label": "['B-ORG', 'O']"},
            "are lists of tags, .* a list in a CSV file is a text",
        ),
        ({"text": "EU rejects", "label": [[0, 2, "ORG"]]}, r"such as \[\['0', '2', 'ORG'\]\]; .* write a CoNLL file"),
        ({"text": {"en": "EU rejects"}, "label": "a"}, "has an object, {'en': 'EU rejects'}, where a text, "),
        ({"text": "EU rejects", "label": {"a": 0}}, "has an object, {'a': 0}, where a label is expected"),
        ({"tokens": ["EU", "rejects"], "label": "a"}, "row 1 does not have a list of words and a list of tags; the "),
    ],
)
def test_nested_json_is_refused_with_what_helps(row, said, tmp_path):
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(row) for _ in range(12)))
    with pytest.raises(InputError, match=said):
        load(str(tmp_path / "r.jsonl"))


@pytest.mark.parametrize("indent", [None, 2])
def test_an_object_of_columns_is_no_image(indent, tmp_path):
    columns = {"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}}
    (tmp_path / "r.json").write_text(json.dumps(columns, indent=indent))
    for read in (load, tasks.kind_of):
        with pytest.raises(InputError, match=r"with pandas: orient='records'"):
            read(str(tmp_path / "r.json"))


def test_a_few_rows_with_several_labels_are_read_with_a_warning(tmp_path):
    targets = ["billing;refund", "refund;billing", *["billing", "refund"] * 20]
    path = write_csv(tmp_path / "r.csv", [(f"text {i}", target) for i, target in enumerate(targets)])
    with pytest.warns(UserWarning, match="several labels: 2, such as 'billing;refund'; each such label is taken"):
        assert len(load(str(path)).classes) == 4


def test_an_example_knows_its_place(tmp_path):
    path = write_csv(tmp_path / "mine" / "r.csv", [("", "good"), *rows(20)])
    with pytest.warns(UserWarning, match="left out"):
        data = load(str(path))
    written = dict(zip([f"r.csv, row {i}" for i in range(2, 22)], rows(20), strict=True))
    for part in (data.train, data.test, data.train.take(np.array([3, 1]))):
        assert [*zip(part.inputs, names(data, part), strict=True)] == [written[place] for place in part.places]
    write_images(tmp_path / "pets")
    images = load(str(tmp_path / "pets"))
    assert {*images.train.places, *images.test.places} == {f"{n}/{i}.png" for n in ("cat", "dog") for i in range(6)}


@pytest.mark.parametrize(
    ("text", "label", "said"),
    [
        (["a", "list"], "good", r"^r\.jsonl, row 22 does not have a text and a label; the first input is a text, so"),
        ("a text", ["good", "bad"], r"^r\.jsonl, row 22 does not have a text and a label; the first input is a text, "),
        ({"path": "/etc/passwd"}, "good", "has paths of images"),
    ],
)
def test_a_row_of_another_kind_is_named(text, label, said, tmp_path):
    whole = [*rows(20), ("", "good")]  # the empty row is left out, and still counts
    columns = {"text": [x for x, _ in whole] + [text], "label": [y for _, y in whole] + [label]}
    path = write_jsonl(tmp_path / "r.jsonl", columns)
    with pytest.raises(InputError, match=said):
        load(str(path))


def test_a_table_can_list_images_by_their_paths(tmp_path):
    write_images(tmp_path / "pictures")
    listed = [(f"pictures/{name}/{i}.png", f"a {name}") for name in ("cat", "dog") for i in range(6)]
    write_csv(tmp_path / "list.csv", [*listed, ("", "a cat")], header=("path", "animal"))
    with pytest.warns(UserWarning, match="1 without input"):
        data = load(str(tmp_path / "list.csv"), label_column="animal")
    assert (data.kind, data.classes) == ("image", ("a cat", "a dog"))
    files = {(tmp_path / path).read_bytes(): label for path, label in listed}
    assert dict(every(data)) == files
    before = tasks.find(str(tmp_path / "list.csv")).sha256
    write_images(tmp_path / "others", shade=1)
    (tmp_path / "others/cat/0.png").replace(tmp_path / "pictures/cat/0.png")
    assert tasks.find(str(tmp_path / "list.csv")).sha256 != before  # an image counts as the table does


@pytest.mark.parametrize(
    ("image", "said"),
    [("cat/9.png", "There is no file .*cat/9.png, which the table lists"), ("../9.png", "9.png is outside ")],
)
def test_a_listed_image_that_is_missing_or_elsewhere_is_one_sentence(image, said, tmp_path):
    folder = tmp_path / "mine"
    write_images(folder)
    Image.new("RGB", (8, 8)).save(tmp_path / "9.png")
    listed = [(f"{name}/{i}.png", name) for name in ("cat", "dog") for i in range(6)]
    write_csv(folder / "list.csv", [*listed, (image, "cat")], header=("image", "label"))
    with pytest.raises(InputError, match=said):
        load(str(folder / "list.csv"))


@pytest.mark.parametrize(
    ("cell", "many", "odd"),
    [
        (r"cat\{}.png", True, r"cat\0.png"),
        ("https://x.com/{}.png", True, "https://x.com/0.png"),
        (300 * "x" + ".png", True, 100 * "x"),  # the system has no such long names
        ("gone/{}.png", False, "gone/0.png"),
        ("cat/{}.heic", False, "cat/0.heic"),
    ],
)
def test_the_cell_that_makes_a_table_no_list_of_images_is_named(cell, many, odd, tmp_path):
    write_images(tmp_path)
    lines = [(f"{name}/{i}.png", name) for name in ("cat", "dog") for i in range(6)]
    lines = [(cell.format(i) if many or i == 0 else path, name) for i, (path, name) in enumerate(lines)]
    path = write_csv(tmp_path / "list.csv", lines, ("image", "label"))
    with pytest.raises(InputError, match="names images, such as ") as error:
        load(str(path))
    assert f"relative to its folder (with /), and {odd!r}"[:-1] in str(error.value)


def test_a_list_of_images_may_have_spaces_after_its_commas(tmp_path):
    write_images(tmp_path)
    lines = [f"{name}, {name}/{i}.png" for name in ("cat", "dog") for i in range(6)]
    (tmp_path / "list.csv").write_text("\n".join(["label, path", *lines]))
    data = load(str(tmp_path / "list.csv"))
    assert (data.kind, len(data.train) + len(data.test)) == ("image", 12)


def test_texts_that_mention_or_come_with_an_image_are_texts(tmp_path):
    texts = [(f"see {i}.png, it is {word}.", word) for i in range(8) for word in ("good", "bad")]
    write_csv(tmp_path / "texts.csv", texts)
    assert load(str(tmp_path / "texts.csv")).kind == "text"
    pictured = [(text, label, f"https://pictures.example/{i}.jpg") for i, (text, label) in enumerate(rows(12))]
    write_csv(tmp_path / "pictured.csv", pictured, ("text", "label", "picture"))
    assert every(load(str(tmp_path / "pictured.csv"))) == sorted(rows(12))


def test_the_column_that_is_read_says_the_kind(tmp_path):
    words = [text.split() for text, _ in rows(12)]
    columns = {"text": [" ".join(each) for each in words], "tokens": words, "label": [y for _, y in rows(12)]}
    path = str(write_jsonl(tmp_path / "both.jsonl", columns | {"ner_tags": [["O"] * len(each) for each in words]}))
    assert (tasks.kind_of(path), tasks.kind_of(path, "tokens", "ner_tags")) == ("text", "tokens")


def test_a_data_set_of_the_hub_is_named_by_its_id(tmp_path, monkeypatch):
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "datasets/acme/films/data"
    folder.mkdir(parents=True)
    for split, start in (("train", 0), ("test", 20)):
        films = [f"film {i}" for i in range(start, start + 20)]
        pq.write_table(pa.table({"text": films, "label": ["good", "bad"] * 10}), folder / f"{split}-0.parquet")
    data = load("acme/films")
    assert (data.kind, data.classes, len(data.train), len(data.test)) == ("text", ("bad", "good"), 20, 20)
    assert (data.source.kind, data.source.id, tasks.absolute("acme/films")) == ("mirror", "acme/films", "acme/films")
    assert tasks.kind_of("acme/films") == "text"
    (tmp_path / "datasets/acme/films/other").mkdir()
    (folder / "test-0.parquet").rename(tmp_path / "datasets/acme/films/other/test-0.parquet")
    with pytest.raises(InputError, match="has the configurations data, other; load one with"):
        load("acme/films")
    absent = "no file or folder acme/none here, and as a repository of the hub it cannot be read: acme/none is not on"
    with pytest.raises(InputError, match=absent):
        load("acme/none")
    for name in ("acme/none.csv", "acme/none.txt"):
        with pytest.raises(InputError, match=rf"There is no file or folder .*{name}\.$"):
            load(name)


def test_a_branch_of_the_hub_is_no_revision():
    with pytest.raises(InputError, match="org/posts@main: main is not a revision; a revision is the 40 hex"):
        load("org/posts@main")


def test_images_of_a_test_split_without_class_folders_are_not_used(tmp_path):
    write_images(tmp_path / "train")
    (tmp_path / "test").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "test" / "1.png")
    data = load(str(tmp_path))
    assert (data.classes, len(data.train), len(data.test)) == (("cat", "dog"), 9, 3)
    assert "the test split has no labels and is not used" in data.notes


def test_images_are_of_the_class_of_their_folder(tmp_path):
    write_images(tmp_path / "pets")
    data = load(str(tmp_path / "pets"))
    assert (data.kind, data.classes, len(data.train), len(data.test)) == ("image", ("cat", "dog"), 9, 3)
    assert data.train.inputs[0].startswith(b"\x89PNG")
    for start, split in enumerate(("train", "test")):
        write_images(tmp_path / "split" / split, shade=100 * start)
    data = load(str(tmp_path / "split"))
    assert (len(data.train), len(data.test), data.split) == (12, 12, "taken: test")
    write_images(tmp_path / "split" / "extra", shade=200)
    data = load(str(tmp_path / "split"))
    assert (len(data.train), len(data.test), data.classes) == (12, 12, ("cat", "dog"))
    assert data.notes[0] == "extra is not read: its name has no split in it"
    write_images(tmp_path / "unsorted", ("train", "test"))
    with pytest.raises(InputError, match=r"named after splits \(test, train\) and not after classes"):
        load(str(tmp_path / "unsorted"))
    Image.new("RGB", (8, 8)).save(tmp_path / "split" / "train" / "loose.png")
    with pytest.raises(InputError, match=r"train/loose.png is not in a class folder"):
        load(str(tmp_path / "split"))
    (tmp_path / "split" / "train").rename(tmp_path / "split" / "practice")
    with pytest.raises(InputError, match="but none has train in its name"):
        load(str(tmp_path / "split"))
    write_images(tmp_path / "vehicles", ("train", "bus"))
    assert load(str(tmp_path / "vehicles")).classes == ("bus", "train")
    Image.new("RGB", (8, 8)).save(tmp_path / "pets" / "loose.png")
    with pytest.raises(InputError, match=r"loose.png is not in a class folder"):
        load(str(tmp_path / "pets"))


IOB2 = [("Ada", "B-PER"), ("Lovelace", "I-PER"), ("met", "O"), ("Acme", "B-ORG"), ("Oslo", "B-LOC"), ("Rome", "B-LOC")]
SCHEMES = {
    "IOB2": None,
    "IOB1": ["I-PER", "I-PER", "O", "I-ORG", "I-LOC", "B-LOC"],
    "IOBES": ["B-PER", "E-PER", "O", "S-ORG", "S-LOC", "S-LOC"],
    "BILOU": ["B-PER", "L-PER", "O", "U-ORG", "U-LOC", "U-LOC"],
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("form", ["{word} NNP {tag}", "{number}\t{word}\t{tag}", "{word} {tag}"])
def test_conll_files_are_read_and_their_tags_turned_into_iob2(scheme, form, tmp_path):
    marks = SCHEMES[scheme] or [tag for _, tag in IOB2]
    pairs = enumerate(zip(IOB2, marks, strict=True), 1)
    sentence = "\n".join(form.format(number=i, word=word, tag=tag) for i, ((word, _), tag) in pairs)
    text = "\n\n".join(
        ["-DOCSTART- -X- O", *[f"# sent_id = {i}\n{sentence.replace('met', f'met{i}')}" for i in range(8)]]
    )
    (tmp_path / "train.conll").write_text(text)
    data = load(str(tmp_path / "train.conll"))
    assert data.kind == "tokens"
    assert data.classes == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert data.train.inputs[0] == ["Ada", "Lovelace", f"met{data.train.index[0]}", "Acme", "Oslo", "Rome"]
    assert [data.classes[tag] for tag in data.train.targets[0]] == [tag for _, tag in IOB2]
    assert data.notes == (() if scheme == "IOB2" else (f"tags converted from {scheme} to IOB2",))


def test_an_entity_that_has_ended_does_not_go_on():
    tags = ["I-PER", "E-PER", "I-PER", "E-PER", "O", "E-LOC", "E-LOC"]
    turned, _ = conll.to_iob2([tags], ["a.conll, sentence 1"])
    assert turned == [["B-PER", "I-PER", "B-PER", "I-PER", "O", "B-LOC", "B-LOC"]]


def test_conll_columns_can_be_given_and_tags_must_be_of_entities(tmp_path):
    lines = [f"w{i}{j} O B-A\nv{i}{j} B-B O" for i in range(9) for j in range(2)]
    (tmp_path / "r.conll").write_text("\n\n".join(lines))
    data = load(str(tmp_path / "r.conll"))
    assert data.classes == ("O", "B-A", "I-A")
    assert data.notes == ("words from column 1, tags from column 3; others have only tags too",)
    assert load(str(tmp_path / "r.conll"), label_column="2").classes == ("O", "B-B", "I-B")
    with pytest.raises(InputError, match="columns 1 to 3, and no column '4'"):
        load(str(tmp_path / "r.conll"), label_column="4")
    with pytest.raises(InputError, match="has columns 1 to 3, and no column '²'"):
        load(str(tmp_path / "r.conll"), label_column="²")
    with pytest.raises(InputError, match="column 1 cannot have both the words and the tags; set text_column too"):
        load(str(tmp_path / "r.conll"), label_column="1")
    with pytest.raises(InputError, match="of an unknown scheme; tag each word O"):
        load(str(tmp_path / "r.conll"), text_column="2", label_column="1")


def test_all_files_have_the_columns_of_the_first_and_lines_that_repeat_words_are_none(tmp_path):
    for split, hidden in (("train", "B-ORG"), ("test", "_")):
        text = "\n\n".join(f"Acme{split}{i} NNP B-NP {hidden}\nran VBD B-VP O" for i in range(12))
        (tmp_path / f"{split}.conll").write_text(text)
    data = load(str(tmp_path))  # before, the chunks were the test's tags
    assert "the test split has no labels and is not used" in data.notes
    assert data.classes == ("O", "B-ORG", "I-ORG")
    lines = [f"1-2\tdel{i}\tO\n1\tde\tO\n2\tel{i}\tO\n2.1\tadded\tO\n3\tRey\tB-PER" for i in range(12)]
    (tmp_path / "ud.conll").write_text("\n\n".join(lines))
    data = load(str(tmp_path / "ud.conll"))
    assert data.train.inputs[0] == ["de", f"el{data.train.index[0]}", "Rey"]
    tagged = "# a comment\nI PRP\nlove VBP\n#python NNP\n"
    assert conll.read_words(tagged, tmp_path / "new.conll", None) == [["I", "love", "#python"]]


def test_an_underscore_is_a_tag_that_is_not_given_and_no_comment_or_parse_is_taken_for_tags(tmp_path):
    tagged = "\n".join(f"Ada{i}\tB-PER\nran\tO\n" for i in range(12))
    (tmp_path / "ner.conll").write_text(f"#doc _ 1\n{tagged}")
    (tmp_path / "a_parsed.conllu").write_text("\n".join(f"1\tShe{i}\tshe\tPRON\t_\t0\troot\n" for i in range(12)))
    data = load(str(tmp_path))
    assert len(data.train) + len(data.test or ()) == 12
    assert "files of type '.conllu' that are not read: 1" in data.notes
    (tmp_path / "u.conll").write_text(tagged.replace("\tO", "\t_"))
    with pytest.raises(InputError, match="column 2 has '_' but never O; '_' stands for a tag that is not given yet"):
        load(str(tmp_path / "u.conll"))


def test_splits_that_share_no_label_and_a_train_split_of_one_are_refused(tmp_path):
    rows = {"train": ("0", "1"), "test": ("neg", "pos")}
    for split, labels in rows.items():
        lines = [f"{split} {i},{labels[i % 2]}" for i in range(20)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *lines]))
    with pytest.raises(
        InputError, match="no label in common, but labels such as '0' in the one and 'neg' in the other"
    ):
        load(str(tmp_path))
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *(f"row {i},neg" for i in range(20))]))
    with pytest.raises(InputError, match="all rows to train on have the label 'neg'"):
        load(str(tmp_path))
    (tmp_path / "alone.csv").write_text("\n".join(["text,label", *(f"row {i},class {i}" for i in range(12))]))
    with pytest.raises(InputError, match="test examples that are held out are of classes without another example"):
        load(str(tmp_path / "alone.csv"))


def test_the_checksum_covers_the_images_that_the_named_column_names(tmp_path):
    lines = []
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
        lines.append(f"a text about {i},{i}.png,{'ab'[i % 2]}")
    (tmp_path / "all.csv").write_text("\n".join(["text,image,label", *lines]))
    table = str(tmp_path / "all.csv")
    texts, images = find(table).sha256, find(table, "image").sha256
    Image.new("RGB", (8, 8), "white").save(tmp_path / "3.png")
    assert find(table).sha256 == texts
    assert find(table, "image").sha256 != images
    (tmp_path / "wide.csv").write_text("\n".join(["text,image,label", *lines]), encoding="utf-16")
    assert load(str(tmp_path / "wide.csv"), "image").kind == "image"


def test_a_missing_word_is_an_error_and_not_the_word_none(tmp_path):
    rows = [{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]} for _ in range(12)]
    rows[5] = {"tokens": ["EU", None], "tags": ["B-ORG", "O"]}
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match="has a list of words in which one is missing"):
        load(str(tmp_path / "t.jsonl"))


def test_a_word_may_begin_with_a_hash_or_hold_a_no_break_space_and_a_tsv_may_be_tagged(tmp_path):
    lines = [f"# id {i}\n#AI{i} B-MISC NN\n10\xa0000 O CD\n" for i in range(12)]
    (tmp_path / "a.conll").write_text("\n".join(lines))
    data = load(str(tmp_path / "a.conll"))
    assert {len(words) for words in data.train.inputs} == {2}
    assert all(word.startswith("#AI") and number == "10\xa0000" for word, number in data.train.inputs)
    (tmp_path / "train.tsv").write_text("\n".join(f"Ada{i}\tB-PER\nleft\tO\n" for i in range(12)))
    tagged = load(str(tmp_path / "train.tsv"))
    assert (tagged.kind, tagged.classes) == ("tokens", ("O", "B-PER", "I-PER"))


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
@pytest.mark.parametrize("comment", ["# id 1", "# text = O AI e I-95"])
def test_line_ends_hide_no_tag_and_a_comment_beside_tabs_has_none(comment, end, tmp_path):
    text = "\n".join(f"{comment}\n#AI{i}\tO\n#\tO\nAda\tB-PER\n" for i in range(12)).replace("\n", end)
    (tmp_path / "a.tsv").write_bytes(text.encode())
    data = load(str(tmp_path / "a.tsv"))
    assert data.train.inputs == [[f"#AI{i}", "#", "Ada"] for i in data.train.index]
    assert conll.read_words(text, tmp_path / "a.tsv", None) == [[f"#AI{i}", "#", "Ada"] for i in range(12)]


@pytest.mark.parametrize("sentences", [12, 1200])
def test_a_conll_file_may_have_line_ends_of_an_old_mac(sentences, tmp_path):
    (tmp_path / "a.txt").write_bytes("".join(f"Ada{i}\tB-PER\rleft\tO\r\r" for i in range(sentences)).encode())
    data = load(str(tmp_path / "a.txt"))
    assert len(data.train.inputs) + len(data.test.inputs) == sentences


def test_the_files_of_conll_2003_are_known_by_their_names(tmp_path):
    for start, split in enumerate(("train", "testa", "testb")):
        text = "\n\n".join(f"Ada{start}{i} NNP B-NP I-PER\nran VBD B-VP O" for i in range(9 + start))
        (tmp_path / f"eng.{split}").write_text(text)
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test), data.split) == (9, 11, "taken: eng.testb")


@pytest.mark.parametrize("kind", ["text", "tokens", "image"])
def test_a_folder_saved_by_datasets_is_read(kind, tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
    from datasets import Image as Picture

    label = ClassLabel(names=["zebra", "ant"])
    features = {
        "text": {"text": Value("string"), "label": label},
        "tokens": {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-X", "I-X"]))},
        "image": {"image": Picture(), "label": label},
    }[kind]

    def part(start):
        pictures = [Image.fromarray(np.full((8, 8, 3), start + i, dtype=np.uint8)) for i in range(16)]
        inputs = {"text": [f"t {start + i}" for i in range(16)], "tokens": [[f"w{start + i}", "x"] for i in range(16)]}
        targets = [[1, 2] if i % 2 else [0, 0] for i in range(16)] if kind == "tokens" else [i % 2 for i in range(16)]
        columns = dict(zip(features, (inputs.get(kind, pictures), targets), strict=True))
        return Dataset.from_dict(columns, Features(features))

    part(0).save_to_disk(tmp_path / "one")
    DatasetDict({"train": part(0), "test": part(50)}).save_to_disk(tmp_path / "both")
    one, both = load(str(tmp_path / "one")), load(str(tmp_path / "both"))
    assert (one.kind, len(one.train), len(one.test)) == (kind, 12, 4)
    assert (both.kind, len(both.train), len(both.test), both.split) == (kind, 16, 16, "taken: test")
    assert both.classes == (("O", "B-X", "I-X") if kind == "tokens" else ("ant", "zebra"))
    assert kind == "tokens" or names(both, both.train)[:2] == ["zebra", "ant"]
    assert one.source.sha256 != both.source.sha256
    next((tmp_path / "both/train").glob("*.arrow")).unlink()
    with pytest.raises(InputError, match="is not a complete data set as `datasets` saves it"):
        load(str(tmp_path / "both"))


def test_what_leaves_the_folder_or_is_no_file_is_refused(tmp_path):
    folder = tmp_path / "mine"
    write_csv(folder / "train.csv", rows(10))
    (tmp_path / "secret.csv").write_text("text,label\n")
    (folder / "inside.csv").symlink_to(folder / "train.csv")
    load(str(folder / "train.csv"))
    for make in (
        lambda path: path.symlink_to(tmp_path / "secret.csv"),
        lambda path: path.symlink_to(tmp_path),
        lambda path: path.symlink_to("/dev/zero"),
        os.mkfifo,
    ):
        make(folder / "test.csv")
        with pytest.raises(InputError, match=r"test.csv is (a link that leaves|not a regular file)"):
            load(str(folder))
        (folder / "test.csv").unlink()
    for path, said in (("/dev/zero", "neither a file nor a folder"), (str(tmp_path / "no.csv"), "There is no file")):
        with pytest.raises(InputError, match=said):
            load(path)


def test_no_class_is_left_out_because_its_folder_is_a_link_or_a_level_deeper(tmp_path):
    write_images(tmp_path / "mine", names=("cat", "dog", ".store/bird"))
    (tmp_path / "mine/bird").symlink_to(".store/bird")
    with pytest.raises(InputError, match="mine/bird is a link to a folder, and such links are not followed; copy the"):
        load(str(tmp_path / "mine"))
    write_images(tmp_path / "archive/pets")
    with pytest.raises(
        InputError, match=r"every row has the label 'pets'; .* the folders in .*/archive/pets, give that"
    ):
        load(str(tmp_path / "archive"))


def test_a_folder_that_cannot_be_read_is_no_folder_without_images():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as around:  # one that others may enter, unlike those of pytest
        write_images(Path(around), names=("bird", "cat", "dog"))
        os.chmod(around, 0o755)
        os.chmod(f"{around}/bird", 0o000)
        try:
            os.seteuid(user or 65534)  # root may read everything
            with pytest.raises(InputError, match=r"/bird cannot be read: Permission denied\."):
                load(around)
        finally:
            os.seteuid(user)
            os.chmod(f"{around}/bird", 0o755)


def test_the_column_of_images_with_a_usual_name_comes_first(tmp_path):
    write_images(tmp_path)
    write_images(tmp_path / "small", shade=100)
    listed = [(f"small/{name}/{i}.png", f"{name}/{i}.png", name) for name in ("cat", "dog") for i in range(6)]
    write_csv(tmp_path / "list.csv", listed, header=("thumb", "image", "label"))
    assert (
        "inputs from column 'image', labels from column 'label'; not read: 'thumb'"
        in load(str(tmp_path / "list.csv")).notes
    )


def test_cells_stay_in_their_columns_where_line_ends_are_turned_round(tmp_path):
    (tmp_path / "own.csv").write_bytes(b"text,label\nx,pos\n\r,neg\nz,pos\n")  # pandas takes `neg` for a text
    assert tables.read(tmp_path / "own.csv").columns == {"text": ["x", "", "z"], "label": ["pos", "neg", "pos"]}


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_one_odd_line_changes_no_other_whatever_ends_the_lines(end, tmp_path):
    lines = [b"text,label", *(f"na\u00efve {i},{y}".encode() for i, (_, y) in enumerate(rows(20))), b"caf\xe9,good"]
    (tmp_path / "r.csv").write_bytes(end.encode().join(lines) + end.encode())
    with pytest.warns(UserWarning, match="not UTF-8 and were read as Windows-1252: 1"):
        data = load(str(tmp_path / "r.csv"))
    assert {text for text, _ in every(data)} == {*(f"na\u00efve {i}" for i in range(20)), "caf\u00e9"}


def test_the_index_of_a_filtered_frame_is_no_column(tmp_path):
    columns = {"text": [x for x, _ in rows(20)], "kind": [y for _, y in rows(20)], "__index_level_0__": [*range(20)]}
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    assert load(str(tmp_path / "r.parquet")).classes == ("bad", "good")


def test_the_split_that_was_taken_is_named_and_not_the_folder_of_all_files(tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        columns = {"text": [f"{split} {x}" for x, _ in rows(20)], "label": [y for _, y in rows(20)]}
        pq.write_table(pa.table(columns), tmp_path / "data" / f"{split}-00000.parquet")
    assert load(str(tmp_path)).split == "taken: validation-00000.parquet"


def test_tables_are_read_in_several_threads():
    from concurrent.futures import ThreadPoolExecutor

    file = find("news_sample").files[0]
    with ThreadPoolExecutor(3) as pool:
        found = [*pool.map(tables.read, [file] * 9)]
    assert all(table.columns == found[0].columns for table in found)


def test_a_folder_of_several_kinds_or_of_none_says_what_is_read(tmp_path):
    with pytest.raises(InputError, match=r"has no file that can be read; use tables \(.csv"):
        load(str(tmp_path))
    write_images(tmp_path)
    write_csv(tmp_path / "labels.csv", rows(10))
    with pytest.raises(InputError, match="of several kinds"):
        load(str(tmp_path))


def test_names_of_the_table_come_first_and_paths_need_a_sign():
    assert load("digits").source.kind == "package"
    with pytest.raises(InputError, match="no dataset named 'digitz'; did you mean 'digits'"):
        load("digitz")
    with pytest.raises(InputError, match="There is no dataset named ''"):
        load("")
    for name in ("missing", 300 * "a"):  # the second is longer than a name can be
        with pytest.raises(InputError, match=rf"There is no file or folder .*/{name}"):
            load(f"./{name}")
    with pytest.raises(InputError, match=r"There is no folder '\./missing', and a hub id is written org/name"):
        own.find("./missing")


@pytest.mark.parametrize(
    ("path", "name"),
    [("data/my reviews.csv", "my-reviews.csv"), ("/home/me/imdb/", "imdb"), ("..", "data"), (".", "data")],
)
def test_a_path_has_a_name_that_stays_in_its_place(path, name):
    assert data_name(path) == name


def test_examples_of_both_splits_are_counted_reported_and_dropped(tmp_path):
    folder = leaky(tmp_path)
    with pytest.warns(UserWarning, match=r"4 of 12 train examples are also in the test split"):
        data = load(folder)
    assert data.repeats == {"train": 1, "test": 0, "across": 4, "dropped": 0}
    clean = load(folder, drop_leaks=True)
    assert clean.repeats == {"train": 1, "test": 0, "across": 4, "dropped": 4}
    assert len(clean.train) == 8
    assert not {tasks.same(x) for x in clean.train.inputs} & {tasks.same(x) for x in clean.test.inputs}
    assert clean.test.inputs == data.test.inputs
    subsets = [
        splits.labelled(clean, read_config({"dataset": folder, "train_size": size}))[0].index for size in (2, 4, 8)
    ]
    assert set(subsets[0]) < set(subsets[1]) < set(subsets[2])


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_a_class_of_which_each_example_leaks_is_not_left_out_in_silence(names, tmp_path):
    lines = [(f"{name} text {i}", name) for name in names for i in range(12)]
    write_csv(tmp_path / "train.csv", lines)
    write_csv(tmp_path / "test.csv", [*lines[:12], ("another b text", "b")])
    said = "drop_leaks=true leaves no train example of classes such as 'a'"
    if names == "ab":
        with pytest.raises(InputError, match=f"{said}, so only one class is left; give a test split of other"):
            load(str(tmp_path), drop_leaks=True)
    else:
        with pytest.warns(UserWarning, match=rf"{said}\.$"):
            assert len(load(str(tmp_path), drop_leaks=True).train) == 24


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("r.json", '[{"text": "a", "label": 0},\n {"text": "b" "label": 1}]', 2),
        ("r.jsonl", '{"text": "a", "label": 0}\n{"text": "b" "label": 1}\n', 2),
    ],
)
def test_a_mistake_in_json_is_said_with_its_line_once(tmp_path, name, text, line):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}, line {line} is not JSON: Expecting ',' delimiter\.$"):
        load(str(tmp_path / name))


@pytest.mark.parametrize("name", ["r.json", "r.jsonl"])
def test_a_json_file_without_a_row_is_empty(name, tmp_path):
    (tmp_path / name).write_text("[]" if name == "r.json" else "\n")
    for read in (load, tasks.kind_of):
        with pytest.raises(InputError, match=rf"{name} is empty\.$"):
            read(str(tmp_path / name))


def test_labels_that_are_bytes_are_read_as_utf8(tmp_path):
    columns = {"text": [f"a text {i}" for i in range(20)], "label": ["schön".encode(), b"bad"] * 10}
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    assert load(str(tmp_path / "r.parquet")).classes == ("bad", "schön")


def test_a_list_of_one_label_is_that_label(tmp_path):
    labels = [["good"], "bad", ["bad"], "good"] * 10
    path = write_jsonl(tmp_path / "r.jsonl", {"text": [f"a text {i}" for i in range(40)], "label": labels})
    assert load(str(path)).classes == ("bad", "good")
    labels = [["good", "bad"]] * 5 + [["good"]] * 35
    write_jsonl(path, {"text": [f"a text {i}" for i in range(40)], "label": labels})
    with pytest.raises(InputError, match=r"5 of 40 rows have several labels, such as \['good', 'bad'\]"):
        load(str(path))
    columns = {"tokens": [[f"w{i}"] for i in range(20)], "tags": [["B-X"], ["O"]] * 10}
    assert load(str(write_jsonl(path, columns))).classes == ("O", "B-X", "I-X")


def test_rows_that_are_left_out_are_counted_where_too_few_remain(tmp_path):
    path = write_csv(tmp_path / "r.csv", [("", "good"), ("", "bad")] * 10)
    said = "has 0 labelled rows to train on, but at least 8 are needed; rows that are left out: 20 without input, 0 wit"
    with pytest.raises(InputError, match=said):
        load(str(path))


def test_the_columns_of_a_test_file_without_the_inputs_are_its_own(tmp_path):
    write_csv(tmp_path / "train.csv", rows(20))
    write_csv(tmp_path / "test.csv", [(i, f"a note {i}") for i in range(9)], ("id", "said"))
    with pytest.raises(InputError, match=r"no column of test\.csv named 'text'; the known ones are id, said\.$"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "tagged"),
    [
        ("Send an E-mail to Bob\n", False),
        ("Send an E-mail to Bob\nTake the S-Bahn home today, or else the I-95\n", False),
        ("Ada B-PER\nran O\n", True),
        ("New York B-LOC\nAda B-PER\nran O\n", True),  # then an error can name the line with more fields
        ("-DOCSTART- -X- O\n\n# text = Take the S-Bahn\nAda B-PER\nran O\n\n# id 2\nOslo B-LOC\n", True),
    ],
)
def test_a_word_like_a_tag_makes_no_conll_file(text, tagged):
    assert conll.looks_tagged(text) is tagged


def test_a_note_beside_images_may_have_a_word_like_a_tag(tmp_path):
    write_images(tmp_path)
    (tmp_path / "README.txt").write_text("Send an E-mail to Bob\n")
    assert load(str(tmp_path)).kind == "image"


@pytest.mark.parametrize("name", ["r.txt", "r.tsv"])
@pytest.mark.parametrize("times", [1, 200])  # shorter and longer than the part that is looked at
def test_a_conll_file_may_be_utf16(name, times, tmp_path):
    text = "\n".join(f"Ada{i}\tB-PER\nleft\tO\n" for i in range(12 * times))
    (tmp_path / name).write_text(text, encoding="utf-16")
    data = load(str(tmp_path / name))
    assert (data.kind, data.classes) == ("tokens", ("O", "B-PER", "I-PER"))
    (tmp_path / name).write_bytes(b"\xff\xfeAda" if name == "r.txt" else "text\tlabel\na\tb".encode("utf-16"))
    assert files._form(tmp_path / name) == (None if name == "r.txt" else "table")


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_test_split_of_two_tagged_words_is_read(end, tmp_path):
    (tmp_path / "train.txt").write_text("\n".join(f"Ada{i} B-PER\nleft O\n" for i in range(12)))
    (tmp_path / "test.txt").write_text(f"Bo B-PER\nleft O{end}")
    assert load(str(tmp_path)).test.inputs == [["Bo", "left"]]


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [("r.json", '[{"text": "a", "label": 0},\n 3]', "item 2"), ("r.jsonl", '{"text": "a", "label": 0}\n3\n', "line 2")],
)
def test_a_value_that_is_no_object_is_named_by_its_place(name, text, place, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}, {place} is not a JSON object of columns and values\.$"):
        load(str(tmp_path / name))
