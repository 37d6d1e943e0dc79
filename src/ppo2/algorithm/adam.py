"""Adam (Kingma and Ba 2015, arXiv:1412.6980) on the flat parameters.

The arithmetic, to the last bit, and the state are `optax.scale_by_adam`'s. That one raises a Python number to the power
of an integer array, which JAX refuses under `jax_numpy_dtype_promotion="strict"` and computes in 64 bits under
`jax_enable_x64`.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

BETA1, BETA2 = 0.9, 0.999
EPSILON = 1e-5  # Baselines' ppo2 (TensorFlow 1)


def start(params: Float[Array, " P"]) -> optax.ScaleByAdamState:
    """The state before the first step."""
    state: optax.ScaleByAdamState = optax.scale_by_adam().init(params)
    return state


def direction(
    gradient: Float[Array, " P"], state: optax.ScaleByAdamState
) -> tuple[Float[Array, " P"], optax.ScaleByAdamState]:
    """The direction of a step, and the next state; the learning rate is applied by the caller.

    m' = b1 m + (1 - b1) g,  v' = b2 v + (1 - b2) g^2,  direction = m' / (1 - b1^n) / (sqrt(v' / (1 - b2^n)) + eps)
    """
    mu = (1 - BETA1) * gradient + BETA1 * state.mu
    nu = (1 - BETA2) * gradient**2 + BETA2 * state.nu
    most = 2**31 - 1
    count = jnp.where(state.count < most, state.count + 1, most)
    mean, square = (x / (1 - jax.lax.pow(jnp.float32(beta), count)) for x, beta in ((mu, BETA1), (nu, BETA2)))
    return mean / (jnp.sqrt(square) + EPSILON), optax.ScaleByAdamState(count=count, mu=mu, nu=nu)
