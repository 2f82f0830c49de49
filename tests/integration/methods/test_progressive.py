"""The ladder: what its rungs cost, keep, undo and leave out."""

import copy
import os
import signal

import numpy as np
import pytest
import torch
from adapting import prepare, run
from checkpoints import LAYERS

from lrtl_utils import Run
from lrtl_utils.config import RunConfig
from lrtl_utils.data import splits
from lrtl_utils.errors import InputError
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import feature_cache as caches
from lrtl_utils.methods import loop as training
from lrtl_utils.methods import progressive as ladder
from lrtl_utils.methods import solver as heads
from lrtl_utils.methods.method import Work
from lrtl_utils.runs import run as methods

pytestmark = pytest.mark.usefixtures("mirror")

TEXT = {"dataset": "ag_news", "model": "bert_base", "method": "progressive", "train_size": 40}
IMAGE = {"dataset": "cifar10", "model": "resnet50", "method": "progressive", "train_size": 40}
TOKENS = {"dataset": "conll2003", "model": "bert_crf", "method": "progressive", "train_size": 20}
JUDGED = {"validation_share": 0.25}


@pytest.fixture
def everywhere(monkeypatch):
    """A ladder whose rungs move the weights as far at any size as with many labels, so that tiny data shows them."""
    monkeypatch.setattr(ladder, "KEPT", {kind: ((1, points[-1][1]),) for kind, points in ladder.KEPT.items()})


def built(**knobs):
    # What is compared here is compared closely, and a CPU with tiles would take bf16.
    _, data, config = prepare(**{"max_length": 16, "image_size": 32, "precision": "fp32"} | knobs)
    model = methods.build(config, data, methods.find_weights(config))
    return data, config, model


def climbed(**knobs):
    data, config, model = built(**knobs)
    train, validation = splits.labelled(data, config)
    meter = CostMeter("cpu")
    with meter.measure():
        curve = ladder.fit(Work(model, data, train, validation, config, meter))
    return model, meter.priced(curve), meter, train, validation


@pytest.mark.parametrize("model", ["bert_base", "roberta_base", "distilbert"])
@pytest.mark.parametrize("kind", ["ag_news", "conll2003"])
def test_a_cached_boundary_gives_what_the_blocks_would(model, kind):
    assert_cached_is_whole(dataset=kind, model=model, method="full", train_size=20)


@pytest.mark.parametrize("model", ["resnet50", "efficientnet_b0", "efficientnet_lite0"])
def test_a_cached_boundary_gives_what_the_stages_would(model):
    assert_cached_is_whole(dataset="cifar10", model=model, method="full", train_size=20)


def assert_cached_is_whole(**knobs):
    knobs |= {"layers": 1}  # so that every depth is below what the head reads
    data, config, model = built(**knobs)
    rows = training.encode_training(model, splits.labelled(data, config)[0], config.max_length)
    depths = list(range(1, len(model.blocks) + 1))
    kept = [caches.Cache.empty(depth, rows) for depth in depths]
    training.extract(model, rows, config, CostMeter(), kept)
    model.eval()
    positions = np.arange(len(rows))[::3]
    batch = model.reader.batch(rows, positions)
    with torch.no_grad():
        whole = model(batch)
        mask = batch.get("word_mask", torch.ones(whole.shape[:-1], dtype=torch.bool))
        for cache in kept:
            with model.given(cache.depth, cache.batch(positions, model.shape(batch)[1])):
                torch.testing.assert_close(model(batch)[mask], whole[mask], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model(batch), whole)  # and no trace is left


@pytest.mark.parametrize("knobs", [TEXT, IMAGE, TOKENS])
def test_a_cache_is_as_large_as_it_said(knobs):
    data, config, model = built(**knobs)
    rows = training.encode_training(model, splits.labelled(data, config)[0], config.max_length)
    cache = caches.Cache.empty(1, rows)
    training.extract(model, rows, config, CostMeter(), [cache])
    held = sum(row.numel() * row.element_size() for row in cache.rows) / 2**20
    assert caches.size_mib(model, rows, 1, config.image_size) == pytest.approx(held)


@pytest.mark.slow
def test_images_that_change_are_not_cached(everywhere):
    _, curve, *_ = climbed(**IMAGE, augment="light")
    assert [point["cache_mib"] for point in curve] == [0, 0]


def test_what_no_rung_ahead_will_read_is_let_go(monkeypatch):
    monkeypatch.setattr(ladder, "SHARES", dict.fromkeys(ladder.SHARES, ((1, 0.5), (20, 1.0))))
    _, (ground, rung), *_ = climbed(**TOKENS)
    data, config, model = built(**TOKENS)
    rows = training.encode_training(model, splits.labelled(data, config)[0], config.max_length)
    depths = ladder.depths_in_reach("tokens", len(model.blocks), 20, judged=False).values()
    of = {depth: caches.size_mib(model, rows, depth, None) for depth in depths}
    assert ground["cache_mib"] == pytest.approx(sum(of.values()), abs=1e-3)
    assert rung["cache_mib"] == pytest.approx(list(of.values())[-1], abs=1e-3)


def test_two_rungs_that_train_the_same_blocks_are_one():
    assert ladder.depths_in_reach("text", 6, 500, judged=False) == {1: 3, 2: 1}
    assert ladder.depths_in_reach("text", 2, 500, judged=False) == {1: 1}
    assert ladder.depths_in_reach("text", 6, 100, judged=True) == {1: 3, 2: 1}
    assert ladder.depths_in_reach("text", 6, 100, judged=False) == {1: 3}


@pytest.mark.parametrize("kind", ladder.SHARES)
def test_the_rule_changes_smoothly_with_the_number_of_labels(kind):
    sizes = [round(8 * 1.1**step) for step in range(60)]  # each a tenth more than the last, up to 2,400
    for points in (ladder.RATES[kind], ladder.EPOCHS[kind], ladder.SHARES[kind], ladder.KEPT[kind], ladder.TOKENS):
        values = [ladder.at(points, n_labels) for n_labels in sizes]
        reach = max(value for _, value in points) - min(value for _, value in points)
        assert np.abs(np.diff(values)).max() <= 0.2 * reach + 1e-9
        assert [ladder.at(points, n_labels) for n_labels, _ in points] == pytest.approx([value for _, value in points])
    depths = [[*ladder.depths_in_reach(kind, 7, n_labels, judged=False).values()] for n_labels in sizes]
    lowest = [depth[-1] for depth in depths if depth]
    assert set(np.diff(lowest)) <= {0, -1}  # a block more at a time


def test_the_cache_of_the_validation_split_is_bounded_and_recorded_too(everywhere, monkeypatch):
    _, curve, *_ = climbed(**TEXT, **JUDGED)
    _, without, *_ = climbed(**TEXT, **JUDGED, without="cache")
    assert without[0]["cache_mib"] == 0
    assert without[0]["validation_loss"] == pytest.approx(curve[0]["validation_loss"], rel=1e-4)
    monkeypatch.setattr(ladder, "BOUND_MIB", 1e-6)
    _, bounded, *_ = climbed(**TEXT, **JUDGED)
    assert [point["cache_mib"] for point in bounded] == [0] * len(bounded)
    assert bounded[0]["validation_loss"] == pytest.approx(curve[0]["validation_loss"], rel=1e-4)


def test_past_its_bound_the_frozen_part_runs_again(everywhere, monkeypatch):
    monkeypatch.setattr(ladder, "BOUND_MIB", 1e-6)
    _, curve, *_ = climbed(**TEXT)
    assert [point["cache_mib"] for point in curve] == [0, 0]
    assert curve[-1]["flops"] == climbed(**TEXT, without="cache")[1][-1]["flops"]


def test_rung_0_is_the_linear_probe_and_costs_one_forward_pass():
    done = run(**TEXT | {"without": "tail", "label_names": False, "train_size": 16, "max_length": 8})
    probe = run(**TEXT | {"method": "linear_probe", "train_size": 16, "max_length": 8, "batch_size": 8})
    assert [point["rung"] for point in done.curve] == [0]
    assert done.metrics["hits"] == probe.metrics["hits"]
    phases, of_probe = done.meter.flops_by_phase(), probe.meter.flops_by_phase()
    assert phases["features"] == of_probe["features"]
    assert phases.keys() == {"features", "solve", "closed form"}
    assert sum(phases.values()) == done.meter.flops()


def test_the_rungs_train_from_the_top(everywhere):
    _, _, fresh = built(**TEXT)
    start = copy.deepcopy(fresh.state_dict())
    model, curve, *_ = climbed(**TEXT)
    trained = curve[-1]["trained_blocks"]
    assert trained == -(-LAYERS // 2)
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, start[name])}
    blocks = [{name for name in start if f"layer.{layer}." in name} for layer in range(LAYERS)]
    assert not any(changed & names for names in blocks[: LAYERS - trained])
    assert all(changed & names for names in blocks[LAYERS - trained :])
    assert not any("embeddings" in name for name in changed)


def test_a_rung_that_validation_finds_worse_is_undone(monkeypatch):
    scores = iter([0.9, 0.2])
    monkeypatch.setattr(ladder.loop, "headline", lambda *_: next(scores))
    model, curve, *_ = climbed(**TEXT, **JUDGED)
    assert [point["rung"] for point in curve] == [0, 1]
    scores = iter([0.9])
    data, config, alone = built(**TEXT, **JUDGED)
    train, validation = splits.labelled(data, config)
    ladder.Ladder(Work(alone, data, train, validation, config, CostMeter())).ground()
    for ours, theirs in zip(model.state_dict().values(), alone.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert model.frozen == len(model.blocks)


def test_validation_decides_how_far(monkeypatch):
    scores = iter([0.5, 0.9, 0.95])
    monkeypatch.setattr(ladder.loop, "headline", lambda *_: next(scores))
    assert [point["rung"] for point in climbed(**TEXT, **JUDGED)[1]] == [0, 1, 2]
    scores = iter([0.5, 0.51])
    assert [point["rung"] for point in climbed(**TEXT, **JUDGED)[1]] == [0, 1]


def test_the_rule_decides_without_a_validation_split(monkeypatch):
    monkeypatch.setattr(ladder, "SHARES", {"text": ((25, 0.5), (40, 1.0))})
    for near, size, rungs in ((-9, 40, [0, 1]), (9, 40, [0, 2]), (9, 25, [0, 1]), (-9, 8, [0])):
        monkeypatch.setattr(ladder, "NEAR", near)
        _, curve, *_ = climbed(**TEXT | {"train_size": size})
        assert [point["rung"] for point in curve] == rungs
        assert 0 <= curve[0]["left_out_score"] <= 1


@pytest.mark.parametrize("seconds", [1e-6, 1e6])
def test_the_budget_ends_the_climb(everywhere, seconds):
    model, curve, *_ = climbed(**TEXT, budget_seconds=seconds)
    assert [point["rung"] for point in curve] == ([0] if seconds < 1 else [0, 1])
    assert model.frozen == (len(model.blocks) if seconds < 1 else 1 + LAYERS - curve[1]["trained_blocks"])


@pytest.mark.parametrize("step", [2, 7])
def test_an_interrupted_climb_goes_on_where_it_was(everywhere, tmp_path, step):
    undisturbed, curve, meter, *_ = climbed(**TEXT)

    class Stopping(CostMeter):
        steps = 0

        def tally(self, phase, shape, times=1):
            super().tally(phase, shape, times)
            self.steps += phase.startswith("step")
            if self.steps == step:
                os.kill(os.getpid(), signal.SIGTERM)

    data, config, model = built(**TEXT)
    train, validation = splits.labelled(data, config)
    with pytest.raises(training.Interrupted):
        ladder.fit(Work(model, data, train, validation, config, Stopping(), tmp_path))
    data, config, model = built(**TEXT)
    again = CostMeter()
    resumed = ladder.fit(Work(model, data, train, validation, config, again, tmp_path))
    assert [point["loss"] for point in resumed] == [point["loss"] for point in curve]
    # Rung 0 was done again, so its FLOPs count twice, as its seconds do; the points, on which decisions rest, have them
    # once.
    assert again.flops() == meter.flops() + curve[0]["flops"]
    assert [point["flops"] for point in again.priced(resumed)] == [point["flops"] for point in curve]
    for ours, theirs in zip(model.state_dict().values(), undisturbed.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_a_rung_of_an_image_model_is_left_halfway(everywhere):
    start, *_ = climbed(**IMAGE, budget_seconds=1e-6)  # rung 0, whose head is not softened
    # Steps this small keep the loss low, so no rung is undone, whatever these random weights give on a processor.
    halfway, *_ = climbed(**IMAGE, without="soften", learning_rate=2e-5)
    end, *_ = climbed(**IMAGE, without="soften,average", learning_rate=2e-5)
    moved = 0
    for before, between, after in zip(*(model.parameters() for model in (start, halfway, end)), strict=True):
        torch.testing.assert_close(between, (before + after) / 2, rtol=1e-6, atol=1e-8)
        moved += not torch.equal(before, between)
    assert moved


def test_a_rung_that_forgets_its_own_images_is_undone(tmp_path):
    """Digits at 64 pixels, where a rung once ended 35 points below its rung 0, with 30 times its loss."""
    knobs = {"dataset": "digits", "model": "efficientnet_lite0", "train_size": 64, "seed": 1, "image_size": 64}
    right = {}
    for method in ("linear_probe", "progressive"):
        run = Run(method=method, test_limit=64, device="cpu", results=tmp_path, **knobs)
        run.fit(*run.label())
        right[method] = run.test().metrics["hits"]
    ground, rung = run.curve
    assert rung["loss"] > 10 * ground["left_out_loss"]
    assert right["progressive"] == right["linear_probe"]


def test_every_piece_can_be_left_out_and_does_something(everywhere):
    whole, *_ = climbed(**TEXT)
    pieces = [piece for piece in methods.METHODS["progressive"].pieces if piece != "average"]  # that one is for images
    for piece in pieces:
        model, *_ = climbed(**TEXT, without=piece)
        pairs = zip(whole.state_dict().values(), model.state_dict().values(), strict=True)
        same = all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in pairs)
        assert same == (piece == "cache"), piece  # that one saves work and changes nothing but the last bits
    with pytest.raises(InputError, match="did you mean 'cache'"):
        methods.check(RunConfig(dataset="ag_news", model="bert_base", method="progressive", without="cash"))


def labelled_features(times=1):
    """A model, and the features of its 40 labelled texts, `times` over with noise."""
    data, config, model = built(**TEXT)
    rows = training.encode_training(model, splits.labelled(data, config)[0], config.max_length)
    chunks, generator = training.extract(model, rows, config, CostMeter()), torch.Generator().manual_seed(0)
    for chunk in chunks:
        chunk |= {name: chunk[name].repeat(times, *[1] * (chunk[name].ndim - 1)) for name in chunk}
        chunk["features"] = chunk["features"] + torch.randn(chunk["features"].shape, generator=generator)
    return model, chunks


@pytest.mark.parametrize("times", [1, 5])  # fewer rows than columns, and more
def test_the_penalty_is_that_with_the_least_leave_one_out_error(times):
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.preprocessing import StandardScaler

    model, chunks = labelled_features(times)
    features = StandardScaler().fit_transform(torch.cat([chunk["features"] for chunk in chunks]).double().numpy())
    targets = torch.cat([chunk["targets"] for chunk in chunks])
    wanted, errors, scores = np.eye(4)[targets.numpy()], {}, {}
    for penalty in heads.PENALTIES:
        ridge = Ridge(alpha=penalty * model.layers * len(features))
        # The means and deviations of the features are taken once, over all rows.
        scores[penalty] = cross_val_predict(ridge, features, wanted, cv=LeaveOneOut())
        errors[penalty] = np.square(scores[penalty] - wanted).mean()
    solved = heads.solve_head(model, chunks, CostMeter())
    assert solved.penalty == min(errors, key=errors.get)
    best = scores[solved.penalty]
    assert solved.left_out_score == (best.argmax(1) == targets.numpy()).mean()
    losses = [torch.nn.functional.cross_entropy(torch.from_numpy(best) * s, targets) for s in heads.SCALES]
    assert solved.left_out_loss == pytest.approx(float(min(losses)), rel=1e-6)


@pytest.mark.parametrize("turned", [0, 1])
def test_names_are_used_where_they_fall_into_their_classes(turned):
    """Means of the classes stand for good names; the same names are refused where each is another class's."""
    model, chunks = labelled_features()
    features, targets = (torch.cat([chunk[name] for chunk in chunks]) for name in ("features", "targets"))
    means = torch.stack([features[targets == label].mean(0) for label in range(4)])
    names = [{"features": means, "targets": (torch.arange(4) + turned) % 4}]
    alone = heads.solve_head(model, chunks, CostMeter())
    weight = model.head[-1].weight.detach().clone()
    solved = heads.solve_head(model, chunks, CostMeter(), names=names)
    assert (alone.names_fit, solved.names_fit) == (None, not turned)
    assert torch.equal(model.head[-1].weight, weight) == bool(turned)
    assert (solved.penalty, solved.left_out_score) == (alone.penalty, alone.left_out_score)


def test_a_head_is_made_as_unsure_of_its_rows_as_it_is_of_rows_left_out():
    model, chunks = labelled_features()
    solved = heads.solve_head(model, chunks, CostMeter())
    features, targets = (torch.cat([chunk[name] for chunk in chunks]) for name in ("features", "targets"))
    with torch.no_grad():
        scores = model.head[-1](features)
    assert solved.loss == pytest.approx(float(torch.nn.functional.cross_entropy(scores, targets)), rel=1e-4)
    assert solved.loss < solved.left_out_loss
    softened = torch.nn.functional.cross_entropy(solved.sureness * scores, targets)
    assert softened == pytest.approx(solved.left_out_loss, abs=0.01)


def test_the_head_of_many_rows_does_not_depend_on_those_that_are_looked_at(monkeypatch):
    model, chunks = labelled_features(5)
    whole = heads.solve_head(model, chunks, CostMeter(), 0.3)
    weight = model.head[-1].weight.detach().clone()
    monkeypatch.setattr(heads, "MOST_ROWS", 100)
    some = heads.solve_head(model, chunks, CostMeter(), 0.3)
    assert some.loss == pytest.approx(whole.loss, rel=1e-4)
    torch.testing.assert_close(model.head[-1].weight, weight, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("dataset", ["ag_news", "sst2", "cifar10"])
def test_shots_need_no_validation_split(dataset):
    model = "resnet50" if dataset == "cifar10" else "bert_base"
    done = run(dataset=dataset, model=model, method="progressive", train_size=None, shots=2)
    assert done.validation is None
    assert len(done.train) == 2 * len(done.data.classes)
    assert 0 <= done.curve[0]["left_out_score"] <= 1
    assert done.metrics["epochs_to_convergence"] is None
