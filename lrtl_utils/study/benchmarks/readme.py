"""The four answers, from what the summary notebooks read: in short in README, in full beside the records."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lrtl_utils.errors import InputError, counted
from lrtl_utils.files import read_text, write_text
from lrtl_utils.runs import store
from lrtl_utils.study import answers, stats, tables
from lrtl_utils.study.benchmarks import recipe
from lrtl_utils.study.benchmarks.published import HERE, PUBLISHED, few_shot
from lrtl_utils.study.report import SECTIONS, committed_sources

MARKS = ("<!-- the four answers: `make figures` writes them -->", "<!-- end of the four answers -->")
CLAIM = ("<!-- the claim: `make figures` writes it -->", "<!-- end of the claim -->")
EVIDENCE, NOTE = "docs/evidence.md", "docs/progressive.md"  # beside README: pages with marks of their own
LOST = ("<!-- the losses: `make figures` writes them -->", "<!-- end of the losses -->")
PARTS = ("<!-- the gains: `make figures` writes them -->", "<!-- end of the gains -->")
OTHERS = ("<!-- published figures: `make figures` writes them -->", "<!-- end of the published figures -->")
EARNED = ("<!-- what each piece earns: `make figures` writes it -->", "<!-- end of what each piece earns -->")
DEVELOPED = "recipe-2/table.csv"  # beside the study: `recipe.compared` on the development sets
CHANGED_COPIES = "_wrong_names|_lowercased"  # of development sets, made to mislead
# Of each piece, what leaves it out, and what it does.
PIECES = {
    "cache": ("without=cache", "keeps the output of frozen blocks"),
    "buckets": ("without=buckets", "puts texts of similar length into a batch"),
    "warm_start": ("without=warm_start", "starts the blocks from the solved head, as `lp_ft` does (Kumar et al. 2022)"),
    "soften": ("without=soften", "scales the logits of the solved head"),
    "average": ("without=average", "leaves the weights of an image model halfway between the rung's start and its end"),
    "decay": ("without=decay", "gives lower blocks lower rates (Howard and Ruder 2018)"),
    "tail": ("without=tail", "reads the end of a long text too"),
    "label_names": ("label_names=False", "adds a sentence with the name of each class as four examples"),
    "layers": ("layers=1.0", "lets the head of tags or images read the upper half of the blocks"),
    "word_shape": ("word_shape=False", "lets the head of tags read capitals and digits"),
    "penalty": ("penalty=1.0", "chooses the penalty of the head by its leave-one-out error (otherwise, it is 1)"),
}
MODELS = ("minilm", "minilm_crf", "efficientnet_lite0")  # on which the rule was chosen
INTENTS = ("banking77", "clinc150")  # where `progressive` reads the names of many classes, and tuned `full` does not
USUAL = 100  # labels: of the settings of a data set and model, the nearest to this is shown
TUNED = [f"{method} (tuned)" for method in tables.WITH_RATE]
CLAIMED = 5  # seeds, at least, of whatever README claims
MOST_BYTES = 1_000_000


def refresh(path: Path, folder: Path) -> Path:
    """Write the answers in short between the marks of the file at `path`, and in full beside the records.

    `folder` holds the notebooks, which name the records of the study. Beside these are those of the confirmation, if
    any: its claim goes between marks of its own, its picture is drawn, and its gains in parts of the settings, its
    losses, what each piece earns and what others published go between marks of two other pages. Returns `path`;
    `InputError` if a page lacks its marks.
    """
    study, *others = committed_sources(folder)
    confirmation, confirmed, compared, beside = study.parent / recipe.CONFIRMATION, None, None, []
    text, note, developed = read_text(path, MOST_BYTES), path.parent / NOTE, study.parent / DEVELOPED
    for marks in [MARKS, CLAIM] if confirmation.is_dir() else [MARKS]:
        text = _between(path, text, marks, "")  # refused before any run is read
    if developed.is_file():
        pieces = _markdown(earned(pd.read_csv(developed)))
        write_text(note, _between(note, read_text(note, MOST_BYTES), EARNED, pieces))
    frame = tables.read([study, *others])
    found = [ask(frame) for ask, *_ in SECTIONS]
    if confirmation.is_dir():
        from lrtl_utils.study import figures  # slow to import, and all else here is words

        confirmed = confirmed_runs(confirmation)
        compared = recipe.compared(confirmed)
        figures.style()
        figures.save(figures.headline(gains(confirmed, tables.TUNED)), confirmation, "headline")
        claimed = claim(compared, recipe.planned(folder / "grids" / f"{recipe.CONFIRMATION}.yaml"))
        text = _between(path, text, CLAIM, claimed)
        beside = ["", _markdown(against_tuned(confirmed)), ""]
        evidence = path.parent / EVIDENCE
        for page, marks, content in (
            (evidence, PARTS, _markdown(parts(compared))),
            (evidence, LOST, lost(compared, os.path.relpath(confirmation / "table.md", evidence.parent))),
            (note, OTHERS, beside_published(confirmed)),
        ):
            write_text(page, _between(page, read_text(page, MOST_BYTES), marks, content))
    page = os.path.relpath(study / "README.md", path.parent)
    link = f"- [The answers of the study]({page}) cover each of its data sets, with pictures."
    short = "\n".join(["", *in_short(frame, confirmed, compared), *beside, link])
    write_text(path, _between(path, text, MARKS, short))
    write_text(study / "README.md", "\n".join(in_full(found, frame, study, folder)))
    return path


def confirmed_runs(confirmation: Path) -> pd.DataFrame:
    """`recipe.runs` of the configurations that have five seeds or more in a setting: with fewer nothing is claimed."""
    frame = recipe.runs(confirmation)
    seeds = frame.groupby(["dataset", "model", "n_labels", "configuration"])["seed"].transform("nunique")
    return frame[seeds >= CLAIMED]


def _between(path: Path, text: str, marks: tuple[str, str], content: str) -> str:
    """The text of the file at `path` with this content between the marks, each of which is a line."""
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise InputError(f"{path} must have a line {marks[0]} and, below it, a line {marks[1]}.")
    return f"{before}{begin}\n{content}\n{end}{after}"


def _markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True)


def claim(table: pd.DataFrame, planned: int) -> str:
    """Against which tuned baselines `progressive` is confirmed, from a table of `recipe.compared`.

    Only data sets that are not of the plan count. Until as many settings as were `planned` have run, nothing is
    confirmed, and the gains so far are given.
    """
    table = _beside_tuned(table[~recipe.of_the_plan(table["dataset_model"])])
    if table.empty:
        return f"`{tables.OURS}` and a tuned baseline have not run with three seeds in any setting yet."
    settings = len(table[recipe.AT].drop_duplicates())
    confirmed, others = {}, {}  # by baseline, a sentence on the gain over it
    for found in recipe.counts(table).to_dict("records"):
        flops = answers.span(1 / table["flops"][table["configuration"] == found["configuration"]], answers.share)
        holds = found["settings"] >= planned and found["low"] > 0 and not found["lost"]
        baseline = f"`{found['configuration']}`"
        (confirmed if holds else others)[baseline] = (
            f"Its mean gain over {baseline} is {answers.points(*map(found.get, recipe.GAIN))} points, with {flops} of "
            f"the baseline's FLOPs. It is better in {counted(found['won'], 'setting')}, worse in {found['lost']} and "
            f"undecided in {found['undecided']}."
        )
    ours = f"`{tables.OURS}`, this project's own method,"
    if settings < planned:
        said = f"**{ours} was compared with {' and '.join(others)}.**"
    else:
        judged = (("confirmed", confirmed), ("not confirmed", others))
        verdict = ", but ".join(f"{word} against {' and '.join(names)}" for word, names in judged if names)
        said = (
            f"**By a criterion that was fixed beforehand, {ours} is {verdict}.** The criterion is that no setting "
            "shows it to be worse, and that the interval of its mean gain is above zero."
        )
    ran = f"All {planned}" if settings >= planned else f"So far {settings} of {planned}"
    over = "\n".join(f"- {gained}" for gained in (confirmed | others).values())
    return (
        f"{said}\n\n{over}\n\nBoth baselines are tuned: `conventional` trains all layers "
        "as a typical example script does, and `full` trains lower layers at lower rates. A setting is a data set, a "
        f"model and a number of labels; the rule of `{tables.OURS}`, for what to train and how, was chosen on other "
        f"data sets. {ran} planned settings have run. Brackets hold 95% intervals, which treat settings as "
        "independent. An early version of the method had been run on these data sets, and a description of its results "
        "shaped the next version."
    )


def _beside_tuned(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of `recipe.compared` that are of a tuned baseline, with three seeds or more."""
    return table[table["configuration"].isin(TUNED) & table["verdict"].isin(recipe.WON)]


def parts(table: pd.DataFrame) -> pd.DataFrame:
    """The mean gains over the tuned baselines in parts of the settings, in words, from a table of `recipe.compared`."""
    table = _beside_tuned(table)
    of_the_plan = recipe.of_the_plan(table["dataset_model"])
    unseen = table[~of_the_plan]
    usual = unseen["dataset_model"].str.split(" · ").str[1].isin(MODELS)
    intents, accuracy = unseen["dataset_model"].str.startswith(INTENTS), unseen["score_name"] == "accuracy"
    rows = [
        _gained("all", unseen),
        _gained("all, by one mean for each data set", unseen, recipe.DATA_SET_GAIN),
        *(_gained(f"scored by {name}", part) for name, part in unseen.groupby("score_name")),
        _gained("without the second models", unseen[usual]),
        _gained("without BANKING77 and CLINC150", unseen[~intents]),
        _gained("without the second models, BANKING77 and CLINC150", unseen[usual & ~intents]),
        _gained("scored by accuracy, without BANKING77 and CLINC150", unseen[accuracy & ~intents]),
        _gained("data sets of the original plan, which helped to choose the rule", table[of_the_plan]),
    ]
    return pd.DataFrame(rows).fillna("")


def _gained(part: str, table: pd.DataFrame, columns: Sequence[str] = recipe.GAIN) -> dict[str, str]:
    """A row of `parts`; the gain is in these columns of `recipe.counts`."""
    return {"settings": part} | {
        f"mean gain over {found['configuration']}, in points": f"{answers.points(*map(found.get, columns))}; better in "
        f"{found['won']}, worse in {found['lost']}, undecided in {found['undecided']}"
        for found in recipe.counts(table).to_dict("records")
    }


def gains(confirmed: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """`tables.gains` over a tuned baseline on the data sets of `recipe.runs` that are not of the plan.

    There is a row for each data set and model, at the number of labels nearest to `USUAL`. Verdicts are corrected over
    all settings, as on the page of these results.
    """
    found = tables.gains(confirmed, baseline, everywhere=True)
    found = found[~recipe.of_the_plan(found["dataset_model"])]
    away = np.abs(np.log(found["n_labels"].astype(float) / USUAL))
    nearest = found.loc[away.groupby(found["dataset_model"]).idxmin()]
    return nearest.assign(dataset_model=_titles(nearest) + " " + nearest["dataset_model"].str.split(" ", n=1).str[1])


def earned(table: pd.DataFrame) -> pd.DataFrame:
    """What each piece of `progressive` earns over data sets, in words: a row for each of `PIECES` that was left out.

    `table` is of `recipe.compared`. Settings with fewer than three seeds, and copies of data sets that were made to
    mislead, are left out.
    """
    table = table[~table["dataset_model"].str.contains(CHANGED_COPIES) & table["points_low"].notna()]
    rows = []
    for piece, (change, does) in PIECES.items():
        part = table[table["configuration"] == f"{tables.OURS} [{change}]"]
        if part.empty:
            continue
        means = recipe.by_data_set(part["mean"], part["dataset_model"])
        each = [answers.points(*row) for row in part[["mean", "points_low", "points_high"]].to_numpy()]
        few = len(means) < stats.LEAST_SEEDS  # too few for an interval of their mean
        rows.append(
            {
                "piece": f"`{piece}`",
                "what it does": does,
                "settings": len(part),
                "data sets": len(means),
                "points without it": "; ".join(each) if few else answers.points(means.mean(), *stats.t_interval(means)),
                "FLOPs without it": answers.span(part["flops"], "{:.2f}".format),
                "shown to gain": sum(part["verdict"] == "worse"),
                "shown to harm": sum(part["verdict"] == "better"),
            }
        )
    return pd.DataFrame(rows)


def _titles(table: pd.DataFrame) -> pd.Series:
    """The names of the data sets of a table with a `dataset_model`."""
    return table["dataset_model"].str.split(" ").str[0].replace(PUBLISHED["titles"])


def _places(rows: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """The name of the data set of each row, with the number of labels and the model where the table has several."""
    several = table.groupby(_titles(table))[["n_labels", "dataset_model"]].nunique() > 1
    places = []
    for title, size, name in zip(_titles(rows), rows["n_labels"], rows["dataset_model"], strict=True):
        words = {"n_labels": f"{size} labels", "dataset_model": name.split(" · ")[-1]}
        given = [word for column, word in words.items() if several.loc[title, column]]
        places.append(f"{title}{' with ' * bool(given)}{' and '.join(given)}")
    return places


def in_short(frame: pd.DataFrame, confirmed: pd.DataFrame | None, compared: pd.DataFrame | None) -> Iterator[str]:
    """Each question with the sentence that answers it.

    Answered by the runs of the confirmation on data sets that are not of the plan, if there are any, except how many
    labels are needed, which takes a curve: by those of the study, `frame`. What is real is what the tables say.
    `confirmed` is from `recipe.runs`, and `compared` from `recipe.compared`; None without a confirmation.
    """
    other = None if confirmed is None else confirmed[~recipe.of_the_plan(confirmed["dataset"])]
    for ask, *_ in SECTIONS:
        asked = frame if other is None or ask == answers.how_much else other
        answer = ask(asked)
        said = answer.headline if other is None or ask != answers.real else shown(compared)
        if other is not None and ask == answers.which:
            led = answer.table[answer.table["variants"].str[0] == tables.OURS]
            led = led[(led["compared"] > 0) & ~led["dataset_model"].str.endswith(tables.ALL_MODELS)]
            said += f" {tables.OURS} leads on {'; '.join(dict.fromkeys(_titles(led)))}." if len(led) else ""
        if other is not None and ask == answers.how_much:
            helped = ", ".join(dict.fromkeys(map(tables.titled, frame["dataset"])))
            said += f" These pairs are on {helped}, which helped to choose the rule; the other data sets here did not."
        yield " ".join([f"- **{answer.question}**", said, *store.outdated(asked["record"])])


def lost(table: pd.DataFrame, page: str) -> str:
    """How often `progressive` is better than any other method in the table of `recipe.compared`, and where it is worse.

    The data sets of the plan, on which its rule was chosen, are among them. `page` shows each comparison.
    """
    judged = table[table["verdict"].isin(recipe.WON) & ~recipe.is_piece(table)]
    lower, ahead, undecided = (judged[judged["verdict"] == verdict] for verdict in recipe.WON)
    where = pd.Series(map(tables.titled, _places(ahead, judged)), ahead["configuration"], str).groupby(level=0)
    than = "; ".join(f"than {name} on {', on '.join(places)}" for name, places in where)
    in_settings = f", in {counted(len(ahead[recipe.AT].drop_duplicates()), 'setting')} ({than})" if than else ""
    return (
        f"Of all {counted(len(judged), 'difference')} between `{tables.OURS}` and another method, tuned or not, on "
        "the data sets of the confirmation (some are of the original plan, and helped to choose its rule), "
        f"{len(lower)} show `{tables.OURS}` to be better, {len(ahead)} to be worse{in_settings}, "
        f"and {len(undecided)} are undecided ([each of them]({page})). P-values are corrected for multiple "
        "comparisons, separately for each method."
    )


def beside_published(confirmed: pd.DataFrame) -> str:
    """A table of what others published on splits of the confirmation, and what `progressive` reaches on the same."""
    table = few_shot(confirmed[confirmed["method"] == tables.OURS])
    table = table[table["differs"].isna() & table["dataset"].isin(PUBLISHED["titles"])]
    if table.empty:
        return ""
    said = [f"{row.score:.3f}{answers.between(row.low, row.high)}" for row in table.itertuples()]
    ours = table["source"] == HERE
    system = table["model"] + (" (" + table["source"] + ")").mask(ours, "")
    table = table.assign(split=table["dataset"].replace(PUBLISHED["titles"]), system=system, said=said)
    wide = table.pivot(index="split", columns="system", values="said").fillna("")
    wide = wide[[*system[ours].unique(), *system[~ours].unique()]].reset_index()
    return _markdown(wide)


def shown(table: pd.DataFrame) -> str:
    """How many differences from the tuned baselines are decided on data sets that are not of the plan, and where.

    `table` is of `recipe.compared`.
    """
    table = _beside_tuned(table[~recipe.of_the_plan(table["dataset_model"])])
    lower, higher, undecided = (table[table["verdict"] == verdict] for verdict in recipe.WON)
    on, at = ("; ".join(dict.fromkeys(each)) for each in (_titles(lower), _places(higher, table)))
    on, at = (f" ({each})" if each else "" for each in (on, at))
    return (
        f"Of {counted(len(table), 'difference')} between {tables.OURS} and a tuned baseline on these data sets, "
        f"with p-values corrected for each baseline, {len(lower)} show it to be better{on}, "
        f"{len(higher)} to be worse{at}, and {len(undecided)} are undecided."
    )


def against_tuned(confirmed: pd.DataFrame) -> pd.DataFrame:
    """`progressive` beside the tuned baselines, in words: the `gains` over each.

    There is a row for each data set, with the model on which the rule was chosen.
    """
    table = None
    for baseline in TUNED:
        found = gains(confirmed, baseline)
        found = found[found["dataset_model"].str.split(" · ").str[1].isin(MODELS)]
        shown = pd.DataFrame(
            {
                "data set, model": found["dataset_model"].map(tables.titled),
                "labels": found["n_labels"],
                f"`{tables.OURS}`": [
                    f"{row.score:.3f}{answers.between(row.score_low, row.score_high)}" for row in found.itertuples()
                ],
                f"points over {baseline}, share of its FLOPs and seconds": [
                    f"{answers.points(row.mean, row.low, row.high)}, {row.verdict}, {answers.share(row.flops_ratio)}"
                    + ("" if np.isnan(row.seconds_ratio) else f", {answers.share(row.seconds_ratio)}")
                    for row in found.itertuples()
                ],
            }
        )
        table = shown if table is None else table.merge(shown, how="outer", on=list(table.columns[:3]))
    return table.fillna("")


def in_full(found: Sequence[answers.Answer], frame: pd.DataFrame, results: Path, folder: Path) -> Iterator[str]:
    """Each question with its answer, a sentence for each data set and model, and the figure with its notebook."""
    yield "# The four answers of this study\n"
    yield (
        "`METHOD (tuned)` is a method with tuned hyperparameters. Where a method ran with several settings, brackets "
        "give the values.\n"
    )
    yield (
        f"The rule of `{tables.OURS}` was chosen on train rows of these data sets, and `conventional` and `full` were "
        "tuned on train rows of most of them ([what each was given](../../docs/baselines.md)). They have fewer rows "
        "than published ([how many, and what has run so far](../README.md)).\n"
    )
    yield from (f"{sentence}\n" for sentence in store.outdated(frame["record"]))
    for answer, (_, picture, caption, notebook) in zip(found, SECTIONS, strict=True):
        place = os.path.relpath(folder / f"{notebook}.ipynb", results)
        yield f"## {answer.question}\n\n{answer.headline} ([{notebook}]({place}))\n"
        yield "".join(f"- {one}\n" for one in answer.each)
        if (results / "figures" / f"{picture}.png").is_file():
            yield f"[![{caption.format(score=tables.metrics_of(frame))}](figures/{picture}.png)]({place})\n"
