import sys

import pandas as pd
import pytest

from lrtl_utils import Run
from lrtl_utils.runs.menus import menus


@pytest.fixture
def variables():
    """Those of a notebook."""
    return {"dataset": "news_sample", "model": "minilm", "method": "full", "shots": 4}


def test_a_choice_sets_the_variable_that_the_run_reads(variables):
    dataset, model, method = menus(variables).children
    assert (dataset.value, model.value, method.value) == ("news_sample", "minilm", "full")
    dataset.value, model.value, method.value = "reviews_sample", "minilm_l3", "linear_probe"
    asked = Run.from_parameters(variables).asked
    assert (asked.dataset, asked.model, asked.method, asked.shots) == ("reviews_sample", "minilm_l3", "linear_probe", 4)


def test_menus_hold_what_fits_the_kind_and_what_is_set_now(variables, tmp_path):
    variables["model"] = str(tmp_path)
    dataset, model, method = (menu.options for menu in menus(variables).children)
    assert {"reviews_sample", "tfidf", str(tmp_path)} <= {*dataset, *method, *model}
    assert not {"digits", "efficientnet_lite0"} & {*dataset, *model}


def test_menus_of_a_table_whose_columns_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    table = pd.DataFrame({"a": ["good", "bad"] * 9, "b": ["up", "down"] * 9, "c": range(18)})
    table.to_json(tmp_path / "odd.jsonl", orient="records", lines=True)
    given = {"model": "minilm", "method": "full", "text_column": "a", "label_column": "b"}
    for dataset in (str(tmp_path / "odd.jsonl"), tmp_path / "odd.jsonl", table):
        shown, *_ = menus(given | {"dataset": dataset}).children
        assert "news_sample" in shown.options


def test_without_ipywidgets_a_sentence_says_so(variables, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert "pip install ipywidgets" in menus(variables)
