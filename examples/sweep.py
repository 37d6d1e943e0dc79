"""A sweep: several learning rates with several seeds, all in one program, because the environment is written in JAX.

Usage: python examples/sweep.py --total-timesteps 100000

On a host environment the same call trains as many runs at a time as there are processors.
"""

import tyro

import ppo2
from own_device_env import Homing


def main(total_timesteps: int = 40_000, seeds: int = 3, run_dir: str | None = None) -> None:
    env = ppo2.envs.TimeLimit(Homing(), 100)
    result = ppo2.sweep(
        env=env,
        seed=range(seeds),
        lr=[3e-4, 1e-3, 3e-3],
        num_envs=32,
        nsteps=32,
        total_timesteps=total_timesteps,
        run_dir=run_dir,  # keeps the table, the curves with their confidence bands, and the models
    )
    for row in result.table:
        print(f"lr {row['lr']:g}  seed {row['seed']}  final return {row['final']:.1f}")
    best = result.best()
    model = result.models[best["run"]]
    assert model is not None  # None: that run failed
    print(f"lr {best['lr']:g} is the best: mean return {ppo2.evaluate(model, env, episodes=20, seed=0).mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
