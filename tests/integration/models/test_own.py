"""Models of a user's own: by folder and by hub id, of architectures that this project has no line for."""

import csv
import json
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from checkpoints import OWN_IMAGE, OWN_TEXT, WIDTH, write_own_image_model, write_own_text_model
from safetensors.torch import load_file, save_file
from whole_run import run

from lrtl_utils.config import read_config
from lrtl_utils.data import load as tasks
from lrtl_utils.data.hub import MANIFEST, Manifest, sums
from lrtl_utils.data.splits import Examples
from lrtl_utils.deploy import export
from lrtl_utils.deploy import predict as scoring
from lrtl_utils.errors import InputError
from lrtl_utils.methods import loop as training
from lrtl_utils.models.build import describe
from lrtl_utils.models.catalog import LOADED, backbone, find
from lrtl_utils.runs import run as methods
from lrtl_utils.runs import store as runs
from lrtl_utils.runs.run import Run
from lrtl_utils.sweep import price

SMALL = {"train_size": 16, "max_length": 16, "test_limit": 8, "epochs": 1}
TEXT = {"dataset": "news_sample", **SMALL}
TOKENS = {"dataset": "entities_sample", **SMALL}
IMAGE = {"dataset": "digits", "train_size": 20, "image_size": 32, "test_limit": 8, "epochs": 1}
LISTED = [kind for kind in OWN_TEXT if kind != "gpt2"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of models, laid out as a mirror's too."""
    folder = tmp_path_factory.mktemp("own") / "models"
    for kind in OWN_TEXT:
        write_own_text_model(folder / "acme" / kind, kind)
    for name in OWN_IMAGE:
        write_own_image_model(folder / "timm" / name, name)
    return folder


def test_weights_that_are_not_in_the_file_are_refused_and_not_random(own, tmp_path):
    folder = shutil.copytree(own / "acme" / "distilbert", tmp_path / "lacking")
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if ".layer.1." not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    for method in ("conventional", "full"):
        with pytest.raises(InputError, match=r"lacks \d+ of the weights that its config.json describes, such as "):
            build(folder, method=method, **TEXT)


def test_a_classifier_of_other_classes_gives_its_backbone_and_gets_a_new_head(own, tmp_path):
    model, path, data, *_ = run(tmp_path, model=str(own / "acme/bert"), method="conventional", **TEXT)
    kept = export.save(model, data.classes, path, tmp_path / "kept")
    named = ({"dataset": name} for name in ("reviews_sample", "news_sample"))
    other, same = (build(kept, method="conventional", **TEXT | data)[0] for data in named)
    assert (other.net.config.num_labels, other.net.classifier.out_features) == (2, 2)
    for again in (other, same):
        pairs = zip(again.net.base_model.parameters(), model.net.base_model.parameters(), strict=True)
        assert all(torch.equal(one, before) for one, before in pairs)
    assert torch.equal(same.net.classifier.weight, model.net.classifier.weight)
    changed = json.loads((kept / "config.json").read_text()) | {"intermediate_size": 16}
    (kept / "config.json").write_text(json.dumps(changed))
    for method in ("conventional", "full"):
        with pytest.raises(InputError, match=r"lacks 9 of the weights that its config.json describes"):
            build(kept, method=method, **TEXT)


@pytest.mark.parametrize("known", [{"eos_token": "[SEP]"}, {}], ids=["pads with its end", "has neither"])
def test_a_tokenizer_that_adds_no_tokens_reads_batches_and_empty_texts(known, own, tmp_path):
    folder = shutil.copytree(own / "acme/gpt2", tmp_path / "gpt2")
    plain = json.loads((folder / "tokenizer.json").read_text()) | {"post_processor": None}
    (folder / "tokenizer.json").write_text(json.dumps(plain))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | known))
    with pytest.warns(UserWarning, match="its blocks cannot be found"):
        model, path, data, *_ = run(tmp_path, model=str(folder), method="conventional", **TEXT)
    kept = export.save(model, data.classes, path, tmp_path / "kept")
    (tmp_path / "in.csv").write_text("id,text\n1,prices rise\n2,\n")
    with pytest.warns(UserWarning, match="Empty inputs get no label: 1 of 2"):
        answers = scoring.predict(kept, tmp_path / "in.csv")
    with answers.open(newline="") as stream:
        assert [bool(row["label"]) for row in csv.DictReader(stream)] == [True, False]


def test_a_tokenizer_that_tells_no_words_apart_gives_no_tagger(own, tmp_path):
    """Those that are written in Python read texts alone."""
    folder = shutil.copytree(own / "acme/bert", tmp_path / "pho")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PhobertTokenizer"}')
    (folder / "vocab.txt").write_text("".join(f"{letter}@@ 1\n{letter} 1\n" for letter in "abcdefghijklm"))
    (folder / "bpe.codes").write_text("a b 1\n")
    assert len(build(folder, method="full", **TEXT)[0].blocks) == 4
    with pytest.raises(InputError, match="does not say which word a token is of, so no tagger can use it"):
        build(folder, method="full", **TOKENS)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_that_needs_sentencepiece_says_so(own, tmp_path):
    folder = shutil.copytree(own / "acme/deberta-v2", tmp_path / "deberta")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "spm.model").write_bytes(b"pieces")
    with pytest.raises(InputError, match=r"deberta needs `pip install sentencepiece`\.$"):
        build(folder, method="full", **TEXT)


def build(name, **knobs):
    asked = read_config({"model": str(name), **knobs})
    data = tasks.load(asked.dataset)
    config = methods.resolve(asked, data)
    weights = methods.find_weights(config)
    return methods.build(config, data, weights), data, config, weights


@pytest.mark.parametrize("kind", LISTED)
def test_an_architecture_of_layers_has_its_blocks(kind, own):
    model, _, config, weights = build(own / "acme" / kind, method="full", **TEXT)
    assert len(model.blocks) == (2 if kind == "albert" else 4)  # ALBERT has one layer, run over and over
    assert "note" not in describe(model, weights)
    assert backbone(config.model).width == model.head[-1].in_features == WIDTH
    assert model.reader.limit == {"roberta": 64, "mpnet": 64}.get(kind, 512)
    inside = {id(weight) for block in model.blocks for weight in block.parameters()}
    outside = [name for name, weight in model.backbone.named_parameters() if id(weight) not in inside]
    assert all("embed" in name or "relative" in name for name in outside)


@pytest.mark.parametrize("kind", [kind for kind in OWN_TEXT if kind not in {"albert", "gpt2"}])
def test_a_head_reads_several_layers_of_it(kind, own):
    model, *_ = build(own / "acme" / kind, method="full", **TEXT, layers=3)
    assert model.head[-1].in_features == 3 * WIDTH
    batch = model.reader.batch(model.reader.encode(["a film", "the minister said so"], [0, 1]), np.arange(2))
    mask = batch["mask"].unsqueeze(-1)
    with torch.no_grad():
        found, net = model.eval().features(batch), model.backbone
        hidden = net(input_ids=batch["ids"], attention_mask=batch["mask"], output_hidden_states=True).hidden_states
    expected = [(each * mask).sum(1) / mask.sum(1) for each in hidden[:-4:-1]]
    torch.testing.assert_close(found, torch.cat(expected, 1), atol=1e-6, rtol=0)
    with pytest.raises(InputError, match=r"^layers=4 is too many: model .* has 3 above"):
        build(own / "acme" / kind, method="full", **TEXT, layers=4)


@pytest.mark.parametrize("kind", LISTED)
def test_blocks_stand_still_while_those_above_are_trained(kind, own, tmp_path):
    model, path, *_ = run(
        tmp_path, model=str(own / "acme" / kind), method="progressive", **TEXT | {"train_size": 40}, without="soften"
    )
    record = runs.read(path)
    assert record["curve"][-1]["rung"] == 1
    untouched, *_ = build(own / "acme" / kind, method="full", **TEXT)
    same = [
        all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        for one, other in zip(model.blocks, untouched.blocks, strict=True)
    ]
    trained = record["curve"][-1]["trained_blocks"]
    assert same == [True] * (len(same) - trained) + [False] * trained


@pytest.mark.parametrize("method", ["linear_probe", "full", "lora", "conventional", "from_scratch"])
def test_an_architecture_without_known_blocks_does_what_needs_none(method, own, tmp_path):
    with pytest.warns(UserWarning, match="its blocks cannot be found"):
        _, path, *_ = run(tmp_path, model=str(own / "acme/gpt2"), method=method, **TEXT)
    record = runs.read(path)
    assert "cannot be found" in record["model"]["note"]
    assert record["model"]["source"]["id"] == "gpt2"


def test_the_padding_of_the_tokenizer_is_that_of_the_model(own, tmp_path):
    folder = shutil.copytree(own / "acme/gpt2", tmp_path / "gpt2")
    for given in (None, 3):
        config = json.loads((folder / "config.json").read_text()) | {"pad_token_id": given}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.warns(UserWarning, match="its blocks cannot be found"):
            model, *_ = build(folder, method="conventional", **TEXT)
        texts, cpu = ["a film", "a film that is a good deal longer than that"], read_config({"device": "cpu"})
        (alone, *_), (beside, *_) = (
            training.predict(model, Examples(each, np.zeros(len(each), int), np.arange(len(each))), cpu).scores
            for each in (texts[:1], texts)
        )
        np.testing.assert_allclose(alone, beside, atol=1e-6)


@pytest.mark.parametrize("method", ["progressive", "lp_ft", "bitfit"])
def test_what_needs_blocks_refuses_an_architecture_without(method, own):
    with pytest.raises(InputError, match=r"cannot be found.*full, linear_probe, lora"):
        build(own / "acme/gpt2", method=method, **TEXT)


def test_taggers_are_built_of_any_text_model(own, tmp_path):
    for kind in ("deberta-v2", "gpt2"):
        place = str(own / "acme" / kind)
        model, path, data, test, _, before = run(tmp_path, model=place, method="full", **TOKENS)
        export.save(model, data.classes, path, tmp_path / kind)
        kept = export.load(tmp_path / kind)
        assert training.predict(kept.model, test, kept.config).predicted == before.predicted


@pytest.mark.parametrize("name", OWN_IMAGE)
def test_any_timm_model_is_an_image_model(name, own, tmp_path):
    model, path, data, test, _, before = run(
        tmp_path, model=str(own / "timm" / name), method="progressive", **IMAGE, without="cache"
    )
    assert len(model.blocks) > 3
    inside = {id(weight) for block in model.blocks for weight in block.parameters()}
    outside = [name for name, weight in model.backbone.named_parameters() if id(weight) not in inside]
    assert all(name.startswith(("head.", "norm", "conv_head")) for name in outside)
    export.save(model, data.classes, path, tmp_path / "kept")
    kept = export.load(tmp_path / "kept")
    again = training.predict(kept.model, test, kept.config)
    assert np.array_equal(np.stack(again.scores), np.stack(before.scores))
    stated = "".join((tmp_path / "kept" / file).read_text() for file in ("README.md", "record.json", "lrtl.json"))
    assert name in stated
    assert str(own) not in stated  # what may be handed on names no place of this machine,
    assert "./../" not in stated  # nor one as it is seen from the record


@pytest.mark.parametrize(
    "name", [*OWN_IMAGE[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in OWN_IMAGE[2:])]
)
def test_an_image_model_s_lowest_blocks_run_once(name, own, tmp_path):
    """With a cache and without it a trained rung gives the same model, and the cache costs less."""
    scores, flops = [], []
    for without in ("buckets", "buckets,cache"):
        knobs = {**IMAGE, "train_size": 64, "without": without}
        *_, path, _, _, _, prediction = run(tmp_path, model=str(own / "timm" / name), method="progressive", **knobs)
        scores.append(np.stack(prediction.scores))
        flops.append(runs.read(path)["cost"]["flops"])
    np.testing.assert_allclose(*scores, atol=1e-3)
    assert flops[0] < flops[1]


def test_the_longest_text_fits_although_a_batch_is_padded(own, tmp_path):
    """A batch is padded to a multiple of eight, which must not be more than the positions of the model."""
    write_own_text_model(tmp_path / "bert", "bert", max_position_embeddings=30)
    model, *_ = build(tmp_path / "bert", method="full", **TEXT)
    long = Examples(["a film and another film " * 20], [0], np.arange(1))
    batch = model.reader.batch(training.encode_training(model, long, None), np.arange(1))
    assert batch["ids"].shape == (1, 24)
    assert torch.isfinite(model.eval()(batch)).all()


def test_a_run_s_id_follows_what_is_loaded_and_not_its_place(own, tmp_path):
    """The configuration and the tokenizer are loaded as the weights are."""
    for name in ("moved", "config", "tokenizer"):
        shutil.copytree(own / "acme/bert", tmp_path / name / "bert")
    config, tokenizer = tmp_path / "config/bert/config.json", tmp_path / "tokenizer/bert/tokenizer.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_act": "relu"}))
    tokenizer.write_text(tokenizer.read_text() + " ")
    places = [own / "acme/bert", *(tmp_path / name / "bert" for name in ("moved", "config", "tokenizer"))]
    ids = [Run(model=str(place), method="linear_probe", **TEXT).id for place in [*places, own / "acme/electra"]]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


def test_a_hub_id_is_read_from_the_mirror(own, monkeypatch):
    monkeypatch.setenv("LRTL_MIRROR", str(own.parent))
    *_, weights = build("acme/electra", method="linear_probe", **TEXT)
    assert (weights.kind, weights.id) == ("mirror", "acme/electra")
    with pytest.warns(UserWarning, match="timm/resnet18@main is read from .*; no manifest gives the revision"):
        *_, weights = build("timm/resnet18@main", method="linear_probe", **IMAGE)
    assert (weights.kind, weights.id, weights.revision) == ("mirror", "timm/resnet18", None)


def test_a_revision_that_the_mirror_does_not_hold_is_refused(own, tmp_path, monkeypatch):
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path))
    shutil.copytree(own / "acme/bert", tmp_path / "models/acme/bert")
    held, other = "a" * 40, "b" * 40
    locked = sums(tmp_path / "models/acme/bert", held)
    (tmp_path / MANIFEST).write_text(Manifest(repositories={"models/acme/bert": locked}).model_dump_json())
    assert find(f"acme/bert@{held}").revision == find("acme/bert").revision == held
    with pytest.raises(InputError, match=f"holds revision {held}, but revision {other} is needed") as refused:
        find(f"acme/bert@{other}")
    assert "\n" not in str(refused.value)


def test_what_would_be_loaded_but_is_in_no_manifest_is_refused(own, tmp_path, monkeypatch):
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path))
    folder = shutil.copytree(own / "acme/bert", tmp_path / "models/acme/bert")
    locked = sums(folder, "a" * 40)
    (tmp_path / MANIFEST).write_text(Manifest(repositories={"models/acme/bert": locked}).model_dump_json())
    (folder / "README.md").write_text("Not loaded.")
    assert find("acme/bert").revision == "a" * 40
    (folder / "added_tokens.json").write_text('{"Ada": 5}')
    with pytest.raises(InputError, match=r"added_tokens\.json is not in the manifest of the mirror; move it away\."):
        find("acme/bert")


def test_a_folder_with_an_adapter_is_refused(own, tmp_path):
    """The library would load the adapter into the backbone, unnoticed and beside the checksum."""
    shutil.copytree(own / "acme/bert", tmp_path / "bert")
    (tmp_path / "bert/adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="belongs to an adapter: merge it") as refused:
        Run(model=str(tmp_path / "bert"), method="full", **TEXT)
    assert "\n" not in str(refused.value)


def test_the_checksum_of_a_model_covers_every_file_that_a_tokenizer_reads():
    modules = (Path(transformers.__file__).parent / "models").glob("*/tokenization*.py")
    tables = [
        found for path in modules for found in re.findall(r"VOCAB_FILES_NAMES = \{(.*?)\}", path.read_text(), re.S)
    ]
    names = {name for table in tables for name in re.findall(r': "(.+?)"', table)}
    assert {"vocab.txt", "bpe.codes"} <= names <= {*LOADED}


class Boom:
    def __reduce__(self):
        return os.mkdir, ("boom",)


def test_what_cannot_or_must_not_be_loaded_is_refused_by_name(own, tmp_path, monkeypatch):
    monkeypatch.setenv("LRTL_MIRROR", str(own.parent))
    monkeypatch.chdir(tmp_path)

    def changed(name, **config):
        folder = tmp_path / name
        write_own_text_model(folder, "bert")
        written = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(written | config))
        return folder

    remote = changed("remote", auto_map={"AutoModel": "modeling_evil.Model"})
    unknown = changed("unknown", model_type="no_such_architecture")
    narrow = changed("narrow", hidden_size=None)
    pickled = changed("pickled")
    tensors = {name: weight.clone() for name, weight in load_file(pickled / "model.safetensors").items()}
    (pickled / "model.safetensors").unlink()
    torch.save({"weight": Boom()}, pickled / "pytorch_model.bin")
    bare = changed("bare")
    (bare / "model.safetensors").unlink()
    for name, said in (
        (remote, "asks to run code"),
        (unknown, "no_such_architecture"),
        (narrow, "must give the model's architecture"),
        (pickled, "pytorch_model.bin is a pickle that would call"),
        (bare, "no weights that can be read"),
        (tmp_path / "nowhere", "There is no folder"),
        ("acme/nothing", "is not on this machine"),
        ("bert_bas", "did you mean 'bert_base'"),
        ("bare", r"the folder of that name is \./bare\."),
    ):
        with pytest.raises(InputError, match=said) as error:
            build(name, method="linear_probe", **TEXT)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "boom").exists()
    torch.save(tensors, pickled / "pytorch_model.bin")  # tensors alone may lie in a pickle
    assert len(build(pickled, method="full", **TEXT)[0].blocks) == 4
    with pytest.raises(InputError, match="does not read image"):
        Run(model=str(own / "acme/bert"), method="full", **IMAGE)


def test_a_dry_run_prices_what_runs_without_values(own):
    def flops(place, **knobs):
        return price.load(Run.outline(read_config({"model": str(place), "method": "full", **knobs})).config).flops

    assert flops(own / "acme/electra", **TEXT) > 0
    assert flops(own / "timm/vit_tiny_patch16_224", **IMAGE) > 0
    with pytest.raises(InputError, match=r"deberta-v2.*cannot be counted without weights"):
        flops(own / "acme/deberta-v2", **TEXT)
