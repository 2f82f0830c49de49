"""What the runs of a sweep share: work that each of them would do in the same way, done once and kept on this machine.

An entry is named by a checksum of all that decides its value: the inputs, the files of the model, the batches, the
precision, the machine with its threads, and the code. So a run gets, bit for bit, what it would have computed alone.
"""

import contextlib
import hashlib
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from lrtl_utils.data.splits import Examples
from lrtl_utils.files import absolute_path, write_atomically
from lrtl_utils.measure.flops import computed_by
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods.feature_cache import Cache
from lrtl_utils.models.encoding import Encoded
from lrtl_utils.models.network import Model

FOLDER = "~/.cache/lrtl/shared"
BOUND = 2 * 2**30  # bytes of all entries; what was not used for the longest time goes first
DISK_SHARE = 0.1  # of the disk that is free or held by entries, at most
ENTRY_SHARE = 1 / 16  # of the bound, at most, for one entry
# Seconds below which a value is not kept. Encoding is a small part of most predictions, and a prediction that took it
# from here no longer says how fast the machine is.
WORTH = {"rows": 1.0, "features": 0.1}
CODE = ("torch", "transformers", "timm", "peft", "tokenizers", "torchvision", "pillow", "numpy")
Tensors = dict[str, torch.Tensor]
Value = TypeVar("Value")


class Shared:
    """What runs share of one model, which must be as it was loaded from its files when this is made.

    `weights` is the checksum of those files, and `machine` names the device.
    """

    def __init__(self, model: Model, weights: str, precision: str | None, machine: str, folder: str | Path = FOLDER):
        self.model, self.folder = model, absolute_path(folder)
        self.about = [weights, type(model).__name__, model.reader.kind, model.reader.collate, precision]
        self.about += [machine, platform.node(), torch.backends.cpu.get_cpu_capability(), computed_by(CODE)]
        self.loaded = self._sums()

    def untouched(self, meter: CostMeter) -> bool:
        """Whether the whole backbone is frozen, and as it was loaded: then its features are those of its files."""
        with meter.aside():
            return self.model.frozen == len(self.model.blocks) and self._sums() == self.loaded

    def _sums(self) -> dict[str, int]:
        """For each weight outside the head, the sum of its bits as whole numbers, which training changes.

        A weight's own count of writes would not do: a fused optimizer leaves it as it is.
        """
        weights = self.model.state_dict().items()
        return {name: _sum(weight) for name, weight in weights if not name.startswith(("head", "crf"))}

    def rows(self, examples: Examples, meter: CostMeter) -> Encoded:
        """The examples as `Reader.encode` gives them."""
        reader, inputs, targets = self.model.reader, examples.inputs, examples.targets
        about = ["rows", reader.max_length, reader.tail, reader.limit, reader.word_shape, len(inputs)]
        return self._once(
            about,
            _bytes(inputs),
            lambda: reader.encode(inputs, targets),
            _packed,
            lambda kept: _unpacked(reader.kind, kept, targets),
            meter,
        )

    def features(
        self,
        data: Encoded,
        batches: Sequence[np.ndarray],
        caches: Sequence[Cache],
        compute: Callable[[], list[torch.Tensor]],
        meter: CostMeter,
    ) -> list[torch.Tensor]:
        """What `compute` gives: the features of each batch. It fills the caches, and so does this."""

        def packed(features: list[torch.Tensor]) -> Tensors:
            rows = {f"cache {cache.depth} {i}": row for cache in caches for i, row in enumerate(cache.rows)}
            return rows | {f"features {i}": each for i, each in enumerate(features)}

        def unpacked(kept: Tensors) -> list[torch.Tensor]:
            kept = {name: tensor.to(self.model.device) for name, tensor in kept.items()}
            for cache in caches:
                cache.rows = [kept[f"cache {cache.depth} {i}"] for i in range(len(data))]
            return [kept[f"features {i}"] for i in range(len(batches))]

        content = (part.numpy().tobytes() for part in [*_packed(data).values(), *map(torch.from_numpy, batches)])
        about = ["features", self.model.layers, [len(each) for each in batches], [cache.depth for cache in caches]]
        return self._once(about, content, compute, packed, unpacked, meter)

    def _once(
        self,
        about: list[Any],
        content: Iterator[bytes],
        compute: Callable[[], Value],
        pack: Callable[[Value], Tensors],
        unpack: Callable[[Tensors], Value],
        meter: CostMeter,
    ) -> Value:
        """What `compute` gives, here or to an earlier run, whose cost the meter then adds to its own.

        Only `compute` is on the clock.
        """
        with meter.aside():
            path = self._path(about, content)
            if found := _read(path):
                meter.take(*(None if math.isnan(each) else each for each in found.pop("cost").tolist()))
                return unpack(found)
        before, energy = meter.seconds(), meter.energy()
        value, peak_mib = compute(), meter.peak()
        with meter.aside() as now:
            if now - before >= WORTH[about[0]]:
                used = math.nan if energy is None else meter.energy() - energy
                cost = torch.tensor([now - before, peak_mib, used], dtype=torch.float64)
                self._keep(path, pack(value) | {"cost": cost})
        return value

    def _path(self, about: list[Any], content: Iterator[bytes]) -> Path:
        name = hashlib.sha256(repr([*about, *self.about, torch.get_num_threads()]).encode())
        for part in content:
            name.update(len(part).to_bytes(8, "big") + part)
        return self.folder / f"{name.hexdigest()[:32]}.bin"

    def _keep(self, path: Path, tensors: Tensors) -> None:
        """Write an entry, and delete old ones beyond the bound. A disk that cannot take it is no reason to fail."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            room = min(BOUND, DISK_SHARE * (shutil.disk_usage(self.folder).free + sum(self._sizes().values())))
            if sum(tensor.nbytes for tensor in tensors.values()) > ENTRY_SHARE * room:
                return
            body = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
            content = hashlib.sha256(body).digest() + body
            write_atomically(path, lambda stream: stream.write(content), durable=False)
            sizes = self._sizes()
            for old in sizes:  # also what a worker that was killed left half written
                if sum(sizes.values()) <= room:
                    break
                old.unlink(missing_ok=True)
                sizes = sizes | {old: 0}

    def _sizes(self) -> dict[Path, int]:
        """Bytes of each entry, that which was not used for the longest time first; another worker may delete some."""
        found = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path, path.stat().st_size))
        return {path: size for _, path, size in sorted(found)}


def _read(path: Path) -> Tensors | None:
    """A whole entry, marked as used now; None if there is none. A damaged one will be written over."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        found = load(content[32:])
    except (OSError, SafetensorError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return found


def _sum(weight: torch.Tensor) -> int:
    bits = weight.contiguous().flatten()
    return int(bits.view(torch.int32 if bits.nbytes % 4 == 0 else torch.uint8).sum(dtype=torch.int64))


def _packed(data: Encoded) -> Tensors:
    """The rows as a few tensors; `_unpacked` gives them back."""
    if data.kind == "image":
        sizes = torch.tensor([row.shape for row in data.rows])
        return {"values": torch.cat([row.flatten() for row in data.rows]), "sizes": sizes}
    ids = [row[0] for row in data.rows] if data.kind == "tokens" else data.rows
    words = [row[1] for row in data.rows] if data.kind == "tokens" else []
    flat = {"values": [each for row in ids for each in row], "sizes": [len(row) for row in ids]}
    flat |= {"words": [each for row in words for each in row], "n_words": [len(row) for row in words]}
    packed = {name: torch.tensor(each, dtype=torch.long) for name, each in flat.items()}
    return packed | ({"shapes": torch.from_numpy(np.concatenate(data.shapes))} if data.shapes else {})


def _unpacked(kind: str, packed: Tensors, targets: Sequence[Any]) -> Encoded:
    if kind == "image":
        sizes = packed["sizes"]
        parts = packed["values"].split(sizes.prod(1).tolist())
        rows: list[Any] = [part.view(*size) for part, size in zip(parts, sizes.tolist(), strict=True)]
        return Encoded(kind, rows, np.ones(len(rows), dtype=int), targets)
    rows = _split(packed["values"], packed["sizes"])
    lengths = packed["sizes"].numpy().astype(int)
    shapes = None
    if kind == "tokens":
        rows = list(zip(rows, _split(packed["words"], packed["n_words"]), strict=True))
        if "shapes" in packed:
            shapes = [part.numpy() for part in packed["shapes"].split(packed["n_words"].tolist())]
    return Encoded(kind, rows, lengths, targets, shapes)


def _split(flat: torch.Tensor, sizes: torch.Tensor) -> list[list[int]]:
    return [part.tolist() for part in flat.split(sizes.tolist())]


def _bytes(inputs: Sequence[Any]) -> Iterator[bytes]:
    """The bytes of raw inputs: texts, words, or images as they come."""
    for each in inputs:
        if isinstance(each, bytes):
            yield each
        elif isinstance(each, np.ndarray):
            yield f"{each.dtype} {each.shape}".encode() + each.tobytes()
        else:
            yield repr(each if isinstance(each, str) else list(each)).encode(errors="surrogatepass")
