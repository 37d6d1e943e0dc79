"""A policy in another program, here one with NumPy alone: export it, then act without this library.

Usage: python examples/deploy.py --total-timesteps 50000

`onnx="policy.onnx"` (the extra `onnx`) and `stablehlo=...` are written in the same way; examples/browser/ and
examples/c/ act in JavaScript and C.
"""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro

import ppo2


def main(total_timesteps: int = 20_000, seed: int = 0, folder: Path = Path("runs/deployed")) -> None:
    settings = {**ppo2.preset("CartPole-v1"), "total_timesteps": total_timesteps, "seed": seed}
    model = ppo2.learn(env="CartPole-v1", **settings)
    ppo2.export(model, numpy=folder / "policy.npz")  # compared with the model before it is written
    print(f"mean return {played(folder, episodes=5):.1f}")


def played(folder: Path, episodes: int) -> float:
    """The mean return of the policy in a folder: all that a program needs are policy.npz, npz_policy.py and NumPy."""
    sys.path.insert(0, str(folder))
    from npz_policy import Policy  # type: ignore[import-not-found]  # it is written beside the policy

    policy, env, returns = Policy(folder / "policy.npz"), gym.make("CartPole-v1"), []
    for seed in range(episodes):
        obs, _ = env.reset(seed=seed)
        done, total = False, 0.0
        while not done:
            action = policy({"obs": obs[np.newaxis]})["action"][0]
            obs, reward, terminated, truncated, _ = env.step(action)
            done, total = terminated or truncated, total + float(reward)
        returns.append(total)
    return float(np.mean(returns))


if __name__ == "__main__":
    tyro.cli(main)
