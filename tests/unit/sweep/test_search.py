"""The order in which a search tries settings: each at most once, learnt from the scores, decided by its seed."""

import itertools

import numpy as np
import pytest

from lrtl_utils.errors import InputError
from lrtl_utils.sweep.search import Result, Setting, Space, comparable, explore, find_fidelity, summary


def toy(knobs, holes=()):
    points = [point for point in itertools.product(*knobs.values()) if point not in holes]
    settings = [Setting(dict(zip(knobs, point, strict=True)), ()) for point in points]
    return Space("toy", knobs, settings, {point: at for at, point in enumerate(points)})


WIDE = toy({"learning_rate": [1e-5, 3e-5, 1e-4, 3e-4], "epochs": [1, 3, 9], "scheduler": ["linear", "cosine"]})


def smooth(space):
    """A score for every setting: more is better in the rate and in the epochs, and cosine is."""
    ranks = [[space.knobs[name].index(value) for name, value in s.values.items()] for s in space.settings]
    return [float(np.dot(rank, [0.3, 0.2, 0.1])) for rank in ranks]


def batches(space, scores, trials=100, **options):
    """The lists of positions that a search measures together."""
    measured = []

    def measure(positions):
        measured.append(positions)
        return [Result(scores[at], None, 1.0, 1) for at in positions]

    order = [at for at, _ in explore(space, measure, trials, **options)]
    assert order == list(itertools.chain(*measured))
    return measured


def order(space, scores, **options):
    return list(itertools.chain(*batches(space, scores, **options)))


def test_settings_that_see_different_numbers_of_examples_are_compared_by_halving_only():
    space = toy({"train_size": [10, 100], "epochs": [1, 2]})
    with pytest.raises(InputError, match="--fidelity train_size"):
        comparable(space, None)
    with pytest.raises(InputError, match="differ in train_size"):
        comparable(space, "epochs")
    assert comparable(space, "train_size") == {2, 3}
    with pytest.raises(InputError, match="validation_share cannot be compared; give it one value"):
        comparable(toy({"validation_share": [0.1, 0.2]}), None)


def test_the_fidelity_is_a_list_of_numbers():
    assert find_fidelity(WIDE, None) == "epochs"
    assert find_fidelity(toy({"train_size": [1, 2], "epochs": [1, 2]}), "train_size") == "train_size"
    for space, asked in (
        (WIDE, "train_size"),
        (toy({"epochs": [None, 2]}), None),
        (toy({"dropout": [0.1, 0.2]}), None),
    ):
        with pytest.raises(InputError, match="raises a number"):
            find_fidelity(space, asked)
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        find_fidelity(WIDE, "epoch")
    with pytest.raises(InputError, match="every setting with each value of epochs: 1, 2"):
        order(toy({"dropout": [0.1, 0.2], "epochs": [1, 2]}, holes=[(0.2, 1)]), [0] * 3, keep=2, fidelity="epochs")


@pytest.mark.parametrize(("known", "at_once"), [({}, 1), ({0: 0.0, 5: 0.3, 6: None}, 4)])
def test_every_setting_that_is_not_known_is_tried_once(known, at_once):
    scores, options = smooth(WIDE), {"seed": 3, "known": known, "at_once": at_once}
    tried = batches(WIDE, scores, **options)
    assert sorted(itertools.chain(*tried)) == sorted(set(range(24)) - set(known))
    assert {len(batch) for batch in tried[:-1]} == {at_once}
    few = order(WIDE, scores, trials=6, **options)
    assert few[:4] == list(itertools.chain(*tried))[:4]
    assert len(few) == 6


def test_a_space_with_holes_is_searched_whole():
    space = toy({"dropout": [0.1, 0.2, 0.3], "scheduler": ["a", "b", "c"]}, holes=[(0.1, "a"), (0.2, "b"), (0.3, "c")])
    assert sorted(order(space, [0.5] * 6)) == list(range(6))


def test_a_search_needs_fewer_trials_than_a_random_order_and_fewer_still_if_some_scores_are_known():
    scores, seeds = smooth(WIDE), range(4)
    known = {at: scores[at] for at in range(0, 24, 3) if at != np.argmax(scores)}
    learnt = np.mean([order(WIDE, scores, trials=16, seed=seed).index(np.argmax(scores)) + 1 for seed in seeds])
    helped = np.mean(
        [order(WIDE, scores, trials=16, seed=seed, known=known).index(np.argmax(scores)) + 1 for seed in seeds]
    )
    assert helped < learnt < 0.8 * (1 + len(scores)) / 2


def test_the_order_depends_on_the_seed_alone():
    first, again, other = (order(WIDE, smooth(WIDE), trials=12, seed=seed) for seed in (5, 5, 6))
    assert first == again != other


@pytest.mark.parametrize("at_once", [1, 5])
def test_halving_raises_the_epochs_of_few_and_finds_the_best(at_once):
    scores, halving = smooth(WIDE), {"keep": 3, "fidelity": "epochs", "at_once": at_once}
    for seed in range(5):
        positions = order(WIDE, scores, seed=seed, **halving)
        tried = [WIDE.settings[at].values for at in positions]
        epochs = [values["epochs"] for values in tried]
        assert epochs.count(1) == 8  # every choice of the other knobs
        assert 1 <= epochs.count(9) <= epochs.count(3) < 8
        assert all(values | {"epochs": 1} in tried[:at] for at, values in enumerate(tried) if values["epochs"] == 3)
        assert int(np.argmax(scores)) in positions


def test_failed_trials_are_said_not_to_be_tried_again():
    trials, cost = [{"score": None}, {"score": 0.5}], {"device_seconds": 1.0, "flops": 1, "own_seconds": 0.1}
    said = [*summary({"known": [], "trials": trials, "best": None, "cost": cost})]
    assert said[1] == "1 setting failed; a search tries no failed setting again, but `lrtl sweep` of the same grid does"


def test_in_halving_a_setting_that_failed_is_not_raised():
    tried = order(WIDE, [None] * 24, keep=3, fidelity="epochs")
    assert {WIDE.settings[at].values["epochs"] for at in tried} == {1}


def test_choices_that_clamping_makes_one_are_tried_once_by_halving():
    space = Space(
        "clamped",
        {"warmup_steps": [5, 1000], "epochs": [1, 4]},
        [
            Setting({"warmup_steps": 5, "epochs": 1}, ()),
            *(Setting({"warmup_steps": w, "epochs": 4}, ()) for w in (5, 9)),
        ],
        {(5, 1): 0, (1000, 1): 0, (5, 4): 1, (1000, 4): 2},
    )
    assert order(space, [0.1, 0.2, 0.3], keep=2, fidelity="epochs").count(0) == 1
