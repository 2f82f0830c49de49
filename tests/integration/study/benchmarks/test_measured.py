"""What is measured with a model: the memory that accounts for that of a run."""

import pytest

from lrtl_utils.errors import InputError
from lrtl_utils.study.benchmarks import measured


def test_memory_is_accounted_for_by_cache_trained_weights_and_a_batch_above_what_is_frozen():
    def accounted(cache=5.0, blocks=3, trained=0, batch=8, tokens=64):
        config = {"dataset": "sst2", "model": "minilm", "optimizer": "adamw", "batch_size": batch, "max_length": 128}
        curve = [{"cache_mib": cache, "trained_blocks": blocks}]
        model = {"trainable_parameters": trained}
        record = {"config": config, "curve": curve, "model": model, "data": {"labels": ["a", "b"]}}
        return measured.accounted_mib(record, tokens)

    assert accounted(cache=7) - accounted() == pytest.approx(2)
    assert accounted(trained=2**20) - accounted() == pytest.approx(12)  # a gradient and two moments, 4 bytes each
    assert accounted(batch=16) - 5 == pytest.approx(2 * (accounted() - 5))
    assert accounted(blocks=6) > 1.5 * accounted()
    assert accounted(tokens=128) > 1.5 * accounted()


def test_a_batch_is_as_long_as_the_runs_longest_row(tmp_path):
    config = {"dataset": "news_sample", "model": "minilm", "method": "progressive", "train_size": 40, "seed": 0}
    config |= {"data_fraction": None, "max_length": 128}
    longest, cut = measured.longest([{"config": config}, {"config": config | {"max_length": 16}}])
    assert longest % 8 == 0
    assert 8 < longest < 128
    assert cut == 16
    with pytest.raises(InputError):
        measured.longest([{"config": config | {"dataset": str(tmp_path / "gone.csv")}}])
