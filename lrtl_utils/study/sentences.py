"""What to see in each figure, in sentences made from the numbers of its table; where there are none, one says so."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from lrtl_utils.study import curves
from lrtl_utils.study.tables import BASELINE, COSTS

NOTHING = "There is no completed run for this figure here yet; `make demo` shows how they are made."
NOTHING_TUNED = "There are no runs here that differ in a hyperparameter and were judged on a carve."
VERDICTS = {"better": "better", "worse": "worse", "tie": "tied", "open": "open for lack of seeds"}


def counted(number: int, what: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def score_vs_data(best: pd.DataFrame) -> list[str]:
    """Of `summaries.best`: for each panel, the best line with the fewest labels and with the most, and what ties."""
    return [_score_vs_data(title, part) for title, part in best.groupby("panel", sort=False)] or [NOTHING]


def _score_vs_data(title: str, part: pd.DataFrame) -> str:
    few, many = part.loc[part["labels"].idxmin()], part.loc[part["labels"].idxmax()]
    told = f"{title}: {scored(few)}"
    if many["labels"] > few["labels"]:
        told += f". {scored(many)}, {100 * (many['score'] - few['score']):+.1f} points"
    return f"{told}."


def scored(row: pd.Series) -> str:
    """A row of `summaries.best`: line, score, interval or number of seeds, labels, of how many it is best, and ties."""
    sure = counted(row["seeds"], "seed") if pd.isna(row["low"]) else f"{row['low']:.3f} to {row['high']:.3f}"
    told = f"{row['line']} {row['score']:.3f} ({sure}) with {row['labels']} labels"
    if row["compared"]:
        told += f", best of {row['compared'] + 1} lines"
    others = (("tied", row["tie"]), ("too few seeds to compare", row["open"]))
    beside = [f"{words}: {', '.join(lines)}" for words, lines in others if lines]
    return f"{told} ({'; '.join(beside)})" if beside else told


def labels_needed(needs: pd.DataFrame) -> list[str]:
    """For each panel, what its best line needs, or why the data cannot say.

    The best is that of `summaries.best` at its most labels; where that has no curve, the highest of those that have.
    """
    ranked = needs.sort_values(["first", "score"], ascending=False, kind="stable")
    rows = ranked.drop_duplicates("panel").sort_index().itertuples()
    return [f"{row.panel}: {_needed(row)}." for row in rows] or [NOTHING]


def _needed(row: Any) -> str:
    fewest = "at most " if row.labels <= row.sizes[0] else "about "
    between = "" if pd.isna(row.low) else f" ({row.low:.0f} to {row.high:.0f})"
    doubts = f"; not to be relied on: {', '.join(row.doubts)}" if row.doubts else ""
    return (
        f"{row.line} needs {fewest}{row.labels:.0f}{between} of {row.full} labels for "
        f"{curves.SHARE:.0%} of the {row.full_score:.3f} that its curve gives at full data{doubts}"
    )


def score_vs_cost(front: pd.DataFrame, best: pd.DataFrame, cost: str) -> list[str]:
    """For each panel, what its row of `best` costs beside the cheapest line of that size, and how sure the front is.

    The row is that of `summaries.at_most_labels`. Several machines are told of, but for FLOPs, the same on all.
    """
    name = COSTS[cost].split(" (")[0]
    told = [_score_vs_cost(part, row, cost, name) for part, row in _beside_best(front, best)]
    return told or [f"No record here tells {name}."]


def _beside_best(front: pd.DataFrame, best: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.Series]]:
    parts = dict(iter(front.groupby("panel", sort=False)))
    return ((parts[row["panel"]], row) for _, row in best.iterrows() if row["panel"] in parts)


def _score_vs_cost(part: pd.DataFrame, best: pd.Series, cost: str, name: str) -> str:
    sized = part[part["labels"] == best["labels"]].set_index("line")
    if best["line"] not in sized.index:
        return f"{best['panel']}: {best['line']} has no {name} on record."
    top, cheap = sized.loc[best["line"]], sized.loc[sized[cost].idxmin()]
    several = cost != "flops" and not on_one_machine(*part["device"].unique())
    told = f"{_front(part)}{'; the points are of several machines' if several else ''}"
    if cheap.name == top.name:
        return f"{best['panel']}: {scored(best)} is also the cheapest of that size; {told}."
    multiple = f"{times(top[cost], cheap[cost])} the {name} of {cheap.name}, which reaches {cheap['score']:.3f}"
    return f"{best['panel']}: {scored(best)} costs {multiple}; {told}."


def money(front: pd.DataFrame, best: pd.DataFrame) -> list[str]:
    """For each panel, what its row of `best` costs in `money`, and what the cheapest line of that size does."""
    told = [_money(part[part["labels"] == row["labels"]], row) for part, row in _beside_best(front, best)]
    return told or ["No record here tells device hours."]


def _money(sized: pd.DataFrame, best: pd.Series) -> str:
    money = sized.set_index("line")["money"]
    spent = f"{best['panel']}: a run of {best['line']} with {best['labels']} labels costs {money[best['line']]:.2g}"
    return f"{spent}." if money.idxmin() == best["line"] else f"{spent}, one of {money.idxmin()} {money.min():.2g}."


def on_one_machine(*devices: str) -> bool:
    """Whether runs of these `device` names of `summaries.summarise` can be compared by seconds."""
    return len(set(devices)) == 1 and " + " not in devices[0]


def _front(part: pd.DataFrame) -> str:
    on_front = part[part["on_front"]]
    drawn = on_front["front_share"].dropna()
    sure = f"{(drawn >= 0.95).sum()} of them in 95 % of draws or more"
    sure = sure if len(drawn) else "with too few seeds to say how surely"
    be = "is" if len(part) == 1 else "are"
    return f"{len(on_front)} of {counted(len(part), 'point')} {be} on the Pareto front, {sure}"


def times(ours: float, theirs: float) -> str:
    """How many times as much, in words that stay short."""
    if not theirs:
        return "any multiple of"
    return f"{ours / theirs:.1f} times" if ours < 100 * theirs else f"{float(f'{ours / theirs:.2g}'):,.0f} times"


def differences(table: pd.DataFrame, baseline: str) -> list[str]:
    """For each panel, which lines are better and worse than the baseline, and which tie, with the numbers of labels."""
    parts = table.groupby("panel", sort=False)
    return [f"{title}, against {baseline}: {verdicts(part)}." for title, part in parts] or [
        f"There is no run of {baseline} here to compare with."
    ]


def verdicts(part: pd.DataFrame) -> str:
    """`better with 32, 100 labels: full, lora; tied with 32 labels: …`, of the rows of `summaries.differences`."""
    told = []
    for verdict, words in VERDICTS.items():
        sizes = part[part["verdict"] == verdict].groupby("line")["labels"].agg(tuple)
        for alike in sorted(set(sizes), key=lambda labels: (-len(labels), labels)):
            lines = ", ".join(sizes.index[sizes == alike])
            told += [f"{words} with {', '.join(map(str, alike))} labels: {lines}"]
    return "; ".join(told)


def at_every_size(part: pd.DataFrame) -> str:
    """`better at every size told: full; differs by size: lora`, of the rows of `summaries.differences` of one panel.

    Told is a size where both have seeds enough.
    """
    told = part[part["verdict"] != "open"]
    each = told.groupby("line")["verdict"].agg(lambda verdicts: verdicts.iloc[0] if verdicts.nunique() == 1 else "")
    each = each.reindex(sorted(set(part["line"])), fill_value="open")
    words = {verdict: f"{word} at every size told" for verdict, word in VERDICTS.items() if verdict != "open"}
    words |= {"": "differs by size", "open": VERDICTS["open"]}
    found = {words[verdict]: list(each.index[each == verdict]) for verdict in words}
    return "; ".join(f"{word}: {', '.join(lines)}" for word, lines in found.items() if lines)


def aggregate(table: pd.DataFrame) -> list[str]:
    """For each number of labels, which variant is highest over the data sets, and whether its interval is apart."""
    if table.empty:
        return [
            "Nowhere here did `from_scratch` and others run with three seeds, so there is nothing to normalise with."
        ]
    return [_aggregate(labels, part) for labels, part in table.groupby("labels")]


def _aggregate(labels: int, part: pd.DataFrame) -> str:
    widest = part[part["panels"] == part["panels"].max()].sort_values("iqm", ascending=False, kind="stable")
    top = widest.iloc[0]
    sure = f" [{top['low']:.2f}, {top['high']:.2f}]"
    within = [row.variant for row in widest.iloc[1:].itertuples() if row.high >= top["low"]]
    reach = "the interval of {} reaches" if len(within) == 1 else "the intervals of {} reach"
    near = f"; {reach.format(', '.join(within))} into its own" if within else ""
    over = f"{labels} labels, {counted(top['panels'], 'panel')}"
    return f"{over}: {top['variant']} is highest at {top['iqm']:.2f}{sure}{near}."


def main_effects(table: pd.DataFrame, whole: bool) -> list[str]:
    """Which knob matters most and which least, and between which values."""
    if table.empty:
        return [NOTHING_TUNED]
    shares = table.drop_duplicates("knob").sort_values("share", ascending=False, kind="stable")
    rows = table[table["knob"] == shares["knob"].iloc[0]].sort_values("score")
    low, high = rows.iloc[0], rows.iloc[-1]
    caution = "" if whole else " Not every combination was tried, so effects of knobs overlap."
    return [
        f"{high['knob']} explains most, {high['share']:.0%} of the variance: from {low['score']:.3f} at "
        f"{low['value']} to {high['score']:.3f} at {high['value']}; {shares['knob'].iloc[-1]} explains "
        f"{shares['share'].iloc[-1]:.1%}.{caution}"
    ]


def interaction(settings: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """How much the strongest pair of knobs explains beyond the two alone, and its best values."""
    if pairs.empty:
        return [NOTHING_TUNED]
    first, second, share = pairs.iloc[0][["first", "second", "share"]]
    means = settings.groupby([first, second])["score"].mean()
    at = means.idxmax()
    return [
        f"{first} and {second} together explain {share:.1%} of the variance beyond what each does alone; the highest "
        f"mean, {means.max():.3f}, is at {first}={at[0]} and {second}={at[1]}."
    ]


def expected_best(budget: pd.DataFrame, within: float = 0.005) -> list[str]:
    """How many settings, drawn at random, come within half a point of the best of all."""
    if budget.empty:
        return [NOTHING_TUNED]
    final = budget["once"].iloc[-1]
    enough = budget[budget["once"] >= final - within].iloc[0]
    tried = f"{enough['trials']:.0f} of {len(budget)} ({enough['device_seconds']:.0f} device seconds)"
    return [
        f"One setting at random is expected to reach {budget['once'].iloc[0]:.3f}; the best of {tried} is expected "
        f"within half a point of the best of all, {final:.3f}."
    ]


def searches(table: pd.DataFrame) -> list[str]:
    """For each sampler, the share of the whole grid's device seconds that it spent, over its seeds."""
    known = table.dropna(subset="seconds_share")
    return [_search(name, rows) for name, rows in known.groupby("sampler", sort=False)] or [
        "No search is recorded here beside the whole grid that it searched."
    ]


def _search(name: str, rows: pd.DataFrame) -> str:
    share = rows["seconds_share"]
    between = f" ({share.min():.0%} to {share.max():.0%} over {len(rows)} seeds)" if len(rows) > 1 else ""
    return (
        f"{name}: {rows['trials'].mean():.1f} trials, {share.mean():.0%} of the whole grid's device seconds{between}."
    )


def warmups(table: pd.DataFrame) -> list[str]:
    """How many runs were shorter than the warm-up asked for, and what they used instead."""
    if table.empty:
        return ["No run here has a warm-up."]
    trapped = table[table["asked"] > table["steps"]]
    if trapped.empty:
        return ["No warm-up asked for is longer than its run."]
    return [
        f"{trapped['runs'].sum()} of {table['runs'].sum()} runs have fewer steps ({_span(trapped['steps'])}) than the "
        f"warm-up asked for ({_span(trapped['asked'])}), under which the rate would never have reached its value; "
        f"they used {_span(trapped['used'])} steps, a tenth of the run."
    ]


def _span(values: Sequence[int]) -> str:
    return f"{min(values)} to {max(values)}" if min(values) < max(values) else str(min(values))


def one_epoch(lines: pd.DataFrame) -> list[str]:
    """For each data set and number of test examples, the baseline's one epoch, and what the others reach beside it."""
    reported = lines[lines["dataset"].isna()].set_index("examples")["accuracy"]
    told = []
    for (dataset, model, labels, examples), part in lines.groupby(["dataset", "model", "labels", "examples"]):
        of_baseline = part["method"] == BASELINE
        for base in part[of_baseline & (part["epochs"] == 1)].itertuples():
            each = [f"{base.accuracy:.3f} (loss {base.loss:.3f})"]
            each += [_in_seconds_of(row, base) for row in part[~of_baseline].itertuples()]
            each += [f"the report has {accuracy:.3f} on as many" for accuracy in reported[reported.index == examples]]
            where = f"{dataset} · {model}, {examples} test examples"
            told.append(f"{where}: one epoch of {BASELINE} on {labels:.0f} labels reaches {'; '.join(each)}.")
    return told or [f"No run here is one epoch of {BASELINE}."]


def _in_seconds_of(row: Any, base: Any) -> str:
    share = row.device_seconds / base.device_seconds
    sure = "" if pd.isna(row.low) else f" [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
    points = "" if pd.isna(row.points) else f", {100 * row.points:+.1f}{sure} points,"
    return f"{row.line} reaches {row.accuracy:.3f}{points} in {share:.2f} of its device seconds"


def beside(table: pd.DataFrame) -> list[str]:
    """For each data set, our best line and the lowest published figure; where none is listed, that."""
    return [_beside(dataset, part) for dataset, part in table.groupby("dataset", sort=False)] or [NOTHING]


def _beside(dataset: str, part: pd.DataFrame) -> str:
    ours, theirs = part[part["source"] == ""], part[part["source"] != ""]
    best = ours.nlargest(1, "score").iloc[0]
    model = "" if best["model"] == "none" else f" of {best['model']}"
    told = f"{dataset}: {best['line']}{model} reaches {best['score']:.3f} here with {best['labels']} labels"
    if theirs.empty:
        return f"{told}; no published figure is listed."
    low = theirs.nsmallest(1, "score").iloc[0]
    or_more = " or more" if len(theirs) > 1 else ""
    return f"{told}; published, with all labels: {low['score']:.3f}{or_more}, by {low['model']} ({low['source']})."
