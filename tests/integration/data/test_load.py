import pieces as methods

from lrtl_utils.config import read_config
from lrtl_utils.data.load import load
from lrtl_utils.data.splits import labelled


def config(dataset="news_sample", **values):
    return read_config({"dataset": dataset} | values)


def resolved(dataset="news_sample", **values):
    return methods.resolve(config(dataset, device="cpu", **values), load(dataset))


def test_a_batch_larger_than_the_labelled_data_is_clamped():
    assert resolved(train_size=20, batch_size=64).batch_size == 20
    assert resolved(train_size=20, batch_size=64, validation_share=0.2).batch_size == 16
    assert resolved(shots=3, batch_size=64).batch_size == 12
    assert resolved(train_size=20, batch_size=8).batch_size == 8


def test_a_batch_larger_than_the_shots_there_are_is_clamped():
    data = load("entities_sample")
    asked = config("entities_sample", shots=100, batch_size=1000)
    assert methods.resolve(asked, data).batch_size == len(labelled(data, asked)[0])


def test_a_warm_up_longer_than_the_run_is_a_tenth_of_its_steps():
    run = {"train_size": 160, "batch_size": 16, "epochs": 3}  # 30 steps
    assert resolved(warmup_steps=500, **run).warmup_steps == 3
    assert resolved(warmup_steps=31, **run).warmup_steps == 3
    assert resolved(warmup_steps=30, **run).warmup_steps == 30
    assert resolved(warmup_steps=500, accumulate=5, **run).warmup_steps == 0  # 6 steps
    assert resolved(warmup_steps=500, validation_share=0.25, **run).warmup_steps == 2  # 24 steps
