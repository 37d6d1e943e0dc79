"""Stop a run and resume it: the resumed run has the same bits as one that was never stopped.

Usage: python examples/resume.py --total-timesteps 50000
"""

import shutil
from typing import Any

import numpy as np
import tyro

import ppo2


def main(total_timesteps: int = 20_000, seed: int = 0, run_dir: str = "runs/resumed") -> None:
    shutil.rmtree(run_dir, ignore_errors=True)  # a directory that has a run is never overwritten
    settings: dict[str, Any] = {**ppo2.preset("CartPole-v1"), "total_timesteps": total_timesteps, "seed": seed}
    settings |= {"env": "CartPole-v1", "progress": False}
    whole = ppo2.learn(**settings)

    # Ctrl-C, SIGTERM and a kill are the same to a run; here a function stops it: it may return False after any update
    nupdates = total_timesteps // (settings["num_envs"] * settings["nsteps"])
    ppo2.learn(**settings, run_dir=run_dir, update_fn=lambda update: update < nupdates // 2)

    # the same arguments, and the directory to go on in; on the command line: ppo2 resume runs/resumed
    resumed = ppo2.learn(**settings, run_dir=run_dir, load_path=run_dir)
    assert np.array_equal(resumed.state.params, whole.state.params)
    print(f"mean return {ppo2.evaluate(resumed, 'CartPole-v1', episodes=20, seed=seed).mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
