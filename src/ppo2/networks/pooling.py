"""Max-pooling of batches of images (B, H, W, C)."""

import functools
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

Odd: TypeAlias = tuple[int, int]
"""1 where the number of rows, or of columns, is odd, else 0."""


def max_pool(images: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """The largest of each 3 x 3 pixels at stride 2, as if the image were surrounded by minus infinity: h = ceil(H / 2).

    The gradient goes to the first of equals, row by row, as XLA's own does, which scatters and is slow on CPU: here it
    is made of sums of slices, from each window's place of the largest, a byte.
    """
    return _max_pool((images.shape[1] % 2, images.shape[2] % 2), images)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _max_pool(odd: Odd, images: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    return _forward(odd, images)[0]


def _forward(odd: Odd, images: Float[Array, "B H W C"]) -> tuple[Float[Array, "B h w C"], Int8[Array, "B h w C"]]:
    first, *others = _windows(odd, images)
    largest, place = first, jnp.zeros(first.shape, jnp.int8)
    for number, other in enumerate(others, 1):
        place = jnp.where(other > largest, jnp.int8(number), place)
        largest = jnp.maximum(largest, other)
    return largest, place


def _windows(odd: Odd, images: Float[Array, "B H W C"]) -> list[Float[Array, "B h w C"]]:
    """The pixels of all windows, by their place in it: slices of images whose rows and columns are in pairs."""
    channels = images.shape[-1]
    least = jnp.asarray(-jnp.inf, images.dtype)
    # an odd number of rows or columns has windows that begin one before it
    images = jax.lax.pad(images, least, [(0, 0, 0), *((one, 0, 0) for one in odd), (0, 0, 0)])
    pairs = images.reshape(len(images), images.shape[1] // 2, 2, images.shape[2] // 2, 2 * channels)
    slices = []
    for row in range(3):
        for column in range(3):
            pixels = pairs[:, :, row % 2, :, (column % 2) * channels :][..., :channels]
            below, beyond = row // 2, column // 2  # in the next pair
            slices.append(jax.lax.pad(pixels, least, [(0, 0, 0), (-below, below, 0), (-beyond, beyond, 0), (0, 0, 0)]))
    return slices


def _backward(
    odd: Odd, place: Int8[Array, "B h w C"], cotangent: Float[Array, "B h w C"]
) -> tuple[Float[Array, "B H W C"]]:
    count, rows, columns, channels = place.shape
    nothing = jnp.zeros((), cotangent.dtype)
    parts: dict[tuple[int, int], Array] = {}
    for number in range(9):
        (below, row), (beyond, column) = divmod(number // 3, 2), divmod(number % 3, 2)
        chosen = jnp.where(place == number, cotangent, nothing)
        chosen = jax.lax.pad(chosen, nothing, [(0, 0, 0), (below, -below, 0), (beyond, -beyond, 0), (0, 0, 0)])
        parts[row, column] = chosen + parts[row, column] if (row, column) in parts else chosen
    # behind a barrier, or XLA would compute them once more for each place that they are moved to
    joined = jax.lax.optimization_barrier(jnp.concatenate([parts[i, j] for i in (0, 1) for j in (0, 1)], axis=-1))
    pairs = joined.reshape(count, rows, columns, 2, 2 * channels).swapaxes(2, 3)
    whole = pairs.reshape(count, 2 * rows, 2 * columns, channels)
    return (whole[:, odd[0] :, odd[1] :],)


_max_pool.defvjp(_forward, _backward)
