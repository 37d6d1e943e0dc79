"""A host environment that counts its steps, and may fail at one; and what vector environments return, compared."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from ppo2.envs.host.vector import HostVectorEnv

NDArray = np.ndarray[Any, Any]


class Counting(gym.Env[NDArray, Any]):
    """Its observation is (its process, its number, its step); does something at a step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space: Any = gym.spaces.Discrete(2)

    def __init__(self, number: int, length: int = 5, at: int = -1, what: Callable[[], object] = int) -> None:
        self.number, self.length, self.at, self.what = number, length, at, what
        self.t = 0
        self.kept: Any = None

    def _obs(self) -> NDArray:
        return np.array([os.getpid(), self.number, self.t], np.float64)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        if self.t == self.at:
            self.what()
        info = {"is_success": self.t == self.length, "noise": float(self.np_random.random())}
        return self._obs(), float(self.t), False, self.t == self.length, info


def once(path: Path, what: Callable[[], object]) -> Callable[[], None]:
    """`what`, for the first process that gets there."""

    def act() -> None:
        if not path.exists():
            path.touch()
            what()

    return act


FAILURES: dict[str, tuple[Callable[[], object], str]] = {
    "raises": (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    "exits": (lambda: sys.exit(3), "SystemExit"),
    "is killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by signal 9"),
    "leaves": (lambda: os._exit(7), "exited with status 7"),
    "hangs": (lambda: time.sleep(1000), "hung for more than 1 s"),
}
"""Ways to fail in a step, and words of the report."""


def outcomes(env: HostVectorEnv, steps: int, seed: int = 3) -> list[Any]:
    """Everything that a vector environment returns in so many steps with random actions."""
    env.action_space.seed(7)
    given: list[Any] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        *outcome, infos = env.step(env.action_space.sample())
        given.append((*outcome, _as_tree(infos)))
    return given


def _as_tree(infos: dict[str, Any]) -> dict[str, Any]:
    """Infos without arrays of objects, which are no leaves."""
    return {
        key: _as_tree(value) if isinstance(value, dict) else list(value) if value.dtype == object else value
        for key, value in infos.items()
    }


def same(one: Any, other: Any) -> bool:
    import jax

    return bool(
        jax.tree.all(
            jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f"), one, other)
        )
    )
