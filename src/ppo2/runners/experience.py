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
from ppo2.numerics.pieces import in_pieces, merge_leading_axes


class Experience(NamedTuple):
    """The fields of a `Rollout` that stepping gives; obs is (T + 1, N, ...) on the host."""

    obs: Any
    actions: Any
    rewards: Any
    terminated: Any
    truncated: Any
    valid: Any
    episode_starts: Any = None
    recurrent_state: Any = None


class Discounting(NamedTuple):
    """The fields of a rollout that say how its rewards are discounted."""

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
    discounting: Discounting,
) -> Rollout:
    """The rollout of what was seen and done, with the policy's figures; pure.

    Values and log-probabilities, which only learning needs, are made for all steps at once: on CPU that is several
    times cheaper than in each acting step, and learning sees the very numbers that its own batches would give.

    Args:
        model, params, normaliser: the policy, as it acted.
        experience: T steps of N environments.
        final_values: V of what came next, where `bootstrapped`: where an episode was cut short, and after the last
            step. Elsewhere it is V of the next step's observation.
        discounting: goes into the rollout.
    """
    policy, obs, valid = model.policy_of(params), experience.obs, experience.valid
    logp, values = _judged(policy, normaliser, experience)
    following = jnp.roll(values, -1, axis=0)

    def of_experience(x: Shaped[Array, "T N ..."]) -> Shaped[Array, "T N ..."]:
        """`x` without what stands in other steps, as even a NaN of weight 0 would spoil the gradient."""
        return jnp.where(valid.reshape(*valid.shape, *[1] * (x.ndim - 2)), x, 0)

    return Rollout(
        obs=jax.tree.map(of_experience, obs),
        actions=experience.actions,
        logp=of_experience(logp),
        values=of_experience(values),
        rewards=of_experience(experience.rewards),
        next_values=jnp.where(bootstrapped, final_values, following),
        terminated=experience.terminated,
        truncated=experience.truncated,
        valid=valid,
        episode_starts=experience.episode_starts,
        recurrent_state=experience.recurrent_state,
        **discounting._asdict(),
    )


def _judged(
    policy: Policy, normaliser: Normaliser, experience: Experience
) -> tuple[Float[Array, "T N"], Float[Array, "T N"]]:
    """Log-probabilities and values of T steps; of a recurrent policy, from the sequences that it will learn from."""
    seen, shape = (experience.obs, experience.actions), experience.valid.shape
    if experience.episode_starts is None:
        flat = jax.tree.map(merge_leading_axes, seen)
        acted = in_pieces(lambda *some: policy.evaluate(normaliser, *some), *flat)
        return acted.logp.reshape(shape), acted.values.reshape(shape)
    into = jax.tree.leaves(experience.recurrent_state)[0].shape[0]
    cuts = (
        *jax.tree.map(lambda x: split_sequences(x, into), seen),
        experience.recurrent_state,
        split_sequences(experience.episode_starts, into),
    )
    acted = policy.evaluate(normaliser, *jax.tree.map(merge_leading_axes, cuts))
    logp, values = (join_sequences(x.reshape(into, shape[1], -1)) for x in (acted.logp, acted.values))
    return logp, values
