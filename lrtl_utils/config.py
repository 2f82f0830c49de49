"""Every knob of one run: its unit, its range, its default.

`None` means *the method's own default*; what it resolved to stands on the record.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from lrtl_utils.errors import InputError, require_name, shown

SIZES = ("shots", "train_size", "data_fraction")  # the first that is given counts
NO_MODEL = "none"  # stands for the model of a method that needs none


class RunConfig(BaseModel):
    """One run. Frozen; unknown names are refused.

    `shots` beats `train_size` beats `data_fraction`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: str = Field("news_sample", description="a name of TASKS, or the path of your own file or folder")
    model: str = Field("minilm", description="a name of MODELS, a folder, or org/name@revision of the hub")
    method: str = Field("full", description="a name of METHODS")
    data_fraction: float | None = Field(0.1, gt=0, le=1, description="share of the train split that is labelled")
    train_size: int | None = Field(None, ge=1, description="labelled examples, as a count")
    shots: int | None = Field(None, ge=1, description="labelled examples of each class")
    selection: Literal["random", "kcenter", "margin"] = Field("random", description="which examples are labelled")
    seed: int = Field(0, ge=0, lt=2**31, description="draws the subset, the head, the order and the dropout")
    learning_rate: float | None = Field(None, gt=0, le=1, description="at the top of the model, after warm-up")
    batch_size: int | None = Field(None, ge=1, description="examples in one batch")
    accumulate: int | None = Field(None, ge=1, description="batches whose gradients make one step")
    epochs: int | None = Field(None, ge=1, description="passes over the labelled examples")
    optimizer: Literal["adamw", "adam", "sgd"] | None = Field(None, description="update rule")
    scheduler: Literal["linear", "cosine", "constant"] | None = Field(None, description="of the rate, after warm-up")
    warmup_steps: int | None = Field(
        None, ge=0, description="steps in which the rate rises; at most a tenth of the run if longer"
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="probability in every dropout layer")
    weight_decay: float | None = Field(
        None, ge=0, description="decoupled, for adam and sgd L2; not on biases and norms"
    )
    max_grad_norm: float | None = Field(None, gt=0, description="gradients are clipped to this L2 norm")
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = Field(None, description="of the matrix products")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where the model runs")
    max_length: int | None = Field(None, ge=8, le=8192, description="tokens kept of a text")
    image_size: int | None = Field(None, ge=8, le=1024, description="pixels a side, as the model sees it")
    augment: Literal["none", "light"] | None = Field(None, description="of train images: padded crop and flip")
    validation_share: float | None = Field(None, ge=0, lt=1, description="of the labelled examples, carved off")
    budget_seconds: float | None = Field(None, gt=0, description="of the device; a method with rungs stops there")
    without: str | None = Field(None, description="pieces of the method left out, with commas between")
    test_limit: int | None = Field(None, ge=1, description="test examples used; for smoke runs only")
    text_column: str | None = Field(None, description="of your own files: what holds the input; None is guessed")
    label_column: str | None = Field(None, description="of your own files: what holds the label; None is guessed")
    drop_leaks: bool = Field(False, description="train examples that are also in the test split are left out")

    @field_validator("*", mode="before")
    @classmethod
    def _none_is_a_word(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("true and false are no values here")
        named = info.field_name in {"dataset", "model", "method", "augment"}  # there it is a name like others
        return None if not named and isinstance(value, str) and value.lower() in {"none", "null"} else value

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "RunConfig":
        """The config among a notebook's variables (`RunConfig.of(globals())`); other names are not looked at."""
        return read_config({name: parameters[name] for name in cls.model_fields if name in parameters})


def read_config(values: Mapping[str, Any]) -> RunConfig:
    """`RunConfig` from words or numbers; `InputError` in one sentence where a name or a value is wrong."""
    for name in values:
        require_name("parameter", name, RunConfig.model_fields)
    try:
        return RunConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        reason = first["msg"][0].lower() + first["msg"][1:]
        about = RunConfig.model_fields[name].description
        raise InputError(f"{name}={shown(first['input'])} cannot be used ({about}): {reason}.") from None


def derived_seed(seed: int, purpose: str) -> int:
    """A seed in [0, 2^31) for one purpose, independent of every other purpose's."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{seed}".encode()).digest()[:4], "big") >> 1


def resolve_device(device: str) -> str:
    """`auto` as what this machine has: cuda, else mps, else cpu; `InputError` if the device asked for is absent."""
    import torch

    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present[device]:
        raise InputError(f"device={device!r} is not on this machine; device='auto' takes what is there.")
    return device


def resolve_precision(precision: str, device: str, reads_tokens: bool) -> str:
    """`auto` as what the device is faster with: bf16 on GPUs that have it, and for text on CPUs with AMX tiles."""
    import torch

    if precision == "fp16" and device == "cpu":
        raise InputError("precision='fp16' needs a GPU; on a CPU use 'bf16', 'fp32' or 'auto'.")
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    # Without tiles, bf16 was 1.6 times slower than fp32 here, and depthwise convolutions gain nothing from it.
    tiles = device == "cpu" and reads_tokens and getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16")
    return "bf16" if tiles else "fp32"
