"""An environment of your own: a heater that keeps a room warm.

Usage: python examples/own_env.py --total-timesteps 100000

The library checks the environment before it trains; `ppo2.doctor(make_env)` checks more, and proposes settings.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import tyro

import ppo2


class Room(gym.Env[Any, Any]):
    """A room that loses heat. The reward is 1 at 20 degrees, and falls with the distance to it."""

    observation_space = gym.spaces.Box(-50.0, 50.0, (2,), np.float32)  # degrees inside and outside, less 20
    action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)  # power of the heater

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)  # from here on self.np_random follows the seed: use no other random numbers
        self.inside, self.outside = self.np_random.uniform(5.0, 25.0), self.np_random.uniform(-10.0, 15.0)
        return self.observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.outside += self.np_random.normal(0.0, 0.2)
        self.inside += 5.0 * float(action[0]) + 0.1 * (self.outside - self.inside)
        distance = abs(self.inside - 20.0)
        # terminated: the episode is over by itself. Time limits are truncations, which TimeLimit below reports.
        terminated = distance > 40.0
        return self.observation(), float(np.exp(-distance / 2.0)), terminated, False, {}

    def observation(self) -> Any:
        return np.array([self.inside - 20.0, self.outside - 20.0], np.float32)


def make_env() -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(Room(), max_episode_steps=100)


def main(total_timesteps: int = 60_000, seed: int = 0) -> None:
    model = ppo2.learn(
        env=make_env, num_envs=8, nsteps=64, noptepochs=10, total_timesteps=total_timesteps, lr=1e-3, seed=seed
    )
    print(f"of at most 100, mean return {ppo2.evaluate(model, make_env, episodes=20, seed=seed).mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
