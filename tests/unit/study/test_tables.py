"""What tables say of records, against records whose outcomes were chosen."""

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control
from synthetic import TESTED, outcomes, write_run, write_study

from lrtl_utils.errors import InputError
from lrtl_utils.runs import record as schema
from lrtl_utils.runs import store as runs
from lrtl_utils.study import answers, stats, tables
from lrtl_utils.study.report import SECTIONS

SST2 = {"dataset": "sst2", "model": "minilm", "train_size": 32}


def test_records_gives_a_row_for_each_run_whose_knobs_and_scores_never_meet(tmp_path):
    for seed in (1, 0):
        write_run(tmp_path, outcomes(0.5, 32, seed), method="full", seed=seed, validation=0.4, **SST2)
    frame = tables.records(tmp_path)
    assert frame["seed"].tolist() == frame["config.seed"].tolist() == [0, 1]
    assert frame["score"].tolist() == frame["metrics.accuracy"].tolist()
    assert set(frame["config.precision"]) <= {"auto", "fp32"}
    assert frame["metrics.precision"].tolist() == frame["score"].tolist()
    assert frame["n_labels"].tolist() == [32, 32]
    assert frame["share"].tolist() == [32 / 67349] * 2
    assert frame["cost.device_seconds"].tolist() == [1.0, 1.0]
    assert frame["validation.score"].tolist() == [0.4, 0.4]
    assert [record["config"]["seed"] for record in frame["record"]] == [0, 1]
    assert set(frame["status"]) == {"completed"}
    assert tables.records(tmp_path, "failed").empty


def test_records_of_nothing_have_the_columns(tmp_path):
    frame = tables.records(tmp_path)
    assert frame.empty
    assert {"run_id", "n_labels", "config.learning_rate", "metrics.accuracy", "cost.flops", "record"} <= set(frame)


def test_a_summary_holds_the_means_and_intervals_of_its_runs(frame):
    summary = tables.summarise(frame).set_index(["dataset", "configuration", "n_labels"])
    assert len(summary) == (6 + 5) * 4
    of_runs = frame[(frame["dataset"] == "conll2003") & (frame["configuration"] == "full") & (frame["n_labels"] == 316)]
    row = summary.loc["conll2003", "full", 316]
    assert row["score"] == pytest.approx(of_runs["score"].mean())
    assert (row["low"], row["high"]) == stats.interval(stats.sample(*stats.outcomes(of_runs["outcome"])))
    assert row["low"] < row["score"] < row["high"]
    assert (row["seeds"], row["score_name"], row["full"]) == (3, "entity F1", 14041)
    assert row["device_seconds"] == pytest.approx(of_runs["cost.device_seconds"].mean())


def test_under_three_seeds_there_is_no_interval(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, outcomes(0.5, 32, seed), method="full", seed=seed, **SST2)
    (row,) = tables.summarise(tables.records(tmp_path, "completed")).to_dict("records")
    assert np.isnan(row["low"])
    assert row["seeds"] == 2


def test_settings_make_lines_and_a_single_tuned_one_has_the_same_name_everywhere(tmp_path):
    for rate in (None, 1e-3):
        write_run(tmp_path, outcomes(0.5, 32, 0), method="full", learning_rate=rate, **SST2)
    for without in (None, "decay", "soften"):
        write_run(tmp_path, outcomes(0.5, 32, 0), method="progressive", without=without, **SST2)
    frame = tables.compared(tables.records(tmp_path, "completed"))
    assert sorted(zip(frame["configuration"], frame["variant"], strict=True)) == [
        ("full", "full"),
        ("full [learning_rate=0.001]", "full (tuned)"),
        ("progressive", "progressive"),
        ("progressive [without=decay]", "progressive [without=decay]"),
        ("progressive [without=soften]", "progressive [without=soften]"),
    ]


def test_a_tuned_setting_that_is_alone_is_not_taken_for_the_default(tmp_path):
    for dataset, rates in (("sst2", (None, 1e-3)), ("imdb", (1e-4,)), ("ag_news", (None,))):
        for rate in rates:
            knobs = SST2 | {"dataset": dataset, "learning_rate": rate}
            write_run(tmp_path, outcomes(0.5, 32, 0), method="conventional", **knobs)
    frame = tables.read(tmp_path).set_index(["dataset", "configuration"])["variant"]
    assert frame.to_dict() == {
        ("ag_news", "conventional"): "conventional",
        ("imdb", "conventional [learning_rate=0.0001]"): "conventional (tuned)",
        ("sst2", "conventional"): "conventional",
        ("sst2", "conventional [learning_rate=0.001]"): "conventional (tuned)",
    }


def test_a_baseline_with_one_chosen_rate_at_each_size_is_one_configuration_whose_name_says_so(tmp_path):
    for size, rate, epochs in ((32, 1e-4, 30), (100, 3e-4, 10)):
        asked = SST2 | {"train_size": size}
        write_run(tmp_path, outcomes(0.5, 32, 0), method="progressive", epochs=5, **asked)
        for method, dataset in (("full", "sst2"), ("conventional", "sst2"), ("conventional", "imdb")):
            chosen = {"learning_rate": 1e-3 if dataset == "imdb" else rate, "epochs": epochs}
            write_run(tmp_path, outcomes(0.5, 32, 0), method=method, **asked | chosen | {"dataset": dataset})
    alone = {"dataset": "ag_news", "learning_rate": 1e-3, "warmup_steps": 9}
    write_run(tmp_path, outcomes(0.5, 32, 0), method="full", **SST2 | alone)
    for names in tables.read(tmp_path)[["configuration", "variant"]].to_numpy().T:
        assert set(names) == {"conventional (tuned)", "full (tuned)", "progressive"}


@pytest.mark.parametrize(
    "settings",
    [
        [{"learning_rate": 3e-5}],  # the rate of another method too
        [{"learning_rate": 1e-3}, {"weight_decay": 0.1, "train_size": 100}],  # one of them has the default rate
        [{"learning_rate": 1e-3}, {"learning_rate": 1e-4}],  # two at one size
        [{"learning_rate": 1e-3, "max_length": 64}, {"learning_rate": 1e-3, "max_length": 96, "train_size": 100}],
    ],
)
def test_what_nobody_tuned_is_not_named_as_tuned(tmp_path, settings):
    for chosen in settings:
        write_run(tmp_path, outcomes(0.5, 32, 0), method="conventional", **SST2 | chosen)
    write_run(tmp_path, outcomes(0.5, 32, 0), method="lp_ft", **SST2 | {"learning_rate": 3e-5})
    frame = tables.read(tmp_path).query("method == 'conventional'")
    assert not frame["variant"].str.contains("tuned").any()
    assert frame["configuration"].nunique() == len(settings)


def test_a_default_that_follows_the_number_of_labels_is_one_configuration(tmp_path):
    for labels in (32, 100, 1000):
        write_run(tmp_path, outcomes(0.5, labels, 0), method="progressive", **SST2 | {"train_size": labels})
    frame = tables.records(tmp_path, "completed")
    assert frame["config.epochs"].nunique() > 1
    assert frame["config.validation_share"].nunique() > 1
    assert set(tables.compared(frame)["configuration"]) == {"progressive"}


@pytest.mark.parametrize("changed", [{"precision": "bf16"}, {"device": "cuda"}])
def test_runs_of_two_machines_are_never_averaged(tmp_path, changed):
    """Nobody asked for the precision or the device, which follow from the machine; most runs keep the plain name."""
    for seed in range(5):
        for method in ("full", "conventional"):
            knobs = changed if method == "full" and seed < 2 else {}
            path = write_run(tmp_path, outcomes(0.5, 32, seed), method=method, seed=seed, **SST2 | knobs)
            record = runs.read(path)
            record["config"]["asked"] |= {"device": "auto", "precision": None}
            path.write_text(json.dumps(record | {"checksum": schema.checksum(record)}))
    ((name, value),) = changed.items()
    frame = tables.read(tmp_path)
    seeds = frame.groupby("configuration")["seed"].nunique().to_dict()
    assert seeds == {"conventional": 5, "full": 3, f"full [{name}={value}]": 2}
    assert tables.differences(frame).set_index("variant")["seeds"]["full"] == 3


def test_a_precision_that_was_asked_for_is_the_one_that_another_machine_chose(tmp_path):
    for seed in range(2):
        path = write_run(tmp_path, outcomes(0.5, 32, seed), method="full", seed=seed, precision="fp32", **SST2)
        record = runs.read(path)
        record["config"]["asked"]["precision"] = "fp32" if seed else None
        path.write_text(json.dumps(record | {"checksum": schema.checksum(record)}))
    assert set(tables.read(tmp_path)["configuration"]) == {"full"}


@pytest.mark.parametrize("knob", ["dataset", "model"])
def test_two_folders_of_one_name_and_one_folder_that_changed_are_kept_apart(tmp_path, knob):
    """Those with the same content are one."""
    digits = {"dataset": "data", "model": "weights"}[knob]
    for folder in "ab":
        own = tmp_path / folder / "own.csv"
        own.parent.mkdir()
        own.write_text("text,label\n" + "".join(f"row {i},{'ab'[i % 2]}\n" for i in range(60)))
    for path, digit, seed in (("a", "1", 0), ("b", "1", 1), ("b", "2", 0), ("b", "3", 1)):
        named = {"weights": "9", knob: str(tmp_path / path / "own.csv"), digits: digit}
        write_run(tmp_path, outcomes(0.5, 32, seed), method="full", seed=seed, **SST2 | named)
    summary = tables.summarise(tables.records(tmp_path, "completed"))
    assert summary.set_index(knob)["seeds"].to_dict() == {"own.csv 111111": 2, "own.csv 222222": 1, "own.csv 333333": 1}


def test_runs_on_another_column_or_with_other_leaks_are_on_other_data(tmp_path):
    for reading in ({}, {"label_column": "topic"}, {"drop_leaks": True}):
        for method in ("full", "conventional"):
            write_run(tmp_path, outcomes(0.5, 32, 0), method=method, **SST2 | reading)
    frame = tables.read(tmp_path)
    assert set(frame["dataset"]) == {"sst2", "sst2 [label_column=topic]", "sst2 [drop_leaks=True]"}
    assert set(frame["configuration"]) == {"full", "conventional"}
    assert tables.titled("sst2 [drop_leaks=True] · minilm") == "SST-2 [drop_leaks=True], all-MiniLM-L6-v2"


def test_a_column_that_is_recognised_is_the_one_that_is_named(tmp_path):
    notes = ["inputs from column 'text', labels from column 'label'"]
    for seed, reading in enumerate(({}, {"label_column": "label"}, {"label_column": "topic"})):
        path = write_run(tmp_path, outcomes(0.5, 32, 0), method="full", seed=seed, **SST2 | reading)
        record = json.loads(path.read_text())
        noted = record | {"data": record["data"] | {"notes": [] if "topic" in reading.values() else notes}}
        path.write_text(json.dumps(noted | {"checksum": schema.checksum(noted)}))
    frame = tables.read(tmp_path).set_index("seed")["dataset"]
    assert frame[0] == frame[1] != frame[2] == "sst2 [label_column=topic]"


def test_as_many_labels_of_each_class_are_other_data_where_the_examples_are_others(tmp_path):
    for seed in range(3):
        write_run(tmp_path, outcomes(0.5, 32, seed), method="full", seed=seed, **SST2)
        shots = SST2 | {"train_size": None, "shots": 16, "seed": seed}
        path = write_run(tmp_path, outcomes(0.5, 32, seed), method="progressive", **shots)
        record = json.loads(path.read_text())
        assert set(tables.compared(tables.frame_of([record]))["dataset"]) == {"sst2"}
        other = record | {"data": record["data"] | {"subset_sha256": "2" * 64}}
        path.write_text(json.dumps(other | {"checksum": schema.checksum(other)}))
    assert set(tables.read(tmp_path)["dataset"]) == {"sst2", "sst2 [shots]"}


def test_none_is_best_that_another_beats_on_the_seeds_of_both(tmp_path):
    skills = {"full": (0.2, 0.2, 0.2, 5, 5), "conventional": (0.4, 0.4, 0.4)}
    for method, each in skills.items():
        for seed, skill in enumerate(each):
            write_run(tmp_path, outcomes(skill, 1000, 7), method=method, seed=seed, **SST2)
    for seed in (5, 6, 7):
        write_run(tmp_path, outcomes(0.1, 1000, 7), method="lp_ft", seed=seed, **SST2)
    row = tables.best(tables.read(tmp_path)).iloc[0]
    assert row["configuration"] == "full"
    assert row["undecided"]["conventional"][0] > 0


def test_runs_on_a_part_of_the_test_split_do_not_count_beside_whole_ones(tmp_path):
    write_run(tmp_path, outcomes(0.5, 32, 0), method="full", **SST2)
    write_run(tmp_path, outcomes(0.5, 32, 0)[:10], method="conventional", test_limit=10, **SST2)
    assert list(tables.read(tmp_path)["method"]) == ["full"]


def test_of_further_folders_runs_on_data_sets_of_the_first_are_read(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    asked = SST2 | {"weight_decay": 0.1}
    write_run(first, outcomes(0.5, 32, 0), method="full", **asked)
    write_run(second, outcomes(0.5, 100, 0), method="full", **asked | {"train_size": 100})
    for decay in (0.1, None):  # it varies on a data set that is left out, so it is in no name
        write_run(second, outcomes(0.5, 32, 0), method="full", **asked | {"dataset": "imdb", "weight_decay": decay})
    shutil.copytree(first, second, dirs_exist_ok=True)  # the same run there too
    frame = tables.read([first, second])
    assert sorted(zip(frame["configuration"], frame["n_labels"], strict=True)) == [("full", 32), ("full", 100)]
    (nothing := tmp_path / "nothing").mkdir()
    assert tables.read([nothing, second]).empty


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"There is no folder .*typo"):
        tables.records(tmp_path / "typo")
    with pytest.raises(InputError, match=r"There is no folder .*typo"):
        tables.read([tmp_path, tmp_path / "typo"])


def test_of_two_equal_scores_the_cheaper_is_the_best(tmp_path):
    for seed in range(3):
        for method, flops in (("full", 900), ("linear_probe", 30)):
            write_run(tmp_path, outcomes(0.5, 32, seed), method=method, flops=flops, **SST2 | {"seed": seed})
    (row,) = tables.best(tables.read(tmp_path)).to_dict("records")
    assert (row["configuration"], [*row["undecided"]]) == ("linear_probe", ["full"])


def test_an_unreadable_record_is_passed_over_with_a_warning(tmp_path):
    path = write_run(tmp_path, outcomes(0.5, 32, 0), method="full", **SST2)
    path.write_text(path.read_text()[:-40])
    with pytest.warns(UserWarning, match="not a readable record"):
        assert tables.read(tmp_path).empty


@pytest.mark.parametrize("missing", ["metrics.hits", "config.seed", "data.available", "environment.device", "curve"])
def test_a_record_that_lacks_a_key_is_passed_over_though_its_checksum_is_right(tmp_path, missing):
    write_run(tmp_path, outcomes(0.5, 32, 0), method="full", **SST2)
    path = write_run(tmp_path, outcomes(0.5, 32, 1), method="full", seed=1, **SST2)
    record = json.loads(path.read_text())
    *section, name = missing.split(".")
    (record[section[0]] if section else record).pop(name)
    path.write_text(json.dumps(record | {"checksum": schema.checksum(record)}))
    with pytest.warns(
        UserWarning, match=rf"{path.name} was written by another version .*schema: .* (required|missing)"
    ):
        frame = tables.read(tmp_path)
    assert list(tables.summarise(frame)["seeds"]) == [1]


def test_a_method_without_a_model_joins_every_model_of_its_data(frame):
    parts = dict(tables.by_dataset_and_model(frame))
    assert list(parts) == ["conll2003 · minilm_crf", "sst2 · minilm"]
    assert "tfidf" in set(parts["sst2 · minilm"]["method"])


def test_differences_are_paired_over_shared_seeds_and_called_what_they_are(frame):
    table = tables.differences(frame).set_index(["dataset_model", "n_labels", "configuration"])
    assert len(table) == (5 + 4) * 4
    row = table.loc["sst2 · minilm", 100, "full"]
    scores = frame[(frame["dataset"] == "sst2") & (frame["n_labels"] == 100)].groupby("method")["score"]
    assert row["mean"] == pytest.approx(scores.mean()["full"] - scores.mean()["conventional"])
    assert (row["verdict"], row["seeds"]) == ("better", 3)
    assert table.loc["sst2 · minilm", 100, "from_scratch"]["verdict"] == "worse"
    assert table["p_corrected"].ge(table["p"]).all()
    narrow = row["high"] - row["low"]
    summary = tables.summarise(frame).set_index(["dataset", "configuration", "n_labels"]).loc["sst2", "full", 100]
    assert narrow < 0.7 * (summary["high"] - summary["low"])  # what the pairs share drops out


def test_differences_are_corrected_over_all_that_are_compared(tmp_path):
    """Nine methods of one skill."""
    names = ("conventional", "full", "lora", "bitfit", "lp_ft", "progressive", "linear_probe", "tfidf", "from_scratch")
    for method in names:
        for seed in range(3):
            right = outcomes(0.5, 100, seed) ^ (np.random.default_rng([seed, len(method)]).random(TESTED) < 0.2)
            write_run(tmp_path, right, method=method, seed=seed, **SST2 | {"train_size": 100})
    table = tables.differences(tables.read(tmp_path))
    assert table["p_corrected"].tolist() == pytest.approx(false_discovery_control(table["p"]))
    decided = table["verdict"].isin(["better", "worse"])
    assert decided.tolist() == (table["p_corrected"] <= 0.05).tolist()


def test_as_good_is_an_interval_that_stays_above_the_margin(tmp_path):
    for seed in range(3):
        right = outcomes(0.8, 100, seed)
        near, worse = right.copy(), right.copy()
        near[np.flatnonzero(right)[0]] = False
        worse[:200] = False
        for method, hits in (("conventional", right), ("full", right), ("bitfit", near), ("lora", worse)):
            write_run(tmp_path, hits, method=method, seed=seed, **SST2)
    table = tables.differences(tables.read(tmp_path)).set_index("method")
    # One other answer of 400 is too near to the margin for so few examples.
    assert table["at_least_as_good"].to_dict() == {"full": True, "bitfit": False, "lora": False}
    assert table.loc["full", "low"] < 0
    assert table.loc["full", "verdict"] != "better"


def test_the_best_line_and_what_ties_with_it(tmp_path):
    for seed in range(3):
        right = outcomes(0.8, 100, seed)
        near = right.copy()
        near[:: TESTED // 2] ^= True
        for method, hits in (("full", right), ("lora", near), ("conventional", outcomes(0.1, 100, seed))):
            write_run(tmp_path, hits, method=method, seed=seed, **SST2)
    write_run(tmp_path, outcomes(0.7, 100, 0), method="bitfit", seed=0, **SST2)
    write_run(tmp_path, outcomes(0.7, 100, 7), method="lp_ft", seed=7, **SST2)  # a seed that no other has
    (row,) = tables.best(tables.read(tmp_path)).to_dict("records")
    assert {row["configuration"], *row["undecided"]} == {"full", "lora"}
    assert row["too_few_seeds"] == ["bitfit", "lp_ft"]


def test_one_that_has_run_more_often_than_the_others_is_not_yet_the_best(tmp_path):
    for method, share, seeds in (("linear_probe", 0.6, 3), ("full", 0.9, 1), ("bitfit", 0.8, 2)):
        for seed in range(seeds):
            knobs = {"dataset": "sst2", "model": "minilm", "method": method, "train_size": 32, "seed": seed}
            write_run(tmp_path, outcomes(share, 32, seed), **knobs)
    (row,) = tables.best(tables.read(tmp_path)).to_dict("records")
    assert (row["configuration"], row["seeds"], row["compared"]) == ("full", 1, 0)
    assert sorted(row["too_few_seeds"]) == ["bitfit", "linear_probe"]


def test_the_best_line_is_so_on_the_seeds_that_others_have_too(tmp_path):
    for seed in range(5):
        skill = 0.5 if seed < 3 else 1.0  # two easy seeds, which the other line does not have
        write_run(tmp_path, outcomes(skill, 100, seed), method="progressive", seed=seed, **SST2)
    for seed in range(3):
        write_run(tmp_path, outcomes(0.6, 100, seed), method="full", seed=seed, **SST2)
    write_run(tmp_path, outcomes(1.0, 100, 0), method="lora", seed=0, **SST2)  # alone, it says nothing yet
    frame = tables.read(tmp_path)
    means = frame.groupby("method")["score"].mean()
    assert means["lora"] > means["progressive"] > means["full"]
    (row,) = tables.best(frame).to_dict("records")
    assert (row["configuration"], row["too_few_seeds"]) == ("full", ["lora"])
    assert row["score"] == means["full"]
    assert (row["seeds"], row["configurations"], row["compared"]) == (3, 3, 1)
    assert row["low"] < row["score"] < row["high"]


def test_means_stand_beside_each_other_only_for_seeds_that_are_shared(tmp_path):
    for method, seeds in (("progressive", range(5)), ("full", range(3)), ("lora", (0, 4))):
        for seed in seeds:
            write_run(tmp_path, outcomes(0.5 + 0.1 * seed, 32, seed), method=method, seed=seed, **SST2)
    write_run(tmp_path, outcomes(0.5, 100, 4), method="full", seed=4, **SST2 | {"train_size": 100})
    frame = tables.read(tmp_path)
    kept = tables.comparable(frame).groupby(["method", "n_labels"])["seed"].agg(list).to_dict()
    assert kept == {("progressive", 32): [0, 1, 2], ("full", 32): [0, 1, 2], ("lora", 32): [0, 4], ("full", 100): [4]}
    summary = tables.summarise(frame).set_index(["method", "n_labels"])
    assert summary.loc[("progressive", 32), "seeds"] == 3
    assert tables.differences(frame, "full").set_index("configuration").loc["progressive", "seeds"] == 3
    apart = frame[(frame["method"] != "full") | (frame["seed"] > 2)]  # nothing is shared by all
    assert len(tables.comparable(apart)) == len(apart)


def test_several_models_of_a_data_set_are_compared_in_one_plot_too(tmp_path):
    for seed in range(3):
        for model, skill in (("minilm", 0.9), ("bert_base", 0.2)):
            write_run(tmp_path, outcomes(skill, 32, seed), method="full", seed=seed, **SST2 | {"model": model})
        write_run(tmp_path, outcomes(0.1, 32, seed), method="tfidf", seed=seed, **SST2)
        write_run(tmp_path, outcomes(0.1, 32, seed), method="full", seed=seed, **SST2 | {"dataset": "imdb"})
    (row,) = tables.best(tables.across_models(tables.read(tmp_path))).to_dict("records")
    assert (row["dataset_model"], row["configuration"], row["configurations"]) == (
        "sst2 · all models",
        "minilm full",
        3,
    )


def test_seeds_are_paired_in_whatever_folder_they_lie(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, seeds in ((first, (3, 4)), (second, (0, 1, 2))):
        for seed in seeds:
            write_run(folder, outcomes(0.5, 32, seed), method="full", seed=seed, **SST2)
    assert list(tables.read([first, second])["seed"]) == [0, 1, 2, 3, 4]


def test_aggregate_is_the_interquartile_mean_of_normalised_scores(frame):
    table = tables.aggregate(frame).set_index(["n_labels", "variant"])
    scores = frame[frame["n_labels"] == 100].groupby(["dataset", "method"])["score"].mean().unstack()
    floor, top = scores["from_scratch"], scores.max(axis=1)
    each = frame[(frame["n_labels"] == 100) & (frame["method"] == "full")]
    normalised = (each["score"] - each["dataset"].map(floor)) / each["dataset"].map(top - floor)
    assert table.loc[100, "full"]["iqm"] == pytest.approx(normalised.sort_values().iloc[1:-1].mean())  # of six
    assert table.loc[100, "tfidf"]["dataset_models"] == 1
    assert tables.aggregate(frame[frame["method"] != "from_scratch"]).empty
    assert tables.aggregate(frame[frame["seed"] < 2]).empty


def test_every_data_set_weighs_the_same_in_the_aggregate_and_one_seed_sets_no_scale(frame):
    whole = tables.aggregate(frame).set_index(["n_labels", "variant"])["iqm"]
    extra = frame[(frame["dataset"] == "sst2") & (frame["method"] == "full") & (frame["n_labels"] == 100)]
    perfect = extra["outcome"].iloc[0]._replace(score=1.0)
    alone = extra[:1].assign(method="lora", configuration="lora", variant="lora", outcome=[perfect])
    assert (
        tables.aggregate(pd.concat([frame, alone], ignore_index=True))
        .set_index(["n_labels", "variant"])["iqm"]
        .equals(whole)
    )
    more = pd.concat([frame, extra.assign(seed=extra["seed"] + 3)], ignore_index=True)
    assert tables.aggregate(more).set_index(["n_labels", "variant"])["iqm"].equals(whole)


def test_front_has_the_share_of_draws_and_only_runs_with_that_cost(frame, tmp_path):
    best = tables.at_most_labels(tables.best(frame))
    table = tables.front(frame, best, "flops")
    assert set(table["n_labels"]) == {1000}
    assert not table.duplicated(["dataset_model", "method"]).any()
    assert table["front_share"].between(0, 1).all()
    cheapest = table.loc[table.groupby("dataset_model")["flops"].idxmin()]
    assert (cheapest["front_share"] == 1).all()
    assert table.groupby("on_front")["front_share"].mean().is_monotonic_increasing
    assert tables.front(frame, best, "energy_wh").empty
    write_run(tmp_path, outcomes(0.5, 32, 0), energy=0.2, method="full", **SST2)
    alone = tables.read(tmp_path)
    (row,) = tables.front(alone, tables.best(alone), "energy_wh").to_dict("records")
    assert row["on_front"]
    assert np.isnan(row["front_share"])  # one seed: nothing to draw from


def test_no_method_with_too_few_seeds_is_on_the_front_or_pushes_another_off_it(frame):
    columns = ["method", "configuration", "variant"]
    few = frame.assign(**{name: frame[name].replace("progressive", "setfit") for name in columns})  # the highest
    few = few[(few["method"] != "setfit") | (few["seed"] < 2)]
    without = few[few["method"] != "setfit"]
    table, expected = (tables.front(each, tables.at_most_labels(tables.best(each)), "flops") for each in (few, without))
    seeds = table.set_index("method")["seeds"]
    assert set(seeds["setfit"]) == {2}
    assert not table[table["method"] == "setfit"]["on_front"].any()
    assert table[table["method"] == "setfit"]["front_share"].isna().all()
    kept = table[table["method"] != "setfit"].reset_index(drop=True)
    assert kept[["method", "on_front", "front_share"]].equals(expected[["method", "on_front", "front_share"]])


def test_a_method_is_one_point_the_best_then_the_tuned_then_the_default():
    rows = pd.DataFrame(
        [("full", "full", 0.9), ("full [epochs=6]", "full (tuned)", 0.5), ("lora [epochs=6]", "lora [epochs=6]", 0.2),
         ("lora [epochs=9]", "lora [epochs=9]", 0.3)], columns=["configuration", "variant", "score"],
    ).assign(method=["full", "full", "lora", "lora"])  # fmt: skip
    assert list(tables.one_a_method(rows)["variant"]) == ["full (tuned)", "lora [epochs=9]"]
    assert list(tables.one_a_method(rows, first="full")["variant"]) == ["full", "lora [epochs=9]"]
    assert list(tables.one_a_method(rows[rows["variant"] != "full (tuned)"])["variant"]) == ["full", "lora [epochs=9]"]


def write_gains(folder):
    for seed in range(3):
        write_run(folder, outcomes(0.9, 32, seed), method="progressive", seed=seed, seconds=2, flops=20, **SST2)
        for knobs in ({}, {"epochs": 20, "seconds": 8, "flops": 100}):
            write_run(folder, outcomes(0.1, 32, seed), method="conventional", seed=seed, **SST2, **knobs)


def test_gains_are_over_the_tuned_baseline_with_shares_of_its_cost(tmp_path):
    write_gains(tmp_path)
    frame = tables.read(tmp_path)
    (row,) = tables.gains(frame).to_dict("records")
    assert (row["dataset_model"], row["n_labels"], row["verdict"]) == ("sst2 · minilm", 32, "better")
    assert row["low"] <= row["mean"] <= row["high"]
    assert (row["flops_ratio"], row["seconds_ratio"]) == pytest.approx((0.2, 0.25))
    assert tables.gains(frame[frame["variant"] != "conventional (tuned)"]).empty
    assert tables.tuned(frame) == "conventional (tuned)"
    assert tables.tuned(frame[frame["variant"] != "conventional (tuned)"]) == "conventional"


@pytest.mark.parametrize("part", ["host", "device", "precision", "started_at", "cached_seconds"])
def test_seconds_of_other_machines_hours_or_caches_give_no_ratio(tmp_path, part):
    write_gains(tmp_path)
    frame = tables.read(tmp_path)
    record = frame[frame["method"] == "progressive"]["record"].iloc[0]
    changed = {"started_at": record, "cached_seconds": record["cost"]}.get(part, record["environment"])
    changed[part] = {"started_at": "2026-01-01T01:00:01+00:00", "cached_seconds": 1.0}.get(part, "another")
    assert np.isnan(tables.gains(frame)["seconds_ratio"].iloc[0])


def test_pictures_name_data_sets_and_models_as_people_do():
    assert tables.titled("ag_news · minilm") == "AG News, all-MiniLM-L6-v2"
    assert tables.titled("sst2 1a2b3c · my-model 9f8e7d") == "SST-2 1a2b3c, my-model 9f8e7d"
    assert tables.titled("reviews.csv") == "reviews.csv"


def test_needs_have_labels_with_interval_and_doubts(frame):
    table = tables.needs(frame).set_index(["dataset_model", "configuration"])
    row = table.loc["conll2003 · minilm_crf", "full"]
    assert row["low"] < row["n_labels"] < row["high"] <= row["full"] == 14041
    assert row["sizes"] == (32, 100, 316, 1000)
    best = (
        frame[(frame["dataset"] == "conll2003") & (frame["n_labels"] == 1000)].groupby("configuration")["score"].mean()
    )
    own = table.xs("conll2003 · minilm_crf")
    assert own["target"].tolist() == pytest.approx([0.95 * best.max()] * len(own))
    assert own.loc["full", "n_labels"] < own.loc["from_scratch", "n_labels"]


def answers_of(skill, seed):
    """True and predicted class of 400 examples of AG News, of which the first class has most."""
    rng = np.random.default_rng(7)
    true = rng.choice(4, TESTED, p=[0.85, 0.05, 0.05, 0.05])
    rng = np.random.default_rng([7, seed])
    return np.stack([true, np.where(rng.random(TESTED) < skill, true, 0)], axis=1)  # in doubt, the first


def test_by_macro_f1_another_configuration_is_best_and_every_table_says_so(tmp_path):
    news = {"dataset": "ag_news", "model": "minilm"}
    for seed, size in itertools.product(range(3), (32, 100, 316)):
        rare = answers_of(0.9, seed)
        often = answers_of(0.2, seed)
        rare[rare[:, 0] == 0, 1] = np.random.default_rng(seed).permutation(np.arange((rare[:, 0] == 0).sum()) % 5 == 0)
        for method, answered in (("full", rare), ("conventional", often)):
            write_run(tmp_path, answered, method=method, seed=seed, train_size=size, **news)
    for metric, name, top in ((None, "accuracy", "conventional"), ("macro_f1", "macro F1", "full")):
        frame = tables.read(tmp_path, metric)
        best = tables.best(frame)
        assert set(best["configuration"]) == {top}
        assert best["score"].tolist() == pytest.approx([frame[frame["method"] == top]["score"].mean()] * 3, abs=0.02)
        assert (best["low"] < best["score"]).all()
        assert (best["score"] < best["high"]).all()
        for table in (tables.summarise(frame), best, tables.needs(frame), tables.differences(frame)):
            assert set(table["score_name"]) == {name}
        for ask, *_ in SECTIONS:
            assert name in ask(frame).headline
    assert frame["score"].tolist() == frame["metrics.f1"].tolist()


def test_a_metric_that_runs_do_not_have_is_refused_in_one_sentence(tmp_path):
    write_run(tmp_path / "old", outcomes(0.5, 32, 0), method="full", **SST2)
    write_run(tmp_path / "tags", outcomes(0.5, 32, 0, tagged=True), dataset="conll2003", train_size=32)
    for folder, metric, said in (
        ("old", "macro_f1", "its record is of an earlier version, .* or rank by accuracy"),
        ("old", "entity_f1", "has single labels, so it cannot be ranked by entity_f1; .* accuracy or macro_f1"),
        ("tags", "macro_f1", "has tagged sentences, so it cannot be ranked by macro_f1; the metric can be entity_f1"),
        ("old", "macro-f1", "did you mean 'macro_f1'"),
    ):
        with pytest.raises(InputError, match=said) as refused:
            tables.read(tmp_path / folder, metric)
        assert "\n" not in str(refused.value)


def test_nothing_gives_tables_without_rows(tmp_path):
    frame = tables.read(tmp_path)
    found = [tables.front(frame, tables.best(frame), "flops")[["dataset_model", "on_front", "front_share"]]]
    found += [make(frame) for make in (tables.summarise, tables.differences, tables.best)]
    found += [make(frame) for make in (tables.aggregate, tables.needs, tables.gains)]
    assert all(table.empty and len(table.columns) for table in found)


def test_of_each_method_the_newest_version_is_compared(tmp_path):
    for method in ("full", "lora"):
        for seed in range(4):
            write_run(tmp_path, outcomes(0.5, 32, seed), seed=seed, method=method, **SST2)
    frame = tables.records(tmp_path, "completed")
    for record in frame["record"]:
        record["environment"]["method_version"] = 98 if record["config"]["method"] == "full" else 1
    frame["record"].iloc[0]["environment"]["method_version"] = 99
    method, seed = frame["method"].iloc[0], frame["seed"].iloc[0]
    newest = tables.together([frame])
    assert list(newest["seed"][newest["method"] == method]) == [seed]
    assert sorted(newest["seed"][newest["method"] != method]) == [0, 1, 2, 3]


def test_the_bootstrap_of_a_run_is_drawn_once_whatever_it_is_compared_with(tmp_path, monkeypatch):
    write_study(tmp_path, sizes=(32, 100, 316), names=("full", "linear_probe", "conventional"))
    frame, drawn, unpack = tables.read(tmp_path), [], stats.outcomes

    def counting(runs):
        drawn.extend(runs)
        return unpack(runs)

    stats._sample_of_one.cache_clear()
    monkeypatch.setattr(stats, "outcomes", counting)
    for ask, *_ in SECTIONS:
        ask(frame)
    for make in (tables.summarise, tables.best, tables.needs, tables.differences, tables.aggregate):
        make(frame)
    tables.front(frame, tables.at_most_labels(tables.best(frame)), "flops")
    different = {record["metrics"].get("counts", record["metrics"]["hits"]) for record in frame["record"]}
    assert len(drawn) == len(set(drawn)) == len(different)


def test_seconds_from_a_cache_enter_no_mean_and_no_front_and_the_answer_says_how_many(tmp_path):
    for method, seed in itertools.product(("full", "lora", "conventional"), range(3)):
        cached = 5.0 * (method == "lora" or (method == "full" and seed > 0))
        spent = {"seconds": 9.0 if cached else 2.0, "flops": 300, "energy": 1.0, "cached": cached}
        write_run(tmp_path, outcomes(0.5, 32, seed), method=method, seed=seed, **spent, **SST2)
    frame = tables.read(tmp_path)
    summary = tables.summarise(frame).set_index("configuration")
    assert summary.loc["full", "device_seconds"] == 2.0  # of the one run that was timed whole
    assert summary.loc["full", ["seeds", "flops"]].tolist() == [3, 300]
    unknown = ["device_seconds", "gpu_hours", "energy_wh", "train_samples_per_second"]
    assert summary.loc["lora", unknown].isna().all()
    best = tables.best(frame)
    front = tables.front(frame, best, "device_seconds")
    assert (set(front["configuration"]), set(front["unmeasured"])) == ({"full", "conventional"}, {"lora"})
    assert set(tables.front(frame, best, "flops")["configuration"]) == {"full", "lora", "conventional"}
    said = answers.cost(frame)
    assert "The seconds of 5 of 9 runs are left out, because an earlier run of a sweep had done a part" in said.headline
    assert "nan" not in " ".join(said.lines)
    assert frame["cost.device_seconds"].max() == 9.0  # a table of runs holds what the records do
    only_timed = tables.read(tmp_path)[frame["method"] == "conventional"]
    assert "left out" not in answers.cost(only_timed).headline


def test_nor_is_one_whose_p_is_below_five_percent(tmp_path):
    rng = np.random.default_rng(357)  # p is 0.036, and the interval -3.75 to +0.05 points
    base = rng.random(TESTED) < 0.8
    for seed in range(5):
        write_run(tmp_path, base ^ (rng.random(TESTED) < 0.04), method="full", seed=seed, **SST2)
        write_run(tmp_path, base & (rng.random(TESTED) > 0.035), method="conventional", seed=seed, **SST2)
    frame = tables.read(tmp_path)
    assert tables.differences(frame, "full")["verdict"].tolist() == ["worse"]
    assert [*tables.best(frame)["undecided"][0]] == ["conventional"]


def test_none_is_called_worse_than_the_best_whose_interval_reaches_zero(tmp_path):
    for seed, lost in enumerate((8, 12, 20)):
        right = outcomes(0.8, 100, seed)
        fewer = right.copy()
        fewer[np.flatnonzero(right)[:lost]] = False
        for method, hits in (("conventional", right), ("full", fewer)):
            write_run(tmp_path, hits, method=method, seed=seed, **SST2)
    frame = tables.read(tmp_path)
    assert tables.differences(frame)["verdict"].tolist() == ["undecided"]
    assert [*tables.best(frame)["undecided"][0]] == ["full"]
