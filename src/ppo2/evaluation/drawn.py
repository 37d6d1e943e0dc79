"""Device environments that draw themselves, as environments of Gymnasium: for films."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ppo2.envs.device.env import DeviceEnv, EnvStep, TimeLimit, reset_one, step_one
from ppo2.numerics.compilation import compiled
from ppo2.numerics.randomness import Purpose, folded, root_key

Draw = Callable[[Any], Any]
"""Draws a state: an array (height, width, 3) of bytes."""
NEXT_EPISODE = 2**32 - 1
"""A number that no step of an episode has, from which the next episode's key comes."""


def drawer(env: Any) -> Draw | None:
    """The method `render(state)` of a device environment; None if it has none."""
    if isinstance(env, TimeLimit):
        inner = drawer(env.env)
        return None if inner is None else lambda state: inner(state[0])
    found: Draw | None = getattr(env, "render", None)
    return found if callable(found) else None


class DrawnPrograms:
    """The compiled programs of a device environment, and what draws its states."""

    def __init__(self, env: DeviceEnv) -> None:
        draw = drawer(env)
        assert draw is not None
        self.env, self.draw = env, draw

        def reset(key: PRNGKeyArray) -> tuple[Any, Any]:
            return reset_one(env, key)

        def step(state: Any, action: Any, key: PRNGKeyArray, count: Any) -> EnvStep:
            return step_one(env, state, action, folded(key, count))

        self.reset, self.step, self.next_key = compiled(reset), compiled(step), compiled(_next_key)


def _next_key(key: PRNGKeyArray) -> PRNGKeyArray:
    return folded(key, jnp.uint32(NEXT_EPISODE))


class DrawnEnv(gym.Env[Any, Any]):
    """One device environment, stepped from the host."""

    def __init__(self, programs: DrawnPrograms) -> None:
        env = programs.env
        self._programs, self._state, self._key, self._steps = programs, None, root_key(0, Purpose.ENV), 0
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.metadata = {**getattr(env, "metadata", {}), "render_modes": ["rgb_array"]}
        self.render_mode = "rgb_array"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._key = self._programs.next_key(self._key) if seed is None else root_key(seed, Purpose.ENV)
        self._state, obs = self._programs.reset(self._key)
        self._steps = 0
        return jax.device_get(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        step = self._programs.step(self._state, action, self._key, np.uint32(self._steps))
        self._state, self._steps = step.state, self._steps + 1
        obs, reward, terminated, truncated = jax.device_get((step.obs, step.reward, step.terminated, step.truncated))
        return obs, float(reward), bool(terminated), bool(truncated), {}

    def render(self) -> Any:
        return self._programs.draw(self._state)
