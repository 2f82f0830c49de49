"""Figures and the sentences beside them, from records whose outcomes were chosen."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from synthetic import outcomes, write_run

from lrtl_utils.study import answers, effects, figures, tables


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def frame(study):
    return tables.read(study)


def score_vs_data(frame):
    return figures.panels(tables.summarise(frame), figures.score_vs_data, needs=tables.needs(frame))


def axes(figure):
    return {ax.get_title(): ax for ax in figure.axes if ax.has_data()}


def test_a_plot_for_each_data_set_and_the_same_look_for_a_method_in_each(frame):
    drawn = axes(score_vs_data(frame))
    assert list(drawn) == ["conll2003 · minilm_crf", "sst2 · minilm"]
    for ax in drawn.values():
        lines = {line.get_label(): line for line in ax.get_lines() if line.get_label() in figures.COLOURS}
        assert lines["full"].get_color() == figures.COLOURS["full"]
        assert lines["full"].get_marker() == figures.MARKS["full"]
        assert ax.get_xlabel().startswith("labelled examples")
    assert drawn["conll2003 · minilm_crf"].get_ylabel() == "test entity F1"


def test_the_legend_names_a_tuned_line_once_whatever_its_settings(tmp_path):
    for dataset, rate in (("sst2", 5e-4), ("imdb", 1e-4)):
        for knobs in ({}, {"learning_rate": rate}):
            write_run(tmp_path, outcomes(0.5, 32, 0), method="full", dataset=dataset, train_size=32, **knobs)
    figure = score_vs_data(tables.read(tmp_path))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["full", "full (tuned)"]
    frame = tables.read(tmp_path)
    (line,) = axes(score_vs_data(frame[frame["variant"] == "full (tuned)"]))["imdb · minilm"].get_lines()
    assert line.get_linestyle() == "--"  # as where its method's own setting is beside it


def test_a_curve_of_four_sizes_goes_on_to_full_data_and_one_of_three_does_not(frame):
    for rows, farthest in ((frame, 67349), (frame[frame["n_labels"] < 1000], 316)):
        ax = axes(score_vs_data(rows))["sst2 · minilm"]
        assert max(max(line.get_xdata()) for line in ax.get_lines()) == pytest.approx(farthest)
        ends = [part[0, 0] for c in ax.collections if isinstance(c, LineCollection) for part in c.get_segments()]
        assert set(ends) == ({farthest} if farthest > 1000 else set())  # where the law has its interval
    assert score_vs_data(frame[frame["seed"] == 0])  # where it has none


def test_rings_are_the_front_and_unsure_ones_are_dotted(frame):
    front = tables.front(frame, "flops")
    part = front[front["dataset_model"] == "sst2 · minilm"]
    part.loc[part["on_front"].idxmax(), "front_share"] = float("nan")  # too few seeds to say
    ax = axes(figures.panels(part, figures.score_vs_cost, cost="flops"))["sst2 · minilm"]
    rings = {c.get_label(): c for c in ax.collections if c.get_label().startswith("Pareto front")}
    sure = part["on_front"] & (part["front_share"] >= 0.95)
    assert len(rings["Pareto front"].get_offsets()) == sure.sum() > 0
    assert len(rings["Pareto front, not sure"].get_offsets()) == part["on_front"].sum() - sure.sum() > 0
    assert len({str(ring.get_linestyle()) for ring in rings.values()}) == 2


def test_sizes_close_together_share_one_share(frame):
    rows = pd.concat([frame, frame[frame["n_labels"] == 316].assign(n_labels=500)], ignore_index=True)
    ax = axes(score_vs_data(rows))["sst2 · minilm"]
    ticks = dict(text.get_text().split("\n") for text in ax.get_xticklabels())
    assert ticks["500"] == ""
    assert ticks["316"].endswith("%")


def test_what_is_undecided_is_hollow(frame):
    table = tables.differences(frame)
    table.loc[0, "verdict"] = "undecided"
    marks = figures.differences(table[:2], plt.subplots()[1], baseline="conventional").collections
    filled = [to_hex(mark.get_facecolor()[0]) != "#ffffff" for mark in marks if isinstance(mark, PathCollection)]
    assert sorted(filled) == [False, True]


def test_needs_that_the_data_do_not_determine_are_hollow(frame):
    needs = tables.needs(frame)
    needs["doubts"] = [[], *([["few"]] * (len(needs) - 1))]
    marks = figures.labels_needed(needs, plt.subplots()[1]).collections
    filled = [to_hex(mark.get_facecolor()[0]) != "#ffffff" for mark in marks if isinstance(mark, PathCollection)]
    assert filled == [True] + [False] * (len(needs) - 1)


def test_every_figure_of_a_study_is_drawn_the_same_twice(frame, tmp_path):
    drawings = {
        "needs": lambda: figures.panels(tables.needs(frame), figures.labels_needed),
        "differences": lambda: figures.panels(tables.differences(frame), figures.differences, baseline="conventional"),
        "aggregate": lambda: figures.single(tables.aggregate(frame), figures.aggregate),
    }
    for name, draw in drawings.items():
        for folder in ("a", "b"):
            figures.save(draw(), tmp_path / folder, name)
        a, b = ((tmp_path / folder / "figures" / f"{name}.png").read_bytes() for folder in ("a", "b"))
        assert a == b, name


def test_without_records_there_is_no_figure_and_every_sentence_says_so(tmp_path):
    frame = tables.read(tmp_path)
    settings, knobs, _ = effects.trials(frame)
    assert score_vs_data(frame) is None
    assert figures.single(tables.aggregate(frame), figures.aggregate) is None
    assert figures.main_effects(effects.main_effects(settings, knobs)) is None
    stated = [
        answers.score_vs_data(tables.best(frame)),
        answers.labels_needed(tables.needs(frame)),
        answers.score_vs_cost(tables.front(frame, "flops"), tables.best(frame), "flops"),
        answers.money(tables.front(frame, "gpu_hours"), tables.best(frame)),
        answers.differences(tables.differences(frame), "conventional"),
        answers.aggregate(tables.aggregate(frame)),
        answers.main_effects(effects.main_effects(settings, knobs), whole=False),
        answers.interaction(settings, effects.interactions(settings, knobs)),
        answers.expected_best(effects.budget(settings)),
        answers.searches(effects.searches(tmp_path)),
        answers.warmups(effects.warmups(frame)),
    ]
    assert all(len(lines) == 1 and lines[0].endswith(".") for lines in stated)
    for ask in answers.ANSWERS:
        assert ask(frame).lines == [answers.NOTHING]
        assert ask(frame).table.empty


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
    assert ("(not shown to be worse: " in data.split(". ")[1]) == bool(tied)

    best = tables.at_most_labels(best)
    (_, cost) = answers.score_vs_cost(tables.front(frame, "flops"), best, "flops")
    assert "costs 4.5 times the FLOPs of from_scratch" in cost  # 1 + 10 · 0.8 against 1 + 10 · 0.1
    front = tables.front(frame, "gpu_hours")
    (_, spent) = answers.money(front.assign(money=3600 * front["gpu_hours"]), best)  # a second costs one
    assert spent == "sst2 · minilm: a run of progressive with 1000 labels costs 1.8e+02, one of from_scratch 40."

    needs = tables.needs(frame)
    (_, needed) = answers.labels_needed(needs)
    row = needs[(needs["dataset_model"] == "sst2 · minilm") & (needs["configuration"] == "progressive")].iloc[0]
    assert f"progressive needs about {row['n_labels']:.0f} ({row['low']:.0f} to {row['high']:.0f}) of 67349" in needed
    assert f"for {row['target']:.3f}, 95% of the best accuracy at the largest size" in needed
    never = answers.labels_needed(needs.assign(n_labels=np.inf, doubts=[["why"]] * len(needs)))
    said = f"never reaches {row['target']:.3f}, 95% of the best accuracy at the largest size, with all 67349 labels"
    assert never[1].endswith(f"{said}; not to be relied on: why.")

    (_, against) = answers.differences(tables.differences(frame), "conventional")
    assert "better with 32, 100, 316, 1000 labels: full" in against
    assert "worse with 32, 100, 316, 1000 labels: from_scratch, tfidf" in against

    assert answers.aggregate(tables.aggregate(frame))[0].startswith("32 labels, 2 pairs: progressive is highest")


def test_the_four_answers(frame):
    which, how_much, cost, real = (answer(frame) for answer in answers.ANSWERS)
    assert "progressive is best, or not shown to be worse than the best, on 2 of 2" in which.headline
    others = tables.summarise(frame).query("n_labels == 1000").groupby("dataset")["configuration"].nunique() - 1
    assert f"(1000 labels; {others.min() + 1} to {others.max() + 1} configurations compared)" in which.headline
    assert set(which.table["n_labels"]) == {1000}
    assert all(
        [one.split(": ")[0] for one in found.each] == ["conll2003 · minilm_crf", "sst2 · minilm"]
        for found in (which, how_much, cost, real)
    )
    assert how_much.each == answers.labels_needed(tables.needs(frame))
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
        assert found.headline.startswith(
            f"Of {len(frame) // 9 * 2} differences in accuracy to conventional, corrected for their number: "
        )
        assert (
            f"to conventional (tuned), corrected for their number: {'' if len(frame) < 27 else '1 better, '}"
            in found.headline
        )
        assert ahead in stated.split(" points of accuracy over conventional; ")[1]
        assert "worse at every size: conventional" in stated
        assert ("differs by size: full" in stated) == (len(frame) == 27)


def test_without_the_baseline_the_best_is_compared_with_all_others(frame):
    found = answers.real(frame[frame["method"] != "conventional"])
    ahead = sum(not names for names in found.table["undecided"])
    assert f"in {ahead} of 8 comparisons" in found.headline


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


def test_one_is_not_called_many():
    assert [answers.counted(number, "seed") for number in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]


@pytest.mark.parametrize(
    ("tuned_is_better", "stated"),
    [((True, True), "full (tuned) is best, or not shown to be worse than the best, on 2 of 2"),
     ((True, False), "full and full (tuned) are each best, or not shown to be worse than the best, on 1 of 2")],
)  # fmt: skip
def test_a_tuned_method_counts_as_one_and_all_that_lead_are_named(tmp_path, tuned_is_better, stated):
    for dataset, rate, better in zip(("sst2", "imdb"), (1e-3, 1e-4), tuned_is_better, strict=True):
        for seed in range(3):
            knobs = {"dataset": dataset, "model": "minilm", "train_size": 100, "seed": seed, "method": "full"}
            write_run(tmp_path, outcomes(0.9 if better else 0.1, 100, seed), learning_rate=rate, **knobs)
            write_run(tmp_path, outcomes(0.1 if better else 0.9, 100, seed), **knobs)
    assert stated in answers.which(tables.read(tmp_path)).headline


def test_a_size_whose_seeds_are_still_to_come_does_not_answer(frame):
    begun = frame[(frame["n_labels"] < 1000) | (frame["seed"] == 0)]
    assert set(answers.which(begun).table["n_labels"]) == {316}
    assert set(answers.cost(begun).table["n_labels"]) == {316}


def test_the_labels_needed_are_those_of_the_line_called_best(frame):
    needs = tables.needs(frame[(frame["n_labels"] < 1000) | (frame["method"] == "tfidf")])
    lines = needs[needs["first"]].set_index("dataset_model")["configuration"]
    assert lines["sst2 · minilm"] == "progressive"  # though tfidf alone goes on to 1,000
    assert "progressive needs" in answers.labels_needed(needs)[1]


def test_a_cheaper_method_that_ties_is_found(tmp_path):
    for seed in range(3):
        right = outcomes(0.8, 100, seed)
        near = right.copy()
        near[:: len(near) // 2] ^= True
        for method, hits, flops in (("full", right, 1000), ("linear_probe", near, 10)):
            knobs = {"dataset": "sst2", "model": "minilm", "train_size": 100, "seed": seed}
            write_run(tmp_path, hits, flops=flops, method=method, **knobs)
    found = answers.cost(tables.read(tmp_path))
    assert list(found.table["cheapest"]) == ["linear_probe"]
    assert "linear_probe" in found.each[0]


def test_too_few_seeds_are_reported_and_so_are_several_machines(frame):
    few = frame[frame["seed"] == 0]
    best = tables.at_most_labels(tables.best(few))
    front = tables.front(few, "gpu_hours")
    stated = answers.score_vs_cost(front, best, "gpu_hours")
    assert all("too few seeds to say how surely" in one and "(1 seed)" in one for one in stated)
    assert "too few seeds to compare: " in answers.which(few).each[0]
    moved = few.assign(device=few["device"].where(few["method"] != "progressive", "another"))
    for cost, said in (("gpu_hours", True), ("flops", False)):
        stated = answers.score_vs_cost(tables.front(moved, cost), best, cost)
        assert ("the points are of several machines" in stated[0]) == said
    for device, said in (("one", " MiB)."), ("one + another", "on several machines")):
        (_, sst2) = answers.cost(frame.assign(device=device)).each
        assert said in sst2


def test_the_warm_up_trap_and_the_search_in_words():
    table = pd.DataFrame({"steps": [15, 50], "asked": [500, 500], "used": [1, 5], "runs": [6, 6]})
    (stated,) = answers.warmups(table)
    assert stated.startswith("12 of 12 runs have fewer steps (15 to 50) than the warm-up asked for (500)")
    assert answers.warmups(table.assign(asked=5)) == ["No warm-up asked for is longer than its run."]
    searches = pd.DataFrame(
        {"sampler": ["TPE"] * 2, "seed": [0, 1], "trials": [8, 10], "device_seconds": 1, "seconds_share": [0.1, 0.2]}
    )
    assert answers.searches(searches) == [
        "TPE: 9.0 trials, 15% of the whole grid's device seconds (10% to 20% over 2 seeds)."
    ]
    ax = figures.searches(searches, plt.subplots()[1])
    assert np.allclose(ax.collections[0].get_offsets()[:, 0], [10, 20])
