"""Batches computed piece by piece: where that is faster, and where the whole wouldn't fit in memory.

Which pieces is decided here, by the device in use: on a CPU they are as small as its cache wants them, on others as
large as memory allows, as large kernels are fast there.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree, Shaped

from ppo2.numerics.compilation import platform
from ppo2.numerics.memory import activation_limit, peak_bytes

T = TypeVar("T")


def merge_leading_axes(x: Shaped[Array, "A B ..."]) -> Shaped[Array, "AB ..."]:
    """The first two axes as one, also of empty arrays."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


CPU_PIECE = 256
"""Samples that a CPU computes at once, for a layer's output to stay in its cache. Gradients of 32,768 samples take 1.6
times as long in one piece (docs/optimisation-notes.md). So few fit in any memory."""

MOST_PARTS = 4
"""Parts of a batch side by side, each of which is compiled by itself: four keep two cores busy, two leave gaps."""


def piece_size(size: int, most: int = CPU_PIECE) -> int:
    """The number of samples of a batch to compute at once for speed: on CPU `most` or a few less, elsewhere all."""
    if platform() != "cpu":
        return size
    divisor = next(d for d in range(min(size, most), 0, -1) if size % d == 0)
    return divisor if divisor > most // 4 else size


def fitting_size(function: Callable[..., Any], *arrays: PyTree[Shaped[Array, "B ..."]], length: int = 1) -> int:
    """The number of rows of a batch whose values, while `function` computes them, stay below `activation_limit`.

    Args:
        length: samples of a row.
    """
    size = _rows(arrays)
    if size * length <= CPU_PIECE:
        return size
    least = math.ceil(peak_bytes(function, *arrays) / activation_limit())
    # equal pieces, if that takes no more than twice as many
    equal = (pieces for pieces in range(max(1, least), 2 * least + 1) if size % pieces == 0)
    return max(1, math.ceil(size / next(equal, max(1, least))))


def in_pieces(function: Callable[..., T], *arrays: PyTree[Shaped[Array, "B ..."]], most: int = CPU_PIECE) -> T:
    """`function` of arrays (B, ...), row by row independent, computed piece by piece: see `piece_size`."""
    return in_pieces_of(piece_size(_rows(arrays), most), function, *arrays)


def in_fitting_pieces(function: Callable[..., T], *arrays: PyTree[Shaped[Array, "B ..."]], length: int = 1) -> T:
    """`in_pieces` that fit in memory, too: see `fitting_size`. Rows of several samples are only cut for that.

    Args:
        length: samples of a row.
    """
    size = _rows(arrays)
    piece = piece_size(size) if length == 1 else size
    return in_pieces_of(piece if piece < size else fitting_size(function, *arrays, length=length), function, *arrays)


def side_by_side(
    function: Callable[[Array], Array], x: Shaped[Array, "B ..."], *, least: int
) -> Shaped[Array, "B ..."]:
    """`function` of an array, row by row independent; on CPU of up to MOST_PARTS parts that don't wait for each other.

    For operations that keep one core busy: the others compute other parts.

    Args:
        least: rows of a part.
    """
    fitting = (parts for parts in range(MOST_PARTS, 1, -1) if len(x) % parts == 0 and len(x) >= parts * least)
    parts = next(fitting, 1) if platform() == "cpu" else 1
    return function(x) if parts == 1 else jnp.concatenate([function(part) for part in jnp.split(x, parts)])


def in_pieces_of(piece: int, function: Callable[..., T], *arrays: PyTree[Shaped[Array, "B ..."]]) -> T:
    """`function` of arrays (B, ...), row by row independent, computed for `piece` rows at a time."""
    size = _rows(arrays)
    if piece == size:
        return function(*arrays)
    cut, _ = cut_pieces(arrays, piece)
    result: T = jax.lax.map(lambda one: function(*one), cut)
    before = size - 1 - (size - 1) % piece  # rows of all pieces but the last
    whole: T = jax.tree.map(lambda x: _joined(x, before, size), result)
    return whole


def _joined(x: Shaped[Array, "k piece ..."], before: int, size: int) -> Shaped[Array, "B ..."]:
    """The rows of pieces, each once: the last piece may begin with some that the one before it ends with."""
    flat = merge_leading_axes(x)
    return flat if len(flat) == size else jnp.concatenate([flat[:before], flat[before - size :]])


def cut_pieces(tree: T, piece: int) -> tuple[T, Bool[Array, "k piece"] | None]:
    """Arrays (B, ...) as pieces (k, piece, ...), and which of their rows are new; None: all.

    Where `piece` doesn't divide B, the last piece begins with rows that the one before it ends with.
    """
    size = _rows(tree)
    if size % piece == 0:
        cut: T = jax.tree.map(lambda x: x.reshape(-1, piece, *x.shape[1:]), tree)
        return cut, None
    starts = jnp.arange(0, size, piece, dtype=jnp.int32)
    rows = jnp.minimum(starts, size - piece)[:, None] + jnp.arange(piece, dtype=jnp.int32)
    overlapping: T = jax.tree.map(lambda x: x[rows], tree)
    return overlapping, rows >= starts[:, None]


def _rows(tree: Any) -> int:
    return len(jax.tree.leaves(tree)[0])
