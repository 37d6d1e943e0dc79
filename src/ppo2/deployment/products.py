"""JAX's products as ONNX' operators: of matrices, convolutions, and windows of images."""

import itertools
import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppo2.deployment.graph import Tensor
from ppo2.deployment.translator import Translation, Translator, require
from ppo2.numerics.traced import Operation


def _dot(t: Translator, operation: Operation) -> None:
    ((left_axes, right_axes), (left_batch, _)) = operation.settings["dimension_numbers"]
    (left, right), (result,) = operation.arguments, operation.results
    a, b = t.whole(left), t.whole(right)
    if left_batch or len(left_axes) != 1:
        t.let(result, _einsum(t, operation, a, b))
        return
    if len(a.shape) <= 2 and not left.varies:  # a weight comes first: (x W^T)^T, of which nothing else is left
        made = _matrix_product(t, b, right_axes[0], a, left_axes[0])
        rank, behind = len(made.shape), len(a.shape) - 1
        t.let(result, t.permuted(made, [*range(rank - behind, rank), *range(rank - behind)]))
    elif len(b.shape) <= 2:
        t.let(result, _matrix_product(t, a, left_axes[0], b, right_axes[0]))
    else:
        t.let(result, _einsum(t, operation, a, b))


def _matrix_product(t: Translator, a: Tensor, axis: int, b: Tensor, b_axis: int) -> Tensor:
    """The sum over an axis of `a` and one of the matrix, or vector, `b`."""
    a = t.permuted(a, [i for i in range(len(a.shape)) if i != axis] + [axis])
    b = t.permuted(b, [b_axis, *(i for i in range(len(b.shape)) if i != b_axis)])
    return t.add("MatMul", [a, b], (*a.shape[:-1], *b.shape[1:]))


def _einsum(t: Translator, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
    ((left_axes, right_axes), (left_batch, right_batch)) = operation.settings["dimension_numbers"]
    names = iter(string.ascii_lowercase)
    left = [next(names) for _ in a.shape]
    right = [next(names) for _ in b.shape]
    for mine, theirs in zip((*left_batch, *left_axes), (*right_batch, *right_axes), strict=True):
        right[theirs] = left[mine]
    free = [left[i] for i in range(len(left)) if i not in (*left_batch, *left_axes)]
    free += [right[i] for i in range(len(right)) if i not in (*right_batch, *right_axes)]
    equation = f"{''.join(left)},{''.join(right)}->{''.join([*(left[i] for i in left_batch), *free])}"
    return t.add("Einsum", [a, b], operation.results[0].shape, equation=equation)


def _convolution(t: Translator, operation: Operation) -> None:
    settings, (result,) = operation.settings, operation.results
    numbers = settings["dimension_numbers"]
    require(operation, settings["batch_group_count"] == 1 and all(d == 1 for d in settings["lhs_dilation"]))
    images = t.permuted(t.whole(operation.arguments[0]), numbers.lhs_spec)
    kernel = t.permuted(t.whole(operation.arguments[1]), numbers.rhs_spec)
    require(operation, all(low >= 0 and high >= 0 for low, high in settings["padding"]))
    made = t.add(
        "Conv",
        [images, kernel],
        [result.shape[i] for i in numbers.out_spec],
        kernel_shape=list(kernel.shape[2:]),
        strides=list(settings["window_strides"]),
        dilations=list(settings["rhs_dilation"]),
        group=settings["feature_group_count"],
        pads=_pads(settings["padding"]),
    )
    t.let(result, t.permuted(made, np.argsort(numbers.out_spec).tolist()))


def _max_pool(t: Translator, operation: Operation) -> None:
    _pool(t, operation, "MaxPool")


def _sum_pool(t: Translator, operation: Operation) -> None:
    (result,) = operation.results
    _pool(t, operation, "AveragePool", count_include_pad=1)
    size = t.constant(np.asarray(math.prod(operation.settings["window_dimensions"]), result.dtype))
    t.let(result, t.each("Mul", [t.tensor(result), size]))


def _pool(t: Translator, operation: Operation, operator: str, **attributes: Any) -> None:
    """Windows of images, whose other axes come first."""
    settings, (result,), x = operation.settings, operation.results, t.whole(operation.arguments[0])
    edges, sizes, strides = (settings[name] for name in ("padding", "window_dimensions", "window_strides"))
    moved = [size > 1 or stride > 1 or edge != (0, 0) for size, stride, edge in zip(sizes, strides, edges, strict=True)]
    inside = [i for i, moves in enumerate(moved) if moves]
    still = [i for i, moves in enumerate(moved) if not moves]
    require(operation, len(still) >= 1 and 1 <= len(inside) <= 3 and x.dtype == np.float32)
    require(operation, all(d == 1 for d in (*settings["base_dilation"], *settings["window_dilation"])))
    order = still + inside
    before = [x.shape[i] for i in still]
    batch_first = [before[0], math.prod(before[1:])]
    images = t.reshaped(t.permuted(x, order), [*batch_first, *(x.shape[i] for i in inside)])
    after = [result.shape[i] for i in inside]
    pooled = t.add(
        operator,
        [images],
        [*batch_first, *after],
        kernel_shape=[sizes[i] for i in inside],
        strides=[strides[i] for i in inside],
        pads=_pads([edges[i] for i in inside]),
        **attributes,
    )
    t.let(result, t.permuted(t.reshaped(pooled, [*before, *after]), np.argsort(order).tolist()))


def _pads(edges: Sequence[tuple[int, int]]) -> list[int]:
    """Pads as ONNX has them: all beginnings, then all ends."""
    return list(itertools.chain(*zip(*edges, strict=True)))


PRODUCTS: dict[str, Translation] = {
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "reduce_window_max": _max_pool,
    "reduce_window_sum": _sum_pool,
}
"""Functions that add the operators of an operation, by its name."""
