"""A policy with memory: a sign is shown once, and asked for some steps later.

Usage: python examples/memory.py --total-timesteps 50000

Without memory nothing is better than guessing, which is right half of the time.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import tyro

import ppo2


class Recall(gym.Env[Any, Any]):
    """The observation is the sign, -1 or 1, at first, then 0. The last action of an episode must be the sign's."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)  # the sign; the share of the episode that is over
    action_space = gym.spaces.Discrete(2)
    length = 6

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.sign, self.time = int(self.np_random.integers(2)), 0
        return np.array([2 * self.sign - 1, 0.0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        done = self.time == self.length
        obs = np.array([0.0, self.time / self.length], np.float32)
        return obs, float(done and action == self.sign), done, False, {}


def main(total_timesteps: int = 20_000, seed: int = 0) -> None:
    # a minibatch holds whole sequences of `nsteps` steps, through which gradients go back
    common: dict[str, Any] = {"num_envs": 16, "nsteps": 24, "lr": 3e-3, "total_timesteps": total_timesteps}
    forgetful = ppo2.learn(env=Recall, network="mlp", seed=seed, **common)
    model = ppo2.learn(env=Recall, network="gru", ngru=32, seed=seed, **common)

    env = ppo2.make(Recall, num_envs=4, seed=seed)
    obs, _ = env.reset(seed=seed)
    states, starts = model.initial_state(4), np.ones(4, bool)
    for _ in range(10):  # whoever acts with such a policy passes its state on, and says where episodes begin
        actions, states = model.predict(obs, states, starts)
        obs, _, terminated, truncated, _ = env.step(actions)
        starts = terminated | truncated
    env.close()
    right = [100 * ppo2.evaluate(one, Recall, episodes=100, seed=seed).mean for one in (forgetful, model)]
    print(f"right answers, in per cent: without memory {right[0]:.0f}, with it {right[1]:.0f}")


if __name__ == "__main__":
    tyro.cli(main)
