"""The four answers, from what the summary notebooks read: in short in README, in full beside the records."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lrtl_utils.errors import InputError, counted
from lrtl_utils.files import read_text, write_text
from lrtl_utils.runs import store
from lrtl_utils.study import answers, figures, tables
from lrtl_utils.study.benchmarks import recipe
from lrtl_utils.study.benchmarks.published import HERE, PUBLISHED, few_shot
from lrtl_utils.study.report import SECTIONS, committed_sources

MARKS = ("<!-- the four answers: `make figures` writes them -->", "<!-- end of the four answers -->")
CLAIM = ("<!-- the claim: `make figures` writes it -->", "<!-- end of the claim -->")
USUAL = 100  # labels: of the settings of a data set and model, the nearest to this is shown
TUNED = [f"{method} (tuned)" for method in tables.WITH_RATE]
MOST_BYTES = 1_000_000


def refresh(path: Path, folder: Path) -> Path:
    """Write the answers in short between the marks of the file at `path`, and in full beside the records.

    `folder` holds the notebooks, which name the records of the study. Beside these are those of the confirmation, if
    any: its claim goes between marks of its own, and its picture is drawn. Returns `path`; `InputError` if it lacks the
    marks.
    """
    study, *others = committed_sources(folder)
    confirmation, confirmed, compared = study.parent / recipe.CONFIRMATION, None, None
    text = read_text(path, MOST_BYTES)
    for marks in [MARKS, CLAIM] if confirmation.is_dir() else [MARKS]:
        text = _between(path, text, marks, "")  # refused before any run is read
    frame = tables.read([study, *others])
    found = [ask(frame) for ask, *_ in SECTIONS]
    if confirmation.is_dir():
        confirmed = recipe.runs(confirmation)
        compared = recipe.compared(confirmed)
        figures.style()
        figures.save(figures.headline(gains(confirmed, tables.TUNED)), confirmation, "headline")
        text = _between(path, text, CLAIM, claim(compared))
    short = "\n".join(in_short(frame, confirmed, compared, study, path.parent))
    write_text(path, _between(path, text, MARKS, f"\n{short}"))
    write_text(study / "README.md", "\n".join(in_full(found, frame, study, folder)))
    return path


def _between(path: Path, text: str, marks: tuple[str, str], content: str) -> str:
    """The text of the file at `path` with this content between the marks, each of which is a line."""
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise InputError(f"{path} must have a line {marks[0]} and, below it, a line {marks[1]}.")
    return f"{before}{begin}\n{content}\n{end}{after}"


def claim(table: pd.DataFrame) -> str:
    """The gain over tuned `conventional` on data sets that are not of the plan, from a table of `recipe.compared`."""
    table = table[~recipe.of_the_plan(table["dataset_model"]) & (table["configuration"] == tables.TUNED)]
    table = table[table["verdict"].isin(recipe.WON)]
    if table.empty:
        return f"`{tables.OURS}` and tuned `{tables.BASELINE}` have not run with three seeds in any setting yet."
    (found,) = recipe.counts(table).to_dict("records")
    shares = answers.shares(1 / table["flops"])
    return (
        f"**`{tables.OURS}`, this project's own method, trains with {shares} of the FLOPs of tuned `{tables.BASELINE}` "
        f"fine-tuning. Over the {counted(found['settings'], 'setting')} (data set, model, number of labels) that have "
        f"run so far, its score differs by {answers.points(found['gain'], found['low'], found['high'])} points on "
        f"average (95 % interval in brackets): it is better in {found['won']}, worse in {found['lost']} and undecided "
        f"in {found['undecided']}. No example of these data sets helped to choose its rule.**"
    )


def gains(confirmed: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """`tables.gains` over a tuned baseline on the data sets of `recipe.runs` that are not of the plan.

    There is a row for each data set and model, at the number of labels nearest to `USUAL`. Verdicts are corrected over
    all data sets and numbers of labels, as on the page of these results.
    """
    found = tables.gains(confirmed, baseline, everywhere=True)
    found = found[~recipe.of_the_plan(found["dataset_model"])]
    away = np.abs(np.log(found["n_labels"].astype(float) / USUAL))
    nearest = found.loc[away.groupby(found["dataset_model"]).idxmin()]
    names = nearest["dataset_model"].str.partition(" ")  # columns: data set, space, model
    return nearest.assign(dataset_model=_titles(nearest) + " " + names[2])


def _titles(table: pd.DataFrame) -> pd.Series:
    """The names of the data sets of a table with a `dataset_model`."""
    return table["dataset_model"].str.partition(" ")[0].replace(PUBLISHED["titles"])


def in_short(
    frame: pd.DataFrame, confirmed: pd.DataFrame | None, compared: pd.DataFrame | None, results: Path, root: Path
) -> Iterator[str]:
    """Each question with the sentence that answers it, and the table of the confirmation.

    Answered by the runs of the confirmation on data sets that are not of the plan, if there are any, except how many
    labels are needed, which takes a curve: by those of the study, `frame`. What is real is what the tables say.
    `confirmed` is from `recipe.runs`, and `compared` from `recipe.compared`; None without a confirmation.
    """
    other = None
    if confirmed is not None:
        other = confirmed[~recipe.of_the_plan(confirmed["dataset"])]
    for ask, *_ in SECTIONS:
        asked = frame if other is None or ask == answers.how_much else other
        answer = ask(asked)
        said = answer.headline if other is None or ask != answers.real else shown(compared)
        yield " ".join([f"- **{answer.question}**", said, *store.outdated(asked["record"])])
    if confirmed is not None:
        yield f"\n{against_tuned(confirmed).to_markdown(index=False, disable_numparse=True)}\n"
        yield from counted_so_far(compared)
        yield from beside_published(confirmed)
    page = os.path.relpath(results / "README.md", root)
    yield f"\n[The answers of the study, for each of its data sets and with pictures]({page})"


def counted_so_far(table: pd.DataFrame) -> Iterator[str]:
    """What `recipe.counts` finds in all settings of `recipe.compared`, a line for each group of data sets.

    The data sets of the plan, which helped to choose the rule, are counted apart. A gain is said over tuned baselines
    alone, because one over another may only show that a default is poor.
    """
    planned = recipe.of_the_plan(table["dataset_model"])
    groups = {"On these data sets": table[~planned], "On data sets that helped to choose its rule": table[planned]}
    for beginning, part in groups.items():
        counts = recipe.counts(part[~recipe.is_piece(part)]).set_index("configuration")
        won = {row.Index: f"{row.Index} {row.won}/{row.lost}/{row.undecided}" for row in counts.itertuples()}
        gained = {n: answers.points(*counts.loc[n, ["gain", "low", "high"]]) for n in won if n.startswith(tuple(TUNED))}
        said = [f"{won[name]} ({gain} points on average)" for name, gain in gained.items()]
        if others := [won[name] for name in won if name not in gained]:
            said.append(f"with their defaults, {', '.join(others)}")
        if said:
            yield (
                f"- {beginning}, `{tables.OURS}` is better / worse / undecided in this many settings: against "
                f"{'; '.join(said)}."
            )


def beside_published(confirmed: pd.DataFrame) -> Iterator[str]:
    """A line for each split of which others published figures: theirs, and what `progressive` reaches on it."""
    for dataset, part in few_shot(tables.summarise(confirmed)).groupby("dataset"):
        ours = part["model"].str.startswith(f"{tables.OURS} of ")
        rows = part[ours | (part["source"] != HERE)].sort_values("score", ascending=False)
        said = "; ".join(f"{row.score:.3f} by {row.model} ({row.source})" for row in rows.itertuples())
        said = said.replace(f"{tables.OURS} of ", f"{tables.OURS} with ")
        if ours.any():
            yield f"- On the published split of {PUBLISHED['titles'][dataset]}: {said}."


def shown(table: pd.DataFrame) -> str:
    """How many differences to the tuned baselines are decided on data sets that are not of the plan, and on which.

    `table` is of `recipe.compared`.
    """
    table = table[
        ~recipe.of_the_plan(table["dataset_model"])
        & table["configuration"].isin(TUNED)
        & table["verdict"].isin(recipe.WON)
    ]
    better, worse, undecided = (sum(table["verdict"] == verdict) for verdict in recipe.WON)
    on = "; ".join(dict.fromkeys(_titles(table[table["verdict"] == "worse"])))
    on = f" ({on})" if on else ""
    return (
        f"Of {counted(len(table), 'difference')} between {tables.OURS} and a tuned baseline on the data sets of the "
        f"table, {better} show it to be better{on}, {worse} to be worse, and {undecided} are undecided."
    )


def against_tuned(confirmed: pd.DataFrame) -> pd.DataFrame:
    """`progressive` beside the tuned baselines, in words: the `gains` over each."""
    table, machines = None, " + ".join(sorted({*confirmed["device"][confirmed["method"] == tables.OURS]}))
    for baseline in TUNED:
        found = gains(confirmed, baseline)
        shown = pd.DataFrame(
            {
                "data set, model": found["dataset_model"].map(tables.titled),
                "labels": found["n_labels"],
                f"`{tables.OURS}`": [
                    f"{row.score:.3f}{answers.between(row.score_low, row.score_high)}" for row in found.itertuples()
                ],
                f"seconds ({machines})": found["device_seconds"].map("{:.1f}".format, na_action="ignore"),
                f"points over {baseline}": [
                    f"{answers.points(row.mean, row.low, row.high)}, {row.verdict}" for row in found.itertuples()
                ],
                f"FLOPs / {baseline}": found["flops_ratio"].map("{:.0%}".format),
            }
        )
        table = shown if table is None else table.merge(shown, how="outer", on=list(table.columns[:4]))
    return table.fillna("")


def in_full(found: Sequence[answers.Answer], frame: pd.DataFrame, results: Path, folder: Path) -> Iterator[str]:
    """Each question with its answer, a sentence for each data set and model, and the figure with its notebook."""
    yield "# The four answers of this study\n"
    yield "`METHOD (tuned)` is that method with tuned hyperparameters, which other lines give in brackets.\n"
    yield from (f"{sentence}\n" for sentence in store.outdated(frame["record"]))
    for answer, (_, picture, caption, notebook) in zip(found, SECTIONS, strict=True):
        place = os.path.relpath(folder / f"{notebook}.ipynb", results)
        yield f"## {answer.question}\n\n{answer.headline} ([{notebook}]({place}))\n"
        yield "".join(f"- {one}\n" for one in answer.each)
        if (results / "figures" / f"{picture}.png").is_file():
            yield f"[![{caption.format(score=tables.metrics_of(frame))}](figures/{picture}.png)]({place})\n"
