"""`progressive` beside the other methods on the development sets: `python -m` this module with a folder.

The folder has the records of the grid recipe_2.yaml, and its `version-1` those of the first version of `progressive`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lrtl_utils.files import absolute_path, write_text
from lrtl_utils.runs import store
from lrtl_utils.study import stats, tables

OURS, FIRST = "progressive", "progressive, version 1"
METHODS = (OURS, FIRST, "linear_probe", "full", "lp_ft", "bitfit")
SETTING = ["data set", "model", "labels"]
SCORES = "Mean accuracy, or entity F1, in percent on the test split, with 95 % intervals, or the number of seeds."
AGAINST = """Paired differences in points with 95 % intervals; p is corrected over this table. FLOPs and seconds are
those of `progressive` as shares of the other's. Seconds are of runs that shared the machine with other work, so they
are rough."""
KNOBS = {
    "without": "without {}",
    "layers": "layers={:g}",
    "word_shape": "word_shape={}",
    "label_names": "label_names={}",
}


def runs(results: Path) -> pd.DataFrame:
    """The completed runs, each with its setting and its `line`: the method, or `progressive` with what was left out."""
    frames = [tables.records(results, "completed"), tables.records(results / "version-1", "completed")]
    first = [pd.Series(bool(at), frame.index) for at, frame in enumerate(frames)]
    frame = pd.concat(frames, ignore_index=True).assign(first=pd.concat(first, ignore_index=True))
    frame = frame.rename(columns={"dataset": "data set"})
    shots = frame["config.shots"]
    frame["labels"] = [
        f"{s:.0f} a class" if pd.notna(s) else str(n) for s, n in zip(shots, frame["n_labels"], strict=True)
    ]
    frame["line"] = [_line(row) for row in frame.to_dict("records")]
    return frame


def _line(row: dict) -> str:
    if row["first"]:
        return FIRST
    asked = {**row["record"]["config"], **row["record"]["config"]["asked"]}
    changed = [form.format(asked[name]) for name, form in KNOBS.items() if asked.get(name) is not None]
    return ", ".join([row["method"], *changed])


def scores(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting: the mean score of each method in percent, with its interval and seeds."""
    rows = []
    for setting, part in frame.groupby(SETTING, sort=False):
        own = {line: _score(part[part["line"] == line]) for line in METHODS}
        rows.append(dict(zip(SETTING, setting, strict=True)) | own)
    return pd.DataFrame(rows, columns=[*SETTING, *METHODS])


def _score(own: pd.DataFrame) -> str:
    if own.empty:
        return ""
    bounds = stats.interval(stats.sample_of(own["record"]))
    between = f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]" if bounds else f" ({len(own)})"
    return f"{100 * own['score'].mean():.1f}{between}"


def against(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each other line of each setting: `progressive` minus it, in points, over the seeds that both have.

    `p` is corrected over the table. `FLOPs` and `seconds` are those of `progressive` as shares of the other's.
    """
    table = pd.DataFrame(_differences(frame))
    if table.empty:
        return table
    known = table["p"].notna()
    table.loc[known, "p"] = stats.corrected(table.loc[known, "p"].astype(float))
    return table.assign(verdict=[stats.verdict(mean, p) for mean, p in zip(table["points"], table["p"], strict=True)])


def _differences(frame: pd.DataFrame) -> Iterator[dict]:
    for setting, part in frame.groupby(SETTING, sort=False):
        ours = part[part["line"] == OURS].set_index("seed")
        for line, own in part[part["line"] != OURS].groupby("line", sort=False):
            theirs = own.set_index("seed")
            found = tables.paired(ours["record"].to_dict(), theirs["record"].to_dict())
            if not found:
                continue
            seeds = ours.index.intersection(theirs.index)
            share = {
                title: (ours.loc[seeds, f"cost.{cost}"] / theirs.loc[seeds, f"cost.{cost}"]).mean()
                for cost, title in (("flops", "FLOPs"), ("device_seconds", "seconds"))
            }
            points = {"points": found["mean"], "low": found["low"], "high": found["high"], "p": found["p"]}
            yield dict(zip(SETTING, setting, strict=True)) | {"against": line, "seeds": len(seeds)} | points | share


def write(results: Path) -> Path:
    """`<results>/table.md` and `table.csv`; returns the former."""
    frame = runs(results)
    table = against(frame)
    table.to_csv(results / "table.csv", index=False)
    machines = [f"- {each}" for each in store.machines(store.records(results))]
    page = ["# `progressive` on the development sets", "", *machines, "", "## Scores", "", SCORES, ""]
    page += [scores(frame).to_markdown(index=False, disable_numparse=True), "", "## `progressive` against each", ""]
    page += [AGAINST, ""]
    page += [_shown(table).to_markdown(index=False, disable_numparse=True), ""]
    write_text(results / "table.md", "\n".join(page))
    return results / "table.md"


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return table
    between = [
        f"{100 * row.points:+.1f}" + (f" [{100 * row.low:+.1f}, {100 * row.high:+.1f}]" if pd.notna(row.low) else "")
        for row in table.itertuples()
    ]
    few = table.assign(points=between, p=table["p"].map("{:.3f}".format), FLOPs=table["FLOPs"].map("{:.3f}".format))
    return few.assign(seconds=table["seconds"].map("{:.2f}".format)).drop(columns=["low", "high"])


if __name__ == "__main__":
    print(write(absolute_path(sys.argv[1])))
