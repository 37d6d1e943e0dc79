"""The experience of a rollout, completed by the policy's figures; for the host and the device alike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from ppo2.agent.model import Model
from ppo2.agent.policy import Policy
from ppo2.algorithm.minibatches import join_sequences, split_sequences
from ppo2.algorithm.normaliser import Normaliser
from ppo2.algorithm.rollout import Rollout
from ppo2.numerics.pieces import in_fitting_pieces, merge_leading_axes
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis


class Experience(NamedTuple):
    """The fields of a `Rollout` that are known without the policy's figures; obs is (T + 1, N, ...) on the host."""

    obs: Any
    actions: Any
    rewards: Any
    terminated: Any
    truncated: Any
    valid: Any
    episode_starts: Any
    recurrent_state: Any
    running_returns: Any
    gamma: Any
    lam: Any


def complete(
    model: Model,
    params: Float[Array, " P"],
    normaliser: Normaliser,
    experience: Experience,
    final_values: Float[Array, "T N"],
    bootstrapped: Bool[Array, "T N"],
    axis: DataAxis = ONE_DEVICE,
) -> Rollout:
    """The rollout of what was seen and done, with the policy's figures; pure.

    Values and log-probabilities, which only learning needs, are computed for all steps at once: on CPU that is several
    times cheaper than in each acting step, and learning sees the very numbers that its own batches would give.

    Args:
        model, params, normaliser: the policy, as it acted.
        experience: T steps of N environments.
        final_values: V of the next observation, where `bootstrapped`: where an episode was truncated, and after the
            last step. Elsewhere V of the next step's observation is taken.
        axis: the devices that evaluate the steps together, each a part of them.
    """
    policy, valid = model.policy_of(params), experience.valid
    logp, values = evaluate_steps(policy, normaliser, experience, axis)

    def of_valid(x: Shaped[Array, "T N ..."]) -> Shaped[Array, "T N ..."]:
        """`x` with zeros in steps that are not valid, as even a NaN of weight 0 would spoil the gradient."""
        return jnp.where(valid.reshape(*valid.shape, *[1] * (x.ndim - 2)), x, 0)

    known = experience._replace(obs=jax.tree.map(of_valid, experience.obs), rewards=of_valid(experience.rewards))
    return Rollout(
        **known._asdict(),
        logp=of_valid(logp),
        values=of_valid(values),
        next_values=jnp.where(bootstrapped, final_values, jnp.roll(values, -1, axis=0)),
    )


def evaluate_steps(
    policy: Policy, normaliser: Normaliser, experience: Experience, axis: DataAxis = ONE_DEVICE
) -> tuple[Float[Array, "T N"], Float[Array, "T N"]]:
    """Log-probabilities and values of T steps; of a recurrent policy, from the sequences that it will learn from."""
    seen, shape = (experience.obs, experience.actions), experience.valid.shape
    if experience.episode_starts is None:
        flat = axis.part(jax.tree.map(merge_leading_axes, seen))
        acted = axis.joined(in_fitting_pieces(lambda *some: policy.evaluate(normaliser, *some), *flat))
        return acted.logp.reshape(shape), acted.values.reshape(shape)
    count = jax.tree.leaves(experience.recurrent_state)[0].shape[0]
    sequences = (
        *jax.tree.map(lambda x: split_sequences(x, count), seen),
        experience.recurrent_state,
        split_sequences(experience.episode_starts, count),
    )
    flat = axis.part(jax.tree.map(merge_leading_axes, sequences))
    length = shape[0] // count
    acted = axis.joined(in_fitting_pieces(lambda *some: policy.evaluate(normaliser, *some), *flat, length=length))
    logp, values = (join_sequences(x.reshape(count, shape[1], -1)) for x in (acted.logp, acted.values))
    return logp, values
