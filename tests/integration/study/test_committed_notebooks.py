"""The summary notebooks as a user makes them: with one command, from any records, the same bytes each time."""

import nbformat
import pytest

from lrtl_utils.files import ROOT
from lrtl_utils.runs.notebook import parameters_of, summary_notebooks
from lrtl_utils.study import tables
from lrtl_utils.study.benchmarks import readme, recipe
from lrtl_utils.study.report import SECTIONS, committed_sources


def outputs(path):
    return [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]


@pytest.mark.slow
def test_the_committed_readme_and_notebooks_say_what_the_committed_records_do():
    study, confirmation = committed_sources(ROOT / "notebooks")
    frame = tables.read([study, confirmation])
    found = [ask(frame) for ask, *_ in SECTIONS]
    short = (ROOT / "README.md").read_text().partition(readme.MARKS[0])[2].partition(readme.MARKS[1])[0]
    confirmed = readme.confirmed_runs(confirmation)
    compared = recipe.compared(confirmed)
    assert short.strip() == "\n".join(readme.in_short(frame, confirmed, compared, study, ROOT)).strip()
    claimed = readme.claim(compared, recipe.planned(ROOT / "notebooks" / "grids" / "confirmation.yaml"))
    assert f"{readme.CLAIM[0]}\n{claimed}\n" in (ROOT / "README.md").read_text()
    text = (study / "README.md").read_text()
    assert text.strip() == "\n".join(readme.in_full(found, frame, study, ROOT / "notebooks")).strip()
    said = [output.get("text", "") for path in summary_notebooks() for output in outputs(path)]
    stated = {line for block in said for line in block.splitlines()}
    assert {line for line in text.splitlines() if line.startswith("- ")} <= stated


@pytest.mark.parametrize("path", summary_notebooks(), ids=lambda path: path.stem)
def test_committed_ones_read_committed_results(path):
    results = parameters_of(path)["results"]
    folders = [results] if isinstance(results, str) else results
    assert all((path.parent / folder / "runs").is_dir() for folder in folders)
