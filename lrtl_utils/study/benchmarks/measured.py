"""What is measured with a model, beside the records: the seconds of rung 0 of `progressive`, and its memory."""

import copy
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load
from lrtl_utils.data.splits import Facts, labelled
from lrtl_utils.files import data_name
from lrtl_utils.measure.meter import MIB, CostMeter
from lrtl_utils.measure.metrics import PREDICT_BATCH
from lrtl_utils.methods import loop
from lrtl_utils.methods.method import Work
from lrtl_utils.methods.progressive import Ladder
from lrtl_utils.methods.walk import STATE_BYTES, kept_bytes
from lrtl_utils.models.encoding import round_up
from lrtl_utils.runs import store
from lrtl_utils.runs.run import Run, build, find_weights, resolve
from lrtl_utils.study import tables
from lrtl_utils.study.tables import OURS

TURNS = 5  # of rung 0 and of a forward pass
MEMORY_SEEDS = 3  # of a setting, whose runs are done again; its peaks differ little


def rung_zero(config: RunConfig) -> dict[str, Any]:
    """The seconds of rung 0 of `progressive` over those of one forward pass over its rows: median and range of turns.

    The two take turns in one process, with the same batches, precision and loading; the first turn is left out.
    """
    data = load.load(config.dataset)
    config = resolve(config, data)
    train, validation = labelled(data, config)
    model = build(config, data, find_weights(config))
    start = copy.deepcopy(model.state_dict())
    shares = []
    for _ in range(TURNS):
        model.load_state_dict(start)  # a head that is already solved would take less time
        ladder = Ladder(Work(model, data, train, validation, config, CostMeter(config.device)))
        began = time.perf_counter()
        passes = config.model_copy(update={"batch_size": PREDICT_BATCH})
        loop.extract(model, ladder.rows, passes, CostMeter(config.device))
        between = time.perf_counter()
        with ladder.meter.measure():
            ladder.ground()
        shares.append((time.perf_counter() - between) / (between - began))
    about = {"data set": data_name(config.dataset), "model": config.model, "labels": len(train), "turns": TURNS - 1}
    low, middle, high = np.quantile(shares[1:], [0, 0.5, 1]).round(3)
    return about | {"share": middle, "lowest": low, "highest": high, "device": store.device_name(config.device)}


def write_rung_zero(results: Path) -> None:
    """`<results>/rung_zero.csv`: `rung_zero` for each data set and model of the records, at its most labels."""
    frame = tables.compared(tables.records(results, "completed"))
    ours = frame[frame["configuration"] == OURS].sort_values(["n_labels", "seed"], ascending=[False, True])
    most = ours.drop_duplicates(["dataset", "model"]).sort_values(["dataset", "model"])["record"]
    rows = [rung_zero(RunConfig.of(store.placed(results, record)["config"])) for record in most]
    if rows:
        pd.DataFrame(rows).to_csv(results / "rung_zero.csv", index=False)


def write_memory(results: Path) -> None:
    """`<results>/memory.csv`: the peak of `progressive` over what accounts for it, the mean over seeds and the highest.

    A row for each data set, model and number of labels at which `linear_probe` has the same seeds, of the runs of the
    folder and of its `bf16`; the first seeds are measured anew. What accounts for it is the peak of `linear_probe` and
    `accounted_mib`.
    """
    rows = []
    for folder in filter(Path.is_dir, (results, results / "bf16")):
        frame = tables.compared(tables.records(folder, "completed"))
        for (dataset, model, n_labels), part in frame.groupby(["dataset", "model", "n_labels"]):
            ours, theirs = (part[part["configuration"] == name].set_index("seed") for name in (OURS, "linear_probe"))
            seeds = sorted(ours.index.intersection(theirs.index))[:MEMORY_SEEDS]
            if placed := [store.placed(folder, record) for record in ours.loc[seeds, "record"]]:
                probes = [store.placed(folder, record) for record in theirs.loc[seeds, "record"]]
                accounted = np.add([*map(peak_mib, probes)], [*map(accounted_mib, placed, longest(placed))])
                shares = [*map(peak_mib, placed)] / accounted
                about = {"data set": dataset, "model": model, "precision": placed[0]["environment"]["precision"]}
                about |= {"labels": n_labels, "seeds": len(seeds)}
                rows.append(about | {"share": shares.mean().round(3), "highest": shares.max().round(3)})
                pd.DataFrame(rows).to_csv(results / "memory.csv", index=False)


def peak_mib(record: dict[str, Any]) -> float:
    """The peak memory of the run of a record, which is done again here without its test."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(RunConfig.of(record["config"]), results=folder)
        run.fit(*run.label())
        return run.meter.peak_memory_mib


def accounted_mib(record: dict[str, Any], tokens: int) -> float:
    """The memory that a run of `progressive` needs beyond the frozen model, counted as in fp32.

    That is its cache, the gradients and optimizer states of its trained blocks, and the activations that a batch keeps,
    whose longest row has so many `tokens` (`longest`).
    """
    config, last = RunConfig.of(record["config"]), record["curve"][-1]
    states = record["model"]["trainable_parameters"] * (4 + STATE_BYTES.get(config.optimizer, 0))
    facts = Facts(load.kind_of(config.dataset), tuple(record["data"]["labels"]), (), 0, ())
    with torch.device("meta"):
        model = build(config, facts, None)
    model.fixed_statistics = True
    model.freeze(len(model.blocks) - last["trained_blocks"])
    return last["cache_mib"] + (states + config.batch_size * kept_bytes(model, tokens)) / MIB


def longest(records: Sequence[dict[str, Any]]) -> list[int]:
    """The tokens of the longest training row, padded, of each run on a data set and model; 0 for images.

    `InputError` without the data.
    """
    configs = [RunConfig.of(record["config"]) for record in records]
    if not configs or load.kind_of(configs[0].dataset) == "image":
        return [0] * len(configs)
    data = load.load(configs[0].dataset)
    model = build(configs[0], data, find_weights(configs[0], fetch=False))
    trained = [loop.encode_training(model, labelled(data, each)[0], each.max_length) for each in configs]
    return [round_up(int(rows.lengths.max())) for rows in trained]
