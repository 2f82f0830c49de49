"""The pages in docs/ say what is so: their blocks of code are run, their commands parsed, their keys looked up."""

import itertools
import json
import re
import shlex
from collections import defaultdict
from functools import cache
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from typer.models import OptionInfo

from lrtl_utils import cli
from lrtl_utils.cli import common
from lrtl_utils.cli.common import pairs
from lrtl_utils.cli.sweep import slurm_parameters
from lrtl_utils.config import RunConfig, read_config
from lrtl_utils.data.catalog import TASKS
from lrtl_utils.files import ROOT
from lrtl_utils.measure.metrics import METRICS
from lrtl_utils.methods import METHODS, VERSIONS, progressive
from lrtl_utils.models.catalog import MODELS
from lrtl_utils.study import answers, stats, tables
from lrtl_utils.study.benchmarks import published, readme, recipe, tuning
from lrtl_utils.sweep import engines
from lrtl_utils.sweep import grid as grids

UP_TO_TEN = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
TEENS = [f"{ten}teen" for ten in ("thir", "four", "fif", "six", "seven", "eigh", "nine")]
COUNTS = (*UP_TO_TEN, "eleven", "twelve", *TEENS, "twenty", *(f"twenty-{ten}" for ten in UP_TO_TEN[1:4]))
ONLY_FOR_THE_STUDY = [
    "conventional-image-32",
    "full-image-32",
    "conventional-tokens-32",
    "full-tokens-32",
    "full-tokens-500",
    "conventional-tokens-500",
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def listed(names):
    """`a`, `a and b`, or `a, b and c`."""
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), flags=re.M | re.S)


def commands(page):
    """The words behind `lrtl` of each such line in a block of code."""
    fenced = re.findall(r"^```([\w ]*)\n(.*?)^```$", page.read_text(), flags=re.M | re.S)
    text = "\n".join(block for language, block in fenced if language in {"", "bash", "sh"})
    lines = re.findall(r"^(?:\$ |exec |.*&& )?(?:\.venv/bin/)?lrtl (.*)", text.replace("\\\n", " "), flags=re.M)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_one(page):
    text = page.read_text()
    assert "-m lrtl_utils " not in text, "the pages write the command as `lrtl`"
    known = typer.main.get_command(cli.app).commands
    for verb, *words in commands(page):
        known[verb].make_context(verb, words)  # raises where a name or a number of words is wrong
        read_config(pairs(words[i + 1] for i, word in enumerate(words) if word == "-p"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_readme_is_read_in_a_minute_and_prints_what_the_example_printed():
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
    (block,) = [block for block in blocks("README.md", "") if block.startswith("Use ")]
    printed = " ".join((ROOT / "docs/example.md").read_text().split())
    for part in " ".join(block.split()).split("…"):  # where nothing is left out, nothing is missing
        _, found, printed = printed.partition(part.strip())
        assert found == part.strip()


def test_how_often_the_bar_is_missed_is_what_the_table_says():
    (said,) = re.findall(r"misses this bar in (\d+ of \d+) settings", prose("limits"))
    assert f"\nIn {said} settings the mean of another" in (ROOT / "results/recipe-2/table.md").read_text()


def test_how_many_settings_were_lost_is_what_the_table_says():
    (count,) = re.findall(r"\*\*It lost (\w+) settings after the correction", prose("limits"))
    table = pd.read_csv(ROOT / "results/recipe-2/table.csv")
    others = table[~table["configuration"].str.startswith("progressive [")]
    lost = others[others["verdict"] == "better"][["dataset_model", "n_labels"]].drop_duplicates()
    assert COUNTS[len(lost)] == count


def prose(page):
    """Of a page in docs/, without its breaks of lines."""
    return " ".join((ROOT / f"docs/{page}.md").read_text().split())


def developed():
    """The table of the development sets, less their changed copies."""
    table = pd.read_csv(ROOT / "results/recipe-2/table.csv").sort_values(["dataset_model", "n_labels"])
    return table[~table["dataset_model"].str.contains(readme.CHANGED_COPIES)]


def without(piece):
    """The rows of the table in which a piece is left out, one for each setting."""
    return developed().query(f"configuration == 'progressive [{readme.PIECES[piece][0]}]'")


def test_every_piece_has_a_row_and_what_it_earns_is_what_the_table_says():
    assert readme.PIECES.keys() > {*progressive.PIECES}
    earned = readme.earned(pd.read_csv(ROOT / f"results/{readme.DEVELOPED}"))
    shown = earned.to_markdown(index=False, disable_numparse=True)
    assert "\n".join([readme.EARNED[0], shown, readme.EARNED[1]]) in (ROOT / readme.NOTE).read_text()


def test_the_pieces_that_miss_the_bar_are_named():
    gained = {
        piece: {name[:5] for name in without(piece).query("verdict == 'worse'")["dataset_model"]}  # HWU64 counts once
        for piece in readme.PIECES
        if piece not in {"cache", "buckets"}  # whose gain is in FLOPs
    }
    missed = [f"`{piece}`" for piece, names in gained.items() if len(names) < 2]
    (said,) = re.findall(r"two data sets: ([^.]*) miss it\.", prose("progressive"))
    assert set(re.findall(r"`\w+`", said)) == set(missed)


def test_where_a_piece_harms_is_what_the_table_says():
    harms = {
        (piece, *place)
        for piece in readme.PIECES
        for place in without(piece).query("verdict == 'better'")[["dataset_model", "n_labels"]].to_numpy()
    }
    assert harms == {
        ("soften", "hwu64_10 · minilm", 100),
        ("soften", "hwu64_10 · minilm_l3", 100),
        ("layers", "crossner_science · minilm_l3_crf", 100),
        ("penalty", "crossner_science · minilm_crf", 100),
    }
    said = "Three pieces are shown to harm somewhere, with 100 labels: `soften` on HWU64, with both backbones,"
    assert said in prose("progressive")
    assert "; `layers` on CrossNER science with `minilm_l3`; and `penalty` there with `minilm`." in prose("progressive")


def test_published_figures_of_hwu64_are_those_that_are_kept():
    rows = [row for row in published.PUBLISHED["few_shot"] if row["dataset"].startswith("hwu64")]
    for name in {row["model"] for row in rows}:
        five, ten = (
            next(100 * row["score"] for row in rows if (row["model"], row["dataset"]) == (name, f"hwu64_{shots}"))
            for shots in (5, 10)
        )
        assert f"{five:.1f} and {ten:.1f} by {name.split(',')[0].split(' and ')[0]}" in prose("limits")


def test_what_the_study_adds_to_the_misses_is_what_its_table_says():
    table = pd.read_csv(ROOT / "results/study/table.csv")
    others = table[~recipe.is_piece(table) & table["points_low"].notna()]
    ahead = others[others["mean"] > stats.MARGIN]
    count, of = (len(rows.groupby(recipe.AT)) for rows in (others, ahead))
    assert f"[The study](../results/study/table.md) has {count} settings of the plan's six" in prose("limits")
    full, conventional = (sum(others["configuration"] == f"{name} (tuned)") for name in ("full", "conventional"))
    said = f"In all of them `linear_probe` ran, in {full} also tuned `full`, and in {conventional} tuned `conventional`"
    assert said in prose("limits")
    sizes = defaultdict(list)
    for (size, setting), rows in ahead.groupby(["n_labels", "dataset_model"]):
        who = [re.sub(r"^(\w+)( \(tuned\))?$", r"`\1`\2", name) for name in rows["configuration"]]
        shown = rows["verdict"].map({"better": ", shown", "undecided": ""})
        gaps = [
            f"{name}, {answers.points(gap)[1:]}{end}" for name, gap, end in zip(who, rows["mean"], shown, strict=True)
        ]
        sizes[size].append(f"{tables.titled(setting).split(',')[0]} ({'; '.join(gaps)})")
    at_each = (f"with {size:,} labels, {listed(names)}" for size, names in sizes.items())
    said = f"In {of} of these settings the mean of another is more than a point higher: {'; '.join(at_each)}. "
    assert f'{said}Where it does not say "shown", the difference is undecided.' in prose("limits")
    sst5 = developed().query("dataset_model == 'sst5 · minilm' and n_labels == 40 and configuration == 'full'")
    assert f"on `sst5` with 8 shots ({1 / sst5['flops'].item():.2f} times); elsewhere it takes fewer" in prose("limits")


def test_what_decay_earns_is_what_the_table_says():
    rows = without("decay").query("n_labels >= 500")
    assert (rows["verdict"] == "undecided").all()
    ahead, most = COUNTS[sum(rows["mean"] < 0)], -100 * rows["mean"].min()
    said = (
        f"the mean is lower without it in {ahead} of {COUNTS[len(rows)]} settings, by up to {most:.1f} points, and no"
    )
    assert f"{said} difference is shown" in prose("limits")


@pytest.mark.parametrize("model", ["minilm_crf", "minilm_l3_crf"])
@pytest.mark.parametrize(("name", "title"), [("crossner_science", "CrossNER"), ("wnut17", "WNUT-17")])
def test_what_lowercased_sentences_cost_is_what_the_table_says(name, title, model):
    table = pd.read_csv(ROOT / "results/recipe-2/table.csv").query("n_labels == 100")
    table = table.set_index(["dataset_model", "configuration"])
    scores = [100 * table.loc[(f"{name}{end} · {model}", "progressive"), "score"] for end in ("_lowercased", "")]
    without = table.loc[(f"{name}_lowercased · {model}", "progressive [word_shape=False]")]
    assert without["verdict"] == ("better" if model == "minilm_l3_crf" else "undecided")
    points = answers.points(without["mean"], without["points_low"], without["points_high"])
    row = f"| {title}, `{model}` | {scores[0]:.1f} | {scores[1]:.1f} | {points} |"
    assert row in (ROOT / "docs/limits.md").read_text()


def test_what_names_that_mislead_cost_is_what_the_table_says():
    table = pd.read_csv(ROOT / "results/recipe-2/table.csv").query("configuration == 'progressive [label_names=False]'")
    misled = table[table["dataset_model"].str.contains("_wrong_names")].set_index(["dataset_model", "n_labels"])
    costs = {place: f"{100 * mean:.1f}" for place, mean in misled["mean"].items() if mean}
    few = costs.pop(("emotion_wrong_names · minilm", 32))
    first, second = (costs.pop((f"hwu64_10_wrong_names · {model}", 100)) for model in ("minilm", "minilm_l3"))
    assert not costs
    assert f"The mean loss of {few} points is not shown" in prose("limits")
    assert f"they cost {first} points, and {second} with `minilm_l3`" in prose("limits")


def test_the_gaps_of_progressive_are_those_of_the_table():
    table, page = developed(), (ROOT / "docs/limits.md").read_text()
    others = table[~table["configuration"].str.startswith("progressive [") & table["points_low"].notna()]
    shown = others["verdict"] == "better"
    undecided = others[~shown.groupby([others["dataset_model"], others["n_labels"]]).transform("any")]
    most = undecided.groupby(["dataset_model", "n_labels"])["mean"].max().loc[lambda gaps: gaps > stats.MARGIN]
    for begins, gaps in (("It lost", others[shown]["mean"]), (f"In {COUNTS[len(most)]} settings the gap", most)):
        (said,) = re.findall(rf"^- \*\*{begins}.*?(?=^- )", page, flags=re.M | re.S)
        found = re.findall(r"(?:by |\(|, )(\d\.\d)", " ".join(said.split()))
        assert sorted(found) == sorted(f"{100 * gap:.1f}" for gap in gaps)


def test_what_rung_0_alone_reaches_is_what_the_table_says():
    alone = developed().query("configuration == 'progressive [budget_seconds=1e-06]' and points_low.notna()")
    worse, better = (sum(alone["verdict"] == verdict) for verdict in ("worse", "better"))
    counted = f"worse than the whole method in {worse} of {len(alone)} settings, and better in {better}"
    (said,) = re.findall(rf"{counted}([^:]*:.*?)So the method", prose("limits"))
    gaps = alone[alone["verdict"] == "better"]["mean"]
    assert sorted(re.findall(r"by (\d\.\d)", said)) == sorted(f"{100 * gap:.1f}" for gap in gaps)
    undecided = alone[alone["verdict"] == "undecided"]
    ahead = 100 * undecided["mean"][undecided["mean"] > 0]
    said = f"{COUNTS[len(ahead)]} of the {COUNTS[len(undecided)]} settings that are undecided here, "
    said += "the mean of the method is lower too, by "
    assert f"{said}{ahead.min():.1f} to {ahead.max():.1f} points" in prose("limits")
    at = ["dataset_model", "n_labels"]
    probe = developed().query("configuration == 'linear_probe'")[[*at, "score"]]
    texts = alone[alone["dataset_model"].str.contains(r"minilm(?:_l3)?$") & (alone["n_labels"] > 16)]
    texts = texts.merge(probe, on=at)
    said = f"in {sum(texts['score_x'] < texts['score_y'])} of these {len(texts)} settings its mean is below"
    assert f"{said} that of `linear_probe`" in prose("limits")


def test_what_the_second_backbones_show_is_what_the_table_says():
    others = developed().query("dataset_model.str.contains('_l3|_lite1') and points_low.notna()")
    others = others[~others["configuration"].str.startswith("progressive [")]
    most = others.groupby(["dataset_model", "n_labels"])["mean"].max()
    first, near = sum(most < 0), most[(most >= 0) & (most <= stats.MARGIN)]
    assert f"have {len(most)} settings, on two sets of" in prose("limits")
    assert f"the highest mean in {COUNTS[first]} of them; in {COUNTS[len(near)]} another method" in prose("limits")
    behind = COUNTS[sum(most > stats.MARGIN)]
    assert f"ahead by at most {100 * near.max():.1f} points, and in {behind} are the gaps" in prose("limits")


def test_how_far_others_are_with_the_names_of_64_intents_is_what_the_table_says():
    named = developed().query("dataset_model == ['hwu64_5 · minilm', 'hwu64_10 · minilm'] and n_labels > 100")
    named = named[named["configuration"].str.endswith(" [label_names=True]")].sort_values("n_labels")
    assert len(named) == 8  # four methods on two splits
    for method, rows in named.groupby("configuration"):
        gaps = " and ".join(answers.points(row.mean, row.points_low, row.points_high) for row in rows.itertuples())
        assert f"`{method.split()[0]}` {gaps}" in prose("limits")


def test_flops_beside_version_1_are_those_of_the_table():
    first = developed().query("configuration == 'progressive, version 1'")
    counts = first["verdict"].value_counts()
    found = f"In {len(first)} settings it is shown to be better in {COUNTS[counts['worse']]} (HWU64 in all three "
    found += "with both backbones, CrossNER with `minilm_l3_crf` and 8 shots or 100 labels, CoNLL-2003 "
    assert f"{found}and `trash` with 500 labels, `trash` with `efficientnet_lite1` and 8 shots)" in prose("limits")
    assert f"worse in {COUNTS[counts['better']]} (`sst5` with 8 shots); {counts['undecided']} are" in prose("limits")
    won = first[first["verdict"] == "worse"]["dataset_model"]
    assert {name[:5] for name in won} == {"hwu64", "cross", "conll", "trash"}
    for row in first.query("n_labels == 16").itertuples():
        assert f" {answers.points(-row.mean, -row.points_high, -row.points_low)}" in prose("limits")
    ratios = (1 / first["flops"]).sort_values()
    usual, more = ratios[ratios < 1.1], ratios[ratios > 1.1]
    assert first.loc[more.index, "dataset_model"].str.contains("hwu64|crossner").all()
    for said in (
        f"in {sum(ratios > 1)} of {len(ratios)} settings: {more.iloc[-2]:.2f} times as many on HWU64 with 100 labels",
        f" ({more.iloc[-1]:.2f} with `minilm_l3`), {more.iloc[0]:.2f} to {more.iloc[-3]:.2f} times there",
        f"{usual.iloc[0]:.2f} to {usual.iloc[-1]:.2f} times elsewhere",
    ):
        assert said in prose("limits")
    full = developed().query("configuration == 'full'").set_index(["dataset_model", "n_labels"])["flops"]
    most, second = (1 / full[f"hwu64_10 · {model}", 100] for model in ("minilm", "minilm_l3"))
    five, other = (1 / full[f"hwu64_5 · {model}", 320] for model in ("minilm", "minilm_l3"))
    said = (
        f"{most:.1f} times as many on HWU64 with 100 labels ({second:.1f} times with `minilm_l3`) and {five:.1f} times"
    )
    assert f"{said} with five of each intent ({other:.1f} times)" in prose("limits")
    shots, rest = (1 / full["emotion · minilm_l3", n_labels] for n_labels in (32, 500))
    said = f"on `emotion` ({shots:.1f} times with 8 shots, {rest:.2f} times with 500 labels)"
    assert said in prose("limits")
    assert sum(full < 1) == 7


def test_how_many_runs_had_been_seen_is_what_was_frozen():
    seen = json.loads((ROOT / "results/frozen.json").read_text())["seen"]
    assert f"by then: {sum(seen.values()):,} on {len(seen)} data sets" in prose("reproduce")
    assert f"By the freeze, {sum(seen.values()):,} runs had been tested on {len(seen)} data sets" in prose("evidence")


@cache
def claimed():
    """The table of the confirmation, of settings with five seeds: with fewer nothing is claimed."""
    return recipe.compared(readme.confirmed_runs(ROOT / "results/confirmation"))


def test_what_is_confirmed_is_what_the_rule_gives():
    table = claimed()
    table = table[~recipe.of_the_plan(table["dataset_model"])]
    counts = recipe.counts(table)
    confirmed = counts[(counts["lost"] == 0) & (counts["low"] > 0)]["configuration"].tolist()
    assert len(confirmed) == 4
    assert not (table[table["configuration"].isin(confirmed)]["points_low"] > 0).any()
    assert "no loss to the four that it is confirmed against: in no setting does the interval" in prose("evidence")
    *others, last = (f"`{name}`" for name in confirmed)
    said = f"confirmed against {', '.join(others)} and {last}"
    for page in ("README.md", "docs/evidence.md"):
        assert said in " ".join((ROOT / page).read_text().replace("**is", "is").split())
    below = counts.set_index("configuration").query("low > 0 and data_set_low <= 0")
    assert {*below.index} == {"full (tuned)", "bitfit", "linear_probe"}
    for name, row in below.iterrows():
        low, high = (answers.signed(row[end]) for end in recipe.DATA_SET_GAIN[1:])
        assert f"`{name}` ({low} to {high})" in prose("evidence")
    low, high = (answers.signed(below.loc["full (tuned)", end]) for end in recipe.DATA_SET_GAIN[1:])
    readme_said = " ".join((ROOT / "README.md").read_text().split())
    assert f"from one mean for each of the seven data sets its interval is {low} to {high}." in readme_said
    by_metric = dict(iter(table.groupby("score_name")))
    tuned = {name: recipe.counts(of[of["configuration"].isin(readme.TUNED)]) for name, of in by_metric.items()}
    assert (tuned["accuracy"]["low"] <= 0).all()
    assert (tuned["entity F1"]["gain"] > tuned["accuracy"]["gain"]).all()
    assert by_metric["entity F1"]["dataset_model"].str.startswith("crossner").all()
    table = table[table["configuration"] == "progressive"]
    planned = recipe.planned(ROOT / "notebooks/grids/confirmation.yaml")
    assert sum(table["seeds"] >= 5) == planned
    judged = counts.set_index("configuration")["settings"]
    assert judged["setfit"] == judged["setfit_20"]
    run = f"`tfidf` was compared in {judged['tfidf']} of them, MTEB's probe in {judged['mteb_probe']} and SetFit in "
    run += f"{judged['setfit']}"
    in_readme = run.replace("them, MTEB", f"the {planned} settings, MTEB")
    assert f"All {planned} of its settings on these data sets have run with five seeds; {run}" in prose("evidence")
    pictured = len(readme.gains(readme.confirmed_runs(ROOT / "results/confirmation"), tables.TUNED))
    assert f"{in_readme}." in readme_said
    assert f"`conventional (tuned)`, which is not confirmed, in {pictured} of the {planned} settings." in readme_said
    assert tables.TUNED not in confirmed


def test_what_tuned_full_and_photographs_show_is_what_the_table_says():
    table = claimed()
    clothing = table[table["dataset_model"].str.startswith("clothing")]
    for part in (table[recipe.of_the_plan(table["dataset_model"])], clothing):
        assert recipe.counts(part).set_index("configuration").loc["full (tuned)", "low"] <= 0
    readme = " ".join((ROOT / "README.md").read_text().split())
    study = pd.read_csv(ROOT / "results/study/table.csv").query("configuration == 'full (tuned)'")
    (full,) = recipe.counts(study).to_dict("records")
    planned = table[recipe.of_the_plan(table["dataset_model"]) & table["configuration"].eq("full (tuned)")]
    (there,) = recipe.counts(planned).to_dict("records")
    for found, on, settings in ((there, " on five data sets of the plan", " settings"), (full, "", "")):
        said = f"it is {answers.points(*map(found.get, recipe.GAIN))}{on}: better in {found['won']}{settings}, "
        assert f"{said}worse in {found['lost']}, undecided in {found['undecided']}." in readme
        assert found["low"] <= 0
    elsewhere = table[~recipe.of_the_plan(table["dataset_model"]) & table["configuration"].eq("full (tuned)")]
    elsewhere = elsewhere[elsewhere["dataset_model"].str.match("subj|trec|clothing")]
    (found,) = recipe.counts(elsewhere).to_dict("records")
    assert elsewhere["verdict"].eq("undecided").all()
    gain = answers.points(*map(found.get, recipe.GAIN))
    assert (
        f"On SUBJ, TREC and photographs of clothing it is {gain} ({len(elsewhere)} settings, all undecided)" in readme
    )
    means = pd.read_csv(ROOT / "results/study/table.csv").query("seeds >= 5")
    sizes = ["n_labels", "dataset_model"]
    highest = means.loc[means.groupby(sizes)["score"].idxmax()]
    alone = highest[highest["configuration"].eq("progressive") & highest["n_labels"].isin([32, 316, 1000])]
    alone = set(alone.set_index(sizes).index)
    unmatched = alone - set(means[means["configuration"] == "conventional (tuned)"].set_index(sizes).index)
    missing = f"(in {len(unmatched)} of these {len(alone)} settings, tuned `conventional` has not run)."
    leads = highest.groupby("configuration")["n_labels"].value_counts()
    theirs, ours = (leads[name].reindex([32, 316, 1000]).tolist() for name in ("full (tuned)", "progressive"))
    said = "on {} of the six data sets with 32 labels, on {} with 316 and on {} with 1,000; `progressive` has it on "
    said = f"In the study, tuned `full` has the highest mean {said}{{}}, {{}} and {{}}"
    assert f"{said.format(*theirs, *ours)} {missing}" in prose("evidence")
    few = study[study["n_labels"] == 32].set_index("dataset_model")
    most, other = few.loc["fashion_mnist · efficientnet_lite0"], few.loc["cifar10 · efficientnet_lite0"]
    assert most["verdict"] == "better"
    assert other["mean"] < 0
    assert most["mean"] == study["mean"].max()
    gain = answers.points(*most[["mean", "points_low", "points_high"]])
    assert f"with 32 labels, by {gain.replace('+', '')} points." in readme
    said = f"is better by {gain[1:4]} points, at {most['flops']:.0f} times the FLOPs; on CIFAR-10 its mean is "
    assert f"{said}{answers.points(other['mean'])[1:]} points lower." in prose("limits")
    clothing = table[table["dataset_model"].str.startswith("clothing") & table["verdict"].isin(recipe.WON)]
    probe, tuned = (
        clothing[clothing["configuration"].str.contains(name)]["verdict"] for name in ("linear_probe", "tuned")
    )
    assert {*tuned} == {"undecided"}
    said = f"`linear_probe` is better** in {sum(probe == 'better')} of {len(probe)} settings, and `progressive` is not"
    assert f"{said} better than a tuned baseline in any." in readme


def test_how_small_the_models_are_and_on_what_they_ran_is_what_the_records_say():
    runs = pd.concat(tables.records(ROOT / "results" / name, "completed") for name in ("study", "confirmation"))
    assert {record["environment"]["device"].split(":")[0] for record in runs["record"]} == {"cpu"}
    most = max(record["model"]["parameters"] for record in runs["record"])
    for page in ("README.md", "docs/limits.md"):
        said = " ".join((ROOT / page).read_text().split())
        assert f"no pre-trained model here has more than {most / 1e6:.1f} million parameters" in said


def planned_runs(grid):
    """What tells apart the planned runs of a grid; no data are read."""
    plan = yaml.safe_load((ROOT / f"notebooks/grids/{grid}.yaml").read_text())
    blocks = [plan | block for block in plan.pop("blocks").values()]
    return {
        (*cell, None if "tfidf" in cell else block["model"])  # which needs no model
        for block in blocks
        for cell in itertools.product(
            *(
                np.atleast_1d(block.get(name))
                for name in ("dataset", "method", "seed", "train_size", "shots", "data_fraction")
            )
        )
    }


def test_the_page_on_full_size_was_made_with_today_s_methods():
    lines = (ROOT / "docs/full_size.jsonl").read_text().splitlines()
    assert {(line["method"], line.get("version")) for line in map(json.loads, lines)} == {
        (name, version) for name, version in VERSIONS.items() if METHODS[name].needs_model
    }


def test_how_many_runs_the_study_has_is_what_its_records_and_its_plan_say():
    runs, planned = tables.records(ROOT / "results/study", "completed"), planned_runs("study")
    left, page = len(planned) - len(runs), " ".join((ROOT / "results/README.md").read_text().split())
    assert f"So far {len(runs)} of its {len(planned)} runs exist" in page
    assert f"{len(runs)} of the {len(planned)} planned runs exist" in prose("evidence")
    made = {(row.dataset, row.method, row.seed, row.n_labels) for row in runs.itertuples()}
    assert made < {cell[:4] for cell in planned}
    sizes = defaultdict(set)
    for dataset, method, _, size, *_ in {cell for cell in planned if cell[:4] not in made}:
        assert method == "conventional"
        sizes[TASKS[dataset].title].add(size)
    missing = listed(f"{title} ({listed(f'{size:,}' for size in sorted(of))})" for title, of in sorted(sizes.items()))
    assert (
        f"The missing {left} are all of tuned `conventional`, on (in brackets the numbers of labels) {missing}. "
        in page
    )


def test_how_many_runs_the_confirmation_leaves_out_is_what_its_plan_says():
    planned = planned_runs("confirmation")
    made = tables.records(ROOT / "results/confirmation", "completed")["method"].isin(METHODS).sum()
    left_out = len(planned) - made
    assert f"It leaves out {left_out} of its {len(planned):,} runs" in prose("reproduce")
    assert f"{left_out} runs on the plan's six were left out" in prose("evidence")
    of_the_plan = sum(dataset in TASKS for dataset, *_ in planned)
    said = f"Of {of_the_plan} planned runs on the data sets of the original plan, {left_out} [were left out]"
    assert said in " ".join((ROOT / "README.md").read_text().split())


def test_what_the_tuned_baselines_lack_is_what_the_tables_say():
    table = claimed().query("configuration.str.endswith(' (tuned)')")
    better = table[table["verdict"] == "worse"][["dataset_model", "configuration"]]
    on_the_plans = better[recipe.of_the_plan(better["dataset_model"])]
    assert on_the_plans.to_numpy().tolist() == [
        *2 * [["cifar10 · efficientnet_lite0", "conventional (tuned)"]],
        ["sst2 · minilm", "conventional (tuned)"],
    ]
    names = set(better["dataset_model"].str.split("[_ ]").str[0])
    assert names == {"banking77", "cifar10", "clinc150", "crossner", "sst2", "subj", "trec"}
    drawn = table[table["verdict"].eq("worse") & (table["n_labels"] < 100)]
    assert {*drawn["dataset_model"].str.split(" ").str[0]} == {
        "cifar10",
        "crossner_ai",
        "crossner_politics",
        "sst2",
        "trec",
    }
    readme = " ".join((ROOT / "README.md").read_text().split())
    probe = claimed().query("configuration == 'linear_probe'")
    probe = probe[~recipe.of_the_plan(probe["dataset_model"]) & probe["verdict"].isin(recipe.WON)]
    same = probe["flops"] == 1
    assert probe[same][recipe.AT].to_numpy().tolist() == [["subj · minilm", 16]]
    assert (probe[same]["mean"] == 0).all()
    least, most = (100 * probe["flops"][~same].agg(each) for each in ("min", "max"))
    assert f"takes {least:.0f} to {most:.0f}% of the FLOPs of `progressive` (on SUBJ with 16 labels, where" in readme
    (found,) = recipe.counts(probe).to_dict("records")
    gain, by_data_set = (answers.points(*map(found.get, names)) for names in (recipe.GAIN, recipe.DATA_SET_GAIN))
    said = f"over it is {gain}, or from one mean for each data set {by_data_set}: better in {found['won']}, "
    assert f"{said}worse in {found['lost']}, undecided in {found['undecided']}." in readme
    (behind,) = re.findall(r"In (\d+ of \d+) settings the mean", (ROOT / "results/confirmation/table.md").read_text())
    assert f"In {behind} settings the mean of another method is more than one point higher" in prose("evidence")
    five = developed().query("dataset_model == 'hwu64_5 · minilm'").set_index("configuration")["score"]
    gain = 100 * (five["full [label_names=True]"] - five["full"])
    assert f"with five requests of each intent, `full` gains {gain:.1f} points from the names" in prose("baselines")


def is_second(setting):
    """Whether a setting is of a model on which the rule of `progressive` was not chosen."""
    return setting.split(" · ")[1] not in readme.MODELS


def test_what_the_second_models_change_is_what_the_table_says():
    table = claimed()[~recipe.of_the_plan(claimed()["dataset_model"])]
    second = table["dataset_model"].map(is_second)
    others = table[second & (table["configuration"] == "conventional (tuned)")].set_index("dataset_model")
    least, most = (answers.points(-others["mean"].agg(each)) for each in ("max", "min"))
    assert f"vary from {least} to {most}" in prose("baselines")
    columns = ["mean", "points_low", "points_high"]
    lost = [answers.points(*others.loc[f"{name} · minilm_l3", columns]) for name in ("subj", "trec")]
    assert f"better on SUBJ and TREC**, by {lost[0]} and {lost[1]} points" in (ROOT / "README.md").read_text()
    tagged = table[table["dataset_model"] == "crossner_ai · minilm_l3_crf"].set_index("configuration")["score"]
    usual, probe = (f"{100 * tagged[name]:.1f}" for name in ("conventional (tuned)", "linear_probe"))
    assert f"entity F1 of {usual}%, and `linear_probe` {probe}." in prose("baselines")


def test_what_other_settings_of_the_tuned_baselines_reach_on_requests_is_what_the_records_say():
    planned, added = (tables.records(ROOT / "results" / f"confirmation{end}", "completed") for end in ("", "-added"))
    columns, gains = [], {"full": {}, "conventional": {}}
    minilm = ("banking77_5", "banking77_10", "clinc150_5", "clinc150_10")
    for dataset, model in (*((name, "minilm") for name in minilm), ("banking77_10", "minilm_l3")):
        of, more = (each[(each["dataset"] == dataset) & (each["model"] == model)] for each in (planned, added))
        of, more = (dict(iter(each.groupby("method"))) for each in (of, more))
        low, high = (more["full"][more["full"]["config.learning_rate"] == rate] for rate in (1e-4, 3e-4))
        ours, usual = of["progressive"], more["conventional"]
        scores = [of["full"], low, high, of["conventional"], usual, ours]
        column = [f"{100 * part['score'].mean():.1f}" for part in scores]
        for name, theirs in (("full", high), ("conventional", usual)):
            found = tables.paired(*(tables.by_seed(part) for part in (ours, theirs)))
            assert found["seeds"] == 5
            share = np.divide(*(sum(record["cost"]["flops"] for record in part["record"]) for part in (ours, theirs)))
            column.append(f"{answers.points(found['mean'], found['low'], found['high'])}, {100 * share:.0f}%")
            gains[name][f"{dataset} · {model}"] = found["mean"]
        columns.append(column)
    page = (ROOT / "docs/baselines.md").read_text()
    rows = re.findall("^  " + r"\| .* " + 5 * r"\| (.*\d.*) " + r"\|$", page, re.M)
    assert rows[1:] == [*zip(*columns, strict=True)]
    readme = " ".join((ROOT / "README.md").read_text().split())
    table = claimed()[claimed()["configuration"] == "full (tuned)"]
    table = table[~recipe.of_the_plan(table["dataset_model"]) & table["verdict"].isin(recipe.WON)]
    (tuned,) = recipe.counts(table).itertuples()
    best = [min(gains["full"].get(row.dataset_model, 1), -row.mean) for row in table.itertuples()]
    said = f"the mean gain over `full` {{}}is {answers.points(sum(best) / len(best), *stats.t_interval(best))}"
    instead = f"{said} points and not {answers.points(tuned.gain, tuned.low, tuned.high)}."
    assert instead.format(f"on the {COUNTS[len(best)]} settings of the confirmation ") in prose("baselines")
    assert stats.t_interval(best)[0] > 0
    assert said.format("") in prose("evidence")
    assert said.format("") in readme
    usual = claimed()[claimed()["configuration"] == "conventional (tuned)"].set_index("dataset_model")["mean"]
    assert all(gain > -usual[setting] for setting, gain in gains["conventional"].items())
    first = [gain for row, gain in zip(table.itertuples(), best, strict=True) if not is_second(row.dataset_model)]
    alone = answers.points(sum(first) / len(first), *stats.t_interval(first))
    assert f"Without the second models, it is {alone}." in prose("baselines")
    by_score = table.groupby("score_name").indices["accuracy"]
    accuracy = [best[at] for at in by_score]
    alike = answers.points(sum(accuracy) / len(accuracy), *stats.t_interval(accuracy))
    means = recipe.by_data_set(pd.Series(best), table["dataset_model"].reset_index(drop=True))
    each = answers.points(means.mean(), *stats.t_interval(means))
    assert f"Where accuracy is the score, it is {alike}, and from one mean for each data set {each}." in prose(
        "baselines"
    )
    for page in (readme, prose("evidence")):
        assert f"{alone} without the second models, and {alike} where accuracy is the score." in page
    assert "second configuration of `conventional` is worse there." in prose("evidence")


def test_the_published_figure_of_mtebs_probe_is_what_it_reaches_here():
    probes = tables.records(ROOT / "results/confirmation-added", "completed").query("method == 'mteb_probe'")
    scores = 100 * probes["score"]
    assert probes["n_labels"].tolist() == 5 * [8 * 77]
    said = f"{scores.mean():.1f} here ({scores.min():.1f} to {scores.max():.1f} in five draws"
    assert f"is 80.0, and MTEB's probe has {said}" in prose("baselines")
    solved = tables.records(ROOT / "results/confirmation-added", "completed").query("method == 'linear_probe'")
    drawn = [{record["data"]["subset_sha256"] for record in each["record"]} for each in (solved, probes)]
    assert drawn[0] == drawn[1]
    assert f"has {100 * solved['score'].mean():.1f} on the same draws" in prose("baselines")


def test_what_the_searches_might_have_missed_is_what_they_say():
    chosen = tuning.chosen(ROOT / "results/tuning").set_index("search")
    chosen = chosen[chosen["tried"] == "12 of 12"]
    lower = 100 * (chosen["score"] - chosen["fewer epochs"]).dropna()
    assert f"it is lower by {lower.min():.1f} to {lower.max():.1f} points" in prose("baselines")
    far = {tuple(name.rsplit("-", 1)) for name in lower[lower > 5].index}
    on_tags = {(f"{method}-tokens", size) for method in ("conventional", "full") for size in ("32", "100")}
    assert far == on_tags | {("conventional-image", size) for size in ("32", "100", "500")}
    said = "by more than 5 on tags with 32 and 100 labels and for `conventional` on images"
    assert said in prose("baselines")
    apart = {}
    for name, row in chosen.iterrows():
        (path,) = (ROOT / "results/tuning/search").glob(f"{name}-tpe-*.json")
        tried = pd.DataFrame(json.loads(path.read_text())["trials"])
        spent = tried.loc[tried["config"] == row["setting"], "flops"].item()
        apart[name] = 100 * (tried.loc[tried["flops"] == spent, "score"].max() - row["score"])
    apart = {name: f"{points:.1f}" for name, points in apart.items() if points > 0}
    assert apart.keys() == {"full-image-500", "conventional-tokens-500"}
    said = f"With 500 labels, this one is {apart['full-image-500']} points below the other for `full` on images, and "
    assert f"{said}{apart['conventional-tokens-500']} points for `conventional` on tags" in prose("baselines")
    usual, full = (lower[f"{name}-text-100"] for name in ("conventional", "full"))
    assert f"`conventional` scored {usual:.1f} and `full` {full:.1f} points less" in prose("baselines")
    most = f"{COUNTS[len(lower)]} of the {COUNTS[len(chosen)]}"
    assert f"{most.capitalize()} complete searches" in prose("baselines")
    lower, chosen = (of.drop(ONLY_FOR_THE_STUDY, errors="ignore") for of in (lower, chosen))
    most = f"{COUNTS[len(lower)]} of the {COUNTS[len(chosen)]} searches for the confirmation chose the largest"
    for page in (prose("evidence"), (ROOT / "README.md").read_text()):
        assert most.capitalize() in page


def test_where_setfit_stands_is_what_the_table_says():
    table = pd.read_csv(ROOT / "results/confirmation/table.csv").query("configuration.str.startswith('setfit')")
    few = {
        (row.dataset_model.split(" ")[0], row.configuration): (answers.points(row.mean), row.seeds)
        for row in table[table["seeds"] < stats.LEAST_SEEDS].itertuples()
    }
    assert len(few) == 5
    of = {key: gain for key, (gain, _) in few.items()}
    seeds = {key: COUNTS[count] for key, (_, count) in few.items()}
    sst2, news = (f"{name} {of[key, 'setfit']}" for name, key in (("SST-2", "sst2"), ("AG News", "ag_news")))
    said = f"{sst2} and, by `setfit_20`, {of['sst2', 'setfit_20']} ({seeds['sst2', 'setfit']} seeds each); {news} "
    said += f"({seeds['ag_news', 'setfit']} seed) and {of['ag_news', 'setfit_20']} ({seeds['ag_news', 'setfit_20']}); "
    said += f"BANKING77 with five examples {of['banking77_5', 'setfit_20']} by `setfit_20`"
    assert said in prose("baselines")
    full = table[table["seeds"] >= 5].set_index(["dataset_model", "n_labels"])
    assert full.groupby(level=[0, 1]).ngroups == 6
    better = full[full["verdict"] != "undecided"]
    assert (better["verdict"] == "better").all()
    assert {*better.index} == {("trec · minilm", 48)}
    runs = tables.records(ROOT / "results/confirmation", "completed").query("dataset == 'trec' and n_labels == 48")
    hits = [
        [each["metrics"]["hits"] for each in runs[runs["method"] == name].sort_values("seed")["record"]]
        for name in ("setfit", "setfit_20")
    ]
    assert hits[0] == hits[1]
    assert "two configurations have the same results there, so this loss counts twice below" in prose("evidence")
    (gain,) = {answers.points(row.mean, row.points_low, row.points_high) for row in better.itertuples()}
    least, most = full["flops"].min(), full["flops"].max()
    for page in (prose("baselines"), " ".join((ROOT / "README.md").read_text().split())):
        assert f"by {gain} points" in page
        assert f"at {least:.0f} to {most:.0f} times the FLOPs" in page
    usual, paper = (-100 * full.query(f"configuration == '{name}'")["mean"] for name in ("setfit", "setfit_20"))
    assert usual.idxmax() == paper.idxmax() == ("sst2 · minilm", 16)
    assert f"behind by {usual.max():.1f} points and, by `setfit_20`, {paper.max():.1f}." in prose("baselines")
    assert f"by {gain[1:5]} points" in prose("evidence")


def test_the_share_of_intervals_in_readme_is_that_of_the_simulations():
    rows = re.findall(r"^\| (?:3|5|10) \| .*%.*$", (ROOT / "docs/summaries.md").read_text(), flags=re.M)
    shares = [float(share) for row in rows for share in re.findall(r"([\d.]+)%", row)[1::2]]
    assert len(shares) == 18 * 3
    assert f"{min(shares)} to {max(shares)}% of the 95% intervals" in (ROOT / "README.md").read_text()


def test_the_demo_has_as_many_runs_as_is_said():
    runs_of = len(grids.plan(grids.read_grid("notebooks/grids/demo.yaml")))
    assert f"{runs_of} runs" in (ROOT / "README.md").read_text()


def test_the_python_page_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    scope = {}
    for block in blocks("docs/python.md", "python"):
        exec(block, scope)
    assert set(scope["frame"]["config.method"]) == {"linear_probe", "tfidf"}
    assert len(list((tmp_path / ".cache/lrtl/tables").rglob("*.parquet"))) == 1


def test_every_page_is_in_the_index_and_in_the_navigation_of_the_site():
    index, site = (ROOT / "docs/README.md").read_text(), (ROOT / "docs/mkdocs.yml").read_text()
    assert [page.name for page in PAGES[1:] if page.name != "README.md" and f"({page.name})" not in index] == []
    assert [page.name for page in PAGES[1:] if f": docs/{page.name}\n" not in site] == []


def test_the_records_page_reads_a_record(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    scope = {}
    for block in blocks("docs/records.md", "python"):
        exec(block, scope)
    assert capsys.readouterr().out.startswith(scope["record"]["config"]["method"])


def test_the_records_page_has_every_key_and_no_other():
    page = (ROOT / "docs/records.md").read_text()
    stated = set(re.findall(r"`(\w+)`", page[page.index("## The keys") :]))
    paths = [path for study in ("study", "search") for path in ROOT.glob(f"results/{study}/runs/*/*.json")]
    held = set().union(*(keys(json.loads(path.read_text())) for path in paths))
    assert held - stated == set()
    words = {"package", "mirror", "hub", "folder", "completed", "failed", *METHODS}  # values
    later = {"split", "notes", "repeats", "train", "test", "across", "dropped", "host"}  # since the committed records
    later |= {"cached_seconds", "cached_predict_seconds", "penalty", "left_out_loss", "names_fit", "note"}
    later |= {"answers", "calibration_error", "temperature", "scikit_learn", "setfit", "sentence_transformers"}
    later |= RunConfig.model_fields.keys()
    parts = {"data", "metrics", "validation", "cost", "model", "curve", "environment"}
    assert stated - held - words - later - parts == set()


def test_the_catalog_page_has_every_name_of_the_catalogs():
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs/catalog.md").read_text()))
    assert {*TASKS, *MODELS, *VERSIONS} <= named, "docs/catalog.md must name each data set, model and method"


def test_every_metric_is_in_the_help_and_explained():
    (option,) = (each for each in get_args(common.Metric) if isinstance(each, OptionInfo))
    page = (ROOT / "docs/summaries.md").read_text()
    for name in METRICS:
        assert name in option.help
        assert f"| `{name}` |" in page


def keys(record):
    """Of a record and its parts, less those that are names of parameters, labels or phases."""
    inner = {
        part: set(record[part] or {}) for part in ("data", "metrics", "validation", "cost", "model", "environment")
    }
    found = set(record).union(*inner.values(), *map(set, record["curve"]), {"asked"})
    found |= set((record["data"] or {}).get("source", {}))
    for scores in ((record["metrics"] or {}).get("per_class") or {}).values():
        found |= set(scores)
    return found


def test_the_clusters_page_asks_slurm_for_what_it_says():
    (words,) = [words for words in commands(ROOT / "docs/clusters.md") if "--dry-run" in words]
    pairs = [words[i + 1] for i, word in enumerate(words) if word == "--slurm"]
    script = engines.job_script(slurm_parameters(pairs))
    for line in ("#SBATCH -p gpu", "#SBATCH --gres=gpu:1", "export LRTL_MIRROR=/data/mirror HF_HUB_OFFLINE=1"):
        assert line in script.splitlines()
