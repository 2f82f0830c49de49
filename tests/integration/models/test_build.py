"""Every model and data set by name, as they come off a mirror or out of a package."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from checkpoints import LAYERS, WIDTH
from safetensors.torch import load_file
from sklearn.datasets import load_sample_image

from lrtl_utils.config import RunConfig
from lrtl_utils.errors import InputError
from lrtl_utils.models import catalog
from lrtl_utils.models.build import build, build_tfidf
from lrtl_utils.models.network import find_blocks, set_dropout

pytestmark = pytest.mark.usefixtures("mirror")

MIRRORED_TEXT = ("bert_base", "roberta_base", "distilbert")
MIRRORED_IMAGE = ("resnet50", "efficientnet_b0")
PACKAGED_TEXT = ("minilm", "minilm_l3")
PACKAGED_IMAGE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
CRF = ("bert_crf", "minilm_crf", "minilm_l3_crf")
TEXT = [(name, "text", pooling) for name in (*MIRRORED_TEXT, *PACKAGED_TEXT) for pooling in ("own", "mean")]
TOKENS = [(name, "tokens", "mean") for name in (*MIRRORED_TEXT, *CRF, *PACKAGED_TEXT)]
IMAGE = [(name, "image", "own") for name in (*MIRRORED_IMAGE, *PACKAGED_IMAGE)]
PRETRAINED = TEXT + TOKENS + IMAGE
SIMPLE = [("simple_nn", "text", "mean"), ("simple_nn", "image", "mean")]
CLASSES = 4

INPUTS = {
    "text": ["Shares fell today.", "The minister said, after many people left, that the embassy was a film."],
    "tokens": [["Ada", "Lovelace", "said", "so"], ["the", "parliament", "of", "New", "Zealandish", "again", "today"]],
    "image": list(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)),
}
TARGETS = {"text": [0, 1], "tokens": [[1, 2, 0, 0], [0, 0, 0, 3, 2, 0, 1]], "image": [0, 1]}


def make(name, kind, pooling="mean", *, classes=CLASSES, pretrained=True, **knobs):
    # Of noise at 32 pixels, Lite2 has no feature above zero.
    config = RunConfig(**{"model": name, "image_size": 64, **knobs})
    return build(config, kind, classes, catalog.find(name), pooling=pooling, pretrained=pretrained)


def batch_of(model, kind, positions=(0, 1)):
    rows = model.reader.encode(INPUTS[kind], TARGETS[kind])
    return model.reader.batch(rows, np.array(positions))


@pytest.mark.parametrize(("name", "kind", "pooling"), PRETRAINED + SIMPLE)
def test_models_build_by_name_in_fp32(name, kind, pooling):
    model = make(name, kind, pooling)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    batch = batch_of(model, kind)
    scores = model.eval()(batch)
    assert scores.shape == (2, 7, CLASSES) if kind == "tokens" else scores.shape == (2, CLASSES)
    assert torch.isfinite(model.loss(scores, batch))
    predicted, confidence = model.decode(scores, batch)
    assert [len(tags) for tags in predicted] == [4, 7] if kind == "tokens" else len(predicted) == 2
    assert ((confidence > 0) & (confidence <= 1)).all()


def test_a_model_without_its_configuration_is_refused_by_name(mirror, tmp_path, monkeypatch):
    (tmp_path / "models/google-bert").mkdir(parents=True)
    folder = shutil.copytree(
        mirror / "models/google-bert/bert-base-uncased", tmp_path / "models/google-bert/bert-base-uncased"
    )
    (folder / "config.json").unlink()
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path))
    with pytest.raises(InputError, match="Model 'bert_base' cannot be used here: ") as refused:
        make("bert_base", "text")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "kind", "pooling"), [case for case in PRETRAINED if catalog.MODELS[case[0]].hub])
def test_checkpoints_are_loaded_whole(mirror, name, kind, pooling):
    # The files are a language model's or an ImageNet classifier's: other prefixes, old names, some in bfloat16.
    saved = load_file(mirror / "models" / catalog.MODELS[name].hub / "model.safetensors")
    plain = {}
    for key, tensor in saved.items():
        for prefix in ("bert.", "roberta.", "distilbert."):
            key = key.removeprefix(prefix)
        key = key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        plain[key] = tensor
    held = make(name, kind, pooling).backbone.state_dict()
    assert held
    for key, tensor in held.items():
        assert torch.equal(tensor, plain[key].to(tensor.dtype)), key


def test_packaged_text_weights_are_loaded_whole():
    saved = load_file(catalog.find("minilm").files[0])
    held = make("minilm", "text").backbone.state_dict()
    assert all(torch.equal(tensor, saved[key]) for key, tensor in held.items())


@pytest.mark.parametrize("name", PACKAGED_IMAGE)
def test_packaged_image_weights_are_loaded_whole_and_see_a_palace(name):
    # Other names, the same order. Weights of one shape in a wrong order would be loaded too.
    *saved, weight, bias = torch.load(catalog.find(name).files[0], weights_only=True).values()
    model = make(name, "image", image_size=224).eval()
    assert all(torch.equal(a, b) for a, b in zip(model.backbone.state_dict().values(), saved, strict=True))
    rows = model.reader.encode([load_sample_image("china.jpg")], [0])
    with torch.no_grad():
        features = model.features(model.reader.batch(rows, np.array([0])))
    assert (features @ weight.T + bias).argmax().item() == 698  # palace, by its ImageNet head, which is dropped


@pytest.mark.parametrize(("name", "kind", "pooling"), TEXT)
def test_lower_blocks_of_the_catalog_s_texts_can_be_replaced_by_their_output(name, kind, pooling):
    model = make(name, kind, pooling)
    found = list(model.blocks)
    find_blocks(model)
    assert (model.blocks, model.live) == (found, 0)


def test_a_row_of_another_architecture_has_its_blocks_tried(monkeypatch):
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    row = catalog.Backbone("transformers", ("text",), width=32, architecture=("mpnet", sizes))
    monkeypatch.setitem(catalog.MODELS, "tiny", row)
    model = build(RunConfig(model="tiny"), "text", CLASSES, None).eval()
    batch = model.blank((2, 8), model.device)
    with torch.no_grad(), model.watched([2]) as outputs:
        expected = model(batch)
        with model.given(2, outputs[2]):
            assert torch.allclose(model(batch), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "kind", "pooling"), PRETRAINED)
def test_blocks_run_from_input_to_top_and_with_the_head_are_everything(name, kind, pooling):
    model = make(name, kind, pooling).eval()
    if kind != "image":
        assert len(model.blocks) == 1 + (3 if "minilm_l3" in name else 6 if "minilm" in name else LAYERS)
    calls = []
    for i, block in enumerate(model.blocks):
        for module in block.modules():
            module.register_forward_pre_hook(lambda *_, i=i: calls.append(i))
    model(batch_of(model, kind))
    assert calls == sorted(calls)
    assert set(calls) == set(range(len(model.blocks)))

    inside = [id(weight) for block in model.blocks for weight in block.parameters()]
    assert len(inside) == len(set(inside))
    names = {id(weight): name for name, weight in model.named_parameters()}
    head = [id(weight) for weight in model.head_parameters()]
    assert sorted(inside + head) == sorted(names)
    parts = ("classifier.", "pooler.") if pooling == "own" and kind == "text" else ("head.", "crf.")
    assert all(any(part in names[weight] for part in parts) for weight in head)


@pytest.mark.parametrize("name", [*MIRRORED_TEXT, *PACKAGED_TEXT, *MIRRORED_IMAGE, *PACKAGED_IMAGE])
def test_without_pretraining_the_weights_are_others(name):
    kind = catalog.MODELS[name].kinds[0]
    trained, fresh = make(name, kind), make(name, kind, pretrained=False)
    assert {weight.dtype for weight in fresh.parameters()} == {torch.float32}
    pairs = zip(trained.backbone.parameters(), fresh.backbone.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs if a.ndim > 1)
    again = make(name, kind, pretrained=False)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(("name", "kind", "pooling"), [TEXT[0], TEXT[1], TEXT[2], TOKENS[3], IMAGE[0], *SIMPLE])
def test_the_seed_makes_the_head(name, kind, pooling):
    one, same, other = (make(name, kind, pooling, seed=seed).head_parameters() for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("name", "kind", "pooling"), PRETRAINED + SIMPLE)
def test_dropout_is_what_was_asked_for(name, kind, pooling):
    model = make(name, kind, pooling, dropout=0.0)
    model.fixed_statistics = True  # batch-norm in train mode is another function
    batch = batch_of(model, kind)
    calm = model.eval()(batch)
    assert torch.equal(model.train()(batch), calm)
    set_dropout(model, 0.3)
    assert not torch.equal(model.train()(batch), calm)
    assert torch.equal(model.eval()(batch), calm)
    assert {m.p for m in make(name, kind, pooling, dropout=0.3).modules() if isinstance(m, torch.nn.Dropout)} == {0.3}


@pytest.mark.parametrize(("name", "kind", "pooling"), PRETRAINED + SIMPLE)
def test_a_pass_that_is_counted_draws_no_numbers_of_the_run(name, kind, pooling):
    twin = make(name, kind, pooling, dropout=0.3).for_counting().train()
    before = torch.get_rng_state()
    twin(batch_of(twin, kind))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_of_a_model_without_any_raises():
    with pytest.raises(ValueError, match="no dropout layer"):
        set_dropout(build_tfidf(), 0.1)


@pytest.mark.parametrize(("name", "kind", "pooling"), [TEXT[0], TEXT[5], TOKENS[3], IMAGE[1]])
def test_frozen_blocks_keep_their_weights_and_run_in_eval_mode(name, kind, pooling):
    model = make(name, kind, pooling)
    model.freeze(2)
    model.train()
    for i, block in enumerate(model.blocks):
        assert {module.training for module in block.modules()} == {i >= 2}
        assert {weight.requires_grad for weight in block.parameters()} == {i >= 2}
    assert all(weight.requires_grad for weight in model.head_parameters())
    model.freeze(0)
    model.train()
    assert all(module.training for module in model.modules())
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("name", [*MIRRORED_IMAGE, *PACKAGED_IMAGE])
def test_fixed_and_frozen_batch_norm_statistics_do_not_move(name):
    model = make(name, "image")
    batch = batch_of(model, "image")

    def moved():
        before = [buffer.clone() for buffer in model.buffers()]
        model.train()(batch)
        return not all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))

    assert moved()
    model.fixed_statistics = True
    assert not moved()
    model.fixed_statistics = False
    model.freeze(len(model.blocks))
    assert not moved()


def test_crf_loss_and_decoding_equal_brute_force():
    tags, lengths = 3, (4, 2)
    model = make("bert_crf", "tokens", classes=tags)
    torch.manual_seed(0)
    for weight in model.crf.parameters():
        torch.nn.init.normal_(weight)
    scores = torch.randn(2, 4, tags)
    expected = torch.tensor([[2, 0, 1, 1], [1, 2, 0, 0]])
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    batch = {"targets": expected, "word_mask": mask}

    def score(row, path):
        crf = model.crf
        moves = sum(crf.transitions[a, b] for a, b in itertools.pairwise(path))
        edges = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
        return edges + moves + sum(scores[row, i, tag] for i, tag in enumerate(path))

    total, best, sure = 0.0, [], []
    for row, length in enumerate(lengths):
        paths = list(itertools.product(range(tags), repeat=length))
        each = torch.stack([score(row, path) for path in paths])
        total += score(row, expected[row, :length].tolist()) - each.logsumexp(0)
        best.append(list(paths[int(each.argmax())]))
        sure.append(((each.max() - each.logsumexp(0)) / length).exp())
    torch.testing.assert_close(model.loss(scores, batch), -total / sum(lengths))
    predicted, confidence = model.decode(scores, batch)
    assert predicted == best
    torch.testing.assert_close(confidence, torch.stack(sure))


@pytest.mark.parametrize("name", ["bert_base", "bert_crf", "roberta_base", "distilbert", "minilm"])
def test_tagger_reads_the_first_sub_word_of_each_word(name):
    model = make(name, "tokens").eval()
    tokenizer = model.reader.tokenizer
    batch = batch_of(model, "tokens")
    hidden = model.backbone(input_ids=batch["ids"], attention_mask=batch["mask"]).last_hidden_state
    features = model.features(batch)
    for row, words in enumerate(INPUTS["tokens"]):
        owners = tokenizer(words, is_split_into_words=True).word_ids()
        assert len(owners) > len(words) + 2  # some word is more than one sub-word
        first = [owners.index(word) for word in range(len(words))]
        torch.testing.assert_close(features[row, : len(words)], hidden[row, first])
        assert batch["word_mask"][row].tolist() == [True] * len(words) + [False] * (7 - len(words))
        if name == "roberta_base":  # trained on text, where a word begins with its space
            pieces = tokenizer.convert_ids_to_tokens(batch["ids"][row, first])
            assert all(piece.startswith("Ġ") for piece in pieces)


@pytest.mark.parametrize(("name", "kind", "pooling"), TEXT + TOKENS)
def test_padding_changes_nothing(name, kind, pooling):
    model = make(name, kind, pooling).eval()
    alone, beside = batch_of(model, kind, [0]), batch_of(model, kind)
    assert alone["ids"].shape[1] < beside["ids"].shape[1]
    width = alone["words"].shape[1] if kind == "tokens" else None
    longer = model(beside)[:1, :width] if kind == "tokens" else model(beside)[:1]
    torch.testing.assert_close(model(alone), longer, atol=1e-5, rtol=1e-5)
    if hasattr(model, "head"):
        shorter, longer = model.features(alone), model.features(beside)[:1]
        assert shorter.shape[-1] == (384 if "minilm" in name else WIDTH)
        torch.testing.assert_close(shorter, longer[:, :width] if kind == "tokens" else longer, atol=1e-5, rtol=1e-5)
