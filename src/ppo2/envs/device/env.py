"""Environments written in JAX: their contract, a time limit, and one step of one of them.

A device environment is pure functions of one environment, with nothing to inherit from:

| member | shape | meaning |
|---|---|---|
| `observation_space`, `action_space` | | Gymnasium spaces of one environment |
| `reset(key) -> (state, obs)` | | `state`: any pytree of arrays; `obs` of the space |
| `step(state, action, key)` | | `(state, obs, reward, terminated, truncated, info)`: scalars but for `obs` and `info` |

`info` is a dict of arrays, of the same structure at every step. `step` never resets: its `obs` follows the action, also
at an episode's end. `action` is of the action space: `start` added, within the bounds; a tuple or dict where that is
one. Every reset and every step gets a key of its own.

An environment may have a method `render(state)` too, called outside compiled programs, which gives a picture of one
state for films: an array (height, width, 3) of bytes.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Shaped

from ppo2 import spaces
from ppo2.envs.device.info import Info
from ppo2.system.calls import takes

State = Any  # a pytree of arrays


class DeviceEnv(Protocol):
    """The contract of device environments; see the module."""

    @property
    def observation_space(self) -> spaces.AnySpace: ...

    @property
    def action_space(self) -> spaces.AnySpace: ...

    def reset(self, key: PRNGKeyArray, /) -> tuple[State, Any]:
        """The first state of an episode and its observation."""

    def step(self, state: State, action: Any, key: PRNGKeyArray, /) -> tuple[State, Any, Any, Any, Any, Info]:
        """(state, obs, reward, terminated, truncated, info)."""


def is_device_env(env: object) -> bool:
    """True if `env` has the members of a device environment; classes and Gymnasium's environments are none."""
    if isinstance(env, gym.Env | gym.vector.VectorEnv | type):
        return False
    if not all(isinstance(getattr(env, name, None), gym.Space) for name in ("observation_space", "action_space")):
        return False
    return takes(getattr(env, "reset", None), 1) and takes(getattr(env, "step", None), 3)


class DeviceVector(NamedTuple):
    """A device environment and the number of its copies: the counterpart of a host's vector environment."""

    env: DeviceEnv
    num_envs: int

    @property
    def single_observation_space(self) -> spaces.AnySpace:
        return self.env.observation_space

    @property
    def single_action_space(self) -> spaces.AnySpace:
        return self.env.action_space

    def close(self) -> None:
        """See `gymnasium.vector.VectorEnv`; a device environment holds nothing to close."""


@dataclass(frozen=True)
class TimeLimit:
    """A device environment whose episodes are truncated after `max_episode_steps` steps.

    Raises:
        ValueError: `max_episode_steps` below 1.
        TypeError: `env` is no device environment.
    """

    env: DeviceEnv
    max_episode_steps: int

    def __post_init__(self) -> None:
        if not is_device_env(self.env):
            raise TypeError(f"`env` (={self.env!r}) must be a device environment; gymnasium.wrappers has its own.")
        if self.max_episode_steps < 1:
            raise ValueError(f"`max_episode_steps` (={self.max_episode_steps}) must be at least 1.")

    @property
    def observation_space(self) -> spaces.AnySpace:
        return self.env.observation_space

    @property
    def action_space(self) -> spaces.AnySpace:
        return self.env.action_space

    def reset(self, key: PRNGKeyArray) -> tuple[State, Any]:
        state, obs = self.env.reset(key)
        return (state, jnp.zeros((), jnp.int32)), obs

    def step(self, state: State, action: Any, key: PRNGKeyArray) -> tuple[State, Any, Any, Any, Any, Info]:
        inner, before = state
        inner, obs, reward, terminated, truncated, info = self.env.step(inner, action, key)
        steps = before + 1
        over = (steps >= self.max_episode_steps) & ~jnp.asarray(terminated, bool)
        return (inner, steps), obs, reward, terminated, truncated | over, info


def reset_one(env: DeviceEnv, key: PRNGKeyArray) -> tuple[State, Array]:
    """Resets one environment; the state's types don't depend on how its numbers were written (see `strongly_typed`)."""
    state, obs = env.reset(key)
    return jax.tree.map(strongly_typed, state), spaces.on_device(env.observation_space, obs)


class EnvStep(NamedTuple):
    """One step of one environment."""

    state: State
    obs: PyTree[Array]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    info: Info


def step_one(env: DeviceEnv, state: State, action: PyTree[Shaped[Array, "..."]], key: PRNGKeyArray) -> EnvStep:
    """Steps one environment. An episode that terminated isn't truncated as well."""
    state, obs, reward, terminated, truncated, info = env.step(state, action, key)
    terminated = jnp.asarray(terminated, bool)
    return EnvStep(
        jax.tree.map(strongly_typed, state),
        spaces.on_device(env.observation_space, obs),
        _to_float32(reward),
        terminated,
        jnp.asarray(truncated, bool) & ~terminated,
        info,
    )


def _to_float32(reward: Any) -> Float[Array, ""]:
    """A reward as float32; one beyond these becomes the largest, so that it's told as too large, not as infinite."""
    given: Array = jnp.asarray(reward)
    if given.dtype == jnp.float64:
        most = float(np.finfo(np.float32).max)
        given = jnp.where(jnp.isfinite(given), jnp.clip(given, -most, most), given)
    return given.astype(jnp.float32)


def strongly_typed(leaf: Any) -> Array:
    """`leaf` as an array of a fixed dtype: a Python number is weakly typed, which the state of a loop may not be."""
    array = jnp.asarray(leaf)
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    return array if is_key else jax.lax.convert_element_type(array, array.dtype)
