"""The identity of a run, and figures on its record that contradict one another."""

import hashlib
import json

import pytest
from made_records import complete, parts
from pydantic import ValidationError

from lrtl_utils.config import RunConfig
from lrtl_utils.runs import record as schema
from lrtl_utils.runs import store

CONFIG = RunConfig(device="cpu", learning_rate=5e-5, batch_size=16, warmup_steps=2, train_size=32)


def identity(data="a" * 64, weights="b" * 64, version=1, **values):
    return schema.run_id(CONFIG.model_dump() | values, data, weights, version)


def test_run_id_is_the_documented_hash():
    given = {name: value for name, value in CONFIG.model_dump().items() if value is not None and value is not False}
    values = {"config": given, "data": "a" * 64, "weights": "b" * 64, "method_version": 1}
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    assert identity() == hashlib.sha256(canonical.encode()).hexdigest()[:12]
    backwards = dict(reversed(CONFIG.model_dump().items()))
    assert schema.run_id(backwards, "a" * 64, "b" * 64, 1) == identity()


@pytest.mark.parametrize("name", RunConfig.model_fields)
def test_run_id_depends_on_every_knob(name):
    assert identity(**{name: "another"}) != identity()


def test_a_parameter_that_is_added_leaves_earlier_records_readable():
    early = {"dataset", "model", "method", "data_fraction", "selection", "seed", "device"}
    to_do = "a new parameter needs the default None or False: earlier records lack it, and their ids must not change"
    assert early == schema.NEEDED, to_do


def test_run_id_depends_on_data_weights_and_the_methods_version():
    others = [identity(data="c" * 64), identity(weights="c" * 64), identity(weights=None), identity(version=2)]
    assert len({identity(), *others}) == 5


def test_a_max_length_that_a_rule_decides_is_no_part_of_the_identity(tmp_path):
    ids = set()
    for length, asked in ((128, None), (256, None), (128, 128), (512, 4000)):
        config = CONFIG.model_copy(update={"max_length": length})
        path = complete(tmp_path, "0123456789ab", config, CONFIG.model_copy(update={"max_length": asked}), **parts())
        ids.add(schema.identity(store.read(path)))
        path.unlink()
    assert len(ids) == 3


@pytest.mark.parametrize("part", ["data", "metrics", "cost", "model", "curve"])
def test_a_record_without_its_schema_is_not_written(tmp_path, part):
    measured = parts()
    section = measured[part][0] if part == "curve" else measured[part]
    section.pop([*section][-1])
    with pytest.raises(ValidationError):
        complete(tmp_path, "0123456789ab", CONFIG, CONFIG, **measured)
    assert not list(tmp_path.rglob("*.json"))
