"""Every parameter of one run: its unit, its range, its default.

`None` means *the method's own default*, and the record says which value was used. For a size, a limit or a column, it
means that none is given.
"""

import hashlib
import re
from collections.abc import Mapping
from numbers import Integral
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from lrtl_utils.errors import InputError, require_name, shown
from lrtl_utils.files import named_by

SIZES = ("shots", "train_size", "data_fraction")  # the first one that is given counts
IN_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}  # the types, as pydantic has them
NO_MODEL = "none"  # the model of a method that needs none


class RunConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The parameters of one run. Frozen; unknown names are refused.

    `shots` beats `train_size` beats `data_fraction`.
    """

    # Type checkers see a default only where `Field` gets it by name.
    dataset: str = Field(
        default="news_sample",
        description="name of a data set, path of your own file or folder, or org/name@revision on the hub",
    )
    model: str = Field(
        default="minilm", description="name of a model, path of a folder, or org/name@revision on the hub"
    )
    method: str = Field(default="full", description="name of a method, such as full, linear_probe or progressive")
    data_fraction: float | None = Field(
        default=0.1, gt=0, le=1, description="share of the train split that is labelled"
    )
    train_size: int | None = Field(default=None, ge=1, description="number of labelled examples")
    shots: int | None = Field(default=None, ge=1, description="number of labelled examples of each class")
    # It has one value, and stays because every record has it, and every id is computed from it.
    selection: Literal["random"] = Field(default="random", description="how the labelled examples are chosen")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="seed of the subset, the new head, the batches and the dropout"
    )
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="learning rate at the top of the model, after warm-up"
    )
    batch_size: int | None = Field(default=None, ge=1, description="number of examples in a batch")
    accumulate: int | None = Field(default=None, ge=1, description="number of batches whose gradients make one step")
    epochs: int | None = Field(default=None, ge=1, description="number of passes over the labelled examples")
    optimizer: Literal["adamw", "adam", "sgd"] | None = Field(
        default=None, description="optimizer of the weights: adamw, adam or sgd"
    )
    scheduler: Literal["linear", "cosine", "constant"] | None = Field(
        default=None, description="schedule of the learning rate after warm-up: linear, cosine or constant"
    )
    warmup_steps: int | None = Field(
        default=None,
        ge=0,
        description="steps in which the learning rate rises; in a run with fewer steps, a tenth of them",
    )
    dropout: float | None = Field(default=None, ge=0, lt=1, description="probability in every dropout layer")
    weight_decay: float | None = Field(
        default=None, ge=0, description="decoupled for adamw, L2 for adam and sgd; not on biases and norms"
    )
    max_grad_norm: float | None = Field(default=None, gt=0, description="gradients are clipped to this L2 norm")
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = Field(
        default=None, description="number format of the matrix products: auto, fp32, bf16 or fp16"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where the model runs: auto, cpu or cuda"
    )
    max_length: int | None = Field(default=None, ge=8, le=8192, description="tokens of a text that are kept")
    padding: Literal["longest"] | None = Field(
        default=None,
        description="padding of conventional's training texts: longest pads to the batch's longest, None to max_length",
    )
    image_size: int | None = Field(
        default=None, ge=8, le=1024, description="width and height of the model's images, in pixels"
    )
    layers: float | None = Field(
        default=None,
        gt=0,
        description="top layers (stages of an image model) that the head reads: a share below 1, or a number",
    )
    penalty: float | None = Field(
        default=None,
        gt=0,
        description="the L2 penalty of a solved head is this × layers × rows ÷ classes; None: by leave-one-out",
    )
    word_shape: bool | None = Field(
        default=None, description="whether a tagger's head also reads capitals, digits and punctuation of the words"
    )
    label_names: bool | None = Field(
        default=None, description="whether a text classifier also learns from sentences with the names of the classes"
    )
    class_weights: Literal["balanced"] | None = Field(
        default=None,
        description="weights of the classes in the training loss; with balanced every class counts the same",
    )
    augment: Literal["none", "light"] | None = Field(
        default=None, description="augmentation of train images; light is a padded crop and a flip"
    )
    validation_share: float | None = Field(
        default=None, ge=0, lt=1, description="share of the labelled examples that is the validation split"
    )
    budget_seconds: float | None = Field(default=None, gt=0, description="device seconds after which progressive stops")
    without: str | None = Field(default=None, description="pieces of the method to leave out, separated by commas")
    test_limit: int | None = Field(
        default=None, ge=1, description="number of test examples to use; for smoke runs only"
    )
    text_column: str | None = Field(
        default=None, description="column of the input in your own file; None recognises it by its name"
    )
    label_column: str | None = Field(
        default=None, description="column of the label in your own file; None recognises it by its name"
    )
    drop_leaks: bool = Field(default=False, description="leave out train examples that are also in the test split")

    @field_validator("*", mode="before")
    @classmethod
    def _as_people_write(cls, value: Any, info: ValidationInfo) -> Any:
        """Read `none`, or an empty name, as None, and a path or the number of a column as its text."""
        wanted = cls.model_fields[info.field_name].annotation
        if str(value) in ("True", "False") and not isinstance(value, str) and wanted not in (bool, bool | None):
            raise ValueError("true and false are not allowed here")
        if isinstance(value, PurePath):
            return named_by(value)
        if isinstance(value, Integral) and info.field_name.endswith("_column"):
            return str(value)
        if value == "" and wanted == (str | None):
            return None
        if wanted in (int, int | None) and isinstance(value, str) and re.fullmatch(r"\d+ *(-|\.\.+) *\d+", value):
            raise ValueError("it is not a whole number; only a grid file takes several, as a list such as [0, 1, 2]")
        named = info.field_name in {"dataset", "model", "method", "augment"}  # there it is a name like others
        return None if not named and isinstance(value, str) and value.lower() in {"none", "null"} else value

    @field_validator("layers")
    @classmethod
    def _layers_are_whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("a value above 1 must be a whole number")
        return value

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "RunConfig":
        """The configuration among a notebook's variables (`RunConfig.of(globals())`); other names are ignored."""
        return read_config({name: parameters[name] for name in cls.model_fields if name in parameters})


def read_config(values: Mapping[str, Any]) -> RunConfig:
    """A `RunConfig` from strings or numbers; `InputError` says which name or value is wrong."""
    for name in values:
        require_name("parameter", name, RunConfig.model_fields)
    try:
        return RunConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        said = first["msg"].removeprefix("Value error, ").replace("Input", "it", 1)
        if wanted := IN_WORDS.get(first["type"].partition("_")[0]):  # of int_parsing, say
            said = f"it should be {wanted}"
        reason = said[0].lower() + said[1:]
        about = RunConfig.model_fields[name].description
        raise InputError(f"{name}={shown(first['input'])} cannot be used ({about}): {reason}.") from None


def derived_seed(seed: int, purpose: str) -> int:
    """A seed in [0, 2^31) for one purpose, independent of the seeds for other purposes."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{seed}".encode()).digest()[:4], "big") >> 1


def resolve_device(device: str, *, elsewhere: bool = False) -> str:
    """The device to use. `auto` is this machine's cuda, else cpu; Apple's MPS lacks the float64 that solves a head.

    `InputError` if the device asked for is absent, unless it is another machine's: `elsewhere`.
    """
    import torch

    present = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if present else "cpu"
    if device == "cuda" and not (present or elsewhere):
        raise InputError(f"device={device!r} is not on this machine; device='auto' uses what is there.")
    return device


def resolve_precision(precision: str, device: str, reads_tokens: bool) -> str:
    """The precision to use. `auto` is what the device is faster with; `InputError` for fp16 on a CPU.

    That is bf16 on GPUs that have it, else fp16; on CPUs it is fp32, but for text bf16 where there are AMX tiles. A GPU
    that is not here to be asked is taken to have bf16, as all since 2020 do.
    """
    import torch

    if precision == "fp16" and device == "cpu":
        raise InputError("precision='fp16' needs a GPU; on a CPU use 'bf16', 'fp32' or 'auto'.")
    if precision != "auto":
        return precision
    if device == "cuda":
        here = torch.cuda.is_available()
        return "bf16" if not here or torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Without tiles, bf16 was 1.6 times slower than fp32 here, and depthwise convolutions gain nothing from it.
    tiles = reads_tokens and getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16")
    return "bf16" if tiles else "fp32"
