"""The space is the grid's cells, each setting once; the strategies ask for what they should, and nothing twice."""

import itertools

import numpy as np
import pytest
import yaml

from lrtl_utils.errors import InputError
from lrtl_utils.sweep import strategies
from lrtl_utils.sweep.strategies import Combination, Space

NEWS = {"dataset": "news_sample", "method": "full", "train_size": 40, "validation_share": 0.5, "batch_size": 8}


def toy(knobs, holes=()):
    points = [point for point in itertools.product(*knobs.values()) if point not in holes]
    combinations = [Combination(dict(zip(knobs, point, strict=True)), ()) for point in points]
    return Space("toy", knobs, combinations, {point: at for at, point in enumerate(points)})


WIDE = toy({"learning_rate": [1e-5, 3e-5, 1e-4, 3e-4], "epochs": [1, 3, 9], "scheduler": ["linear", "cosine"]})


def smooth(space):
    """A score for every setting: more is better in the rate and in the epochs, and cosine is."""
    ranks = [[space.knobs[name].index(value) for name, value in c.values.items()] for c in space.combinations]
    return [float(np.dot(rank, [0.3, 0.2, 0.1])) for rank in ranks]


def asked_by(strategy, scores):
    """Every list of positions that it asks for, when it hears these scores."""
    asked = [next(strategy)]
    try:
        while True:
            asked.append(strategy.send([scores[at] for at in asked[-1]]))
    except StopIteration:
        return asked


def space_of(tmp_path, content):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return strategies.read_space(path)


def test_a_space_has_every_distinct_setting_once_and_only_knobs_that_matter(tmp_path):
    lists = {"learning_rate": [5e-5, 1e-5], "warmup_steps": [500, 1000], "scheduler": ["linear", "cosine"]}
    space = space_of(tmp_path, NEWS | lists | {"seed": [7, 8, 9], "epochs": 2})
    assert space.knobs == {"learning_rate": [1e-5, 5e-5], "scheduler": ["linear", "cosine"]}
    assert len(space.combinations) == 4
    assert all([cell.config.seed for cell in one.cells] == [7, 8, 9] for one in space.combinations)
    assert len({cell.identity for one in space.combinations for cell in one.cells}) == 12
    assert space.combinations[space.places[1e-5, "cosine"]].values == {"learning_rate": 1e-5, "scheduler": "cosine"}


def test_a_setting_that_clamping_joins_to_another_is_found_there(tmp_path):
    space = space_of(tmp_path, NEWS | {"warmup_steps": [5, 1000], "epochs": [1, 4]})  # 3 steps an epoch
    assert len(space.combinations) == 3
    assert space.places[1, 1000] == space.places[1, 5]
    arms = strategies.arms(space, seed=0, fidelity="epochs")
    assert {(space.combinations[first].values["epochs"], len({first, last})) for first, last in arms} == {(1, 2)}
    assert len({first for first, _ in arms}) == 1
    assert len({last for _, last in arms}) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (NEWS | {"validation_share": 0, "epochs": [1, 2]}, "give a validation_share"),
        ({"validation_share": 0.2, "dataset": ["news_sample", "reviews_sample"]}, "one data set"),
        (NEWS | {"epochs": [1, -2]}, "epochs=-2"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(tmp_path, content, said):
    with pytest.raises(InputError, match=said) as error:
        space_of(tmp_path, content)
    assert "\n" not in str(error.value)


def test_settings_with_different_labels_are_compared_by_halving_only():
    space = toy({"train_size": [10, 100], "epochs": [1, 2]})
    with pytest.raises(InputError, match="--fidelity train_size"):
        strategies.comparable(space, None)
    with pytest.raises(InputError, match="differ in train_size"):
        strategies.comparable(space, "epochs")
    assert strategies.comparable(space, "train_size") == {2, 3}
    with pytest.raises(InputError, match="validation_share cannot be compared; give it one value"):
        strategies.comparable(toy({"validation_share": [0.1, 0.2]}), None)


def test_the_fidelity_is_a_list_of_numbers():
    assert strategies.find_fidelity(WIDE, None) == "epochs"
    assert strategies.find_fidelity(toy({"train_size": [1, 2], "epochs": [1, 2]}), "train_size") == "train_size"
    for space, asked in (
        (WIDE, "train_size"),
        (toy({"epochs": [None, 2]}), None),
        (toy({"dropout": [0.1, 0.2]}), None),
    ):
        with pytest.raises(InputError, match="climbs a list of numbers"):
            strategies.find_fidelity(space, asked)
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        strategies.find_fidelity(WIDE, "epoch")
    with pytest.raises(InputError, match="every setting at each epochs"):
        strategies.arms(toy({"dropout": [0.1, 0.2], "epochs": [1, 2]}, holes=[(0.2, 1)]), 0, "epochs")


def test_halving_measures_the_best_third_again_with_more():
    arms = [(n, 9 + n, 18 + n) for n in range(9)]
    scores = [0.1, 0.5, 0.2, 0.9, 0.3, 0.8, 0.4, 0.0, 0.6] + [0.7] * 9 + [1.0] * 9
    scores[9 + 5] = 0.75
    assert asked_by(strategies.halving([arms], 3), scores) == [list(range(9)), [9 + 3, 9 + 5, 9 + 8], [18 + 5]]
    assert asked_by(strategies.halving([arms], 2), scores)[1:] == [[9 + 3, 9 + 5, 9 + 8, 9 + 1], [18 + 5, 18 + 3]]


def test_in_halving_a_failed_arm_is_out_and_ties_go_to_the_earlier():
    arms = [(0, 3), (1, 4), (2, 5)]
    assert asked_by(strategies.halving([arms], 3), [None, 0.5, 0.5, 0, 0, 0]) == [[0, 1, 2], [4]]
    assert asked_by(strategies.halving([arms, [(6, 7)]], 3), [None] * 8) == [[0, 1, 2], [6]]


def test_arms_come_whole_in_an_order_of_the_seeds_own():
    orders = [strategies.arms(WIDE, seed, "epochs") for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(itertools.chain(*orders[0])) == list(range(24))
    assert all([WIDE.combinations[at].values["epochs"] for at in arm] == [1, 3, 9] for arm in orders[0])
    assert strategies.bracket_size(WIDE, "epochs", 3) == 9


@pytest.mark.parametrize("known", [{}, {0: 0.0, 5: 0.3, 6: None}])
@pytest.mark.parametrize("at_once", [1, 4])
def test_tpe_asks_for_every_setting_left_once(known, at_once):
    asked = asked_by(strategies.tpe(WIDE, 3, known, trials=100, at_once=at_once), smooth(WIDE))
    assert sorted(itertools.chain(*asked)) == sorted(set(range(24)) - set(known))
    assert {len(batch) for batch in asked[:-1]} == {at_once}
    few = asked_by(strategies.tpe(WIDE, 3, known, trials=6, at_once=at_once), smooth(WIDE))
    assert list(itertools.chain(*few))[:4] == list(itertools.chain(*asked))[:4]
    assert sum(map(len, few)) == 6


def test_tpe_finds_its_way_around_what_the_space_does_not_have():
    space = toy({"dropout": [0.1, 0.2, 0.3], "scheduler": ["a", "b", "c"]}, holes=[(0.1, "a"), (0.2, "b"), (0.3, "c")])
    assert sorted(itertools.chain(*asked_by(strategies.tpe(space, 0, {}, trials=9), [0.5] * 6))) == list(range(6))


def trials_to_the_best(strategy, scores):
    (at,), trials = next(strategy), 1
    while scores[at] < max(scores):
        (at,), trials = strategy.send([scores[at]]), trials + 1
    return trials


def test_tpe_needs_fewer_trials_than_a_random_order_and_fewer_yet_for_what_it_is_told():
    scores, seeds = smooth(WIDE), range(20)
    known = {at: scores[at] for at in range(0, 24, 3) if at != np.argmax(scores)}
    learnt = np.mean([trials_to_the_best(strategies.tpe(WIDE, seed, {}, 24), scores) for seed in seeds])
    told = np.mean([trials_to_the_best(strategies.tpe(WIDE, seed, known, 24), scores) for seed in seeds])
    drawn = np.mean([trials_to_the_best(strategies.random_order(WIDE, seed), scores) for seed in seeds])
    assert told < learnt < 0.8 * drawn


def test_a_strategy_is_a_matter_of_its_seed():
    for strategy in (lambda seed: strategies.tpe(WIDE, seed, {}, 24), lambda seed: strategies.random_order(WIDE, seed)):
        first, again, other = (asked_by(strategy(seed), smooth(WIDE)) for seed in (5, 5, 6))
        assert first == again != other
        assert sorted(itertools.chain(*first)) == list(range(24))
