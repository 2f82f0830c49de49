"""What stands beside published figures, and the report's lines beside runs of one epoch."""

import pytest
from synthetic import outcomes, write_run, write_study

from lrtl_utils.data import load
from lrtl_utils.study import answers, tables
from lrtl_utils.study.benchmarks import published

SST2 = {"dataset": "sst2", "model": "minilm", "train_size": 1000}


def test_published_figures_are_scores_of_known_data_sets_each_with_its_source():
    for figure in published.PUBLISHED["figures"]:
        assert figure["dataset"] in load.TASKS
        assert 0 < figure["score"] < 1
        assert figure["source"]
        assert figure["on"]
        assert (figure["score_name"] == "entity F1") == (figure["dataset"] == "conll2003")


def test_ours_stand_beside_theirs_and_neither_can_be_taken_for_the_other(tmp_path):
    write_study(tmp_path, datasets=("sst2", "fashion_mnist"), sizes=(32, 100), names=("full", "conventional"))
    table = published.beside(tables.read(tmp_path))
    theirs, ours = table[table["source"] != ""], table[table["source"] == ""]
    assert set(theirs["model"]) == {"BERT-base", "DistilBERT", "RoBERTa-base"}
    assert set(theirs["n_labels"]) == {"all"}
    assert set(theirs["measured"]) == {published.NOT_HERE}
    assert (ours["measured"] != "").all()
    assert set(ours["on"]) == {"400 test examples of the copy used here"}
    assert ours.set_index("dataset")["configuration"].to_dict() == {"sst2": "full", "fashion_mnist": "full"}
    assert set(ours["n_labels"]) == {100}
    fashion, sst2 = published.beside_in_words(table)
    assert fashion.endswith("no published figure is listed for it.")
    assert "published, with all labels on its own validation split: 0.913 or more, by DistilBERT (Sanh et al." in sst2


def test_one_epoch_is_shown_in_the_form_of_the_report(tmp_path):
    for seed in range(3):
        write_run(tmp_path, outcomes(0.1, 32, seed), method="conventional", epochs=1, seed=seed, seconds=8.0, **SST2)
        write_run(tmp_path, outcomes(0.8, 1000, seed), method="progressive", seed=seed, seconds=2.0, **SST2)
    frame = tables.records(tmp_path, "completed")
    table = published.one_epoch(frame)
    assert table["title"].tolist() == ["the report: after one epoch", "the report: benchmark", "here", "here"]
    row = table[table["method"] == "conventional"].iloc[0]
    assert (row["epochs"], row["n_labels"], row["examples"], row["seeds"]) == (1, 1000, 400, 3)
    assert row["accuracy"] == pytest.approx(frame[frame["method"] == "conventional"]["metrics.accuracy"].mean())
    assert (row["runtime"], row["samples_per_second"], row["steps_per_second"]) == pytest.approx((0.1, 4000, 125))
    (stated,) = published.one_epoch_in_words(table)
    assert stated.startswith(
        f"sst2 · minilm, 400 test examples: one epoch of conventional on 1000 labels reaches {row['accuracy']:.3f}"
    )
    assert "points in 0.25 times its device seconds." in stated
    assert "the report" not in stated  # its lines are of 500 and of 872 examples


def test_runs_on_files_that_changed_meanwhile_are_not_averaged(tmp_path):
    for skill, digit in ((0.8, "0"), (0.2, "1")):
        for seed in range(2):
            knobs = SST2 | {"method": "conventional", "epochs": 1, "seed": seed}
            write_run(tmp_path, outcomes(skill, 1000, seed), data=digit, **knobs)
    ours = published.one_epoch(tables.records(tmp_path, "completed")).query("title == 'here'")
    assert ours["seeds"].tolist() == [2, 2]
    assert ours["dataset"].nunique() == 2


def test_runs_of_different_settings_are_lines_of_their_own(tmp_path):
    for rate in (1e-5, 3e-5):
        knobs = SST2 | {"epochs": 1, "learning_rate": rate}
        write_run(tmp_path, outcomes(0.5, 32, 0), method="conventional", **knobs)
    write_run(tmp_path, outcomes(0.8, 32, 0), method="progressive", **SST2)
    table = published.one_epoch(tables.records(tmp_path, "completed"))
    here = table[table["title"] == "here"]
    bases = ["conventional [learning_rate=1e-05]", "conventional [learning_rate=3e-05]"]
    assert list(here["configuration"]) == [*bases, "progressive"]
    assert list(here["seeds"]) == [1, 1, 1]
    assert here["difference"].isna().all()  # it could be from either
    said = published.one_epoch_in_words(table)
    assert all(f"one epoch of {base} on " in each for base, each in zip(bases, said, strict=True))


def test_as_many_examples_as_in_the_report_are_set_beside_it(tmp_path):
    write_run(tmp_path, [True] * 400 + [False] * 472, method="conventional", epochs=1, **SST2)
    (stated,) = published.one_epoch_in_words(published.one_epoch(tables.records(tmp_path, "completed")))
    assert stated.endswith(
        "reaches 0.459 (loss 0.541); the report has 0.487 on as many of a data set that it does not name."
    )


def test_without_such_a_run_that_is_said(tmp_path):
    assert published.one_epoch_in_words(published.one_epoch(tables.records(tmp_path, "completed"))) == [
        "No run here is one epoch of conventional."
    ]
    assert published.beside_in_words(published.beside(tables.read(tmp_path))) == [answers.NOTHING]


def test_seconds_from_a_cache_are_none_of_a_method_s(tmp_path):
    write_run(tmp_path, outcomes(0.1, 32, 0), method="conventional", epochs=1, seconds=8.0, **SST2)
    write_run(tmp_path, outcomes(0.8, 1000, 0), method="progressive", seconds=2.0, cached=1.0, **SST2)
    table = published.one_epoch(tables.records(tmp_path, "completed"))
    row = table[table["method"] == "progressive"].iloc[0]
    assert row[["device_seconds", "runtime", "steps_per_second"]].isna().all()
    (stated,) = published.one_epoch_in_words(table)
    assert "progressive reaches" in stated
    assert "device seconds" not in stated
