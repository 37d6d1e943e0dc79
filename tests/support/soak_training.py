"""What `soak.py` starts: a run, begun or resumed, on environments that fail now and then."""

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import ppo2


class Unreliable(gym.Env[np.ndarray, int]):
    """Episodes of 50 steps. About every 20,000th step raises, leaves its process or hangs."""

    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.low, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        fate = random.random()  # not the seed's: what fails is no part of the experience
        if fate < 3e-5:
            raise RuntimeError("soak: an environment raises")
        if fate < 4e-5 and "ppo2.envs.host.worker" in sys.orig_argv:
            os._exit(7)
        if fate < 5e-5:
            time.sleep(3600)
        obs = self.np_random.uniform(-1, 1, 4).astype(np.float32)
        return obs, float(action == 1), False, self.steps == 50, {}


def main(run_dir: str, save_interval: int) -> None:
    ppo2.configure_runtime()
    gym.register("Unreliable-v0", Unreliable)
    env = ppo2.make("Unreliable-v0", 4, workers=1, env_timeout=1.0)
    again = {"load_path": run_dir} if (Path(run_dir) / "config.json").exists() else {}
    ppo2.learn(
        env=env,
        nsteps=64,
        total_timesteps=1e9,
        seed=0,
        log_interval=1,
        save_interval=save_interval,
        keep=3,
        run_dir=run_dir,
        **again,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
