import sys

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


def test_without_ipywidgets_a_sentence_says_so(variables, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert "pip install ipywidgets" in menus(variables)
