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
    return weighted_mean(policy_losses(logp, old_logp, advantages, cliprange=cliprange), weights)


def policy_losses(
    logp: Float[Array, " B"],
    old_logp: Float[Array, " B"],
    advantages: Float[Array, " B"],
    *,
    cliprange: Float[Array, ""],
) -> Float[Array, " B"]:
    """`policy_loss` of each sample."""
    ratio = jnp.exp(logp - old_logp)
    plain, clipped = -advantages * ratio, -advantages * _clipped(ratio, jnp.ones_like(ratio), cliprange)
    return jnp.where(plain >= clipped, plain, clipped)


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
    return weighted_mean(value_losses(values, old_values, returns, value_cliprange=value_cliprange), weights)


def value_losses(
    values: Float[Array, " B"],
    old_values: Float[Array, " B"],
    returns: Float[Array, " B"],
    *,
    value_cliprange: Float[Array, ""] | None,
) -> Float[Array, " B"]:
    """`value_loss` of each sample."""
    squared_error = (values - returns) ** 2
    if value_cliprange is not None:
        clipped = (_clipped(values, old_values, value_cliprange) - returns) ** 2
        squared_error = jnp.where(squared_error >= clipped, squared_error, clipped)
    return 0.5 * squared_error


def _clipped(x: Float[Array, " B"], centre: Float[Array, " B"], by: Float[Array, ""]) -> Float[Array, " B"]:
    """`x`, no further than `by` from `centre`, as a constant: of losses that are equal one takes the unclipped one.

    `jnp.clip` and `jnp.maximum` would share the gradient of equal ones out between the two, as within the clip range
    all are: the same in sum, by several times the operations.
    """
    distance = jax.lax.stop_gradient(x - centre)
    edge = centre + jnp.sign(distance) * by
    return jnp.where(jnp.abs(distance) > by, edge, jax.lax.stop_gradient(x))


def approximate_kl(logp: Float[Array, " B"], old_logp: Float[Array, " B"]) -> Float[Array, " B"]:
    """Baselines' estimate of KL(old || new), by sample: half the squared difference of log-probabilities."""
    return 0.5 * (logp - old_logp) ** 2


def is_clipped(
    logp: Float[Array, " B"], old_logp: Float[Array, " B"], *, cliprange: Float[Array, ""]
) -> Float[Array, " B"]:
    """1 for samples whose ratio is further than `cliprange` from 1, else 0."""
    outside = jnp.abs(jnp.exp(logp - old_logp) - 1.0) > cliprange
    return outside.astype(jnp.float32)


def ppo_loss(new: EvaluatedActions, batch: Batch, hyper: Hyperparameters) -> tuple[Float[Array, ""], Stats]:
    """PPO's loss of a minibatch: policy_loss - ent_coef entropy + vf_coef value_loss; and what it is made of.

    The entropy, in nats, is subtracted to keep exploring.

    Source: Schulman et al. 2017, arXiv:1707.06347, equation 9.
    Shapes: every array (B,); means are weighted by `batch.weights` (1 for a valid step, 0 for one that was no
        experience). `batch.advantages` are normalised already.

    Args:
        new: the batch's actions under the policy as it is now.
        batch: the samples.
        hyper: `cliprange`, `value_cliprange`, `ent_coef`, `vf_coef`.
    """
    each = Stats(
        policy_loss=policy_losses(new.logp, batch.logp, batch.advantages, cliprange=hyper.cliprange),
        value_loss=value_losses(new.values, batch.values, batch.returns, value_cliprange=hyper.value_cliprange),
        policy_entropy=new.entropy,
        approxkl=approximate_kl(new.logp, batch.logp),
        clipfrac=is_clipped(new.logp, batch.logp, cliprange=hyper.cliprange),
    )
    loss = each.policy_loss - hyper.ent_coef * each.policy_entropy + hyper.vf_coef * each.value_loss
    # The figures are beside the loss, all in one sum: a mean of each would be a dozen small operations.
    figures = jnp.moveaxis(jax.lax.stop_gradient(jnp.stack(each)), 0, -1)
    return weighted_mean(loss, batch.weights), Stats(*weighted_mean(figures, batch.weights))
