"""Summaries and figures from real records of cheap runs."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lrtl_utils import answers, figures, methods, models, plots, runs, sentences, summaries, tasks, training
from lrtl_utils.config import read_config
from lrtl_utils.cost import CostMeter


def complete(results, **knobs):
    """One run, as the notebooks do it."""
    asked = read_config(knobs)
    data = tasks.load(asked.dataset)
    config = methods.resolve(asked, data)
    weights = methods.find_weights(config)
    train, carve = tasks.labelled(data, config)
    test = tasks.test_examples(data, config)
    model, meter = methods.build(config, data, weights), CostMeter(config.device)
    with meter.measure():
        curve = methods.fit(model, data, train, carve, config, meter=meter)
    prediction = training.predict(model, test, config)
    return runs.completed(
        results,
        methods.identify(config, asked, data.source, weights),
        training.settled(config, model),
        asked,
        data=tasks.describe(data, train, carve, test),
        metrics=answers.evaluate(model, test.targets, prediction, data.labels, curve),
        validation=training.validate(model, carve, config, data.labels),
        cost=meter.report(len(train), prediction.seconds, len(test)),
        model=models.describe(model, weights),
        curve=curve,
        precision="fp32",
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for size in (40, 120):
        for seed in (0, 1, 2):
            complete(folder, dataset="news_sample", method="tfidf", train_size=size, seed=seed)
        for rate in (1e-3, 5e-4):
            knobs = {"model": "simple_nn", "method": "from_scratch", "learning_rate": rate, "epochs": 2}
            complete(folder, dataset="news_sample", train_size=size, **knobs)
    return folder


@pytest.fixture(scope="module")
def summary(results):
    return summaries.summarise(runs.load(results))


@pytest.fixture(scope="module")
def front(results):
    return summaries.front(runs.load(results), "flops")


def test_seeds_are_averaged_and_settings_are_not(summary):
    assert sorted(summary["line"].unique()) == [
        "from_scratch, learning_rate=0.0005",
        "from_scratch, learning_rate=0.001",
        "tfidf",
    ]
    assert set(summary[summary["line"] == "tfidf"]["seeds"]) == {3}
    assert set(summary[summary["method"] == "from_scratch"]["seeds"]) == {1}


def test_intervals_hold_the_mean_and_need_three_seeds(summary):
    sure = summary[summary["line"] == "tfidf"]
    assert ((sure["low"] < sure["score"]) & (sure["score"] < sure["high"])).all()
    assert summary[summary["seeds"] < 3]["low"].isna().all()


def test_outcomes_give_back_the_scores(results):
    for record in runs.records(results):
        totals, score = answers.outcomes([record])
        assert score(totals.sum((0, 1))) == pytest.approx(record["metrics"]["accuracy"])


def test_a_method_without_a_model_joins_every_panel_of_its_data(summary):
    figure = figures.panels(summary, figures.score_vs_data)
    (ax,) = (ax for ax in figure.axes if ax.has_data())
    assert ax.get_title() == "news_sample · simple_nn"
    assert len(ax.get_lines()) == 3
    plt.close(figure)


def test_pictures_have_the_same_bytes_for_the_same_numbers(front, tmp_path):
    for name in ("a", "b"):
        plots.save(figures.panels(front, figures.score_vs_cost, cost="flops"), tmp_path, name)
    first, second = ((tmp_path / "figures" / f"{name}.png").read_bytes() for name in ("a", "b"))
    assert first == second


def test_sentences_come_from_the_numbers(summary, front):
    (data,), (cost,) = sentences.score_vs_data(summary), sentences.score_vs_cost(front, "flops")
    best = summary[summary["labels"] == 120].nlargest(1, "score").iloc[0]
    assert f"with 120 labels {best['line']} at {best['score']:.3f}" in data
    assert "too few seeds" in data
    assert "simple_nn" in cost


def test_without_records_there_is_no_figure_and_one_sentence(tmp_path):
    summary = summaries.summarise(runs.load(tmp_path))
    assert plots.save(figures.panels(summary, figures.score_vs_data), tmp_path, "empty") is None
    assert sentences.score_vs_data(summary) == [sentences.NOTHING]


def test_an_unreadable_record_is_passed_over_with_a_warning(results, tmp_path):
    whole = next(results.glob("runs/*/*.json"))
    copy = tmp_path / "runs" / "news_sample" / whole.name
    copy.parent.mkdir(parents=True)
    copy.write_text(whole.read_text()[:-40])
    with pytest.warns(UserWarning, match="not a readable record"):
        assert runs.load(tmp_path).empty


def test_tiles_and_curves_draw_what_they_are_given():
    _, axes = plt.subplots(1, 2)
    plots.tiles([np.zeros((8, 8), np.uint8)] * 2, ["a", "b"], axes)
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    curve = [{"epoch": i, "loss": 1 / i, "validation_loss": None} for i in (1, 2)]
    ax = plots.learning_curve(curve, plt.subplots()[1])
    assert list(ax.get_lines()[0].get_ydata()) == [1, 0.5]
    plt.close("all")
