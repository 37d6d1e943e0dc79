"""Records of experience: the rollout that runners fill, the batch that the loss takes."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, PyTree, Shaped

from ppo2.numerics.sharding import BY_ENV, BY_STEP, REPLICATED


class Rollout(NamedTuple):
    """`nsteps` steps of `nenvs` environments, time first. Every runner fills the same one.

    | field | shape | meaning |
    |---|---|---|
    | obs | (T, N, ...) | what the policy saw, of the space's dtype (at most 32 bits) |
    | actions | (T, N, ...) | what the distribution gave, before any conversion |
    | logp, values | (T, N) | log-probability of the action, V(obs), both when acting |
    | rewards | (T, N) | as the environment gave them |
    | next_values | (T, N) | V of the true next observation, before any reset; unused where terminated |
    | terminated, truncated | (T, N) | the two ways in which an episode ends |
    | valid | (T, N) | False for a step that was no experience: it weighs nothing anywhere |
    | running_returns | (N,) | discounted sum of the running episodes' rewards before the first step |
    | gamma, lam | () | how these rewards are discounted, and the lambda of their advantages |
    | episode_starts | (T, N) | recurrent policies: whether the state starts anew, before that step; else None |
    | recurrent_state | (S, N, ...) | recurrent policies: their state before the first of every T / S steps; else None |
    """

    obs: PyTree[Shaped[Array, "T N ..."]]
    actions: PyTree[Shaped[Array, "T N ..."]]
    logp: Float[Array, "T N"]
    values: Float[Array, "T N"]
    rewards: Float[Array, "T N"]
    next_values: Float[Array, "T N"]
    terminated: Bool[Array, "T N"]
    truncated: Bool[Array, "T N"]
    valid: Bool[Array, "T N"]
    running_returns: Float[Array, " N"]
    gamma: Float[Array, ""]
    lam: Float[Array, ""]
    episode_starts: Bool[Array, "T N"] | None = None
    recurrent_state: PyTree[Float[Array, "S N ..."]] = None


class Batch(NamedTuple):
    """Experience to learn from: (T, N, ...) whole, (B, ...) as a minibatch. `weights` is 1.0 where valid, else 0.0.

    For recurrent policies a minibatch holds whole sequences: (B, L, ...), and (B, ...) the states that they begin with.
    """

    obs: PyTree[Shaped[Array, "B ..."]]
    actions: PyTree[Shaped[Array, "B ..."]]
    logp: Float[Array, " B"]
    values: Float[Array, " B"]
    advantages: Float[Array, " B"]
    returns: Float[Array, " B"]
    weights: Float[Array, " B"]
    episode_starts: Bool[Array, " B"] | None = None
    recurrent_state: PyTree[Float[Array, "B ..."]] = None


class EvaluatedActions(NamedTuple):
    """The policy's figures of actions taken before; (B, L) for sequences."""

    logp: Float[Array, " B"]
    entropy: Float[Array, " B"]
    values: Float[Array, " B"]


ROLLOUT_SPECS = Rollout(
    **dict.fromkeys(Rollout._fields, BY_STEP)  # type: ignore[arg-type]
    | {"running_returns": BY_ENV, "gamma": REPLICATED, "lam": REPLICATED}
)
"""Partition of a rollout's fields over devices."""
