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
    """Which model and method is best, at the most labels at which lines of a panel can be compared, and what ties."""
    table = summaries.at_most_labels(summaries.best(frame))
    headline, each = _nothing(frame), []
    if len(table):
        counts = table["variants"].explode().value_counts()
        first = sorted(counts.index[counts == counts.iloc[0]])
        each = [
            f"{row.panel}: {row.line} ({row.score:.3f} with {row.labels} labels{_others(row)})."
            for row in table.itertuples()
        ]
        verb = "is best or ties" if len(first) == 1 else "are each best or tie"
        told = f"{' and '.join(first)} {verb} with the best on {counts.iloc[0]} of {len(table)}"
        headline = f"Where two or more ran with the same labels, {told}."
    return Finding("Which model and which method is best?", headline, each, table)


def how_much(frame: pd.DataFrame) -> Finding:
    """How many labels the best line of each panel needs for 95 % of its score at full data."""
    table = summaries.needs(frame)
    headline = sentences.NOTHING if frame.empty else "Every line ran with one number of labels, so there is no curve."
    each = sentences.labels_needed(table) if len(table) else []
    if each:
        headline = f"For {curves.SHARE:.0%} of the score at full data, by the curve of each best line."
    return Finding("How much data do I need?", headline, each, table)


def cost(frame: pd.DataFrame) -> Finding:
    """What the best line costs with the most labels, beside the one with the fewest FLOPs that ties with it."""
    parts = dict(summaries.by_panel(summaries.summarise(frame)))
    best = summaries.at_most_labels(summaries.best(frame))
    table = pd.DataFrame([_costs(row, parts[row.panel].set_index(["line", "labels"])) for row in best.itertuples()])
    headline = "The cheapest way, in FLOPs, that ties with the best." if len(table) else _nothing(frame)
    each = [f"{row.panel}: {_cheaper(row)}." for row in table.itertuples()]
    return Finding("What does it cost?", headline, each, table)


def real(frame: pd.DataFrame, baseline: str = summaries.BASELINE) -> Finding:
    """Which differences to the baseline are more than noise; where it did not run, to the best line of each panel."""
    table = summaries.differences(frame, baseline)
    each = [f"{panel}: {sentences.verdicts(part)}." for panel, part in table.groupby("panel", sort=False)]
    if len(table):
        counts = table["verdict"].value_counts()
        told = [f"{counts.get(v, 0)} {words}" for v, words in VERDICTS.items() if counts.get(v, 0)]
        tested = table["p_holm"].dropna()
        sure = f"; of {len(tested)} with six seeds, {(tested < 0.05).sum()} have p < 0.05 after Holm"
        headline = f"Of {len(table)} differences to {baseline}: {', '.join(told)}{sure if len(tested) else ''}."
    else:
        table = summaries.best(frame)
        alone = sum(not row.tie and not row.open for row in table.itertuples())
        headline = f"The best line is ahead of all others, beyond its interval, in {alone} of {len(table)} comparisons."
        headline = headline if len(table) else _nothing(frame)
    return Finding("Is the difference real, or noise?", headline, each, table)


VERDICTS = {"better": "better", "worse": "worse", "tie": "ties", "open": "with too few seeds to say"}
ANSWERS: tuple[Callable[[pd.DataFrame], Finding], ...] = (which, how_much, cost, real)


def _nothing(frame: pd.DataFrame) -> str:
    return sentences.NOTHING if frame.empty else "One line ran at each size, so there is nothing to compare it with."


def _others(row: pd.Series) -> str:
    told = (("tied", row.tie), ("too few seeds to compare", row.open))
    return "".join(f"; {words}: {', '.join(lines)}" for words, lines in told if lines)


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
        mixed = "" if alike else ", the mean over several machines"
        return f"{row.best} itself ({of_best}{mixed}, {row.best_peak_memory_mib:.0f} MiB)"
    share = row.cheapest_flops / row.best_flops
    seconds = f"{row.cheapest_device_seconds:.3g} against {of_best}" if alike else "seconds of different machines"
    return f"{row.cheapest} at {share:.2%} of the FLOPs of {row.best} ({seconds})"
