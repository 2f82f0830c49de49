"""Tables of runs: a row for each run, and what many runs show together. Scores and differences are fractions."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrtl_utils.config import RunConfig
from lrtl_utils.files import data_name
from lrtl_utils.runs import store
from lrtl_utils.study import curves, stats

BASELINE = "conventional"
KEYS = ["dataset", "model", "method", "configuration", "n_labels"]
COMPARED = [*KEYS, "variant", "seed", "score", "record"]  # what a comparison reads; few columns make it quick
COSTS = {
    "device_seconds": "device seconds",
    "gpu_hours": "device hours",
    "flops": "FLOPs",
    "peak_memory_mib": "peak memory (MiB)",
    "energy_wh": "energy (Wh)",
}
SCORES = ["accuracy", "precision", "recall", "f1", "loss", "epochs_to_convergence"]
MEANS = [*SCORES, "train_samples_per_second"]  # beside the score and the costs
PLAIN = ["run_id", "status", "error", "dataset", "model", "method", "seed", "n_labels", "share", "score", "score_name"]
SECTIONS = ("config", "metrics", "validation", "cost")
PACKED = {"hits", "counts"}  # outcomes of single examples, for `stats.outcomes`
COLUMNS = [
    *PLAIN,
    "device",
    *(f"config.{name}" for name in RunConfig.model_fields),
    *(f"metrics.{name}" for name in SCORES),
    *("validation.score", "validation.loss"),
    *(f"cost.{name}" for name in [*COSTS, "train_samples_per_second", "predict_seconds"]),
    "record",
]  # at least these
TUNABLE = {"learning_rate", "batch_size", "epochs", "scheduler", "warmup_steps", "dropout", "weight_decay"}
# Clamped, left to a rule, or what the machine is faster with.
NOT_CHOSEN = {"batch_size", "warmup_steps", "max_length", "precision", "device"}
# These do not make a configuration; `test_limit` is no part of training.
APART = {"dataset", "model", "method", "data_fraction", "train_size", "shots", "seed", "asked", "test_limit"}
DEFAULTS = {name: field.default for name, field in RunConfig.model_fields.items() if name not in APART}
# The words that a printed table has for the names of columns and for verdicts.
SHOWN = {"n_labels": "labels", "configuration": "line", "configurations": "lines", "too_few_seeds": "open"}
SHOWN |= {"dataset_model": "panel", "dataset_models": "panels"}


def records(results: str | Path, status: str | None = None) -> pd.DataFrame:
    """A row for each run below `results`, only the completed or failed ones if `status` says so.

    `config.*`, `metrics.*`, `validation.*` and `cost.*` are the values of the record's sections: the configuration that
    was used, what was scored on the test and on the validation split, and the costs. `n_labels` counts all labels that
    the run saw, `share` is their share of the train split, `score` is what `score_name` says, `device` is the machine's
    name, and `record` holds the whole record.
    """
    rows = [_row(record) for record in store.records(results) if status in (None, record["status"])]
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*COLUMNS[:-1], *(name for name in frame if name not in COLUMNS), "record"])
    return frame.sort_values(["dataset", "model", "method", "n_labels", "seed"])


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    config, data, metrics = (record[name] or {} for name in ("config", "data", "metrics"))
    n_labels = data.get("train_size", 0) + data.get("validation_size", 0)
    score, score_name = ("f1", "entity F1") if "counts" in metrics else ("accuracy", "accuracy")
    row = {name: record[name] for name in ("run_id", "status", "error")}
    row |= {name: data_name(config[name]) for name in ("dataset", "model")}
    row |= {"method": config["method"], "seed": config["seed"], "n_labels": n_labels}
    row |= {"share": n_labels / data["available"] if data else None}
    row |= {"score": metrics.get(score), "score_name": score_name, "device": record["environment"]["device"]}
    for section in SECTIONS:
        for name, value in (record[section] or {}).items():
            if name not in PACKED and not isinstance(value, list | dict):
                row[f"{section}.{name}"] = value
    return row | {"record": record}


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as notebooks and the report print it."""
    table = table.rename(columns=SHOWN)
    if "verdict" in table:
        table["verdict"] = table["verdict"].replace(stats.TOO_FEW_SEEDS, SHOWN["too_few_seeds"])
    return table


def read(results: str | Path | Sequence[str]) -> pd.DataFrame:
    """The completed runs of a folder of results, or of several, as `compared` selects them.

    Of all folders but the first, only runs of configurations that the first has too.
    """
    frames = [records(folder, "completed").assign(folder=at) for at, folder in enumerate(folders(results))]
    if frames[0].empty:
        return compared(frames[0])
    frame = pd.concat([each for each in frames if len(each)], ignore_index=True)
    named = compared(frame)
    keys = pd.Series(list(zip(named["dataset"], named["model"], named["configuration"], strict=True)), named.index)
    return compared(frame.loc[named.index[keys.isin(keys[named["folder"] == 0])]])


def folders(results: str | Path | Sequence[str]) -> list[str | Path]:
    """One folder of results, or several, as a list."""
    return [results] if isinstance(results, str | Path) else list(results)


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that a summary compares, each with its `configuration` and its `variant`.

    A configuration is a method, followed by the settings that differ where a method ran with several: runs of different
    settings are never averaged, nor are runs in another precision or on another kind of device, which follow from the
    machine. The variant has the same name on all data sets: the method, or `method (tuned)` where a data set has one
    setting other than the default, or only that one while another data set has the default.

    A data set that was read from several sources counts as several data sets, and so does a model: each is named by the
    first digits of its checksum too. Left out are runs on a part of a test split that others used in full, a second run
    of one configuration, number of labels and seed, and runs of an earlier version of their method.
    """
    if "configuration" in frame:
        return frame
    frame = frame[np.array([store.is_current(record) for record in frame["record"]], dtype=bool)]
    if frame.empty:
        return frame.assign(configuration="", variant="")
    frame = frame.reset_index(drop=True).assign(
        source=[record["data"]["source"]["sha256"][:6] for record in frame["record"]],
        weights=[(record["model"]["source"] or {"sha256": ""})["sha256"][:6] for record in frame["record"]],
        tested=[record["data"]["test_size"] for record in frame["record"]],
    )
    frame = frame[frame["tested"] == frame.groupby(["dataset", "source"])["tested"].transform("max")]
    for name, checksum in (("dataset", "source"), ("model", "weights")):
        several = frame.groupby(name)[checksum].transform("nunique") > 1
        frame[name] = frame[name].where(~several, frame[name] + " " + frame[checksum])
    frame = _by_machine(with_configurations(frame)).drop_duplicates([*KEYS, "seed"])
    return frame.sort_values(["dataset", "model", "method", "n_labels", "seed"])


def with_configurations(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with the `configuration` and the `variant` that `compared` explains; the index must be unique."""
    groups = [
        (method, group.index, _settings(list(group["record"]), group["n_labels"]))
        for (_, _, method), group in frame.groupby(["dataset", "model", "method"])
    ]
    varied: dict[str, set[str]] = {}
    for method, _, settings in groups:
        varied.setdefault(method, set()).update(_differing(settings))
    names: dict[int, tuple[str, str]] = {}
    for method, index, settings in groups:
        elsewhere = [name for name in varied[method] if settings[0][name] != DEFAULTS[name]]
        differing = [name for name in DEFAULTS if name in {*_differing(settings), *elsewhere}]
        chosen = [tuple((name, each[name]) for name in differing) for each in settings]
        names |= dict(zip(index, _named(method, chosen), strict=True))
    named = pd.DataFrame.from_dict(names, orient="index", columns=["configuration", "variant"])
    return frame.assign(configuration=named["configuration"], variant=named["variant"])


def _by_machine(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs, of which those say so in their names that used another device or precision than most of their kind."""
    for name in ("device", "precision"):
        used = frame["record"].map(lambda record, name=name: str(record["config"][name]))
        usual = used.groupby([frame[key] for key in KEYS]).transform(lambda each: each.mode().iloc[0])
        unusual = used != usual
        for column in ("configuration", "variant"):
            renamed = frame[column] + f" [{name}=" + used + "]"
            frame[column] = frame[column].where(~unusual, renamed.str.replace("] [", ", ", regex=False))
    return frame


def _differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    return [name for name in DEFAULTS if len({str(each[name]) for each in settings}) > 1]


def _named(method: str, chosen: Sequence[tuple[tuple[str, Any], ...]]) -> list[tuple[str, str]]:
    """Configuration and variant of each of a method's runs on a data set, from the settings that differ."""
    others = {each for each in chosen if any(value != DEFAULTS[name] for name, value in each)}
    tuned = len(others) == 1 and {name for name, _ in chosen[0]} <= TUNABLE
    names = dict.fromkeys(chosen, (method, method))
    for each in others:
        configuration = f"{method} [{', '.join(f'{name}={value}' for name, value in each)}]"
        names[each] = configuration, f"{method} (tuned)" if tuned else configuration
    return [names[each] for each in chosen]


def _settings(records: Sequence[dict[str, Any]], n_labels: Sequence[int]) -> list[dict[str, Any]]:
    """The settings that the runs of a configuration share, as asked for: a default may follow the number of labels.

    If one number of labels had two values of a default, the code has changed, and the values that were used count.
    """
    configs = [DEFAULTS | record["config"] for record in records]  # a knob that was added later has its default
    used = [{name: config[name] for name in DEFAULTS} for config in configs]
    asked = [{name: config["asked"].get(name, config[name]) for name in DEFAULTS} for config in configs]
    seen: dict[tuple[str, int], set[str]] = {}
    for one, as_asked, size in zip(used, asked, n_labels, strict=True):
        for name in one.keys() - NOT_CHOSEN:
            if as_asked[name] != one[name]:
                seen.setdefault((name, size), set()).add(str(one[name]))
    changed = {name for (name, _), values in seen.items() if len(values) > 1}
    return [as_asked | {name: one[name] for name in changed} for as_asked, one in zip(asked, used, strict=True)]


def by_dataset_and_model(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of each data set with each model; a method that needs no model joins every model of its data set."""
    without = frame["model"] == "none"
    for dataset, part in frame.groupby("dataset", sort=False):
        shared = part[without.loc[part.index]]
        models = part[~without.loc[part.index]].groupby("model", sort=False)
        yield from ((f"{dataset} · {model}", pd.concat([own, shared])) for model, own in models)
        if not len(models):
            yield str(dataset), shared


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The compared runs whose means can be compared: of one data set and number of labels, those of the same seeds.

    These are the seeds that all configurations with three or more of them share. Configurations with fewer keep their
    seeds, and so do all if fewer than three are shared.
    """
    frame = compared(frame)
    kept = [_of_shared_seeds(sized) for _, sized in frame.groupby(["dataset", "n_labels"])]
    return frame[frame.index.isin(np.concatenate(kept))] if kept else frame


def _of_shared_seeds(sized: pd.DataFrame) -> pd.Index:
    seeds = sized.groupby(["model", "configuration"])["seed"]
    many = seeds.transform("nunique") >= stats.LEAST_SEEDS
    drawn = [set(each) for _, each in sized[many].groupby(["model", "configuration"])["seed"]]
    shared = set.intersection(*drawn) if drawn else set()
    return sized.index[~many | sized["seed"].isin(shared)] if len(shared) >= stats.LEAST_SEEDS else sized.index


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, model, configuration and number of labels: mean score, its interval, mean costs, seeds.

    Of `comparable` runs. `low` and `high` are NaN with fewer than three seeds, `full` is the size of the whole train
    split, and `device` is the machine's name, or the names of several with a plus between.
    """
    frame, means = comparable(frame), ["share", "score"]
    named = {f"cost.{name}": name for name in [*COSTS, "train_samples_per_second"]}
    named |= {f"metrics.{name}": name for name in SCORES}
    rows = []
    for values, group in [] if frame.empty else frame.groupby(KEYS, sort=True):
        row = dict(zip(KEYS, values, strict=True)) | _interval(group)
        row |= {named.get(name, name): group[name].astype(float).mean() for name in [*means, *named]}
        row |= {name: group[name].iloc[0] for name in ("variant", "score_name")}
        row |= {"device": " + ".join(sorted(set(group["device"])))}
        rows.append(row | {"full": group["record"].iloc[0]["data"]["available"]})
    about = ["variant", "share", "full", "score", "low", "high", "seeds", "score_name", "device"]
    return pd.DataFrame(rows, columns=[*KEYS, *about, *COSTS, *MEANS])


def _interval(group: pd.DataFrame) -> dict[str, Any]:
    low, high = stats.interval(*stats.outcomes(group["record"])) or (np.nan, np.nan)
    return {"low": low, "high": high, "seeds": len(group)}


def differences(frame: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """Paired differences to the baseline's variant: a row for each dataset × model, number of labels and configuration.

    `p` is that of sign flips over seeds (NaN with fewer than six), `p_holm` the same, corrected over data sets.
    """
    rows = []
    for dataset_model, part in by_dataset_and_model(compared(frame)[COMPARED]):
        for n_labels, sized in part.groupby("n_labels"):
            theirs = sized[sized["variant"] == baseline]
            for configuration, ours in sized[sized["variant"] != baseline].groupby("configuration", sort=True):
                if found := paired(ours, theirs):
                    about = {name: ours[name].iloc[0] for name in ("method", "variant")}
                    keys = {"dataset_model": dataset_model, "n_labels": n_labels, "configuration": configuration}
                    rows.append(keys | about | found)
    keys = ["dataset_model", "n_labels", "configuration", "method", "variant"]
    table = pd.DataFrame(rows, columns=[*keys, "seeds", "mean", "low", "high", "verdict", "p"])
    table["p_holm"] = np.nan
    for _, family in table[table["p"].notna()].groupby(["variant", "n_labels"]):
        table.loc[family.index, "p_holm"] = stats.holm(family["p"])
    return table


def paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Any]:
    """`seeds` that both have, the fields of a `stats.Difference` over them, and `p`; empty without common seeds."""
    seeds = sorted(set(ours["seed"]) & set(theirs["seed"]))
    if not seeds:
        return {}
    ours, theirs = (runs.set_index("seed").loc[seeds] for runs in (ours, theirs))
    difference = stats.difference(stats.outcomes(ours["record"]), stats.outcomes(theirs["record"]))
    p = stats.sign_flip_test(list(ours["score"] - theirs["score"]))
    return {"seeds": len(seeds), **difference._asdict(), "p": p}


def best(frame: pd.DataFrame) -> pd.DataFrame:
    """The best configuration for each dataset × model and number of labels, and the others that it ties with.

    Best is the highest mean over the seeds that all configurations with three seeds or more share (or all
    configurations, if none has so many): `score`, with `low` and `high`, and its `seeds`. In a `tie` are those whose
    paired difference to it has an interval that contains zero, and `too_few_seeds` are shared with others.
    `configurations` counts all, `compared` those other than the best that share enough seeds; `variants` are those of
    the best, which is first, and of the tied.
    """
    columns = ["dataset_model", "n_labels", "configuration", "score", "low", "high", "seeds", "tie", "too_few_seeds"]
    rows = [
        {"dataset_model": dataset_model, "n_labels": n_labels} | _best(sized)
        for dataset_model, part in by_dataset_and_model(comparable(frame)[COMPARED])
        for n_labels, sized in part.groupby("n_labels")
    ]
    return pd.DataFrame(rows, columns=[*columns, "configurations", "compared", "variants"])


def _best(sized: pd.DataFrame) -> dict[str, Any]:
    seeds = sized.groupby("configuration")["seed"].agg(set)
    enough = [name for name, drawn in seeds.items() if len(drawn) >= stats.LEAST_SEEDS] or list(seeds.index)
    shared = set.intersection(*seeds[enough]) or set(sized["seed"])
    alike = sized[sized["configuration"].isin(enough) & sized["seed"].isin(shared)]
    means = alike.groupby("configuration")["score"].mean().sort_values(ascending=False, kind="stable")
    top = means.index[0]
    found = differences(alike.assign(variant=alike["configuration"]), baseline=top).set_index("configuration")
    verdicts = found["verdict"].reindex(seeds.index.drop(top), fill_value=stats.TOO_FEW_SEEDS)
    tied, unknown = (sorted(verdicts.index[verdicts == verdict]) for verdict in ("tie", stats.TOO_FEW_SEEDS))
    variant = sized.drop_duplicates("configuration").set_index("configuration")["variant"]
    return {
        "configuration": top,
        "score": means.iloc[0],
        **_interval(alike[alike["configuration"] == top]),
        "tie": tied,
        "too_few_seeds": unknown,
        "configurations": len(seeds),
        "compared": len(verdicts) - len(unknown),
        "variants": list(dict.fromkeys(variant[[top, *tied]])),
    }


def at_most_labels(best: pd.DataFrame, *, fewest: bool = False) -> pd.DataFrame:
    """For each dataset × model, the row of `best` with the most labels at which configurations can be compared.

    If they can be compared nowhere, the row with the most labels. With `fewest`, the same with the fewest labels.
    """
    settled = best.assign(settled=best["compared"] > 0)
    ranked = settled.sort_values(["settled", "n_labels"], ascending=[False, fewest], kind="stable")
    return ranked.drop(columns="settled").drop_duplicates("dataset_model").sort_index()


def across_models(frame: pd.DataFrame) -> pd.DataFrame:
    """The compared runs of data sets with several models, as if of one model; configurations name the model too."""
    frame = compared(frame)
    several = frame[frame["model"] != "none"].groupby("dataset")["model"].nunique() > 1
    frame = frame[frame["dataset"].isin(several.index[several])]
    needs_none = frame["model"] == "none"
    named = frame["configuration"].where(needs_none, frame["model"] + " " + frame["configuration"])
    return frame.assign(configuration=named, variant=named, model=frame["model"].where(needs_none, "all models"))


def aggregate(frame: pd.DataFrame) -> pd.DataFrame:
    """The interquartile mean of normalised scores over all dataset × model: a row for each size and variant.

    A normalised score is 0 for `from_scratch` and 1 for the best mean of that dataset × model and number of labels.
    Variants with fewer than three seeds there do not count, nor does a dataset × model without `from_scratch`, or where
    nothing is better than it. `dataset_models` says how many count; each gives as many of its first seeds as the one
    with the fewest seeds has.
    """
    scores: dict[tuple[int, str], list[np.ndarray]] = {}
    for _, part in by_dataset_and_model(comparable(frame)):
        for n_labels, sized in part.groupby("n_labels"):
            each_variant = sized.groupby("variant")["score"]
            drawn = {name: each.to_numpy() for name, each in each_variant if len(each) >= stats.LEAST_SEEDS}
            floor = drawn.get("from_scratch", np.array([np.inf])).mean()
            top = max((each.mean() for each in drawn.values()), default=floor)
            if top > floor:
                for variant, each in drawn.items():
                    scores.setdefault((n_labels, variant), []).append((each - floor) / (top - floor))
    rows = []
    for (n_labels, variant), each in sorted(scores.items()):
        fewest = min(map(len, each))
        mean, (low, high) = stats.interquartile_mean(np.stack([one[:fewest] for one in each]))
        rows.append([n_labels, variant, mean, low, high, len(each)])
    return pd.DataFrame(rows, columns=["n_labels", "variant", "iqm", "low", "high", "dataset_models"])


def front(frame: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The rows of `summarise` that have that cost, with `on_front`, and the `front_share` of bootstrap draws.

    The Pareto front is that of one dataset × model. Seeds and test examples are drawn, the same for configurations with
    as many seeds; costs are the means. A point with fewer than three seeds stays where it is, and has no share.
    """
    frame = comparable(frame)
    rows = []
    for dataset_model, part in by_dataset_and_model(frame):
        summary = summarise(part).dropna(subset=cost)
        groups = comparable(part).groupby(KEYS)
        draws = [_draws(groups.get_group(key)) for key in summary[KEYS].itertuples(index=False, name=None)]
        if draws:
            share = stats.front_share(summary[cost].to_numpy(), np.stack(draws))
            share = np.where(summary["seeds"] >= stats.LEAST_SEEDS, share, np.nan)
            on_front = stats.pareto_front(summary[cost], summary["score"])
            rows.append(summary.assign(dataset_model=dataset_model, on_front=on_front, front_share=share))
    nothing = {"dataset_model": "", "on_front": False, "front_share": np.nan}
    return pd.concat(rows, ignore_index=True) if rows else summarise(frame[:0]).assign(**nothing)


def needs(frame: pd.DataFrame) -> pd.DataFrame:
    """The labels needed for 95 % of the score at full data: a row for each configuration with three sizes or more.

    `score` is the measured one at the last of the `sizes`; `first` marks the best configuration of a dataset × model
    at its most labels.
    """
    rows = []
    leading = set(at_most_labels(best(frame))[["dataset_model", "configuration"]].itertuples(index=False, name=None))
    for dataset_model, part in by_dataset_and_model(comparable(frame)):
        full = part["record"].iloc[0]["data"]["available"]
        for configuration, group in part.groupby("configuration"):
            sized = [each for _, each in group.groupby("n_labels")]
            sizes, means = zip(*((each["n_labels"].iloc[0], each["score"].mean()) for each in sized), strict=True)
            sure = min(map(len, sized)) >= stats.LEAST_SEEDS
            draws = np.stack([_draws(each) for each in sized], axis=1) if sure else None
            if found := curves.need(sizes, means, draws, full):
                about = {"dataset_model": dataset_model, "configuration": configuration}
                about |= {"variant": group["variant"].iloc[0], "sizes": sizes, "score": means[-1], "full": full}
                rows.append(about | {"first": (dataset_model, configuration) in leading} | found._asdict())
    columns = ["dataset_model", "configuration", "variant", "sizes", "score", "full", "first", *curves.Need._fields]
    return pd.DataFrame(rows, columns=columns)


def _draws(group: pd.DataFrame) -> np.ndarray:
    """Resampled scores of a configuration at one size, [DRAWS]; with fewer than three seeds all are the mean."""
    if len(group) < stats.LEAST_SEEDS:
        return np.full(stats.DRAWS, group["score"].mean())
    return stats.resample(*stats.outcomes(group["record"]))
