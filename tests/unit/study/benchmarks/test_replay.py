"""The sums of a replay against sums by hand."""

import pandas as pd
import pytest

from lrtl_utils.errors import InputError
from lrtl_utils.study.benchmarks import replay

SCORES = [0.5, 0.6, 0.4, 0.7, 0.9, 0.896]  # the last two are within half a point of the best
SECONDS = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0]


def grid(**changed):
    columns = {"score": SCORES, "device_seconds": SECONDS, "flops": [100] * 3 + [300] * 3, "comparable": True}
    return pd.DataFrame(columns | {"paths": [[]] * 6} | changed)


def spent(table, order, seeds=1):
    return replay.replay(table, {"mine": lambda _seed: order}, seeds).to_dict("records")


@pytest.mark.parametrize(("order", "trials", "seconds", "flops"), [([4], 1, 20, 300), ([0, 3, 5, 4], 3, 41, 700)])
def test_a_search_pays_until_it_is_within_half_a_point_of_the_best(order, trials, seconds, flops):
    mine, _ = spent(grid(), order)
    assert mine == {"sampler": "mine", "seed": 0, "trials": trials, "device_seconds": seconds, "flops": flops}


def test_what_a_search_does_not_try_follows_in_a_random_order_of_the_seed():
    rows = spent(grid(), [0, 1], seeds=8)
    assert {row["trials"] for row in rows if row["sampler"] == "mine"} <= {3, 4, 5}
    assert len({row["device_seconds"] for row in rows if row["sampler"] == "random order"}) > 1


def test_a_setting_that_failed_or_cannot_be_compared_is_paid_for_and_never_the_best():
    mine, _ = spent(grid(score=[0.5, 0.6, 0.4, 0.7, None, 0.896]), [4, 3, 5])
    assert (mine["trials"], mine["device_seconds"]) == (3, 60)
    mine, _ = spent(grid(comparable=[True] * 4 + [False] * 2), [4, 5, 3])
    assert mine["trials"] == 3
    with pytest.raises(InputError, match="no best"):
        spent(grid(score=[None] * 6), [0])


def test_the_table_gives_means_and_shares_of_the_whole_grid(tmp_path):
    searches = {"mine": lambda seed: [0, 4] if seed else [4]}
    path = replay.write_table(tmp_path, "tiny", ["learning_rate", "epochs"], grid(), searches, seeds=2)
    text = path.read_text()
    cells = {
        row.split("|")[1].strip(): [c.strip() for c in row.split("|")[2:-1]] for row in text.splitlines() if "|" in row
    }
    assert cells["mine"] == ["1.5", "20.5", "0.311 [0.303, 0.318]", "0.292 [0.250, 0.333]"]
    assert cells["the whole grid"] == ["6", "66.0", "1", "1"]
    assert "6 distinct settings of learning_rate, epochs; the best has validation score 0.9000" in text
    assert "one of the 2 settings that are within 0.5 points of that score" in text
    table = pd.read_csv(tmp_path / "search.csv")
    assert list(table["sampler"]) == ["mine"] * 2 + ["random order"] * 2
    assert table["seconds_share"][0] == pytest.approx(20 / 66)
