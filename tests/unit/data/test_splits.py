from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from lrtl_utils.config import RunConfig
from lrtl_utils.data.load import load
from lrtl_utils.data.splits import (
    Data,
    Examples,
    count_labelled,
    hold_out,
    labelled,
    labelled_subset,
    stratified_order,
)
from lrtl_utils.errors import InputError

NAMES = ("world", "sports", "business")
EVEN = np.tile([0, 1, 2], 40)
UNEVEN = np.repeat([0, 1, 2], [100, 17, 3])


def rng():
    return np.random.default_rng(0)


def subset(**amount):
    return labelled_subset(UNEVEN, NAMES, rng(), **amount)


def test_every_prefix_of_even_classes_is_even():
    counts = np.cumsum(np.eye(3)[EVEN[stratified_order(EVEN, rng())]], axis=0)
    assert (counts.max(1) - counts.min(1)).max() <= 1


def test_every_prefix_of_uneven_classes_has_all_of_them_and_none_in_excess():
    counts = np.cumsum(np.eye(3)[UNEVEN[stratified_order(UNEVEN, rng())]], axis=0)
    proportion = np.arange(1, 121)[:, None] * np.bincount(UNEVEN) / 120
    assert counts[2:].min() >= 1
    assert (counts - proportion).max() <= 1
    assert (proportion - counts).max() <= len(NAMES)


def test_subsets_nest_however_their_size_is_given():
    subsets = [set(subset(data_fraction=fraction)) for fraction in (0.05, 0.1, 0.31, 0.5, 1.0)]
    subsets.insert(2, set(subset(train_size=20)))
    assert [len(chosen) for chosen in subsets] == [6, 12, 20, 38, 60, 120]
    assert all(small < large for small, large in pairwise(subsets))


def test_shots_nest_and_are_as_many_of_each_class_as_there_are():
    few, more = subset(shots=2), subset(shots=5)
    assert Counter(UNEVEN[few].tolist()) == {0: 2, 1: 2, 2: 2}
    assert Counter(UNEVEN[more].tolist()) == {0: 5, 1: 5, 2: 3}
    assert set(few) < set(more)


def test_drawing_leaves_the_global_generator_alone():
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    subset(data_fraction=0.3)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_a_class_without_an_example_is_refused_with_sizes_that_would_do():
    with pytest.raises(InputError) as error:
        subset(train_size=2)
    assert "None of the 2 labelled examples is of class 'business';" in str(error.value)
    least = float(str(error.value).rsplit("data_fraction=", 1)[1].rstrip("."))
    assert "train_size=3" in str(error.value)
    for amount in ({"train_size": 3}, {"data_fraction": least}):
        assert set(UNEVEN[subset(**amount)]) == {0, 1, 2}


def test_sizes():
    assert count_labelled([40] * 3, data_fraction=0.001, train_size=None, shots=None) == 1
    assert count_labelled([40] * 3, data_fraction=0.5, train_size=7, shots=None) == 7
    assert count_labelled([40] * 3, data_fraction=0.5, train_size=7, shots=4) == 12
    with pytest.raises(InputError, match="more than the 120 examples"):
        count_labelled([40] * 3, data_fraction=None, train_size=121, shots=None)
    with pytest.raises(InputError, match="needed"):
        count_labelled([40] * 3, data_fraction=None, train_size=None, shots=None)


@pytest.mark.parametrize(("fraction", "n", "size"), [(0.07, 100, 7), (0.14, 50, 7), (0.28, 25, 7), (0.55, 100, 55)])
def test_a_share_that_is_a_whole_number_is_that_number(fraction, n, size):
    assert count_labelled([n], data_fraction=fraction, train_size=None, shots=None) == size


@pytest.mark.parametrize("strata", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_hold_out_is_stratified_and_keeps_an_example_of_every_class(strata):
    kept, held = hold_out(strata, 0.2, rng())
    assert sorted([*kept, *held]) == list(range(120))
    assert len(held) == 24
    assert np.bincount(strata[held], minlength=3) == pytest.approx(np.bincount(strata) * 0.2, abs=1)
    assert set(strata[kept]) == {0, 1, 2}


def test_hold_out_never_takes_the_only_example_of_a_class():
    kept, held = hold_out(np.array([0] * 9 + [1]), 0.5, rng())
    assert 9 in kept
    assert len(held) == 5


def test_a_validation_split_that_takes_all_examples_of_a_class_is_reported():
    data = load("news_sample")
    with pytest.warns(UserWarning, match="all labelled examples of 2 of 4 classes are in the validation split"):
        train, held = labelled(data, RunConfig(train_size=4, validation_share=0.3))
    assert not set(train.targets) & set(held.targets)


def test_a_repeated_example_on_both_sides_of_the_validation_split_is_said():
    texts = [f"text {i // 2}" for i in range(40)]
    train = Examples(texts, np.arange(40) // 2 % 2, np.arange(40))
    data = Data("mine", "text", ("a", "b"), train, train, None)
    with pytest.warns(UserWarning, match=r"^mine: \d+ of 10 validation examples are trained on too, so the validation"):
        labelled(data, RunConfig(dataset="mine", data_fraction=1.0, validation_share=0.25))


def test_a_validation_split_of_nothing_is_none():
    train, validation = labelled(load("news_sample"), RunConfig(train_size=20, validation_share=1e-9))
    assert (len(train), validation) == (20, None)


def test_hold_out_of_nothing_and_of_everything():
    kept, held = hold_out(EVEN, 0.0, rng())
    assert (len(kept), len(held)) == (120, 0)
    with pytest.raises(InputError, match="leaves none to train on"):
        hold_out(EVEN[:1], 0.2, rng())
