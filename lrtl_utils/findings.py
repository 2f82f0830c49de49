"""The four answers, from a DataFrame of runs (`runs.load`, or `summaries.read`): sentences and a small table each."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from lrtl_utils import curves, sentences, summaries


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
    sizes = sorted(set(table["labels"]))
    between = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else sizes[0]
    panels = sentences.counted(len(table), "panel")
    return f"({between}), {' and '.join(first)} {verb} with the best on {counts.iloc[0]} of {panels}"


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
    """Which differences to the baseline are more than noise; where it did not run, to the best line of each panel."""
    table = summaries.differences(frame, baseline)
    best = summaries.best(frame)
    ahead = _best_against(table, best, baseline)
    each = [f"{panel}: {ahead.get(panel, '')}{sentences.verdicts(part)}." for panel, part in table.groupby("panel")]
    if len(table):
        counts = table["verdict"].value_counts()
        told = [f"{counts.get(v, 0)} {words}" for v, words in VERDICTS.items() if counts.get(v, 0)]
        tested = table["p_holm"].dropna()
        sure = f"; of {len(tested)} with six seeds or more, p < 0.05 after Holm in {(tested < 0.05).sum()}"
        headline = f"Of {len(table)} differences to {baseline}: {', '.join(told)}{sure if len(tested) else ''}."
    else:
        table = best[best["lines"] > 1]
        alone = sum(not row.tie and not row.open for row in table.itertuples())
        headline = f"The best line is ahead of all others, beyond its interval, in {alone} of {len(table)} comparisons."
        headline = headline if len(table) else _nothing(frame)
    return Finding("Is the difference real, or noise?", headline, each, table)


VERDICTS = {"better": "better", "worse": "worse", "tie": "ties", "open": "with too few seeds to say"}
ANSWERS: tuple[Callable[[pd.DataFrame], Finding], ...] = (which, how_much, cost, real)


def _nothing(frame: pd.DataFrame) -> str:
    return sentences.NOTHING if frame.empty else "One line ran at each size, so there is nothing to compare it with."


def _best_against(table: pd.DataFrame, best: pd.DataFrame, baseline: str) -> dict[str, str]:
    """For each panel, the difference of its best line at the most labels where it has an interval."""
    rows = (
        table[table["verdict"] != "open"].merge(best[["panel", "labels", "line"]]).drop_duplicates("panel", keep="last")
    )
    return {
        row.panel: f"{row.line}, the best with {row.labels} labels, is {100 * row.mean:+.1f} "
        f"[{100 * row.low:+.1f}, {100 * row.high:+.1f}] points over {baseline}; "
        for row in rows.itertuples()
    }


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
