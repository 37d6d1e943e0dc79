"""Action masks: some actions are illegal in some states, and the policy never takes them.

Usage: python examples/masks.py --total-timesteps 50000

An observation with exactly the keys "observation" and "action_mask" has a mask; `info["action_mask"]` and a method
`action_masks()` of the environment are understood too.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import tyro

import ppo2

CARDS = 6


class Cards(gym.Env[Any, Any]):
    """Each card may be played once. A card played at turn t counts its value divided by t: play large ones first."""

    observation_space = gym.spaces.Dict(
        observation=gym.spaces.Box(0.0, 1.0, (CARDS,), np.float32),  # values of the cards in the hand
        action_mask=gym.spaces.MultiBinary(CARDS),  # 1: the card is still there
    )
    action_space = gym.spaces.Discrete(CARDS)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.values = self.np_random.random(CARDS, np.float32)
        self.left = np.ones(CARDS, np.int8)
        self.best = float((np.sort(self.values)[::-1] / np.arange(1, CARDS + 1)).sum())
        return self.observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.left[action], "an illegal action"
        turn = CARDS - self.left.sum() + 1
        self.left[action] = 0
        return self.observation(), float(self.values[action] / turn) / self.best, not self.left.any(), False, {}

    def observation(self) -> Any:
        return {"observation": self.values * self.left, "action_mask": self.left.copy()}


def main(total_timesteps: int = 25_000, seed: int = 0) -> None:
    model = ppo2.learn(env=Cards, num_envs=16, nsteps=60, total_timesteps=total_timesteps, lr=2e-3, seed=seed)
    mean = ppo2.evaluate(model, Cards, episodes=200, seed=seed).mean
    print(f"of the best possible, in per cent: {100 * mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
