"""Many device environments at once: what they carry from step to step, and T steps of them in one loop."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Shaped

from ppo2 import spaces
from ppo2.distributions import ActionDistribution
from ppo2.envs.device.env import DeviceEnv, State, reset_one, step_one
from ppo2.envs.device.info import counted_episode
from ppo2.numerics.compilation import platform
from ppo2.numerics.loops import scan_by_turns
from ppo2.numerics.randomness import abstract_key, folded


class EnvCarry(NamedTuple):
    """N environments between two steps: the carry of the loop over steps.

    Attributes:
        obs: observations to act on next; final ones where an episode ended.
        ended: True if the next step begins a new episode, with a reset.
        recurrent_state: state of a recurrent policy; else None.
        returns, lengths: sums of rewards, undiscounted, and steps of the running episodes so far.
    """

    state: State
    obs: PyTree[Shaped[Array, "N ..."]]
    ended: Bool[Array, " N"]
    recurrent_state: PyTree[Float[Array, "N ..."]]
    returns: Float[Array, " N"]
    lengths: Int[Array, " N"]


class DeviceTransition(NamedTuple):
    """One step of N environments, with the fields of a `Rollout`; `next_obs` is before any reset.

    Attributes:
        episode_starts: True if an episode began here.
        recurrent_state: the policy's after it acted; None for feed-forward policies.
        returns, lengths: sums of rewards and steps of the episodes that ended here, or what the environment counts
            itself (`counted_episode`); else 0.
        infos: the numbers of `info` that were asked for.
        cut: True where an episode ended here by `max_steps` of `unroll` alone; None without that.
    """

    obs: Shaped[Array, "N ..."]
    actions: PyTree[Shaped[Array, "N ..."]]
    rewards: Float[Array, " N"]
    terminated: Bool[Array, " N"]
    truncated: Bool[Array, " N"]
    next_obs: Shaped[Array, "N ..."]
    episode_starts: Bool[Array, " N"]
    recurrent_state: PyTree[Float[Array, "N ..."]]
    returns: Float[Array, " N"]
    lengths: Int[Array, " N"]
    infos: Float[Array, "N k"]
    cut: Bool[Array, " N"] | None


def initial_carry(env: DeviceEnv, nenvs: int, recurrent_state: Any = None) -> EnvCarry:
    """Carry of N environments whose first step begins their first episodes; NumPy arrays, made without compiling.

    Args:
        recurrent_state: initial state of a recurrent policy, (N, ...).
    """

    def blank(one: jax.ShapeDtypeStruct) -> Any:
        is_key = jnp.issubdtype(one.dtype, jax.dtypes.prng_key)
        return (jnp if is_key else np).zeros((nenvs, *one.shape), one.dtype)

    state, obs = jax.tree.map(blank, jax.eval_shape(lambda key: reset_one(env, key), abstract_key()))
    ended, returns, lengths = np.ones(nenvs, bool), np.zeros(nenvs, np.float32), np.zeros(nenvs, np.int32)
    fields: Any = (state, obs, ended, recurrent_state, returns, lengths)
    return EnvCarry(*fields)


Act: TypeAlias = Callable[[Array, Array, Any, Array], tuple[Array, Any]]
"""A policy: (obs, noise, recurrent state, episode starts) -> (actions, recurrent state)."""


def unroll(
    env: DeviceEnv,
    act: Act,
    carry: EnvCarry,
    noise: Shaped[Array, "T ..."],
    keys: PRNGKeyArray,
    distribution: ActionDistribution,
    info_keys: Sequence[str] = (),
    max_steps: Int[Array, ""] | None = None,
) -> tuple[EnvCarry, DeviceTransition]:
    """Steps N environments T times, with a reset before the step after an episode's end.

    Args:
        act: gives actions of `distribution`.
        noise: for the actions, one row a step, as `act` takes it.
        keys: (N,), a stream for each environment, of these T steps alone.
        info_keys: entries of `info` that are numbers (see `recorded_keys`).
        max_steps: truncates episodes of so many steps; None truncates none.
    """
    steps = jnp.arange(noise.shape[0], dtype=jnp.int32)
    ahead = resets_ahead(env, keys, steps)

    def step(
        carry: EnvCarry, now: tuple[Int[Array, ""], Shaped[Array, "..."], Any]
    ) -> tuple[EnvCarry, DeviceTransition]:
        t, noise, new = now
        state, obs = _reset_ended(env, carry.ended, keys, t, new, (carry.state, carry.obs))
        actions, recurrent_state = act(obs, noise, carry.recurrent_state, carry.ended)
        step_keys = jax.vmap(folded, (0, None))(keys, 2 * t)
        outcome = jax.vmap(lambda *one: step_one(env, *one))(state, distribution.to_environment(actions), step_keys)
        # A number that isn't finite would stay so for ever: its episode is truncated here. The value of the last
        # observation isn't finite either, by which learning sees the fault.
        broken = ~(jnp.isfinite(outcome.reward) & (spaces.all_finite(outcome.obs, 1) | outcome.terminated))
        truncated = outcome.truncated | (broken & ~outcome.terminated)
        returns, lengths = carry.returns + outcome.reward, carry.lengths + 1
        cut = None
        if max_steps is not None:
            cut = (lengths >= max_steps) & ~(outcome.terminated | truncated)
            truncated |= cut
        ended = outcome.terminated | truncated
        counted = ended & ~broken
        left = EnvCarry(
            state=outcome.state,
            obs=outcome.obs,
            ended=ended,
            recurrent_state=recurrent_state,
            returns=jnp.where(ended, 0.0, returns),
            lengths=jnp.where(ended, 0, lengths),
        )
        own = counted_episode(outcome.info, ended)
        if own is not None:
            partial = jnp.zeros(ended.shape, bool) if cut is None else cut & ~own[0]
            counted = (own[0] & ~broken) | partial
            returns, lengths = (jnp.where(partial, *pair) for pair in ((returns, own[1]), (lengths, own[2])))
        return left, DeviceTransition(
            obs=obs,
            actions=actions,
            rewards=outcome.reward,
            terminated=outcome.terminated,
            truncated=truncated,
            next_obs=outcome.obs,
            episode_starts=carry.ended,
            recurrent_state=recurrent_state,
            returns=jnp.where(counted, returns, 0.0),
            lengths=jnp.where(counted, lengths, 0),
            infos=jnp.stack([outcome.info[key].astype(jnp.float32) for key in info_keys], -1)
            if info_keys
            else jnp.zeros((*ended.shape, 0), jnp.float32),
            cut=cut,
        )

    turns = (steps, noise, ahead)
    # Evaluations play few steps of a program: they gain by compiling sooner.
    if platform() == "cpu" or max_steps is not None:
        return jax.lax.scan(step, carry, turns)
    return _in_few_launches(step, carry, turns)


def _in_few_launches(
    step: Callable[[EnvCarry, Any], tuple[EnvCarry, DeviceTransition]], carry: EnvCarry, turns: Any
) -> tuple[EnvCarry, DeviceTransition]:
    """The loop of `unroll` on an accelerator."""
    ahead = turns[2]
    if ahead is None:
        return scan_by_turns(step, carry, turns)

    def lean(carry: EnvCarry, now: Any) -> tuple[EnvCarry, DeviceTransition]:
        left, made = step(carry, now)
        unstored: Any = {"obs": None, "episode_starts": None}
        return left, made._replace(**unstored)

    return with_observations(carry, ahead[1], scan_by_turns(lean, carry, turns))


def with_observations(
    before: EnvCarry, first: PyTree[Shaped[Array, "T N ..."]], found: tuple[EnvCarry, DeviceTransition]
) -> tuple[EnvCarry, DeviceTransition]:
    """The result of `unroll` from a loop that didn't store what the policy saw: made in one launch, not in one a step.

    Args:
        before: the carry before the steps.
        first: first observations of episodes that begin at each step.
    """
    left, made = found

    def earlier(at_start: Array, after: Array) -> Array:
        return jnp.concatenate([at_start[None], after[:-1]])

    starts = earlier(before.ended, made.terminated | made.truncated)
    seen = jax.tree.map(earlier, before.obs, made.next_obs)
    obs = jax.tree.map(functools.partial(_chosen, starts), first, seen)
    return left, made._replace(obs=obs, episode_starts=starts)


MOST_AHEAD = 2**28
"""Bytes of first states up to which an accelerator makes those of all steps at once, before the steps."""


def _first_states(env: DeviceEnv, keys: PRNGKeyArray, t: Int[Array, ""]) -> tuple[State, Any]:
    """States and observations of N environments whose episodes begin at step t, as if all did."""
    reset_keys = jax.vmap(folded, (0, None))(keys, 2 * t + 1)
    return jax.vmap(lambda key: reset_one(env, key))(reset_keys)


def resets_ahead(env: DeviceEnv, keys: PRNGKeyArray, steps: Int[Array, " T"]) -> tuple[State, Any] | None:
    """The first states of all steps, (T, N, ...); None where each step makes its own.

    On an accelerator, which takes as long for one environment as for thousands, every step makes first states for all;
    with those of all steps made at once, it has some launches less.
    """
    if platform() == "cpu":
        return None
    made = jax.vmap(functools.partial(_first_states, env, keys))
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(made, steps)))
    ahead: tuple[State, Any] | None = made(steps) if size <= MOST_AHEAD else None
    return ahead


def _chosen(begins: Bool[Array, "..."], new: Shaped[Array, "..."], old: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """`new` of environments whose episode begins, `old` of others."""
    return jnp.where(begins.reshape(begins.shape + (1,) * (old.ndim - begins.ndim)), new, old)


def _reset_ended(
    env: DeviceEnv, ended: Bool[Array, " N"], keys: PRNGKeyArray, t: Int[Array, ""], new: Any, before: tuple[State, Any]
) -> Any:
    """(state, obs), new ones of environments whose episode ended; `new`: see `resets_ahead`."""
    chosen = functools.partial(_chosen, ended)
    if new is not None:
        return jax.tree.map(chosen, new, before)

    def reset(*before: Any) -> Any:
        return jax.tree.map(chosen, _first_states(env, keys, t), before)

    def reset_if_any(*before: Any) -> Any:
        return jax.lax.cond(jnp.any(ended), reset, lambda *as_is: as_is, *before)

    # On an accelerator a branch waits for the host; superfluous resets cost less.
    return jax.lax.platform_dependent(*before, cpu=reset_if_any, default=reset)
