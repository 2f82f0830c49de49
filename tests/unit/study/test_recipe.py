import numpy as np
import pytest
from synthetic import outcomes, write_run

from lrtl_utils.study.benchmarks import recipe

SST2 = {"dataset": "sst2", "model": "minilm", "train_size": 100}


@pytest.fixture
def results(tmp_path):
    for seed in range(3):
        right = outcomes(0.8, 100, seed)
        worse = right.copy()
        worse[np.flatnonzero(right)[:60]] = False
        write_run(tmp_path, right, method="progressive", seed=seed, flops=10, **SST2)
        write_run(tmp_path, worse, method="full", seed=seed, flops=40, **SST2)
        write_run(tmp_path, worse, method="progressive", without="soften", seed=seed, flops=10, **SST2)
        write_run(tmp_path / "version-1", worse, method="progressive", seed=seed, flops=20, **SST2)
    return tmp_path


def test_every_method_and_piece_is_compared_with_progressive(results):
    table = recipe.against(recipe.runs(results)).set_index("against")
    assert sorted(table.index) == ["full", "progressive, version 1", "progressive, without soften"]
    assert table["points"].gt(0.1).all()
    assert set(table["verdict"]) == {"better"}
    assert table["FLOPs"].round(3).to_dict()["progressive, version 1"] == 0.5


def test_the_page_has_a_score_for_each_method_that_ran(results):
    page = recipe.write(results).read_text()
    (row,) = (line for line in page.split("## `progressive` against each")[0].splitlines() if line.startswith("| sst2"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["sst2", "minilm", "100"]
    assert all("[" in cell for cell in (cells[3], cells[4], cells[6]))
    assert cells[5] == cells[7] == cells[8] == ""
    assert (results / "table.csv").is_file()
