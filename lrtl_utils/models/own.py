"""A user's own models: a folder, or any hub id with a revision. Its config.json says what it is."""

import json
import warnings
from pathlib import Path
from typing import Any

from lrtl_utils.data.hub import Repository, Source, find_on_hub
from lrtl_utils.data.own.files import HUB_ID
from lrtl_utils.errors import Absent, InputError
from lrtl_utils.files import absolute_path

KEPT_FILE = "lrtl.json"  # in a folder that `export` wrote: what no library's config says
PARTIAL = ".onnx-"  # begins the name of the folder in which an export to ONNX is made, beside the model's files
_SAFE = ("model.safetensors", "model-*-of-*.safetensors")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")
_WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")  # of a token's vector, as architectures call it


def is_partial(path: Path) -> bool:
    """Whether an export to ONNX that was killed left this folder."""
    return path.name.startswith(PARTIAL)


def is_own(name: str) -> bool:
    """Whether `name` is a folder's or a hub id's, and not one of a table's."""
    return "/" in name or name.startswith(("~", "."))


def folder_of(name: str) -> Path | None:
    """The folder that `name` is, relative to the current folder; None where there is none."""
    try:
        folder = absolute_path(name)
        return folder if folder.is_dir() else None
    except (ValueError, OSError):  # a name that no file system takes
        return None


def absolute(name: str) -> str:
    """A folder's whole path; another name as it is."""
    folder = folder_of(name) if is_own(name) else None
    return str(folder) if folder else name


def find(name: str, *, fetch: bool = True) -> Source:
    """The weights of a folder or of `org/name@revision`; `InputError` if they cannot be had or are of no known kind."""
    if folder := folder_of(name):
        files = _weights(folder, _SAFE) or _weights(folder, _PICKLED)
        if not files:
            kinds = ", ".join([*_SAFE, *_PICKLED])
            raise InputError(f"{folder} has no weights that can be read here: none of {kinds}.")
        return Source("folder", folder.name, None, folder, files)
    named = HUB_ID.fullmatch(name)
    if named is None:
        raise InputError(f"There is no folder {name!r}, and a hub id is written org/name or org/name@revision.")
    repositories = [Repository("model", *named.groups(), patterns) for patterns in (_SAFE, _PICKLED)]
    try:
        found = find_on_hub(name, repositories[0], fetch=fetch)
    except InputError as missing:
        if not isinstance(missing, Absent):  # damaged, of another revision, or not to be had now
            raise
        try:
            found = find_on_hub(name, repositories[1], fetch=fetch)
        except InputError:
            absent = f"There is no folder {name} here, and as a repository of the hub it cannot be read"
            raise InputError(f"{absent}: {missing}") from None
    if found.kind == "mirror" and found.revision is None and named[2]:
        unknown = "no manifest gives the revision, so it is not checked"
        warnings.warn(f"{name} is read from {found.folder}; {unknown}.", stacklevel=2)
    top = min((file.parent for file in found.files), key=lambda parent: len(parent.parts))
    return Source(found.kind, found.id, found.revision, top, tuple(f for f in found.files if f.parent == top))


def read_row(source: Source) -> dict[str, Any]:
    """The fields of a `models.catalog.Backbone` that the config.json beside the weights gives.

    `InputError` where there is none, where it asks for code of its own, or where it does not give the width.
    """
    path = source.folder / "config.json"
    config = _read(path)
    for name in ("config.json", "tokenizer_config.json"):
        beside = source.folder / name
        if beside.is_file() and "auto_map" in _read(beside):
            raise InputError(
                f"{beside} asks to run code that comes with the model (auto_map), which is never done here."
            )
    if "architecture" in config or "pretrained_cfg" in config:
        reading = config.get("pretrained_cfg")
        fixed_size = isinstance(reading, dict) and bool(reading.get("fixed_input_size"))
        name, width, sizes = config.get("architecture"), config.get("num_features"), config.get("model_args") or {}
        facts = {"library": "timm", "kinds": ("image",), "timm_name": name, "fixed_size": fixed_size}
    else:
        kept = source.folder / KEPT_FILE
        crf = kept.is_file() and bool(_read(kept).get("crf"))
        name, width = config.get("model_type"), next((config[key] for key in _WIDTHS if key in config), None)
        sizes = {key: value for key, value in config.items() if key != "model_type"}
        facts = {"library": "transformers", "kinds": ("tokens",) if crf else ("text", "tokens"), "crf": crf}
    if not isinstance(name, str) or not isinstance(width, int) or not isinstance(sizes, dict):
        raise InputError(f"{path} must give the model's architecture and the width of its vectors; one is missing.")
    return facts | {"width": width, "architecture": (name, sizes)}


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as a model's config: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} cannot be read as a model's config: it is not a JSON object.")
    return config


def _weights(folder: Path, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file()))
