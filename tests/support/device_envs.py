"""Small device environments, sound ones and parts of broken ones, and a play of them."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from ppo2.distributions import action_distribution
from ppo2.envs.device.unroll import initial_carry, unroll
from support.environments import Script


@dataclass(frozen=True)
class Count:
    """The obs is (which, t): the episode's own random number, and its steps so far. Reward t; over after `length`."""

    length: int = 3

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Discrete(2)

    def _obs(self, state: Any) -> Any:
        return jnp.stack([state["which"], state["t"].astype(jnp.float32)])

    def reset(self, key: Any) -> Any:
        state = {"which": jax.random.uniform(key), "t": jnp.int32(0)}
        return state, self._obs(state)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state = {**state, "t": state["t"] + 1}
        return state, self._obs(state), state["t"], state["t"] >= self.length, False, {}


class Unending:
    """An episode without end, with the spaces of the host's `Script`."""

    observation_space, action_space = Script.observation_space, Script.action_space

    def reset(self, key: Any) -> Any:
        return jnp.float32(0), jnp.zeros(1)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        return state, state[None], state, False, False, {}


def good(**more: Any) -> SimpleNamespace:
    """Two zeros for ever; parts to be replaced by worse ones."""
    parts = {
        "observation_space": gym.spaces.Box(-1, 1, (2,)),
        "action_space": gym.spaces.Discrete(2),
        "reset": lambda key: (jnp.zeros(2), jnp.zeros(2)),
        "step": lambda state, action, key: (state, jnp.zeros(2), 0.0, False, False, {}),
    }
    return SimpleNamespace(**{**parts, **more})


@dataclass(frozen=True)
class Line:
    """A point on a line: action 1 moves it right, which pays; an episode is 9 steps, or ends beyond 0.5."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        x = jax.random.uniform(key, (), minval=-0.5, maxval=0.0)
        return (x, jnp.int32(0)), jnp.stack([x, 0.0])

    def step(self, state: Any, action: Any, key: Any) -> Any:
        x, t = state
        x, t = x + jnp.where(action == 1, 0.1, -0.1) + 0.01 * jax.random.normal(key), t + 1
        return (x, t), jnp.stack([x, t / 9]), jnp.where(action == 1, 1.0, 0.0), x > 0.5, t >= 9, {}


def key(seed: int = 0) -> Any:
    return jax.random.key(seed, impl="threefry2x32")


def played(what: Any, steps: int = 8, nenvs: int = 3, seed: int = 0, first: Any = None) -> Any:
    """The carry and the transitions of `steps` steps with action 0, from the carry `first` on, in one program."""

    @jax.jit
    def play(first: Any, keys: Any) -> Any:
        def act(*_: Any) -> tuple[Any, None]:
            return jnp.zeros(nenvs, jnp.int32), None

        return unroll(what, act, first, jnp.zeros((steps, nenvs, 1)), keys, action_distribution(what.action_space))

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key(seed), jnp.arange(nenvs))
    return jax.tree.map(np.asarray, play(initial_carry(what, nenvs) if first is None else first, keys))
