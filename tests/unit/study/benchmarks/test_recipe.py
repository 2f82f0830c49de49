import itertools
import json
import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from synthetic import outcomes, write_run

from lrtl_utils.errors import InputError
from lrtl_utils.methods import VERSIONS
from lrtl_utils.study.benchmarks import published, recipe

SST2 = {"dataset": "sst2", "model": "minilm", "train_size": 100}


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "recipe"
    for seed in range(3):
        right = outcomes(0.8, 100, seed)
        worse = right.copy()
        worse[np.flatnonzero(right)[:60]] = False
        write_run(folder, right, method="progressive", seed=seed, flops=10, **SST2)
        write_run(folder, worse, method="full", seed=seed, flops=40, **SST2)
        write_run(folder, worse, method="progressive", without="soften", seed=seed, flops=10, **SST2)
        write_run(folder / "version-1", worse, method="progressive", seed=seed, flops=20, **SST2)
    return folder


def test_every_method_and_piece_is_compared_with_progressive(results):
    table = recipe.compared(recipe.runs(results)).set_index("configuration")
    assert sorted(table.index) == ["full", "progressive", "progressive [without=soften]", "progressive, version 1"]
    others = table.drop("progressive")
    assert others["mean"].lt(-0.1).all()
    assert set(others["verdict"]) == {"worse"}
    assert table["flops"].to_dict() == {
        "full": 4,
        "progressive": 1,
        "progressive [without=soften]": 1,
        "progressive, version 1": 2,
    }


def test_settings_won_and_lost_are_counted_for_each_configuration(results):
    won = recipe.counts(recipe.compared(recipe.runs(results))).set_index("configuration")
    assert set(won.index) == {"full", "progressive [without=soften]", "progressive, version 1"}
    counted = {"won": 1, "lost": 0, "undecided": 0, "at_least_as_good": 1, "settings": 1}
    assert counted.items() <= won.loc["full"].to_dict().items()
    assert "In 0 of 1 settings the mean of another configuration is more than 1.0 points higher." in (
        recipe.write(results).read_text()
    )
    assert won.loc["full", "gain"] > 0.1
    assert np.isnan(won.loc["full", "low"])  # of one setting


def test_runs_in_another_precision_are_not_further_seeds(results):
    for seed in range(2):
        knobs = {"method": "progressive", "seed": seed, "precision": "bf16"} | SST2
        write_run(results, outcomes(0.8, 100, seed), flops=10, **knobs)
    table = recipe.compared(recipe.runs(results)).set_index("configuration")
    assert table["seeds"].to_dict() == {
        "full": 3,
        "progressive": 3,
        "progressive [without=soften]": 3,
        "progressive, version 1": 3,
        "progressive [precision=bf16]": 2,
    }


def test_seconds_are_compared_also_with_a_method_that_has_no_model(tmp_path):
    for seed in range(3):
        write_run(tmp_path, outcomes(0.8, 100, seed), method="progressive", seed=seed, seconds=4.0, **SST2)
        knobs = {"dataset": "sst2", "train_size": 100, "method": "tfidf", "seed": seed}
        write_run(tmp_path, outcomes(0.3, 100, seed), seconds=1.0, **knobs)
    table = recipe.compared(recipe.runs(tmp_path)).set_index("configuration")
    assert table["seconds"].to_dict() == pytest.approx({"progressive": 1, "tfidf": 0.25})


def test_with_too_few_seeds_for_a_verdict_the_page_has_its_rows_and_counts_nothing(tmp_path):
    for method in ("progressive", "full"):
        write_run(tmp_path, outcomes(0.8, 100, 0), method=method, **SST2)
    assert recipe.counts(recipe.compared(recipe.runs(tmp_path))).empty
    assert "| full " in recipe.write(tmp_path).read_text()


def test_a_page_of_no_other_method_has_a_row_and_one_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no completed run, so there is no table to write"):
        recipe.write(tmp_path)
    write_run(tmp_path, outcomes(0.8, 100, 0), method="progressive", **SST2)
    assert "| progressive " in recipe.write(tmp_path).read_text()


def test_the_mean_over_the_settings_has_an_interval():
    rows = {"configuration": "full", "verdict": "undecided", "as_good": True, "mean": [-0.01, -0.02, -0.03]}
    names = ["sst2 · minilm", "hwu64_5 · minilm", "wnut17 · minilm_crf"]
    (found,) = recipe.counts(pd.DataFrame(rows | {"dataset_model": names})).to_dict("records")
    interval = pytest.approx((0.02, 0.02 - 0.0248, 0.02 + 0.0248), abs=1e-4)  # t of 2 degrees
    assert tuple(found[name] for name in recipe.GAIN) == interval
    assert found["data_sets"] == 3
    assert tuple(found[name] for name in recipe.DATA_SET_GAIN) == interval
    names[2] = "hwu64_10 · minilm_l3"
    (found,) = recipe.counts(pd.DataFrame(rows | {"dataset_model": names})).to_dict("records")
    assert (found["data_sets"], found["data_set_gain"]) == (2, pytest.approx(0.0175))
    assert np.isnan(found["data_set_low"])


def test_the_page_has_a_row_for_each_that_ran(results):
    page = recipe.write(results).read_text().split("## Every ")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "sst2 · " in line]
    assert [row[2] for row in rows] == sorted(recipe.compared(recipe.runs(results))["configuration"])
    assert all("[" in row[4] for row in rows)
    assert [bool(row[5]) for row in rows] == [row[2] != "progressive" for row in rows]
    assert (results / "table.csv").is_file()


def test_a_data_set_has_one_row_for_each_configuration_at_all_its_sizes(results):
    for seed in range(3):
        for knobs in ({"train_size": None, "shots": 8}, {"train_size": 500}):
            write_run(results, outcomes(0.8, 100, seed), method="progressive", seed=seed, flops=10, **SST2 | knobs)
    page = recipe.write(results).read_text().split("## Every data set, by the number of labels")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "sst2 · " in line]
    (ours,) = [row[2:] for row in rows if row[1] == "progressive"]
    assert [cell.split(":")[0] for cell in ours] == ["16", "100", "500"]
    (full,) = [row[2:] for row in rows if row[1] == "full"]
    assert re.fullmatch(r"100: [\d.]+ \[[\d.]+, [\d.]+\] \*, 4.000.*", full[1])
    assert full[::2] == ["", ""]


def test_a_piece_left_out_is_a_column_of_its_own_and_no_opponent(results):
    counted, pieces, *_ = recipe.write(results).read_text().split("\n## ")
    assert "| full " in counted
    assert "soften" not in counted
    assert [line.split("|")[3].strip() for line in pieces.splitlines() if "labels" in line] == ["without=soften"]
    (points,) = [line.split("|")[3].strip() for line in pieces.splitlines() if "sst2 · " in line]
    assert points.startswith("-")
    assert points.endswith("] *")


def test_what_was_asked_of_progressive_names_it_and_what_it_chose_does_not(tmp_path):
    asked = {"augment": "light", "penalty": 3.0, "label_names": True, "drop_leaks": True}
    for knobs in ({}, asked, {"without": "soften"}):
        write_run(tmp_path, outcomes(0.8, 100, 0), method="progressive", **SST2 | knobs)
    assert set(recipe.runs(tmp_path)["configuration"]) == {
        "progressive",
        "progressive [penalty=3.0, augment=light]",
        "progressive [without=soften]",
    }


def test_the_versions_of_all_methods_are_frozen_once(results):
    frozen = json.loads(recipe.freeze(results).read_text())
    assert (frozen["versions"], frozen["seen"]) == (VERSIONS, {"sst2": 12})
    assert set(frozen["grids"]) == {"tuning.yaml", "confirmation.yaml"}
    assert datetime.fromisoformat(frozen["frozen_at"]) <= datetime.now(UTC)
    with pytest.raises(InputError, match="already exists"):
        recipe.freeze(results)


def test_a_confirmation_runs_only_the_frozen_methods_in_the_folder_that_was_named(results):
    confirmation = results.parent / recipe.CONFIRMATION
    with pytest.raises(InputError, match="is frozen before a confirmation begins"):
        recipe.require_frozen(confirmation)
    path = recipe.freeze(results)
    recipe.require_frozen(confirmation)
    frozen = json.loads(path.read_text())
    grid, other = results.parent / "confirmation.yaml", results.parent / "study.yaml"
    for each in (grid, other):
        each.write_text("seed: 1\n")
    recipe.require_frozen(results, [other])
    with pytest.raises(InputError, match="and not 'recipe'"):
        recipe.require_frozen(results, [grid])
    with pytest.raises(InputError, match=r"confirmation\.yaml changed after"):
        recipe.require_frozen(confirmation, [grid])
    path.write_text(json.dumps(frozen | {"versions": VERSIONS | {"full": 0}}))
    with pytest.raises(InputError, match="full changed after"):
        recipe.require_frozen(confirmation)


def test_rung_zero_is_judged_by_the_bar_of_its_kind(results):
    rows = "sst2,minilm,100,4,1.4\nconll2003,minilm_crf,100,4,1.4\n"
    (results / "rung_zero.csv").write_text(f"data set,model,labels,turns,share\n{rows}")
    text, tags = recipe.write(results).read_text().split("## Rung 0")[1].strip().splitlines()[-2:]
    assert "missed" in text
    assert "met" in tags


def test_a_baseline_whose_rate_was_chosen_is_named_as_tuned_at_every_size(tmp_path):
    for seed in range(3):
        for size, rate in ((100, 3e-4), (500, 1e-3)):
            asked = SST2 | {"train_size": size, "seed": seed}
            write_run(tmp_path, outcomes(0.8, 100, seed), method="progressive", **asked)
            write_run(tmp_path, outcomes(0.7, 100, seed), method="full", learning_rate=rate, epochs=10, **asked)
    table = recipe.compared(recipe.runs(tmp_path))
    named = table.groupby("n_labels")["configuration"].agg(list)
    assert named.tolist() == [["full (tuned)", "progressive"]] * 2
    assert recipe._behind(table.assign(mean=[0.011, None, 0.009, None])).startswith("In 1 of 2 settings")
    assert table["seconds"].tolist() == [1, 1, 1, 1]


def test_a_method_without_a_model_is_compared_in_the_setting_of_each_model(tmp_path):
    for seed in range(3):
        write_run(tmp_path, outcomes(0.8, 100, seed), method="progressive", seed=seed, **SST2)
        write_run(tmp_path, outcomes(0.2, 100, seed), method="tfidf", seed=seed, **SST2)
    rows = recipe.compared(recipe.runs(tmp_path)).set_index("configuration")
    assert set(rows["dataset_model"]) == {"sst2 · minilm"}
    assert rows.loc["tfidf", "mean"] < 0


def test_a_method_without_a_model_has_a_row_only_where_a_model_ran(tmp_path):
    for size, model in ((40, "minilm"), (100, "minilm"), (100, "minilm_l3")):
        for seed in range(3):
            knobs = {"dataset": "sst2", "train_size": size, "seed": seed}
            write_run(tmp_path, outcomes(0.6, size, seed), method="progressive", model=model, **knobs)
            write_run(tmp_path, outcomes(0.4, size, seed), method="tfidf", model="none", **knobs)
    table = recipe.compared(recipe.runs(tmp_path)).query("configuration == 'tfidf'")
    assert table[recipe.AT].to_numpy().tolist() == [
        ["sst2 · minilm", 40],
        ["sst2 · minilm", 100],
        ["sst2 · minilm_l3", 100],
    ]


def test_published_figures_stand_above_ours_with_as_many_examples_of_each_class(tmp_path):
    news = {"dataset": "ag_news", "model": "minilm"}
    kinds = {"shots": 8, "train_size": None}, {"train_size": 32}, {"shots": 4, "train_size": None}
    for (place, knobs), seed in itertools.product(enumerate(kinds), range(3)):
        folder = tmp_path if knobs.get("shots") == 8 else tmp_path / f"other-{place}"
        for method, names in (("progressive", True), ("full", False)):
            read = {"method": method, "label_names": names, "seed": seed} | news | knobs
            write_run(folder, outcomes(0.8, 32, seed), **read)
    write_run(tmp_path, outcomes(0.8, 32, 0), method="tfidf", shots=8, dataset="ag_news")  # with one seed
    theirs, full, ours = published.few_shot(recipe.runs(tmp_path)).to_dict("records")
    assert (full["model"], full["names_of_classes"]) == ("full with minilm", "not read")
    assert (theirs["score"], theirs["differs"]) == (0.831, "training and test examples")
    assert (ours["source"], ours["model"], ours["seeds"]) == ("here", "progressive with minilm", 3)
    assert ours["n_labels"] == theirs["n_labels"] == 32
    assert ours["names_of_classes"] == "read"
    for place in (1, 2):  # drawn at random, and with half as many labels
        assert published.few_shot(recipe.runs(tmp_path / f"other-{place}")).empty


def test_a_page_has_the_published_figure_beside_what_was_added_to_its_results(tmp_path):
    news = {"dataset": "ag_news", "model": "minilm"}
    for seed in range(3):
        write_run(tmp_path / "c", outcomes(0.8, 100, seed), method="progressive", train_size=100, seed=seed, **news)
        write_run(tmp_path / "c-added", outcomes(0.8, 32, seed), method="linear_probe", shots=8, seed=seed, **news)
    page = recipe.write(tmp_path / "c").read_text()
    assert "## Beside published figures" in page
    (ours,) = (line for line in page.splitlines() if "linear_probe with minilm" in line)
    assert ours.split("|")[1:3] == [" ag_news   ", " 32       "]


def test_the_planned_settings_are_those_of_the_grid_on_other_data_sets(tmp_path):
    (tmp_path / "grid.yaml").write_text("""
seed: [0, 1]
model: minilm
train_size: 100
blocks:
  both: {dataset: [../own, sst2]}
  again: {dataset: ../own}
  few: {dataset: ../own, train_size: null, shots: 8}
""")
    assert recipe.planned(tmp_path / "grid.yaml") == 2
