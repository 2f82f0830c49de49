"""`predict` on every kind of file, in processes of its own."""

import csv
import json
import os
import shutil
import warnings
from operator import itemgetter
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from whole_run import run

from lrtl_utils.deploy import export
from lrtl_utils.deploy import predict as scoring
from lrtl_utils.errors import InputError

TEXTS = ["Shares fell today.", 'The minister said: "a film",\u2028again.', ""]


@pytest.fixture(scope="module")
def news(tmp_path_factory):
    folder = tmp_path_factory.mktemp("news")
    model, path, data, *_ = run(folder, dataset="news_sample", method="tfidf", train_size=40, test_limit=8)
    return export.save(model, data.classes, path, folder / "kept")


@pytest.fixture(scope="module")
def tagger(mirror, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger")
    knobs = {"train_size": 16, "epochs": 1, "max_length": 16, "test_limit": 8}
    model, path, data, *_ = run(folder, dataset="entities_sample", model="bert_crf", method="full", **knobs)
    return export.save(model, data.classes, path, folder / "kept")


@pytest.fixture(scope="module")
def seer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seer")
    knobs = {"train_size": 20, "image_size": 32, "epochs": 1, "test_limit": 8}
    model, path, data, *_ = run(folder, dataset="digits", model="simple_nn", method="from_scratch", **knobs)
    return export.save(model, data.classes, path, folder / "kept")


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_tables_and_text_files_give_the_same_answers(news, tmp_path):
    with (tmp_path / "in.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "text"], *enumerate(TEXTS)])
    (tmp_path / "in.tsv").write_text("id\ttext\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(TEXTS)))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"n": 1, "said": text}) + "\n" for text in TEXTS))
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    answers = [
        rows_of(scoring.predict(news, tmp_path / name, tmp_path / f"{name}.out.csv", column))
        for name, column in (("in.csv", None), ("in.tsv", None), ("in.jsonl", "said"), ("in.txt", None))
    ]
    assert [[row.pop("id") for row in rows] for rows in answers[:2]] == [["0", "1", "2"]] * 2
    assert {row.pop("n") for row in answers[2]} == {"1"}
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert [row["text"] for row in answers[0]] == TEXTS
    assert list(answers[0][0]) == ["text", "label", "p_World", "p_Sports", "p_Business", "p_Sci/Tech"]
    for row in filter(itemgetter("label"), answers[0]):
        shares = {name[2:]: float(share) for name, share in row.items() if name.startswith("p_")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(shares, key=shares.get)
    assert answers[0][0]["label"] == "Business"


def test_rows_without_a_text_or_with_a_number_are_kept(news, tmp_path):
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"text": each}) + "\n" for each in ("prices rise", None, float("nan"), 2024))
    )
    found = rows_of(scoring.predict(news, tmp_path / "in.jsonl", tmp_path / "out.csv"))
    assert [row["text"] for row in found] == ["prices rise", "", "", "2024"]
    (tmp_path / "unnamed.jsonl").write_text(json.dumps({"id": 7, "": 0, "text": "prices rise"}))
    assert rows_of(scoring.predict(news, tmp_path / "unnamed.jsonl"))[0]["text"] == "prices rise"


def test_an_empty_input_gets_no_label(news, tmp_path):
    (tmp_path / "in.csv").write_text("id,text\n1,prices rise\n2,\n3,a goal\n")
    with pytest.warns(UserWarning, match="Empty inputs get no label: 1 of 3"):
        found = rows_of(scoring.predict(news, tmp_path / "in.csv", tmp_path / "out.csv"))
    assert [bool(row["label"]) for row in found] == [True, False, True]
    assert found[1].pop("id") == "2"
    assert {*found[1].values()} == {""}


def test_the_other_columns_of_a_table_follow_the_answers(news, tagger, tmp_path):
    (tmp_path / "in.csv").write_text("id,label,text,note\n7,Sports,prices rise,=1+1\n8,,a goal,\n")
    found = rows_of(scoring.predict(news, tmp_path / "in.csv", tmp_path / "out.csv"))
    assert [*found[0]][-3:] == ["id", "label (input)", "note"]
    assert [(row["id"], row["label (input)"], row["note"]) for row in found] == [
        ("7", "Sports", "'=1+1"),
        ("8", "", ""),
    ]
    cells = {"text": "a goal", "label (input)": "kept", "label": "Sports", "id": None, "tiny": 1e-9, "=1+1": 2**53 + 1}
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(cells | {"id": id}) for id in (7, None)))
    found = rows_of(scoring.predict(news, tmp_path / "in.jsonl", tmp_path / "out.csv"))
    assert [row["id"] for row in found] == ["7", ""]
    (tmp_path / "odd.jsonl").write_text(json.dumps({"text": "a goal", "meta": {"id": 7}}))
    assert rows_of(scoring.predict(news, tmp_path / "odd.jsonl", tmp_path / "odd.csv"))[0]["meta"] == "{'id': 7}"
    (tmp_path / "old.csv").write_bytes("text\nprices rise in Zürich".encode("cp1252"))
    with pytest.warns(UserWarning, match="not UTF-8 and were read as Windows-1252: 1"):
        scoring.predict(news, tmp_path / "old.csv", tmp_path / "old.out.csv")
    others = ("label (input)", "label (input) (input)", "tiny", "'=1+1")
    assert [found[0][name] for name in others] == ["kept", "Sports", "1e-09", str(2**53 + 1)]
    sentences = [{"n": 1, "tokens": ["Ada", "ran"]}, {"n": 2, "tokens": []}, {"n": 3, "tokens": ["Oslo"]}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, sentences)))
    with pytest.warns(UserWarning, match="Inputs without a word get no row: 1 of 3"):
        found = rows_of(scoring.predict(tagger, tmp_path / "in.jsonl", tmp_path / "out.csv"))
    assert [(row["tokens"], row["n"]) for row in found] == [("Ada ran", "1"), ("Oslo", "3")]


def test_the_column_of_training_is_read_before_one_of_a_usual_name(tmp_path):
    lines = [f"{i},goods arrived late {i},{'fine' if i % 2 else 'a bad one'},{i % 2}\n" for i in range(40)]
    for name in ("all.csv", "data/train.csv", "data/test.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("id,text,subject,label\n" + "".join(lines))
    knobs = {"dataset": str(tmp_path / "data"), "text_column": "subject", "method": "tfidf", "train_size": 20}
    model, path, data, *_ = run(tmp_path, **knobs)
    kept = export.save(model, data.classes, path, tmp_path / "kept")
    saved = json.loads((kept / "record.json").read_text())["config"]
    assert (saved["dataset"], {"dataset", "model"} & saved["asked"].keys()) == ("data", set())
    found = rows_of(scoring.predict(kept, tmp_path / "all.csv", tmp_path / "out.csv"))
    assert {row["text"] for row in found} == {"fine", "a bad one"}
    (tmp_path / "cases.csv").write_text("Subject,subject\ngoods arrived late,fine\n")
    assert rows_of(scoring.predict(kept, tmp_path / "cases.csv"))[0]["text"] == "fine"
    (tmp_path / "other.csv").write_text("id,text\n1,goods arrived late\n")
    with pytest.raises(InputError, match="has the columns id, text; --text-column says which"):
        scoring.predict(kept, tmp_path / "other.csv")
    assert "are also in the test split, so the scores may be too high." in (kept / "README.md").read_text()


def test_blank_lines_of_a_table_with_one_column_are_rows(news, tmp_path):
    (tmp_path / "in.csv").write_text("text\nShares fell.\n\n \nA goal.\n\n")
    with pytest.warns(UserWarning, match=r"Empty inputs get no label: 2 of 4\."):
        answers = rows_of(scoring.predict(news, tmp_path / "in.csv"))
    assert [row["text"] for row in answers] == ["Shares fell.", "", "", "A goal."]


def test_a_first_line_that_is_taken_for_the_name_of_a_column_is_shown(news, tmp_path):
    (tmp_path / "in.csv").write_text("Shares fell.\nA goal.\n")
    with pytest.warns(UserWarning, match=r"in\.csv has one column; its first line is its name: 'Shares fell\.'\."):
        assert [row["text"] for row in rows_of(scoring.predict(news, tmp_path / "in.csv"))] == ["A goal."]
    (tmp_path / "in.jsonl").write_text('{"quote": "A goal."}\n')
    with warnings.catch_warnings(action="error"):
        scoring.predict(news, tmp_path / "in.jsonl")


def test_sentences_whose_last_words_are_not_read_are_counted(tagger, tmp_path):
    (tmp_path / "in.txt").write_text(f"Ada met Bo\n{'Ada ' * 30}\n")
    with pytest.warns(UserWarning, match=r"are too long are tagged O: 1 of 2\."):
        answers = rows_of(scoring.predict(tagger, tmp_path / "in.txt"))
    assert answers[1]["tags"].endswith(" O O O")
    assert len(answers[1]["tags"].split()) == 30


def test_tagged_files_sentences_and_lists_of_words_give_the_same_tags(tagger, tmp_path):
    sentences = [["Ada", "Lovelace", "moved", "to", "Oslo"], ["nothing", "here", *["on"] * 20]]
    blocks = ["".join(f"{word}\tO\n" for word in words) for words in sentences]
    (tmp_path / "in.conll").write_text("-DOCSTART- O\n\n" + "\n".join(blocks))
    (tmp_path / "tagged.txt").write_text("\n".join(blocks))
    numbered = ["".join(f"{i}\t{word}\tO\n" for i, word in enumerate(words, 1)) for words in sentences]
    (tmp_path / "in.conllu").write_text("# text\n" + "\n".join(numbered))
    (tmp_path / "in.txt").write_text("\n".join(" ".join(words) for words in sentences) + "\n\n")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"tokens": words}) + "\n" for words in sentences))
    beside = [{"text": " ".join(words), "tokens": words} for words in sentences]
    (tmp_path / "beside.jsonl").write_text("".join(json.dumps(row) + "\n" for row in beside))
    (tmp_path / "old.txt").write_bytes("\r".join(" ".join(words) for words in sentences).encode())
    names = ("in.conll", "in.conllu", "tagged.txt", "in.txt", "in.jsonl", "beside.jsonl", "old.txt")
    answers = [rows_of(scoring.predict(tagger, tmp_path / name, tmp_path / "out.csv")) for name in names]
    texts = [[row.pop("text", None) for row in answer] for answer in answers]
    assert [any(each) for each in texts] == [name == "beside.jsonl" for name in names]
    assert all(answer == answers[0] for answer in answers)
    assert [row["tokens"].split() for row in answers[0]] == sentences
    assert [len(row["tags"].split()) for row in answers[0]] == [5, 22]
    assert answers[0][1]["tags"].split()[16:] == ["O"] * 6  # past max_length


def test_a_word_that_is_a_number_sign_is_read_as_in_training_and_a_missing_one_is_refused(tagger, tmp_path):
    (tmp_path / "in.conll").write_text("#\tO\nAda\tB-PER\n")
    (answer,) = rows_of(scoring.predict(tagger, tmp_path / "in.conll", tmp_path / "out.csv"))
    assert answer["tokens"] == "# Ada"
    (tmp_path / "in.jsonl").write_text(json.dumps({"tokens": ["EU", None]}))
    with pytest.raises(InputError, match="has a list of words in which one is missing"):
        scoring.predict(tagger, tmp_path / "in.jsonl", tmp_path / "out.csv")
    (tmp_path / "in.csv").write_text("id,tokens\n1,\"['Ada', 'Lovelace']\"\n")
    with pytest.raises(
        InputError, match=r"in\.csv has a list that is written as a text, .* write JSON lines or parquet"
    ):
        scoring.predict(tagger, tmp_path / "in.csv", tmp_path / "out.csv")


def test_the_words_of_a_conll_file_are_where_they_were_in_training(tagger, tmp_path):
    (tmp_path / "numbers.conll").write_text("1\tAda\n2\tran\n\n1\tOslo\n")
    (tmp_path / "tagged.tsv").write_text("Ada\tO\nran\tO\n\nOslo\tO\n")
    (tmp_path / "second.conll").write_text("s0 Ada O\ns0 ran O\n\ns1 Oslo O\n")
    (tmp_path / "words.jsonl").write_text('{"tokens": ["Ada", "ran"]}\n{"tokens": [2020, "Oslo"]}\n')
    shutil.copytree(tagger, tmp_path / "kept")
    facts = json.loads((tagger / "lrtl.json").read_text())
    (tmp_path / "kept/lrtl.json").write_text(json.dumps(facts | {"text_column": "2"}))
    for model, name, column, sentences in (
        (tagger, "numbers.conll", None, ["Ada ran", "Oslo"]),
        (tagger, "tagged.tsv", None, ["Ada ran", "Oslo"]),
        (tagger, "second.conll", "2", ["Ada ran", "Oslo"]),
        (tmp_path / "kept", "second.conll", None, ["Ada ran", "Oslo"]),
        (tagger, "words.jsonl", None, ["Ada ran", "2020 Oslo"]),
    ):
        found = rows_of(scoring.predict(model, tmp_path / name, tmp_path / "out.csv", column))
        assert [row["tokens"] for row in found] == sentences, name


def test_the_column_that_was_found_in_training_comes_before_those_of_usual_names(tmp_path):
    lines = [f"story {i} of {'rain' if i % 2 else 'sun'},{'ab'[i % 2]}\n" for i in range(40)]
    (tmp_path / "mine.csv").write_text("headline,label\n" + "".join(lines))
    model, path, data, *_ = run(tmp_path, dataset=str(tmp_path / "mine.csv"), method="tfidf", train_size=20)
    kept = export.save(model, data.classes, path, tmp_path / "kept")
    (tmp_path / "new.csv").write_text("headline,body\nmuch rain,text\n")
    (tmp_path / "other.csv").write_text("id,body\n1,much rain\n")
    found = [rows_of(scoring.predict(kept, tmp_path / name))[0] for name in ("new.csv", "other.csv")]
    assert [row["text"] for row in found] == ["much rain"] * 2
    assert (found[0]["label"], found[0]["body"]) == ("b", "text")
    assert "# A linear head trained on mine.csv by tfidf" in (kept / "README.md").read_text()
    for change in (lambda path: path.write_text("a,b,c\n1,2,3\n"), lambda path: path.unlink()):
        change(tmp_path / "mine.csv")  # meanwhile, which costs no model
        again = export.save(model, data.classes, path, tmp_path / "again")
        assert json.loads((again / "lrtl.json").read_text())["found_column"] is None


def test_images_in_a_table_and_rows_without_one(seer, tmp_path):
    images = [np.full((8, 8, 3), shade, dtype=np.uint8) for shade in (20, 200)]
    for name, image in zip("ab", images, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    cells = [{"bytes": (tmp_path / f"{name}.png").read_bytes(), "path": None} for name in "ab"]
    rows = [{"image": cells[0], "n": 1}, {"image": None, "n": 2}, {"image": cells[1], "n": 3}]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "held.parquet")
    (tmp_path / "listed.csv").write_text("picture,n\na.png,1\n,2\nb.png,3\n")
    for name, files in (("held.parquet", ["row 1", "row 3"]), ("listed.csv", ["a.png", "b.png"])):
        with pytest.warns(UserWarning, match="Inputs without an image get no row: 1 of 3"):
            found = rows_of(scoring.predict(seer, tmp_path / name))
        assert [(row["file"], row["n"]) for row in found] == [(files[0], "1"), (files[1], "3")]


def test_a_folder_of_images_in_the_order_of_their_paths(seer, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b.png", "a/c.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("no picture")
    shutil.copytree(tmp_path / "in/a", tmp_path / "in/.hidden")
    (tmp_path / "in/.hidden/link").symlink_to(tmp_path / "in/a")
    answers = rows_of(scoring.predict(seer, tmp_path / "in"))
    assert [row["file"] for row in answers] == ["a/c.jpg", "b.png"]
    assert rows_of(scoring.predict(seer, tmp_path / "in/b.png"))[0] == answers[1]
    assert (tmp_path / "in.predictions.csv").is_file()
    shutil.copytree(tmp_path / "in", tmp_path / "in.2")
    assert scoring.predict(seer, tmp_path / "in.2").name == "in.2.predictions.csv"
    (tmp_path / "list.csv").write_text("id,picture\n1,in/b.png\n2,in/a/c.jpg\n3,in/b.png\n")
    listed = rows_of(scoring.predict(seer, tmp_path / "list.csv"))
    assert [row.pop("file") for row in listed] == ["in/b.png", "in/a/c.jpg", "in/b.png"]
    assert [row["label"] for row in listed] == [answers[at]["label"] for at in (1, 0, 1)]
    assert float(listed[0]["p_0"]) == pytest.approx(float(answers[1]["p_0"]), abs=1e-5)
    shutil.copy(tmp_path / "in/b.png", tmp_path / "in" / os.fsdecode(b"M\xfcller.png"))  # of Latin-1, from an old zip
    named = rows_of(scoring.predict(seer, tmp_path / "in"))
    assert [row.pop("file") for row in named] == ["M\\xfcller.png", "a/c.jpg", "b.png"]
    assert named[0] == named[2]
    for lines in ("id,text\n1,no picture\n", "id,picture\n1,in/gone.png\n2,in/b.png\n"):
        (tmp_path / "list.csv").write_text(lines)
        with pytest.raises(InputError, match=r"list\.csv lists images that exist; name one with --text-column"):
            scoring.predict(seer, tmp_path / "list.csv")


def test_the_picture_that_cannot_be_read_is_named(seer, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"")
    read = Path.read_bytes

    def denied(path):
        if path.suffix == ".png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(InputError, match=r"in/a\.png cannot be read: Permission denied"):
        scoring.predict(seer, tmp_path / "in")


def test_no_cell_begins_a_formula_and_no_number_is_touched(news, tmp_path):
    texts = ["=1+1", "+call me", "-2 stars", "@home", "\ttab", "\rreturn", "-2", "+1.5e3", "plain", "'quoted"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows = rows_of(scoring.predict(news, tmp_path / "in.jsonl"))
    assert [row["text"] for row in rows] == [*(f"'{text}" for text in texts[:6]), *texts[6:]]
    for row in rows:
        assert sum(float(value) for name, value in row.items() if name.startswith("p_")) == pytest.approx(1, abs=1e-5)
    renamed = tmp_path / "renamed"
    shutil.copytree(news, renamed)
    facts = json.loads((renamed / "lrtl.json").read_text())
    (renamed / "lrtl.json").write_text(json.dumps(facts | {"labels": [f"={label}" for label in facts["labels"]]}))
    again = rows_of(scoring.predict(renamed, tmp_path / "in.jsonl", tmp_path / "again.csv"))
    assert [row["label"] for row in again] == [f"'={row['label']}" for row in rows]


def test_no_list_of_tags_begins_a_formula(tagger, tmp_path):
    shutil.copytree(tagger, tmp_path / "renamed")
    facts = json.loads((tagger / "lrtl.json").read_text())
    (tmp_path / "renamed/lrtl.json").write_text(json.dumps(facts | {"labels": [f"={tag}" for tag in facts["labels"]]}))
    (tmp_path / "in.conll").write_text("Ada O\n")
    (row,) = rows_of(scoring.predict(tmp_path / "renamed", tmp_path / "in.conll"))
    assert row["tags"].startswith("'=")


def test_labels_that_are_not_as_many_as_the_scores_are_refused(news, tmp_path):
    (tmp_path / "in.csv").write_text("text\na\n")
    shutil.copytree(news, tmp_path / "kept")
    facts = json.loads((news / "lrtl.json").read_text())
    (tmp_path / "kept/lrtl.json").write_text(json.dumps(facts | {"labels": facts["labels"][1:]}))
    with pytest.raises(InputError, match=r"lrtl\.json has 3 labels for 4 scores"):
        scoring.predict(tmp_path / "kept", tmp_path / "in.csv")


def test_a_temperature_calibrates_the_probabilities_and_changes_no_label(news, tmp_path):
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in filter(None, TEXTS)))
    facts = json.loads((news / "lrtl.json").read_text())
    assert facts["temperature"] is None  # nothing was held out, so the probabilities are as the model has them
    shutil.copytree(news, tmp_path / "kept")
    (tmp_path / "kept/lrtl.json").write_text(json.dumps(facts | {"temperature": 2.0}))
    plain, calibrated = (rows_of(scoring.predict(kept, tmp_path / "in.txt")) for kept in (news, tmp_path / "kept"))
    for before, after in zip(plain, calibrated, strict=True):
        roots = {name: float(share) ** 0.5 for name, share in before.items() if name.startswith("p_")}
        expected = {name: root / sum(roots.values()) for name, root in roots.items()}
        assert {name: float(after[name]) for name in roots} == pytest.approx(expected, abs=1e-5)
        assert before["label"] == after["label"]


def test_a_kept_model_has_the_temperature_of_its_record(tmp_path):
    knobs = {"dataset": "news_sample", "method": "tfidf", "train_size": 40, "validation_share": 0.25, "test_limit": 8}
    model, path, data, *_ = run(tmp_path, **knobs)
    kept = export.save(model, data.classes, path, tmp_path / "kept")
    fitted = json.loads(path.read_text())["model"]["temperature"]
    assert export.load(kept).temperature == fitted > 0
    assert f"divide the logits by the temperature {fitted:.4f}" in (kept / "README.md").read_text()


@pytest.mark.parametrize("facts", ["", "{}", "[]", "null", '{"form": "LinearBag", "kind": "text", "labels": 3}'])
def test_a_folder_without_the_facts_of_a_kept_model_is_refused_in_one_sentence(news, tmp_path, facts):
    (tmp_path / "in.csv").write_text("text\na\n")
    shutil.copytree(news, tmp_path / "kept")
    (tmp_path / "kept/lrtl.json").write_text(facts)
    with pytest.raises(InputError, match=r"is not a folder that .* wrote: it has no valid lrtl\.json") as refused:
        scoring.predict(tmp_path / "kept", tmp_path / "in.csv")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("edited", [{"device": "gpu"}, {"precision": "half"}])
def test_a_device_or_a_precision_that_was_edited_is_refused_in_one_sentence(news, tmp_path, edited):
    shutil.copytree(news, tmp_path / "kept")
    facts = json.loads((news / "lrtl.json").read_text())
    (tmp_path / "kept/lrtl.json").write_text(json.dumps(facts | edited))
    with pytest.raises(InputError, match=r"it has no valid lrtl\.json"):
        export.load(tmp_path / "kept")


@pytest.mark.parametrize("name", ["weights.safetensors", "vocabulary.json"])
def test_a_part_of_a_model_that_is_missing_is_said_in_one_sentence(news, tmp_path, name):
    (tmp_path / "in.csv").write_text("text\na\n")
    shutil.copytree(news, tmp_path / "kept")
    (tmp_path / "kept" / name).unlink()
    with pytest.raises(InputError, match="is not a complete saved model") as refused:
        scoring.predict(tmp_path / "kept", tmp_path / "in.csv")
    assert "\n" not in str(refused.value)


def test_a_model_without_its_tokenizer_predicts_nothing(tagger, tmp_path):
    (tmp_path / "in.txt").write_text("Ada ran\n")
    shutil.copytree(tagger, tmp_path / "kept")
    for path in (*(tmp_path / "kept").glob("token*"), *(tmp_path / "kept").glob("vocab*")):
        path.unlink()
    with pytest.raises(InputError, match="has no tokenizer that can be read"):
        scoring.predict(tmp_path / "kept", tmp_path / "in.txt")


def test_what_cannot_be_scored_is_said_in_a_sentence(news, seer, tmp_path):
    (tmp_path / "two.csv").write_text("first,second\na,b\n")
    (tmp_path / "none.txt").write_text("")
    (tmp_path / "table.txt").write_text("id\tbody\n1\tprices rise\n")
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "words.jsonl").write_text('{"tokens": ["a", "b"]}')
    (tmp_path / "object.jsonl").write_text('{"text": {"a": 1}}')
    datasets.Dataset.from_dict({"text": [b"prices rise"]}).to_parquet(tmp_path / "bytes.parquet")
    (tmp_path / "text.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.txt")
    for model, file, column, said in (
        (news, "absent.csv", None, "There is no file"),
        (news, 300 * "a", None, "There is no file"),
        (news, "pipe.txt", None, "There is no file"),
        (news, "two.csv", None, "--text-column says which"),
        (news, "two.csv", "frist", "did you mean 'first'"),
        (news, "table.txt", "body", "table.txt is not a table; leave the option out"),
        (seer, "text.png", "body", "text.png is not a table; leave the option out"),
        (news, "none.txt", None, "has no inputs to predict"),
        (news, "none.jsonl", None, "has no inputs to predict"),
        (
            news,
            "words.jsonl",
            None,
            r"words.jsonl, row 1 has \['a', 'b'\] where a text is expected; store the texts as",
        ),
        (news, "bytes.parquet", None, "b'prices rise' where a text is expected"),
        (news, "object.jsonl", None, "has an object, "),
        (news, ".", None, "is a folder"),
        (seer, "text.png", None, "text.png cannot be decoded: it is none of PNG"),
    ):
        with pytest.raises(InputError, match=said):
            scoring.predict(model, tmp_path / file, tmp_path / "out.csv", column)
    with pytest.raises(InputError, match="cannot be written to"):
        scoring.predict(news, tmp_path / "two.csv", tmp_path / "two.csv")
    (tmp_path / "one.txt").write_text("prices rise")
    with pytest.raises(InputError, match="holds the model, so the answers cannot be written there"):
        scoring.predict(news, tmp_path / "one.txt", news / "model.safetensors")
    (tmp_path / "gold.csv").write_text("text,label\nprices rise,Business\n")
    with pytest.raises(InputError, match=r"gold.csv holds no answers, so it is not overwritten"):
        scoring.predict(news, tmp_path / "one.txt", tmp_path / "gold.csv")
    (tmp_path / "quoted.csv").write_text('text,label,"p_Arts, Culture"\nprices rise,Business,0.1\n')
    scoring.predict(news, tmp_path / "one.txt", tmp_path / "quoted.csv")  # answers of a model with such a class
    with pytest.raises(InputError, match=r"so .*out.parquet must end in .csv"):
        scoring.predict(news, tmp_path / "one.txt", tmp_path / "out.parquet")
    (tmp_path / "tagged.conll").write_text("Ada B-PER\nsleeps O\n")
    with pytest.raises(InputError, match=r"tagged.conll has tagged sentences, but this model reads texts"):
        scoring.predict(news, tmp_path / "tagged.conll", tmp_path / "out.csv")
    for _ in range(2):  # answers may be replaced by others
        scoring.predict(news, tmp_path / "one.txt", tmp_path / "out.csv")
    shutil.copytree(news, tmp_path / "kept")
    (tmp_path / "kept/one.txt").write_text("prices rise")
    with pytest.raises(InputError, match="name a file elsewhere with --output"):
        scoring.predict(tmp_path / "kept", tmp_path / "kept/one.txt")


def test_predict_prints_the_path_of_its_csv(news, tmp_path, call):
    (tmp_path / "in.csv").write_text("text,label\nShares fell today.,?\n")
    done = call("predict", news, tmp_path / "in.csv")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'in.predictions.csv'}\n"), done.stderr
    assert rows_of(tmp_path / "in.predictions.csv")[0]["label"] == "Business"


def test_predict_reads_the_column_and_writes_the_file_that_are_named(news, tmp_path, call):
    (tmp_path / "in.csv").write_text("first,second\nA late goal won the match.,Shares fell today.\n")
    done = call("predict", news, tmp_path / "in.csv", "--output", tmp_path / "out.csv", "--text-column", "second")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'out.csv'}\n"), done.stderr
    assert rows_of(tmp_path / "out.csv")[0]["label"] == "Business"
