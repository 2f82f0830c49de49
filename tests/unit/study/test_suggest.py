"""What to label next: which rows of a pool can be suggested, and the file to fill in."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from own_files import rows, write_csv
from PIL import Image

from lrtl_utils.data.load import load
from lrtl_utils.errors import InputError
from lrtl_utils.study import suggest as suggestions
from lrtl_utils.study.suggest import suggest


@pytest.fixture
def mine(tmp_path):
    return str(write_csv(tmp_path / "mine.csv", rows(40), ("review", "verdict")))


def pool_of(folder, texts, header=("id", "review"), name="pool.csv"):
    return write_csv(folder / name, [(i, text) for i, text in enumerate(texts)], header)


def test_rows_that_are_known_or_repeated_are_left_out(mine, tmp_path):
    data = load(mine)
    fresh = [f"a new film number {i}" for i in range(30)]
    texts = [*data.train.inputs[:3], *data.test.inputs[:2], *fresh, "A new  FILM number 4", ""]
    found = suggest(mine, pool_of(tmp_path, texts), 50)
    assert found.left_out == {"labelled already": 3, "in the test split": 2, "repeated": 1, "without an input": 1}
    assert sorted(text for _, text, _ in found.rows) == sorted(fresh)
    assert suggestions.in_words(found.left_out).startswith("3 labelled already, 2 in the test split, 1 repeated")
    with pytest.raises(InputError, match=r"pool.csv has no row to suggest: 3 labelled already, 2 in the test split\."):
        suggest(mine, pool_of(tmp_path, texts[:5]), 50)


def test_labels_that_are_hidden_are_none(mine, tmp_path):
    pool = tmp_path / "hidden.csv"
    pool.write_text("text,label\n" + "".join(f"a new film number {i},-1\n" for i in range(9)))
    assert len(suggest(mine, pool, 50).rows) == 9


def test_rows_of_a_validation_split_that_is_not_used_are_labelled_too(tmp_path):
    for at, split in enumerate(("train", "validation", "test")):
        write_csv(tmp_path / f"mine/{split}.csv", rows(20, 100 * at))
    pool = pool_of(tmp_path, [rows(1, 100 * at)[0][0] for at in range(4)])
    found = suggest(str(tmp_path / "mine"), pool, 9)
    assert found.left_out == {"labelled already": 2, "in the test split": 1}


def test_the_file_has_the_columns_of_the_pool_and_an_empty_one_for_the_label(mine, tmp_path):
    pool = pool_of(tmp_path, [f'new "film", {i}\nagain' for i in range(30)])
    found = suggest(mine, pool, 7)
    path = found.write(tmp_path / "next.csv")
    with path.open(newline="") as stream:
        header, *lines = csv.reader(stream)
    assert header == ["id", "review", "verdict"]
    assert lines == [[i, f'new "film", {i}\nagain', ""] for i, *_ in lines]
    assert len({i for i, *_ in lines}) == 7
    assert [i for i, *_ in lines] != [str(i) for i in range(7)]
    assert suggest(mine, pool, 7) == found
    with pytest.raises(InputError, match=r"next.csv exists and may hold labels that you filled in"):
        found.write(path)


def test_what_was_filled_in_is_read_beside_the_first_labels(mine, tmp_path):
    """As docs/own_data.md says: both files are in a folder of their own, and some rows still have no label."""
    suggested = suggest(mine, pool_of(tmp_path, [f"a new film {i}" for i in range(30)]), 20).write(tmp_path / "s.csv")
    with suggested.open(newline="") as stream:
        header, *lines = csv.reader(stream)
    filled = [[*line[:-1], "good" if i % 2 else ""] for i, line in enumerate(lines)]
    (tmp_path / "both").mkdir()
    write_csv(tmp_path / "both/pool.suggested.csv", filled, header)
    Path(mine).rename(tmp_path / "both/mine.csv")
    with pytest.warns(UserWarning, match="10 without label"):
        data = load(str(tmp_path / "both"))
    assert (len(data.train) + len(data.test), data.classes) == (40 + 10, ("bad", "good"))


def test_a_pool_may_have_labels_in_some_rows_and_another_name_for_the_texts(mine, tmp_path):
    lines = [(f"new film {i}", "good" if i < 4 else "", i) for i in range(10)]
    found = suggest(mine, write_csv(tmp_path / "pool.csv", lines, ("text", "verdict", "id")), 50)
    assert (found.header, found.left_out) == (["text", "id", "verdict"], {"labelled already": 4})
    assert Counter(label for *_, label in found.rows) == {"": 6}
    with pytest.raises(
        InputError, match=r"no column of pool.csv named 'review'"
    ):  # what a person named is not replaced
        suggest(mine, tmp_path / "pool.csv", 50, text_column="review")
    with pytest.raises(InputError, match=r"no column of pool.csv named 'review'"):
        suggest(mine, write_csv(tmp_path / "pool.csv", lines, ("a", "b", "c")), 50)


def test_named_columns_count_in_every_kind_of_table(tmp_path):
    write = {"mine": [{"id": i, "headline": f"news {i}", "kind": "ab"[i % 2]} for i in range(40)]}
    write["pool"] = [{"headline": f"more {i}", "Kind": "b" if i < 2 else ""} for i in range(9)]
    for name, lines in write.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns = {"text_column": "headline", "label_column": "kind"}
    found = suggest(str(tmp_path / "mine.jsonl"), tmp_path / "pool.jsonl", 50, **columns)
    assert (found.header, found.left_out, len(found.rows)) == (["headline", "Kind"], {"labelled already": 2}, 7)


def test_a_folder_of_images_is_a_pool_of_images(tmp_path):
    for place, start in (("mine/cat", 0), ("mine/dog", 20), ("pool", 40)):
        (tmp_path / place).mkdir(parents=True)
        for i in range(start, start + 8):
            Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(tmp_path / place / f"{i}.png")
    (tmp_path / "pool" / "known.png").write_bytes((tmp_path / "mine" / "cat" / "3.png").read_bytes())
    found = suggest(str(tmp_path / "mine"), tmp_path / "pool", 50)
    assert found.header == ["file", "label"]
    assert {file for file, _ in found.rows} == {f"{i}.png" for i in range(40, 48)}
    assert sum(found.left_out.values()) == 1
    listed = [(i, f"{place}.png") for i, place in enumerate(["mine/dog/21", *(f"pool/{i}" for i in range(40, 48))])]
    found = suggest(str(tmp_path / "mine"), write_csv(tmp_path / "list.csv", listed, ("id", "picture")), 50)
    assert found.header == ["id", "picture", "label"]
    assert {file for _, file, _ in found.rows} == {f"pool/{i}.png" for i in range(40, 48)}
    assert found.left_out == {"labelled already": 1}
    with pytest.raises(InputError, match="must be a folder of images, or a CSV or TSV file"):
        suggest(str(tmp_path / "mine"), pool_of(tmp_path, ["a text"]), 50)


@pytest.mark.parametrize("columns", ["{word} {tag}", "{word} NN {tag}", "7 {word} {tag}"])
def test_sentences_are_tagged_in_the_columns_of_the_first_and_read_beside_them(columns, tmp_path):
    def sentences(start, tag):
        lines = (
            (columns.format(word=f"Ada{i}", tag=tag), columns.format(word="left", tag="O"))
            for i in range(start, start + 20)
        )
        return "\n".join("\n".join(line) + "\n" for line in lines)

    mine, pool = tmp_path / "all/wiki.conll", tmp_path / "pool.txt"  # the suggested file is read first
    mine.parent.mkdir()
    mine.write_text(sentences(0, "B-PER"))
    pool.write_text("\n".join([*(f"Ada{i} left" for i in range(15, 30)), "", "ADA29  left", "# 1 _"]))
    found = suggest(str(mine), pool, 8)
    assert sum(found.left_out.values()) == 5 + 1
    assert "In column {}, replace each '_'".format(columns.count(" ") + 1) in found.to_do
    written = found.write(tmp_path / "all/pool.suggested.conll")
    blanks = written.read_text().split("\n\n")
    assert len(blanks) == 8
    tagged = [each if i % 2 else re.sub("_$", "O", each, flags=re.M) for i, each in enumerate(blanks)]
    written.write_text("\n\n".join(tagged))
    with pytest.warns(UserWarning, match="0 without input, 4 without label"):
        data = load(str(tmp_path / "all"))
    assert len(data.train) + len(data.test) == 20 + 4
    taken = [words for words, tags in zip(data.train.inputs, data.train.targets, strict=True) if not any(tags)]
    assert set(map(tuple, taken)) <= set(map(tuple, found.rows))
    bare = tmp_path / "pool.conll"
    bare.write_text(sentences(40, "O").replace("O\n", "_\n"))
    assert sorted(suggest(str(mine), bare, 50).rows) == [[f"Ada{i}", "left"] for i in range(40, 60)]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, call):
    pool = pool_of(tmp_path, ["a film"])
    done = call("suggest", tmp_path / "absent.csv", "--unlabelled", pool, "--output", pool / "next.csv")
    assert done.stderr == f"{pool} is a file or a broken link, and not a folder; name another folder.\n"
    absent = tmp_path / "typo/pool.csv"
    call("suggest", pool, "--unlabelled", absent)
    assert not absent.parent.exists()


def test_what_cannot_be_suggested_is_one_sentence(mine, tmp_path):
    with pytest.raises(InputError, match="must be a CoNLL file, or a text file with a sentence in each line"):
        suggest("entities_sample", mine, 5)
    with pytest.raises(InputError, match="There is no file or folder"):
        suggest(mine, tmp_path / "absent.csv", 5)
    with pytest.raises(InputError, match=r"empty.csv has no row to suggest: it has no rows\."):
        suggest(mine, pool_of(tmp_path, [], name="empty.csv"), 5)
    (tmp_path / "two").mkdir()
    for name in ("a.csv", "b.csv"):
        pool_of(tmp_path / "two", ["x"], name=name)
    with pytest.raises(InputError, match="must be one table of texts"):
        suggest(mine, tmp_path / "two", 5)
