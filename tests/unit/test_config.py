from pathlib import Path

import numpy as np
import pytest

from lrtl_utils.config import RunConfig, derived_seed, read_config
from lrtl_utils.data.catalog import TASKS
from lrtl_utils.errors import InputError, require_name
from lrtl_utils.methods import METHODS
from lrtl_utils.models.catalog import MODELS


def test_words_become_numbers_and_none():
    config = read_config({"learning_rate": "5e-5", "epochs": "3", "data_fraction": "None", "train_size": "40"})
    assert (config.learning_rate, config.epochs, config.data_fraction, config.train_size) == (5e-5, 3, None, 40)


def test_a_path_a_number_of_a_column_and_nothing_are_what_they_stand_for():
    given = {"model": Path("my/model"), "text_column": np.int64(0), "label_column": 1, "without": ""}
    config = read_config(given)
    assert (config.model, config.text_column, config.label_column, config.without) == ("my/model", "0", "1", None)
    for wrong in ({"train_size": np.bool_(True)}, {"learning_rate": ""}, {"text_column": True}):
        with pytest.raises(InputError, match="cannot be used"):
            read_config(wrong)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("epochs", "three", "it should be a whole number"),
        ("epochs", 2.5, "it should be a whole number"),
        ("learning_rate", "fast", "it should be a number"),
        ("drop_leaks", "perhaps", "it should be true or false"),
        ("train_size", 0, "it should be greater than or equal to 1"),
        ("device", "gpu", "it should be 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_a_wrong_value_is_answered_with_what_it_should_be(name, value, said):
    with pytest.raises(InputError, match=rf"^{name}={value!r} cannot be used \(.*\): {said}\.$"):
        read_config({name: value})


@pytest.mark.parametrize(
    ("path", "name"), [("./digits", "./digits"), ("..", "./.."), ("a/b", "a/b"), ("~/x", "~/x"), ("/x", "/x")]
)
def test_a_path_is_never_taken_for_a_name_of_the_catalog(path, name):
    config = read_config({"dataset": Path(path), "model": Path(path)})
    assert (config.dataset, config.model) == (name, name)


def test_none_stays_a_name_where_names_are_expected():
    assert read_config({"model": "none", "augment": "none"}).model_dump(include={"model", "augment"}) == {
        "model": "none",
        "augment": "none",
    }


def test_every_knob_has_a_description():
    assert [name for name, field in RunConfig.model_fields.items() if not field.description] == []


def test_a_knob_that_is_true_or_false_may_also_be_left_out():
    given = [read_config({"word_shape": value}).word_shape for value in ("true", False, "None", None)]
    assert given == [True, False, None, None]


def test_derived_seeds_differ_by_purpose_and_seed_and_are_the_same_everywhere():
    seeds = {(seed, purpose): derived_seed(seed, purpose) for seed in range(50) for purpose in ("subset", "head")}
    assert len(set(seeds.values())) == 100
    assert all(0 <= seed < 2**31 for seed in seeds.values())
    assert seeds[7, "head"] == 420008418


def test_config_cannot_be_changed():
    config = RunConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1
    assert hash(config) == hash(RunConfig())


def test_config_is_found_among_a_notebooks_variables():
    assert RunConfig.of({"seed": 7, "results": "elsewhere", "pd": None}) == RunConfig(seed=7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", float("nan")),
        ("learning_rate", "nan"),
        ("learning_rate", float("inf")),
        ("learning_rate", 0),
        ("learning_rate", "fast"),
        ("weight_decay", float("inf")),
        ("weight_decay", "-inf"),
        ("dropout", 1.0),
        ("data_fraction", 0),
        ("data_fraction", 1.01),
        ("data_fraction", float("nan")),
        ("validation_share", 1),
        ("train_size", 0),
        ("train_size", 2.5),
        ("shots", "three"),
        ("shots", -1),
        ("seed", -1),
        ("seed", 2**31),
        ("seed", "0-4"),
        ("seed", None),
        ("batch_size", 0),
        ("layers", 0),
        ("layers", 1.5),
        ("layers", True),
        ("penalty", 0),
        ("penalty", "nan"),
        ("word_shape", "perhaps"),
        ("epochs", "1.5"),
        ("warmup_steps", -1),
        ("optimizer", "adamm"),
        ("scheduler", "step"),
        ("precision", "fp8"),
        ("device", "gpu"),
        ("max_length", 4),
        ("image_size", 100_000),
        ("test_limit", 0),
        ("dataset", ["ag_news"]),
        ("method", 3),
    ],
)
def test_a_value_out_of_range_is_one_sentence_with_its_name(name, value):
    with pytest.raises(InputError) as error:
        read_config({name: value})
    said = str(error.value)
    assert said.startswith(f"{name}=")
    assert RunConfig.model_fields[name].description in said
    assert "\n" not in said
    assert ("only a grid file takes several" in said) == (value == "0-4")


@pytest.mark.parametrize(
    ("what", "known", "wrong", "right"),
    [
        ("parameter", RunConfig.model_fields, "lerning_rate", "learning_rate"),
        ("parameter", RunConfig.model_fields, "batchsize", "batch_size"),
        ("parameter", RunConfig.model_fields, "lr", "learning_rate"),
        ("parameter", RunConfig.model_fields, "per_device_train_batch_size", "batch_size"),
        ("parameter", RunConfig.model_fields, "random_seed", "seed"),
        ("dataset", TASKS, "ag-news", "ag_news"),
        ("dataset", TASKS, "newssample", "news_sample"),
        ("model", MODELS, "mini_lm", "minilm"),
        ("method", METHODS, "liner_probe", "linear_probe"),
        ("method", METHODS, "conventionel", "conventional"),
        ("method", METHODS, "conv", "conventional"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(what, known, wrong, right):
    with pytest.raises(InputError, match=f"no {what} named '{wrong}'; did you mean '{right}'"):
        require_name(what, wrong, known)


@pytest.mark.parametrize("name", ["zzz", ""])
def test_a_name_like_no_other_is_answered_with_all(name):
    with pytest.raises(InputError, match="the known ones are tfidf, from_scratch, conventional"):
        require_name("method", name, METHODS)


def test_unknown_parameter_is_refused_by_reader_and_config():
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        read_config({"epoch": 3})
    with pytest.raises(ValueError, match="epoch"):
        RunConfig(epoch=3)
