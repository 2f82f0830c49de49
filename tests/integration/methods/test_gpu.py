"""The same runs on a CUDA device: placement, precisions, memory, energy, repetition, resumption."""

import adapting
import numpy as np
import pytest
import torch
from checkpoints import write_text_models

from lrtl_utils.methods import METHODS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TEXT = {"dataset": "news_sample", "model": "bert_base", "train_size": 64, "max_length": 32, "epochs": 2}
TAGS = {"dataset": "entities_sample", "model": "bert_crf", "train_size": 32, "max_length": 32, "epochs": 2}
IMAGE = {"dataset": "digits", "model": "efficientnet_lite0", "train_size": 64, "image_size": 64, "epochs": 2}


@pytest.fixture(scope="module", autouse=True)
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirror")
    write_text_models(folder / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRTL_MIRROR", str(folder))
        yield


def run(**knobs):
    done = adapting.run(**{"batch_size": None, "device": "auto"} | knobs)
    return done.config, done.meter, done.prediction, done.metrics


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.needs_model])
@pytest.mark.parametrize("knobs", [TEXT, TAGS, IMAGE], ids=["text", "tokens", "image"])
def test_every_method_runs_on_the_card(knobs, method):
    config, meter, prediction, metrics = run(**knobs, method=method)
    assert config.device == "cuda"
    assert meter.peak_memory_mib > 0
    assert meter.flops() > 0
    assert np.isfinite(prediction.loss)
    assert 0 <= metrics["accuracy"] <= 1


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_agree_roughly_and_cost_the_same_flops(precision):
    _, plain, first, _ = run(**TEXT, method="full", precision="fp32", dropout=0.0)
    _, meter, second, _ = run(**TEXT, method="full", precision=precision, dropout=0.0)
    assert meter.flops() == plain.flops()
    assert second.loss == pytest.approx(first.loss, rel=0.1)


def test_flops_do_not_depend_on_the_device():
    _, card, *_ = run(**TEXT, method="conventional")
    _, host, *_ = run(**TEXT, method="conventional", device="cpu")
    assert card.flops() == host.flops()


def test_energy_is_read_from_the_driver_and_never_invented():
    _, card, *_ = run(**IMAGE, method="full")
    _, host, *_ = run(**IMAGE, method="linear_probe", device="cpu")
    assert card.energy_wh is None or card.energy_wh >= 0
    assert host.energy_wh is None


def test_a_run_repeats():
    first, second = (run(**TEXT, method="full")[2] for _ in range(2))
    assert first.predicted == second.predicted
    assert np.array_equal(first.confidence, second.confidence)
