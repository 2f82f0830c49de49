"""Heads that read several layers and the shapes of words: what they read, what it costs, and where no cache may be."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from adapting import DATASET, TINY, prepare, run

from lrtl_utils.config import RunConfig
from lrtl_utils.data import splits
from lrtl_utils.errors import InputError
from lrtl_utils.measure.flops import count_flops
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop, progressive, shared, solver
from lrtl_utils.methods.method import Work
from lrtl_utils.models.encoding import LOOKS, SHAPE_COLUMNS, Collator, Encoded, Reader, shapes_of
from lrtl_utils.models.heads import HIDDEN_SHAPES, ImageClassifier
from lrtl_utils.runs import run as methods
from lrtl_utils.runs.run import Run

pytestmark = pytest.mark.usefixtures("mirror")

TEXT = {"dataset": "ag_news", "model": "bert_base"}
NEW = ("layers", "penalty", "word_shape", "label_names")
TOKENS = {"dataset": "conll2003", "model": "bert_crf", "word_shape": True}
IMAGE = {"dataset": "cifar10", "model": "efficientnet_b0"}
KINDS = [TEXT, TOKENS, IMAGE]


def built(**knobs):
    _, data, config = prepare(**TINY | {"precision": "fp32", "method": "linear_probe", "train_size": 20} | knobs)
    return methods.build(config, data, methods.find_weights(config)).eval(), data, config


def a_batch(model, data, n=6):
    rows = loop.encode_training(model, data.train.take(np.arange(n)), None)
    return model.reader.batch(rows, np.arange(n))


@pytest.mark.parametrize("name", ["bert_base", "roberta_base", "distilbert", "minilm"])
@pytest.mark.parametrize("kind", ["text", "tokens"])
@torch.no_grad()
def test_the_top_layers_are_those_of_transformers(name, kind):
    model, data, _ = built(dataset=DATASET[kind], model=name, layers=3, word_shape=False)
    batch = a_batch(model, data)
    inputs = {"input_ids": batch["ids"], "attention_mask": batch["mask"]}
    hidden = model.backbone(**inputs, output_hidden_states=True).hidden_states[:-4:-1]
    if kind == "text":
        mask = batch["mask"].unsqueeze(-1)
        expected = [(each * mask).sum(1) / mask.sum(1) for each in hidden]
    else:
        expected = [each[torch.arange(len(each))[:, None], batch["words"]] for each in hidden]
    found = model.features(batch)
    assert found.shape[-1] == model.head[-1].in_features == 3 * hidden[0].shape[-1]
    torch.testing.assert_close(found, torch.cat(expected, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(model(batch), model.head(found))


def stages_of(net, pixels):
    """The outputs of an image model's stages, from the lowest on, and its own features."""
    if hasattr(net, "layer1"):
        found, stages = net.maxpool(net.act1(net.bn1(net.conv1(pixels)))), [net.layer1, net.layer2, net.layer3]
    else:
        found, stages = net.bn1(net.conv_stem(pixels)), net.blocks[:-1]
    outputs = []
    for stage in stages:
        found = stage(found)
        outputs.append(found)
    return outputs, net(pixels)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "efficientnet_lite0"])
@torch.no_grad()
def test_the_stages_below_the_top_are_averaged_over_their_maps(name, layout):
    model, data, _ = built(dataset="cifar10", model=name, layers=3, image_size=64)
    pixels = a_batch(model, data)["pixels"].contiguous(memory_format=layout)
    (*_, third, second), top = stages_of(model.backbone, pixels)
    expected = torch.cat([top, second.mean((2, 3)), third.mean((2, 3))], 1)
    torch.testing.assert_close(model.features({"pixels": pixels}), expected, atol=1e-6, rtol=1e-6)
    assert model.head[-1].in_features == expected.shape[1]


@pytest.mark.parametrize(
    ("name", "sizes", "below"),
    [
        ("vit_tiny_patch16_224", {"embed_dim": 16, "depth": 3, "num_heads": 2}, lambda net: net.blocks[1]),
        (  # its maps have their channels last; its highest block is a norm alone
            "swin_tiny_patch4_window7_224",
            {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4},
            lambda net: net.layers[1],
        ),
    ],
)
@torch.no_grad()
def test_tokens_and_maps_with_channels_last_are_averaged_over_their_positions(name, sizes, below):
    net = timm.create_model(name, pretrained=False, num_classes=0, img_size=32, **sizes)
    model = ImageClassifier(net, 2, 0.0, Reader("image", Collator(image_size=32))).eval()
    model.layers, kept = 2, []
    below(net).register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    pixels = torch.randn(3, 3, 32, 32)
    found = model.features({"pixels": pixels})
    (output,) = kept
    expected = output.reshape(3, -1, output.shape[-1]).mean(1)
    torch.testing.assert_close(found, torch.cat([net(pixels), expected], 1), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("knobs", "above"), [(TEXT, 3), (TOKENS, 3), (IMAGE, 7)])
def test_more_layers_than_there_are_is_one_sentence(knobs, above):
    built(**knobs, layers=above)
    with pytest.raises(InputError, match=rf"^layers={above + 1} is too many: model .* has {above} above .*\.$"):
        built(**knobs, layers=above + 1)


def climbed(monkeypatch, **knobs):
    monkeypatch.setattr(progressive, "KEPT", dict.fromkeys(progressive.KEPT, ((1, 1.0),)))
    model, data, config = built(**knobs, method="progressive")
    train, validation = splits.labelled(data, config)
    meter = CostMeter("cpu")
    with meter.measure():
        curve = progressive.fit(Work(model, data, train, validation, config, meter))
    return model, meter.priced(curve), meter


@pytest.mark.parametrize(
    ("knobs", "validation_share"),
    [
        (TEXT, 0.25),
        (TOKENS, 0.0),
        (IMAGE, 0.0),
        *(pytest.param(*rest, marks=pytest.mark.slow) for rest in ((TEXT, 0.0), (TOKENS, 0.25), (IMAGE, 0.25))),
    ],
)
def test_a_cached_rung_is_the_uncached_one_bit_for_bit(monkeypatch, knobs, validation_share):
    """Batches of one row, which are of the same shape when the cache is filled and when it is read."""
    monkeypatch.setattr(loop, "PREDICT_BATCH", 1)
    knobs = knobs | {"layers": 3, "batch_size": 1, "validation_share": validation_share}
    cached, curve, meter = climbed(monkeypatch, **knobs)
    plain, without, _ = climbed(monkeypatch, **knobs, without="cache")
    assert [point["rung"] for point in curve] == [point["rung"] for point in without]
    assert curve[0]["cache_mib"] > 0 == without[0]["cache_mib"]
    assert curve[-1]["flops"] < without[-1]["flops"]
    assert [point["loss"] for point in curve] == [point["loss"] for point in without]
    assert all(torch.equal(a, b) for a, b in zip(cached.parameters(), plain.parameters(), strict=True))
    if validation_share:  # the split's scores came from a cache at the lowest block that is read
        assert f"forward above block {plain.lowest_read}" in meter.flops_by_phase()


def test_there_is_no_cache_above_a_block_that_is_read(monkeypatch):
    knobs = {"dataset": "news_sample", "model": "minilm", "max_length": 8, "train_size": 40}
    (_, curve, _), (_, deep, meter) = (climbed(monkeypatch, **knobs, layers=layers) for layers in (4, 5))
    assert curve[0]["cache_mib"] > 0 == deep[0]["cache_mib"]
    assert [point["rung"] for point in deep] == [0, 1]
    assert "step above block 4" in meter.flops_by_phase()


@pytest.mark.parametrize(("knobs", "shape"), [(TEXT, (3, 24)), (TOKENS, (3, 24, 5)), (IMAGE, (3, 3, 32, 32))])
def test_flops_are_those_of_the_layers_and_of_a_wider_head(knobs, shape):
    model, narrow = built(**knobs, layers=3)[0], built(**knobs | {"layers": 1, "word_shape": False})[0]
    model.freeze(model.lowest_read)
    blank, outputs = model.blank(shape, "cpu"), shape[0] * (shape[2] if len(shape) == 3 else 1)
    counted = loop.pass_counter(model, head=True)(shape)
    assert counted == count_flops(lambda: model(blank))
    columns = model.head[-1].in_features - narrow.head[-1].in_features
    more = 2 * outputs * columns * model.head[-1].out_features
    assert counted - loop.pass_counter(narrow, head=True)(shape) == more > 0
    assert loop.step_counter(model, cached=False)(shape) == count_flops(lambda: model(blank).sum().backward())
    with torch.no_grad(), model.watched([model.frozen]) as kept:
        model(blank)
    with model.given(model.frozen, kept[model.frozen]):
        cached = count_flops(lambda: model(blank).sum().backward())
    assert loop.step_counter(model, cached=True)(shape) == cached


@pytest.mark.parametrize("knobs", [TEXT, TOKENS])
@pytest.mark.parametrize("method", ["linear_probe", "progressive"])
def test_a_penalty_that_is_given_is_taken_and_one_that_is_not_is_recorded(knobs, method):
    given, chosen = (run(**knobs, method=method, penalty=penalty).curve[0]["penalty"] for penalty in (2.5, None))
    assert given == 2.5
    assert chosen in solver.PENALTIES


def test_half_of_the_layers_are_read_where_nothing_else_is_asked_for():
    for knobs, blocks in ((TEXT, 3), (IMAGE, 7)):
        assert built(**knobs)[0].layers == -(-blocks // 2)
        assert built(**knobs, layers=0.9)[0].layers == blocks
        assert built(**knobs, layers=2)[0].layers == 2


def test_what_words_look_like():
    words = ["the", "Oslo", "NATO", "iPhone", "B2B", "1,000", "--", "東京"]
    table = shapes_of(words)
    assert table.shape == (8, SHAPE_COLUMNS)
    own = [[0], [1], [2], [3], [2, 4], [4, 5], [6], []]
    assert [np.flatnonzero(row).tolist() for row in table[:, :LOOKS]] == own
    before, after = table[:, LOOKS : 2 * LOOKS], table[:, 2 * LOOKS : 3 * LOOKS]
    assert np.array_equal(before[1:], table[:-1, :LOOKS])
    assert np.array_equal(after[:-1], table[1:, :LOOKS])
    assert not before[0].any()
    assert not after[-1].any()
    assert table[:, -1].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_shapes_are_in_the_batch_beside_their_words_and_pass_through_what_is_kept():
    model, data, _ = built(**TOKENS)
    rows = model.reader.encode(data.train.inputs, data.train.targets)
    again = shared._unpacked("tokens", shared._packed(rows), rows.targets)
    assert all(np.array_equal(a, b) for a, b in zip(again.shapes, rows.shapes, strict=True))
    assert again.rows == rows.rows
    model.reader.max_length = 8
    short = model.reader.cut(rows.joined(rows))
    assert len(short.shapes) == 2 * len(rows)
    positions = np.array([len(rows) + 1, 0])
    batch = model.reader.batch(short, positions)
    for row, mask, at in zip(batch["shapes"], batch["word_mask"], positions % len(rows), strict=True):
        assert np.array_equal(row[mask], shapes_of(data.train.inputs[at])[: mask.sum()])
        assert not row[~mask].any()
    features = model.features(batch)
    assert torch.equal(features[..., -SHAPE_COLUMNS:], batch["shapes"])
    other = Encoded("tokens", rows.rows, rows.lengths, rows.targets)
    assert shared._packed(other).keys() == shared._packed(rows).keys() - {"shapes"}


def test_a_tenth_of_the_sentences_have_no_shapes_in_training_alone():
    model, data, _ = built(**TOKENS)
    batch = a_batch(model, data, n=2)
    many = {name: tensor[:1].expand(400, *tensor.shape[1:]) for name, tensor in batch.items()}

    def shown(seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            shapes = model.features(many)[..., -SHAPE_COLUMNS:]
        assert all(torch.equal(row, many["shapes"][0]) for row in shapes if row.any())
        return shapes.flatten(1).any(1)

    assert shown(0).all()
    model.train()
    assert 1 - shown(0).float().mean() == pytest.approx(HIDDEN_SHAPES, abs=0.05)
    assert torch.equal(shown(0), shown(0))
    assert not torch.equal(shown(0), shown(1))


def test_columns_that_never_vary_get_no_weight():
    model, data, config = built(**TOKENS)
    lower = [[word.lower() for word in words] for words in data.train.inputs]
    examples = splits.Examples(lower, data.train.targets, data.train.index)
    rows = loop.encode_training(model, examples, 64)
    chunks = loop.extract(model, rows, config, CostMeter())
    loss = solver.solve_head(model, chunks, CostMeter()).loss
    columns = np.concatenate(rows.shapes)
    weights = model.head[-1].weight[:, -SHAPE_COLUMNS:].detach()
    constant = torch.from_numpy(columns.std(0) == 0)
    assert constant[[1, 2, 3]].all()
    assert not weights[:, constant].any()
    assert weights[:, ~constant].abs().amin(1).any()
    assert np.isfinite(loss)


@pytest.mark.parametrize("knobs", KINDS)
def test_knobs_that_say_nothing_of_a_task_leave_its_configuration(knobs):
    given = TINY | knobs | {"layers": 2, "penalty": 3.0, "word_shape": True, "label_names": True}
    words, texts = knobs is TOKENS, knobs is TEXT
    ours = dict.fromkeys(("linear_probe", "lp_ft", "progressive"), (True, True, words, texts))
    ours |= dict.fromkeys(("full", "bitfit", "lora"), (True, False, words, texts))
    ours |= dict.fromkeys(("tfidf", "from_scratch", "conventional"), (False, False, False, False))
    for method, expected in ours.items():
        if knobs is TEXT or method != "tfidf":
            config = prepare(**given, method=method)[2]
            assert tuple(getattr(config, name) is not None for name in NEW) == expected, method


@pytest.mark.parametrize("method", ["linear_probe", "full", "lp_ft", "bitfit", "lora", "progressive"])
def test_every_method_trains_such_a_tagger(method):
    done = run(**TOKENS, method=method, layers=2)
    assert all(done.prediction.predicted)
    assert all(np.isfinite(point["loss"]) for point in done.curve)
    width = done.model.backbone.config.hidden_size
    assert done.model.head[-1].in_features == 2 * width + SHAPE_COLUMNS


@pytest.mark.parametrize(
    "knobs",
    [
        {"dataset": "news_sample", "model": "minilm", "max_length": 32, "train_size": 40},
        {"dataset": "entities_sample", "model": "minilm_crf", "max_length": 32, "train_size": 40, "word_shape": True},
        {"dataset": "digits", "model": "efficientnet_lite0", "image_size": 32, "train_size": 40},
    ],
)
def test_a_probe_of_three_layers_runs_on_what_is_shipped(knobs, tmp_path):
    scores = []
    for given in (knobs | {"layers": 1, "word_shape": False}, knobs):
        one = Run(results=tmp_path, method="linear_probe", test_limit=60, device="cpu", **given)
        one.fit(*one.label())
        record = one.record(one.test())
        scores.append(record["metrics"]["accuracy"])
    assert record["config"]["layers"] == 0.5
    assert scores[1] > scores[0] - 0.05


@pytest.mark.parametrize("method", ["linear_probe", "full", "lp_ft", "bitfit", "lora", "progressive"])
def test_names_of_classes_are_four_examples_each(method, monkeypatch):
    """Whoever compares methods can give the names to all. Random weights would refuse them, so here they are let in."""
    monkeypatch.setattr(solver._Ridge, "scores", lambda _, rows, _share: torch.eye(4).repeat(len(rows) // 4, 1))
    rows = {}
    for label_names in (True, False):
        done = run(**TEXT, method=method, label_names=label_names, batch_size=4, **{"train_size": 40})
        assert done.config.label_names == label_names
        trained = [phase for phase in done.meter.flops_by_phase() if phase.startswith("step")]
        tallied = [(phase, shape) for phase, shape in done.meter._tally if phase in (trained or ["solve"])]
        rows[label_names] = sum(shape[0] * done.meter._tally[phase, shape] for phase, shape in tallied)
    epochs = rows[False] / 40 if method != "linear_probe" else None
    assert rows[True] > rows[False] if epochs is None else rows[True] - rows[False] == 16 * epochs


def test_names_without_a_letter_are_no_examples():
    work = Work(*built(**TEXT)[:2], None, None, RunConfig(label_names=True), CostMeter())
    named = replace(work, data=replace(work.data, classes=("sport", "42", "", "World_news")))
    names = loop.label_names(named)
    assert list(names.targets) == [0, 3]
    assert loop.label_names(replace(named, data=replace(named.data, classes=("1", "2")))) is None
