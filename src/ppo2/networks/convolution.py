"""Convolution of batches of images (B, H, W, C).

XLA's own convolution is slow on CPU, and many times slower still inside a loop, where minibatches run
(docs/optimisation-notes.md). So there it is lowered to matrix products, or at stride 1 and with few channels arranged
in such a way that XLA is fast (`stride_one`); elsewhere XLA's own is used as it is.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ppo2.networks.layers import kernel_for, pixels
from ppo2.networks.stride_one import by_columns
from ppo2.numerics.compilation import platform
from ppo2.numerics.pieces import in_pieces, piece_size
from ppo2.numerics.precision import as_factor, multiplied, rounds

Padding: TypeAlias = Literal["valid", "same"]

CPU_IMAGES = 32
"""Images that a CPU convolves at once: their temporaries stay in the cache, those of 256 would cost page faults."""
WIDE = 64
"""Channels from which a convolution of stride 1 is lowered to matrix products, too: those of fewer are narrow."""


def convolve(
    images: Shaped[Array, "B H W C"],
    kernel: Float[Array, "k k C F"],
    bias: Float[Array, " F"],
    *,
    stride: int = 1,
    padding: Padding = "valid",
) -> Float[Array, "B h w F"]:
    """y[b, i, j] = bias + sum_(u, v) x[b, stride i + u, stride j + v] kernel[u, v].

    Args:
        images: 8-bit ones are scaled from 0..255 to 0..1.
        padding: "valid": windows lie inside the image, h = (H - k) // stride + 1; "same": it is surrounded by zeros,
            the odd row at the end, h = ceil(H / stride).
    """
    if platform() == "cpu":
        if stride == 1 and kernel.shape[0] > 1 and kernel.shape[2] < WIDE:
            return by_columns(padding, images, kernel, bias)
        return by_products(stride, padding, images, kernel, bias)
    return by_xla(stride, padding, images, kernel, bias)


def by_xla(stride: int, padding: Padding, images: Array, kernel: Array, bias: Array) -> Float[Array, "B h w F"]:
    """`convolve` by XLA's own convolution."""
    convolution = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=padding.upper(),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    product = multiplied(convolution, pixels(rounds(), images), kernel_for(rounds(), images, kernel))
    return product + jnp.broadcast_to(bias, product.shape)


# --- as matrix products -------------------------------------------------------------------------------------------
#
# A convolution of stride s is one of stride 1 over blocks of s x s pixels, as if each were a pixel of s s C channels.
# Its windows are m x m whole blocks, m = ceil(k / s). Windows overlap, so that copies of them take m m D numbers a
# place. Where there are fewer features F than channels D, each block is multiplied by the kernel's m m places in one
# product and the results are added where they lie, y = sum_(u, v) (x @ kernel[u, v])[:, u : u + h, v : v + w]: m m F
# numbers a place. Otherwise the windows are copied out, for one product.


def by_products(stride: int, padding: Padding, images: Array, kernel: Array, bias: Array) -> Float[Array, "B h w F"]:
    """`convolve` by matrix products."""
    blocks = _blocks(kernel.shape[0], stride, padding, images)
    kernel = kernel_for(rounds(), images, kernel)
    return _over_blocks(rounds(), blocks, _kernel_blocks(stride, kernel), bias)


def _blocks(size: int, stride: int, padding: Padding, images: Shaped[Array, "B H W C"]) -> Shaped[Array, "B I J D"]:
    """The images as blocks of stride x stride pixels, D = stride stride C, just enough for all windows."""
    count, *shape, channels = images.shape
    pads = jax.lax.padtype_to_pads(shape, (size, size), (stride, stride), padding.upper())
    # lax.pad takes what is too much away where the number is negative
    edges = [
        (low, ((length + low + high - size) // stride + math.ceil(size / stride)) * stride - length - low, 0)
        for length, (low, high) in zip(shape, pads, strict=True)
    ]
    images = jax.lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    rows, columns = (length // stride for length in images.shape[1:3])
    parted = images.reshape(count, rows, stride, columns, stride * channels)
    if parted.dtype == jnp.uint8 and parted.shape[-1] % 4 == 0:  # four bytes are moved as fast as one
        words = jax.lax.bitcast_convert_type(parted.reshape(*parted.shape[:-1], -1, 4), jnp.uint32)
        return jax.lax.bitcast_convert_type(words.swapaxes(2, 3), jnp.uint8).reshape(count, rows, columns, -1)
    return _rows_joined(parted)


@jax.custom_vjp
def _rows_joined(parted: Shaped[Array, "B I s J sC"]) -> Shaped[Array, "B I J D"]:
    """The axes s and J swapped, and s joined with the last: copies of whole rows, ten times as fast as `swapaxes`."""
    return jnp.concatenate([parted[:, :, row] for row in range(parted.shape[2])], axis=-1)


def _rows_parted(stride: int, cotangent: Float[Array, "B I J D"]) -> tuple[Float[Array, "B I s J sC"]]:
    return (cotangent.reshape(*cotangent.shape[:3], stride, -1).swapaxes(2, 3),)


_rows_joined.defvjp(lambda parted: (_rows_joined(parted), parted.shape[2]), _rows_parted)


def _kernel_blocks(stride: int, kernel: Float[Array, "k k C F"]) -> Float[Array, "m m D F"]:
    """The kernel for `_blocks`; zero where its last block goes beyond it."""
    size, _, _, features = kernel.shape
    blocks = math.ceil(size / stride)
    beyond = (0, blocks * stride - size)
    kernel = jnp.pad(kernel, (beyond, beyond, (0, 0), (0, 0)))
    parted = kernel.reshape(blocks, stride, blocks, -1, features)
    return parted.swapaxes(1, 2).reshape(blocks, blocks, -1, features)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _over_blocks(
    rounding: bool, blocks: Shaped[Array, "B I J D"], weights: Float[Array, "m m D F"], bias: Float[Array, " F"]
) -> Float[Array, "B h w F"]:
    """The convolution of stride 1, a few images at a time.

    Args:
        rounding: factors are rounded to bfloat16. An argument, as JAX may derive the gradient in another context.
    """
    across, channels, features = weights.shape[0], *weights.shape[2:]
    by_place = as_factor(rounding, weights.reshape(-1, channels, features).swapaxes(0, 1).reshape(channels, -1))
    by_window = as_factor(rounding, weights.reshape(-1, features))

    def of_piece(blocks: Shaped[Array, "b I J D"]) -> Float[Array, "b h w F"]:
        x = as_factor(rounding, pixels(rounding, blocks))
        if features < channels:
            places = _slices(across, jnp.matmul(x, by_place, preferred_element_type=jnp.float32))
            parts = [place[..., i * features : (i + 1) * features] for i, place in enumerate(places)]
        else:
            parts = [jnp.matmul(_windows(across, x), by_window, preferred_element_type=jnp.float32)]
        return _stored(lambda *parts: sum(parts, jnp.broadcast_to(bias, parts[0].shape)), *parts)

    return in_pieces(of_piece, blocks, most=CPU_IMAGES)


def _forward(
    rounding: bool, blocks: Array, weights: Array, bias: Array
) -> tuple[Float[Array, "B h w F"], tuple[Array, Array]]:
    return _over_blocks(rounding, blocks, weights, bias), (blocks, weights)


def _backward(
    rounding: bool, residuals: tuple[Array, Array], cotangent: Float[Array, "B h w F"]
) -> tuple[Float[Array, "B I J D"] | None, Float[Array, "m m D F"], Float[Array, " F"]]:
    """The gradients by blocks (none for 8-bit ones), weights and bias; by weights and bias summed over the images."""
    blocks, weights = residuals
    across, features = weights.shape[0], weights.shape[-1]
    transposed = as_factor(rounding, weights.reshape(-1, features).T)
    in_float32 = functools.partial(jnp.tensordot, preferred_element_type=jnp.float32)
    is_float = jnp.issubdtype(blocks.dtype, jnp.floating)

    def of_piece(sum_: Float[Array, "F mmD"], piece: tuple[Array, Array]) -> tuple[Array, Array | None]:
        x, cotangent = as_factor(rounding, pixels(rounding, piece[0])), as_factor(rounding, piece[1])
        # Features, which are few, as rows: three times as fast on CPU as the transpose (see `layers.linear`).
        rows = jax.lax.optimization_barrier(cotangent.reshape(-1, features).T)
        places = [in_float32(rows, place.reshape(rows.shape[1], -1), 1) for place in _slices(across, x)]
        by_weights = jnp.concatenate(places, axis=1)
        by_blocks = _overlapped(across, in_float32(cotangent, transposed, 1)) if is_float else None
        return sum_ + by_weights, by_blocks

    piece = piece_size(len(blocks), CPU_IMAGES)
    cut, cut_cotangent = (x.reshape(-1, piece, *x.shape[1:]) for x in (blocks, cotangent))
    by_weights, by_blocks = jax.lax.scan(of_piece, jnp.zeros(transposed.shape, jnp.float32), (cut, cut_cotangent))
    return (
        None if by_blocks is None else by_blocks.reshape(blocks.shape).astype(blocks.dtype),
        jax.lax.optimization_barrier(by_weights).T.reshape(weights.shape),
        jnp.sum(cotangent, axis=(0, 1, 2)),
    )


_over_blocks.defvjp(_forward, _backward)


def _stored(function: Callable[..., Array], *arrays: Shaped[Array, "b ..."]) -> Shaped[Array, "b ..."]:
    """`function` of arrays, row by row independent, computed once: two halves, concatenated.

    XLA's fusions compute it anew for each operation that reads it. What is concatenated they read from memory.
    """
    half = len(arrays[0]) // 2
    parts = [[x[:half] for x in arrays], [x[half:] for x in arrays]] if half else [arrays]
    return jnp.concatenate([function(*part) for part in parts])


def _slices(across: int, blocks: Shaped[Array, "b I J D"]) -> list[Shaped[Array, "b h w D"]]:
    """The blocks at each place of windows of across x across blocks."""
    rows, columns = (length - across + 1 for length in blocks.shape[1:3])
    return [blocks[:, u : u + rows, v : v + columns] for u, v in itertools.product(range(across), repeat=2)]


def _windows(across: int, blocks: Float[Array, "b I J D"]) -> Float[Array, "b h w mmD"]:
    """Windows of across x across blocks, copied out."""
    return jnp.concatenate(_slices(across, blocks), axis=-1)


def _overlapped(across: int, windows: Float[Array, "b h w mmD"]) -> Float[Array, "b I J D"]:
    """The sum of windows where they lie, the transpose of `_windows`."""
    count, rows, columns, size = windows.shape
    channels = size // across**2
    whole = jnp.zeros((count, rows + across - 1, columns + across - 1, channels), windows.dtype)
    for i, (u, v) in enumerate(itertools.product(range(across), repeat=2)):
        part = windows[..., i * channels : (i + 1) * channels]
        whole = whole.at[:, u : u + rows, v : v + columns].add(part)
    return whole
