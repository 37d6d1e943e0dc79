"""Environments with one fault each, for `doctor`."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np

OBS = gym.spaces.Box(-1, 1, (3,), np.float32)


class Healthy(gym.Env[Any, Any]):
    """A bandit with a state: reward for the action that the observation's sign says; 20 steps, then truncated."""

    observation_space, action_space = OBS, gym.spaces.Discrete(2)

    def _obs(self) -> Any:
        self.now = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self.now

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        reward = float((self.now[0] > 0) == action)
        return self._obs(), reward, False, self.t >= 20, {}


class Global(Healthy):
    def _obs(self) -> Any:
        self.now = np.array([random.uniform(-1, 1) for _ in range(3)], np.float32)
        return self.now


class Leaking(Healthy):
    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        obs, reward, *ends = super().step(action)
        return obs, reward + self.steps, *ends


class Hanging(Healthy):
    """Hangs once: where a file isn't there yet."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def trouble(self) -> None:
        time.sleep(1000)

    def step(self, action: Any) -> Any:
        if self.t > 5 and not self.file.exists():
            self.file.touch()
            self.trouble()
        return super().step(action)


class Dying(Hanging):
    def trouble(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Broken(Healthy):
    def step(self, action: Any) -> Any:
        raise NotImplementedError


class NotFinite(Healthy):
    def step(self, action: Any) -> Any:
        obs, *rest = super().step(action)
        obs[1] = np.nan if self.t > 10 else obs[1]
        return obs, *rest


class Wide(Healthy):
    """Observations beyond their bounds, bounds of actions beyond reach, large rewards, a time limit as termination."""

    action_space = gym.spaces.Box(100, 200, (1,), np.float32)

    def step(self, action: Any) -> Any:
        obs, _, _, over, info = super().step(0)
        return 50 * obs, 1000.0 * float(action[0]), over, False, info


class Deaf(Healthy):
    """Actions change nothing, there is no reward, and no end."""

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._obs(), 0.0, False, False, {}


class Pictures(Healthy):
    """Observations are pictures of 64 pixels."""

    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)

    def _obs(self) -> Any:
        self.now = self.np_random.uniform(-1, 1, 3)
        return self.np_random.integers(0, 256, (64, 64, 3), np.uint8)


class Masked(Healthy):
    """Masks in `info`; an illegal action is an error."""

    action_space = gym.spaces.Discrete(4)
    MASK = np.array([1, 0, 1, 0], np.int8)

    def reset(self, **how: Any) -> Any:
        return super().reset(**how)[0], {"action_mask": self.MASK}

    def step(self, action: Any) -> Any:
        assert self.MASK[action]
        return *super().step(action)[:4], {"action_mask": self.MASK}


class OnDevice:
    """A device environment; its episodes end by chance."""

    observation_space, action_space = OBS, gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        obs = jax.random.uniform(key, (3,))
        return obs, obs

    def step(self, state: Any, action: Any, key: Any) -> Any:
        obs = jax.random.uniform(key, (3,))
        return obs, obs, obs[0] * action, obs[1] > 0.9, False, {}


class Impure(OnDevice):
    def step(self, state: Any, action: Any, key: Any) -> Any:
        return super().step(state, action, key) if action > 0 else None
