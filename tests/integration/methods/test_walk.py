"""A method that is walked without weights counts what its run counts: exactly, or nearly where scores decide."""

import numpy as np
import pytest
import torch

from lrtl_utils.config import RunConfig
from lrtl_utils.methods import METHODS
from lrtl_utils.methods.walk import kept_bytes
from lrtl_utils.models.build import build
from lrtl_utils.runs.run import Run
from lrtl_utils.sweep import price

pytestmark = pytest.mark.usefixtures("mirror")

TINY = {
    "text": {"dataset": "ag_news", "model": "distilbert", "max_length": 24},
    "tokens": {"dataset": "conll2003", "model": "bert_crf", "max_length": 24},
    "image": {"dataset": "cifar10", "model": "efficientnet_b0", "image_size": 32},
    "bag": {"dataset": "ag_news", "model": "simple_nn"},
}
# Images and tags take seconds to count; of these, few methods stay.
QUICK = {"image": ("linear_probe",), "tokens": ("linear_probe", "conventional")}
CASES = [
    pytest.param(kind, method, marks=[] if method in QUICK.get(kind, METHODS) else pytest.mark.slow)
    for kind in TINY
    for method in METHODS
    if (method == "from_scratch" if kind == "bag" else kind in METHODS[method].kinds)
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs that name no results write below the current folder."""
    monkeypatch.chdir(tmp_path)


def run(**knobs):
    one = Run(RunConfig(**{"device": "cpu", "train_size": 40, "batch_size": 8, "seed": 1} | knobs))
    one.fit(*one.label())
    return one


def walked(one):
    return price.load(one.config.model_copy(update={"max_length": one.asked.max_length}))


def architecture(model, method="full", kind="text", classes=2):
    row = METHODS[method]
    with torch.device("meta"):
        config = RunConfig(model=model, image_size=64)
        return build(config, kind, classes, None, pooling=row.pooling, plain=row.plain, pretrained=False)


def without_solver(phases):
    """The FLOPs of all phases but that of the solver, which looks at its loss as often as the loss wants."""
    return {phase: flops for phase, flops in phases.items() if phase != "solve"}


def unnamed(method):
    """Random weights refuse the names of classes, and a walk takes it that they are used."""
    return {"label_names": False} if method == "progressive" else {}


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_a_walk_counts_what_the_run_counts(kind, method):
    share = {} if method == "tfidf" else {"validation_share": 0.25}
    one = run(method=method, **TINY[kind] | share | unnamed(method))
    load, counted = walked(one), without_solver(one.meter.flops_by_phase())
    assert load.at_most == (method == "progressive")
    if load.at_most:  # every rung is walked, and the run may stop at a lower one
        certain = {phase for phase in counted if phase.startswith(("step", "features"))}
        assert {phase: load.flops_by_phase[phase] for phase in certain} == {phase: counted[phase] for phase in certain}
        assert all(load.flops_by_phase[phase] >= flops for phase, flops in counted.items())
    else:
        assert without_solver(load.flops_by_phase) == counted


@pytest.mark.parametrize("kind", ["text", "tokens", "image"])
def test_a_climb_without_a_validation_split_is_walked_as_far_as_the_rule_allows(kind):
    one = run(method="progressive", layers=2, penalty=3, **TINY[kind] | unnamed("progressive"))
    if kind == "image":
        assert one.curve[-1]["rung"] == 0  # 40 images are too few to climb
    assert without_solver(walked(one).flops_by_phase) == without_solver(one.meter.flops_by_phase())


def test_names_that_are_refused_were_priced():
    one = run(method="progressive", **TINY["text"])
    assert one.curve[0]["names_fit"] is False
    counted, walk = (without_solver(phases) for phases in (one.meter.flops_by_phase(), walked(one).flops_by_phase))
    assert all(walk[phase] >= flops for phase, flops in counted.items())
    assert sum(walk.values()) > sum(counted.values())


@pytest.mark.slow
def test_on_shipped_weights_all_that_scores_decide_is_within_two_percent():
    knobs = {"dataset": "reviews_sample", "model": "minilm", "max_length": 40, "device": "cpu", "train_size": 40}
    one = run(method="progressive", label_names=False, **knobs)  # names are priced as if they fitted
    assert walked(one).flops == pytest.approx(one.meter.flops(), rel=0.02)


@pytest.mark.parametrize(
    ("model", "kind", "classes", "parameters"),
    [
        # As the checkpoints are published: with two classes, a pooler where they have one; ImageNet's thousand classes.
        ("bert_base", "text", 2, 109_483_778),
        ("roberta_base", "text", 2, 124_647_170),
        ("distilbert", "text", 2, 66_955_010),
        ("minilm", "text", 2, 22_713_986),
        ("minilm_l3", "text", 2, 17_390_594),
        ("resnet50", "image", 1000, 25_557_032),
        ("efficientnet_b0", "image", 1000, 5_288_548),
        ("efficientnet_lite0", "image", 1000, 4_652_008),
        ("efficientnet_lite1", "image", 1000, 5_416_680),
        ("efficientnet_lite2", "image", 1000, 6_092_072),
    ],
)
def test_an_architecture_without_weights_has_the_parameters_of_the_published_one(model, kind, classes, parameters):
    built = architecture(model, "conventional", kind, classes)
    assert all(weight.is_meta for weight in built.parameters())
    assert 0.99 * parameters < sum(weight.numel() for weight in built.parameters()) <= parameters * 1.01


def test_memory_kept_for_the_backward_pass_is_what_a_real_step_keeps():
    one = Run(RunConfig(dataset="reviews_sample", model="minilm", method="full", max_length=40, device="cpu"))
    model = one.model.train()
    METHODS["full"].prepare(model)
    kept, own = {}, {weight.untyped_storage()._cdata for weight in model.parameters()}

    def keep(tensor):
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(model.blank((16, 40), "cpu"))
    bare = architecture("minilm")
    METHODS["full"].prepare(bare)
    assert 16 * kept_bytes(bare, 40) == pytest.approx(sum(storage.nbytes() for storage in kept.values()), rel=0.15)


def test_more_work_is_dearer_and_freezing_is_cheaper():
    def load(**knobs):
        asked = {"dataset": "sst2", "model": "minilm", "method": "conventional", "train_size": 20, "device": "cpu"}
        return price.load(Run(RunConfig(**asked | knobs)).config)

    base = load()
    assert load(epochs=6).flops == pytest.approx(2 * base.flops)
    assert load(max_length=64).flops < 0.55 * base.flops
    assert base.memory_mib > 1.3 * load(batch_size=4).memory_mib
    assert load(method="full").memory_mib < base.memory_mib
    assert load(method="linear_probe").memory_mib < 0.5 * base.memory_mib
    weights = sum(weight.numel() for weight in architecture("minilm", "conventional").parameters())
    assert base.checkpoint_mib == pytest.approx(16 * weights / 2**20, rel=0.01)  # with gradients and two moments
    assert np.isfinite(base.memory_mib)
