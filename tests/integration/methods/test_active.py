"""Which examples are labelled: by margin, against what the head says."""

import numpy as np
import pytest
import torch
from adapting import prepare, run

from lrtl_utils.config import RunConfig
from lrtl_utils.errors import InputError
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import active as selection
from lrtl_utils.methods import loop as training
from lrtl_utils.runs import run as methods

pytestmark = pytest.mark.usefixtures("mirror")

KNOBS = {"dataset": "ag_news", "model": "bert_base", "method": "linear_probe", "train_size": 12, "max_length": 16}


def chosen(**knobs):
    _, data, config = prepare(**KNOBS | knobs)
    model = methods.build(config, data, methods.find_weights(config))
    meter = CostMeter()
    return selection.choose(model, data, config, meter), model, data, config, meter


@pytest.mark.parametrize("dataset", ["ag_news", "conll2003", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_a_choice_has_distinct_examples_as_many_as_asked_and_repeats(dataset):
    model = {"cifar10": "resnet50"}.get(dataset, "bert_base")
    knobs = {"selection": "margin", "dataset": dataset, "model": model, "image_size": 32, "train_size": 15}
    order, net, *_ = chosen(**knobs)
    assert len(set(order.tolist())) == len(order) == 15
    assert order.tolist() == chosen(**knobs)[0].tolist()
    assert order.tolist() != chosen(**knobs, seed=1)[0].tolist()
    _, data, config = prepare(**KNOBS | knobs)
    fresh = methods.build(config, data, methods.find_weights(config))
    for name, weight in fresh.state_dict().items():  # the model is as it was
        assert torch.equal(weight, net.state_dict()[name]), name


def test_the_labels_of_others_are_not_looked_at():
    """Whatever the labels of examples that were not asked for, the choice is the same."""
    order, model, data, config, _ = chosen(selection="margin")
    others = np.setdiff1d(np.arange(len(data.train)), order)
    targets = data.train.targets.copy()
    targets[others] = (targets[others] + 1) % 4
    object.__setattr__(data.train, "targets", targets)
    assert selection.choose(model, data, config, CostMeter()).tolist() == order.tolist()


def test_margin_asks_for_what_the_head_is_unsure_of():
    order, model, data, config, _ = chosen(selection="margin", train_size=20)
    rows = training.encode_training(model, data.train, config.max_length)
    chunks = training.extract(model, rows, config, CostMeter())
    first = [selection._only(chunk, order[:10]) for chunk in chunks]
    selection.solver.solve_head(model, [c for c in first if len(c["targets"])], CostMeter())
    sure = selection._margins(model, chunks)
    rest = np.setdiff1d(np.arange(len(rows)), order[:10])
    assert sure[order[10:13]].max() <= np.sort(sure[rest])[3] + 1e-6


def test_selection_is_on_the_clock_and_its_subset_is_trained_on():
    plain, picked = run(**KNOBS), run(**KNOBS, selection="margin")
    extra = picked.meter.flops_by_phase()["features"] - plain.meter.flops_by_phase()["features"]
    assert extra > 2 * plain.meter.flops_by_phase()["features"]  # the whole train split was read
    assert sorted(picked.train.index) != sorted(plain.train.index)


def test_a_validation_split_comes_out_of_the_choice():
    done = run(**KNOBS | {"train_size": 20}, selection="margin", validation_share=0.2)
    assert (len(done.train), len(done.validation)) == (16, 4)
    assert not set(done.train.index) & set(done.validation.index)


def test_what_cannot_be_selected_is_refused():
    with pytest.raises(InputError, match="train_size"):
        chosen(selection="margin", shots=2, train_size=None)
    with pytest.raises(InputError, match="linear_probe"):
        methods.check(RunConfig(dataset="ag_news", model="minilm", method="tfidf", selection="margin"))
