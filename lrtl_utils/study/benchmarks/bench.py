"""The benchmark: every method against `conventional` at its tuned best, in one table of scores and ratios of cost."""

import copy
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load as tasks
from lrtl_utils.data.splits import labelled
from lrtl_utils.errors import InputError
from lrtl_utils.files import write_text
from lrtl_utils.measure.evaluation import PREDICT_BATCH, outcomes
from lrtl_utils.measure.meter import MIB, CostMeter
from lrtl_utils.methods import loop as training
from lrtl_utils.methods import table as methods
from lrtl_utils.methods.method import Work
from lrtl_utils.methods.progressive import Ladder
from lrtl_utils.models.encoding import round_up
from lrtl_utils.runs import store as runs
from lrtl_utils.study import stats
from lrtl_utils.study.tables import BASELINE
from lrtl_utils.sweep.footprint import Key, architecture, kept_bytes
from lrtl_utils.sweep.grid import Cell, plan
from lrtl_utils.sweep.workload import STATE_BYTES

PLANNED = (1e-5, 3e-5, 5e-5)  # the rates of the original plan
TUNED = ("learning_rate", "epochs")
# What is tuned: the method, and the rates that count; None for all of its tuning grid.
TUNINGS = {"plan": (BASELINE, PLANNED), "wide": (BASELINE, None), "full": ("full", None)}
COSTS = {"flops": "FLOPs", "device_seconds": "seconds", "peak_memory_mib": "memory"}
LADDER = "progressive"
AGAINST = {
    "plan": f"{BASELINE} (plan-tuned)",
    "wide": f"{BASELINE} (wide-tuned)",
    "full": "full (tuned)",
    LADDER: LADDER,
}
# The bar: at no more than this share of a line's FLOPs and seconds, the ladder scores at least as high.
BAR = {"plan": 0.1, "wide": 0.2, "full": 0.5}
Setting = tuple[dict[str, Any], dict[str, pd.DataFrame]]
AS_HIGH = -0.5  # points: as high is a mean difference no lower, with an interval that is not wholly below zero
RUNG_ZERO = {"text": 1.3, "tokens": 2.0, "image": 1.3}  # times one forward pass, at most
SLACK = 1.1  # over what the ladder's memory is accounted for by


def tuned(results: Path) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """For each data set and model, what `TUNINGS` names at its best on the carves: method, rate and epochs.

    Best is the highest mean validation score over the seeds, then the lowest mean loss.
    """
    return _tuned(runs.load(results), results)


def _tuned(frame: pd.DataFrame, results: Path) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    frame = _tuning_runs(frame)
    if frame.empty:
        raise InputError(f"{results} has no tuning runs; notebooks/grids/bench_tuning.yaml makes them.")
    frame = frame.assign(validation_loss=[record["validation"]["loss"] for record in frame["record"]])
    best: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for (dataset, model, method), group in frame.groupby(["dataset", "model", "method"]):
        means = group.groupby(list(TUNED))[["validation_score", "validation_loss"]].mean().reset_index()
        means = means.sort_values(["validation_score", "validation_loss"], ascending=[False, True])
        for name, (tuned_method, rates) in TUNINGS.items():
            rows = means[means["learning_rate"].isin(rates)] if rates else means
            if method == tuned_method and len(rows):
                setting = {"learning_rate": float(rows.iloc[0]["learning_rate"]), "epochs": int(rows.iloc[0]["epochs"])}
                best.setdefault((dataset, model), {})[name] = {"method": method} | setting
    return best


def _tuning_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of tuned methods that a carve judged."""
    return frame[frame["method"].isin({method for method, _ in TUNINGS.values()}) & (frame["validation_share"] > 0)]


def cells(grid: Sequence[tuple[str, RunConfig]], settings: dict[tuple[str, str], Any]) -> list[Cell]:
    """The grid's cells, a tuned method at its tuned settings (and `conventional` left out where it was not tuned).

    A block of the grid runs seed by seed, so that what is compared ran in one stretch.
    """
    ordered = []
    for _, block in itertools.groupby(grid, key=lambda cell: (cell[1].dataset, cell[1].train_size)):
        for notebook, config in sorted(block, key=lambda cell: cell[1].seed):
            own = settings.get((config.dataset, config.model), {}).values()
            changes = [setting for setting in own if setting["method"] == config.method]
            if not changes and config.method != BASELINE:
                changes = [{}]
            ordered += [(notebook, config.model_copy(update=change)) for change in changes]
    return plan(ordered)


def by_setting(results: Path) -> list[Setting]:
    """Each data set and number of labels, with the runs of each line there; a tuned method's by its tuning."""
    frame = runs.load(results)
    reported = frame.drop(_tuning_runs(frame).index)
    settings = []
    for (dataset, model), tunings in _tuned(frame, results).items():
        own = reported[(reported["dataset"] == dataset) & (reported["model"].isin([model, "none"]))]
        for labels, part in own.groupby("labels"):
            settings.append(({"data set": dataset, "labels": labels}, _lines(part, tunings)))
    return settings


def table(settings: Sequence[Setting]) -> pd.DataFrame:
    """A row for each data set, number of labels and line: score, differences and ratios of cost to the baselines.

    Differences are paired, in points; differences and ratios are means over the seeds that both have.
    """
    return pd.DataFrame(about | row for about, lines in settings for row in _compared(lines))


def standing(settings: Sequence[Setting]) -> pd.DataFrame:
    """A row for each bar that `progressive` has in each setting: what it reached, and whether that meets the bar.

    Seconds and memory are judged where both ran on one machine, `timed` seeds; without any, the bar is not met.
    """
    rows = []
    for about, lines in settings:
        against = {name: line for name, line in AGAINST.items() if name in BAR and line in lines}
        if LADDER in lines and against:
            rows += [about | _standing(lines[LADDER], lines[line], name) for name, line in against.items()]
            rows += [about | _memory(lines[LADDER], lines["linear_probe"])] if "linear_probe" in lines else []
    columns = ["data set", "labels", "against", "seeds", "timed", "points", "FLOPs", "seconds", "memory", "bar"]
    return pd.DataFrame(rows, columns=columns)


def rung_zero(config: RunConfig, turns: int = 5) -> dict[str, Any]:
    """Seconds of the ladder's rung 0 over those of one forward pass over its rows: median, lowest and highest of turns.

    The two take turns in one process, by the same batches, precision and loading; the first turn is left out.
    """
    data = tasks.load(config.dataset)
    config = methods.resolve(config, data)
    train, carve = labelled(data, config)
    model = methods.build(config, data, methods.find_weights(config))
    start = copy.deepcopy(model.state_dict())
    shares = []
    for _ in range(turns):
        model.load_state_dict(start)  # a head that is solved already would be solved sooner
        ladder = Ladder(Work(model, data, train, carve, config, CostMeter(config.device)))
        began = time.perf_counter()
        passes = config.model_copy(update={"batch_size": PREDICT_BATCH})
        training.extract(model, ladder.rows, passes, CostMeter(config.device))
        between = time.perf_counter()
        with ladder.meter.measure():
            ladder.ground()
        shares.append((time.perf_counter() - between) / (between - began))
    about = {"data set": config.dataset, "model": config.model, "labels": len(train), "turns": turns - 1}
    low, middle, high = np.quantile(shares[1:], [0, 0.5, 1]).round(3)
    return about | {"share": middle, "lowest": low, "highest": high, "device": runs.device_name(config.device)}


def write_rung_zero(grid: Sequence[tuple[str, RunConfig]], results: Path) -> None:
    """`<results>/rung_zero.csv`: `rung_zero` of each data set that the grid has at its most labels, once."""
    path = results / "rung_zero.csv"
    whole = {"method": LADDER, "without": None, "selection": "random"}
    ladders = [config for _, config in grid if whole.items() <= config.model_dump().items() and config.train_size]
    most = max((config.train_size for config in ladders), default=0)
    each = {config.dataset: config for config in ladders if config.train_size == most}
    if each and not path.exists():
        pd.DataFrame([rung_zero(config) for config in each.values()]).to_csv(path, index=False)


def write_table(results: Path) -> Path:
    """`<results>/table.md` and `table.csv`; returns the former."""
    settings = by_setting(results)
    frame = table(settings)
    frame.to_csv(results / "table.csv", index=False)
    path = results / "table.md"
    page = _page(frame, standing(settings), runs.machines(runs.records(results)))
    if (timed := results / "rung_zero.csv").is_file():
        page += _rung_zero_page(pd.read_csv(timed))
    write_text(path, page)
    return path


def _page(frame: pd.DataFrame, bars: pd.DataFrame, machines: Sequence[str]) -> str:
    """The tables as a page that names machine and versions."""
    shares = ", ".join(f"{share:g} of {AGAINST[name]}'s" for name, share in BAR.items())
    asked = f"`{LADDER}` is to score at least as high at no more than {shares} FLOPs and device seconds, and in no more"
    asked += f" memory than {SLACK:g} times linear_probe's peak, its cache, and what trained blocks and a batch hold."
    asked += f" As high is a mean difference of {AS_HIGH:g} points or more, its interval not wholly below zero."
    met = f"{asked} Met in {sum(bars['bar'] == 'met')} of {sum(bars['bar'] != '')}."
    about = ["# Benchmark", "", *(f"- {line}" for line in machines)]
    bars, frame = (each.fillna("").to_markdown(index=False, disable_numparse=True) for each in (bars, frame))
    return "\n".join([*about, "", "## The bar", "", met, "", bars, "", "## Every line", "", frame, ""])


def _rung_zero_page(timed: pd.DataFrame) -> str:
    most = timed["data set"].map(lambda name: RUNG_ZERO[tasks.kind_of(name)])
    timed = timed.assign(bar=np.where(timed["share"] <= most, "met", "missed"))
    asked = ", ".join(f"{bar:g} times for {kind}" for kind, bar in RUNG_ZERO.items())
    told = f"Seconds of rung 0 over those of one forward pass over its rows, in turns; it is to take at most {asked}."
    return "\n".join(["", "## Rung 0", "", told, "", timed.to_markdown(index=False), ""])


def _lines(part: pd.DataFrame, settings: dict[str, dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """The runs of each line, by its name: tuned methods by their tuning, `progressive` by what it went without."""
    lines, others = {}, part[part["method"] != BASELINE]
    for name, setting in settings.items():
        at = np.logical_and.reduce([part[key] == value for key, value in setting.items()])
        lines[AGAINST[name]] = part[at]
        others = others.drop(part[at].index, errors="ignore")
    for (method, without, selection), group in others.fillna({"without": ""}).groupby(
        ["method", "without", "selection"]
    ):
        left_out = f", without {without}" if without else ""
        lines[method + left_out + (f", {selection}" if selection != "random" else "")] = group
    return {name: group.set_index("seed") for name, group in lines.items() if len(group)}


def _compared(lines: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    rows = []
    for name, group in lines.items():
        bounds = stats.interval(*outcomes(list(group["record"])))
        row = {"line": name, "seeds": len(group), "score": _with_interval(group["score"].mean(), bounds)}
        for title, line in AGAINST.items():
            row |= _against(group, lines[line], title) if line in lines and line != name else {}
        rows.append(row)
    if "linear_probe" in lines:
        rows.append(_floor(lines))
    return rows


def _floor(lines: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """One forward pass over the labelled data: what no method that looks at them with the model can go below."""
    phases = lines["linear_probe"]["flops_by_phase"]
    forward = pd.Series({seed: by_phase["features"] for seed, by_phase in phases.items()})
    row: dict[str, Any] = {"line": "floor: one forward pass", "seeds": len(forward)}
    for title, line in AGAINST.items():
        if line in lines:
            row[f"FLOPs / {title}"] = f"{(forward / lines[line]['flops']).mean():.4f}"
    return row


def _against(group: pd.DataFrame, baseline: pd.DataFrame, tuning: str) -> dict[str, Any]:
    """Paired difference in points, and costs as shares of the baseline's, over the seeds that both have."""
    ours, theirs = _paired(group, baseline)
    if not len(ours):
        return {}
    ratios = {f"{title} / {tuning}": f"{share:.3f}" for title, share in _shares(ours, theirs).items()}
    return {f"points over {tuning}": _with_interval(*_points(ours, theirs), "+.1f")} | ratios


def _standing(group: pd.DataFrame, baseline: pd.DataFrame, tuning: str) -> dict[str, Any]:
    ours, theirs = _paired(group, baseline)
    timed = (ours["run_device"] == theirs["run_device"]).sum()
    row: dict[str, Any] = {"against": AGAINST[tuning], "seeds": len(ours), "timed": timed}
    if not len(ours):
        return row | {"bar": ""}
    points, bounds = _points(ours, theirs)
    shares = {title: share for title, share in _shares(ours, theirs).items() if title != "memory"}
    missed = ["score"] if points < AS_HIGH or (bounds and bounds[1] < 0) else []
    missed += [title for title, share in shares.items() if share > BAR[tuning]]
    missed += [] if timed else ["seconds, not timed on one machine"]
    row |= {"points": _with_interval(points, bounds, "+.1f")} | {title: f"{x:.3f}" for title, x in shares.items()}
    return row | {"bar": f"missed: {'; '.join(missed)}" if missed else "met"}


def _memory(group: pd.DataFrame, probe: pd.DataFrame) -> dict[str, Any]:
    """The ladder's peak beside what accounts for it; not judged where its data, and so its batches, are not at hand."""
    ours, theirs = _paired(group, probe)
    alike = ours["run_device"] == theirs["run_device"]
    row: dict[str, Any] = {"against": "memory accounted for", "seeds": len(ours), "timed": alike.sum(), "bar": ""}
    try:
        records = list(ours["record"][alike])
        accounted = [_accounted_mib(*each) for each in zip(records, _longest(records), strict=True)]
    except InputError:
        return row
    share = ours["peak_memory_mib"][alike] / (theirs["peak_memory_mib"][alike] + accounted)
    if not len(share):
        return row
    return row | {"memory": f"{share.mean():.3f}", "bar": "met" if share.mean() <= SLACK else "missed: memory"}


def _accounted_mib(record: dict[str, Any], tokens: int) -> float:
    """Of a run of the ladder: its cache, and the trained blocks' gradients, states and activations, in fp32.

    Activations are those of a batch whose rows are padded to so many tokens.
    """
    config, last = RunConfig.of(record["config"]), record["curve"][-1]
    key = Key(config.model, LADDER, config.image_size, tasks.kind_of(config.dataset), len(record["data"]["labels"]))
    key = key._replace(depth=len(architecture(key).blocks) - last["trained_blocks"])
    states = record["model"]["trainable_parameters"] * (4 + STATE_BYTES.get(config.optimizer, 0))
    return last["cache_mib"] + (states + config.batch_size * kept_bytes(key, tokens)) / MIB


def _longest(records: Sequence[dict[str, Any]]) -> list[int]:
    """Tokens that each run's longest training row was padded to, 0 for images; `InputError` without their data.

    The runs are of one data set and model.
    """
    configs = [RunConfig.of(record["config"]) for record in records]
    if not configs or tasks.kind_of(configs[0].dataset) == "image":
        return [0] * len(configs)
    data = tasks.load(configs[0].dataset)
    model = methods.build(configs[0], data, methods.find_weights(configs[0], fetch=False))
    trained = [training.encode_training(model, labelled(data, each)[0], each.max_length) for each in configs]
    return [round_up(int(rows.lengths.max())) for rows in trained]


def _paired(group: pd.DataFrame, baseline: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both at the seeds that both have."""
    seeds = group.index.intersection(baseline.index)
    return group.loc[seeds], baseline.loc[seeds]


def _points(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[float, list[float] | None]:
    """Mean difference of the scores in points, and its interval."""
    bounds = stats.paired_interval(outcomes(list(ours["record"])), outcomes(list(theirs["record"])))
    return 100 * (ours["score"] - theirs["score"]).mean(), bounds and [100 * bound for bound in bounds]


def _shares(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float]:
    """Costs as shares of theirs. FLOPs are the same everywhere; others are compared where both ran on one machine."""
    together = ours["run_device"] == theirs["run_device"]
    shares = {title: (ours[cost] / theirs[cost])[together | (cost == "flops")] for cost, title in COSTS.items()}
    return {title: share.mean() for title, share in shares.items() if len(share)}


def _with_interval(value: float, bounds: Sequence[float] | None, form: str = ".3f") -> str:
    return f"{value:{form}}" + (f" [{bounds[0]:{form}}, {bounds[1]:{form}}]" if bounds else "")
