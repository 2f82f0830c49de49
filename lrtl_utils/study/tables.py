"""Tables: a DataFrame of runs in, a DataFrame of what they say out. Scores and differences are fractions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrtl_utils.config import RunConfig
from lrtl_utils.measure.evaluation import outcomes
from lrtl_utils.runs import store as runs
from lrtl_utils.study import curves, stats

BASELINE = "conventional"
KEYS = ["dataset", "model", "method", "line", "labels"]
PAIRED = [*KEYS, "variant", "seed", "score", "record"]  # all that a comparison looks at; few columns make it quick
COSTS = {
    "device_seconds": "device seconds",
    "gpu_hours": "device hours",
    "flops": "FLOPs",
    "peak_memory_mib": "peak memory (MiB)",
    "energy_wh": "energy (Wh)",
}
MEANS = ("accuracy", "precision", "recall", "f1", "loss", "epochs_to_convergence", "train_samples_per_second")
TUNABLE = {"learning_rate", "batch_size", "epochs", "scheduler", "warmup_steps", "dropout", "weight_decay"}
DECIDED_BY_DATA = {"batch_size", "warmup_steps", "max_length"}  # clamped or left to a rule
# Not a line's settings; `test_limit` is none of the training.
APART = {"dataset", "model", "method", "data_fraction", "train_size", "shots", "seed", "asked", "test_limit"}
DEFAULTS = {name: field.default for name, field in RunConfig.model_fields.items() if name not in APART}


def read(results: str | Path | Sequence[str]) -> pd.DataFrame:
    """The runs of a folder of results, or of several: of all but the first, those whose settings stand in the first."""
    frames = [runs.load(folder).assign(folder=at) for at, folder in enumerate(folders(results))]
    if frames[0].empty:
        return reported(frames[0])
    frame = pd.concat([each for each in frames if len(each)], ignore_index=True)
    lines = reported(frame)
    keys = pd.Series(list(zip(lines["dataset"], lines["model"], lines["line"], strict=True)), index=lines.index)
    return reported(frame.loc[lines.index[keys.isin(keys[lines["folder"] == 0])]])


def folders(results: str | Path | Sequence[str]) -> list[str | Path]:
    """One folder of results, or several, as a list."""
    return [results] if isinstance(results, str | Path) else list(results)


def reported(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that a summary is of, each with its `line`, and where a data set had several sources, with the source.

    A line is a method, or where a method ran with several settings, the method with what tells them apart: runs of
    different settings are never averaged. Its `variant` is the same in all data sets: the method, or `method (tuned)`,
    where a data set has one setting of it beside its default, or alone what another has beside it.
    Left out are runs on a part of a test split that others saw whole, and a second run of one line, size and seed.
    """
    if "line" in frame:
        return frame
    if frame.empty:
        return frame.assign(line="", variant="", score=np.nan, share=np.nan, score_name="")
    frame = frame.reset_index(drop=True).assign(
        source=[record["data"]["source"]["sha256"][:6] for record in frame["record"]],
        tested=[record["data"]["test_size"] for record in frame["record"]],
    )
    frame = frame[frame["tested"] == frame.groupby(["dataset", "source"])["tested"].transform("max")]
    several = frame.groupby("dataset")["source"].transform("nunique") > 1
    frame = frame.assign(dataset=frame["dataset"].where(~several, frame["dataset"] + " " + frame["source"]))
    return (
        with_lines(frame).drop_duplicates([*KEYS, "seed"]).sort_values(["dataset", "model", "method", "labels", "seed"])
    )


def with_lines(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs, each with the `line` and the `variant` that `reported` tells of; the index is to be unique."""
    groups = [
        (method, group.index, _settings(list(group["record"]), group["labels"]))
        for (_, _, method), group in frame.groupby(["dataset", "model", "method"])
    ]
    varied: dict[str, set[str]] = {}
    for method, _, settings in groups:
        varied.setdefault(method, set()).update(_differing(settings))
    names: dict[int, tuple[str, str]] = {}
    for method, index, settings in groups:
        elsewhere = [name for name in varied[method] if settings[0][name] != DEFAULTS[name]]
        shown = [name for name in DEFAULTS if name in {*_differing(settings), *elsewhere}]
        chosen = [tuple((name, each[name]) for name in shown) for each in settings]
        names |= dict(zip(index, _named(method, chosen), strict=True))
    named = pd.DataFrame.from_dict(names, orient="index", columns=["line", "variant"])
    return frame.assign(line=named["line"], variant=named["variant"])


def _differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    return [name for name in DEFAULTS if len({str(each[name]) for each in settings}) > 1]


def _named(method: str, chosen: Sequence[tuple[tuple[str, Any], ...]]) -> list[tuple[str, str]]:
    """Line and variant of each of a method's runs on a data set, from the settings that tell them apart."""
    others = {each for each in chosen if any(value != DEFAULTS[name] for name, value in each)}
    tuned = len(others) == 1 and {name for name, _ in chosen[0]} <= TUNABLE
    names = dict.fromkeys(chosen, (method, method))
    for each in others:
        line = f"{method} [{', '.join(f'{name}={value}' for name, value in each)}]"
        names[each] = line, f"{method} (tuned)" if tuned else line
    return [names[each] for each in chosen]


def _settings(records: Sequence[dict[str, Any]], labels: Sequence[int]) -> list[dict[str, Any]]:
    """What must agree within a line, as it was asked for: a default may follow the number of labels.

    Where one number of labels saw two values of a default, the code has changed, and the values themselves count.
    """
    configs = [DEFAULTS | record["config"] for record in records]  # a knob that came later has its default
    used = [{name: config[name] for name in DEFAULTS} for config in configs]
    asked = [{name: config["asked"].get(name, config[name]) for name in DEFAULTS} for config in configs]
    seen: dict[tuple[str, int], set[str]] = {}
    for one, as_asked, size in zip(used, asked, labels, strict=True):
        for name in one.keys() - DECIDED_BY_DATA:
            if as_asked[name] != one[name]:
                seen.setdefault((name, size), set()).add(str(one[name]))
    changed = {name for (name, _), values in seen.items() if len(values) > 1}
    return [as_asked | {name: one[name] for name in changed} for as_asked, one in zip(asked, used, strict=True)]


def by_panel(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """One part a data set and model; methods that need no model join every model's panel of their data set."""
    without = frame["model"] == "none"
    for dataset, part in frame.groupby("dataset", sort=False):
        shared = part[without.loc[part.index]]
        models = part[~without.loc[part.index]].groupby("model", sort=False)
        yield from ((f"{dataset} · {model}", pd.concat([own, shared])) for model, own in models)
        if not len(models):
            yield str(dataset), shared


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The reported runs whose means can stand beside each other: for a data set and size, of the same seeds.

    Those are the seeds that all lines with three or more share. Lines with fewer keep theirs, and so do all where fewer
    than three are shared.
    """
    frame = reported(frame)
    kept = [_of_shared_seeds(sized) for _, sized in frame.groupby(["dataset", "labels"])]
    return frame[frame.index.isin(np.concatenate(kept))] if kept else frame


def _of_shared_seeds(sized: pd.DataFrame) -> pd.Index:
    seeds = sized.groupby(["model", "line"])["seed"]
    many = seeds.transform("nunique") >= stats.LEAST_SEEDS
    drawn = [set(each) for _, each in sized[many].groupby(["model", "line"])["seed"]]
    shared = set.intersection(*drawn) if drawn else set()
    return sized.index[~many | sized["seed"].isin(shared)] if len(shared) >= stats.LEAST_SEEDS else sized.index


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, model, line and number of labels: mean score, its interval, other means, seeds.

    Of `comparable` runs. `low` and `high` are NaN under three seeds; `full` is the size of the whole train split,
    `device` the machine's name, or those of several with a plus between.
    """
    rows = []
    about = ["variant", "share", "full", "score", "low", "high", "seeds", "score_name", "device"]
    columns = [*KEYS, *about, *COSTS, *MEANS]
    frame = comparable(frame)
    for values, group in [] if frame.empty else frame.groupby(KEYS, sort=True):
        row = dict(zip(KEYS, values, strict=True)) | _interval(group)
        row |= {name: group[name].astype(float).mean() for name in ("share", "score", *COSTS, *MEANS)}
        row |= {name: group[name].iloc[0] for name in ("variant", "score_name")}
        devices = " + ".join(sorted(set(group["run_device"])))
        rows.append(row | {"full": group["record"].iloc[0]["data"]["available"], "device": devices})
    return pd.DataFrame(rows, columns=columns)


def _interval(group: pd.DataFrame) -> dict[str, Any]:
    low, high = stats.interval(*outcomes(list(group["record"]))) or (np.nan, np.nan)
    return {"low": low, "high": high, "seeds": len(group)}


def differences(frame: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """A row for each panel, number of labels and line: paired difference to the baseline's variant, over shared seeds.

    `p` is that of sign flips over seeds (NaN under six), `p_holm` corrected over the panels that compare the same.
    """
    rows = []
    for panel, part in by_panel(reported(frame)[PAIRED]):
        for labels, sized in part.groupby("labels"):
            theirs = sized[sized["variant"] == baseline]
            for line, ours in sized[sized["variant"] != baseline].groupby("line", sort=True):
                if found := paired(ours, theirs):
                    about = {name: ours[name].iloc[0] for name in ("method", "variant")}
                    rows.append({"panel": panel, "labels": labels, "line": line, **about, **found})
    columns = ["panel", "labels", "line", "method", "variant", "seeds", "mean", "low", "high", "verdict", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = np.nan
    for _, family in table[table["p"].notna()].groupby(["variant", "labels"]):
        table.loc[family.index, "p_holm"] = stats.holm(family["p"])
    return table


def paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Any]:
    """`seeds` that both runs have, the fields of a `stats.Difference` over them, and `p`; empty without such seeds."""
    seeds = sorted(set(ours["seed"]) & set(theirs["seed"]))
    if not seeds:
        return {}
    ours, theirs = (runs_of.set_index("seed").loc[seeds] for runs_of in (ours, theirs))
    difference = stats.difference(outcomes(list(ours["record"])), outcomes(list(theirs["record"])))
    p = stats.sign_flip_test(list(ours["score"] - theirs["score"]))
    return {"seeds": len(seeds), **difference._asdict(), "p": p}


def best(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each panel and number of labels: the best of its `lines`, and which others it ties with.

    Best is the highest mean over the seeds that all lines with three seeds or more have (all lines, where none has so
    many): `score`, with `low` and `high`, and its `seeds`. Ties are those whose paired difference to it has zero in its
    interval; `open` those that share too few seeds. `compared` counts the others of which more can be said; `variants`
    are those of the best, which is first, and of what ties with it.
    """
    rows = []
    for panel, part in by_panel(comparable(frame)[PAIRED]):
        rows += [{"panel": panel, "labels": labels} | _best(sized) for labels, sized in part.groupby("labels")]
    told = ["line", "score", "low", "high", "seeds", "tie", "open", "lines", "compared", "variants"]
    return pd.DataFrame(rows, columns=["panel", "labels", *told])


def _best(sized: pd.DataFrame) -> dict[str, Any]:
    seeds = sized.groupby("line")["seed"].agg(set)
    enough = [line for line, drawn in seeds.items() if len(drawn) >= stats.LEAST_SEEDS] or list(seeds.index)
    shared = set.intersection(*seeds[enough]) or set(sized["seed"])
    alike = sized[sized["line"].isin(enough) & sized["seed"].isin(shared)]
    means = alike.groupby("line")["score"].mean().sort_values(ascending=False, kind="stable")
    top = means.index[0]
    told = differences(alike.assign(variant=alike["line"]), baseline=top).set_index("line")["verdict"]
    verdicts = told.reindex(seeds.index.drop(top), fill_value="open")
    named = {verdict: sorted(verdicts.index[verdicts == verdict]) for verdict in ("tie", "open")}
    variant = sized.drop_duplicates("line").set_index("line")["variant"]
    variants = list(dict.fromkeys(variant[[top, *named["tie"]]]))
    ours = alike[alike["line"] == top]
    counts = {"lines": len(seeds), "compared": int((verdicts != "open").sum())}
    return {"line": top, "score": means.iloc[0], **_interval(ours), **named, **counts, "variants": variants}


def at_most_labels(best: pd.DataFrame, *, fewest: bool = False) -> pd.DataFrame:
    """Of the rows of `best`, each panel's with the most labels at which lines can be compared, else with the most.

    With `fewest`, at the fewest.
    """
    settled = best.assign(settled=best["compared"] > 0)
    ranked = settled.sort_values(["settled", "labels"], ascending=[False, fewest], kind="stable")
    return ranked.drop(columns="settled").drop_duplicates("panel").sort_index()


def across_models(frame: pd.DataFrame) -> pd.DataFrame:
    """The reported runs of data sets with several models, each as one panel, whose lines name the model too."""
    frame = reported(frame)
    several = frame[frame["model"] != "none"].groupby("dataset")["model"].nunique() > 1
    frame = frame[frame["dataset"].isin(several.index[several])]
    named = frame["line"].where(frame["model"] == "none", frame["model"] + " " + frame["line"])
    return frame.assign(line=named, variant=named, model=frame["model"].where(frame["model"] == "none", "all models"))


def aggregate(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each number of labels and variant: interquartile mean over panels of normalised scores.

    0 is `from_scratch` and 1 the best mean of that panel and size. Variants with fewer than three seeds there do not
    count, nor do panels without `from_scratch`, or where nothing is above it; `panels` says how many do, each with as
    many of its first seeds as the one with the fewest has.
    """
    scores: dict[tuple[int, str], list[np.ndarray]] = {}
    for _, part in by_panel(comparable(frame)):
        for labels, sized in part.groupby("labels"):
            each_variant = sized.groupby("variant")["score"]
            drawn = {name: each.to_numpy() for name, each in each_variant if len(each) >= stats.LEAST_SEEDS}
            floor = drawn.get("from_scratch", np.array([np.inf])).mean()
            top = max((each.mean() for each in drawn.values()), default=floor)
            if top > floor:
                for variant, each in drawn.items():
                    scores.setdefault((labels, variant), []).append((each - floor) / (top - floor))
    rows = []
    for (labels, variant), each in sorted(scores.items()):
        fewest = min(map(len, each))
        mean, (low, high) = stats.interquartile_mean(np.stack([one[:fewest] for one in each]))
        rows.append({"labels": labels, "variant": variant, "iqm": mean, "low": low, "high": high, "panels": len(each)})
    return pd.DataFrame(rows, columns=["labels", "variant", "iqm", "low", "high", "panels"])


def front(frame: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The summary's rows that have that cost, with `on_front`, and `front_share`: of bootstrap draws, within a panel.

    Seeds and test examples are drawn, the same for lines with as many seeds; costs are the means. A point with fewer
    than three seeds stays where it is, and has no share.
    """
    frame = comparable(frame)
    rows = []
    for panel, part in by_panel(frame):
        summary = summarise(part).dropna(subset=cost)
        groups = comparable(part).groupby(KEYS)
        keys = summary[KEYS].itertuples(index=False, name=None)
        draws = [_draws(groups.get_group(key)) for key in keys]
        if draws:
            share = stats.front_share(summary[cost].to_numpy(), np.stack(draws))
            share = np.where(summary["seeds"] >= stats.LEAST_SEEDS, share, np.nan)
            on_front = stats.pareto_front(summary[cost], summary["score"])
            rows.append(summary.assign(panel=panel, on_front=on_front, front_share=share))
    nothing = {"panel": "", "on_front": False, "front_share": np.nan}
    return pd.concat(rows, ignore_index=True) if rows else summarise(frame[:0]).assign(**nothing)


def needs(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each panel and line with three sizes or more: labels needed for 95 % of the score at full data.

    `score` is the measured one at the last of the `sizes`; `first` marks the panel's best at its most labels.
    """
    rows = []
    leading = set(at_most_labels(best(frame))[["panel", "line"]].itertuples(index=False, name=None))
    for panel, part in by_panel(comparable(frame)):
        full = part["record"].iloc[0]["data"]["available"]
        for line, group in part.groupby("line"):
            sized = [each for _, each in group.groupby("labels")]
            sizes, means = zip(*((each["labels"].iloc[0], each["score"].mean()) for each in sized), strict=True)
            sure = min(map(len, sized)) >= stats.LEAST_SEEDS
            draws = np.stack([_draws(each) for each in sized], axis=1) if sure else None
            if found := curves.need(sizes, means, draws, full):
                about = {"panel": panel, "line": line, "variant": group["variant"].iloc[0], "sizes": sizes}
                about |= {"score": means[-1], "full": full, "first": (panel, line) in leading}
                rows.append(about | found._asdict())
    columns = ["panel", "line", "variant", "sizes", "score", "full", "first", *curves.Need._fields]
    return pd.DataFrame(rows, columns=columns)


def _draws(group: pd.DataFrame) -> np.ndarray:
    """Resampled scores of a line at one size, [DRAWS]; under three seeds all the mean."""
    if len(group) < stats.LEAST_SEEDS:
        return np.full(stats.DRAWS, group["score"].mean())
    return stats.resample(*outcomes(list(group["record"])))
