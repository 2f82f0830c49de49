"""Committed records verify (checksum, schema, and the id of a configuration), and give the committed table."""

import io

import pandas as pd
import pytest

from lrtl_utils.files import ROOT
from lrtl_utils.runs.verify import verify
from lrtl_utils.study.benchmarks import recipe

FOLDERS = sorted(path.parent.name for path in (ROOT / "results").glob("*/runs"))


def test_the_committed_folders_are_there():
    assert {"study", "confirmation", "search", "one_epoch"} <= set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_no_committed_record_has_a_fault(name):
    report = verify(ROOT / "results" / name)
    assert report.records
    assert list(report.faults.items()) == []


@pytest.mark.parametrize("name", ["recipe-2", "confirmation"])
def test_a_committed_table_is_what_its_records_give(name):
    folder = ROOT / "results" / name
    again = recipe.compared(recipe.runs(folder)).to_csv(index=False)
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(again)), pd.read_csv(folder / "table.csv"))
