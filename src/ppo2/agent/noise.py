"""Noise of a rollout's actions: drawn at once or, where it would take much memory, step by step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ppo2.distributions import ActionDistribution
from ppo2.numerics.randomness import folded, for_drawing

MOST_NUMBERS = 2**20
"""Numbers of one environment's noise in a rollout up to which it is drawn at once. It doesn't depend on the number of
environments, nor do the bits."""
MOST_AT_ONCE = 2**24
"""Numbers of all environments' noise up to which one expression draws it; XLA makes three to four copies."""
PIECE = 2**22
"""Numbers of a piece of noise that is larger; the bits are the same."""


def draws_each_step(distribution: ActionDistribution, steps: int) -> bool:
    """True if each step of a rollout draws its own noise."""
    return steps * distribution.noise_size > MOST_NUMBERS


def rollout_noise(
    distribution: ActionDistribution, keys: PRNGKeyArray, steps: int
) -> Float[Array, "T N p"] | Int[Array, " T"]:
    """The noise of a whole rollout, from a key for each environment; or the numbers of the steps, which draw theirs.

    One draw for all steps: a quarter of the cost of one in each. One stream for each environment: the same bits
    wherever it is stepped.
    """
    if draws_each_step(distribution, steps):
        return jnp.arange(steps, dtype=jnp.int32)
    count, numbers = keys.shape[0], steps * distribution.noise_size

    def some(keys: PRNGKeyArray) -> Float[Array, "T n p"]:
        return jax.vmap(lambda key: distribution.noise(key, (steps,)), out_axes=1)(for_drawing(keys))

    if count * numbers <= MOST_AT_ONCE:
        return some(keys)
    size = next(d for d in range(min(count, max(1, PIECE // numbers)), 0, -1) if count % d == 0)

    def with_piece(i: Int[Array, ""], noise: Float[Array, "T N p"]) -> Float[Array, "T N p"]:
        piece = some(jax.lax.dynamic_slice_in_dim(keys, i * size, size))
        return jax.lax.dynamic_update_slice_in_dim(noise, piece, i * size, axis=1)

    nothing = jnp.zeros((steps, count, distribution.noise_size), jnp.float32)
    noise: Float[Array, "T N p"] = jax.lax.fori_loop(0, count // size, with_piece, nothing)
    return noise


def step_noise(
    distribution: ActionDistribution, keys: PRNGKeyArray, now: Float[Array, "N p"] | Int[Array, ""]
) -> Float[Array, "N p"]:
    """The noise of one step, given its row of `rollout_noise`."""
    if now.ndim:
        return now

    def of_one(key: PRNGKeyArray) -> Float[Array, " p"]:
        return distribution.noise(for_drawing(folded(key, now)), ())

    noise: Float[Array, "N p"] = jax.vmap(of_one)(keys)
    return noise
