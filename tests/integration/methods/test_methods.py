"""What each method stands for: its defaults, the models it takes, and one tiny run of each with each."""

import math
from dataclasses import replace

import numpy as np
import pytest
from adapting import ADAPTING, DATASET, MIRRORED, TINY, prepare, run
from checkpoints import LAYERS

from lrtl_utils.config import RunConfig
from lrtl_utils.data import splits
from lrtl_utils.errors import InputError
from lrtl_utils.methods import loop as training
from lrtl_utils.methods import progressive as ladder
from lrtl_utils.methods import tfidf
from lrtl_utils.models.build import describe
from lrtl_utils.runs import run as methods
from lrtl_utils.runs import store as runs
from lrtl_utils.runs.run import Run

CONVENTIONAL = {
    "learning_rate": 5e-5,
    "batch_size": 16,
    "accumulate": 1,
    "epochs": 3,
    "optimizer": "adamw",
    "scheduler": "linear",
    "warmup_steps": 0,
    "dropout": None,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "precision": "fp32",
    "max_length": None,  # by the rule, below
    "image_size": None,
    "augment": None,
    "validation_share": 0.0,
}


@pytest.mark.parametrize(
    ("kind", "model"),
    [("text", "bert_base"), ("text", "minilm"), ("tokens", "bert_crf"), ("image", "resnet50")],
)
def test_conventional_is_frozen(mirror, kind, model):
    _, _, config = prepare(dataset=DATASET[kind], model=model, method="conventional", train_size=32)
    images = {"image_size": 224, "augment": "light"} if kind == "image" else {}
    assert {name: getattr(config, name) for name in CONVENTIONAL} == CONVENTIONAL | images
    row = methods.METHODS["conventional"]
    assert (row.pooling, row.plain, row.pretrained, row.kinds) == ("own", True, True, ("text", "image", "tokens"))


@pytest.mark.parametrize(("words", "tokens"), [(60, 128), (140, 256)])
def test_conventional_pads_all_texts_and_pools_as_the_architecture_does(mirror, words, tokens):
    _, data, config = prepare(dataset="ag_news", model="bert_base", method="conventional", train_size=16)
    model = methods.build(config, data, methods.find_weights(config))
    assert type(model.net).__name__ == "BertForSequenceClassification"
    assert model.net.bert.pooler is not None
    texts = ["the " * words] * 2 + ["the"]
    rows = training.encode_training(model, splits.Examples(texts, np.arange(3), np.arange(3)), config.max_length)
    assert model.reader.batch(rows, np.array([2]), train=True)["ids"].shape == (1, tokens)
    assert model.reader.batch(rows, np.array([2]))["ids"].shape == (1, 8)  # the answer is the same
    assert model.reader.max_length == tokens
    assert model.frozen == 0
    assert not model.fixed_statistics


# Some pairs here, so that every model and every method is met; all of them with `make nightly`.
PAIRS = [
    pytest.param(model, kind, method, marks=[] if (i + j) % 5 == 0 or j < 1 else pytest.mark.slow)
    for i, (model, kind) in enumerate(MIRRORED)
    for j, method in enumerate(ADAPTING)
]


@pytest.mark.parametrize(("model", "kind", "method"), PAIRS)
def test_every_model_is_trained_by_every_method(mirror, monkeypatch, model, kind, method):
    monkeypatch.setattr(ladder, "KEPT", dict.fromkeys(ladder.KEPT, ((1, 1.0),)))  # let it climb
    done = run(dataset=DATASET[kind], model=model, method=method, train_size=20)
    net = done.model
    assert all(math.isfinite(point["loss"]) for point in done.curve)
    assert [point["flops"] for point in done.curve] == sorted(point["flops"] for point in done.curve)
    assert done.curve[-1]["flops"] == done.meter.flops()
    assert len(done.prediction.predicted) == len(done.test)
    answers = done.prediction.predicted
    flat = [tag for tags in answers for tag in tags] if kind == "tokens" else answers
    assert set(flat) <= set(range(len(done.data.classes)))
    assert 0 <= done.metrics["accuracy"] <= 1
    trained = describe(net, None)
    half = len(net.blocks) - math.ceil((len(net.blocks) - 1) / 2)
    lowest = 2 if kind != "image" else 0
    frozen = {"full": lowest, "linear_probe": len(net.blocks), "progressive": half}.get(method, 0)
    assert net.frozen == frozen
    some = frozen > 0 or method in {"bitfit", "lora"}
    assert (trained["trainable_parameters"] < trained["parameters"]) == some
    assert net.fixed_statistics == (method not in {"from_scratch", "conventional", "linear_probe"})
    if kind != "image":
        assert len(net.blocks) == LAYERS + 1


@pytest.mark.parametrize("method", ADAPTING)
def test_packaged_image_model_is_trained_by_every_method(mirror, method):
    done = run(dataset="cifar10", model="efficientnet_lite0", method=method, train_size=20)
    assert len(done.prediction.predicted) == len(done.test)
    assert math.isfinite(done.metrics["loss"])


@pytest.mark.parametrize(
    ("dataset", "model", "floor", "knobs"),
    [
        ("news_sample", "minilm_l3", 0.5, {"max_length": 32}),  # of four classes
        ("digits", "efficientnet_lite1", 0.3, {"image_size": 64}),  # of ten
        ("digits", "efficientnet_lite2", 0.3, {"image_size": 64}),
        ("entities_sample", "minilm_l3", 0.05, {"max_length": 48}),  # entity F1
    ],
)
def test_packaged_models_carry_what_a_probe_can_read(dataset, model, floor, knobs):
    knobs = {"dataset": dataset, "train_size": 40, "test_limit": 80, "precision": "fp32", **knobs}
    assert run(model=model, method="linear_probe", **knobs).metrics["f1"] > floor


def test_tfidf_learns_and_has_no_model(mirror):
    done = run(dataset="ag_news", method="tfidf", train_size=40)
    assert done.config.model == "none"
    assert methods.find_weights(done.config) is None
    assert done.metrics["accuracy"] > 0.6  # of four classes
    assert len(done.prediction.predicted) == len(done.test)
    assert done.meter.flops() == done.meter.flops_by_phase()["closed form"] > 0
    assert len(done.curve) == 1


def test_tfidf_answers_are_scikit_learn_s(mirror):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    for dataset in ("ag_news", "sst2"):  # four classes, and two
        done = run(dataset=dataset, method="tfidf", train_size=30)
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        peer = make_pipeline(vectorizer, LogisticRegression(C=tfidf.C, max_iter=1000))
        sure = peer.fit(done.train.inputs, done.train.targets).predict_proba(done.test.inputs)
        assert done.prediction.predicted == sure.argmax(1).tolist()
        np.testing.assert_allclose(done.prediction.confidence, sure.max(1), atol=1e-5)


@pytest.mark.parametrize("variant", [{}, {"dropout": 0.0, "learning_rate": 1e-3}])
@pytest.mark.parametrize("dataset", ["digits", "cifar10", "ag_news"])
def test_simple_nn_learns_from_scratch(mirror, dataset, variant):
    knobs = {"train_size": 40, "epochs": 20, "image_size": 16, "method": "from_scratch", "model": "simple_nn"}
    done = run(dataset=dataset, **knobs | variant)
    assert done.curve[-1]["loss"] < 0.9 * done.curve[0]["loss"]
    assert done.metrics["accuracy"] > 1.5 * max(np.bincount(done.test.targets)) / len(done.test)
    assert done.config.learning_rate == variant.get("learning_rate", 5e-4)
    assert {layer.p for layer in done.model.modules() if hasattr(layer, "p")} == {variant.get("dropout", 0.5)}
    assert (done.config.optimizer, done.config.scheduler, done.config.weight_decay) == ("adam", "constant", 0.0)


@pytest.mark.parametrize("method", ["tfidf", "linear_probe", "full"])
def test_a_validation_split_is_scored(mirror, method):
    done = run(dataset="ag_news", model="bert_base", method=method, train_size=40, validation_share=0.2)
    assert (len(done.train), len(done.validation)) == (32, 8)
    assert all(0 <= point["validation_score"] <= 1 and point["validation_loss"] > 0 for point in done.curve)
    assert done.metrics["epochs_to_convergence"] == 1


def test_knobs_that_a_method_lacks_are_taken_out(mirror):
    given = {"learning_rate": 1e-4, "epochs": 5, "dropout": 0.3, "warmup_steps": 10, "image_size": 64}
    asked, _, config = prepare(dataset="ag_news", model="bert_base", method="linear_probe", train_size=20, **given)
    assert {name: getattr(config, name) for name in given} == dict.fromkeys(given)
    assert runs.changed(asked, config).items() >= given.items()

    asked, _, config = prepare(dataset="ag_news", model="bert_base", method="tfidf", train_size=20, **given)
    assert config.model == "none"
    assert config.device == "cpu"
    assert runs.changed(asked, config).items() >= (given | {"model": "bert_base"}).items()


def test_only_the_size_that_counts_is_kept(mirror):
    sizes = {"shots": 3, "train_size": 20, "data_fraction": 0.5}
    for name, labels in (("shots", 12), ("train_size", 20), ("data_fraction", 24)):
        _, data, config = prepare(dataset="ag_news", model="bert_base", method="full", **sizes)
        kept = {key: getattr(config, key) for key in methods.SIZES}
        assert kept == dict.fromkeys(methods.SIZES) | {name: sizes[name]}
        assert len(splits.labelled(data, config)[0]) == labels
        sizes[name] = None


def test_a_batch_is_no_larger_than_the_data(mirror):
    knobs = {"dataset": "ag_news", "model": "bert_base", "method": "conventional"}
    asked, _, config = prepare(**knobs, train_size=10, batch_size=64)
    assert config.batch_size == 10
    assert runs.changed(asked, config)["batch_size"] == 64
    assert prepare(**knobs, train_size=10, batch_size=64, validation_share=0.25)[2].batch_size == 7
    assert prepare(**knobs, shots=2, batch_size=64)[2].batch_size == 8
    assert prepare(**knobs, train_size=40, batch_size=32)[2].batch_size == 32


def test_a_batch_is_no_larger_than_the_shots_there_are(mirror):
    _, data, config = prepare(dataset="conll2003", model="bert_crf", method="conventional", shots=7, batch_size=64)
    assert config.batch_size == len(splits.labelled(data, config)[0])


@pytest.mark.parametrize(
    ("given", "more", "used"),
    [
        (12, {}, 12),
        (13, {}, 1),
        (500, {}, 1),
        (0, {}, 0),
        (500, {"accumulate": 5}, 0),  # 3 steps
        (500, {"validation_share": 0.25}, 0),  # 9 steps
    ],
)
def test_a_warm_up_longer_than_the_run_is_a_tenth_of_it(mirror, given, more, used):
    # 32 examples in batches of 8, three times: 12 steps.
    knobs = {"dataset": "ag_news", "model": "bert_base", "method": "conventional", "train_size": 32, "batch_size": 8}
    asked, _, config = prepare(**knobs, warmup_steps=given, **more)
    assert config.warmup_steps == used
    assert runs.changed(asked, config).get("warmup_steps", used) == given


@pytest.mark.parametrize(
    ("knobs", "fitting", "other"),
    [
        ({"dataset": "cifar10", "model": "resnet50", "method": "tfidf"}, "conventional", "tfidf,"),
        ({"dataset": "cifar10", "model": "bert_base", "method": "full"}, "resnet50", "minilm"),
        ({"dataset": "conll2003", "model": "resnet50", "method": "full"}, "bert_crf", "efficientnet_b0"),
        ({"dataset": "ag_news", "model": "bert_crf", "method": "full"}, "roberta_base", "minilm_crf"),
        ({"dataset": "conll2003", "model": "simple_nn", "method": "from_scratch"}, "bert_base", "simple_nn,"),
        ({"dataset": "ag_news", "model": "simple_nn", "method": "full"}, "from_scratch", "tfidf"),
        ({"dataset": "ag_news", "model": "simple_nn", "method": "conventional"}, "from_scratch", "tfidf"),
        ({"dataset": "ag_new", "model": "minilm", "method": "full"}, "ag_news", "imdb"),
        ({"dataset": "ag_news", "model": "bert", "method": "full"}, "bert_", "resnet50"),
        ({"dataset": "ag_news", "model": "minilm", "method": "linear-probe"}, "linear_probe", "tfidf"),
        (
            {"dataset": "conll2003", "model": "minilm_crf", "class_weights": "balanced"},
            "'conll2003' has tags",
            "epochs",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_does(knobs, fitting, other):
    with pytest.raises(InputError) as refused:
        methods.check(RunConfig(**knobs))
    assert fitting in str(refused.value)
    assert other not in str(refused.value)


def test_an_explicit_default_is_the_same_run(mirror):
    knobs = {"dataset": "ag_news", "model": "bert_base", "method": "conventional"}

    def identity(**more):
        return Run(RunConfig(**{"device": "cpu"} | knobs | more)).id

    plain = identity(train_size=20)
    same = [
        {"learning_rate": 5e-5, "epochs": 3, "batch_size": 16, "precision": "fp32", "optimizer": "adamw"},
        {"data_fraction": None},  # `train_size` beats it
        {"image_size": 64},  # texts have none
        {"validation_share": 0.0},
    ]
    assert {identity(train_size=20, **more) for more in same} == {plain}
    assert identity(train_size=48, warmup_steps=500, epochs=4) == identity(train_size=48, warmup_steps=1, epochs=4)
    others = [{"seed": 1}, {"epochs": 4}, {"dropout": 0.1}, {"max_length": 64}, {"test_limit": 5}]
    assert len({plain, *(identity(train_size=20, **more) for more in others)}) == 1 + len(others)


@pytest.mark.parametrize("method", [*ADAPTING, "tfidf"])
def test_a_method_sees_its_labelled_examples_and_no_others(mirror, monkeypatch, tmp_path, method):
    monkeypatch.setattr(ladder, "KEPT", dict.fromkeys(ladder.KEPT, ((1, 1.0),)))  # let it climb
    done = Run(dataset="ag_news", model="bert_base", method=method, results=tmp_path, **TINY)
    labelled, whole = done.label(), done.data
    done.data = replace(whole, train=None, test=None)  # neither the other labels nor the test split
    done.fit(*labelled)
    done.data = whole
    assert len(done.test().examples) == len(whole.test)


@pytest.mark.parametrize("method", [*ADAPTING, "tfidf"])
def test_every_method_weighs_the_classes_where_that_is_asked_for(mirror, method):
    knobs = {"dataset": "ag_news", "model": "bert_base", "method": method, "train_size": 14}
    plain, balanced = (run(class_weights=weights, **knobs) for weights in (None, "balanced"))
    assert sorted(np.bincount(plain.train.targets)) == [3, 3, 4, 4]
    assert not np.array_equal(plain.prediction.confidence, balanced.prediction.confidence)


def test_pieces_that_are_left_out_are_one_run_in_any_order(mirror):
    knobs = {"dataset": "ag_news", "model": "bert_base", "method": "progressive", "train_size": 16}
    found = {prepare(**knobs, without=names)[2].without for names in ("soften,decay", "decay,soften,decay")}
    assert found == {"decay,soften"}
