"""README's table, from records whose outcomes were chosen."""

import re
import shutil

import pandas as pd
import pytest
from synthetic import outcomes, write_run

from lrtl_utils.errors import InputError
from lrtl_utils.files import ROOT
from lrtl_utils.study import tables
from lrtl_utils.study.benchmarks import readme, recipe


@pytest.fixture
def results(tmp_path):
    """`progressive` and both baselines on a data set of the catalog and on another, with 40 and 120 labels."""
    own = tmp_path / "own.csv"
    own.write_text("text,label\n" + "".join(f"row {i},{'ab'[i % 2]}\n" for i in range(60)))
    for dataset in ("sst2", str(own)):
        for size in (40, 120):
            for seed in range(readme.CLAIMED):
                knobs = {"dataset": dataset, "model": "minilm", "train_size": size, "seed": seed}
                write_run(tmp_path, outcomes(0.8, size, seed), method="progressive", flops=10, **knobs)
                for method in tables.WITH_RATE:
                    right = outcomes(0.3, size, seed)
                    write_run(tmp_path, right, method=method, learning_rate=1e-3, flops=40, **knobs)
    return tmp_path


def test_data_sets_that_chose_nothing_are_shown_with_the_labels_nearest_to_the_usual(results):
    found = readme.gains(recipe.runs(results), "full (tuned)")
    assert dict(zip(found["dataset_model"], found["n_labels"], strict=True)) == {"own.csv · minilm": 120}
    assert (found["mean"] > 0.05).all()


def test_a_second_model_has_a_row_in_the_picture_but_not_in_the_table_and_is_named_where_it_is_better(results):
    for seed in range(readme.CLAIMED):
        knobs = {"dataset": str(results / "own.csv"), "model": "minilm_l3", "train_size": 100, "seed": seed}
        write_run(results, outcomes(0.8, 100, seed), method="progressive", flops=10, **knobs)
        write_run(results, outcomes(0.3, 100, seed), method="full", learning_rate=1e-3, flops=40, **knobs)
        write_run(results, outcomes(0.95, 100, seed), method="conventional", learning_rate=1e-3, flops=40, **knobs)
    frame = recipe.runs(results)
    assert readme.gains(frame, "full (tuned)")["dataset_model"].tolist() == ["own.csv · minilm", "own.csv · minilm_l3"]
    (row,) = readme.against_tuned(frame).to_dict("records")
    assert (row["data set, model"], row["labels"]) == ("own.csv, all-MiniLM-L6-v2", 120)
    said = readme.shown(recipe.compared(frame))
    assert "5 show it to be better (own.csv), 1 to be worse (own.csv with 100 labels and minilm_l3), and 0 are" in said


def test_the_table_has_both_baselines_and_no_setting_with_four_seeds(results):
    other = shutil.copy(results / "own.csv", results / "other.csv")
    for seed in range(readme.CLAIMED - 1):
        knobs = {"dataset": str(other), "model": "minilm", "train_size": 40, "seed": seed}
        write_run(results, outcomes(0.8, 40, seed), method="progressive", **knobs)
        write_run(results, outcomes(0.3, 40, seed), method="full", learning_rate=1e-3, **knobs)
    (row,) = readme.against_tuned(readme.confirmed_runs(results)).to_dict("records")
    assert row["data set, model"].startswith("own.csv")
    assert row["labels"] == 120
    for baseline in ("conventional (tuned)", "full (tuned)"):
        (said,) = (cell for column, cell in row.items() if column.startswith(f"points over {baseline}, share of its "))
        assert re.search(r"\], better, 25%, \d+%$", said)


def test_the_counts_below_the_table_are_of_every_size_method_and_data_set_with_what_is_lost(results):
    assert "0 to be worse, and 0 are undecided" in readme.lost(recipe.compared(recipe.runs(results)), "table.md")
    for seed in range(3):
        knobs = {"dataset": str(results / "own.csv"), "model": "minilm", "train_size": 120, "seed": seed}
        for named in (knobs, knobs | {"dataset": "sst2"}):
            write_run(results, outcomes(0.95, 120, seed), method="bitfit", **named)
    said = readme.lost(recipe.compared(recipe.runs(results)), "table.md")
    assert said.startswith("Of all 10 differences between `progressive` and another method, ")
    worse = (
        "2 to be worse, in 2 settings (than bitfit on own.csv with 120 labels, on SST-2 with 120 labels), "
        "and 0 are undecided ([each of them](table.md)). P-values are corrected for multiple comparisons, separately "
        "for each method."
    )
    assert said.endswith(f"8 show `progressive` to be better, {worse}")


def test_ours_stands_among_the_published_figures_of_the_same_split(tmp_path):
    folder = tmp_path / "banking77_5"
    folder.mkdir()
    for split, start, end in (("train", 0, 385), ("test", 385, 445)):
        lines = (f"request {i},{'ab'[i % 2]}\n" for i in range(start, end))
        (folder / f"{split}.csv").write_text("text,label\n" + "".join(lines))
    for method in ("progressive", "linear_probe"):
        knobs = {"dataset": str(folder), "model": "minilm", "data_fraction": 1.0, "train_size": 385}
        write_run(tmp_path, [True] * 50 + [False] * 10, method=method, **knobs)
    table = readme.beside_published(recipe.runs(tmp_path))
    head, _, row = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    assert head[:2] == ["split", "progressive with minilm"]
    found = dict(zip(head, row, strict=True))
    assert found["split"] == "BANKING77, 5 examples a class"
    assert found["progressive with minilm"] == "0.833"
    (icda,) = (name for name in head if name.endswith("(Lin et al. 2023)"))
    assert found[icda] == "0.840"
    assert len(head) == 5


def test_a_readme_without_the_marks_of_a_claim_is_refused_before_any_run_is_read(tmp_path):
    (tmp_path / "results" / "confirmation").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "20_accuracy_vs_data.ipynb", tmp_path / "notebooks")
    (tmp_path / "README.md").write_text(before := "\n".join(["# Ours", *readme.MARKS, ""]))
    with pytest.raises(InputError, match=f"must have a line {readme.CLAIM[0]}"):
        readme.refresh(tmp_path / "README.md", tmp_path / "notebooks")
    assert (tmp_path / "README.md").read_text() == before


def test_the_claim_is_of_the_data_sets_that_chose_nothing_and_of_the_criterion(results, tmp_path):
    said = readme.claim(recipe.compared(recipe.runs(results)), planned=7)
    assert ". So far 2 of 7 planned settings have run. " in said
    for baseline in ("conventional (tuned)", "full (tuned)"):
        # Of two settings there is no interval.
        gain = r"is \+[\d.]+ points, with 25% of the baseline's FLOPs\. "
        counts = r"It is better in 2 settings, worse in 0 and undecided in 0\.\n"
        assert re.search(f"\n- Its mean gain over `{re.escape(baseline)}` {gain}{counts}", said)
    ours, both = "`progressive`, this project's own method,", "`conventional (tuned)` and `full (tuned)`.**"
    assert said.startswith(f"**{ours} was compared with {both}\n\n- Its mean gain over `conv")
    assert "confirmed" not in said
    said = readme.claim(recipe.compared(recipe.runs(results)), planned=2)
    beforehand = f"**By a criterion that was fixed beforehand, {ours} is"
    assert said.startswith(
        f"{beforehand} not confirmed against {both} The criterion is that no setting shows it to be worse"
    )
    for seed in range(3):  # a setting without `conventional`
        knobs = {"dataset": str(results / "own.csv"), "model": "minilm", "train_size": 60, "seed": seed}
        write_run(results, outcomes(0.8, 60, seed), method="progressive", flops=10, **knobs)
        write_run(results, outcomes(0.3, 60, seed), method="full", learning_rate=1e-3, flops=40, **knobs)
    said = readme.claim(recipe.compared(recipe.runs(results)), planned=3)
    assert ". All 3 planned settings have run. " in said
    assert said.startswith(f"{beforehand} confirmed against `full (tuned)`, but not confirmed against `conv")
    assert said.index("- Its mean gain over `full (tuned)`") < said.index("- Its mean gain over `conventional (tuned)`")
    for seed in range(3):  # and one without `full`, so that neither baseline has all four
        knobs = {"dataset": str(results / "own.csv"), "model": "minilm", "train_size": 50, "seed": seed}
        write_run(results, outcomes(0.8, 50, seed), method="progressive", flops=10, **knobs)
        write_run(results, outcomes(0.3, 50, seed), method="conventional", learning_rate=1e-3, flops=40, **knobs)
    said = readme.claim(recipe.compared(recipe.runs(results)), planned=4)
    assert said.startswith(f"{beforehand} not confirmed against {both} ")
    for seed in range(3):
        knobs = {"dataset": "sst2", "model": "minilm", "train_size": 40, "seed": seed}
        write_run(tmp_path / "alone", outcomes(0.8, 40, seed), method="progressive", **knobs)
    assert "have not run" in readme.claim(recipe.compared(recipe.runs(tmp_path / "alone")), planned=7)


def test_the_gains_in_parts_are_of_the_settings_that_each_names():
    at = {"score_name": ["accuracy", "entity F1"] * 3, "verdict": "worse", "as_good": True, "n_labels": 100}
    names = [
        "a · minilm",
        "b · minilm_crf",
        "a · minilm_l3",
        "c · minilm_l3_crf",
        "banking77_5 · minilm",
        "sst2 · minilm",
    ]
    table = pd.DataFrame(at | {"dataset_model": names, "mean": [-0.01, -0.02, -0.04, -0.08, -0.16, -0.32]})
    found = readme.parts(table.assign(configuration="full (tuned)")).set_index("settings")
    (column,) = found
    assert column == "mean gain over full (tuned), in points"
    gains = {part: float(said.split(" ")[0].rstrip(";")) for part, said in found[column].items()}
    assert gains == {
        "all": 6.2,
        "all, by one mean for each data set": 7.1,
        "scored by accuracy": 7.0,
        "scored by entity F1": 5.0,
        "without the second models": 6.3,
        "without BANKING77 and CLINC150": 3.8,
        "without the second models, BANKING77 and CLINC150": 1.5,
        "scored by accuracy, without BANKING77 and CLINC150": 2.5,
        "data sets of the original plan, which helped to choose the rule": 32.0,
    }
    assert found[column]["all"].endswith("; better in 5, worse in 0, undecided in 0")


def test_what_is_real_is_what_the_table_says(results):
    said = readme.shown(recipe.compared(recipe.runs(results)))
    assert said.startswith("Of 4 differences between progressive and a tuned baseline on these data sets, ")
    assert said.endswith("4 show it to be better (own.csv), 0 to be worse, and 0 are undecided.")


def test_a_piece_earns_what_is_lost_without_it_on_the_data_sets_as_they_are():
    rows = [
        ("sst2 · minilm", 100, "without=decay", -0.02, "worse", 1.0),
        ("sst2 · minilm", 500, "without=decay", -0.04, "worse", 1.5),
        ("trash · lite0", 100, "without=decay", 0.03, "better", 2.0),
        ("emotion · minilm", 100, "without=decay", -0.03, "undecided", 1.0),
        ("sst2_lowercased · minilm", 100, "without=decay", 0.5, "better", 9.0),
        ("sst2 · minilm_l3", 100, "without=soften", -0.01, "worse", 1.0),
        ("sst2 · minilm", 100, "layers=1.0", 0.01, "undecided", 1.0),
        ("sst2 · minilm", 500, "layers=1.0", 0.01, "", 1.0),
        ("sst2 · minilm", 100, "test_limit=100", 0.01, "better", 1.0),
    ]
    table = pd.DataFrame(rows, columns=["dataset_model", "n_labels", "configuration", "mean", "verdict", "flops"])
    table["configuration"] = "progressive [" + table["configuration"] + "]"
    table["points_low"] = (table["mean"] - 0.1).where(table["verdict"] != "")  # as with fewer than three seeds
    table["points_high"] = table["points_low"] + 0.2
    found = readme.earned(table).set_index("piece")
    points, flops = found.loc["`decay`", ["points without it", "FLOPs without it"]]
    assert points == "-1.0 [-9.6, +7.6]"  # of means of -3, +3 and -3
    assert found.loc["`decay`", ["settings", "data sets"]].tolist() == [4, 3]
    assert flops == "1.00 to 2.00"
    assert found.loc["`decay`", ["shown to gain", "shown to harm"]].tolist() == [2, 1]
    assert found.loc["`layers`", ["settings", "points without it", "shown to gain"]].tolist() == [
        1,
        "+1.0 [-9.0, +11.0]",
        0,
    ]
    assert found["settings"].sum() == 6
    assert len(found) == 3
