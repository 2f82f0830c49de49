from types import SimpleNamespace

import pytest

from lrtl_utils.config import resolve_device, resolve_precision
from lrtl_utils.errors import InputError


def test_device_that_is_not_there_is_refused():
    import torch

    assert resolve_device("cpu") == "cpu"
    if torch.cuda.is_available():
        pytest.skip("This machine has a GPU.")
    assert resolve_device("auto") == "cpu"
    assert resolve_device("cuda", elsewhere=True) == "cuda"
    with pytest.raises(InputError, match="device='cuda' is not on this machine"):
        resolve_device("cuda")


@pytest.mark.parametrize(("major", "precision"), [(7, "fp16"), (8, "bf16")])
def test_a_gpu_that_only_emulates_bf16_computes_in_fp16(major, precision, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert resolve_precision("auto", "cuda", True) == precision
