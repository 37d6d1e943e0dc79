"""Convolution of stride 1 on CPU: XLA's own, arranged so that it is fast, inside loops too.

XLA's convolution on CPU reaches 130 GFLOP/s a core where it has 32 filters or more, whole groups of four channels and a
kernel that isn't turned round; else less, down to a hundredth (docs/optimisation-notes.md). So here

- fewer than 32 filters make two columns of the result at once, as twice as many filters of a kernel one column wider,
- the gradient by images is a convolution with the turned kernel, turned beforehand,
- the gradient by the kernel is a convolution too, with a few images as the channels and the cotangent as the kernel.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Shaped

from ppo2.networks.layers import kernel_for, pixels
from ppo2.numerics.pieces import in_pieces, merge_leading_axes, piece_size
from ppo2.numerics.precision import as_factor, rounds

Edges: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Rows of zeros above and below an image, columns to its left and right."""

IMAGES = 8
"""Images that are convolved at once: channels of the kernel's gradient, whose factors then stay in the cache."""
FILTERS = 32
"""Filters, two registers of AVX-512, from which XLA's convolution is at its best."""
GROUP = 4
"""Channels that XLA's convolution takes together; it is several times slower where they don't divide into such."""


def by_columns(padding: str, images: Array, kernel: Array, bias: Array) -> Float[Array, "B h w F"]:
    """`convolve` of stride 1."""
    size = kernel.shape[:2]
    edges = jax.lax.padtype_to_pads(images.shape[1:3], size, (1, 1), padding.upper())
    whole = _convolution(rounds(), tuple(edges), images, kernel_for(rounds(), images, kernel))
    return whole + jnp.broadcast_to(bias, whole.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolution(
    rounding: bool, edges: Edges, images: Shaped[Array, "B H W C"], kernel: Float[Array, "k k C F"]
) -> Float[Array, "B h w F"]:
    """The convolution, a few images at a time.

    Args:
        rounding: factors are rounded to bfloat16. An argument, as JAX may derive the gradient in another context.
    """
    kernel = as_factor(rounding, kernel)

    def of_piece(images: Shaped[Array, "b H W C"]) -> Float[Array, "b h w F"]:
        return _wide(edges, as_factor(rounding, pixels(rounding, images)), kernel)

    return in_pieces(of_piece, images, most=IMAGES)


def _forward(rounding: bool, edges: Edges, images: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolution(rounding, edges, images, kernel), (images, kernel)


def _backward(
    rounding: bool, edges: Edges, residuals: tuple[Array, Array], cotangent: Float[Array, "B h w F"]
) -> tuple[Float[Array, "B H W C"] | None, Float[Array, "k k C F"]]:
    """The gradients by images (none for 8-bit ones) and by the kernel."""
    images, kernel = residuals
    turned = as_factor(rounding, kernel)[::-1, ::-1].swapaxes(2, 3)
    beyond: Any = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(kernel.shape, edges, strict=False))
    is_float = jnp.issubdtype(images.dtype, jnp.floating)

    def of_piece(sum_: Array, piece: tuple[Array, Array]) -> tuple[Array, Array | None]:
        images, cotangent = as_factor(rounding, pixels(rounding, piece[0])), as_factor(rounding, piece[1])
        by_kernel = _by_kernel(edges, images, cotangent)
        return sum_ + by_kernel, _wide(beyond, cotangent, turned) if is_float else None

    piece = piece_size(len(images), IMAGES)
    if piece == len(images):
        by_kernel, by_images = of_piece(jnp.zeros(kernel.shape, jnp.float32), (images, cotangent))
    else:
        cut, cut_cotangent = (x.reshape(-1, piece, *x.shape[1:]) for x in (images, cotangent))
        by_kernel, by_images = jax.lax.scan(of_piece, jnp.zeros(kernel.shape, jnp.float32), (cut, cut_cotangent))
    return None if by_images is None else by_images.reshape(images.shape).astype(images.dtype), by_kernel


_convolution.defvjp(_forward, _backward)


def _wide(edges: Edges, images: Float[Array, "B H W C"], kernel: Float[Array, "k k C F"]) -> Float[Array, "B h w F"]:
    """The convolution of a piece, by at least FILTERS filters if those of two columns are as many."""
    lack = -images.shape[-1] % GROUP
    images, kernel = _widened(images, 3, 0, lack), _widened(kernel, 2, 0, lack)
    filters, (rows, (left, right)) = kernel.shape[-1], edges
    width = images.shape[2] + left + right - kernel.shape[1] + 1
    if filters >= FILTERS or width == 1:
        return _xlas(edges)(images, kernel)
    # filters of the left column, then of the right one, whose window lies one further
    pair = jnp.stack([_widened(kernel, 1, 0, 1), _widened(kernel, 1, 1, 0)], axis=3)
    pairs = _xlas((rows, (left, right + width % 2)), stride=2)(images, pair.reshape(*pair.shape[:3], -1))
    return pairs.reshape(*pairs.shape[:2], -1, filters)[:, :, :width]


def _by_kernel(
    edges: Edges, images: Float[Array, "B H W C"], cotangent: Float[Array, "B h w F"]
) -> Float[Array, "k k C F"]:
    """sum_(b, i, j) x[b, i + u, j + v, c] dy[b, i, j, f], of a piece."""
    if len(images) < GROUP:
        return _by_products(edges, images, cotangent)
    lack = -len(images) % GROUP
    images, cotangent = _widened(images, 0, 0, lack), _widened(cotangent, 0, 0, lack)
    (width, filters), (rows, (left, right)) = cotangent.shape[2:], edges
    columns = 1 if filters >= FILTERS or width == 1 else 2
    odd = width % columns
    cotangent = _widened(cotangent, 2, 0, odd)
    factor = cotangent.reshape(*cotangent.shape[:2], -1, columns * filters).transpose(1, 2, 0, 3)
    # behind a barrier, or XLA would convolve the images as they lie, which is slow
    factors = jax.lax.optimization_barrier((images.transpose(3, 1, 2, 0), factor))
    sums = _xlas((rows, (left, right + odd)), dilation=columns)(*factors)
    if columns == 2:
        parted = sums.reshape(*sums.shape[:3], 2, filters)
        sums = parted[:, :, :-1, 0] + parted[:, :, 1:, 1]
    return sums.transpose(1, 2, 0, 3)


def _by_products(
    edges: Edges, images: Float[Array, "B H W C"], cotangent: Float[Array, "B h w F"]
) -> Float[Array, "k k C F"]:
    """`_by_kernel` as one product: of few images, which are too few channels; under `vmap` they may be many."""
    images = jax.lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *((*edge, 0) for edge in edges), (0, 0, 0)])
    (height, width, channels), filters = images.shape[1:], cotangent.shape[-1]
    rows, columns = height - cotangent.shape[1], width - cotangent.shape[2]
    windows = jnp.concatenate([images[:, :, v : width - columns + v] for v in range(columns + 1)], axis=-1)
    factor = jnp.concatenate([_widened(cotangent, 1, u, rows - u) for u in range(rows + 1)], axis=-1)
    product = jnp.tensordot(windows, factor, ((0, 1, 2), (0, 1, 2)), preferred_element_type=jnp.float32)
    return product.reshape(columns + 1, channels, rows + 1, filters).transpose(2, 0, 1, 3)


def _widened(x: Float[Array, "..."], axis: int, before: int, after: int) -> Float[Array, "..."]:
    """Zeros before and after the others along an axis."""
    return jnp.pad(x, [(before, after) if i == axis else (0, 0) for i in range(x.ndim)])


def _xlas(edges: Edges, stride: int = 1, dilation: int = 1) -> Callable[[Array, Array], Array]:
    """XLA's convolution, with a stride or a dilation of the kernel along columns.

    Many kernels at once go one after another: XLA would make groups of channels of them, and is slow at these.
    """

    @custom_vmap
    def convolve(images: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            (1, stride),
            edges,
            rhs_dilation=(1, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            preferred_element_type=jnp.float32,
        )

    @convolve.def_vmap
    def _many(size: int, batched: list[bool], images: Array, kernel: Array) -> tuple[Array, bool]:
        if not batched[1]:
            together = convolve(merge_leading_axes(images), kernel)
            return together.reshape(size, -1, *together.shape[1:]), True
        if not batched[0]:
            return jax.lax.map(lambda one: convolve(images, one), kernel), True
        return jax.lax.map(lambda pair: convolve(*pair), (images, kernel)), True

    return convolve
