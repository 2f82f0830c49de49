"""The loop against other implementations of the same thing, and against itself interrupted."""

import copy
import gc
import itertools
import math
import os
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import INNER, LAYERS, WIDTH

from lrtl_utils.config import RunConfig, derived_seed
from lrtl_utils.data import load as tasks
from lrtl_utils.data import splits
from lrtl_utils.errors import InputError
from lrtl_utils.measure.flops import count_flops
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop as training
from lrtl_utils.methods import solver as heads
from lrtl_utils.methods.method import Work
from lrtl_utils.models.encoding import order
from lrtl_utils.runs import run as methods
from lrtl_utils.runs.run import Run as WholeRun

pytestmark = pytest.mark.usefixtures("mirror")

SMALL = {
    "dataset": "ag_news",
    "model": "bert_base",
    "method": "conventional",
    "train_size": 20,
    "batch_size": 8,
    "epochs": 2,
    "max_length": 16,
    "device": "cpu",
}
# Three batches make two steps, and a validation is scored after each epoch, so a checkpoint has everything to keep.
INTERRUPTED = {"train_size": 32, "batch_size": 8, "accumulate": 2, "epochs": 30, "validation_share": 0.25, "seed": 3}


@dataclass
class Run:
    asked: RunConfig
    config: RunConfig
    data: splits.Data
    train: splits.Examples
    validation: splits.Examples | None
    model: Any


def prepare(**knobs):
    asked = RunConfig(**SMALL | knobs)
    data = tasks.load(asked.dataset)
    config = methods.resolve(asked, data)
    model = methods.build(config, data, methods.find_weights(config))
    return Run(asked, config, data, *splits.labelled(data, config), model)


def adapt(run, work=None):
    """Train as the notebooks do; returns the curve and the meter."""
    meter, method = CostMeter(run.config.device), methods.METHODS[run.config.method]
    with meter.measure():
        if method.prepare:
            method.prepare(run.model)
        curve = method.fit(Work(run.model, run.data, run.train, run.validation, run.config, meter, work))
    return curve, meter


def finished(**knobs):
    run = prepare(**knobs)
    adapt(run)
    return run


def assert_same_bits(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    assert [name for (name, a), (_, b) in pairs if not torch.equal(a, b)] == []


def without_seconds(curve):
    return [{key: value for key, value in point.items() if key != "device_seconds"} for point in curve]


@pytest.mark.parametrize(("scheduler", "warmup"), [("linear", 0), ("cosine", 2), ("constant", 2)])
def test_conventional_ends_where_trainer_does(scheduler, warmup, tmp_path):
    from transformers import Trainer, TrainingArguments

    run = prepare(dropout=0.0, learning_rate=1e-2, scheduler=scheduler, warmup_steps=warmup)
    net, start = copy.deepcopy(run.model.net), [weight.clone() for weight in run.model.net.parameters()]
    tokenizer, texts, labels = run.model.reader.tokenizer, run.train.inputs, torch.as_tensor(run.train.targets)
    lengths = np.array([len(ids) for ids in tokenizer(texts)["input_ids"]])
    adapt(run)

    class Order:
        epochs = itertools.count()

        def __iter__(self):
            rng = np.random.default_rng([derived_seed(run.config.seed, "order"), next(self.epochs)])
            return iter(order(lengths, run.config.batch_size, rng, buckets=False))

        def __len__(self):
            return math.ceil(len(texts) / run.config.batch_size)

    def collate(positions):
        padded = {"padding": "max_length", "truncation": True, "max_length": 16, "return_tensors": "pt"}
        return tokenizer([texts[i] for i in positions], **padded) | {"labels": labels[list(positions)]}

    class InOurOrder(Trainer):
        def get_train_dataloader(self):
            return torch.utils.data.DataLoader(range(len(texts)), batch_sampler=Order(), collate_fn=collate)

    settings = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        num_train_epochs=2,
        learning_rate=1e-2,
        weight_decay=0.01,
        max_grad_norm=1.0,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(scheduler, scheduler),
        warmup_steps=warmup,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    InOurOrder(net, settings, train_dataset=texts).train()
    for (name, ours), theirs, old in zip(run.model.net.named_parameters(), net.parameters(), start, strict=True):
        assert not torch.equal(theirs, old)
        # The gradient of the keys' bias is zero but for rounding, which Adam magnifies.
        tolerance = 1e-3 if name.endswith("key.bias") else 1e-6
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("method", ["conventional", "full"])
def test_the_same_config_twice_gives_the_same_bits(method):
    one, two = (finished(method=method) for _ in range(2))
    assert_same_bits(one.model, two.model)
    first, second = (training.predict(run.model, run.data.test, run.config) for run in (one, two))
    assert first.predicted == second.predicted
    assert first.confidence.tobytes() == second.confidence.tobytes()
    assert first.loss == second.loss
    other = finished(method=method, seed=1)
    assert not torch.equal(one.model.blocks[-1].output.dense.weight, other.model.blocks[-1].output.dense.weight)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_precision_is_of_the_products_and_not_of_the_weights(precision):
    run = prepare(precision=precision)
    used = run.config.precision
    assert used in ({"fp32", "bf16"} if precision == "auto" else {precision})
    dtypes = set()
    for module in run.model.blocks[1].modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _module, _inputs, output: dtypes.add(output.dtype))
    adapt(run)
    assert dtypes == {{"bf16": torch.bfloat16, "fp32": torch.float32}[used]}
    assert {weight.dtype for weight in run.model.parameters()} == {torch.float32}
    prediction = training.predict(run.model, run.data.test, run.config)
    assert math.isfinite(prediction.loss)


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(InputError, match="fp16"):
        finished(precision="fp16")


def test_two_batches_of_four_make_the_step_of_one_of_eight():
    knobs = {"train_size": 16, "dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.1}  # Adam magnifies rounding
    before = prepare(**knobs).model
    whole, halves = finished(batch_size=8, **knobs), finished(batch_size=4, accumulate=2, **knobs)
    triples = zip(before.parameters(), whole.model.parameters(), halves.model.parameters(), strict=True)
    assert max(float((old - a).detach().abs().max()) for old, a, _ in triples) > 1e-2
    for a, b in zip(whole.model.parameters(), halves.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_weights_are_not_kept_after_the_run():
    run = finished()
    weight = weakref.ref(next(run.model.parameters()))
    del run
    gc.collect()
    assert weight() is None


@pytest.fixture(scope="module")
def undisturbed(mirror):
    run = prepare(**INTERRUPTED)
    return run, *adapt(run)


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_with_the_same_bits(ended_by, undisturbed, tmp_path):
    script = "import sys, pathlib, test_loop as t; t.adapt(t.prepare(**t.INTERRUPTED), pathlib.Path(sys.argv[1]))"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parent,
        env=os.environ | {"LRTL_CHECKPOINT_SECONDS": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint, written = tmp_path / "checkpoint.pt", set()
    while len(written) < 9 and child.poll() is None:  # somewhere in the third epoch
        written |= {checkpoint.stat().st_mtime_ns} if checkpoint.exists() else set()
        time.sleep(0.001)
    child.send_signal(ended_by)
    _, message = child.communicate()
    if ended_by == signal.SIGKILL:
        assert child.returncode == -signal.SIGKILL
    else:
        assert child.returncode > 0
        assert "interrupted after" in message.splitlines()[-1]

    state = torch.load(checkpoint, weights_only=True)
    assert 0 < len(state["curve"]) < INTERRUPTED["epochs"]
    expected, curve, meter = undisturbed
    resumed = prepare(**INTERRUPTED)
    resumed_curve, resumed_meter = adapt(resumed, tmp_path)
    assert_same_bits(resumed.model, expected.model)
    assert without_seconds(resumed_curve) == without_seconds(curve)
    assert resumed_meter.flops() == meter.flops()
    assert resumed_meter.device_seconds >= state["meter"]["device_seconds"] > 0
    seconds = [point["device_seconds"] for point in resumed_curve]
    assert seconds == sorted(seconds)


def test_a_run_killed_after_its_last_epoch_is_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setenv("LRTL_CHECKPOINT_SECONDS", "0")
    knobs = {"validation_share": 0.25}
    first = prepare(**knobs)
    curve, meter = adapt(first, tmp_path)
    again = prepare(**knobs)
    resumed_curve, resumed_meter = adapt(again, tmp_path)
    assert resumed_curve == curve
    assert_same_bits(first.model, again.model)
    assert resumed_meter.flops() == meter.flops()


def test_a_completed_run_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("LRTL_CHECKPOINT_SECONDS", "0")
    run = WholeRun(RunConfig(**SMALL), results=tmp_path)
    run.fit(*run.label())
    assert {path.name for path in run.folder.iterdir()} == {"checkpoint.pt", "progress.json"}
    # What a process leaves that is killed while it writes: the file it has not yet renamed.
    (run.folder / ".checkpoint.pt.unfinished").write_bytes(b"half")
    run.record(run.test())
    assert not run.folder.exists()


def test_a_loss_that_is_no_number_names_the_learning_rate():
    run = prepare(learning_rate=0.5)
    with torch.no_grad():
        run.model.net.classifier.weight.fill_(math.inf)
    with pytest.raises(InputError, match=r"learning_rate=0\.5"):
        adapt(run)


def probe(**knobs):
    """A frozen model's features of its labelled examples, with the model and the meter."""
    run = prepare(method="linear_probe", precision="fp32", **knobs)
    meter = CostMeter("cpu")
    rows = training.encode_training(run.model, run.train, run.config.max_length)
    return run, training.extract(run.model, rows, run.config, meter), meter


@pytest.mark.parametrize(
    ("dataset", "penalty", "class_weights"),
    [("ag_news", 0.1, None), ("ag_news", 3.0, None), ("sst2", 0.3, None), ("ag_news", 0.1, "balanced")],
)
def test_solved_head_is_scikit_learn_s_logistic_regression(dataset, penalty, class_weights):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    run, chunks, meter = probe(dataset=dataset, train_size=40)
    if class_weights:  # then half are of one class, and a class is without an example
        chunks = [chunk | {"targets": chunk["targets"].clamp(max=2)} for chunk in chunks]
    features = torch.cat([chunk["features"] for chunk in chunks])
    targets = torch.cat([chunk["targets"] for chunk in chunks])
    assert heads.solve_head(run.model, chunks, meter, penalty, class_weights=class_weights).penalty == penalty
    l2 = penalty * run.model.layers * len(features) / len(run.data.classes)
    ours = run.model.head.eval()(features).softmax(-1).detach().numpy()
    scaled = StandardScaler().fit_transform(features.double().numpy())
    # Of two classes scikit-learn penalises one vector of weights, where ours are two, each half of it.
    strength = 2 / l2 if len(run.data.classes) == 2 else 1 / l2
    solver = LogisticRegression(C=strength, tol=1e-8, max_iter=5000, class_weight=class_weights)
    sure = solver.fit(scaled, targets.numpy()).predict_proba(scaled)
    seen = sure.shape[1]
    assert seen == len(run.data.classes) - bool(class_weights)
    np.testing.assert_allclose(ours[:, :seen], sure, atol=1e-3)
    assert (ours[:, seen:] < 1e-3).all()


def test_a_step_weighs_the_classes_as_scikit_learn_does():
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_sample_weight

    run = prepare(train_size=10, batch_size=10, epochs=1, dropout=0.0, class_weights="balanced")
    assert len(set(np.bincount(run.train.targets))) > 1
    rows = training.encode_training(copy.deepcopy(run.model), run.train, 16)
    before = training.predict_rows(copy.deepcopy(run.model), rows, run.config).scores
    odds = np.exp(np.array(before, dtype=float))
    (point,), _ = adapt(run)
    weights = compute_sample_weight("balanced", run.train.targets)
    expected = log_loss(run.train.targets, odds / odds.sum(1, keepdims=True), sample_weight=weights)
    assert point["loss"] == pytest.approx(expected, rel=1e-4)
    assert point["loss"] != pytest.approx(log_loss(run.train.targets, odds / odds.sum(1, keepdims=True)), rel=1e-4)


@pytest.mark.parametrize("model", ["bert_crf", "bert_base"])
def test_solving_the_head_lowers_a_tagger_s_loss(model):
    run, chunks, meter = probe(dataset="conll2003", model=model, train_size=30)

    def loss():
        run.model.eval()
        words = [int(chunk["word_mask"].sum()) for chunk in chunks]
        with torch.no_grad():
            losses = [float(run.model.loss(run.model.head(chunk["features"]), chunk)) for chunk in chunks]
        return float(np.average(losses, weights=words))

    with torch.no_grad():  # all tags alike: what the solver starts from
        run.model.head[-1].weight.zero_()
        run.model.head[-1].bias.zero_()
    start = loss()
    reached = heads.solve_head(run.model, chunks, meter).loss
    assert reached < 0.5 * start
    assert loss() == pytest.approx(reached, rel=1e-3)  # the standardisation is folded into the weights


@pytest.mark.parametrize("method", ["conventional", "from_scratch"])
def test_a_last_batch_of_one_image_joins_another_where_batch_norm_needs_two(method):
    """At 32 pixels the last feature map is a single value; at 64 it is not, and the batches stay as they are."""
    knobs = {"dataset": "digits", "model": "efficientnet_lite0", "method": method, "train_size": 21, "batch_size": 10}
    for size, sizes in ((32, [10, 11]), (64, [1, 10, 10])):
        run = prepare(**knobs, image_size=size, epochs=1)
        seen = []
        whole_batch = run.model.reader.batch
        run.model.reader.batch = lambda data, positions, whole=whole_batch, seen=seen, **options: (
            seen.append(positions) or whole(data, positions, **options)
        )
        (point,), _ = adapt(run)
        assert math.isfinite(point["loss"])
        assert sorted(map(len, seen)) == sizes
        assert sorted(np.concatenate(seen)) == list(range(21))
    with pytest.raises(InputError, match="needs two images in a batch, or a larger image_size than 32"):
        adapt(prepare(**knobs | {"batch_size": 1}, image_size=32))


def test_predictions_come_in_the_order_of_the_examples():
    run = prepare(method="linear_probe", precision="fp32", max_length=128)  # lengths differ
    adapt(run)
    model = run.model.eval()
    texts = [*run.data.train.inputs, *run.data.test.inputs]
    targets = np.concatenate([run.data.train.targets, run.data.test.targets])
    examples = splits.Examples(texts, targets, np.arange(len(texts)))
    assert len(examples) > training.PREDICT_BATCH
    prediction = training.predict(model, examples, run.config)
    rows = model.reader.encode(texts, targets)
    with torch.no_grad():
        scores = torch.cat([model(model.reader.batch(rows, np.array([i]))) for i in range(len(rows))])
    assert prediction.predicted == scores.argmax(-1).tolist()
    assert len(set(prediction.predicted)) > 1
    np.testing.assert_allclose(prediction.confidence, scores.softmax(-1).amax(-1), atol=1e-5)
    assert prediction.loss == pytest.approx(float(torch.nn.functional.cross_entropy(scores, torch.tensor(targets))))


@pytest.mark.parametrize(
    "knobs", [{}, {"dataset": "digits", "model": "efficientnet_lite0", "image_size": 32, "train_size": 20}]
)
def test_predictions_do_not_depend_on_how_many_are_made_at_once(knobs, monkeypatch):
    run = finished(method="linear_probe", precision="fp32", test_limit=24, **knobs)
    examples = splits.test_examples(run.data, run.config)
    predictions = []
    for rows in (1, 7, 32):
        monkeypatch.setattr(training, "PREDICT_BATCH", rows)
        predictions.append(training.predict(run.model, examples, run.config))
    for other in predictions[1:]:
        assert other.predicted == predictions[0].predicted
        np.testing.assert_allclose(other.scores, predictions[0].scores, rtol=1e-4, atol=1e-4)
        assert other.loss == pytest.approx(predictions[0].loss, rel=1e-5)


@pytest.mark.parametrize("model", ["bert_base", "roberta_base", "distilbert"])
def test_a_text_is_cut_to_the_positions_that_a_model_has(model):
    run = prepare(model=model, max_length=4096, train_size=8)
    endless = splits.Examples(["the film " * 600] * 2, np.array([0, 1]), np.arange(2))
    rows = training.encode_training(run.model, endless, run.config.max_length)
    assert rows.lengths.tolist() == [512, 512]
    assert run.model.reader.max_length == 512
    tokenizer = run.model.reader.tokenizer
    assert rows.rows[0] == tokenizer(endless.inputs[0], truncation=True, max_length=512)["input_ids"]
    assert math.isfinite(training.predict(run.model, endless, run.config).loss)


def layer_flops(batch, length):
    """A BERT layer forward, a multiply-add as two; backward is twice that."""
    tokens = batch * length
    projections = 4 * 2 * tokens * WIDTH**2
    attention = 2 * 2 * batch * length**2 * WIDTH
    inner = 2 * 2 * tokens * WIDTH * INNER
    return projections + attention + inner


def test_conventional_costs_its_steps_padding_included():
    run = prepare(train_size=24)
    _, meter = adapt(run)
    head = 2 * 8 * WIDTH * (WIDTH + 4)  # the pooler and the classifier, on one token of each text
    step = 3 * (LAYERS * layer_flops(batch=8, length=16) + head)
    assert meter.flops() == 2 * 3 * step
    # What was counted without weights is what the same step on real tensors counts.
    rows = run.model.reader.encode(run.train.inputs[:8], run.train.targets[:8])
    batch = run.model.reader.batch(rows, np.arange(8), train=True)
    assert count_flops(lambda: run.model.loss(run.model(batch), batch).backward()) == step


def test_padding_to_the_longest_of_a_batch_costs_less_and_changes_no_answer():
    runs = [prepare(train_size=24, max_length=64, dropout=0.0, padding=padding) for padding in (None, "longest")]
    (as_examples, dear), (longest, cheap) = map(adapt, runs)
    assert cheap.flops() < dear.flops()
    losses = [[point["loss"] for point in curve] for curve in (as_examples, longest)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_frozen_blocks_keep_their_weights_and_cost_no_backward_pass():
    small = {"train_size": 24, "max_length": 8}  # no text is shorter: all batches are full
    full, scratch = prepare(method="full", layers=1, **small), prepare(method="from_scratch", epochs=1, **small)
    before = copy.deepcopy(full.model.state_dict())
    full_flops, scratch_flops = adapt(full)[1].flops() / 6, adapt(scratch)[1].flops() / 3
    layer, head, products = layer_flops(batch=8, length=8), 2 * 8 * WIDTH * 4, 2 * 8 * 8 * WIDTH**2
    assert scratch_flops == 3 * (LAYERS * layer + head)
    # One of the layers is frozen, and the next one's queries, keys and values need no gradient at their input.
    assert full_flops == scratch_flops - 2 * layer - 3 * products

    kept = {name for name, weight in full.model.state_dict().items() if torch.equal(weight, before[name])}
    assert kept == {name for name in before if "embeddings" in name or "layer.0." in name}


def test_a_probe_costs_one_forward_pass_and_its_solver():
    run = prepare(method="linear_probe", train_size=24, max_length=8)
    _, meter = adapt(run)
    forward = 3 * LAYERS * layer_flops(batch=8, length=8)
    evaluation = 2 * 2 * 24 * 23 * 4  # scores, and the gradient of the weights, along 23 directions
    phases = meter.flops_by_phase()
    assert phases["features"] == forward
    assert phases["solve"] > 0
    assert phases["solve"] % evaluation == 0
    assert sum(phases.values()) == meter.flops()


CLOCKED = """
import sys
from lrtl_utils import Run
run = Run(dataset="news_sample", model="minilm", method=sys.argv[1], train_size=40, max_length=16, results=sys.argv[2])
run.model
before = set(sys.modules)
run.fit(*run.label())
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.slow)])
def test_nothing_of_a_library_is_imported_on_the_clock(method, tmp_path):
    words = [sys.executable, "-c", CLOCKED, method, str(tmp_path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    libraries = {name.partition(".")[0] for name in done.stdout.split()} - {"torch", "lrtl_utils"}
    assert libraries == set()
