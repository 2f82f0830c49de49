"""The scheduler's own cost a cell does not grow with the number of cells."""

import pytest
import scale


@pytest.mark.parametrize("count", [1, 4])
def test_a_sweep_of_more_cells_costs_no_more_file_operations_a_cell(count, tmp_path):
    few, many = (tmp_path / name for name in ("few", "many"))
    few.mkdir(), many.mkdir()
    least, _ = scale.run(100, count, few)
    most, _ = scale.run(400, count, many)
    assert most <= 1.2 * least
