"""What the searches for tuned baselines say, and how a grid takes their settings."""

import json

import pytest
import yaml

from lrtl_utils.config import RunConfig
from lrtl_utils.data.splits import share_of
from lrtl_utils.errors import InputError
from lrtl_utils.files import notebooks_folder
from lrtl_utils.study.benchmarks import tuning

RATES, EPOCHS = [1e-4, 3e-4, 1e-3], [3, 10, 30]


@pytest.fixture
def results(tmp_path):
    """Each of three searches found another rate, and its best score takes three times the FLOPs of the next.

    A fourth one in the folder is not for tuning.
    """
    (tmp_path / "search").mkdir()
    found = {
        "full-text-100": (3e-4, 10),
        "full-text-500": (1e-3, 3),
        "conventional-text-100": (1e-4, 10),
        "mine": (1e-4, 3),
    }
    for name, (rate, epochs) in found.items():
        setting = {"learning_rate": rate, "epochs": epochs}
        knobs = {"learning_rate": RATES, "epochs": EPOCHS}
        record = {"space": {"name": name, "knobs": knobs, "settings": 4 if epochs == 10 else 9}, "known": []}
        trials = [
            {"config": setting, "score": 0.697, "flops": 10},
            {"config": setting | {"epochs": 30}, "score": 0.7, "flops": 30},
            {"config": setting | {"epochs": 3}, "score": 0.69, "flops": 3},
            {"config": setting | {"epochs": 1}, "score": None, "flops": 1},
        ]
        record |= {"trials": trials, "best": {"config": setting, "score": 0.7, "trial": 2}}
        (tmp_path / "search" / f"{name}-tpe-seed0.json").write_text(json.dumps(record))
    return tmp_path


def test_each_method_kind_and_size_is_a_search_of_its_own():
    asked = [("news_sample", 400), ("reviews_sample", 400), ("news_sample", 128), ("digits", 128)]
    grid = [
        ("", RunConfig(dataset=dataset, train_size=size, validation_share=0.75, method=method))
        for method in ("full", "conventional")
        for dataset, size in asked
    ]
    found = {name: len(cells) for name, cells in tuning.spaces(grid).items()}
    sizes = {"text-100": 2, "text-32": 1, "image-32": 1}
    assert found == {f"{method}-{name}": n for name, n in sizes.items() for method in ("full", "conventional")}


def test_the_committed_space_trains_on_three_numbers_of_labels_of_each_kind():
    space = yaml.safe_load((notebooks_folder() / "grids" / "tuning.yaml").read_text())
    sizes = {}
    for name, block in space["blocks"].items():
        sizes[name] = block["train_size"] - share_of(block["train_size"], block["validation_share"])
    assert sizes == {f"{kind}_{n}": n for kind in ("texts", "tags", "images") for n in (100, 500, 32)}


def test_a_tuned_method_takes_the_setting_of_the_nearest_number_of_labels(results):
    searches = ["full-text-100", "full-text-500", "conventional-text-100", "full-image-32"]
    methods = ("full", "conventional", "progressive")
    grid = [
        ("", RunConfig(dataset="news_sample", method=method, train_size=size))
        for method in methods
        for size in (16, 220, 230, 390)
    ]
    needed = tuning.needed(grid, searches)
    assert needed == [*["full-text-100"] * 2, *["full-text-500"] * 2, *["conventional-text-100"] * 4, *[None] * 4]
    rates = [config.learning_rate for _, config in tuning.tuned(grid, needed, results)]
    assert rates == [3e-4, 3e-4, 1e-3, 1e-3, *[1e-4] * 4, *[None] * 4]
    ((_, probe),) = tuning.tuned(grid[-1:], [None], results / "empty")
    assert probe == grid[-1][1].model_copy(update={"precision": "fp32"})


def test_a_search_is_finished_when_it_has_tried_enough_or_all_of_the_space_that_is_asked_for(results):
    asked = [("", RunConfig(method="full", learning_rate=rate, epochs=epochs)) for rate in RATES for epochs in EPOCHS]
    assert tuning.finished(results, {"full-text-100": asked}) == {"full-text-100", "conventional-text-100"}
    with pytest.raises(InputError, match="has a search full-text-100 of another space"):
        tuning.finished(results, {"full-text-100": asked[:-3]})


def test_of_searches_of_one_name_the_last_counts_and_none_may_be_of_another_space(results):
    path = results / "search" / "full-text-500-tpe-seed0.json"
    search = json.loads(path.read_text())
    other = [row | {"config": row["config"] | {"learning_rate": 1e-4}} for row in search["trials"]]
    for number in (2, 10):
        (path.parent / f"{path.stem}-{number}.json").write_text(json.dumps(search | {"trials": other}))
    (row,) = tuning.chosen(results).query("search == 'full-text-500'").to_dict("records")
    assert row["setting"]["learning_rate"] == 1e-4
    with pytest.raises(InputError, match="has a search full-text-500 of another space"):
        tuning.finished(results, {"full-text-500": [("", RunConfig(method="full", learning_rate=1e-5, epochs=3))]})


def test_a_search_may_leave_the_epochs_as_they_are(results):
    path = results / "search" / "full-text-500-tpe-seed0.json"
    search = json.loads(path.read_text())
    del search["space"]["knobs"]["epochs"]
    for trial in search["trials"]:
        del trial["config"]["epochs"]
    path.write_text(json.dumps(search))
    (row,) = tuning.chosen(results).query("search == 'full-text-500'").to_dict("records")
    assert row["setting"] == {"learning_rate": 1e-3}


def test_what_was_recorded_before_a_search_began_counts_as_tried(results):
    path = results / "search" / "full-text-100-tpe-seed0.json"
    search = json.loads(path.read_text())
    path.write_text(json.dumps(search | {"known": search["trials"][:2], "trials": search["trials"][2:]}))
    assert "full-text-100" in tuning.finished(results, {})
    (row,) = tuning.chosen(results).query("search == 'full-text-100'").to_dict("records")
    assert (row["score"], row["tried"]) == (0.697, "4 of 4")


def test_a_search_of_which_nothing_has_a_score_is_an_error_where_it_is_needed(results):
    path = results / "search" / "full-text-100-tpe-seed0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"best": None}))
    assert set(tuning.chosen(results)["search"]) == {"full-text-500", "conventional-text-100"}
    grid = [("", RunConfig(method="full"))]
    assert tuning.tuned(grid, ["full-text-500"], results)[0][1].learning_rate == 1e-3
    with pytest.raises(InputError, match=r"No setting of the search full-text-100 in .* has a score"):
        tuning.tuned(grid, ["full-text-100"], results)


def test_a_space_without_a_validation_split_is_refused():
    with pytest.raises(InputError, match="give a train_size and a validation_share"):
        tuning.spaces([("", RunConfig(dataset="news_sample", train_size=100, method="full"))])


def test_the_page_says_what_was_found_and_where_the_space_ended(results):
    path = results / "search" / "conventional-text-100-tpe-seed0.json"
    path.write_text(path.read_text().replace(", 30]", "]"))  # so ten epochs are the most
    page = tuning.write(results).read_text()
    rows = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows |= {(cells[1], cells[2]): cells[3:]} if cells[0] == "text" else {}
    assert rows["full", "100"] == ["0.697", "", "4 of 4", "0.0003", "10", ""]
    assert rows["full", "500"] == ["0.697", "", "4 of 9", "0.001", "3", "learning_rate, epochs"]
    assert rows["conventional", "100"][:3] == ["0.697", "0.69", "4 of 4"]
    with pytest.raises(InputError, match="tuned first"):
        tuning.chosen(results / "search")
