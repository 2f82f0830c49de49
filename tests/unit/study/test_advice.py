"""What to do after a comparison, from records whose outcomes were chosen."""

import re
import shlex

from synthetic import outcomes, write_run

from lrtl_utils.cli.study import _table
from lrtl_utils.study import advice, answers, tables

SIZES = (32, 100, 316, 1000)


def advised(results):
    frame = advice.together(tables.read(results))
    return [*advice.advice(frame, advice.leading(frame))]


def write(results, method, skills, seeds=(0, 1, 2), model="minilm"):
    for size, skill in zip(SIZES, skills, strict=False):
        for seed in seeds:
            write_run(
                results,
                outcomes(skill, size, seed),
                method=method,
                seed=seed,
                seconds=2.5,
                dataset="sst2",
                model=model,
                train_size=size,
            )


def test_without_runs_or_with_one_seed_nothing_is_recommended(tmp_path):
    assert advised(tmp_path) == ["No run has finished; to continue, run the same command again or raise its budget."]
    write(tmp_path, "progressive", [0.9], seeds=[0])
    write(tmp_path, "full", [0.2], seeds=[0])
    first = advised(tmp_path)[0]
    assert first.startswith("Highest so far is progressive, accuracy ")
    assert first.endswith("; if `compare` made these runs, run it again with a larger budget.")


def test_the_best_is_named_with_its_score_its_labels_and_its_time(tmp_path):
    write(tmp_path, "progressive", [0.5, 0.7, 0.8, 0.85])
    write(tmp_path, "full", [0.1, 0.2, 0.3, 0.4])
    use, needed, growth, spent = advised(tmp_path)
    best = tables.best(tables.read(tmp_path)).iloc[-1]
    assert use.startswith(
        f"Use progressive, accuracy {best['score']:.3f} ({best['low']:.3f} to {best['high']:.3f}) with 1000"
    )
    assert needed.startswith("progressive needs about ")
    scores = tables.summarise(tables.read(tmp_path)).query("configuration == 'progressive'")["score"].tolist()
    assert "From 316 to 1000 labels its score changed by +" in growth
    gained = float(growth.partition(" by +")[2].partition(" [+")[0])
    assert abs(gained - 100 * (scores[-1] - scores[-2])) < 0.06
    assert "; according to its curve, going to 2000 labels would change it by about " in growth
    assert "not reliable" not in needed
    assert spent == "Training it with 1000 labels takes 2.5 device seconds (cpu: invented)."


def test_the_command_says_what_differs_from_the_notebook_and_quotes_it(tmp_path):
    knobs = {"dataset": "sst2", "train_size": 32, "seed": 4, "max_length": 64, "text_column": "the text"}
    write_run(tmp_path, outcomes(0.5, 32, 4), method="progressive", learning_rate=3e-5, **knobs)
    (record,) = tables.read(tmp_path)["record"]
    said = shlex.split(advice.training(record, tmp_path / "a b"))
    assert said[:3] == ["lrtl", "run", "text_classification"]
    given = {said[at + 1] for at, word in enumerate(said) if word == "-p"}
    assert {"max_length=64", "text_column=the text", "method=progressive", "data_fraction=1"} < given
    assert "learning_rate=3e-05" in given
    assert not any(one.startswith(("seed=", "train_size=", "epochs=", "batch_size=")) for one in given)
    assert said[-2:] == ["--save-model", str(tmp_path / "a b" / "model")]


def test_commands_follow_the_advice_and_those_for_tags_calibrate_nothing(tmp_path):
    write(tmp_path, "progressive", [0.5, 0.7])
    *_, trains, calibrated, _, suggests = advice.lines(tables.read(tmp_path), tmp_path)
    assert "-p dataset=sst2 " in trains
    assert "validation_share=0.2" in calibrated
    assert suggests == "lrtl suggest sst2 --unlabelled POOL -n 50"
    frame = tables.read(tmp_path)
    for name in ("validation_share", "text_column", "label_column"):  # which records of older versions lack
        for record in frame["record"]:
            record["config"].pop(name)
    assert [*advice.lines(frame, tmp_path)][-1] == suggests
    moved = [*advice.lines(tables.read(tmp_path), tmp_path, "/elsewhere/it's mine.csv")]
    assert sum("""'/elsewhere/it'"'"'s mine.csv' """ in line for line in moved) == 1
    assert sum("""-p 'dataset=/elsewhere/it'"'"'s mine.csv' """ in line for line in moved) == 1
    tagged = outcomes(0.5, 32, 0, tagged=True)
    write_run(tmp_path / "tags", tagged, dataset="conll2003", model="minilm_crf", method="full", train_size=32)
    *_, trains, _, suggests = advice.lines(tables.read(tmp_path / "tags"), tmp_path / "tags")
    assert suggests == "lrtl suggest conll2003 --unlabelled POOL -n 50"
    assert trains.startswith("lrtl run named_entity_recognition -p dataset=conll2003 ")


def test_two_models_are_compared_with_each_other(tmp_path):
    write(tmp_path, "linear_probe", [0.9, 0.9], model="minilm_l3")
    write(tmp_path, "linear_probe", [0.1, 0.1], model="minilm")
    assert advised(tmp_path)[0].startswith("Use minilm_l3 linear_probe, accuracy ")
    write(tmp_path, "full", [0.05, 0.05], model="minilm_l3")
    write(tmp_path, "full", [0.05, 0.05], model="minilm")
    headline = answers.which(tables.read(tmp_path)).headline
    assert "linear_probe has the highest mean on 2 of 2 pairs of data set and model (2 configurations, " in headline


def test_time_that_an_earlier_run_spent_counts_once(tmp_path):
    for seed, cached in ((0, 0.0), (1, 50.0)):
        knobs = {"dataset": "sst2", "model": "minilm", "method": "linear_probe", "train_size": 32, "seed": seed}
        write_run(tmp_path, outcomes(0.5, 32, seed), seconds=60.0, cached=cached, **knobs)
    assert advice.spent(tables.read(tmp_path)) == "2 runs took 1.17 device minutes (cpu: invented)."


def test_sizes_without_a_common_seed_have_their_means_compared(tmp_path):
    write(tmp_path, "progressive", [0.5], seeds=[0])
    write_run(
        tmp_path, outcomes(0.7, 100, 1), method="progressive", dataset="sst2", model="minilm", train_size=100, seed=1
    )
    said = " ".join(advised(tmp_path))
    assert re.search(r"From 32 to 100 labels its score changed by [+-]\d+\.\d points", said)


def test_a_curve_that_cannot_be_relied_on_promises_nothing(tmp_path):
    write(tmp_path, "progressive", [0.2, 0.8, 0.3, 0.9])
    write(tmp_path, "full", [0.1, 0.1, 0.1, 0.1])
    assert "according to its curve" not in " ".join(advised(tmp_path))


def test_the_table_has_the_four_answers_in_words(tmp_path):
    write(tmp_path, "progressive", [0.5, 0.7, 0.8, 0.85])
    write(tmp_path, "conventional", [0.1, 0.2, 0.3, 0.4])
    frame = tables.read(tmp_path)
    rows, notes = advice.at_a_glance(frame)
    (row,), best = rows.to_dict("records"), tables.best(frame).iloc[-1]
    score = f"{best['score']:.3f} ({best['low']:.3f} to {best['high']:.3f})"
    (need,) = tables.needs(frame).query("first").itertuples()
    enough = f"{need.n_labels:.0f}\n({need.low:.0f} to {need.high:.0f})"
    *words, over = row.values()
    assert words == ["SST-2\n1000 labels", f"progressive\n{score}", enough, "the highest itself"]
    assert over.endswith("]\nbetter")
    assert [*row][1::3] == ["highest\naccuracy", "points over\ndefault conventional"]
    assert notes == []
    assert advice.spent(frame) == "24 runs took 1 device minutes (cpu: invented)."


def test_the_command_has_the_setting_of_the_size_whose_score_is_given(tmp_path):
    for size, rate in ((32, 1e-4), (100, 3e-4)):
        for seed in range(3):
            asked = {"dataset": "sst2", "model": "minilm", "train_size": size, "seed": seed}
            write_run(tmp_path, outcomes(0.9, size, seed), method="full", learning_rate=rate, **asked)
            write_run(tmp_path, outcomes(0.1, size, seed), method="conventional", learning_rate=rate, **asked)
    frame = tables.read(tmp_path)
    (trains,) = [line for line in advice.lines(frame, tmp_path) if line.startswith("lrtl run ")]
    assert "learning_rate=0.0003" in trains
    (row,) = advice.at_a_glance(frame)[0].to_dict("records")
    assert row["highest\naccuracy"].startswith("full (tuned)\n")
    assert row["points over\nconventional (tuned)"].endswith("]\nbetter")


def test_the_table_says_what_it_does_not_know(tmp_path):
    write(tmp_path, "progressive", [0.9, 0.2, 0.5], seeds=[0])
    write(tmp_path, "progressive", [0.9], seeds=[0], model="minilm_l3")
    rows, notes = advice.at_a_glance(tables.read(tmp_path))
    one, other = rows.to_dict("records")
    assert one["data set\nlabels"] == "SST-2, all-MiniLM-L6-v2\n316 labels"
    assert one["enough\nlabels"].endswith("\nnot reliable")
    assert other["enough\nlabels"] == "too few\nsizes"
    assert one["points over\ndefault conventional"] == "not compared"
    assert one["cheapest not shown\nworse, in points"] == "too few seeds\nor methods"
    (note,) = notes
    assert note.startswith("SST-2, all-MiniLM-L6-v2: how many labels are enough is not reliable (")
    rows, notes = advice.at_a_glance(tables.frame_of([]))
    assert rows.empty
    assert notes == []


def test_a_row_of_the_table_takes_two_lines_of_a_narrow_terminal_and_no_name_is_cut(tmp_path):
    for method, cost, skill in (("linear_probe", 10, 0.89), ("progressive", 100, 0.9), ("conventional", 100, 0.1)):
        for seed in range(3):
            knobs = {"method": method, "seed": seed, "flops": cost, "train_size": 32}
            tagged = outcomes(skill, 32, seed, tagged=True)
            write_run(tmp_path, tagged, dataset="entities_sample", model="minilm_l3_crf", **knobs)
            write_run(tmp_path, outcomes(skill, 32, seed), dataset="news_sample", model="minilm_l3", **knobs)
    lines = [*_table(advice.at_a_glance(tables.read(tmp_path))[0])]
    assert len(lines) == 2 + 1 + 2 + 1 + 2  # the header, a rule, and two rows with a blank line between them
    assert max(map(len, lines)) <= 100
    table = "\n".join(lines)
    assert "…" not in table
    for whole in ("Entities (sample)", "10% of FLOPs, ", "accuracy or entity F1", "default conventional"):
        assert whole in table


def test_what_is_not_shown_to_beat_one_answer_is_said(tmp_path):
    for method in ("progressive", "full"):
        write(tmp_path, method, [0.7])
    frame = tables.read(tmp_path)
    low = advice.leading(frame)["low"]
    for share, said in ((low + 0.01, True), (low - 0.01, False)):
        rows = round(1000 * share)
        for record in frame["record"]:
            record["metrics"] |= {"per_class": {"bad": {}, "good": {}}, "confusion": [[rows, 0], [0, 1000 - rows]]}
        warned = f"This is not shown to be better than always answering 'bad', whose accuracy is {rows / 1000:.3f}."
        assert (warned in advice.advice(frame, advice.leading(frame))) is said


def test_own_folders_are_not_taken_for_what_the_catalog_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imdb").mkdir()
    assert advice._here("./../imdb", tmp_path / "results") == "./imdb"
    assert advice._here("./../my/imdb", tmp_path / "results") == "my/imdb"
    assert advice._here("imdb", tmp_path / "results") == "imdb"
