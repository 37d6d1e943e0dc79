"""The objective, arithmetic only."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ppo2.numerics.sharding import ONE_DEVICE, DataAxis
from ppo2.numerics.statistics import weighted_mean, weighted_moments


class Stats(NamedTuple):
    """What one minibatch's loss is made of; the names are Baselines' `loss_names`."""

    policy_loss: Float[Array, ""]
    value_loss: Float[Array, ""]
    policy_entropy: Float[Array, ""]
    approxkl: Float[Array, ""]
    clipfrac: Float[Array, ""]

    @classmethod
    def zero(cls) -> "Stats":
        return cls(*(jnp.zeros(()) for _ in cls._fields))


def normalise_advantages(
    advantages: Float[Array, " B"], weights: Float[Array, " B"], axis: DataAxis = ONE_DEVICE
) -> Float[Array, " B"]:
    """(A - mean) / (std + 1e-8), over the minibatch's valid steps, those of all blocks."""
    moments = weighted_moments(advantages, weights, axis)
    return (advantages - moments.mean) / (jnp.sqrt(moments.var) + 1e-8)


def ppo_loss(
    logp: Float[Array, " B"],
    entropy: Float[Array, " B"],
    values: Float[Array, " B"],
    *,
    old_logp: Float[Array, " B"],
    old_values: Float[Array, " B"],
    advantages: Float[Array, " B"],
    returns: Float[Array, " B"],
    weights: Float[Array, " B"],
    cliprange: Float[Array, ""],
    value_cliprange: Float[Array, ""] | None,
    ent_coef: Float[Array, ""],
    vf_coef: Float[Array, ""],
) -> tuple[Float[Array, ""], Stats]:
    """PPO's clipped surrogate with value loss and entropy bonus.

    ratio = exp(logp - old_logp)
    policy = mean(max(-A ratio, -A clip(ratio, 1 - c, 1 + c)))
    value = 1/2 mean(max((v - R)^2, (v_old + clip(v - v_old, -c_v, c_v) - R)^2))
    loss = policy - ent_coef entropy + vf_coef value

    Source: Schulman et al. 2017, arXiv:1707.06347, equations 7 and 9. The clip of the value is Baselines', not the
    paper's; `value_cliprange=None` leaves it out.
    Shapes: every array (B,); means are weighted by `weights` (1 for a valid step, 0 for one that was no experience).
    Units: `advantages` as they shall weigh, i.e. already normalised.
    """
    ratio = jnp.exp(logp - old_logp)
    clipped_ratio = jnp.clip(ratio, 1.0 - cliprange, 1.0 + cliprange)
    policy_loss = weighted_mean(jnp.maximum(-advantages * ratio, -advantages * clipped_ratio), weights)

    squared_error = (values - returns) ** 2
    if value_cliprange is not None:
        clipped_values = old_values + jnp.clip(values - old_values, -value_cliprange, value_cliprange)
        squared_error = jnp.maximum(squared_error, (clipped_values - returns) ** 2)
    value_loss = 0.5 * weighted_mean(squared_error, weights)

    policy_entropy = weighted_mean(entropy, weights)
    loss = policy_loss - ent_coef * policy_entropy + vf_coef * value_loss
    return loss, Stats(
        policy_loss=policy_loss,
        value_loss=value_loss,
        policy_entropy=policy_entropy,
        approxkl=0.5 * weighted_mean((logp - old_logp) ** 2, weights),
        clipfrac=weighted_mean((jnp.abs(ratio - 1.0) > cliprange).astype(jnp.float32), weights),
    )
