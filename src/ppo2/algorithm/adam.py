"""Adam (Kingma and Ba 2015, arXiv:1412.6980) on the flat parameters, to the same bits as Optax's."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

MEAN_DECAY = 0.9
SQUARE_DECAY = 0.999
EPSILON = np.float32(1e-5)  # Baselines' ppo2 (TensorFlow 1)
MOST_STEPS = np.int32(2**31 - 1)


class AdamState(NamedTuple):
    """The number of steps, and the running means of the gradient and of its square."""

    count: Int[Array, ""]  # type: ignore[assignment] # Optax's name, which files have
    mu: Float[Array, " P"]
    nu: Float[Array, " P"]


def start(params: Float[Array, " P"]) -> AdamState:
    """The state before the first step, in NumPy: nothing is compiled for it."""
    zeros: Any = np.zeros((), np.int32), *(np.zeros(params.shape, params.dtype) for _ in range(2))
    return AdamState(*zeros)


def direction(gradient: Float[Array, " P"], state: AdamState) -> tuple[Float[Array, " P"], AdamState]:
    """The direction of a step, and the next state; the learning rate is applied by the caller.

    m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  direction = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)
    """
    count = jnp.minimum(state.count, MOST_STEPS - 1) + np.int32(1)
    mean = _running_mean(gradient, state.mu, MEAN_DECAY)
    square = _running_mean(gradient * gradient, state.nu, SQUARE_DECAY)
    root = jnp.sqrt(_corrected(square, SQUARE_DECAY, count))
    return _corrected(mean, MEAN_DECAY, count) / (root + EPSILON), AdamState(count, mean, square)


def _running_mean(new: Float[Array, " P"], mean: Float[Array, " P"], decay: float) -> Float[Array, " P"]:
    return np.float32(1 - decay) * new + np.float32(decay) * mean


def _corrected(mean: Float[Array, " P"], decay: float, count: Int[Array, ""]) -> Float[Array, " P"]:
    """A running mean that began at 0, without the share of that beginning."""
    power = jax.lax.pow(jnp.float32(decay), count.astype(jnp.float32))
    return mean / (np.float32(1) - power)
