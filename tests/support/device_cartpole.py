"""A cart and pole for the device and for the host, and small runs on them."""

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

import ppo2
from ppo2.agent.model import Model
from ppo2.algorithm.rollout import Rollout
from ppo2.envs import TimeLimit
from ppo2.runners.device import DeviceRunner


def cartpole(xp: Any, state: Any, force: Any) -> tuple[Any, Any, Any]:
    """Barto, Sutton and Anderson's cart and pole, in NumPy or in JAX: (state, reward, whether it fell)."""
    x, speed, angle, spin = state
    sin, cos = xp.sin(angle), xp.cos(angle)
    push = (force + 0.05 * spin**2 * sin) / 1.1
    turning = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    pushed = push - 0.05 * turning * cos / 1.1
    after = xp.stack([x + 0.02 * speed, speed + 0.02 * pushed, angle + 0.02 * spin, spin + 0.02 * turning])
    return after, 1.0 - xp.abs(after[2]), (xp.abs(after[0]) > 2.4) | (xp.abs(after[2]) > 0.2095)


@dataclass(frozen=True)
class CartPole:
    """For the device. Its observation is its state."""

    continuous: bool = False

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))

    @property
    def action_space(self) -> Any:
        return gym.spaces.Box(-1.0, 1.0, (1,)) if self.continuous else gym.spaces.Discrete(2)

    def force(self, action: Any) -> Any:
        return 30.0 * action[0] if self.continuous else 20.0 * action - 10.0

    def reset(self, key: Any) -> Any:
        state = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return state, state

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state, reward, fell = cartpole(jnp, state, self.force(action.astype(jnp.float32)))
        return state, state, reward, fell, False, {}


class HostCartPole(gym.Env[Any, Any]):
    """The same for the host, with the first states that it is told."""

    def __init__(self, like: CartPole, limit: int, firsts: Iterator[Any]) -> None:
        self.like, self.limit, self.firsts = like, limit, firsts
        self.observation_space, self.action_space = like.observation_space, like.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.state, self.t = next(self.firsts), 0
        return self.state, {}

    def step(self, action: Any) -> Any:
        self.state, reward, fell = cartpole(np, self.state, np.float32(self.like.force(action)))
        self.t += 1
        return self.state, float(reward), bool(fell), bool(not fell and self.t >= self.limit), {}


LIMIT = 15  # at random it falls after 20 steps, on average: some episodes are cut short, some end


CARTPOLE = TimeLimit(CartPole(), LIMIT)


SMALL: dict[str, Any] = {
    "env": CARTPOLE,
    "total_timesteps": 6 * 128,
    "num_envs": 8,
    "nsteps": 16,
    "nminibatches": 2,
    "noptepochs": 2,
    "num_hidden": 8,
    "seed": 7,
}


def learn(**more: Any) -> Model:
    return ppo2.learn(**{**SMALL, **more})


def fresh(**more: Any) -> Model:
    return learn(**{**more, "total_timesteps": 0})


def runner_for(model: Model, env: Any = CARTPOLE) -> DeviceRunner:
    config = model.config
    return DeviceRunner(env=env, num_envs=config.num_envs, model=model, nsteps=config.nsteps, gamma=0.9, lam=0.8)


def params(model: Model) -> np.ndarray[Any, Any]:
    return np.array(model.state.params)


def on_host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


def leaves(state: Any) -> list[np.ndarray[Any, Any]]:
    """All numbers of a TrainState, the key's included."""
    return jax.tree.leaves(on_host(state._replace(key=jax.random.key_data(state.key))))


def assert_same_bits(one: Model, other: Model) -> None:
    for a, b in zip(leaves(one.state), leaves(other.state), strict=True):
        np.testing.assert_array_equal(a, b)


def rows(run_dir: Path, name: str = "progress.csv") -> list[dict[str, str]]:
    with (run_dir / name).open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def saved(run_dir: Path) -> list[int]:
    return sorted(int(file.stem) for file in (run_dir / "checkpoints").iterdir())


@dataclass(frozen=True)
class Poisoned:
    """Never ends. Some of them, as their observation says, give a reward that is NaN at their `at`-th step."""

    at: int

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        state = {"bad": jax.random.bernoulli(key, 0.3).astype(jnp.float32), "t": jnp.int32(0)}
        return state, state["bad"][None]

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state = {**state, "t": state["t"] + 1}
        reward = jnp.where((state["bad"] > 0) & (state["t"] == self.at), jnp.nan, action)
        return state, state["bad"][None], reward, False, False, {}


@functools.cache
def on_device(continuous: bool, memory: bool = False) -> tuple[Model, list[Rollout], list[Any]]:
    """Three rollouts of the untrained policy, and their episodes."""
    env = TimeLimit(CartPole(continuous), LIMIT)
    # sixteen minibatches of eight environments: the steps of each are cut in two
    recurrent = {"network": ppo2.networks.recurrent("mlp", "gru"), "ngru": 8, "num_layers": 1, "nminibatches": 16}
    made = fresh(**{"env": env, **(recurrent if memory else {})})
    runner = runner_for(made, TimeLimit(CartPole(continuous), LIMIT))
    rollouts = [on_host(runner.run()) for _ in range(3)]
    return made, rollouts, list(runner.ended().rows)


def seen(rollouts: list[Rollout], field: str) -> Any:
    return np.concatenate([getattr(rollout, field) for rollout in rollouts])
