"""Adam (Kingma and Ba 2015, arXiv:1412.6980) on the flat parameters, as Optax has it."""

from typing import TypeAlias

import jax
import numpy as np
import optax
from jaxtyping import Array, Float

EPSILON = 1e-5  # Baselines' ppo2 (TensorFlow 1)

ADAM = optax.scale_by_adam(eps=EPSILON)

AdamState: TypeAlias = optax.ScaleByAdamState
"""The number of steps, and the running means of the gradient and of its square."""


def start(params: Float[Array, " P"]) -> AdamState:
    """The state before the first step: Optax's, made in NumPy, so that nothing is compiled for it."""
    mean, square = (np.zeros(params.shape, params.dtype) for _ in range(2))
    return AdamState(count=np.zeros((), np.int32), mu=mean, nu=square)


def direction(gradient: Float[Array, " P"], state: AdamState) -> tuple[Float[Array, " P"], AdamState]:
    """The direction of a step, and the next state; the learning rate is applied by the caller.

    Optax raises a Python number to the power of an integer array, which JAX refuses under
    `jax_numpy_dtype_promotion="strict"` and computes in 64 bits under `jax_enable_x64`: so neither holds here.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_x64(False):
        found, after = ADAM.update(gradient, state)
    return found, after
