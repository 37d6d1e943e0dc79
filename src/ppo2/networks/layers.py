"""Layers as Baselines initialises them, and the inputs of all networks."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ppo2.numerics.compilation import platform
from ppo2.numerics.precision import multiplied, rounded_rows_times, rounds
from ppo2.numerics.randomness import host_generator, is_traced

SQRT2 = math.sqrt(2.0)

MOST_QR_WORK = 2**30
"""Rows times columns squared up to which a matrix is decomposed by QR, as all were at first: LAPACK needs seconds for
that many, and minutes for a layer of 59,904 x 512."""
TALL = 8
"""Rows for each column from which a random matrix is so well conditioned (its largest singular value about twice its
smallest) that one pass of CholeskyQR in float32 is orthogonal to 1e-6."""
MOST_CONDITION = 1e9
"""Squared condition number up to which one pass in float64, of 16 digits, leaves Q orthogonal to float32's 7."""
MANY_ROWS, MANY_OUTPUTS = 128, 16
"""Rows and outputs from which on a transposed copy pays for itself in the gradient of a weight."""
BYTES = 255.0
"""Number that 8-bit images are divided by."""
STREAMS = 8
"""Random streams of a large matrix, drawn side by side; the number decides about its bits."""


class Dense(eqx.nn.Linear):
    """A linear layer of given arrays. Equinox' own draws them: only to trace that takes 4 ms for each shape."""

    def __init__(self, weight: Float[Array, "o i"], bias: Float[Array, " o"]) -> None:
        self.weight, self.bias, self.use_bias = weight, bias, True
        self.out_features, self.in_features = weight.shape


def dense(in_features: int, out_features: int, gain: float, *, key: PRNGKeyArray) -> eqx.nn.Linear:
    """A linear layer with orthogonal weights of the given gain, and zero bias."""
    return Dense(orthogonal((out_features, in_features), gain, key=key), zeros(out_features, key=key))


def linear(layer: eqx.nn.Linear, x: Float[Array, " i"]) -> Float[Array, " o"]:
    """`layer(x)`, by `weighted`."""
    product = weighted(layer.weight, x)
    return product if layer.bias is None else product + layer.bias


def weighted(weight: Float[Array, "o i"], x: Float[Array, " i"]) -> Float[Array, " o"]:
    """`weight @ x`, whose gradient is cheaper on CPU where there are fewer inputs than outputs.

    The weight's gradient is a sum over the batch, and XLA's product for it is seven times as fast (3 instead of 22
    microseconds for a batch of 256, 4 inputs and 64 outputs) if the fewer are its rows. So the weight is transposed by
    hand, behind a barrier, or XLA would undo it.
    """
    few_inputs = weight.shape[1] < weight.shape[0] and platform() == "cpu"
    factors = (x, jax.lax.optimization_barrier(weight.T)) if few_inputs else (weight, x)
    return multiplied(jnp.matmul, *factors)


def linear_on_batch(layer: eqx.nn.Linear, x: Float[Array, "B i"]) -> Float[Array, "B o"]:
    """`linear` of each row, whose gradient is cheaper on CPU where rows, inputs and outputs are many."""
    outputs, inputs = layer.weight.shape
    pays = len(x) >= MANY_ROWS and inputs >= outputs >= MANY_OUTPUTS
    if platform() != "cpu" or rounds() or not pays:
        return linear_by_row(layer, x)
    return _with_bias(_rows_times(x, layer.weight), layer)


def linear_by_row(layer: eqx.nn.Linear, x: Float[Array, "B i"]) -> Float[Array, "B o"]:
    """`linear` of each row, by `weighted_by_row`."""
    return _with_bias(weighted_by_row(layer.weight, x), layer)


def _with_bias(product: Float[Array, "B o"], layer: eqx.nn.Linear) -> Float[Array, "B o"]:
    # spread out by hand, as a user's JAX may refuse to (jax_numpy_rank_promotion)
    return product if layer.bias is None else product + jnp.broadcast_to(layer.bias, product.shape)


def weighted_by_row(weight: Float[Array, "o i"], x: Float[Array, "B i"]) -> Float[Array, "B o"]:
    """`weighted` of each row; where factors are rounded to bfloat16 they are so in gradients, all summed in float32."""
    return rounded_rows_times(x, weight) if rounds() else jax.vmap(lambda row: weighted(weight, row))(x)


@jax.custom_jvp
def _rows_times(x: Float[Array, "B i"], weight: Float[Array, "o i"]) -> Float[Array, "B o"]:
    """Product of rows and the transposed weight, x W^T, with its own derivative.

    The gradient of the weight is g^T x, and XLA's product takes 32 microseconds for it where g, (256, 64), is to be
    read across, but 20 with g^T made beforehand: as one transposes the derivative below, behind a barrier.
    """
    return jnp.matmul(x, weight.T)


@_rows_times.defjvp
def _derivative(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, weight), (dx, dweight) = primals, tangents
    by_weight = jax.lax.optimization_barrier(jnp.matmul(dweight, x.T)).T
    return _rows_times(x, weight), jnp.matmul(dx, weight.T) + by_weight


def orthogonal(shape: tuple[int, int], gain: float, *, key: PRNGKeyArray) -> Float[Array, "r c"]:
    """A matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    In NumPy, because JAX's own initialiser would compile a QR decomposition for every shape: a second at each start.
    Source: Saxe et al. 2014, arXiv:1312.6120.
    """
    if is_traced(key):
        return jnp.zeros(shape, jnp.float32)
    rows, columns = shape
    tall, generator = (max(shape), min(shape)), host_generator(key)
    q = None if math.prod(tall) * tall[1] <= MOST_QR_WORK else _by_cholesky(tall, gain, generator)
    q = gain * _by_qr(tall, generator) if q is None else q
    # not `jnp.asarray`, which compiles a program for each shape
    matrix: Array = jax.device_put(np.array(q if rows >= columns else q.T, np.float32))
    return matrix


def _by_qr(shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray[Any, Any]:
    q, r = np.linalg.qr(generator.standard_normal(shape))
    q *= np.sign(np.diag(r))  # else the decomposition's own convention would show
    return q


def _by_cholesky(shape: tuple[int, int], gain: float, generator: np.random.Generator) -> np.ndarray[Any, Any] | None:
    """The same Q, times `gain`, by matrix products, which use all processors: A^T A = R^T R, Q = A R^-1.

    R's diagonal is positive, so that no signs need fixing. Where A is so badly conditioned that Q isn't orthogonal, Q
    takes the place of A once more. None if even that can't help.
    Source: Fukaya et al. 2014, CholeskyQR2.
    """
    from scipy.linalg import blas, lapack  # JAX brings it

    q, product, by_triangle = _drawn(shape, generator), blas.dsyrk, blas.dtrmm
    if q.dtype == np.float32:
        product, by_triangle = blas.ssyrk, blas.strmm
    for repeated in (False, True):
        r, fails = lapack.dpotrf(product(1.0, q.T).astype(np.float64))
        inverse, singular = lapack.dtrtri(r)
        if fails or singular:
            return None
        condition = np.linalg.norm(inverse) * (math.sqrt(shape[0]) + math.sqrt(shape[1]))
        # its square times the roundings of the product is the departure from orthogonality
        last = repeated or q.dtype == np.float32 or condition**2 < MOST_CONDITION
        # the transpose, which is in Fortran's order: Q^T = R^-T A^T, in place; by a triangle, half the work
        q = by_triangle(gain if last else 1.0, inverse, q.T, trans_a=1, overwrite_b=1).T
        if last:
            break
    return q


def _drawn(shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Normal numbers; of a tall matrix in float32."""
    if shape[0] < TALL * shape[1]:
        return generator.standard_normal(shape)
    drawn = np.empty(shape, np.float32)
    with ThreadPoolExecutor() as pool:  # NumPy draws without Python's lock
        parts = zip(generator.spawn(STREAMS), np.array_split(drawn, STREAMS), strict=True)
        list(pool.map(lambda part: part[0].standard_normal(dtype=np.float32, out=part[1]), parts))
    return drawn


def zeros(size: int, *, key: PRNGKeyArray) -> Float[Array, " n"]:
    """A bias; `key`, of the weights beside it, says whether only shapes are asked for."""
    return jnp.zeros(size, jnp.float32) if is_traced(key) else jax.device_put(np.zeros(size, np.float32))


def as_float(x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """The input in float32; 8-bit integers (images) are scaled from 0..255 to 0..1."""
    return x.astype(jnp.float32) / BYTES if x.dtype == jnp.uint8 else x.astype(jnp.float32)


def pixels(rounding: bool, images: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """Images in float32, for a product with `kernel_for` them.

    Where factors are then rounded to bfloat16, 8-bit ones stay 0..255, which it has exactly: the kernel is scaled.
    """
    return images.astype(jnp.float32) if rounding else as_float(images)


def kernel_for(rounding: bool, images: Shaped[Array, "..."], kernel: Float[Array, "..."]) -> Float[Array, "..."]:
    """The kernel for the `pixels` of some images."""
    return kernel / BYTES if rounding and images.dtype == jnp.uint8 else kernel
