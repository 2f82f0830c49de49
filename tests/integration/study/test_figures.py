"""The look that figures share, and each figure, from records whose outcomes were chosen."""

import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.colors import rgb_to_hsv, to_hex, to_rgb
from matplotlib.text import Text
from synthetic import outcomes, write_run, write_study

from lrtl_utils.study import answers, effects, figures, stats, tables
from lrtl_utils.study.report import SECTIONS


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def below(ax):
    """What stands below the axes, without its breaks of lines."""
    return " ".join(ax.get_xlabel().split())


def score_vs_data(frame):
    claim = answers.claim_labels(frame)
    return figures.score_vs_data(tables.summarise(frame), tables.needs(frame), tables.best(frame), claim)


def axes(figure):
    return {ax.get_title(loc="left"): ax for ax in figure.axes if ax.has_data()}


def names(ax):
    return {text.get_text(): text for text in ax.texts if text.get_text()}


def of_every_kind(frame):
    """Every figure of a study, by name; tables as notebooks make them."""
    best, needs, against = tables.best(frame), tables.needs(frame), tables.tuned(frame)
    best = tables.at_most_labels(best)
    fronts = {cost: tables.front(frame, best, cost) for cost in ("device_seconds", "flops", "peak_memory_mib")}
    return {
        "accuracy_vs_data": score_vs_data(frame),
        "labels_needed": figures.labels_needed(needs),
        "accuracy_vs_seconds": figures.score_vs_cost(fronts["device_seconds"], best, "device_seconds"),
        "accuracy_vs_flops": figures.score_vs_cost(fronts["flops"], best, "flops"),
        "memory": figures.memory(fronts["peak_memory_mib"], best),
        "differences": figures.differences(tables.differences(frame, against), against),
        "aggregate": figures.aggregate(tables.aggregate(frame)),
    }


def test_a_plot_for_each_data_set_names_four_methods_at_their_ends_and_greys_the_rest(frame):
    drawn = axes(score_vs_data(frame))
    assert list(drawn) == ["CoNLL-2003, all-MiniLM-L6-v2 with CRF", "SST-2, all-MiniLM-L6-v2"]
    for ax in drawn.values():
        assert set(names(ax)) == {"progressive", "full", "conventional", "linear_probe"}
        assert names(ax)["full"].get_color() == figures.COLOURS["full"]
        marked = {line.get_marker(): to_hex(line.get_color()) for line in ax.get_lines()}
        assert marked[figures.MARKS["full"]] == to_hex(figures.COLOURS["full"])
        assert marked["."] == to_hex(figures.GREY)
    assert drawn["CoNLL-2003, all-MiniLM-L6-v2 with CRF"].get_ylabel() == "test entity F1"


def test_every_size_has_a_tick_where_it_fits(frame):
    drawn = axes(score_vs_data(frame))
    ticks = {title: ax.get_xticklabels() for title, ax in drawn.items()}
    shown = {title: [text.get_text() for text in texts] for title, texts in ticks.items()}
    assert shown["CoNLL-2003, all-MiniLM-L6-v2 with CRF"] == ["14,041", "1,000", "316", "100", "32"]
    assert shown["SST-2, all-MiniLM-L6-v2"] == ["67,349", "1,000", "100", "32"]  # at 316 it would touch the next
    for texts in ticks.values():
        boxes = [text.get_window_extent() for text in texts]
        assert all(below.x1 < above.x0 for above, below in itertools.pairwise(boxes))


def test_what_is_drawn_in_colour_is_not_called_grey(frame):
    lacking = {"sst2": ["tfidf", "from_scratch"], "conll2003": ["conventional"]}  # of each four or fewer are left
    for dataset, methods in lacking.items():
        frame = frame[(frame["dataset"] != dataset) | ~frame["method"].isin(methods)]
    assert "grey" not in score_vs_data(frame).get_supxlabel()


def test_records_of_another_tool_are_drawn_too(frame):
    names = ["configuration", "variant", "method"]
    peers = frame.assign(**{name: frame[name].str.replace("full", "setfit") for name in names})
    assert "setfit" in set(peers["method"])
    best = tables.at_most_labels(tables.best(peers))
    drawn = figures.differences(tables.differences(peers), "conventional")
    assert "setfit" in [text.get_text() for ax in drawn.axes for text in ax.get_yticklabels()]
    assert figures.score_vs_cost(tables.front(peers, best, "flops"), best, "flops")


def test_names_at_the_ends_do_not_overlap_where_the_ends_do(frame):
    alike = tables.summarise(frame)
    alike = alike.assign(score=0.5 + 1e-5 * np.arange(len(alike)))
    figure = figures.score_vs_data(alike, tables.needs(frame), tables.best(frame))
    for ax in axes(figure).values():
        boxes = sorted((Text.get_window_extent(text) for text in ax.texts), key=lambda box: box.y0)
        assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))


def test_a_tuned_setting_stands_for_its_method_where_there_are_many(frame, tmp_path):
    write_study(tmp_path, datasets=("sst2",), sizes=(32, 100))
    for seed, labels in itertools.product(range(3), (32, 100)):
        knobs = {"dataset": "sst2", "model": "minilm", "method": "full", "train_size": labels, "seed": seed}
        write_run(tmp_path, outcomes(0.9, labels, seed), learning_rate=1e-3, **knobs)
    (ax,) = axes(score_vs_data(tables.read(tmp_path))).values()
    assert set(names(ax)) == {"progressive", "full (tuned)", "conventional", "linear_probe"}


def test_a_curve_goes_on_to_full_data_only_if_it_passes_through_its_marks(frame):
    ends = {}
    for kind, rows in (("four", frame), ("three", frame[frame["n_labels"] < 1000])):
        ax = axes(score_vs_data(rows))["SST-2, all-MiniLM-L6-v2"]
        ends[kind] = max(max(line.get_xdata()) for line in ax.get_lines())
    off = tables.summarise(frame)
    off.loc[off["n_labels"] == 316, "score"] -= 0.2
    ax = axes(figures.score_vs_data(off, tables.needs(frame), tables.best(frame)))["SST-2, all-MiniLM-L6-v2"]
    ends["off"] = max(max(line.get_xdata()) for line in ax.get_lines())
    assert ends == pytest.approx({"four": 67349, "three": 316, "off": 1000})
    assert score_vs_data(frame[frame["seed"] == 0])  # where it has no interval


def test_a_cost_has_one_named_point_a_method_and_the_front_as_steps(frame):
    best, aside = tables.at_most_labels(tables.best(frame)), {"tfidf", "from_scratch"}
    front = tables.front(frame, best, "flops")
    ax = axes(figures.score_vs_cost(front, best, "flops"))["SST-2, all-MiniLM-L6-v2"]
    part = front[(front["dataset_model"] == "sst2 · minilm") & ~front["method"].isin(aside)]
    assert set(names(ax)) >= set(part["method"])
    assert not aside & set(names(ax))
    left = r"not drawn: (\w+), 0\.\d{3} at [\d.]+ ?[a-zA-Z]* FLOPs"
    assert set(re.findall(left, ax.get_xlabel())) == aside
    (steps,) = [line for line in ax.get_lines() if line.get_drawstyle() == "steps-post"]
    assert list(steps.get_xdata())[:-1] == sorted(part[part["on_front"]]["flops"])
    slow = front.assign(device_seconds=140.0)
    (ax, *_) = axes(figures.score_vs_cost(slow, best, "device_seconds")).values()
    assert "at 140 s" in ax.get_xlabel()
    (ax, *_) = axes(figures.score_vs_cost(front.assign(unmeasured="lora"), best, "flops")).values()
    assert "not measured: lora" in ax.get_xlabel()
    alone = front[front["method"] == "tfidf"]
    (ax,) = axes(figures.score_vs_cost(alone, best, "flops")).values()
    assert set(names(ax)) == {"tfidf"}


@pytest.fixture(scope="module")
def committed():
    return tables.read(["results/study", "results/confirmation"])


@pytest.mark.parametrize("cost", ["device_seconds", "flops"])
def test_names_in_the_committed_pictures_of_costs_meet_nothing(committed, cost):
    best = tables.at_most_labels(tables.best(committed))
    with plt.rc_context():
        figures.style()
        figure = figures.score_vs_cost(tables.front(committed, best, cost), best, cost)
        figure.set_dpi(plt.rcParams["savefig.dpi"])
    crowded = 0
    for title, ax in axes(figure).items():
        boxes = {name: text.get_window_extent() for name, text in names(ax).items()}
        lines = [bar for drawn in ax.collections if isinstance(drawn, LineCollection) for bar in drawn.get_paths()]
        lines = [ax.transData.transform_path(line) for line in [*lines, *(line.get_path() for line in ax.get_lines())]]
        marks = [drawn.get_offsets()[0] for drawn in ax.collections if isinstance(drawn, PathCollection)]
        frame = ax.get_window_extent()
        assert len(marks) == len(boxes) > 1
        crowded += {"full\n(tuned)", "conventional\n(tuned)"} < set(boxes) and len(boxes) > 5
        for own, (name, box) in zip(marks, boxes.items(), strict=True):
            away = [mark - np.clip(mark, box.min, box.max) for mark in ax.transData.transform([own, *marks])]
            away = np.hypot(*np.transpose(away))
            assert away[0] < 10 + min(away), (title, name)  # not clearly nearer to another mark
            assert frame.x0 < box.x0 < box.x1 < frame.x1, (title, name)
            assert frame.y0 < box.y0 < box.y1 < frame.y1, (title, name)
            assert not any(line.intersects_bbox(box, filled=False) for line in lines), (title, name)
            assert not any(box.contains(*mark) for mark in ax.transData.transform(marks)), (title, name)
            assert not any(box.overlaps(other) for also, other in boxes.items() if also != name), (title, name)
    assert crowded >= 5


def test_a_method_with_too_few_seeds_is_named_below_a_cost_and_not_drawn(frame):
    few = frame[(frame["method"] != "full") | (frame["seed"] == 0)]
    best = tables.at_most_labels(tables.best(few))
    (*_, ax) = axes(figures.score_vs_cost(tables.front(few, best, "flops"), best, "flops")).values()
    assert "full" not in names(ax)
    assert " not drawn: full, 1 seed" in below(ax)


def test_a_method_with_too_few_seeds_is_named_below_scores_and_memory_and_not_drawn(frame):
    few = frame[(frame["method"] != "from_scratch") | (frame["seed"] == 0)]
    best = tables.at_most_labels(tables.best(few))
    memory = figures.memory(tables.front(few, best, "peak_memory_mib"), best)
    bars = [text.get_text() for ax in memory.axes for text in ax.get_yticklabels()]
    assert "progressive" in bars
    assert "from_scratch" not in bars
    assert re.search(r"the best configuration takes [\d,.]+( to [\d,.]+)? MiB of memory", memory.get_suptitle())
    tops = dict(best[["dataset_model", "configuration"]].to_numpy())
    for ax, name in zip(memory.axes, sorted(tops), strict=True):
        names_of_bars = [text.get_text() for text in ax.get_yticklabels()]
        black = [
            bar
            for bar, patch in zip(names_of_bars, ax.patches, strict=True)
            if to_hex(patch.get_facecolor()) == "#000000"
        ]
        assert black == [tops[name]]
    scores = score_vs_data(few)
    assert scores.get_supxlabel().startswith("Drawn in grey: tfidf. ")
    for figure, sizes in ((memory, "1,000"), (scores, "32 to 1,000")):
        for ax in axes(figure).values():
            assert below(ax).endswith(f" not drawn: from_scratch, 1 seed with {sizes} labels")
            assert max(map(len, ax.get_xlabel().splitlines())) <= figures.WIDEST_NOTE  # else the figure cuts it
    some = frame[(frame["method"] != "full") | (frame["seed"] == 0) | (frame["n_labels"] < 1000)]
    (ax, *_) = axes(score_vs_data(some)).values()
    assert "full" in names(ax)
    assert " not drawn: full, 1 seed with 1,000 labels" in below(ax)


def test_the_picture_of_seconds_says_what_the_best_takes(frame):
    best = tables.at_most_labels(tables.best(frame))
    front = tables.front(frame, best, "device_seconds")
    of_best = front["configuration"] == best["configuration"].iloc[0]
    front.loc[of_best, "device_seconds"] = [7.0, 1234.5]
    claim = "With 1000 labels, training the best configuration takes 7 to 1,230 device seconds"
    assert figures.score_vs_cost(front, best, "device_seconds").get_suptitle() == claim
    assert answers.claim_spent(front[~of_best], best, "device_seconds").startswith("Too few costs were measured here")
    untimed = of_best & (front["dataset_model"] == best["dataset_model"].iloc[0])
    claim = "With 1000 labels, training the best configuration takes 1,230 device seconds"
    assert answers.claim_spent(front[~untimed], best.assign(n_labels=[32, 1000]), "device_seconds") == claim


def test_grey_methods_far_below_the_named_ones_are_named_below_and_not_drawn(frame):
    summary = tables.summarise(frame[frame["dataset"] == "sst2"])
    summary["score"] -= 0.3 * ((summary["method"] == "tfidf") & (summary["n_labels"] < 100))
    summary["score"] -= 0.5 * (summary["method"] == "from_scratch")
    figure = figures.score_vs_data(summary, tables.needs(frame), tables.best(frame))
    (ax,) = axes(figure).values()
    own = summary[summary["method"].isin(figures.NAMED)]
    lowest, highest = own["low"].min(), own["score"].max()
    assert lowest - 0.5 * (highest - lowest) < ax.get_ylim()[0] < lowest
    scores = summary[summary["method"] == "from_scratch"]["score"]
    left = f"not drawn: from_scratch, {scores.min():.3f} to {scores.max():.3f} with 32 to 1,000 labels"
    assert left in below(ax)
    assert re.search(r"not drawn: tfidf, -?0\.\d{3} with 32 labels", below(ax))
    assert figure.get_supxlabel().startswith("Drawn in grey: tfidf. ")


def test_over_the_data_sets_only_those_that_ran_on_all_are_drawn_and_one_size_is_no_picture(frame):
    together = tables.aggregate(frame)
    assert figures.aggregate(together[together["n_labels"] == 100]) is None
    together.loc[together["variant"] == "linear_probe", "dataset_models"] = 1
    (ax,) = figures.aggregate(together).axes
    assert "progressive" in names(ax)
    assert "linear_probe" not in names(ax)


def test_numbers_can_be_read_on_the_colours_of_their_cells():
    settings, knobs, _ = effects.trials(tables.read("results/search"))
    (ax,) = figures.interaction(effects.interactions(settings, knobs), settings).axes
    (mesh,) = (drawn for drawn in ax.collections if isinstance(drawn, QuadMesh))

    def luminance(colour):  # of WCAG 2
        parts = np.array(to_rgb(colour))
        return np.dot(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4), (0.2126, 0.7152, 0.0722)
        )

    for text, cell in zip(ax.texts, mesh.get_facecolors(), strict=True):
        dark, light = sorted((luminance(text.get_color()), luminance(cell)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, text.get_text()


def test_a_grid_with_a_knob_that_is_none_and_seconds_from_a_cache_is_drawn(tmp_path):
    base = {"dataset": "sst2", "model": "minilm", "method": "full", "train_size": 100, "validation_share": 0.2}
    for epochs in (3, 10):
        for norm, judged in ((None, 0.9), (1.0, 0.5), (2.0, 0.6)):
            knobs = base | {"epochs": epochs, "max_grad_norm": norm, "cached": 0.5}
            write_run(tmp_path, outcomes(0.5, 100, 0), validation=judged + epochs / 1000, **knobs)
    settings, knobs, _ = effects.trials(tables.records(tmp_path, "completed"))
    assert figures.main_effects(effects.main_effects(settings, knobs)).axes[0].get_title().startswith("max_grad_norm\n")
    figure = figures.interaction(effects.interactions(settings, knobs), settings)
    assert {"None", "1.0", "2.0"} <= {text.get_text() for text in figure.axes[0].get_xticklabels()}
    assert settings["device_seconds"].isna().all()
    assert figures.expected_best(effects.budget(settings))


def test_notes_explain_only_what_is_drawn(frame):
    frame = frame[frame["dataset"] == "sst2"]
    needs, table = tables.needs(frame), tables.differences(frame)
    needs = needs.assign(doubts=[[]] * len(needs))
    beyond, doubted = needs.assign(n_labels=5000.0), needs.assign(doubts=[[], *[["few"]] * (len(needs) - 1)])
    few = table.assign(verdict=table["verdict"].where(table["method"] != "full", stats.TOO_FEW_SEEDS))
    pictures = {
        "An arrow": (figures.labels_needed(needs.assign(n_labels=np.inf)), figures.labels_needed(needs)),
        "A hollow mark": (figures.labels_needed(beyond), figures.labels_needed(needs.assign(n_labels=500.0))),
        "Left out": (figures.labels_needed(doubted), figures.labels_needed(needs)),
        "cell is blank": (figures.differences(few, "conventional"), figures.differences(table, "conventional")),
        "dotted curve": (score_vs_data(frame), score_vs_data(frame[frame["n_labels"] < 1000])),
        "Bands and bars": (score_vs_data(frame), score_vs_data(frame[frame["seed"] == 0])),
    }
    for words, (having, lacking) in pictures.items():
        assert words in having.get_supxlabel().replace("\n", " ")
        assert words not in lacking.get_supxlabel().replace("\n", " ")


def test_cells_have_numbers_grey_where_undecided_and_none_with_too_few_seeds(frame):
    table = tables.differences(frame)
    table = table[table["dataset_model"] == "sst2 · minilm"].reset_index(drop=True)
    table.loc[0, "verdict"], table.loc[1, "verdict"] = "undecided", stats.TOO_FEW_SEEDS
    (ax,) = axes(figures.differences(table, "conventional")).values()
    assert len(names(ax)) == len(table) - 1
    (mesh,) = ax.collections
    colours = {to_hex(colour) for colour in mesh.get_facecolors()}
    assert "#dcdddd" in colours  # the middle of the colour map
    assert f"({100 * table.loc[0, 'mean']:+.1f})" in names(ax)
    assert f"{100 * table.loc[2, 'mean']:+.1f}" in names(ax)
    few = table.assign(verdict=table["verdict"].where(table["method"] != "full", stats.TOO_FEW_SEEDS))
    (ax,) = axes(figures.differences(few, "conventional")).values()
    assert "full" in [text.get_text() for text in ax.get_yticklabels()]  # all its cells are blank
    assert len(ax.texts) == (few["verdict"] != stats.TOO_FEW_SEEDS).sum()
    assert figures.differences(table.assign(verdict=stats.TOO_FEW_SEEDS), "conventional") is None


def test_labels_needed_are_those_of_reliable_curves_and_an_arrow_is_never(frame):
    needs = tables.needs(frame)
    needs["doubts"] = [[], [], *([["few"]] * (len(needs) - 2))]
    needs.loc[0, "n_labels"] = np.inf
    figure = figures.labels_needed(needs)
    (ax,) = axes(figure).values()
    assert [text.get_text() for text in ax.get_yticklabels()] == list(needs["variant"][:2])
    assert f"{len(needs) - 2} curves that cannot be relied on" in figure.get_supxlabel().replace("\n", " ")
    assert figures.labels_needed(needs.assign(doubts=[["few"]] * len(needs))) is None


def test_a_mark_beyond_the_sizes_that_ran_is_hollow(frame):
    needs = tables.needs(frame[frame["dataset"] == "sst2"]).sort_values("n_labels")[:3]
    needs = needs.assign(doubts=[[]] * 3, n_labels=[500.0, 1000.0, 1001.0])
    (ax,) = axes(figures.labels_needed(needs)).values()
    marks = [drawn for drawn in ax.collections if isinstance(drawn, PathCollection)]
    white = {drawn.get_offsets()[0][0]: to_hex(drawn.get_facecolor()[0]) == "#ffffff" for drawn in marks}
    assert white == {500: False, 1000: False, 1001: True}
    (wide,) = axes(figures.labels_needed(needs.assign(low=8.0))).values()
    assert wide.get_xlim()[0] <= 8
    assert "#ffffff" not in {to_hex(drawn.get_edgecolor()[0]) for drawn in marks}


@pytest.fixture
def gains():
    rows = {"n_labels": 100, "low": -0.02, "high": 0.06, "flops_ratio": 0.1, "seconds_ratio": [0.2, np.nan]}
    named = {"dataset_model": ["sst2 · minilm", "imdb · minilm"], "verdict": ["better", "undecided"]}
    return pd.DataFrame(rows | named | {"mean": [0.05, 0.02], "score_name": "accuracy"})


def test_the_headline_has_filled_marks_where_a_difference_is_shown(gains):
    left, right = figures.headline(gains).axes
    (marks,) = [drawn for drawn in left.collections if isinstance(drawn, PathCollection)]
    assert [to_hex(colour) for colour in marks.get_facecolors()] == ["#ffffff", "#000000"]  # from the bottom
    assert [text.get_text() for text in left.get_yticklabels()] == ["IMDB, all-MiniLM-L6-v2", "SST-2, all-MiniLM-L6-v2"]
    assert left.get_xlabel() == "points of accuracy\nover conventional (tuned)"
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["FLOPs", "time"]
    claim = (
        "With 100 labels, progressive is better than conventional (tuned) on 1 of 2 data sets, with 10% of its FLOPs"
    )
    assert answers.claim_gains(gains) == claim
    assert "is not shown to be better than conventional (tuned) on any of 2" in answers.claim_gains(
        gains.assign(verdict="undecided")
    )
    assert figures.headline(gains[:0]) is None


def of_a_search():
    settings, knobs, _ = effects.trials(tables.read("results/search"))
    return {
        "main_effects": figures.main_effects(effects.main_effects(settings, knobs)),
        "interaction": figures.interaction(effects.interactions(settings, knobs), settings),
        "expected_best": figures.expected_best(effects.budget(settings)),
        "searches": figures.searches(effects.searches("results/search")),
    }


def test_figures_have_a_claim_and_text_of_nine_points_or_more(frame, gains):
    with plt.rc_context():
        figures.style()
        for name, figure in {**of_every_kind(frame), "headline": figures.headline(gains), **of_a_search()}.items():
            assert figure.get_figwidth() == figures.WIDTH
            assert figure.get_suptitle(), name
            texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
            shrunk = 800 / (96 * figures.WIDTH)  # by a README
            assert shrunk * min(text.get_fontsize() for text in texts) >= 9, name
            assert not any("$" in text.get_text() for text in texts), f"{name}: exponents are smaller"


@pytest.mark.slow
def test_figures_have_the_same_bytes_twice(frame, tmp_path):
    with plt.rc_context():
        figures.style()
        for folder in ("a", "b"):
            for name, figure in of_every_kind(frame).items():
                assert figures.save(figure, tmp_path / folder, name)
    one, other = (sorted((tmp_path / folder / "figures").iterdir()) for folder in ("a", "b"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_the_title_over_labels_is_the_claim(frame):
    assert score_vs_data(frame).get_suptitle().replace("\n", " ") == answers.claim_labels(frame)


def test_one_data_set_size_and_seed_is_drawn_and_claims_nothing(frame):
    alone = frame[(frame["dataset"] == "sst2") & (frame["n_labels"] == 100) & (frame["seed"] == 0)]
    alone = alone[alone["method"].isin(["full", "tfidf"])]
    drawn = {name: figure for name, figure in of_every_kind(alone).items() if figure}
    assert set(drawn) == {"accuracy_vs_data", "accuracy_vs_seconds", "accuracy_vs_flops", "memory"}
    assert all(figure.get_suptitle().startswith("There are too few seeds here") for figure in drawn.values())
    sized = frame[frame["n_labels"] == 100]
    assert score_vs_data(sized).get_suptitle().replace("\n", " ") == answers.claim_best(tables.best(sized))


def test_without_records_there_is_no_figure_and_every_sentence_says_so(tmp_path):
    frame = tables.read(tmp_path)
    settings, knobs, _ = effects.trials(frame)
    assert set(of_every_kind(frame).values()) == {None}
    assert figures.headline(tables.gains(frame)) is None
    assert figures.main_effects(effects.main_effects(settings, knobs)) is None
    assert figures.interaction(effects.interactions(settings, knobs), settings) is None
    assert figures.expected_best(effects.budget(settings)) is None
    assert figures.searches(effects.searches(tmp_path)) is None
    stated = [
        answers.score_vs_data(tables.best(frame)),
        answers.score_vs_cost(tables.front(frame, tables.best(frame), "flops"), tables.best(frame), "flops"),
        answers.money(tables.front(frame, tables.best(frame), "flops"), tables.best(frame)),
        answers.gains(tables.gains(frame)),
        answers.aggregate(tables.aggregate(frame)),
        answers.main_effects(effects.main_effects(settings, knobs), whole=False),
        answers.interaction(settings, effects.interactions(settings, knobs)),
        answers.expected_best(effects.budget(settings)),
        answers.searches(effects.searches(tmp_path)),
    ]
    assert all(len(lines) == 1 and lines[0].endswith(".") for lines in stated)
    for ask, *_ in SECTIONS:
        assert ask(frame).lines == [answers.NOTHING]
        assert ask(frame).table.empty


def test_the_search_in_words():
    searches = pd.DataFrame(
        {"sampler": ["TPE"] * 2, "seed": [0, 1], "trials": [8, 10], "device_seconds": 1, "seconds_share": [0.1, 0.2]}
    )
    assert answers.searches(searches) == [
        "TPE: 9.0 trials, 15% of the whole grid's device seconds (10% to 20% over 2 seeds)."
    ]
    (ax,) = figures.searches(searches).axes
    assert np.allclose(ax.collections[0].get_offsets()[:, 0], [10, 20])


def test_methods_differ_without_colour_and_none_is_faint():
    assert len(set(figures.MARKS.values())) == min(len(figures.MARKS), len(figures._MARKS))
    looks = itertools.islice(zip(itertools.cycle(figures._PALETTE), itertools.cycle(figures._MARKS), strict=False), 90)
    assert len(set(looks)) == 90  # of methods that are added
    for colour in figures.COLOURS.values():
        grey = np.dot(to_rgb(colour), (0.299, 0.587, 0.114))  # as a printer without colour has it
        assert grey < 0.7, rgb_to_hsv(to_rgb(colour))


def test_a_picture_has_the_same_bytes_for_the_same_numbers_and_names_no_software(tmp_path):
    for name in ("a", "b"):
        figure, ax = plt.subplots()
        ax.plot([1, 2])
        figures.save(figure, [tmp_path, tmp_path / "other"], name)
    first, second = ((tmp_path / "figures" / f"{name}.png").read_bytes() for name in ("a", "b"))
    assert first == second
    assert b"matplotlib" not in first.lower()
    assert not (tmp_path / "other").exists()


def test_without_a_figure_nothing_is_written_and_no_earlier_one_stays(tmp_path):
    assert figures.save(None, tmp_path, "nothing") is None
    assert not list(tmp_path.iterdir())
    figures.save(plt.figure(), tmp_path, "something")
    assert figures.save(None, tmp_path, "something") is None
    assert not list(tmp_path.rglob("*.png"))
