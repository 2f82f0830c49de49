"""FLOPs, counted or in closed form; a multiply-add counts as two."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lrtl_utils.files import PACKAGE, absolute_path, write_text

Shape = tuple[int, ...]
COUNTED_BY = ("torch", "transformers", "timm", "peft")  # packages whose code decides what a pass computes
TRIED = (2, 40)  # rows and tokens of the batch on which it is tried whether counts follow from those of a few rows


def count_flops(step: Callable[[], Any]) -> int:
    """FLOPs of the matrix products and convolutions in `step()`, forward and backward, a multiply-add as two.

    Attention is counted under the math backend: the fused CPU kernel has no formula and would count as nothing.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    ours = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=ours) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return counter.get_total_flops()


def of_any_shape(what: Callable[[], str], kind: str, count: Callable[[Shape], int]) -> Callable[[Shape], int]:
    """The FLOPs of a pass for any shape of batch, exactly, from `count(shape)` of a few small batches.

    A batch costs the sum of its rows. A row of a transformer costs a polynomial of second degree in its tokens, and
    each word of a tagged sentence costs the same; an architecture for which that does not hold is counted at each
    shape. `what()` describes the pass in full; it is asked for when something is counted, which is off the clock. What
    has been counted of a pass is kept on this machine, for this version of the package and of those that it runs in.
    """
    few = _kept(what, count)
    if kind in {"image", "bag"}:
        return lambda shape: shape[0] * few((1, *shape[1:]))

    def follows(shape: Shape) -> int:
        rows, tokens, *words = shape
        first, second, third = (few((1, n, *[1] * len(words))) for n in (8, 16, 24))
        at = Fraction(tokens - 8, 8)
        row = first + at * (second - first) + at * (at - 1) / 2 * (third - 2 * second + first)
        if words:
            row += (words[0] - 1) * (few((1, 8, 2)) - first)
        return round(rows * row)

    def any_shape(shape: Shape) -> int:
        tried = (*TRIED, *[3] * (len(shape) - 2))
        return follows(shape) if follows(tried) == few(tried) else few(shape)

    return any_shape


def _kept(what: Callable[[], str], count: Callable[[Shape], int]) -> Callable[[Shape], int]:
    """The same counts, kept by shape in a file of this machine."""

    @cache
    def file() -> Path:
        name = hashlib.sha256(f"{computed_by(COUNTED_BY)} {what()}".encode()).hexdigest()[:16]
        return absolute_path(f"~/.cache/lrtl/flops/{name}.json")

    def kept(shape: Shape) -> int:
        known, name = _known(file()), " ".join(map(str, shape))
        if name not in known:
            known[name] = count(shape)
            with contextlib.suppress(OSError):  # a home that cannot be written to: it is counted again next time
                write_text(file(), json.dumps(known), durable=False)
        return known[name]

    return kept


@cache
def _known(file: Path) -> dict[str, int]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}


@cache
def computed_by(packages: Sequence[str]) -> str:
    """The versions of the packages, and a checksum of this package's code."""
    versions = []
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(PACKAGE.rglob("*.py"))))
    return f"{versions} {code.hexdigest()}"


def _convolution_backward_flops(gradient: Shape, inputs: Shape, weight: Shape, *given: Any, **_: Any) -> int:
    """The gradients of input and weight cost a forward pass each, groups or not.

    torch's own formula forgets the groups, and so counts a depthwise convolution's many times over.
    """
    from torch.utils.flop_counter import conv_flop_count

    transposed, wanted = given[4], given[7]
    return conv_flop_count(inputs, weight, gradient, transposed=transposed) * (wanted[0] + wanted[1])


def linear_solver_flops(nonzeros: int, classes: int, iterations: int) -> int:
    """The FLOPs of a first-order solver of a linear classifier.

    Each iteration computes the scores and the gradient, each with 2 FLOPs for every non-zero feature and class.
    """
    return 4 * nonzeros * classes * iterations


def tfidf_flops(nonzeros: int) -> int:
    """Weighting and L2 normalisation of the non-zero entries: idf product, square, sum, division."""
    return 4 * nonzeros


def left_out_flops(rows: int, looked: int, width: int, classes: int, penalties: int) -> int:
    """Leave-one-out errors of ridge regressions on `looked` of the rows, and all rows along their eigenvectors.

    The products of the features and their eigenvectors (9 n^3; Golub & Van Loan 2013, section 8.3), then the scores of
    each penalty.
    """
    used = min(looked, width)
    return 2 * looked * width * used + 9 * used**3 + 4 * rows * width * used + penalties * 4 * looked * used * classes
