"""An observation of several parts: a camera's picture and numbers, each with an encoder of its own.

Usage: python examples/dict_observation.py --total-timesteps 20000
"""

from typing import Any

import gymnasium as gym
import numpy as np
import tyro

import ppo2

SIZE = 28


class Aim(gym.Env[Any, Any]):
    """The camera sees a lamp; the motor knows where it stands. It should stand under the lamp."""

    observation_space = gym.spaces.Dict(
        camera=gym.spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8),
        motor=gym.spaces.Box(-1.0, 1.0, (1,), np.float32),
    )
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.lamp, self.motor = self.np_random.uniform(-1.0, 1.0, 2)
        return self.observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.motor = float(np.clip(self.motor + 0.5 * action[0], -1.0, 1.0))
        return self.observation(), 1.0 - abs(self.motor - self.lamp), False, False, {}

    def observation(self) -> Any:
        picture = np.zeros((SIZE, SIZE, 1), np.uint8)
        column = round((self.lamp + 1.0) / 2.0 * (SIZE - 4))
        picture[:4, column : column + 4] = 255
        return {"camera": picture, "motor": np.array([self.motor], np.float32)}


def make_env() -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(Aim(), max_episode_steps=10)


def main(total_timesteps: int = 10_000, seed: int = 0) -> None:
    encoders = {"camera": "cnn_small", "motor": "mlp"}  # their outputs, side by side, go into `network`
    settings: dict[str, Any] = {"num_envs": 16, "nsteps": 20, "lr": 2e-3, "gamma": 0.9, "seed": seed}
    model = ppo2.learn(env=make_env, encoders=encoders, total_timesteps=total_timesteps, **settings)
    mean = ppo2.evaluate(model, make_env, episodes=100, seed=seed).mean
    print(f"of the best return, in per cent: {10 * mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
