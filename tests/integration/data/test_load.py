import pieces as methods

from lrtl_utils.config import read_config
from lrtl_utils.data.load import load


def resolved(**values):
    return methods.resolve(read_config({"dataset": "news_sample", "device": "cpu"} | values), load("news_sample"))


def test_a_warm_up_longer_than_the_run_is_a_tenth_of_its_steps():
    run = {"train_size": 160, "batch_size": 16, "epochs": 3}  # 30 steps
    assert resolved(warmup_steps=500, **run).warmup_steps == 3
    assert resolved(warmup_steps=31, **run).warmup_steps == 3
    assert resolved(warmup_steps=30, **run).warmup_steps == 30
    assert resolved(warmup_steps=500, accumulate=5, **run).warmup_steps == 0  # 6 steps
    assert resolved(warmup_steps=500, validation_share=0.25, **run).warmup_steps == 2  # 24 steps
