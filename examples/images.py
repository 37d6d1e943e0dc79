"""Images: a bat at the bottom of a picture catches a ball that falls.

Usage: python examples/images.py --total-timesteps 20000

Bytes declared 0..255 with two or three axes are images: the network scales them. Large ones (36 pixels and more, as
Atari has them) take network="cnn"; "impala_cnn" learns more from them, and is slower.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import tyro

import ppo2

CELLS, PIXELS = 7, 4  # the picture is 28 x 28


class Catch(gym.Env[Any, Any]):
    """The reward, 1 or -1, comes as the ball arrives at the bottom."""

    observation_space = gym.spaces.Box(0, 255, (CELLS * PIXELS, CELLS * PIXELS, 1), np.uint8)
    action_space = gym.spaces.Discrete(3)  # left, stay, right

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.row, self.ball, self.bat = 0, *self.np_random.integers(CELLS, size=2)
        return self.picture(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.row += 1
        self.bat = min(max(self.bat + int(action) - 1, 0), CELLS - 1)
        done = self.row == CELLS - 1
        reward = float(self.ball == self.bat) * 2.0 - 1.0 if done else 0.0
        return self.picture(), reward, done, False, {}

    def picture(self) -> Any:
        cells = np.zeros((CELLS, CELLS, 1), np.uint8)
        cells[self.row, self.ball] = 255
        cells[-1, self.bat] = 255
        return cells.repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)


def main(total_timesteps: int = 10_000, seed: int = 0) -> None:
    model = ppo2.learn(
        env=Catch, network="cnn_small", num_envs=16, nsteps=16, total_timesteps=total_timesteps, lr=2e-3, seed=seed
    )
    mean = ppo2.evaluate(model, Catch, episodes=100, seed=seed).mean
    print(f"balls caught, in per cent: {50 * (1 + mean):.0f}")


if __name__ == "__main__":
    tyro.cli(main)
