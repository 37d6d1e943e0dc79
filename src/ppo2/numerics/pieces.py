"""Batches computed piece by piece, where that is faster."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jaxtyping import Array, PyTree, Shaped

from ppo2.numerics.compilation import platform

T = TypeVar("T")


def merge_leading_axes(x: Shaped[Array, "A B ..."]) -> Shaped[Array, "AB ..."]:
    """The first two axes as one, also of empty arrays."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


CPU_PIECE = 256
"""Samples that a CPU computes at once, for a layer's output to stay in its cache. Gradients of 32,768 samples take 1.6
times as long in one piece (docs/benchmarks.md)."""


def piece_size(size: int, most: int = CPU_PIECE) -> int:
    """The number of samples of a batch to compute at once: on CPU `most` or a few less, elsewhere all."""
    if platform() != "cpu":
        return size
    divisor = next(d for d in range(min(size, most), 0, -1) if size % d == 0)
    return divisor if divisor > most // 4 else size


def in_pieces(function: Callable[..., T], *arrays: PyTree[Shaped[Array, "B ..."]], most: int = CPU_PIECE) -> T:
    """`function` of arrays (B, ...), row by row independent, computed piece by piece: see `piece_size`."""
    size = jax.tree.leaves(arrays)[0].shape[0]
    piece = piece_size(size, most)
    if piece == size:
        return function(*arrays)
    cut = jax.tree.map(lambda x: x.reshape(size // piece, piece, *x.shape[1:]), arrays)
    result: T = jax.lax.map(lambda one: function(*one), cut)
    whole: T = jax.tree.map(lambda x: x.reshape(size, *x.shape[2:]), result)
    return whole
