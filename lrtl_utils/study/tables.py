"""Tables of runs: a row for each run, and what many runs show together. Scores and differences are fractions."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, gmean

from lrtl_utils.config import NO_MODEL, RunConfig
from lrtl_utils.data.catalog import TASKS
from lrtl_utils.data.load import READING
from lrtl_utils.data.own import columns_read
from lrtl_utils.files import data_name, existing_folder
from lrtl_utils.measure.metrics import METRICS, Outcome, outcome
from lrtl_utils.models.catalog import MODELS
from lrtl_utils.study import curves, record_cache, stats

OURS, BASELINE = "progressive", "conventional"
ALL_MODELS = "all models"  # in the place of a model
TUNED = f"{BASELINE} (tuned)"
KEYS = ["dataset", "model", "method", "configuration", "n_labels"]
# What a comparison reads; few columns make it quick.
COMPARED = [*KEYS, "variant", "seed", "score", "score_name", "cost.flops", "outcome", "record"]
NEAR_SECONDS = 3600  # between two runs whose seconds are compared
COSTS = {
    "device_seconds": "device seconds",
    "gpu_hours": "device hours",
    "flops": "FLOPs",
    "peak_memory_mib": "peak memory (MiB)",
    "energy_wh": "energy (Wh)",
}
SCORES = ["accuracy", "precision", "recall", "f1", "loss", "epochs_to_convergence"]
# By the key that says how many seconds a run took from a cache: the costs that it has then not measured itself.
TIMED = {
    "cached_seconds": ("device_seconds", "gpu_hours", "energy_wh", "train_samples_per_second"),
    "cached_predict_seconds": ("predict_seconds", "predict_samples_per_second"),
}
MEANS = [*SCORES, "train_samples_per_second"]  # beside the score and the costs
CURVE = ("loss", "validation_loss", "validation_score")  # of each point of a record's curve
SECTIONS = ("config", "metrics", "validation", "cost")
PACKED = {"hits", "answers", "counts"}  # outcomes of single examples, for `stats.outcomes`
COLUMNS = [
    *("run_id", "status", "error", "dataset", "model", "method", "seed", "n_labels", "share", "score", "score_name"),
    "device",
    *(f"config.{name}" for name in RunConfig.model_fields),
    *(f"metrics.{name}" for name in SCORES),
    *("validation.score", "validation.loss"),
    *(f"cost.{name}" for name in [*COSTS, "train_samples_per_second", "predict_seconds"]),
    "outcome",
    "record",
]  # at least these
TUNED_BY = ("learning_rate", "epochs")  # what names a setting of a method `WITH_RATE` that is alone
WITH_RATE = (BASELINE, "full")  # no rule sets theirs, so if it is not the default, it was chosen
TUNABLE = {"learning_rate", "batch_size", "epochs", "scheduler", "warmup_steps", "dropout", "weight_decay"}
# Clamped, left to a rule, or what the machine is faster with.
MACHINE = ("device", "precision")
NOT_CHOSEN = {"batch_size", "warmup_steps", "max_length", *MACHINE}
# These do not make a configuration; `test_limit` is no part of training.
APART = {*READING, "model", "method", "data_fraction", "train_size", "shots", "seed", "test_limit"}
DEFAULTS = {name: field.default for name, field in RunConfig.model_fields.items() if name not in APART}
NAMED = [name for name in DEFAULTS if name not in MACHINE]  # of MACHINE, `by_machine` names what was used
# The words that a printed table has for the names of columns.
SHOWN = {"n_labels": "labels", "too_few_seeds": "too few seeds", "at_least_as_good": "at least as good"}
SHOWN |= {"score_name": "metric", "p_corrected": "p, corrected"}
SHOWN |= {"knob": "hyperparameter", "at_edge": "at the edge"}
SHOWN |= {"dataset_model": "data set · model", "dataset_models": "pairs"}
SHOWN |= {"data_sets": "data sets", "data_set_gain": "gain by data set"}


def records(results: str | Path, status: str | None = None, metric: str | None = None) -> pd.DataFrame:
    """A row for each run below `results`, only the completed or failed ones if `status` says so.

    `config.*`, `metrics.*`, `validation.*` and `cost.*` are the values of the record's sections: the configuration that
    was used, what was scored on the test and on the validation split, and the costs. `n_labels` counts all labels that
    the run saw, `share` is their share of the train split, `device` is the machine's name, and `record` holds the whole
    record. `score` and `validation.score` are what `score_name` says: the `metric`, or without one accuracy, and for
    tagged sentences entity F1. `outcome` is what intervals of the score are made of. `InputError` if there is no folder
    `results`, or if a run does not have the metric.
    """
    found = record_cache.records(existing_folder(results))
    return frame_of((each for each in found if status in (None, each["status"])), metric)


def frame_of(records: Iterable[Mapping[str, Any]], metric: str | None = None) -> pd.DataFrame:
    """The table that `records` explains, of these records."""
    rows = [row_of(record, metric) for record in records]
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*COLUMNS[:-1], *(name for name in frame if name not in COLUMNS), "record"])
    return frame.sort_values(["dataset", "model", "method", "n_labels", "seed"])


def row_of(record: Mapping[str, Any], metric: str | None = None) -> dict[str, Any]:
    """The row of one record."""
    config, data = (record[name] or {} for name in ("config", "data"))
    n_labels = data.get("train_size", 0) + data.get("validation_size", 0)
    judged = outcome(record, metric) if record["metrics"] else None
    row = {name: record[name] for name in ("run_id", "status", "error")}
    row |= {name: data_name(config[name]) for name in ("dataset", "model")}
    row |= {"method": config["method"], "seed": config["seed"], "n_labels": n_labels}
    row |= {"share": n_labels / data["available"] if data else None}
    row |= {"score": judged and judged.score, "score_name": judged and judged.name, "outcome": judged}
    row |= {"device": record["environment"]["device"]}
    for section in SECTIONS:
        for name, value in (record[section] or {}).items():
            if name not in PACKED and not isinstance(value, list | dict):
                row[f"{section}.{name}"] = value
    if judged and record["validation"]:
        row["validation.score"] = record["validation"][METRICS[judged.metric].score]
    return row | {"record": record}


def metrics_of(frame: pd.DataFrame) -> str:
    """The metrics in which these runs are scored, in words: `accuracy`, or `accuracy or entity F1`."""
    return " or ".join(sorted(set(frame["score_name"].dropna()))) or "score"


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as notebooks and the report print it."""
    return table.rename(columns=SHOWN)


def read(results: str | Path | Sequence[str], metric: str | None = None) -> pd.DataFrame:
    """The completed runs of a folder of results, or of several, as `compared` selects them; scores are by `metric`.

    Of all folders but the first, only runs on data sets that the first has too.
    """
    return together([records(folder, "completed", metric) for folder in folders(results)])


def together(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """What `read` gives, of the completed runs of each folder; `folder` is the number of the run's."""
    frames = [each.assign(folder=at) for at, each in enumerate(frames)]
    frames = [each[each["dataset"].isin(frames[0]["dataset"])] for each in frames]
    if frames[0].empty:
        return compared(frames[0])
    frame = _newest(pd.concat([each for each in frames if len(each)]))
    named = compared(frame)
    first, raw = named["folder"] == 0, frame["dataset"].loc[named.index]
    ours = named["dataset"].isin(named["dataset"][first]) | ~raw.isin(raw[first])
    return named if ours.all() else compared(frame.loc[named.index[ours]])  # anew: what was left out varied names too


def folders(results: str | Path | Sequence[str]) -> list[str | Path]:
    """One folder of results, or several, as a list."""
    return [results] if isinstance(results, str | Path) else list(results)


def read_from(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the data of a run are: the checksum of their source, the columns, and whether leaks were dropped."""
    config, data = record["config"], record["data"]
    columns = columns_read(data.get("notes", ()), config.get("text_column"), config.get("label_column"))
    return data["source"]["sha256"], columns, config.get("drop_leaks", False)


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that a summary compares, each with its `configuration` and its `variant`.

    A configuration is a method, followed by the settings in which its runs differ; runs of different settings are never
    averaged. Runs in another precision, or on another kind of device, than most are a configuration of their own. The
    variant is the configuration's name across data sets: `METHOD`, `METHOD (tuned)`, or else the configuration.

    A configuration is tuned if it is the only one of its method on a data set that does not have the defaults, and
    differs from them in nothing but `TUNABLE`. `conventional` and `full` are tuned, too, if a learning rate was asked
    for that no other method was given, even if each number of labels has a setting of its own; where this is so on any
    data set, the configuration has the variant's name on all.

    A data set that was read from several sources counts as several data sets, and so does a model: each is named by the
    first digits of its checksum too. A data set of which other columns were read, or leaks dropped, is several as well,
    with what was asked for in brackets; and where runs with `shots` saw other examples than others with as many labels
    and the same seed, they are on `NAME [shots]`. Left out are runs on a part of a test split that others used in full,
    a second run of one configuration, number of labels and seed, and runs of an earlier version of their method than
    others here.
    """
    if "configuration" in frame:
        return frame
    frame = _newest(frame)
    if frame.empty:
        return frame.assign(configuration="", variant="")
    frame = frame.assign(
        source=[record["data"]["source"]["sha256"][:6] for record in frame["record"]],
        read=[str(read_from(record)[1:]) for record in frame["record"]],
        given=[_given(record["config"]) for record in frame["record"]],
        weights=[(record["model"]["source"] or {"sha256": ""})["sha256"][:6] for record in frame["record"]],
        tested=[record["data"]["test_size"] for record in frame["record"]],
        subset=[record["data"]["subset_sha256"] for record in frame["record"]],
    )
    frame = frame[frame["tested"] == frame.groupby(["dataset", "source", "read"])["tested"].transform("max")]
    frame["given"] = frame.groupby(["dataset", "source", "read"])["given"].transform("max")
    for name, differs, added in (
        ("dataset", "source", "source"),
        ("model", "weights", "weights"),
        ("dataset", "read", "given"),
    ):
        several = frame.groupby(name)[differs].transform("nunique") > 1
        frame[name] = frame[name].where(~several, (frame[name] + " " + frame[added]).str.rstrip())
    drawn = frame.groupby(["dataset", "n_labels", "seed"])["subset"].nunique()
    balanced = frame["dataset"].isin(drawn[drawn > 1].reset_index()["dataset"]) & frame["config.shots"].notna()
    frame["dataset"] = frame["dataset"].where(~balanced, frame["dataset"] + " [shots]")
    frame = by_machine(with_configurations(frame)).drop_duplicates([*KEYS, "seed"])
    return frame.sort_values(["dataset", "model", "method", "n_labels", "seed"])


def _given(config: Mapping[str, Any]) -> str:
    given = ", ".join(f"{name}={config[name]}" for name in READING[1:] if config.get(name))
    return f"[{given}]" if given else ""


def _newest(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of the newest version of each method among them, numbered anew."""
    version = pd.Series([record["environment"]["method_version"] for record in frame["record"]], frame.index, dtype=int)
    return frame[version == version.groupby(frame["method"]).transform("max")].reset_index(drop=True)


def with_configurations(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with the `configuration` and the `variant` that `compared` explains; the index must be unique."""
    groups, varied = [], defaultdict(set)
    for (_, _, method), group in frame.groupby(["dataset", "model", "method"]):
        settings = _settings(group["record"])
        own = {name for name in NAMED if len({str(one[name]) for one in settings}) > 1}
        groups.append((method, group, settings, own))
        varied[method] |= own
    # Rates that other methods have too were chosen for none of them.
    of_all = {each["learning_rate"] for method, _, asked, _ in groups if method not in WITH_RATE for each in asked}
    names: dict[int, tuple[str, str]] = {}
    for method, group, settings, own in groups:
        elsewhere = {name for name in varied[method] if settings[0][name] != DEFAULTS[name]}
        rated = method in WITH_RATE and not {each["learning_rate"] for each in settings} <= of_all | {None}
        differ = own | elsewhere
        if rated and "learning_rate" not in differ:
            differ |= {name for name in TUNED_BY if any(each[name] != DEFAULTS[name] for each in settings)}
        varying = [name for name in NAMED if name in differ]
        chosen = [tuple((name, each[name]) for name in varying) for each in settings]
        names |= dict(zip(group.index, _named(method, chosen, group["n_labels"], rated), strict=True))
    frame = frame.join(pd.DataFrame.from_dict(names, orient="index", columns=["configuration", "variant"]))
    by_size = frame.loc[frame["configuration"] == frame["variant"], "variant"]  # then so named on each data set
    return frame.assign(configuration=frame["configuration"].mask(frame["variant"].isin(by_size), frame["variant"]))


def by_machine(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs; the names of those on another device, or in another precision, than most of their kind say so."""
    for name in MACHINE:
        used = frame["record"].map(lambda record, name=name: str(record["config"][name]))
        if used.nunique() == 1:
            continue
        usual = used.groupby([frame[key] for key in KEYS]).transform(lambda each: each.mode().iloc[0])
        unusual = used != usual
        for column in ("configuration", "variant"):
            renamed = frame[column] + f" [{name}=" + used + "]"
            frame[column] = frame[column].where(~unusual, renamed.str.replace("] [", ", ", regex=False))
    return frame


def _named(
    method: str, chosen: Sequence[tuple[tuple[str, Any], ...]], sizes: Sequence[int], rated: bool
) -> list[tuple[str, str]]:
    """Configuration and variant of each of a method's runs on a data set, from the settings that differ."""
    others = {each for each in chosen if any(value != DEFAULTS[name] for name, value in each)}
    at_sizes = {(size, each) for size, each in zip(sizes, chosen, strict=True) if each in others}
    of_training = {name for name, _ in chosen[0]} <= (TUNABLE | {"label_names"} if rated else TUNABLE)
    rates = [dict(each).get("learning_rate") for each in others]
    by_size = rated and None not in rates and len(at_sizes) == len({size for size, _ in at_sizes})  # one at each size
    tuned = f"{method} (tuned)" if of_training and (by_size or len(others) == 1) else ""
    names = dict.fromkeys(chosen, (method, method))
    for each in others:
        configuration = f"{method} [{', '.join(f'{name}={value}' for name, value in each)}]"
        names[each] = tuned if tuned and len(others) > 1 else configuration, tuned or configuration
    return [names[each] for each in chosen]


def _settings(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The settings of runs as they were asked for, because a default may depend on the number of labels."""
    configs = [DEFAULTS | record["config"] for record in records]  # a knob that was added later has its default
    return [{name: config["asked"].get(name, config[name]) for name in DEFAULTS} for config in configs]


def took_from_cache(frame: pd.DataFrame, key: str = "cached_seconds") -> np.ndarray:
    """Whether an earlier run did a part of each run's work, bool [runs].

    By `key` that is the work on the clock (`cached_seconds`) or the test prediction (`cached_predict_seconds`).
    """
    return np.array([bool(record["cost"].get(key)) for record in frame["record"]], dtype=bool)


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs, without the times and energies that they have not measured themselves: of those nothing is claimed."""
    for key, names in TIMED.items():
        columns = [f"cost.{name}" for name in names if f"cost.{name}" in frame]
        frame = frame.assign(**{name: frame[name].mask(took_from_cache(frame, key)) for name in columns})
    return frame


def titled(dataset_model: str) -> str:
    """`AG News, all-MiniLM-L6-v2` for `ag_news · minilm`: how pictures name a data set and its model.

    A name that has no title in its catalog, like that of one's own file, stays as it is.
    """
    named = []
    for catalog, part in zip((TASKS, MODELS), dataset_model.split(" · "), strict=False):
        name, *checksum = part.split(" ", 1)
        title = catalog[name].title if name in catalog else ""
        named.append(" ".join([title or name, *checksum]))
    return ", ".join(named)


def by_dataset_and_model(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of each data set with each model; a method that needs no model joins every model of its data set."""
    without = frame["model"] == NO_MODEL
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
    cell = frame.groupby(["dataset", "n_labels"]).ngroup()
    configuration = frame.groupby([cell, "model", "configuration"]).ngroup()
    many = frame["seed"].groupby(configuration).transform("nunique") >= stats.LEAST_SEEDS
    runs = pd.DataFrame({"cell": cell, "configuration": configuration, "seed": frame["seed"]})[many]
    having = runs.groupby(["cell", "seed"])["configuration"].transform("nunique")
    runs = runs[having == runs.groupby("cell")["configuration"].transform("nunique")]  # of seeds that all have
    enough = runs.groupby("cell")["seed"].transform("nunique") >= stats.LEAST_SEEDS
    return frame[~many | ~cell.isin(runs["cell"][enough]) | frame.index.isin(runs.index)]


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each data set, model, configuration and number of labels: mean score, its interval, mean costs, seeds.

    Of `comparable` runs, and of times and energies those that are `timed`. `low` and `high` are NaN with fewer than
    three seeds, `full` is the size of the whole train split, and `device` is the machine's name, or the names of
    several with a plus between.
    """
    frame = timed(comparable(frame))
    named = {"score": "score"} | {f"cost.{name}": name for name in [*COSTS, "train_samples_per_second"]}
    named |= {f"metrics.{name}": name for name in SCORES}
    groups = frame.astype(dict.fromkeys(named, float)).groupby(KEYS)
    table = groups[[*named]].mean().rename(columns=named).join(groups[["variant", "score_name"]].first())
    table["device"] = groups["device"].agg(lambda names: " + ".join(sorted({*names})))
    table["full"] = [record["data"]["available"] for record in groups["record"].first()]
    table["seeds"] = groups.size()
    intervals = [_interval(outcomes) for _, outcomes in groups["outcome"]]
    table = table.join(pd.DataFrame(intervals, table.index, ["low", "high"])).reset_index()
    about = ["variant", "full", "score", "low", "high", "seeds", "score_name", "device"]
    return table[[*KEYS, *about, *COSTS, *MEANS]]


def _interval(outcomes: Iterable[Outcome]) -> tuple[float, float]:
    return stats.interval(stats.sample_of(outcomes)) or (np.nan, np.nan)


class Runs(NamedTuple):
    """The runs of one configuration at one size: its method, its variant, and the outcomes by seed."""

    method: str
    variant: str
    outcomes: dict[int, Outcome]


def _by_size(part: pd.DataFrame) -> Iterator[tuple[int, dict[str, Runs]]]:
    """For each number of labels of one dataset × model, the `Runs` of each configuration."""
    return ((n_labels, _runs(sized)) for n_labels, sized in part.groupby("n_labels"))


def _runs(sized: pd.DataFrame) -> dict[str, Runs]:
    """The `Runs` of each configuration, in the order of their names."""
    found: dict[str, Runs] = {}
    columns = (sized[name].tolist() for name in ("configuration", "method", "variant", "seed", "outcome"))
    for configuration, method, variant, seed, judged in zip(*columns, strict=True):
        found.setdefault(configuration, Runs(method, variant, {})).outcomes[seed] = judged
    return dict(sorted(found.items()))


def differences(frame: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """Paired differences from a baseline: a row for each dataset × model, number of labels and configuration.

    `p` is NaN with fewer than three seeds, `p_corrected` is corrected over the whole table (Benjamini & Hochberg 1995),
    and `verdict` follows from it. `at_least_as_good` says whether the interval does not reach below `-stats.MARGIN`: a
    test of non-inferiority.
    """
    rows = []
    for dataset_model, part in by_dataset_and_model(compared(frame)[COMPARED]):
        for n_labels, sized in _by_size(part):
            theirs = next((runs.outcomes for runs in sized.values() if runs.variant == baseline), {})
            for configuration, ours in sized.items():
                if ours.variant != baseline and (found := paired(ours.outcomes, theirs)):
                    keys = {"dataset_model": dataset_model, "n_labels": n_labels, "configuration": configuration}
                    keys |= {"score_name": part["score_name"].iloc[0]}
                    rows.append(keys | {"method": ours.method, "variant": ours.variant} | found)
    keys = ["dataset_model", "n_labels", "configuration", "method", "variant", "score_name"]
    table = pd.DataFrame(rows, columns=[*keys, "seeds", *stats.Difference._fields])
    tested = table["p"].notna()
    table.loc[tested, "p_corrected"] = false_discovery_control(table.loc[tested, "p"].astype(float))
    verdicts = [stats.verdict(mean, p) for mean, p in zip(table["mean"], table["p_corrected"], strict=True)]
    return table.assign(verdict=verdicts, at_least_as_good=table["low"].astype(float) >= -stats.MARGIN)


def by_seed(runs: pd.DataFrame, column: str = "outcome") -> dict[int, Any]:
    """The values of a column by seed, from the runs of one configuration at one size."""
    return dict(zip(runs["seed"], runs[column], strict=True))


def tuned(frame: pd.DataFrame, baseline: str = BASELINE) -> str:
    """The variant that all others are compared with: the baseline, tuned if any run of it in the frame is."""
    name = f"{baseline} (tuned)"
    return name if name in set(compared(frame)["variant"]) else baseline


def gains(frame: pd.DataFrame, baseline: str = TUNED, everywhere: bool = False) -> pd.DataFrame:
    """`progressive` over a baseline's variant: a row for each dataset × model, at the size of `at_most_labels`.

    With `everywhere`, there is a row for each size, and the verdicts are corrected over these rows alone.
    `mean`, `low`, `high` and `verdict` are those of `differences`. `score`, `score_low` and `score_high` are of
    `progressive`. `flops_ratio` and `seconds_ratio` are its costs over those of the baseline; the latter is NaN unless
    three pairs of runs or more can be compared in seconds.
    """
    frame = compared(frame)
    if everywhere:
        found = differences(frame[frame["variant"].isin([OURS, baseline])], baseline)
    else:
        found = differences(frame, baseline)
        at = at_most_labels(best(frame)).set_index("dataset_model")["n_labels"]
        found = found[(found["variant"] == OURS) & (found["n_labels"] == found["dataset_model"].map(at))]
    at, frames = ["variant", "n_labels"], (summarise(frame), frame)
    means, runs = ({of: part.set_index(at) for of, part in by_dataset_and_model(each)} for each in frames)
    rows = []
    for of, size in found[["dataset_model", "n_labels"]].itertuples(index=False):
        ours, theirs = (means[of].loc[(name, size)] for name in (OURS, baseline))
        pair = (by_seed(runs[of].loc[[(name, size)]], "record") for name in (OURS, baseline))
        own = ours[["score", "low", "high"]]
        rows.append([*own, ours["flops"] / theirs["flops"], seconds_ratio(*pair)])
    columns = ["score", "score_low", "score_high", "flops_ratio", "seconds_ratio"]
    return found.reset_index(drop=True).join(pd.DataFrame(rows, columns=columns))


def seconds_ratio(ours: Mapping[int, Mapping[str, Any]], theirs: Mapping[int, Mapping[str, Any]]) -> float:
    """The geometric mean of the ratios of seconds, over the seeds of which both runs can be compared in seconds.

    It is NaN with fewer than three such seeds.
    """
    pairs = [(ours[seed], theirs[seed]) for seed in ours.keys() & theirs.keys()]
    ratios = [np.divide(*(run["cost"]["device_seconds"] for run in pair)) for pair in pairs if _together(*pair)]
    return float(gmean(ratios)) if len(ratios) >= stats.LEAST_SEEDS else np.nan


def _together(*runs: Mapping[str, Any]) -> bool:
    """Whether the seconds of two runs can be compared: one machine, threads and precision, within an hour, no cache."""
    machine = ("host", "device", "cores", "threads", "precision")
    alike = {tuple(run["environment"].get(name) for name in machine) for run in runs}
    first, second = (datetime.fromisoformat(run["started_at"]) for run in runs)
    cached = any(run["cost"].get("cached_seconds") for run in runs)
    return len(alike) == 1 and abs(first - second).total_seconds() <= NEAR_SECONDS and not cached


def one_a_method(rows: pd.DataFrame, first: str = "") -> pd.DataFrame:
    """Of rows of one dataset × model and size, one for each method.

    It is the configuration `first` where that is its own, else its tuned variant, its default, or its highest score.
    """
    tuned, default = (rows["variant"] == rows["method"] + end for end in (" (tuned)", ""))
    rank = 4 * (rows["configuration"] == first) + 2 * tuned + default
    ranked = rows.assign(rank=rank).sort_values(["rank", "score"], ascending=False, kind="stable")
    return ranked.drop_duplicates("method").drop(columns="rank").sort_index()


def paired(ours: Mapping[int, Outcome], theirs: Mapping[int, Outcome]) -> dict[str, Any]:
    """Of outcomes `by_seed`: the `seeds` that both have, and what a `stats.Difference` says over them.

    Empty without common seeds.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return {}
    both = (stats.sample_of(each[seed] for seed in seeds) for each in (ours, theirs))
    return {"seeds": len(seeds), **stats.difference(*both)._asdict()}


def best(frame: pd.DataFrame) -> pd.DataFrame:
    """The best configuration for each dataset × model and number of labels, and the others that may be as good.

    Best is the highest mean over the shared seeds. The `undecided` may be the best too: one-sided tests, which count
    that the best was chosen on the same runs (Hsu 1981), do not show them to be worse. Each is a name with its paired
    difference from the best: the mean, and the bounds of its own interval. `too_few_seeds` names those that share fewer
    than three seeds with the best, and `missing` those that have three seeds at another size but not at this one.
    `compared` counts the others that share enough seeds; `variants` are those of the best, which is first, and of what
    is shown to be at most `stats.MARGIN` below it.
    """
    rows = []
    for dataset_model, part in by_dataset_and_model(comparable(frame)[COMPARED]):
        drawn = part.groupby(["configuration", "n_labels"])["seed"].nunique()
        often = set(drawn.index[drawn >= stats.LEAST_SEEDS].get_level_values("configuration"))
        for n_labels, sized in part.groupby("n_labels"):
            rows.append([dataset_model, n_labels, *_best(sized, often)])
    columns = ["dataset_model", "n_labels", "configuration", "score_name", "score", "low", "high", "seeds", "undecided"]
    return pd.DataFrame(rows, columns=[*columns, "too_few_seeds", "missing", "configurations", "compared", "variants"])


def _best(sized: pd.DataFrame, often: set[str]) -> list[Any]:
    """A row of `best` from `configuration` on; `often` are the configurations with three seeds at any size."""
    runs = _runs(sized)
    drawn = {name: set(each.outcomes) for name, each in runs.items()}
    enough = [name for name, seeds in drawn.items() if len(seeds) >= stats.LEAST_SEEDS]
    enough = enough if len(enough) > 1 else list(drawn)  # one that has run more often than the others is not yet ahead
    shared = set.intersection(*(drawn[name] for name in enough)) or set.union(*drawn.values())
    alike = sized[sized["configuration"].isin(enough) & sized["seed"].isin(shared)]
    means = alike.groupby("configuration")[["score", "cost.flops"]].mean()
    means = means.sort_values(["score", "cost.flops"], ascending=[False, True])["score"]  # the cheaper of equal ones
    top = means.index[0]
    ours = {seed: judged for seed, judged in runs[top].outcomes.items() if seed in shared}
    known, undecided, near = [], {}, [top]
    for name in means.index[1:]:
        found = paired(runs[name].outcomes, ours)
        if found.get("p") is None:  # they share too few seeds
            continue
        known.append(name)
        p = found["p"] / 2 * max(2, len(means) - 1)  # of two, either could have been the best
        worse = stats.verdict(found["mean"], p) == "worse"
        if not (worse and found["high"] < 0):  # near zero, p and interval may disagree
            undecided[name] = found["mean"], found["low"], found["high"]  # or even better, on seeds that others lack
        if found["low"] >= -stats.MARGIN:
            near.append(name)
    few = [name for name in runs if name not in (top, *known)]
    variants = list(dict.fromkeys(runs[name].variant for name in near))
    about = [top, sized["score_name"].iloc[0], means.iloc[0], *_interval(ours.values()), len(ours), undecided]
    return [*about, few, sorted(often - {top, *known}), len(runs), len(known), variants]


def at_most_labels(best: pd.DataFrame) -> pd.DataFrame:
    """For each dataset × model, the row of `best` with the most labels at which the fewest configurations are missing.

    If nothing can be compared anywhere, the row with the most labels.
    """
    settled = best.assign(alone=best["compared"] == 0, absent=best["missing"].map(len))
    ranked = settled.sort_values(["alone", "absent", "n_labels"], ascending=[True, True, False], kind="stable")
    return ranked.drop(columns=["alone", "absent"]).drop_duplicates("dataset_model").sort_index()


def across_models(frame: pd.DataFrame) -> pd.DataFrame:
    """The compared runs of data sets with several models, as if of one model; configurations name the model too."""
    frame = compared(frame)
    several = frame[frame["model"] != NO_MODEL].groupby("dataset")["model"].nunique() > 1
    frame = frame[frame["dataset"].isin(several.index[several])]
    needs_none = frame["model"] == NO_MODEL
    named = frame["configuration"].where(needs_none, frame["model"] + " " + frame["configuration"])
    return frame.assign(configuration=named, variant=named, model=frame["model"].where(needs_none, ALL_MODELS))


def aggregate(frame: pd.DataFrame) -> pd.DataFrame:
    """The interquartile mean of normalised scores over all dataset × model: a row for each size and variant.

    A normalised score is 0 for `from_scratch` and 1 for the best mean of that dataset × model and number of labels.
    Variants with fewer than three seeds there do not count, nor does a dataset × model without `from_scratch`, or where
    nothing is better than it. `dataset_models` says how many count; each gives as many of its first seeds as the one
    with the fewest seeds has.
    """
    scores: dict[tuple[int, str], list[np.ndarray]] = {}
    for _, part in by_dataset_and_model(comparable(frame)[COMPARED]):
        for n_labels, sized in _by_size(part):
            drawn = {
                runs.variant: np.array([judged.score for judged in runs.outcomes.values()])
                for runs in sized.values()
                if len(runs.outcomes) >= stats.LEAST_SEEDS
            }
            floor = drawn.get("from_scratch", np.array([np.inf])).mean()
            top = max((each.mean() for each in drawn.values()), default=floor)
            if top > floor:
                for variant, each in drawn.items():
                    scores.setdefault((n_labels, variant), []).append((each - floor) / (top - floor))
    rows, names = [], metrics_of(frame)
    for (n_labels, variant), each in sorted(scores.items()):
        fewest = min(map(len, each))
        mean, (low, high) = stats.interquartile_mean(np.stack([one[:fewest] for one in each]))
        rows.append([n_labels, variant, names, mean, low, high, len(each)])
    return pd.DataFrame(rows, columns=["n_labels", "variant", "score_name", "iqm", "low", "high", "dataset_models"])


def with_enough_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Of rows with `seeds`, those with three or more; all, if none has as many."""
    enough = rows["seeds"] >= stats.LEAST_SEEDS
    return rows[enough] if enough.any() else rows


def front(frame: pd.DataFrame, best: pd.DataFrame, cost: str) -> pd.DataFrame:
    """What one configuration of each method costs, with `on_front`, and the `front_share` of bootstrap draws.

    A row of `summarise` for each dataset × model and method, as `one_a_method` chooses, at the size that `best` (from
    `at_most_labels`) has for it, without methods that lack this cost, which are named in `unmeasured`. Only those
    `with_enough_seeds` are on the front. Seeds and test examples are drawn, the same for configurations with as many
    seeds; costs are the means. With fewer than three seeds there is no share.
    """
    tops = {row.dataset_model: row for row in best.itertuples()}
    rows = []
    for dataset_model, part in by_dataset_and_model(comparable(frame)):
        part = comparable(part[part["n_labels"] == tops[dataset_model].n_labels])
        outcomes = dict(iter(part.groupby(KEYS)["outcome"]))
        chosen = one_a_method(summarise(part), tops[dataset_model].configuration)
        unmeasured = ", ".join(chosen["method"][chosen[cost].isna()])
        summary = chosen.dropna(subset=cost).assign(dataset_model=dataset_model, unmeasured=unmeasured)
        enough = with_enough_seeds(summary)
        if len(enough):
            on_front = pd.Series(stats.pareto_front(enough[cost], enough["score"]), enough.index)
            summary["on_front"] = on_front.reindex(summary.index, fill_value=False)
            summary["front_share"] = np.nan
            if enough["seeds"].min() >= stats.LEAST_SEEDS:
                samples = (stats.sample_of(outcomes[key]) for key in enough[KEYS].itertuples(index=False, name=None))
                draws = np.stack([*map(stats.resample, samples)])  # of each configuration, [configurations, draws]
                shares = stats.pareto_front(enough[cost], draws).mean(axis=1)
                summary["front_share"] = pd.Series(shares, enough.index)
            rows.append(summary)
    nothing = {"dataset_model": "", "unmeasured": "", "on_front": False, "front_share": np.nan}
    return pd.concat(rows, ignore_index=True) if rows else summarise(frame[:0]).assign(**nothing)


def needs(frame: pd.DataFrame) -> pd.DataFrame:
    """The labels needed for one target on each dataset × model: a row for each configuration with three sizes or more.

    The `target` is 95% of the highest mean score at the `largest` size that ran there, of configurations with three
    seeds if there are any; `at_largest` counts these. `score` is the measured one at the last of the `sizes`; `first`
    marks the best configuration of a dataset × model.
    """
    rows = []
    leading = set(at_most_labels(best(frame))[["dataset_model", "configuration"]].itertuples(index=False, name=None))
    for dataset_model, part in by_dataset_and_model(comparable(frame)[COMPARED]):
        full, by_size = part["record"].iloc[0]["data"]["available"], dict(_by_size(part))
        largest = part["n_labels"].max()
        most = part[part["n_labels"] == largest].groupby("configuration")["score"].agg(mean="mean", seeds="size")
        enough = with_enough_seeds(most)
        target = curves.SHARE * enough["mean"].max()
        for configuration in sorted(set(part["configuration"])):
            sized = {n_labels: runs[configuration] for n_labels, runs in by_size.items() if configuration in runs}
            sizes, each = tuple(sized), [list(runs.outcomes.values()) for runs in sized.values()]
            means = tuple(np.mean([judged.score for judged in outcomes]) for outcomes in each)
            sure = min(map(len, each)) >= stats.LEAST_SEEDS
            samples = map(stats.sample_of, each)
            draws = np.stack([*map(stats.resample, samples)], axis=1) if sure else None  # [draws, sizes]
            if found := curves.need(sizes, means, draws, full, target):
                about = {"dataset_model": dataset_model, "configuration": configuration}
                about |= {"variant": sized[sizes[0]].variant, "first": (dataset_model, configuration) in leading}
                about |= {"score_name": part["score_name"].iloc[0], "score": means[-1], "sizes": sizes}
                about |= {"largest": largest, "at_largest": len(enough), "full": full}
                rows.append(about | found._asdict())
    columns = ["dataset_model", "configuration", "variant", "sizes", "largest", "at_largest", "score_name", "score"]
    columns += ["full", "first", *curves.Need._fields]
    return pd.DataFrame(rows, columns=columns).astype({"first": bool})  # also without rows, which it then selects
