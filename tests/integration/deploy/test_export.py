"""A kept model is the same in a fresh process, with this project and without it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from complete import call
from huggingface_hub import ModelCard
from safetensors.numpy import load_file
from synthetic import outcomes, write_run
from whole_run import run

from lrtl_utils.deploy import card, export
from lrtl_utils.errors import InputError
from lrtl_utils.files import ROOT
from lrtl_utils.methods import VERSIONS
from lrtl_utils.methods import loop as training
from lrtl_utils.models.own import PARTIAL

FP32 = {"precision": "fp32"}  # as the libraries compute; a CPU with tiles would take bf16 here
SHORT = {"max_length": 16, "test_limit": 12, **FP32}
TEXT = {"dataset": "news_sample", "train_size": 16, **SHORT}
TOKENS = {"dataset": "entities_sample", "train_size": 16, "epochs": 1, **SHORT}
IMAGE = {"dataset": "digits", "train_size": 20, "image_size": 32, "test_limit": 12, **FP32}
CASES = {
    "probe": {"model": "minilm", "method": "linear_probe", "layers": 1, **TEXT},
    "ladder": {"model": "bert_base", "method": "progressive", "without": "tail", "layers": 1, **TEXT},
    "both_ends": {"model": "bert_base", "method": "progressive", "layers": 1, **TEXT, "precision": "bf16"},
    "full": {"model": "roberta_base", "method": "full", "epochs": 1, **TEXT},
    "own_head": {"model": "distilbert", "method": "conventional", "epochs": 1, **TEXT},
    "lora": {"model": "bert_base", "method": "lora", "epochs": 2, **TEXT},
    "softmax": {"model": "roberta_base", "method": "full", "word_shape": False, **TOKENS},
    "crf": {"model": "bert_crf", "method": "full", "word_shape": False, **TOKENS},
    "layers": {"model": "minilm", "method": "linear_probe", **TEXT},
    "shapes": {"model": "bert_crf", "method": "full", "layers": 2, "word_shape": True, **TOKENS},
    "stages": {"model": "efficientnet_lite0", "method": "linear_probe", "layers": 3, **IMAGE},
    # Images are resized in another way there, which a head that is less sure hardly notices.
    "image": {"model": "efficientnet_lite0", "method": "linear_probe", "layers": 1, "penalty": 300.0, **IMAGE},
    "image_lora": {"model": "efficientnet_lite0", "method": "lora", "epochs": 1, "layers": 1, **IMAGE},
    "tfidf": {"method": "tfidf", "dataset": "news_sample", "train_size": 16, "test_limit": 12},
    "bag": {"model": "simple_nn", "method": "from_scratch", "epochs": 2, **TEXT},
    "pixels": {"model": "simple_nn", "method": "from_scratch", "epochs": 2, **IMAGE},
}
WITHOUT_US = [
    name for name in CASES if name not in {"both_ends", "layers", "shapes", "stages", "tfidf", "bag", "pixels"}
]


@pytest.fixture(scope="module")
def kept(mirror, tmp_path_factory):
    """Every case's model, kept; by case the answers of the model before it was kept, and after."""
    folder = tmp_path_factory.mktemp("kept")
    found = {}
    for name, knobs in CASES.items():
        model, path, data, test, config, before = run(folder / "results", **knobs)
        assert export.save(model, data.classes, path, folder / name) == folder / name
        found[name] = before, training.predict(model, test, config), test
        inputs = test.inputs if data.kind != "image" else [image.tolist() for image in test.inputs]
        (folder / f"{name}.json").write_text(json.dumps(inputs))
    return folder, found


@pytest.fixture(scope="module")
def fresh(kept):
    """Answers of all kept models, as a fresh process gives them from the folders alone."""
    folder, _ = kept
    return answers_of("from_folder", folder, CASES, LRTL_MIRROR="/nowhere")


@pytest.fixture(scope="module")
def without_us(kept):
    """Answers by transformers, timm and safetensors in a process that cannot import this project."""
    folder, _ = kept
    return answers_of("without_project", folder, WITHOUT_US)


def answers_of(script, folder, names, **environment):
    command = [sys.executable, str(ROOT / "tests" / "support" / f"{script}.py"), str(folder), *names]
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_file(folder / f"{script}.safetensors")


def flat(prediction):
    """All logits of an answer, [rows, classes]."""
    return np.concatenate([np.atleast_2d(rows) for rows in prediction.scores])


def test_a_model_with_a_head_of_another_form_is_refused_and_nothing_is_left(tmp_path):
    model, path, data, *_ = run(tmp_path / "results", **CASES["probe"])
    width = model.head[-1].in_features
    model.head = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(width, width), torch.nn.ReLU(), model.head[-1])
    with pytest.raises(InputError, match=r"4 tensors would be lost, such as head\.3\.bias; the saved form has no"):
        export.save(model, data.classes, path, tmp_path / "kept")
    assert [each.name for each in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("name", CASES)
def test_a_kept_model_is_the_same_bit_for_bit_in_a_fresh_process(name, kept, fresh):
    before, after, _ = kept[1][name]
    assert fresh[f"{name}.scores"].tobytes() == flat(after).tobytes()
    assert fresh[f"{name}.predicted"].tolist() == [tag for row in after.predicted for tag in np.atleast_1d(row)]
    assert before.predicted == after.predicted
    if "lora" in name:  # merged weights are summed in another order
        np.testing.assert_allclose(flat(before), flat(after), atol=1e-4)
    else:
        assert flat(before).tobytes() == flat(after).tobytes()


def test_a_model_kept_before_long_texts_had_a_tail_still_loads(kept, tmp_path):
    facts = json.loads((kept[0] / "probe" / export.KEPT_FILE).read_text())
    shutil.copytree(kept[0] / "probe", tmp_path / "older")
    older = {name: value for name, value in facts.items() if name != "tail"}
    (tmp_path / "older" / export.KEPT_FILE).write_text(json.dumps(older))
    assert export.load(tmp_path / "older").model.reader.tail == 0


def test_an_own_head_of_other_classes_is_refused_and_not_made_anew(kept, tmp_path):
    folder = shutil.copytree(kept[0] / "own_head", tmp_path / "kept")
    facts = json.loads((folder / export.KEPT_FILE).read_text())
    (folder / export.KEPT_FILE).write_text(json.dumps(facts | {"labels": facts["labels"][1:]}))
    with pytest.raises(InputError, match=r"lrtl\.json has 3 labels for 4 scores"):
        export.load(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_US)
def test_a_kept_model_works_without_this_project(name, kept, without_us):
    _, after, _ = kept[1][name]
    np.testing.assert_allclose(without_us[name], flat(after), atol=0.05 if "image" in name else 1e-4)
    assert without_us[name].argmax(1).tolist() == flat(after).argmax(1).tolist()


def test_weights_are_safetensors_only_and_readable_by_all(kept):
    folder, _ = kept
    for name in CASES:
        files = [path for path in (folder / name).rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".txt"}
        assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o644"}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_sentence_transformers_gives_the_logits(kept):
    from sentence_transformers import SentenceTransformer

    folder, found = kept
    for name in ("probe", "ladder", "full", "lora"):
        given = SentenceTransformer(str(folder / name)).encode(json.loads((folder / f"{name}.json").read_text()))
        np.testing.assert_allclose(given, flat(found[name][1]), atol=1e-4)


def test_the_libraries_cut_texts_where_the_model_does_and_the_card_says_what_they_do_not_read(kept):
    folder, _ = kept
    for name in ("own_head", "ladder"):
        facts = json.loads((folder / name / export.KEPT_FILE).read_text())
        tokenizer = json.loads((folder / name / "tokenizer_config.json").read_text())
        assert tokenizer["model_max_length"] == facts["max_length"]
    cards = {name: (folder / name / "README.md").read_text() for name in ("own_head", "crf", "ladder", "both_ends")}
    assert '("a text", truncation=True)' in cards["own_head"]
    assert '("a text")' in cards["crf"]
    assert [name for name in cards if "this code reads only the beginning" in cards[name]] == ["both_ends"]


def test_the_card_states_data_protocol_scores_and_cost(kept):
    folder, _ = kept
    text, record = (folder / "crf/README.md").read_text(), json.loads((folder / "crf/record.json").read_text())
    header = ModelCard(text).data
    assert (header.pipeline_tag, header.library_name) == ("token-classification", "transformers")
    assert header.license is None  # nobody has said on what terms the new weights may be used
    assert header.base_model == "google-bert/bert-base-cased"
    assert {result.metric_type: result.metric_value for result in header.eval_results}["f1"] == pytest.approx(
        record["metrics"]["f1"], abs=5e-5
    )
    for stated in ("`B-PER`", '"method": "full"', f"{record['metrics']['f1']:.4f}", "device seconds", record["run_id"]):
        assert stated in text
    assert "16 labelled examples" in text
    assert "whose transitions are in crf.safetensors" in text
    assert "fewer than 3 seeds were run" in text


def test_a_model_of_ones_own_that_has_the_name_of_another_is_not_taken_for_it(kept):
    folder, _ = kept
    record, facts = (json.loads((folder / "probe" / name).read_text()) for name in ("record.json", "lrtl.json"))
    assert ModelCard(card.card(record, [record], facts)).data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    own = {**record, "model": record["model"] | {"source": record["model"]["source"] | {"kind": "folder"}}}
    assert ModelCard(card.card(own, [own], facts)).data.base_model is None


def test_the_card_of_random_weights_names_no_base_model(kept):
    folder, _ = kept
    record, facts = (json.loads((folder / "probe" / name).read_text()) for name in ("record.json", "lrtl.json"))
    fresh = record | {"config": record["config"] | {"method": "from_scratch"}}
    text = card.card(fresh, [fresh], facts)
    assert ModelCard(text).data.base_model is None
    assert "# minilm trained on news_sample by from_scratch" in text
    assert "There are no pre-trained weights. " in text


def test_a_limit_that_is_beyond_the_test_split_makes_no_smoke_run(kept):
    record, facts = (json.loads((kept[0] / "probe" / name).read_text()) for name in ("record.json", "lrtl.json"))
    assert "Only 12 test examples were used: a smoke run" in card.card(record, [record], facts)
    whole = record | {"config": record["config"] | {"test_limit": 10**6}}
    assert "a smoke run" not in card.card(whole, [whole], facts)


def test_three_seeds_of_one_version_of_the_method_give_the_card_an_interval(tmp_path, monkeypatch):
    knobs = {"method": "tfidf", "train_size": 16, "dataset": "news_sample"}
    for seed in (1, 2, 0):
        model, path, data, *_ = run(tmp_path, seed=seed, **knobs)
    export.save(model, data.classes, path, tmp_path / "kept")
    assert "Over 3 seeds, the 95% interval of accuracy is [0." in (tmp_path / "kept/README.md").read_text()
    monkeypatch.setitem(VERSIONS, "tfidf", VERSIONS["tfidf"] + 1)
    model, path, data, *_ = run(tmp_path, seed=0, **knobs)
    export.save(model, data.classes, path, tmp_path / "kept")
    assert "There is no interval" in (tmp_path / "kept/README.md").read_text()


def test_what_is_not_ours_is_never_written_over(tmp_path, kept):
    folder, _ = kept
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for place in ("thesis", "file"):
        with pytest.raises(InputError, match="is not a model that this project saved"):
            export.check(tmp_path / place)
    assert export.check(folder / "probe") == folder / "probe"
    mine = shutil.copytree(folder / "probe", tmp_path / "mine")
    (mine / "model.onnx").write_bytes(b"of the model that is replaced")
    (mine / f"{PARTIAL}abc").mkdir()  # of an export that was killed
    assert export.check(mine) == mine
    (mine / "reviews.csv").write_text("text,label\n")
    with pytest.raises(
        InputError, match=r"mine has 'reviews\.csv', which is no part of the model there and would be lost"
    ):
        export.check(mine)
    facts = json.loads((mine / export.KEPT_FILE).read_text())
    facts.pop("files")  # of a version that did not list them
    (mine / export.KEPT_FILE).write_text(json.dumps(facts))
    assert export.check(mine) == mine
    assert export.check(tmp_path / "new/er") == tmp_path / "new/er"


def test_a_folder_that_could_not_be_replaced_is_refused_before_a_run():
    with pytest.raises(InputError, match="/proc is where a volume is mounted, so it cannot be replaced"):
        export.check("/proc")
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as around:
        (Path(around) / "mine").mkdir()
        os.chmod(around, 0o555)
        try:
            os.seteuid(user or 65534)  # root may write everywhere
            with pytest.raises(InputError, match=f"No file can be written in the folder {around}"):
                export.check(f"{around}/mine")
        finally:
            os.seteuid(user)


def test_a_save_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    model, path, data, *_ = run(tmp_path, method="tfidf", train_size=16, dataset="news_sample")
    export.save(model, data.classes, path, tmp_path / "kept")
    before = {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()}
    monkeypatch.setattr(export.card, "card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export.save(model, data.classes, path, tmp_path / "kept")
    assert {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()} == before
    assert sorted(found.name for found in tmp_path.iterdir()) == ["kept", "runs"]
    monkeypatch.undo()
    rename = os.rename

    def fails(source, target):
        if Path(target) == tmp_path / "kept" and not str(source).endswith(".old"):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="Input/output error"):
        export.save(model, data.classes, path, tmp_path / "kept")
    assert {file.name: file.read_bytes() for file in (tmp_path / "kept").iterdir()} == before
    assert sorted(found.name for found in tmp_path.iterdir()) == ["kept", "runs"]


def test_a_link_stays_and_the_model_lies_where_it_leads(tmp_path):
    model, path, data, *_ = run(tmp_path / "results", method="tfidf", train_size=16, dataset="news_sample")
    (tmp_path / "link").symlink_to(tmp_path / "disk/model")
    for _ in range(2):  # at first it leads nowhere
        assert export.save(model, data.classes, path, tmp_path / "link") == tmp_path / "disk/model"
    assert (tmp_path / "link").is_symlink()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["disk", "link", "results"]
    assert [found.name for found in (tmp_path / "disk").iterdir()] == ["model"]


@pytest.mark.slow
def test_run_keeps_its_model_and_a_done_run_keeps_its_record(tmp_path):
    words = ["run", "text_classification", "-p", "method=tfidf", "-p", "train_size=16", "--results", tmp_path / "r"]
    first = call(*words)
    path = Path(first.stdout.splitlines()[-1])
    before = path.read_bytes()
    again = call(*words, "-p", f"save_model={tmp_path / 'kept'}")
    # Jupyter interrupts a kernel before it shuts it down, and one that is not idle yet says so, in lines of its own.
    (said,) = (line for line in again.stderr.splitlines() if line.startswith("accuracy"))
    assert (again.returncode, again.stdout) == (0, first.stdout)
    unused = call(*words, "-p", "epochs=3", "-p", "image_size=64")
    assert unused.stdout == first.stdout
    assert [line for line in unused.stderr.splitlines() if line.startswith("warning")] == [
        f"warning: {given} has no effect on this run." for given in ("epochs=3", "image_size=64")
    ]
    assert re.fullmatch(r"accuracy 0\.\d{3} with 16 labels and 131 test examples, in \S+ device seconds", said)
    assert path.read_bytes() == before
    assert export.load(tmp_path / "kept").classes == ("World", "Sports", "Business", "Sci/Tech")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("")
    refused = call(*words, "--save-model", tmp_path / "other")
    assert refused.returncode == 2
    assert "so it is not overwritten" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_run_done_again_is_remarked_on_only_where_other_examples_are_right(tmp_path):
    path = write_run(tmp_path / "r", outcomes(0.9, 32, 0), dataset="sst2", model="minilm", method="full", train_size=32)
    record = json.loads(path.read_text())
    (tmp_path / "record.json").write_text(json.dumps(record | {"metrics": record["metrics"] | {"loss": 0.125}}))
    assert export.differs(tmp_path, path) is None
    other = write_run(
        tmp_path / "s", outcomes(0.1, 32, 0), dataset="sst2", model="minilm", method="full", train_size=32
    )
    (tmp_path / "record.json").write_text(other.read_text())
    assert export.differs(tmp_path, path).startswith("This run had a record already")
