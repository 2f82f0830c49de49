"""What to do after a comparison: which method to use, how many labels to collect, and how long training takes."""

from collections.abc import Iterator

import pandas as pd

from lrtl_utils.study import answers, curves, tables

NOTHING = "Too few runs have ended to recommend it; the same command, or one with a larger budget, continues."


def together(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of a data set, its models compared with each other if there are several."""
    across = tables.across_models(frame)
    return across if len(across) else frame


def leading(frame: pd.DataFrame) -> pd.Series | None:
    """The row of `tables.best` that answers which configuration is best; None without runs. `frame` is `together`."""
    best = tables.at_most_labels(tables.best(frame))
    return None if best.empty else best.iloc[0]


def advice(frame: pd.DataFrame) -> Iterator[str]:
    """Sentences about the leading configuration: its score, the labels that it needs, and its cost."""
    row = leading(frame)
    if row is None:
        yield "No run has ended; the same command, or one with a larger budget, continues."
        return
    summary, needs = tables.summarise(frame), tables.needs(frame)
    own = summary[summary["configuration"] == row["configuration"]].sort_values("n_labels")
    needs = needs[needs["configuration"] == row["configuration"]]
    at = own[own["n_labels"] == row["n_labels"]].iloc[0]
    score = answers.scored(row).replace(row["configuration"], f"{row['configuration']}, {at['score_name']}", 1)
    yield f"Use {score}." if row["compared"] else f"Highest so far is {score}. {NOTHING}"
    yield from (f"{answers.needed(need)}." for need in needs.itertuples())
    if len(own) > 1:
        yield _growth(own, sure=any(not doubts for doubts in needs["doubts"]))
    if pd.notna(at["device_seconds"]):
        spent = f"{at['device_seconds']:.3g} device seconds ({at['device']})"
        yield f"Training it with {row['n_labels']} labels takes {spent}."


def _growth(own: pd.DataFrame, sure: bool) -> str:
    """What the last labels gave, and by the curve, if that is `sure`, what as many again would give."""
    before, last = own.iloc[-2], own.iloc[-1]
    gained = 100 * (last["score"] - before["score"])
    said = f"From {before['n_labels']} to {last['n_labels']} labels its score changed by {gained:+.1f} points"
    if not sure:
        return f"{said}."
    law, more = curves.fit(own["n_labels"], own["score"]), 2 * last["n_labels"]
    expected = 100 * float(law.score(more) - law.score(last["n_labels"]))
    return f"{said}; by its curve, {more} labels would change it by about {expected:+.1f} more."
