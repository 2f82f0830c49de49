"""What the runs say, in sentences: the four answers, each with its table, the claims, and a sentence for every figure.

All are made from the numbers of tables of runs, from `tables.read`. Where there are no numbers, a sentence says so.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lrtl_utils.errors import counted, require_name
from lrtl_utils.methods import METHODS
from lrtl_utils.study import curves, stats, tables
from lrtl_utils.study.tables import BASELINE, COSTS, OURS, TUNED

NOTHING = "There is no completed run here yet; `lrtl sweep demo` makes some."
NOTHING_TUNED = "There are no runs here that differ in a hyperparameter and were scored on a validation split."
DECIDED = ("better", "worse")
VERDICTS = (*DECIDED, "undecided", stats.TOO_FEW_SEEDS)


class Answer(NamedTuple):
    """A question, the sentence that answers it, one sentence for each dataset × model, and the table behind them."""

    question: str
    headline: str
    each: list[str]
    table: pd.DataFrame

    @property
    def lines(self) -> list[str]:
        """The answer as Markdown: the sentence and a list of the others."""
        return [self.headline, *(f"- {one}" for one in self.each)]


def which(frame: pd.DataFrame) -> Answer:
    """Which model and method is best, and what is not shown to be worse, at the largest size where all were compared.

    A data set with several models has, beside a row for each model, one for all of them together.
    """
    best = pd.concat([tables.best(frame), tables.best(tables.across_models(frame))], ignore_index=True)
    best = best[best["configurations"] > 1]
    table = tables.at_most_labels(best)
    headline, together = _nothing(frame), best["dataset_model"].str.endswith(tables.ALL_MODELS)
    pairs = best if together.all() else best[~together]  # a row for all models is no further pair
    pairs = pairs[pairs["compared"] > 0]
    if len(table) and pairs.empty:
        headline = "At no size did two configurations run with the same three seeds, so none can be called best."
    elif len(table):
        most = tables.at_most_labels(pairs)
        compared = f"{span(most['compared'] + 1)} configurations, {span(most['n_labels'])} labels"
        headline = f"By {tables.metrics_of(table)}, {_leading(most)} ({compared})."
    each = [f"{row['dataset_model']}: {scored(row)}." for _, row in table.iterrows()]
    return Answer("Which model and which method is best?", headline, each, table)


def _leading(table: pd.DataFrame) -> str:
    """The variants that most often have the highest mean, and of these those most often shown to be near it."""
    highest, near = table["variants"].str[0].value_counts(), table["variants"].explode().value_counts()
    top = highest[highest == highest.max()].index
    first = sorted(name for name in top if near[name] == near[top].max())
    on = f"{highest.max()} of {_pairs(len(table), table)}"
    others = near[first[0]] - highest.max()
    within = f"shown to be within {100 * stats.MARGIN:g} point of the highest"
    if len(top) > 1:
        have, be = ("has", "is") if len(first) == 1 else ("each have", "each is")
        also = f", and {be} {within} on {others} more" if others else ""
        leading = f"{_listed(first)} {have} it on {highest.max()}"
        return f"no configuration has the highest mean on more than {on}; {leading}{also}"
    also = f", and on {others or 'none'} of the others {'it is' if others else 'is it'} {within}"
    return f"{first[0]} has the highest mean on {on}{also if highest.max() < len(table) else ''}"


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return " and ".join(filter(None, [", ".join(others), last]))


def how_much(frame: pd.DataFrame) -> Answer:
    """How many labels the best configuration of each dataset × model needs for 95% of the highest score there."""
    table = tables.needs(frame)
    headline = NOTHING if frame.empty else "No configuration ran with three numbers of labels, so there is no curve."
    each = labels_needed(table)
    if each:
        rows = _of_the_best(table)
        target = f"{_target(tables.metrics_of(table), rows['at_largest'])} ({span(rows['largest'])} labels)"
        reached = rows[np.isfinite(rows["n_labels"])]
        least = reached["n_labels"] <= reached["sizes"].str[0]  # nobody knows how few labels these need
        many = span(reached["n_labels"].round().astype(int)) if len(reached) else ""
        needs = f"needs {'at most' if least.any() else 'about'} {many} labels" if many else "reaches the target"
        names = sorted(set(table["variant"]))
        highest = "the highest-scoring configuration with a reliable curve"
        highest += "" if rows["reliable"].all() else " (or, where there is none, with any curve)"
        headline = f"On {len(reached)} of {counted(len(rows), 'pair')} of data set and model, "
        headline += f"{highest if len(names) > 1 else names[0]} {needs}. The target is {target}. "
        passed = sum(not doubts for doubts in table["doubts"])
        passes = "passes" if 1 in (passed, len(table)) else "pass"
        headline += f"{passed} of {counted(len(table), 'curve')} {passes} the checks of reliability."
        if others := sum(~rows["first"]):
            lacks = "the configuration with the highest mean where the most were compared has no such curve"
            headline += f" On {counted(others, 'pair')}, {lacks}."
    return Answer("How much data do I need?", headline, each, table)


def cost(frame: pd.DataFrame) -> Answer:
    """What the best configuration costs, and the cheapest in FLOPs of those that are not shown to be worse."""
    keys, frames = ["configuration", "n_labels"], (tables.summarise(frame), tables.compared(frame))
    means, runs = ({name: part.set_index(keys) for name, part in tables.by_dataset_and_model(each)} for each in frames)
    rows = tables.at_most_labels(tables.best(frame)).itertuples()
    table = pd.DataFrame([_costs(row, means[row.dataset_model], runs[row.dataset_model]) for row in rows])
    compared = table[table["compared"] > 0] if len(table) else table
    headline = _nothing(frame)
    if len(table) and compared.empty:
        headline = "At no size did two configurations run with the same three seeds, so no saving can be shown."
    elif len(table):
        cheaper, metric = int((compared["best"] != compared["cheapest"]).sum()), tables.metrics_of(frame)
        pairs = f"{counted(len(compared), 'pair')} of data set and model"
        names = [f"{name} on {count}" for name, count in compared["best"].value_counts().items()]
        on = f"each of {pairs}" if len(compared) > 1 else "the only pair of data set and model"
        names = names if len(compared) > 1 else compared["best"]
        headline = f"On {on}, no compared configuration with fewer FLOPs than the best ({_listed(names)}) has an "
        headline += f"interval of the difference in {metric} that reaches zero"
        if cheaper:
            headline = f"On {cheaper} of {pairs}, a configuration with fewer FLOPs than the best is not shown to be "
            near, means = sum(compared["low"] >= -stats.MARGIN), span(compared["mean"].dropna(), signed)
            headline += f"worse by {metric} (the means differ by {means} points, and the interval of the difference "
            headline += f"reaches zero). On {near or 'none'} of these "
            headline += f"{'it is' if near else 'is it'} shown to be at most {100 * stats.MARGIN:g} point worse"
        spent = compared["best_device_seconds"].dropna()
        if len(spent) and not on_one_machine(*compared["best_device"][spent.index]):
            headline += ". The seconds are of several machines, so they are not compared"
        elif len(spent):
            timed = "each pair" if len(spent) == len(compared) else counted(len(spent), "pair")
            ends = dict.fromkeys([spent.idxmin(), spent.idxmax()])
            named = "{} ({})" if len(ends) > 1 else "{}"
            takes = " to ".join(named.format(short(spent[at]), compared["best"][at]) for at in ends)
            of = f" of {timed}" if len(compared) > 1 else ""
            headline += f". Training the best{of} takes {takes} device seconds"
        headline += "."
        if cached := int(tables.took_from_cache(frame).sum()):
            why = "because an earlier run of a sweep had done a part of their work"
            headline += f" The seconds of {cached} of {counted(len(frame), 'run')} are left out, {why}."
    each = [f"{row.dataset_model}: {_cheaper(row)}." for row in table.itertuples()]
    return Answer("What does it cost?", headline, each, table)


def real(frame: pd.DataFrame, baseline: str = BASELINE) -> Answer:
    """Which differences from the baseline and from its tuned variant are more than noise.

    The headline is of the tuned variant, if it ran. If neither ran, the differences are from the best configuration of
    each dataset × model. `InputError` if no method or variant has the name of the baseline.
    """
    require_name("method", baseline, {*METHODS, *tables.compared(frame)["variant"]})
    question, best = "Is the difference real, or noise?", tables.best(frame)
    found = {name: tables.differences(frame, name) for name in (baseline, f"{baseline} (tuned)")}
    found = {name: table for name, table in found.items() if len(table)}
    if not found:
        best = best[best["configurations"] > 1]
        return Answer(question, _ahead_of_all(best) if len(best) else _nothing(frame), [], best)
    table = pd.concat(found, names=["baseline"]).reset_index("baseline")
    each = [
        f"{dataset_model}: {'. '.join(_against(own, best, name) for name, own in part.groupby('baseline'))}."
        for dataset_model, part in table.groupby("dataset_model")
    ]
    *_, (fairest, part) = found.items()
    return Answer(question, _counts(part, fairest), each, table)


def _nothing(frame: pd.DataFrame) -> str:
    alone = "Only one configuration ran at each size, so there is nothing to compare it with."
    return NOTHING if frame.empty else alone


def _ahead_of_all(best: pd.DataFrame) -> str:
    best = best[best["compared"] > 0]
    if best.empty:
        return "At no size did two configurations run with the same three seeds, so no difference can be shown."
    alone = sum(not (row.undecided or row.too_few_seeds or row.missing) for row in best.itertuples())
    shown = f"The best configuration by {tables.metrics_of(best)} is shown to be better than all others"
    return f"{shown} in {alone} of {counted(len(best), 'setting')}."


def _counts(table: pd.DataFrame, baseline: str) -> str:
    counts = table["verdict"].value_counts()
    few = {stats.TOO_FEW_SEEDS: f"with {stats.TOO_FEW_SEEDS}"}
    verdicts = [f"{counts[verdict]} {few.get(verdict, verdict)}" for verdict in VERDICTS if verdict in counts]
    good = int(table["at_least_as_good"].sum())
    differences = f"{counted(len(table), 'difference')} in {tables.metrics_of(table)} from {baseline}"
    as_good = f"{good} {'is' if good == 1 else 'are'} at least as good (within {100 * stats.MARGIN:g} point"
    return f"Of {differences}, corrected for their number: {', '.join(verdicts)}. {as_good}, uncorrected)."


def _against(table: pd.DataFrame, best: pd.DataFrame, baseline: str) -> str:
    """How far the best of one dataset × model is from the baseline, and the verdicts on all others.

    The two are compared at the most labels with which both have three seeds.
    """
    known = table[table["verdict"] != stats.TOO_FEW_SEEDS]
    best = best[best["dataset_model"].isin(known["dataset_model"]) & best["n_labels"].isin(known["n_labels"])]
    ahead = f"the best and {baseline} share too few seeds"
    keys = ["dataset_model", "n_labels", "configuration"]
    for row in best.drop(columns=["low", "high", "score_name"]).merge(known, "left", on=keys).itertuples():
        if not pd.isna(row.mean):
            gain = f"{points(row.mean, row.low, row.high)} points of {row.score_name}"
            ahead = f"{row.configuration}, the {_top(row)} with {row.n_labels} labels, is {gain} over {baseline}"
        elif row.variants[0] == baseline:
            ahead = f"{baseline} is itself the {_top(row)} with {row.n_labels} labels"
    return f"{ahead}; {verdicts(table)}"


def _costs(row: Any, means: pd.DataFrame, runs: pd.DataFrame) -> dict[str, object]:
    """The best configuration and the cheapest of `_as_good`, with the costs of both.

    The difference of the latter to the best is `mean`, from `low` to `high`; `seconds_ratio` is that of `tables`.
    """
    at = [(configuration, row.n_labels) for configuration in [row.configuration, *_as_good(row.undecided)]]
    cheapest = means.loc[at, "flops"].idxmin()
    mean, low, high = row.undecided.get(cheapest[0], (np.nan,) * 3)
    pair = (tables.by_seed(runs.loc[[key]], "record") for key in (cheapest, at[0]))
    costs = {"dataset_model": row.dataset_model, "n_labels": row.n_labels, "compared": row.compared}
    costs |= {"mean": mean, "low": low, "high": high, "best": row.configuration, "cheapest": cheapest[0]}
    costs["seconds_ratio"] = tables.seconds_ratio(*pair)
    for name in ("device_seconds", "flops", "peak_memory_mib", "device"):
        costs |= {f"best_{name}": means.loc[at[0], name], f"cheapest_{name}": means.loc[cheapest, name]}
    return costs


def _as_good(undecided: Mapping[str, tuple[float, float, float]]) -> list[str]:
    """Of the `undecided` of `tables.best`, those whose own interval reaches zero too.

    The others are shown to be worse by a reader who compares only these two.
    """
    return [name for name, (_, _, high) in undecided.items() if high >= 0]


def _cheaper(row: Any) -> str:
    timed = pd.notna(row.best_device_seconds)
    of_best = f"{short(row.best_device_seconds)} device seconds" if timed else "seconds not measured"
    alike = on_one_machine(row.best_device, row.cheapest_device)
    if row.best == row.cheapest:
        mixed = "" if alike else ", the means over several machines"
        alone = "" if row.compared else "; too few seeds to compare"
        return f"{row.best} itself ({of_best}, {row.best_peak_memory_mib:.0f} MiB{mixed}{alone})"
    memory = f"{row.cheapest_peak_memory_mib:.0f} against {row.best_peak_memory_mib:.0f} MiB"
    together = pd.notna(row.seconds_ratio)
    seconds = f"{share(row.seconds_ratio)} of its {of_best}" if together else "seconds not comparable"
    spent = f"{seconds}, {memory}" if alike else "on several machines"
    gain = f"{points(row.mean, row.low, row.high)} points"
    return (
        f"{row.cheapest} at {share(row.cheapest_flops / row.best_flops)} of the FLOPs of {row.best} ({gain}, {spent})"
    )


# The claim above every figure, in a line or two

NEEDS_LESS = {"flops": "fewer FLOPs", "energy_wh": "less energy"}


def _pairs(number: int, table: pd.DataFrame) -> str:
    """`2 data sets`, or where one has several models, so many of what its rows are."""
    names = table["dataset_model"].drop_duplicates().str.split(" · ").str[0]
    several = names.duplicated().any()
    return f"{counted(number, 'pair')} of data set and model" if several else counted(number, "data set")


def claim_gains(gains: pd.DataFrame) -> str:
    """From `tables.gains`: in how many of its rows `progressive` is better than the tuned baseline, or worse."""
    counts = gains["verdict"].value_counts()
    better, worse = (int(counts.get(verdict, 0)) for verdict in ("better", "worse"))
    settings = gains["dataset_model"].duplicated().any()
    rows, at = (f"{len(gains)} settings", "in") if settings else (_pairs(len(gains), gains), "on")
    ahead = f"is {'' if better else 'not shown to be '}better than {TUNED} {at} {better or 'any'}"
    behind = f"{' and' if better else ', and is'} worse {at} {worse}" if worse else ""
    labels, cost = span(gains["n_labels"]), span(gains["flops_ratio"], share)
    return f"With {labels} labels, {OURS} {ahead} of {rows}{behind}, with {cost} of its FLOPs"


def span(values: Sequence[float], form: Callable[[Any], str] = str) -> str:
    """The lowest and the highest of these values, such as `3% to 8%`; one of them where they read alike."""
    return " to ".join(dict.fromkeys(map(form, (min(values), max(values)))))


def share(ratio: float) -> str:
    """`24%`, or in one digit below 1%: a share is never shown as 0%."""
    return f"{ratio:.0%}" if ratio >= 0.01 else f"{short(100 * ratio, 1)}%"


def short(number: float, digits: int = 3) -> str:
    """A number in few digits, with commas and never with an exponent: `1,230`."""
    return f"{Decimal(f'{number:.{digits}g}'):,f}"


def claim_best(best: pd.DataFrame) -> str:
    """From `tables.best`: the configuration that most often has the highest mean."""
    table = tables.at_most_labels(best[best["compared"] > 0])
    if table.empty:
        return "There are too few seeds here to say which configuration is best"
    return f"With {span(table['n_labels'])} labels, {_leading(table)}"


def claim_labels(frame: pd.DataFrame) -> str:
    """On how many data sets `progressive` is better than `linear_probe` with the fewest labels, and with the most.

    Only data sets with two sizes at which both ran with three seeds count; nothing is claimed if there is none.
    """
    table = tables.differences(frame, "linear_probe")
    table = table[(table["variant"] == OURS) & (table["verdict"] != stats.TOO_FEW_SEEDS)]
    sizes = table.groupby("dataset_model")["n_labels"]
    table = table.assign(fewest=sizes.transform("min"), most=sizes.transform("max")).query("fewest < most")
    if table.empty:
        return ""
    said = []
    for end in ("fewest", "most"):
        rows = table[table["n_labels"] == table[end]]
        better, worse = ((rows["verdict"] == verdict).sum() for verdict in DECIDED)
        behind = f" (worse on {worse})" if worse else ""
        said += [f"{better} of {_pairs(len(rows), rows)}{behind} with {span(rows['n_labels'])} labels"]
    return f"{OURS} is shown to be better than linear_probe on {', and on '.join(said)}"


def claim_cost(front: pd.DataFrame, best: pd.DataFrame, cost: str) -> str:
    """On how many data sets something with less of that cost than the best is not worse by its own interval."""
    found = []
    for part, row in _beside_best(front, best[best["compared"] > 0]):
        costs = part.set_index("configuration")[cost]
        if row["configuration"] in costs:
            alike = costs[costs.index.isin(_as_good(row["undecided"]))]
            found.append((alike < costs[row["configuration"]]).any())
    if not found:
        few = "Too few costs were measured here" if best["compared"].any() else "There are too few seeds here"
        return f"{few} to say whether a method that needs {NEEDS_LESS[cost]} is as good as the best"
    less = f"On {sum(found)} of {_pairs(len(found), front)}, a method that needs {NEEDS_LESS[cost]} than the best"
    return f"{less} is not shown to be worse by the interval of the difference"


def claim_spent(front: pd.DataFrame, best: pd.DataFrame, cost: str) -> str:
    """What training the best configuration takes of that cost, from the least to the most of the data sets."""
    settled = best.loc[best["compared"] > 0, ["dataset_model", "configuration", "n_labels"]]
    costs = settled.merge(front[["dataset_model", "configuration", cost]])
    if costs.empty:
        few = "Too few costs were measured here" if len(settled) else "There are too few seeds here"
        return f"{few} to say what training the best configuration takes"
    takes, unit = span(costs[cost], short), {"peak_memory_mib": "MiB of memory"}.get(cost, COSTS[cost])
    return f"With {span(costs['n_labels'])} labels, training the best configuration takes {takes} {unit}"


def claim_differences(table: pd.DataFrame, baseline: str) -> str:
    """How many differences from the baseline are better, worse and undecided."""
    counts = table["verdict"].value_counts()
    better, worse, undecided = (counts.get(verdict, 0) for verdict in ("better", "worse", "undecided"))
    made = counted(better + worse + undecided, "difference")
    return f"Of {made} from {baseline}: {better} better, {worse} worse and {undecided} undecided"


def claim_needs(needs: pd.DataFrame) -> str:
    """Which configuration most often needs fewer labels than all others, from the curves that can be relied on."""
    if not np.isfinite(needs["n_labels"]).any():
        return f"No curve that can be relied on reaches {curves.SHARE:.0%} of the highest score"
    parts = [part.sort_values("n_labels") for _, part in needs.groupby("dataset_model") if len(part) > 1]
    if not parts:
        return "On no data set can two curves be relied on, so the labels that methods need cannot be compared"
    on = f"{_pairs(len(parts), needs)} with two reliable curves or more"
    # Of a curve that reaches the target at its own smallest size, nobody knows how few labels it needs.
    least = [part["low"].where(part["low"] > part["sizes"].str[0], 0).iloc[1:].min() for part in parts]
    fewest = [part["variant"].iloc[0] for part, low in zip(parts, least, strict=True) if part["high"].iloc[0] < low]
    if not fewest:
        return f"By intervals that do not overlap, no method needs the fewest labels on any of {on}"
    counts = pd.Series(fewest).value_counts()
    first = sorted(counts.index[counts == counts.iloc[0]])
    need = "needs the fewest labels" if len(first) == 1 else "each need the fewest labels"
    return f"By intervals that do not overlap, {_listed(first)} {need} on {counts.iloc[0]} of {on}"


def claim_aggregate(table: pd.DataFrame) -> str:
    """Which variant is highest over the data sets at the most sizes."""
    widest = table[table["dataset_models"] == table.groupby("n_labels")["dataset_models"].transform("max")]
    tops = widest.loc[widest.groupby("n_labels")["iqm"].idxmax(), "variant"].value_counts()
    first = sorted(tops.index[tops == tops.max()])
    be = "is" if len(first) == 1 else "are each"
    return f"Over the data sets, {_listed(first)} {be} highest at {tops.max()} of {counted(tops.sum(), 'size')}"


def claim_effects(table: pd.DataFrame) -> str:
    """The knob that explains most, and those whose best value is at the grid's edge."""
    first, edges = table.iloc[0], list(table[table["at_edge"]]["knob"])
    said = f"{first['knob']} explains most, {first['share']:.0%} of the variance"
    end, be = ("", "is") if len(edges) == 1 else ("s", "are")
    return f"{said}; the best value{end} of {_listed(edges)} {be} at the grid's edge" if edges else said


def claim_searches(table: pd.DataFrame) -> str:
    """The share of the whole grid's device seconds that samplers spent, from the smallest to the largest mean."""
    spent = span(table.groupby("sampler")["seconds_share"].mean(), share)
    until = "until it is within half a point of the grid's best setting"
    return f"A search spends {spent} of the whole grid's device seconds {until}"


# A sentence for every figure


def between(low: float, high: float) -> str:
    """The interval of a score, ` (0.717 to 0.846)`, or nothing where there is none."""
    return "" if pd.isna(low) else f" ({low:.3f} to {high:.3f})"


def points(mean: float, low: float = np.nan, high: float = np.nan) -> str:
    """A difference of scores in points, with its interval where there is one: `+1.1 [-4.8, +7.0]`."""
    return signed(mean) + ("" if pd.isna(low) else f" [{signed(low)}, {signed(high)}]")


def signed(difference: float) -> str:
    """A difference of scores in points: `+1.1`, or where that would hide on which side of zero it is, `-0.03`."""
    given = round(100 * difference, 9) + 0.0  # equal means differ in their last bits
    usual = f"{given:+.1f}"
    return usual if float(usual) or not given else f"{Decimal(f'{given:+.1g}'):+f}"


def score_vs_data(best: pd.DataFrame) -> list[str]:
    """From `tables.best`: the best configuration of each dataset × model with the fewest and with the most labels."""
    found = []
    for title, part in best.groupby("dataset_model", sort=False):
        few, many = part.loc[part["n_labels"].idxmin()], part.loc[part["n_labels"].idxmax()]
        change = points(many["score"] - few["score"])
        more = f"; {scored(many)}, which is a change of {change} points" if len(part) > 1 else ""
        found.append(f"{title}: {scored(few)}{more}.")
    return found or [NOTHING]


def scored(row: pd.Series) -> str:
    """A row of `tables.best`: configuration, score and interval or seeds, labels, and how others compare."""
    said = _reached(row)
    if row["compared"]:
        said += f", {_top(row)} of {row['compared'] + 1} configurations"
    near = [f"{name} {points(mean)}" for name, (mean, *_) in row["undecided"].items()]
    others = (
        ("not shown to be worse, with the difference in points", near),
        ("too few seeds to compare", row["too_few_seeds"]),
        ("not run with these seeds here", sorted({*row["missing"]} - {*row["too_few_seeds"]})),
    )
    beside = [f"{words}: {', '.join(names)}" for words, names in others if names]
    return f"{said} ({'; '.join(beside)})" if beside else said


def _reached(row: pd.Series) -> str:
    sure = counted(row["seeds"], "seed") if pd.isna(row["low"]) else f"{row['low']:.3f} to {row['high']:.3f}"
    return f"{row['configuration']}, {row['score_name']} {row['score']:.3f} ({sure}) with {row['n_labels']} labels"


def _top(row: Any) -> str:
    """What the first of a row of `tables.best` is called: `best` only if all others ran with its seeds."""
    return "highest" if row.missing or row.too_few_seeds else "best"


def labels_needed(needs: pd.DataFrame) -> list[str]:
    """The labels that the best configuration of each dataset × model needs, with any doubts.

    The best is that of `tables.best` at its most labels. If its curve is not reliable and others are, it is the highest
    of these; if no curve is reliable and it has none, the highest of those that have one.
    """
    return [f"{row.dataset_model}: {needed(row)}." for row in _of_the_best(needs).itertuples()]


def _of_the_best(needs: pd.DataFrame) -> pd.DataFrame:
    ranked = needs.assign(reliable=needs["doubts"].map(len) == 0)
    ranked = ranked.sort_values(["reliable", "first", "score"], ascending=False, kind="stable")
    return ranked.drop_duplicates("dataset_model").sort_index()


def needed(row: Any) -> str:
    """Of a row of `tables.needs`: how many labels the configuration needs, with its interval and any doubts."""
    target = f"{row.target:.3f}, which is {_target(row.score_name, pd.Series(row.at_largest))}"
    doubts = f" (not reliable: {', '.join(row.doubts)})" if row.doubts else ""
    if np.isinf(row.n_labels):
        return f"{row.configuration} does not reach {target}, even with all {row.full} labels{doubts}"
    count = f"at most {row.n_labels:.0f}"
    if row.n_labels > row.sizes[0]:
        between = f" ({row.low:.0f} to {row.high:.0f})" if pd.notna(row.low) and np.isfinite(row.high) else ""
        count = f"about {row.n_labels:.0f}{between}"
    beyond = ", which is beyond the largest size that ran," if row.n_labels > row.sizes[-1] else ""
    return f"{row.configuration} needs {count} of the {row.full} labels{beyond} to reach {target}{doubts}"


def _target(metric: str, configurations: pd.Series) -> str:
    ran = f"{span(configurations)} configuration{'s' if configurations.max() > 1 else ''}"
    return f"{curves.SHARE:.0%} of the highest {metric} of {ran} at the largest size"


def score_vs_cost(front: pd.DataFrame, best: pd.DataFrame, cost: str) -> list[str]:
    """For each dataset × model: the cost of its best configuration beside the cheapest at that size, and the front.

    `best` is from `tables.at_most_labels`. Several machines are mentioned, except for FLOPs, which are the same on all.
    """
    name = COSTS[cost].split(" (")[0]
    found = [_score_vs_cost(part, row, cost, name) for part, row in _beside_best(front, best)]
    return found or [f"No record here has a value for {name}."]


def _beside_best(front: pd.DataFrame, best: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.Series]]:
    parts = dict(iter(front.groupby("dataset_model", sort=False)))
    return ((parts[row["dataset_model"]], row) for _, row in best.iterrows() if row["dataset_model"] in parts)


def _score_vs_cost(part: pd.DataFrame, best: pd.Series, cost: str, name: str) -> str:
    sized = part.set_index("configuration")
    if best["configuration"] not in sized.index:
        return f"{best['dataset_model']}: {best['configuration']} has no {name} on record."
    top, cheap = sized.loc[best["configuration"]], sized.loc[sized[cost].idxmin()]
    several = cost != "flops" and not on_one_machine(*part["device"].unique())
    about = f"{_front(part)}{'; the points are of several machines' if several else ''}"
    if cheap.name == top.name:
        known = f" with {name} on record" if part["unmeasured"].iloc[0] else ""
        of = f"one setting for each method{known}"
        return f"{best['dataset_model']}: {_reached(best)}, is also the cheapest of {of}; {about}."
    beside = f"{times(top[cost], cheap[cost])} the {name} of {cheap.name}, which reaches {cheap['score']:.3f}"
    if cost == "device_seconds":  # these are not of pairs that were run together
        beside = (
            f"{short(top[cost])} {name}, and {cheap.name}, which reaches {cheap['score']:.3f}, {short(cheap[cost])}"
        )
    return f"{best['dataset_model']}: {_reached(best)}, needs {beside}; {about}."


def money(front: pd.DataFrame, best: pd.DataFrame) -> list[str]:
    """For each dataset × model: what its best configuration costs in `money`, and the cheapest at that size."""
    return [_money(part, row) for part, row in _beside_best(front, best)] or ["No record here has device hours."]


def _money(part: pd.DataFrame, best: pd.Series) -> str:
    money = part.set_index("configuration")["money"]
    top, cheapest = best["configuration"], money.idxmin()
    if top not in money:
        return f"{best['dataset_model']}: {top} has no device hours on record."
    spent = f"{best['dataset_model']}: a run of {top} with {best['n_labels']} labels costs {short(money[top], 2)}"
    return f"{spent}." if cheapest == top else f"{spent}, one of {cheapest} {short(money.min(), 2)}."


def on_one_machine(*devices: str) -> bool:
    """Whether the seconds of runs with these `device` names, from `tables.summarise`, can be compared."""
    return len(set(devices)) == 1 and " + " not in devices[0]


def _front(part: pd.DataFrame) -> str:
    part = tables.with_enough_seeds(part)
    on_front = part[part["on_front"]]
    drawn = on_front["front_share"].dropna()
    sure = f"{(drawn >= 0.95).sum()} of them in 95% of draws or more"
    sure = sure if len(drawn) else "with too few seeds to say how surely"
    be = "is" if len(on_front) == 1 else "are"
    return f"{len(on_front)} of {counted(len(part), 'method')} {be} on the Pareto front, {sure}"


def times(ours: float, theirs: float) -> str:
    """How many times as much, in few digits."""
    if not theirs:
        return "more than"
    return f"{ours / theirs:.1f} times" if ours < 100 * theirs else f"{short(ours / theirs, 2)} times"


def gains(table: pd.DataFrame) -> list[str]:
    """For each dataset × model of `tables.gains`: the difference from the tuned baseline, and its costs over those."""
    found = []
    for row in table.itertuples():
        time = "" if pd.isna(row.seconds_ratio) else f" and {short(row.seconds_ratio, 2)} times the device seconds"
        gain = f"{points(row.mean, row.low, row.high)} points from {TUNED} with {row.n_labels} labels"
        cost = f"{row.verdict}, at {short(row.flops_ratio, 2)} times the FLOPs{time}"
        found.append(f"{row.dataset_model}: {OURS} differs by {gain}, {cost}.")
    return found or [f"{OURS} and {TUNED} did not run together at the size of the first answer."]


def verdicts(part: pd.DataFrame) -> str:
    """`better with 32, 100 labels: full, lora; undecided with 32 labels: …`, of the rows of `tables.differences`."""
    found = []
    for verdict in VERDICTS:
        sizes = part[part["verdict"] == verdict].groupby("configuration")["n_labels"].agg(tuple)
        for alike in sorted(set(sizes), key=lambda labels: (-len(labels), labels)):
            names = ", ".join(sizes.index[sizes == alike])
            found += [f"{verdict} with {', '.join(map(str, alike))} labels: {names}"]
    return "; ".join(found)


def aggregate(table: pd.DataFrame) -> list[str]:
    """For each number of labels: the variant that is highest over the data sets, and others that reach its interval."""
    if table.empty:
        why = "`from_scratch` did not run with three seeds here, or nothing was better than it"
        return [f"{why}, so no score can be normalised."]
    return [_aggregate(n_labels, part) for n_labels, part in table.groupby("n_labels")]


def _aggregate(n_labels: int, part: pd.DataFrame) -> str:
    widest = part[part["dataset_models"] == part["dataset_models"].max()]
    widest = widest.sort_values("iqm", ascending=False, kind="stable")
    top = widest.iloc[0]
    sure = f" [{top['low']:.2f}, {top['high']:.2f}]"
    within = [row.variant for row in widest.iloc[1:].itertuples() if row.high >= top["low"]]
    overlap = "the interval of {} overlaps" if len(within) == 1 else "the intervals of {} overlap"
    near = f"; {overlap.format(', '.join(within))} its own" if within else ""
    over = f"{n_labels} labels, {counted(top['dataset_models'], 'pair')}"
    return f"{over}: {top['variant']} is highest at {top['iqm']:.2f}{sure} of normalised {top['score_name']}{near}."


def main_effects(table: pd.DataFrame, whole: bool) -> list[str]:
    """The knob that explains most, between which values, the one that explains least, and the best at an edge."""
    if table.empty:
        return [NOTHING_TUNED]
    shares = table.drop_duplicates("knob")
    rows = table[table["knob"] == shares["knob"].iloc[0]].sort_values("score")
    low, high = rows.iloc[0], rows.iloc[-1]
    caution = "" if whole else " Not every combination was tried, so effects of knobs overlap."
    chance = (len(rows) - 1) / (rows["settings"].sum() - 1)
    least = f"; {shares['knob'].iloc[-1]} explains {shares['share'].iloc[-1]:.1%}" if len(shares) > 1 else ""
    return [
        f"{high['knob']} explains most, {high['share']:.0%} of the variance of validation {high['score_name']}: from "
        f"{low['score']:.3f} at {low['value']} to {high['score']:.3f} at {high['value']}{least}. By chance a "
        f"hyperparameter with {len(rows)} values would explain about {chance:.0%}."
        f"{at_edge(table)}{caution}"
    ]


def at_edge(table: pd.DataFrame) -> str:
    """A sentence on the knobs of `effects.main_effects` whose best value is the lowest or highest that was tried."""
    found = [f"{row.knob}={row.value}" for row in table[table["at_edge"]].itertuples()]
    return f" Best, but at the edge of the grid: {', '.join(found)}; better values may lie beyond it." if found else ""


def interaction(settings: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    """How much the strongest pair of knobs explains beyond each of the two, and its best values."""
    if pairs.empty:
        return [NOTHING_TUNED if settings.empty else "Only one hyperparameter differs between these runs."]
    first, second, share = pairs.iloc[0][["first", "second", "share"]]
    means = settings.groupby([first, second], dropna=False)["score"].mean()
    at = [None if pd.isna(value) else value for value in means.index[means.argmax()]]
    return [
        f"{first} and {second} together explain {share:.1%} of the variance beyond what each does alone; the "
        f"highest mean {tables.metrics_of(settings)}, {means.max():.3f}, is at {first}={at[0]} and {second}={at[1]}."
    ]


def expected_best(budget: pd.DataFrame) -> list[str]:
    """How many settings, drawn at random, come within half a point of the best of all."""
    if budget.empty:
        return [NOTHING_TUNED]
    final = budget["expected"].iloc[-1]
    enough = budget[budget["expected"] >= final - 0.005].iloc[0]
    spent = f" ({enough['device_seconds']:.0f} device seconds)" if pd.notna(enough["device_seconds"]) else ""
    tried = f"{enough['trials']:.0f} of {len(budget)}{spent}"
    return [
        f"One setting at random is expected to reach {budget['expected'].iloc[0]:.3f} validation "
        f"{tables.metrics_of(budget)}; the best of {tried} is expected "
        f"to be within half a point of the best of all, {final:.3f}."
    ]


def searches(table: pd.DataFrame) -> list[str]:
    """For each sampler: the share of the whole grid's device seconds that it spent, over its seeds."""
    found = []
    for name, rows in table.dropna(subset="seconds_share").groupby("sampler", sort=False):
        share = rows["seconds_share"]
        between = f" ({share.min():.0%} to {share.max():.0%} over {len(rows)} seeds)" if len(rows) > 1 else ""
        spent = f"{share.mean():.0%} of the whole grid's device seconds{between}"
        found.append(f"{name}: {rows['trials'].mean():.1f} trials, {spent}.")
    return found or ["No search is recorded here beside the whole grid that it searched."]
