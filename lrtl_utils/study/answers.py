"""The four answers, from a DataFrame of runs (`runs.load`, or `summaries.read`): sentences and a small table each."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from lrtl_utils.study import curves, sentences
from lrtl_utils.study import tables as summaries


class Finding(NamedTuple):
    """One question, the sentence that answers it, the same for each data set and model, and the table behind both."""

    question: str
    headline: str
    each: list[str]
    table: pd.DataFrame

    @property
    def lines(self) -> list[str]:
        """The sentence and a list of the others."""
        return [self.headline, *(f"- {one}" for one in self.each)]


def which(frame: pd.DataFrame) -> Finding:
    """Which model and method is best, at the most labels at which lines can be compared, and what ties.

    A data set with several models has, beside a row for each, one of all its models' lines.
    """
    best = pd.concat([summaries.best(frame), summaries.best(summaries.across_models(frame))], ignore_index=True)
    best = best[best["lines"] > 1]
    table = summaries.at_most_labels(best)
    headline = _nothing(frame)
    if len(table):
        headline = f"With the most labels at which lines can be compared {_leading(table)}"
        few = summaries.at_most_labels(best, fewest=True)
        headline += "." if few.equals(table) else f"; with the fewest {_leading(few)}."
    each = [f"{row['panel']}: {sentences.scored(row)}." for _, row in table.iterrows()]
    return Finding("Which model and which method is best?", headline, each, table)


def _leading(table: pd.DataFrame) -> str:
    """Of rows of `summaries.best`, the variants that are most often best or tie with it."""
    counts = table["variants"].explode().value_counts()
    first = sorted(counts.index[counts == counts.iloc[0]])
    verb = "is best or ties" if len(first) == 1 else "are each best or tie"
    panels = sentences.counted(len(table), "panel")
    beside = f"({_span(table['labels'])}; each compared with {_span(table['compared'])} of the others)"
    return f"{beside}, {' and '.join(first)} {verb} with the best on {counts.iloc[0]} of {panels}"


def _span(numbers: pd.Series) -> str:
    low, high = numbers.min(), numbers.max()
    return f"{low} to {high}" if low < high else f"{low}"


def how_much(frame: pd.DataFrame) -> Finding:
    """How many labels the best line of each panel needs for 95 % of its score at full data."""
    table = summaries.needs(frame)
    headline = sentences.NOTHING if frame.empty else "No line ran with three numbers of labels, so there is no curve."
    each = sentences.labels_needed(table) if len(table) else []
    if each:
        sure = sum(not doubts for doubts in table[table["first"]]["doubts"])
        headline = f"For {curves.SHARE:.0%} of the score at full data, by the curve of each best line; "
        headline += f"{sure} of {sentences.counted(len(each), 'curve')} can be relied on."
    return Finding("How much data do I need?", headline, each, table)


def cost(frame: pd.DataFrame) -> Finding:
    """What the best line costs with the most labels, beside the one with the fewest FLOPs that ties with it."""
    parts = dict(summaries.by_panel(summaries.summarise(frame)))
    best = summaries.at_most_labels(summaries.best(frame))
    table = pd.DataFrame([_costs(row, parts[row.panel].set_index(["line", "labels"])) for row in best.itertuples()])
    headline = _nothing(frame)
    if len(table):
        dearer = sentences.counted(int((table["best"] != table["cheapest"]).sum()), "panel")
        headline = f"The cheapest way, in FLOPs, that ties with the best; in {dearer} it is not the best itself."
    each = [f"{row.panel}: {_cheaper(row)}." for row in table.itertuples()]
    return Finding("What does it cost?", headline, each, table)


def real(frame: pd.DataFrame, baseline: str = summaries.BASELINE) -> Finding:
    """Which differences to the baseline, and to its tuned variant, are more than noise.

    Where neither ran, those to the best line of each panel.
    """
    question = "Is the difference real, or noise?"
    best = summaries.best(frame)
    tables = {name: summaries.differences(frame, name) for name in (baseline, f"{baseline} (tuned)")}
    if not any(map(len, tables.values())):
        best = best[best["lines"] > 1]
        return Finding(question, _ahead_of_all(best) if len(best) else _nothing(frame), [], best)
    tables = {name: table for name, table in tables.items() if len(table)}
    table = pd.concat(tables, names=["baseline"]).reset_index("baseline")
    each = [
        f"{panel}: {'. '.join(_against(own, best, name) for name, own in part.groupby('baseline'))}."
        for panel, part in table.groupby("panel")
    ]
    return Finding(question, " ".join(_counts(part, name) for name, part in tables.items()), each, table)


ANSWERS: tuple[Callable[[pd.DataFrame], Finding], ...] = (which, how_much, cost, real)


def _nothing(frame: pd.DataFrame) -> str:
    return sentences.NOTHING if frame.empty else "One line ran at each size, so there is nothing to compare it with."


def _ahead_of_all(best: pd.DataFrame) -> str:
    alone = sum(not row.tie and not row.open for row in best.itertuples())
    return f"The best line is ahead of all others, beyond its interval, in {alone} of {len(best)} comparisons."


def _counts(table: pd.DataFrame, baseline: str) -> str:
    counts = table["verdict"].value_counts()
    told = [f"{counts.get(v, 0)} {words}" for v, words in sentences.VERDICTS.items() if counts.get(v, 0)]
    tested = table["p_holm"].dropna()
    sure = f"; of {len(tested)} with six seeds or more, p < 0.05 after Holm in {(tested < 0.05).sum()}"
    return f"Of {len(table)} differences to {baseline}: {', '.join(told)}{sure if len(tested) else ''}."


def _against(table: pd.DataFrame, best: pd.DataFrame, baseline: str) -> str:
    """Of a panel, the best line's difference to the baseline at the most labels where it can be told; all verdicts."""
    told = table[table["verdict"] != "open"]
    best = best[best["panel"].isin(told["panel"]) & best["labels"].isin(told["labels"])].drop(columns=["low", "high"])
    ahead = f"of the best no difference to {baseline} can be told"
    for row in best.merge(told, "left", on=["panel", "labels", "line"]).itertuples():
        if not pd.isna(row.mean):
            points = f"{100 * row.mean:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}] points"
            ahead = f"{row.line}, the best with {row.labels} labels, is {points} over {baseline}"
        elif row.variants[0] == baseline:
            ahead = f"{baseline} is itself the best with {row.labels} labels"
    return f"{ahead}; {sentences.at_every_size(table)}"


def _costs(row: pd.Series, means: pd.DataFrame) -> dict[str, object]:
    """The best line and the cheapest that ties with it, with the costs of both."""
    at = [(line, row.labels) for line in [row.line, *row.tie]]
    cheapest = means.loc[at, "flops"].idxmin()
    told = {"panel": row.panel, "labels": row.labels, "best": row.line, "cheapest": cheapest[0]}
    for name in ("device_seconds", "flops", "peak_memory_mib", "device"):
        told |= {f"best_{name}": means.loc[at[0], name], f"cheapest_{name}": means.loc[cheapest, name]}
    return told


def _cheaper(row: pd.Series) -> str:
    of_best = f"{row.best_device_seconds:.3g} device seconds"
    alike = sentences.on_one_machine(row.best_device, row.cheapest_device)
    if row.best == row.cheapest:
        mixed = "" if alike else ", the means over several machines"
        return f"{row.best} itself ({of_best}, {row.best_peak_memory_mib:.0f} MiB{mixed})"
    share = row.cheapest_flops / row.best_flops
    memory = f"{row.cheapest_peak_memory_mib:.0f} against {row.best_peak_memory_mib:.0f} MiB"
    spent = f"{row.cheapest_device_seconds:.3g} against {of_best}, {memory}" if alike else "on several machines"
    return f"{row.cheapest} at {share:.2%} of the FLOPs of {row.best} ({spent})"
