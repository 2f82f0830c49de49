"""The sentences beside the figures and the four answers, from records whose outcomes were chosen."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from synthetic import outcomes, write_run

from lrtl_utils.errors import InputError
from lrtl_utils.study import answers, tables
from lrtl_utils.study.report import SECTIONS


@pytest.mark.parametrize(
    ("difference", "said"),
    [(0.0114, "+1.1"), (-0.0003, "-0.03"), (5e-7, "+0.00005"), (0.0, "+0.0"), (0.1 + 0.2 - 0.3, "+0.0")],
)
def test_a_difference_keeps_its_sign_and_shows_no_error_of_floating_point(difference, said):
    assert answers.points(difference) == said
    assert answers.points(difference, -0.05, difference) == f"{said} [-5.0, {said}]"


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(5e-8, "0.000005%"), (0.0000071, "0.0007%"), (0.0016, "0.2%"), (0.031, "3%"), (0.239, "24%"), (1.5, "150%")],
)
def test_a_share_is_never_nothing(ratio, said):
    assert answers.share(ratio) == said


@pytest.mark.parametrize(("number", "said"), [(0.9551, "0.955"), (1.0, "1"), (1234.5, "1,230"), (87_654.0, "87,700")])
def test_a_number_of_few_digits_has_no_exponent(number, said):
    assert answers.short(number) == said


def test_sentences_come_from_the_numbers(frame):
    summary, best = tables.summarise(frame), tables.best(frame)
    (_, data) = answers.score_vs_data(best)
    sized = summary[(summary["dataset"] == "sst2") & (summary["n_labels"] == 1000)]
    top = sized.nlargest(1, "score").iloc[0]
    (tied,) = best[(best["dataset_model"] == "sst2 · minilm") & (best["n_labels"] == 1000)]["undecided"]
    assert data.startswith("sst2 · minilm: progressive, accuracy 0.")
    of_all = f"with 1000 labels, best of {sized['configuration'].nunique()} configurations"
    assert (
        f"{top['configuration']}, accuracy {top['score']:.3f} ({top['low']:.3f} to {top['high']:.3f}) {of_all}" in data
    )
    assert [*tied] == ["full"]
    assert "(not shown to be worse, with the difference in points: full -1.1)" in data

    best = tables.at_most_labels(best)
    (_, cost) = answers.score_vs_cost(tables.front(frame, best, "flops"), best, "flops")
    assert "needs 4.5 times the FLOPs of from_scratch" in cost  # 1 + 10 · 0.8 against 1 + 10 · 0.1
    front = tables.front(frame, best, "device_seconds")
    (_, spent) = answers.money(front.assign(money=3600 * front["gpu_hours"]), best)  # a second costs one
    assert spent == "sst2 · minilm: a run of progressive with 1000 labels costs 180, one of from_scratch 40."

    needs = tables.needs(frame)
    (_, needed) = answers.labels_needed(needs)
    row = needs[(needs["dataset_model"] == "sst2 · minilm") & (needs["configuration"] == "progressive")].iloc[0]
    interval = f"({row['low']:.0f} to {row['high']:.0f})"
    assert f"progressive needs about {row['n_labels']:.0f} {interval} of the 67349 labels to reach" in needed
    target = f"{row['target']:.3f}, which is 95% of the highest accuracy of 6 configurations at the largest size"
    assert f"to reach {target}" in needed
    never = answers.labels_needed(needs.assign(n_labels=np.inf, doubts=[["why"]] * len(needs)))
    assert f"does not reach {target}, even" in never[1]
    assert never[1].endswith("even with all 67349 labels (not reliable: why).")

    (_, against) = answers.real(frame).each
    assert "better with 32, 100, 316, 1000 labels: full" in against
    assert "worse with 32, 100, 316, 1000 labels: from_scratch, tfidf" in against

    assert answers.aggregate(tables.aggregate(frame))[0].startswith("32 labels, 2 pairs: progressive is highest")


def test_claims_come_from_the_numbers(frame):
    best, table = tables.best(frame), tables.differences(frame)
    counts = table["verdict"].value_counts()
    known = f"Of {counts.sum()} differences from conventional: {counts['better']} better, {counts['worse']} worse"
    assert answers.claim_differences(table, "conventional").startswith(known)
    claim = "With 1000 labels, progressive"
    assert answers.claim_best(best).startswith(claim)
    assert answers.claim_best(best).endswith("has the highest mean on 2 of 2 data sets")
    at = tables.at_most_labels(best)
    front = tables.front(frame, at, "flops")
    flops = front.set_index(["dataset_model", "configuration"])["flops"]
    cheaper = sum(
        any(
            flops[row.dataset_model].get(name, np.inf) < flops[row.dataset_model, row.configuration]
            for name, (*_, high) in row.undecided.items()
            if high >= 0
        )
        for row in at.itertuples()
    )
    assert answers.claim_cost(front, at, "flops").startswith(f"On {cheaper} of 2 data sets, a method that needs fewer")
    unmeasured = front[front["dataset_model"] != at["dataset_model"].iloc[0]]  # its best has no seconds, say
    lacking = pd.concat([unmeasured, front[~front["configuration"].isin(at["configuration"])]])
    assert " of 1 data set, a " in answers.claim_cost(lacking, at, "flops")
    needs = tables.needs(frame)
    apart = needs.assign(n_labels=100.0, low=90.0, high=110.0)
    some, by = "2 data sets with two reliable curves or more", "By intervals that do not overlap, "
    assert answers.claim_needs(apart) == f"{by}no method needs the fewest labels on any of {some}"
    apart.loc[apart["variant"] == "full", ["n_labels", "low", "high"]] = 50.0, 40.0, 60.0
    assert answers.claim_needs(apart) == f"{by}full needs the fewest labels on 2 of {some}"
    later = apart.assign(sizes=[(90, 316, 1000)] * len(apart))  # at the first size, the others have the target already
    assert answers.claim_needs(later) == f"{by}no method needs the fewest labels on any of {some}"
    apart.loc[(apart["variant"] == "full") & (apart["dataset_model"] == "sst2 · minilm"), "high"] = 95.0
    assert answers.claim_needs(apart) == f"{by}full needs the fewest labels on 1 of {some}"
    alone = answers.claim_needs(needs[needs["variant"] == "full"])
    assert alone.startswith("On no data set can two curves be relied on")
    assert answers.claim_needs(needs.assign(n_labels=np.inf)).startswith("No curve that can be relied on reaches 95%")
    assert answers.claim_aggregate(tables.aggregate(frame)) == (
        "Over the data sets, progressive is highest at 4 of 4 sizes"
    )
    models = front.assign(dataset_model=["sst2 · a", "sst2 · b"] * (len(front) // 2) + ["sst2 · a"] * (len(front) % 2))
    assert answers._pairs(2, models) == "2 pairs of data set and model"


def test_the_claim_over_labels_is_of_the_fewest_and_the_most_that_two_methods_share(frame):
    ours, probe = (frame[frame["method"] == name] for name in ("progressive", "linear_probe"))
    begins = "progressive is shown to be better than linear_probe on"
    said = f"{begins} 2 of 2 data sets with 32 labels, and on 2 of 2 data sets with 1000 labels"
    assert answers.claim_labels(frame) == said
    few = frame["n_labels"] == 32
    names = {"progressive": "linear_probe", "linear_probe": "progressive"}
    swapped = {
        name: frame[name].mask(few, frame[name].replace(names)) for name in ("method", "variant", "configuration")
    }
    worse = "0 of 2 data sets (worse on 2) with 32 labels"
    assert answers.claim_labels(frame.assign(**swapped)) == said.replace("2 of 2 data sets with 32 labels", worse)
    uneven = pd.concat([ours, probe[(probe["n_labels"] > 32) | (probe["dataset"] == "sst2")]])
    assert f"{begins} 2 of 2 data sets with 32 to 100 labels, " in answers.claim_labels(uneven)
    alone = pd.concat([ours, probe[(probe["n_labels"] == 100) | (probe["dataset"] == "sst2")]])
    assert f"{begins} 1 of 1 data set with 32 labels, " in answers.claim_labels(alone)
    for none in (ours, frame[frame["seed"] == 0], frame[frame["n_labels"] == 32], frame[:0]):
        assert answers.claim_labels(none) == ""


def test_the_four_answers(frame, monkeypatch):
    which, how_much, cost, real = (answer(frame) for answer, *_ in SECTIONS)
    assert "progressive has the highest mean on 2 of 2 data sets (" in which.headline
    others = tables.summarise(frame).query("n_labels == 1000").groupby("dataset")["configuration"].nunique() - 1
    assert f"({others.min() + 1} to {others.max() + 1} configurations, 1000 labels)" in which.headline
    assert set(which.table["n_labels"]) == {1000}
    assert all(
        [one.split(": ")[0] for one in found.each] == ["conll2003 · minilm_crf", "sst2 · minilm"]
        for found in (which, how_much, cost, real)
    )
    needs = tables.needs(frame)
    assert how_much.each == answers.labels_needed(needs)
    assert [*needs[needs["first"]]["n_labels"].round()] == [324, 324]
    best = "pairs of data set and model, the highest-scoring configuration with a reliable curve needs "
    assert how_much.headline.startswith(f"On 2 of 2 {best}about 324 labels. The target is 95% of the highest ")
    sure = sum(not doubts for doubts in needs["doubts"])
    assert 2 < sure < len(needs)  # all curves are counted, and not only those that were chosen because they pass
    passed = f"{sure} of {len(needs)} curves pass the checks of reliability"
    assert how_much.headline.endswith(f" at the largest size (1000 labels). {passed}.")
    first = needs["first"] & needs["dataset_model"].str.startswith("sst2")
    doubted = needs.assign(doubts=needs["doubts"].mask(first, pd.Series([["it falls"]] * len(needs))))
    monkeypatch.setattr(tables, "needs", lambda frame: doubted)
    fewer = passed.replace(f"{sure} ", f"{sure - 1} ", 1)
    lacks = "the configuration with the highest mean where the most were compared has no such curve."
    assert answers.how_much(frame).headline.endswith(f". {fewer}. On 1 pair, {lacks}")
    least = needs.assign(sizes=[(400, 500, 1000)] * len(needs))
    monkeypatch.setattr(tables, "needs", lambda frame: least)
    assert " needs at most 324 labels. " in answers.how_much(frame).headline
    assert " labels, which is beyond the largest size that ran, to reach " in answers.needed(
        next(least.assign(n_labels=1213.0, low=825.0, high=2001.0).itertuples())
    )
    never = needs.assign(n_labels=needs["n_labels"].mask(needs["dataset_model"].str.startswith("sst2"), np.inf))
    monkeypatch.setattr(tables, "needs", lambda frame: never)
    assert answers.how_much(frame).headline.startswith(f"On 1 of 2 {best}")
    assert how_much.each[1].startswith(f"sst2 · minilm: {which.table['configuration'].iloc[1]} needs about ")
    assert real.lines[1] == f"- {real.each[0]}"
    assert (cost.table["cheapest_flops"] <= cost.table["best_flops"]).all()
    counts = tables.differences(frame)["verdict"].value_counts()
    assert f"{counts['better']} better, {counts['worse']} worse" in real.headline
    assert "?" in which.question


def test_the_tuned_baseline_is_compared_beside_its_default(tmp_path):
    for labels, skill in ((32, 0.4), (100, 0.4), (316, 1.0)):
        for seed in range(3):
            knobs = {"dataset": "sst2", "model": "minilm", "train_size": labels, "seed": seed}
            write_run(tmp_path, outcomes(0, labels, seed), method="conventional", **knobs)
            write_run(tmp_path, outcomes(0.7, labels, seed), method="conventional", learning_rate=1e-4, **knobs)
            write_run(tmp_path, outcomes(skill, labels, seed), method="full", **knobs)
    for frame, ahead in (
        (tables.read(tmp_path), "full, the best with 316 labels, is +"),
        (tables.read(tmp_path).query("n_labels < 316"), "conventional (tuned) is itself the best with 100 labels; "),
    ):
        found = answers.real(frame)
        (stated,) = found.each
        better = "" if len(frame) < 27 else "1 better, "
        said = (
            f"Of {len(frame) // 9 * 2} differences in accuracy from conventional (tuned), corrected for their number: "
        )
        assert found.headline.startswith(said + better)
        assert ahead in stated.split(" points of accuracy over conventional; ")[1]
        assert "worse with 32, 100" in stated
        assert ("better with 316 labels: full" in stated) == (len(frame) == 27)


def test_without_the_baseline_the_best_is_compared_with_all_others(frame):
    found = answers.real(frame[frame["method"] != "conventional"])
    ahead = sum(not names for names in found.table["undecided"])
    assert f"in {ahead} of 8 settings" in found.headline
    once = answers.real(frame[(frame["method"] != "conventional") & (frame["seed"] == 0)])
    assert "so no difference can be shown" in once.headline


def test_one_line_alone_has_nothing_beside_it(frame):
    alone = frame[(frame["method"] == "full") & (frame["n_labels"] == 100)]
    for answer in (answers.which, answers.real):
        assert "nothing to compare" in answer(alone).headline
    assert "full itself (" in answers.cost(alone).each[0]
    (_, stated) = answers.score_vs_data(tables.best(alone))
    assert stated.startswith("sst2 · minilm: full, accuracy 0.")
    assert stated.endswith("with 100 labels.")
    assert "no curve" in answers.how_much(alone).headline


def test_models_of_one_data_set_are_compared_with_each_other(tmp_path):
    for seed in range(3):
        for model, skill in (("minilm", 0.2), ("bert_base", 0.9)):
            for method in ("full", "conventional"):
                knobs = {"dataset": "sst2", "model": model, "train_size": 100, "seed": seed}
                write_run(tmp_path, outcomes(skill, 100, seed), method=method, **knobs)
    found = answers.which(tables.read(tmp_path))
    assert found.each[-1].startswith("sst2 · all models: bert_base ")
    assert set(found.table["dataset_model"]) == {"sst2 · minilm", "sst2 · bert_base", "sst2 · all models"}


@pytest.mark.parametrize(
    ("tuned_is_better", "stated"),
    [((True, True), "full (tuned) has the highest mean on 2 of 2 data sets (2 configurations"),
     ((True, False), "no configuration has the highest mean on more than 1 of 2 data sets; full and full (tuned) ")],
)  # fmt: skip
def test_a_tuned_method_counts_as_one_and_all_that_lead_are_named(tmp_path, tuned_is_better, stated):
    for dataset, rate, better in zip(("sst2", "imdb"), (1e-3, 1e-4), tuned_is_better, strict=True):
        for seed in range(3):
            knobs = {"dataset": dataset, "model": "minilm", "train_size": 100, "seed": seed, "method": "full"}
            write_run(tmp_path, outcomes(0.9 if better else 0.1, 100, seed), learning_rate=rate, **knobs)
            write_run(tmp_path, outcomes(0.1 if better else 0.9, 100, seed), **knobs)
    assert stated in answers.which(tables.read(tmp_path)).headline


@pytest.mark.parametrize(("skill", "on"), [(0.9, "1 of the others it is"), (0.85, "none of the others is it")])
def test_what_is_shown_to_be_near_the_highest_is_counted_and_what_is_undecided_is_not(tmp_path, skill, on):
    skills = {"sst2": {"full": 0.9, "bitfit": 0.1}, "imdb": {"full": 0.9, "bitfit": 0.1}}
    skills["ag_news"] = {"full": skill, "bitfit": 0.9}
    for dataset, of in skills.items():
        for method, seed in itertools.product(of, range(3)):
            sized = outcomes(of[method], 100, seed)
            write_run(tmp_path, sized, dataset=dataset, model="minilm", method=method, train_size=100, seed=seed)
    said = f"full has the highest mean on 2 of 3 data sets, and on {on} shown to be within 1 point of the highest"
    assert said in answers.which(tables.read(tmp_path)).headline


def test_none_is_called_the_best_while_another_has_too_few_seeds(frame):
    few = frame[(frame["method"] != "tfidf") | (frame["seed"] == 0)]
    tagged, texts = answers.real(few).each
    assert ", the best with 1000 labels, is +" in tagged  # tfidf is not for tags
    assert ", the highest with 1000 labels, is +" in texts


def test_a_size_whose_seeds_are_still_to_come_does_not_answer(frame):
    begun = frame[(frame["n_labels"] < 1000) | (frame["seed"] == 0)]
    assert set(answers.which(begun).table["n_labels"]) == {316}
    assert set(answers.cost(begun).table["n_labels"]) == {316}


def test_the_labels_needed_are_those_of_the_line_called_best(frame):
    needs = tables.needs(frame[(frame["n_labels"] < 1000) | (frame["method"] == "tfidf")])
    lines = needs[needs["first"]].set_index("dataset_model")["configuration"]
    assert lines["sst2 · minilm"] == "progressive"  # though tfidf alone goes on to 1,000
    assert "progressive needs" in answers.labels_needed(needs)[1]
    asked = answers.how_much(frame[(frame["n_labels"] < 1000) | (frame["method"] == "tfidf")])
    assert " at the largest size (316 to 1000 labels). " in asked.headline  # conll2003 has no tfidf


def test_the_labels_needed_are_those_of_a_reliable_curve_where_the_best_has_none(frame):
    needs = tables.needs(frame)
    sst2 = needs["dataset_model"] == "sst2 · minilm"
    doubted = needs["doubts"].where(~(sst2 & needs["first"]), needs["doubts"].map(lambda _: ["why"]))
    reliable = needs[sst2 & ~needs["first"] & (needs["doubts"].map(len) == 0)]
    highest = reliable.loc[reliable["score"].idxmax(), "configuration"]
    assert f"{highest} needs" in answers.labels_needed(needs.assign(doubts=doubted))[1]
    none = needs.assign(doubts=needs["doubts"].map(lambda _: ["why"]))
    assert "progressive needs" in answers.labels_needed(none)[1]


def test_a_cheaper_method_that_ties_is_found(tmp_path):
    for seed in range(3):
        right = outcomes(0.8, 100, seed)
        near = right.copy()
        near[:: len(near) // 2] ^= True
        for method, hits, flops in (("full", right, 1000), ("linear_probe", near, 10)):
            knobs = {"dataset": "sst2", "model": "minilm", "train_size": 100, "seed": seed}
            write_run(tmp_path, hits, flops=flops, method=method, **knobs)
    frame = tables.read(tmp_path)
    found = answers.cost(frame)
    assert list(found.table["cheapest"]) == ["linear_probe"]
    assert "linear_probe at 1% of the FLOPs of full (" in found.each[0]
    (row,) = found.table.itertuples()
    worse = f"is not shown to be worse by accuracy (the means differ by {answers.points(row.mean)} points, and the "
    worse += "interval of the difference reaches zero). On none of these is it shown to be at most 1 point worse. "
    assert f"than the best {worse}Training the best takes " in found.headline
    assert re.search(r"points, 1\S+% of its \S+ device seconds, ", found.each[0])
    for record in frame[frame["method"] == "full"]["record"]:
        record["started_at"] = "2026-01-02T00:00:00+00:00"
    assert "points, seconds not comparable, " in answers.cost(frame).each[0]


def test_the_seconds_are_of_the_pairs_whose_best_was_timed(tmp_path):
    for dataset, cached in (("sst2", 0.0), ("imdb", 5.0)):
        for (method, skill), seed in itertools.product((("full", 0.9), ("bitfit", 0.1)), range(3)):
            knobs = {"dataset": dataset, "model": "minilm", "method": method, "train_size": 100, "seed": seed}
            write_run(tmp_path, outcomes(skill, 100, seed), seconds=9.0, cached=cached, **knobs)
    frame = tables.read(tmp_path)
    assert ". Training the best of 1 pair takes 9 device seconds. " in answers.cost(frame).headline
    frame["device"] = frame["device"].where(frame["seed"] > 0, "cpu: another")
    assert ". The seconds are of several machines, so they are not compared." in answers.cost(frame).headline


def test_a_baseline_that_is_no_method_is_refused(frame):
    with pytest.raises(InputError, match=r"conventionel.*conventional"):
        answers.real(frame, "conventionel")
    assert " from full" in answers.real(frame, "full").headline


def test_what_its_own_interval_shows_to_be_worse_is_no_cheaper_choice(frame):
    (row,) = tables.at_most_labels(tables.best(frame)).query("dataset_model == 'sst2 · minilm'").to_dict("records")
    ((_, low, high),) = row["undecided"].values()  # among so many comparisons
    assert low < high < 0
    assert "sst2 · minilm: progressive itself (" in answers.cost(frame).each[1]
    alone = answers.cost(frame[frame["dataset"] == "sst2"]).headline
    assert alone.startswith(
        "On the only pair of data set and model, no compared configuration with fewer FLOPs than the best ("
    )


def test_the_cheapest_is_of_what_was_measured(frame):
    best = tables.at_most_labels(tables.best(frame))
    front = tables.front(frame, best, "device_seconds")
    alone = front[front["configuration"].isin(best["configuration"])]
    for unmeasured, said in (("", "for each method; "), ("lora", "for each method with device seconds on record; ")):
        stated = answers.score_vs_cost(alone.assign(unmeasured=unmeasured), best, "device_seconds")
        assert all(f" is also the cheapest of one setting {said}" in one for one in stated)


def test_too_few_seeds_are_reported_and_so_are_several_machines(frame):
    few = frame[frame["seed"] == 0]
    best = tables.at_most_labels(tables.best(few))
    front = tables.front(few, best, "device_seconds")
    stated = answers.score_vs_cost(front, best, "device_seconds")
    assert all("too few seeds to say how surely" in one and "(1 seed)" in one for one in stated)
    assert "too few seeds to compare: " in answers.which(few).each[0]
    assert "none can be called best" in answers.which(few).headline
    moved = few.assign(device=few["device"].where(few["method"] != "progressive", "another"))
    for cost, said in (("device_seconds", True), ("flops", False)):
        stated = answers.score_vs_cost(tables.front(moved, best, cost), best, cost)
        assert ("the points are of several machines" in stated[0]) == said
    for device, said in (("one", " MiB)."), ("one + another", " several machines")):
        (_, sst2) = answers.cost(frame.assign(device=device)).each
        assert said in sst2
