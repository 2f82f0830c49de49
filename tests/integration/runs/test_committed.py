"""Every committed record verifies: its checksum, its schema, and the id that its configuration gives."""

import pytest

from lrtl_utils.files import ROOT
from lrtl_utils.runs.verify import verify

FOLDERS = sorted(path.parent.name for path in (ROOT / "results").glob("*/runs"))


def test_the_committed_folders_are_there():
    assert {"study", "bench-cpu", "search", "one_epoch"} <= set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_no_committed_record_has_a_fault(name):
    report = verify(ROOT / "results" / name)
    assert report.records
    assert list(report.faults.items()) == []
