"""Effects of knobs, against a grid whose scores are a formula."""

import json

import pandas as pd
import pytest
from scipy.stats import t
from synthetic import outcomes, write_run

from lrtl_utils.runs import record as schema
from lrtl_utils.study import answers, effects, tables

RATES, EPOCHS, SCHEDULERS = (1e-5, 3e-5, 5e-5), (3, 10), ("linear", "cosine")
KNOBS = ["learning_rate", "epochs", "scheduler"]


def score(rate, epochs, scheduler):
    return 0.5 + 0.1 * RATES.index(rate) + 0.04 * EPOCHS.index(epochs) + 0.02 * (rate == 5e-5 and epochs == 10)


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    base = {"dataset": "sst2", "model": "minilm", "method": "full", "train_size": 100, "validation_share": 0.2}
    for rate in RATES:
        for epochs in EPOCHS:
            for scheduler in SCHEDULERS:
                knobs = {"learning_rate": rate, "epochs": epochs, "scheduler": scheduler, "warmup_steps": 500}
                judged = score(rate, epochs, scheduler)
                right = outcomes(judged, 100, 0)  # so that no metric is constant
                write_run(folder, right, validation=judged, seconds=epochs, **base, **knobs)
    write_run(folder, outcomes(0.5, 100, 0), **base | {"validation_share": 0.0})  # no validation split: does not count
    return tables.records(folder, "completed")


def test_settings_and_the_knobs_that_distinguish_them(frame):
    settings, knobs, of = effects.trials(frame)
    assert (len(settings), knobs) == (12, KNOBS)
    assert of == "sst2 · minilm, full with 100 labels (1 seed, 20 validation examples)"
    assert effects.is_whole(settings, knobs)
    assert not effects.is_whole(settings[1:], knobs)


def test_the_committed_grid_is_the_plan_s_and_whole():
    settings, knobs, _ = effects.trials(tables.read("results/search"))
    assert knobs == ["learning_rate", "batch_size", "epochs", "scheduler", "dropout"]
    assert effects.is_whole(settings, knobs)


def test_main_effects_and_interactions_by_hand(frame):
    settings, knobs, _ = effects.trials(frame)
    main = effects.main_effects(settings, knobs).set_index(["knob", "value"])
    assert main.loc[("epochs", 3), "score"] == pytest.approx(0.6)
    assert main.loc[("epochs", 10), "score"] == pytest.approx(0.64 + 0.02 / 3)
    shares = main["share"].groupby("knob").first()
    rates = settings.groupby("learning_rate")["score"].mean()
    assert shares["learning_rate"] == pytest.approx(rates.var(ddof=0) / settings["score"].var(ddof=0))
    assert shares["scheduler"] == pytest.approx(0)
    assert list(shares.sort_values(ascending=False).index) == list(dict.fromkeys(knob for knob, _ in main.index))
    assert main.index[main["best"]].tolist() == [("learning_rate", 5e-5), ("epochs", 10), ("scheduler", "cosine")]
    assert main.index[main["at_edge"]].tolist() == [("learning_rate", 5e-5), ("epochs", 10)]  # words have no edge
    scores = settings["score"][settings["epochs"] == 3]
    low, high = t.interval(0.95, len(scores) - 1, scores.mean(), scores.sem())
    assert main.loc[("epochs", 3), ["low", "high"]].tolist() == pytest.approx([low, high])
    (said,) = answers.main_effects(main.reset_index(), whole=True)
    assert " explains most, " in said
    assert "By chance a hyperparameter with 3 values would explain about 18%." in said  # (3 - 1) / (12 - 1)
    assert said.endswith(
        "Best, but at the edge of the grid: learning_rate=5e-05, epochs=10; better values may lie beyond it."
    )

    pairs = effects.interactions(settings, knobs)
    assert list(pairs.iloc[0][["first", "second"]]) == ["learning_rate", "epochs"]
    assert shares.sum() + pairs["share"].sum() == pytest.approx(1)  # the scheduler does nothing, so this is all


def test_a_budget_ends_at_the_best(frame):
    settings, _, _ = effects.trials(frame)
    budget = effects.budget(settings)
    assert budget["expected"].iloc[0] == pytest.approx(settings["score"].mean())
    assert budget["expected"].iloc[-1] == settings["score"].max()
    assert budget["device_seconds"].iloc[-1] == settings["device_seconds"].sum() == 6 * (3 + 10)


def test_searches_are_read_from_replays(tmp_path):
    assert effects.searches(tmp_path).empty
    (tmp_path / "search.csv").write_text("sampler,seed,trials,device_seconds,flops,seconds_share\nTPE,0,9,40,1,0.1\n")
    (row,) = effects.searches([str(tmp_path), "another"]).to_dict("records")
    assert row == {"sampler": "TPE", "seed": 0, "trials": 9, "device_seconds": 40.0, "seconds_share": 0.1}


def test_every_knob_distinguishes_settings_and_a_warm_up_as_it_was_asked_for(tmp_path):
    base = {"dataset": "sst2", "model": "minilm", "method": "progressive", "train_size": 100, "validation_share": 0.2}
    for without in (None, "soften"):
        write_run(tmp_path, outcomes(0.5, 100, 0), validation=0.5, without=without, **base)
    assert effects.trials(tables.records(tmp_path, "completed"))[1] == ["without"]
    for epochs in (3, 10):
        for asked in (2, 500):
            knobs = base | {"method": "full", "epochs": epochs, "warmup_steps": asked}
            write_run(tmp_path, outcomes(0.5, 100, 0), validation=0.5, **knobs)
    settings, knobs, _ = effects.trials(tables.records(tmp_path, "completed"))
    assert knobs == ["epochs", "warmup_steps"]
    assert effects.is_whole(settings, knobs)


def test_what_the_texts_decide_is_no_knob(tmp_path):
    base = {"dataset": "sst2", "model": "minilm", "method": "full", "train_size": 100, "validation_share": 0.2}
    for rate in (1e-4, 1e-3):
        for seed, length in ((0, 128), (1, 256)):  # nobody asked for these
            path = write_run(tmp_path, outcomes(0.5, 100, 0), validation=0.5, learning_rate=rate, seed=seed, **base)
            record = json.loads(path.read_text())
            config = record["config"] | {"max_length": length}
            config["asked"] = config["asked"] | {"max_length": None}
            changed = record | {"config": config}
            path.write_text(json.dumps(changed | {"checksum": schema.checksum(changed)}))
    settings, knobs, _ = effects.trials(tables.records(tmp_path, "completed"))
    assert (knobs, len(settings)) == (["learning_rate"], 2)


def test_a_knob_that_is_none_in_some_settings_counts(tmp_path):
    base = {"dataset": "sst2", "model": "minilm", "method": "full", "train_size": 100, "validation_share": 0.2}
    for epochs in (3, 10):
        for norm, judged in ((None, 0.9), (1.0, 0.5), (2.0, 0.6)):
            knobs = base | {"epochs": epochs, "max_grad_norm": norm}
            write_run(tmp_path, outcomes(0.5, 100, 0), validation=judged + epochs / 1000, **knobs)
    settings, knobs, _ = effects.trials(tables.records(tmp_path, "completed"))
    main = effects.main_effects(settings, knobs)
    (best,) = main[main["best"] & (main["knob"] == "max_grad_norm")].to_dict("records")
    assert (best["value"], best["at_edge"]) == ("None", False)
    pairs = effects.interactions(settings, knobs)
    assert "0.910, is at epochs=10 and max_grad_norm=None." in answers.interaction(settings, pairs)[0]


def test_without_a_grid_there_is_nothing(frame):
    settings, knobs, _ = effects.trials(frame[:1])
    assert settings.empty
    assert effects.main_effects(settings, knobs).empty
    assert effects.interactions(settings, knobs).empty
    assert effects.budget(settings).empty
    assert effects.trials(frame[:0])[1:] == ([], "")


def test_one_knob_has_no_pair_and_two_that_change_together_explain_nothing_more():
    knobs = ["learning_rate", "epochs"]
    settings = pd.DataFrame([(1e-5, 3, 0.5), (3e-5, 10, 0.6)], columns=[*knobs, "score"]).assign(score_name="accuracy")
    assert effects.interactions(settings, knobs)["share"].tolist() == [0.0]
    assert "together explain 0.0% " in answers.interaction(settings, effects.interactions(settings, knobs))[0]
    (said,) = answers.interaction(settings, effects.interactions(settings, ["epochs"]))
    assert said.startswith("Only one hyperparameter differs")
    (said,) = answers.main_effects(effects.main_effects(settings, ["epochs"]), whole=True)
    assert "; epochs explains" not in said


def test_a_grid_with_seconds_from_a_cache_has_none(tmp_path):
    base = {"dataset": "sst2", "model": "minilm", "method": "lp_ft", "train_size": 100, "validation_share": 0.2}
    for rate in RATES:
        knobs = base | {"learning_rate": rate, "cached": 0.5 * (rate == RATES[1])}
        write_run(tmp_path, outcomes(0.5, 100, 0), validation=0.5, seconds=3.0, **knobs)
    settings, knobs, _ = effects.trials(tables.records(tmp_path, "completed"))
    assert (len(settings), settings["device_seconds"].isna().all()) == (3, True)
    assert settings["flops"].tolist() == [100] * 3
    (said,) = answers.expected_best(effects.budget(settings))
    assert "seconds" not in said


def test_of_equal_settings_none_is_best_at_an_edge():
    knobs = ["learning_rate", "epochs"]
    settings = pd.DataFrame([(rate, epochs) for rate in (1e-5, 3e-5, 5e-5) for epochs in (3, 5)], columns=knobs)
    main = effects.main_effects(settings.assign(score=1.0, score_name="validation accuracy"), knobs)
    assert not main["at_edge"].any()
