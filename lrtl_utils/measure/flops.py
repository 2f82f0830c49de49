"""FLOPs, counted or in closed form; a multiply-add counts as two."""

from collections.abc import Callable
from typing import Any


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


def _convolution_backward_flops(*shapes: Any, out_shape: Any = None, **_: Any) -> int:
    """The gradients of input and weight cost a forward pass each, groups or not.

    torch's own formula forgets the groups, and so counts a depthwise convolution's many times over.
    """
    from torch.utils.flop_counter import conv_flop_count

    gradient, inputs, weight = shapes[:3]
    transposed, wanted = shapes[7], shapes[10]
    return conv_flop_count(inputs, weight, gradient, transposed=transposed) * (wanted[0] + wanted[1])


def linear_solver_flops(nonzeros: int, classes: int, iterations: int) -> int:
    """A first-order solver of a linear classifier: scores and gradient, 2 FLOPs a weight met, both, every iteration."""
    return 4 * nonzeros * classes * iterations


def tfidf_flops(nonzeros: int) -> int:
    """Weighting and L2 normalisation of the non-zero entries: idf product, square, sum, division."""
    return 4 * nonzeros


def ridge_flops(rows: int, width: int, classes: int) -> int:
    """Ridge regression by its normal equations: their products, their solution for every row, and the fit."""
    return 2 * rows * width**2 + 2 * width**3 // 3 + 2 * rows * width**2 + 4 * rows * width * classes


def distance_flops(rows: int, width: int, centres: int) -> int:
    """Distances of every row to every centre, as products of vectors: a multiply-add as two."""
    return 2 * rows * width * centres
