"""Records as tables and as studies of Optuna."""

import json
import sqlite3
from pathlib import Path

import optuna
import pandas as pd
import pytest

from lrtl_utils.errors import InputError
from lrtl_utils.study import exports, tables

SEARCH = {
    "space": {"name": "demo", "knobs": {"learning_rate": [1e-5, 1e-4], "scheduler": ["linear", None]}},
    "sampler": {"name": "tpe", "seed": 3},
    "known": [{"config": {"learning_rate": 1e-5, "scheduler": "linear"}, "score": 0.5}],
    "trials": [
        {"config": {"learning_rate": 1e-4, "scheduler": None}, "score": 0.75, "error": None, "run_ids": ["a", "b"]},
        {"config": {"learning_rate": 1e-5, "scheduler": None}, "score": None, "error": "out of memory", "run_ids": []},
    ],
}


@pytest.mark.parametrize(("write", "read"), [(exports.csv, pd.read_csv), (exports.parquet, pd.read_parquet)])
def test_a_table_has_a_row_for_each_run_and_the_columns_of_its_record(study, tmp_path, write, read):
    said, path = write(study, tmp_path / "new" / "runs")
    written, frame = read(path), tables.records(study)
    assert said == f"rows: {len(frame)}, columns: {len(written.columns)}"
    assert list(written) == [name for name in frame if name not in ("record", "outcome")]
    assert {"config.method", "metrics.accuracy", "cost.flops"} <= set(written)
    for name in ("run_id", "config.learning_rate", "metrics.accuracy", "cost.flops"):
        assert written[name].tolist() == frame[name].tolist()


def test_a_search_is_a_study_and_a_second_export_replaces_it(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search/demo-tpe-seed3.json").write_text(json.dumps(SEARCH))
    for _ in range(2):
        said, url = exports.optuna(tmp_path)
        study = optuna.load_study(study_name="demo-tpe-seed3", storage=url)
        assert said.startswith("studies written: 1; `optuna-dashboard sqlite:///")
        assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL"]
        assert (study.best_value, study.best_params) == (0.75, {"learning_rate": 1e-4, "scheduler": None})
        assert study.best_trial.user_attrs == {"run_ids": ["a", "b"]}


@pytest.mark.parametrize("name", ["a?x=1", "b%41 \u00e9#"])
def test_the_studies_are_in_the_folder_whatever_its_name(name, tmp_path):
    (tmp_path / name / "search").mkdir(parents=True)
    (tmp_path / name / "search/demo.json").write_text(json.dumps(SEARCH))
    _, url = exports.optuna(tmp_path / name)
    assert optuna.get_all_study_names(url) == ["demo"]
    assert (tmp_path / name / "optuna.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_searches_of_one_name_are_studies_of_their_own(tmp_path):
    (tmp_path / "search").mkdir()
    for name in ("demo-tpe-seed3", "demo-tpe-seed3-2"):
        (tmp_path / f"search/{name}.json").write_text(json.dumps(SEARCH))
    said, url = exports.optuna(tmp_path)
    assert said.startswith("studies written: 2;")
    assert set(optuna.get_all_study_names(url)) == {"demo-tpe-seed3", "demo-tpe-seed3-2"}
    with sqlite3.connect(tmp_path / "optuna.db") as database:
        database.execute("update alembic_version set version_num = 'v0.9.0.a'")
    with pytest.raises(InputError, match=r"optuna.db cannot be used by Optuna: .*storage upgrade"):
        exports.optuna(tmp_path)


@pytest.mark.parametrize(("export", "write"), [(exports.csv, "to_csv"), (exports.parquet, "to_parquet")])
def test_a_file_that_holds_something_else_stays(study, tmp_path, export, write):
    gold = tmp_path / f"gold.{export.__name__}"
    getattr(pd.DataFrame({"text": ["a"], "label": ["b"]}), write)(gold, index=False)
    for content in (gold.read_bytes(), b"", b"nothing of the kind"):
        gold.write_bytes(content)
        with pytest.raises(InputError, match=r"gold\.\w+ holds no table of runs, so it is not overwritten"):
            export(study, gold)
        assert gold.read_bytes() == content
    for _ in range(2):
        file = Path(export(study)[-1])
    file.write_bytes(b"of the user's own")
    with pytest.raises(InputError, match=r"runs\.\w+ holds no table of runs"):
        export(study)


def test_a_folder_without_them_is_said_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="There are no records in"):
        exports.csv(tmp_path)
    with pytest.raises(InputError, match="There are no searches in"):
        exports.optuna(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_said_in_a_sentence(study, tmp_path):
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        exports.csv(study, tmp_path)
    (tmp_path / "search").mkdir()
    (tmp_path / "search/demo-tpe-seed3.json").write_text(json.dumps(SEARCH))
    assert exports.optuna(tmp_path, tmp_path / "new" / "o.db")[0].startswith("studies written: 1")
    for text in ('{"space": ', "{}", "[]"):
        (tmp_path / "search/torn.json").write_text(text)
        with pytest.raises(InputError, match=r"torn.json is not the record of a search"):
            exports.optuna(tmp_path)
    (tmp_path / "search/torn.json").unlink()
    (tmp_path / "notes.txt").write_text("not a database, but longer than its first words")
    with pytest.raises(InputError, match=r"notes.txt already exists and is not an SQLite database"):
        exports.optuna(tmp_path, tmp_path / "notes.txt")
