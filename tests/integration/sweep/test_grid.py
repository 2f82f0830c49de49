"""A grid is refused whole for one wrong value, and its lists multiply into distinct cells."""

import json
from pathlib import Path

import pytest
from grid_files import written

from lrtl_utils.data import load as loading
from lrtl_utils.data import own
from lrtl_utils.errors import InputError
from lrtl_utils.runs.run import Run
from lrtl_utils.sweep import price
from lrtl_utils.sweep.grid import plan, read_grid
from lrtl_utils.sweep.search import read_space

SMALL = {"dataset": "digits", "model": "efficientnet_lite0", "method": "linear_probe", "image_size": 32}


def test_lists_multiply_and_blocks_share_the_rest(tmp_path):
    content = {
        "seed": [0, 1],
        "data_fraction": 0.2,
        "blocks": {
            "digits": SMALL,
            "news": {"dataset": "news_sample", "method": ["tfidf", "full"], "notebook": "quickstart"},
        },
    }
    cells = read_grid(written(tmp_path, content))
    assert len(cells) == 2 + 4
    assert {notebook for notebook, _ in cells} == {"image_classification", "quickstart"}
    assert {config.data_fraction for _, config in cells} == {0.2}


def test_a_grid_looks_once_at_a_folder(tmp_path, monkeypatch):
    """One of 2,500 images took a tenth of a second for each of its cells, three times over."""
    (tmp_path / "mine.csv").write_text("text,label\n" + "good,a\nbad,b\n" * 20)
    looks, look = [], own.kind_of
    monkeypatch.setattr(own, "kind_of", lambda *asked: looks.append(asked) or look(*asked))
    content = {"dataset": str(tmp_path / "mine.csv"), "model": "minilm", "seed": [0, 1, 2]}
    assert len(read_grid(written(tmp_path, content | {"method": ["full", "linear_probe"]}))) == 6
    assert len(looks) == 1


def test_planning_and_pricing_read_each_data_set_once(tmp_path, monkeypatch):
    """However many there are: their rows take turns where another list stands before theirs."""
    names = [str(tmp_path / f"{i}.csv") for i in range(6)]
    for i, name in enumerate(names):
        Path(name).write_text("text,label\n" + "".join(f"word {i} of {row},{'ab'[row % 2]}\n" for row in range(40)))
    read, load = [], loading.load
    monkeypatch.setattr(loading, "load", lambda **asked: read.append(asked["dataset"]) or load(**asked))
    content = {"method": "tfidf", "seed": [0, 1, 2], "train_size": 8, "dataset": names}
    cells = plan(read_grid(written(tmp_path, content)), Run.outline)
    assert sorted(read) == names
    assert [cell.config.dataset for cell in cells] == names * 3
    price.estimate(cells, tmp_path / "results", 1)
    assert max(read.count(name) for name in names) <= 2
    read.clear()
    read_space(written(tmp_path, content | {"learning_rate": [1e-3, 1e-2], "method": "full", "validation_share": 0.5}))
    assert max(read.count(name) for name in names) == 1


def test_what_a_grid_does_not_name_has_the_default_of_its_notebook(tmp_path):
    cells = read_grid(written(tmp_path, {"notebook": "image_classification"}))
    cells += read_grid(written(tmp_path, {"dataset": "entities_sample"}))
    found = [(config.dataset, config.model, config.method) for _, config in cells]
    assert found == [("digits", "efficientnet_lite0", "linear_probe"), ("entities_sample", "minilm_crf", "full")]


def test_the_column_that_is_read_names_the_notebook(tmp_path):
    row = {"text": "Ada left", "tokens": ["Ada", "left"], "topic": "news", "ner_tags": ["B-PER", "O"]}
    (tmp_path / "both.jsonl").write_text("\n".join(json.dumps(row) for _ in range(20)))
    content = {"dataset": str(tmp_path / "both.jsonl"), "text_column": "tokens", "label_column": "ner_tags"}
    ((notebook, config),) = read_grid(written(tmp_path, content))
    assert (notebook, config.model) == ("named_entity_recognition", "minilm_crf")


def test_numbers_with_exponents_are_numbers(tmp_path):
    (cell,) = read_grid(written(tmp_path, "dataset: news_sample\nlearning_rate: 5e-5\n"))
    assert cell[1].learning_rate == 5e-5


def test_cells_that_clamping_makes_one_run_once(tmp_path):
    rates = {"dataset": "news_sample", "method": "linear_probe", "learning_rate": [0.1, 0.2]}
    assert len(plan(read_grid(written(tmp_path, rates)))) == 1
    warmups = {"dataset": "news_sample", "method": "conventional", "warmup_steps": [500, 1000]}
    assert len(plan(read_grid(written(tmp_path, warmups)))) == 1


def test_a_size_that_a_data_set_does_not_have_names_it(tmp_path):
    sizes = {"dataset": ["news_sample", "reviews_sample"], "method": "tfidf", "train_size": [100, 100_000]}
    with pytest.raises(InputError, match=r"^news_sample: train_size=100000 is more than the"):
        plan(read_grid(written(tmp_path, sizes)))


def test_what_is_merged_may_be_replaced(tmp_path):
    first = "{<<: {dataset: digits, seed: 0}, method: tfidf, dataset: news_sample}"
    cells = read_grid(written(tmp_path, f"blocks:\n  a: &a {first}\n  b: {{<<: *a, seed: 1}}\n"))
    assert {(cell.dataset, cell.seed) for _, cell in cells} == {("news_sample", 0), ("news_sample", 1)}


def test_a_block_may_have_another_number_of_labels_than_the_rest(tmp_path):
    blocks = {"few": SMALL | {"shots": 2}, "many": SMALL | {"train_size": None, "data_fraction": 1.0}}
    cells = read_grid(written(tmp_path, {"train_size": [50, 100], "blocks": blocks}))
    sizes = [(cell.shots, cell.train_size, cell.data_fraction) for _, cell in cells]
    assert sizes == [(2, 50, 0.1), (2, 100, 0.1), (None, None, 1.0)]
    assert len(read_grid(written(tmp_path, SMALL | {"shots": [None, 2], "train_size": [10, 20]}))) == 4


WRONG = {"bool": "maybe", "int": "''", "float": "''", "timestamp": "abc"}  # by the type that is asked for


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"dataset": "news_sample", "metod": "full"}, "did you mean 'method'"),
        ({"dataset": "news_sampel"}, "did you mean 'news_sample'"),
        ({"blocks": {"good": SMALL, "bad": SMALL | {"seed": [0, -1]}}}, "seed=-1"),
        ({"dataset": "news_sample", "model": "efficientnet_lite0"}, "does not read text"),
        ({"seed": []} | SMALL, "seed is an empty list"),
        ({"blocks": {"good": SMALL, "empty": SMALL | {"seed": []}}}, "grid.yaml, block empty: seed is an empty list"),
        ({"train_size": 100, "data_fraction": [0.1, 0.5]} | SMALL, "data_fraction has no effect beside train_size"),
        ({"shots": [4, 8], "train_size": [10, 20]} | SMALL, "train_size has no effect beside shots; leave one out"),
        (
            {"train_size": 9, "blocks": {"few": SMALL | {"data_fraction": 0.5}}},
            "few: data_fraction has no effect beside",
        ),
        ("- a\n- b\n", "not a mapping"),
        ("a: [1, 2", "not plain YAML"),
        *((f"a: !!{kind} {value}\n", "not plain YAML") for kind, value in WRONG.items()),
        ("dataset: !!python/object/apply:os.getcwd []\n", "not plain YAML"),
        ("blocks: 3\n", "`blocks` must map"),
        ("blocks: {}\n", "has no block"),
        ("seed: 0\ndataset: digits\nseed: [1, 2]\n", "seed appears twice, the second time in line 3"),
        ("blocks:\n  a: {seed: 0}\n  a: {seed: 1}\n", "a appears twice, the second time in line 3"),
    ],
)
def test_the_whole_grid_is_refused_for_one_wrong_value(tmp_path, content, said):
    with pytest.raises(InputError, match=said) as error:
        read_grid(written(tmp_path, content))
    assert "\n" not in str(error.value)
