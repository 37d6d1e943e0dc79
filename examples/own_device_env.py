"""A custom environment in JAX: a point on a plane must move to the origin and stay there, against the wind.

Usage: python examples/own_device_env.py --total-timesteps 500000
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import tyro

import ppo2


@dataclass(frozen=True)
class Homing:
    """One environment as pure functions, without a base class. The reward is 1 at the origin, e^-1 at distance `reach`.

    The dataclass is frozen, so instances with the same `reach` are equal, and a second training compiles nothing.
    """

    reach: float = 0.2

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (2,))

    def reset(self, key: Any) -> tuple[Any, Any]:
        position = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return position, position

    def step(self, position: Any, action: Any, key: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
        wind = 0.01 * jax.random.normal(key, (2,))
        position = position + 0.1 * action + wind
        distance = jnp.linalg.norm(position)
        return position, position, jnp.exp(-distance / self.reach), distance > 3.0, False, {}


def main(total_timesteps: int = 200_000, seed: int = 0) -> None:
    env = ppo2.envs.TimeLimit(Homing(), 100)
    model = ppo2.learn(env=env, num_envs=64, nsteps=32, total_timesteps=total_timesteps, lr=2e-3, seed=seed)
    print(f"mean return {ppo2.evaluate(model, env, episodes=20, seed=seed).mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
