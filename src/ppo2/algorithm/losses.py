"""The loss, one function for each of its terms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.rollout import Batch, EvaluatedActions
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis
from ppo2.numerics.statistics import weighted_mean, weighted_moments


class Stats(NamedTuple):
    """The parts of a minibatch's loss, and two figures of it; the names are Baselines' `loss_names`."""

    policy_loss: Float[Array, ""]
    value_loss: Float[Array, ""]
    policy_entropy: Float[Array, ""]
    approxkl: Float[Array, ""]
    clipfrac: Float[Array, ""]

    @classmethod
    def zero(cls) -> "Stats":
        return cls(*(jnp.zeros((), jnp.float32) for _ in cls._fields))


def normalise_advantages(
    advantages: Float[Array, " B"], weights: Float[Array, " B"], axis: DataAxis = ONE_DEVICE
) -> Float[Array, " B"]:
    """(A - mean) / (std + 1e-8), over the minibatch's valid steps, those of all blocks."""
    moments = weighted_moments(advantages, weights, axis)
    return (advantages - moments.mean) / (jnp.sqrt(moments.var) + 1e-8)


def policy_loss(
    logp: Float[Array, " B"],
    old_logp: Float[Array, " B"],
    advantages: Float[Array, " B"],
    weights: Float[Array, " B"],
    *,
    cliprange: Float[Array, ""],
) -> Float[Array, ""]:
    """The clipped surrogate: mean(max(-A ratio, -A clip(ratio, 1 - c, 1 + c))), ratio = exp(logp - old_logp).

    Source: Schulman et al. 2017, arXiv:1707.06347, equation 7.
    """
    ratio = jnp.exp(logp - old_logp)
    clipped_ratio = jnp.clip(ratio, 1.0 - cliprange, 1.0 + cliprange)
    # Where the clipped one is larger it is constant. `jnp.maximum` would share the gradient of equal ones out between
    # the two, as within the clip range all are: the same in sum, by twice the operations.
    plain, clipped = -advantages * ratio, -advantages * jax.lax.stop_gradient(clipped_ratio)
    return weighted_mean(jnp.where(plain >= clipped, plain, clipped), weights)


def value_loss(
    values: Float[Array, " B"],
    old_values: Float[Array, " B"],
    returns: Float[Array, " B"],
    weights: Float[Array, " B"],
    *,
    value_cliprange: Float[Array, ""] | None,
) -> Float[Array, ""]:
    """Half the mean squared error of the values: 1/2 mean(max((v - R)^2, (v_old + clip(v - v_old, -c, c) - R)^2)).

    The clip is Baselines', not the paper's; `value_cliprange=None` leaves it out.
    """
    squared_error = (values - returns) ** 2
    if value_cliprange is not None:
        clipped_values = old_values + jnp.clip(values - old_values, -value_cliprange, value_cliprange)
        squared_error = jnp.maximum(squared_error, (clipped_values - returns) ** 2)
    return 0.5 * weighted_mean(squared_error, weights)


def mean_entropy(entropy: Float[Array, " B"], weights: Float[Array, " B"]) -> Float[Array, ""]:
    """The mean entropy of the policy, in nats; the loss subtracts it, times `ent_coef`, to keep exploring.

    Source: Schulman et al. 2017, arXiv:1707.06347, equation 9.
    """
    return weighted_mean(entropy, weights)


def approximate_kl(
    logp: Float[Array, " B"], old_logp: Float[Array, " B"], weights: Float[Array, " B"]
) -> Float[Array, ""]:
    """Baselines' estimate of KL(old || new): half the mean squared difference of log-probabilities."""
    return 0.5 * weighted_mean((logp - old_logp) ** 2, weights)


def clip_fraction(
    logp: Float[Array, " B"], old_logp: Float[Array, " B"], weights: Float[Array, " B"], *, cliprange: Float[Array, ""]
) -> Float[Array, ""]:
    """The share of samples whose ratio is further than `cliprange` from 1."""
    outside = jnp.abs(jnp.exp(logp - old_logp) - 1.0) > cliprange
    return weighted_mean(outside.astype(jnp.float32), weights)


def ppo_loss(new: EvaluatedActions, batch: Batch, hyper: Hyperparameters) -> tuple[Float[Array, ""], Stats]:
    """PPO's loss of a minibatch: policy_loss - ent_coef entropy + vf_coef value_loss; and what it is made of.

    Source: Schulman et al. 2017, arXiv:1707.06347, equation 9.
    Shapes: every array (B,); means are weighted by `batch.weights` (1 for a valid step, 0 for one that was no
        experience). `batch.advantages` are normalised already.

    Args:
        new: the batch's actions under the policy as it is now.
        batch: the samples.
        hyper: `cliprange`, `value_cliprange`, `ent_coef`, `vf_coef`.
    """
    weights = batch.weights
    stats = Stats(
        policy_loss=policy_loss(new.logp, batch.logp, batch.advantages, weights, cliprange=hyper.cliprange),
        value_loss=value_loss(new.values, batch.values, batch.returns, weights, value_cliprange=hyper.value_cliprange),
        policy_entropy=mean_entropy(new.entropy, weights),
        approxkl=approximate_kl(new.logp, batch.logp, weights),
        clipfrac=clip_fraction(new.logp, batch.logp, weights, cliprange=hyper.cliprange),
    )
    return stats.policy_loss - hyper.ent_coef * stats.policy_entropy + hyper.vf_coef * stats.value_loss, stats
