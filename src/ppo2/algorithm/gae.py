"""Advantages and returns."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ppo2.numerics.recurrence import linear_recurrence


def gae(
    rewards: Float[Array, "T N"],
    values: Float[Array, "T N"],
    next_values: Float[Array, "T N"],
    terminated: Bool[Array, "T N"],
    truncated: Bool[Array, "T N"],
    valid: Bool[Array, "T N"] | None = None,
    *,
    gamma: float | Float[Array, ""],
    lam: float | Float[Array, ""],
) -> Float[Array, "T N"]:
    """Generalised advantage estimates for one rollout.

    A_t = d_t + gamma lam (1 - ended_t) A_{t+1}
    d_t = r_t + gamma (1 - terminated_t) V(s'_t) - V(s_t),  ended = terminated or truncated
    A_t = 0 where the step is not valid, so that the step before it bootstraps from V of its true successor.

    Source: Schulman et al. 2016, arXiv:1506.02438, section 3.
    Shapes: every array (T, N), time first. next_values is V of the observation before any automatic reset, so that
        truncated episodes still bootstrap; where terminated it is not looked at, whatever it is.
    Units: gamma per environment step. Advantages are not normalised; returns are `gae(...) + values`.
    """
    bootstrap = jnp.where(terminated, 0.0, next_values)
    deltas = rewards + gamma * bootstrap - values
    decay = gamma * lam * (1.0 - (terminated | truncated).astype(jnp.float32))
    if valid is not None:
        deltas, decay = jnp.where(valid, deltas, 0.0), jnp.where(valid, decay, 0.0)
    return linear_recurrence(decay, deltas, jnp.zeros_like(deltas[0]), reverse=True)
