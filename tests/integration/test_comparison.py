"""From a user's data to the four answers: the runs that fit a budget, the command, and `compare` from Python."""

import html
import shlex
from dataclasses import replace

import pandas as pd
import pytest
from checkpoints import write_own_image_model, write_own_text_model
from complete import call
from PIL import Image
from synthetic import outcomes, write_run

import lrtl_utils
from lrtl_utils import comparison
from lrtl_utils.config import read_config
from lrtl_utils.errors import InputError
from lrtl_utils.study import checkup
from lrtl_utils.sweep import grid
from lrtl_utils.sweep.price import Priced
from lrtl_utils.sweep.sweep import Outcome


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "reviews.csv"
    path.write_text(
        "text,label\n" + "".join(f"a {w} film number {i},{w}\n" for i in range(45) for w in ("fine", "dull"))
    )
    return path


@pytest.fixture(scope="module")
def priced(reviews):
    """Every run, at prices that are known: a second, and the method's weight for each tenth labelled."""
    data, reading = checkup.read(str(reviews)), read_config({"dataset": str(reviews)})
    weights = {"tfidf": 1, "linear_probe": 2, "progressive": 30, "full": 20, "conventional": 60}
    cells = grid.plan(comparison.every_run(data, reading, ["minilm"]))
    return [
        Priced(cell, None, weights[cell.config.method] * 10 * cell.config.data_fraction, 1.0, False) for cell in cells
    ]


@pytest.fixture
def untimed(monkeypatch):
    """Only the dearest kind of run is timed, on two rows: for what does not hang on how long a run takes."""
    monkeypatch.setattr(comparison.price, "IN_ALL_SECONDS", 0.0)


def kept_by(priced, budget, workers=1):
    kept, left_out = comparison.within_budget(priced, budget, workers)
    assert len(kept) + len(left_out) == len(priced)
    return kept, {(one.cell.config.method, one.cell.config.seed) for one in kept}


def test_every_method_size_and_seed_is_planned(priced):
    assert len(priced) == 5 * 2 * 5
    assert {one.cell.config.data_fraction for one in priced} == {0.477611, 1.0}
    assert comparison.models_at_hand("image") == ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


def test_runs_are_kept_in_order_of_importance_as_far_as_the_budget_goes(priced):
    whole = comparison.seconds(priced, 1)
    assert whole == pytest.approx(sum(one.seconds + 1 + comparison.OVERHEAD_SECONDS for one in priced))
    assert len(kept_by(priced, whole)[0]) == 50
    assert len(kept_by(priced, whole / 2, workers=2)[0]) == 50
    least, pairs = kept_by(priced, 0)
    assert (len(least), pairs) == (4, {("tfidf", 0), ("linear_probe", 0)})
    assert kept_by(priced, 2.5 * comparison.seconds(least, 1))[1] == {(m, s) for m, _ in pairs for s in (0, 1)}
    three_seeds = comparison.seconds([one for one in priced if one.cell.config.seed < 3], 1)
    assert {seed for _, seed in kept_by(priced, three_seeds + 1)[1]} == {0, 1, 2}
    kept, _ = kept_by(priced, three_seeds - 1)  # the dearest goes altogether
    assert {one.cell.config.method for one in kept} == {"tfidf", "linear_probe", "full", "progressive"}


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_at_each_size_every_method_that_runs_has_three_seeds_before_more_labels_are_tried(priced, share):
    """Sizes as of a larger data set; the first three are planned together."""
    sizes = {0.477611: (0.1, 0.2, 0.3), 1.0: (0.5, 1.0)}
    more = [
        replace(
            one,
            cell=replace(
                one.cell, config=one.cell.config.model_copy(update={"data_fraction": size}), id=f"{one.cell.id}{size}"
            ),
        )
        for one in priced
        for size in sizes[one.cell.config.data_fraction]
    ]
    kept, left_out = comparison.within_budget(more, share * comparison.seconds(more, 1), 1)
    assert kept
    assert left_out
    drawn = {}
    for one in kept:
        drawn.setdefault(one.cell.config.data_fraction, {}).setdefault(one.cell.config.method, set()).add(
            one.cell.config.seed
        )
    methods = {one.cell.config.method for one in kept}
    assert all(each.keys() == methods for each in drawn.values())
    assert all(seeds >= {0, 1, 2} for each in drawn.values() for seeds in each.values())
    assert sorted(drawn) == [0.1, 0.2, 0.3, 0.5, 1.0][: len(drawn)]


def test_the_same_budget_again_goes_on_with_what_was_left_out(priced):
    budget = comparison.seconds(priced, 1) / 3
    first, _ = comparison.within_budget(priced, budget, 1)
    ids = {one.cell.id for one in first}
    again, left_out = comparison.within_budget([replace(one, done=one.cell.id in ids) for one in priced], budget, 1)
    assert len(again) > len(first)
    assert ids < {one.cell.id for one in again}
    assert left_out


def test_a_configuration_that_was_begun_is_not_left_out_for_its_own_runs(priced):
    dearest = max(priced, key=lambda one: one.seconds).cell.config.method
    of_it = [one for one in priced if one.cell.config.method == dearest]
    begun = [replace(one, done=one in of_it[1:]) for one in priced]
    budget = 1.01 * comparison.seconds(
        [one for one in begun if one.cell.config.method in (dearest, "tfidf", "linear_probe")], 1
    )
    kept, left_out = comparison.within_budget(begun, budget, 1)
    assert dearest in {one.cell.config.method for one in kept if not one.done}
    done = [one for one in left_out if one.done]
    assert not any("Left out" in line for line in comparison.plan_in_words(kept, done, [], 67, budget, 1))


def test_the_plan_is_shown_in_words(priced):
    kept, left_out = comparison.within_budget(priced, 0, 1)
    untried = comparison.without_a_run(kept, left_out)
    lines = [*comparison.plan_in_words(kept, left_out, untried, 67, 0, 1)]
    assert lines[0].endswith("of 0 minutes, which is over the budget, but fewer runs could not be compared:")
    assert lines[1] == "- tfidf: 32, 67 labels with seed 0"
    assert lines[3].startswith("Left out: 46 runs, among them every run of minilm conventional, minilm full, ")
    assert len(lines) == 4
    made_before = [replace(one, done=one.cell.config.method == "conventional") for one in left_out]
    assert "minilm conventional" not in comparison.without_a_run(kept, made_before)


def test_a_test_split_of_one_class_is_refused(tmp_path):
    table = [("text", "label"), *((f"review number {i}", "good") for i in range(60)), ("a bad one", "bad")]
    (tmp_path / "rare.csv").write_text("".join(f"{text},{label}\n" for text, label in table))
    with pytest.raises(InputError, match=r"All test examples of rare\.csv are of one class"):
        comparison.compare(tmp_path / "rare.csv", budget_minutes=1, results=tmp_path / "results")


@pytest.mark.parametrize("minutes", [float("nan"), -1, "10"])
def test_a_budget_that_is_no_length_of_time_is_refused(minutes, reviews, tmp_path):
    with pytest.raises(InputError, match="is not a number of minutes"):
        comparison.compare(reviews, budget_minutes=minutes, results=tmp_path)


@pytest.mark.parametrize(
    ("data", "metric", "fitting"),
    [("entities_sample", "macro_f1", "entity_f1"), ("reviews_sample", "entity_f1", "accuracy or macro_f1")],
)
def test_a_metric_that_the_task_lacks_is_refused_before_anything_is_shown(data, metric, fitting, tmp_path):
    shown = []
    with pytest.raises(InputError, match=f"cannot be ranked by {metric}; the metric can be {fitting}"):
        comparison.compare(data, metric=metric, results=tmp_path / "out", show=shown.append)
    assert shown == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [0, 1.5])
def test_a_number_of_workers_that_is_none_is_refused(workers, reviews, tmp_path):
    with pytest.raises(InputError, match="is not a whole number of processes"):
        comparison.compare(reviews, workers=workers, results=tmp_path)


@pytest.mark.usefixtures("untimed")
def test_texts_without_words_of_two_letters_are_compared_without_tfidf(tmp_path):
    lines = (f"{a} {b} {c},{(a, c)[a > b]}\n" for a in "acgt" for b in "acgt" for c in "acgt")
    (tmp_path / "bases.csv").write_text("text,label\n" + "".join(lines))
    shown, options = [], {"models": "minilm_l3", "results": tmp_path / "results", "dry_run": True}
    options |= {"budget_minutes": 10**6}  # for every run
    found = comparison.compare(tmp_path / "bases.csv", **options, show=shown.append)
    assert {cell.config.method for cell in found.cells} >= {"linear_probe", "progressive"}
    assert any(line.startswith("Left out: Method tfidf cannot be fitted to these texts: empty") for line in shown)


@pytest.mark.usefixtures("untimed")
def test_one_model_may_be_named_without_a_list(reviews, tmp_path):
    found = comparison.compare(reviews, models="minilm_l3", results=tmp_path, dry_run=True, show=lambda line: None)
    assert {cell.config.model for cell in found.cells} == {"minilm_l3", "none"}


def test_an_answer_so_far_is_shown_each_minute_and_only_of_the_data_as_it_is(tmp_path, monkeypatch):
    knobs = {"dataset": "sst2", "model": "minilm", "train_size": 32}
    for seed in range(3):
        for method, skill in (("full", 0.2), ("progressive", 0.9)):
            write_run(tmp_path, outcomes(skill, 32, seed), method=method, seed=seed, data="1", **knobs)
            write_run(tmp_path, outcomes(1 - skill, 32, seed), method=method, seed=seed, **knobs)  # before a change
    shown, clock = [], [1000.0]
    monkeypatch.setattr(comparison.time, "monotonic", lambda: clock[-1])
    (empty_folder := tmp_path / "empty").mkdir()
    nothing = comparison.Comparison(empty_folder, of=(64 * "1", (None, None), False))
    assert "There is no completed run here yet" in str(nothing)
    empty = comparison.answer_so_far(nothing, 1000.0, 1200.0, shown.append)
    clock.append(1060.0)
    empty()
    assert shown == []
    write_run(empty_folder, outcomes(0.9, 32, 0), method="full", data="1", **knobs)
    for now in (1066.0, 1067.0, 1127.0):  # with the first run, and a minute later
        clock.append(now)
        empty()
    assert [line.split(". ")[-1] for line in shown] == ["2.2 minutes are left.", "1.2 minutes are left."]
    shown.clear()
    clock.append(1000.0)
    answer = comparison.answer_so_far(replace(nothing, results=tmp_path), 1000.0, 1200.0, shown.append)
    for now in (1059.0, 1060.0, 1061.0, 1120.0):
        clock.append(now)
        answer()
    assert [line.split(". ")[-1] for line in shown] == ["2.3 minutes are left.", "1.3 minutes are left."]
    assert shown[0].startswith("So far: progressive, accuracy 0.")
    untried = {"untried": ["minilm bitfit", "minilm lora"]}
    told = str(comparison.Comparison(tmp_path, of=(64 * "1", (None, None), False), **untried))
    assert "Use progressive, accuracy" in told
    assert "Use full" not in told
    assert "too high.\nOne that the budget left out may be better: minilm bitfit, minilm lora.\n" in told


@pytest.mark.slow
def test_a_wrong_folder_or_model_is_one_sentence_and_nothing_is_run(reviews, tmp_path):
    for words, said in (
        ([tmp_path / "none.csv"], "There is no file or folder"),
        ([reviews, "--model", "minilmm"], "did you mean 'minilm'"),
        ([reviews, "--model", "resnet50"], "does not read text"),
        ([reviews, "-p", "train_size=50"], "train_size cannot be given here: a comparison varies it"),
    ):
        done = call("compare", *words, "--results", tmp_path / "results")
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_what_is_fixed_reaches_every_cell(reviews):
    data = checkup.read(str(reviews))
    fixed = read_config({"dataset": str(reviews), "text_column": "text", "drop_leaks": True, "max_length": "32"})
    asked = [config for _, config in comparison.every_run(data, fixed, ["minilm"])]
    assert {(config.text_column, config.drop_leaks, config.max_length) for config in asked} == {("text", True, 32)}
    assert {config.seed for config in asked} == {0, 1, 2, 3, 4}


@pytest.mark.slow
def test_compare_from_python_runs_what_fits_and_shows_it_in_a_notebook(reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "OVERDUE", 50)  # a slow machine may take longer than estimated
    shown = []
    compared = lrtl_utils.compare(
        reviews, label="label", text="text", budget_minutes=0, results=tmp_path, show=shown.append
    )
    assert (compared.outcome.completed, compared.outcome.failed, compared.outcome.left) == (4, [], 0)
    assert "## What will be run" in shown
    assert len(compared.answers) == 4
    assert set(compared.table["configuration"]) == {"tfidf", "linear_probe"}
    assert {"accuracy_vs_data", "accuracy_vs_seconds"} <= set(compared.figures)
    page = compared._repr_html_()
    assert page.count("data:image/png;base64,") == len(compared.figures)
    assert "Which model and which method is best?" in page
    assert str(compared).splitlines()[0] == compared.answers[0].question
    assert len(lrtl_utils.records(tmp_path)) == 4
    trains, suggests = (line for line in compared.advice() if line.startswith("lrtl "))
    assert shlex.split(trains)[:3] == ["lrtl", "run", "text_classification"]
    assert f"dataset={reviews}" in trains
    assert trains.endswith(f"--save-model {tmp_path / 'model'}")
    assert shlex.split(suggests)[2] == str(reviews)
    assert "text_column=text" in trains
    assert "--text-column text --label-column label --unlabelled POOL" in suggests
    assert all(html.escape(line) in page for line in (trains, suggests))
    again = lrtl_utils.compare(str(reviews), budget_minutes=0, results=tmp_path, dry_run=True, show=shown.append)
    assert again.outcome is None
    assert again.table["n_labels"].tolist() == compared.table["n_labels"].tolist()
    done = call(*shlex.split(trains)[1:])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "lrtl.json").is_file()
    assert len(lrtl_utils.records(tmp_path)) == 4  # it trains the configuration of a run that is there


def test_the_fewest_runs_that_can_be_compared_are_ended_too(priced, reviews, tmp_path, monkeypatch):
    stops = []

    def sweep(cells, results, **options):
        stops.append((len(cells), options["stop_after_seconds"]))
        return Outcome()

    monkeypatch.setattr(comparison.price, "estimate", lambda *_: (priced, ""))
    monkeypatch.setattr(comparison.sweeps, "sweep", sweep)
    comparison.compare(reviews, budget_minutes=0, results=tmp_path, show=str)
    least, _ = comparison.within_budget(priced, 0.0, 1)
    assert stops == [(len(least), comparison.OVERDUE * comparison.seconds(least, 1))]


def test_further_runs_are_of_the_configurations_of_the_plan(priced, reviews, tmp_path, monkeypatch):
    swept = []

    def sweep(cells, results, **_):
        swept.append(cells)
        return Outcome(failed=[(cell, "of the test") for cell in cells])  # what fails takes no more time either

    monkeypatch.setattr(comparison.price, "estimate", lambda *_: (priced, ""))
    monkeypatch.setattr(comparison.sweeps, "sweep", sweep)
    tfidf, linear_probe, full = (
        comparison.seconds([one for one in priced if one.cell.config.method == method and one.cell.config.seed < 3], 1)
        for method in ("tfidf", "linear_probe", "full")
    )
    budget = full + (tfidf + linear_probe) / 2 + comparison.ANSWERING_SECONDS  # enough for `full` alone, too late
    compared = comparison.compare(reviews, budget_minutes=budget / 60, results=tmp_path, show=str)
    assert {cell.config.method for cells in swept for cell in cells} == {"tfidf", "linear_probe"}
    assert len(compared.cells) == 2 * 2 * 5


def test_a_tenth_of_the_time_is_kept_for_runs_that_take_longer_than_estimated(priced, reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison.price, "estimate", lambda *_: (priced, ""))
    whole = comparison.seconds(priced, 1) + comparison.ANSWERING_SECONDS
    planned = [
        len(comparison.compare(reviews, budget_minutes=share * whole / 60, results=tmp_path, dry_run=True).cells)
        for share in (1.05, 1.2)
    ]
    assert planned[0] < planned[1] == len(priced)


@pytest.mark.slow
def test_time_that_is_left_goes_to_further_runs(reviews, tmp_path, monkeypatch):
    def dear(*given):
        priced, how = estimate(*given)
        seconds = (800.0 if one.cell.config.seed < 2 else 1e6 for one in priced)  # four runs, four more, and no others
        return [replace(one, seconds=each, predict_seconds=0.0) for one, each in zip(priced, seconds, strict=True)], how

    estimate, shown = comparison.price.estimate, []
    monkeypatch.setattr(comparison.price, "estimate", dear)
    compared = lrtl_utils.compare(reviews, budget_minutes=66, results=tmp_path, models=["minilm"], show=shown.append)
    assert any(line.startswith("4 runs, about") for line in shown)
    assert "The runs were quicker than estimated, so 4 more runs can be made." in shown
    assert compared.outcome.completed == len(compared.cells) == len(lrtl_utils.records(tmp_path)) == 8


@pytest.mark.slow
def test_compare_takes_a_dataframe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = [{"review": f"a {word} film number {i}", "y": word} for i in range(45) for word in ("fine", "dull")]
    shown = []
    compared = lrtl_utils.compare(pd.DataFrame(rows), label="y", dry_run=True, show=shown.append)
    assert compared.results.match(str(tmp_path / "results" / "compare-table-????????"))
    assert any("labels from column 'y'" in line for line in shown)
    assert compared.cells


@pytest.mark.slow
def test_the_command_takes_what_is_named_and_ends_with_the_page(tmp_path):
    rows = [(f"note {i}", "ab"[i // 2 % 2], f"a {word} film {i}", word) for i in range(45) for word in ("fine", "dull")]
    path, out = tmp_path / "reviews.csv", tmp_path / "out"
    pd.DataFrame(rows, columns=["text", "label", "body", "stars"]).to_csv(path, index=False)
    words = ["--text-column", "body", "--label-column", "stars", "--drop-leaks", "--model", "minilm_l3"]
    words += ["--metric", "macro_f1", "-p", "max_length=32", "--budget", "0", "--results", str(out)]
    done = call("compare", path, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out / "report/index.html")
    assert "macro F1 0." in done.stdout or "macro F1 1." in done.stdout
    configs = [record["config"] for record in lrtl_utils.records(out, "completed")["record"]]
    assert {(c["text_column"], c["label_column"], c["drop_leaks"]) for c in configs} == {("body", "stars", True)}
    assert {(c["model"], c["max_length"]) for c in configs if c["method"] != "tfidf"} == {("minilm_l3", 32)}


def test_data_on_which_no_run_could_end_are_refused_before_any_is_priced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(8):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(bytes([i]) * 9)
    (tmp_path / "tags").mkdir()
    for split, tag in (("train", "B-PER"), ("test", "O")):
        (tmp_path / "tags" / f"{split}.conll").write_text("".join(f"Ada{i} {tag}\nsaid O\n\n" for i in range(8)))
    for data, said in (
        ("pets", r"16 images of pets cannot be decoded, .* leave them out: a/\d.png, [ab]/\d.png, .*, …\."),
        ("tags", "No test sentence of tags has an entity"),
    ):
        with pytest.raises(InputError, match=said):
            comparison.compare(data, results=tmp_path / "out")
    with pytest.raises(InputError, match=r"is in the folder of the data, .*; choose another folder for results"):
        comparison.compare("tags", results="tags/out")
    assert not (tmp_path / "out").exists()


def test_texts_that_are_stored_as_bytes_are_no_broken_images(tmp_path):
    table = pd.DataFrame({"text": [f"text {i}".encode() for i in range(40)], "label": ["a", "b"] * 20})
    table.to_parquet(tmp_path / "r.parquet")
    with pytest.raises(
        InputError, match=r"40 images of r\.parquet cannot .*; store them as strings if they are texts, or"
    ):
        comparison.compare(tmp_path / "r.parquet", results=tmp_path / "out")


def test_images_without_known_places_are_refused_in_a_whole_sentence(reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(checkup, "find_broken", lambda data: ["", ""])
    with pytest.raises(InputError, match=r"that it reads; leave them out \(their places are not known\)\.$"):
        comparison.compare(reviews, results=tmp_path)


@pytest.mark.usefixtures("untimed")
def test_a_model_of_one_block_is_compared_without_the_method_that_needs_several(tmp_path):
    write_own_image_model(tmp_path / "visformer", "visformer_tiny")
    for shade in range(40):
        path = tmp_path / "shades" / "ab"[shade % 2] / f"{shade}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 6 * shade).save(path)
    said, knobs = [], {"models": [str(tmp_path / "visformer")], "dry_run": True, "image_size": 32}
    compared = comparison.compare(tmp_path / "shades", results=tmp_path / "out", show=said.append, **knobs)
    (left_out,) = [line for line in said if line.startswith("Left out: Method 'progressive' needs the blocks of")]
    assert "linear_probe" in left_out
    methods = {cell.config.method for cell in compared.cells}
    assert "linear_probe" in methods
    assert "progressive" not in methods


def test_a_model_that_cannot_be_counted_is_an_error_and_not_left_out(reviews, tmp_path):
    write_own_text_model(tmp_path / "gpt2", "gpt2")
    with pytest.raises(InputError, match="cannot be counted without weights"):
        comparison.compare(reviews, results=tmp_path / "out", models=[str(tmp_path / "gpt2")], max_length=16)
