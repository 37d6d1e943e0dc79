"""Trains the policies of `src/ppo2/zoo` anew, each by the command that zoo.json has for it: minutes on two cores.

    python tools/zoo.py                      # all
    python tools/zoo.py LunarLander-v3       # one

A policy is the model at the end of its run, without the state of its environments; its score is the mean return of 100
deterministic episodes with seeds that training never saw.
"""

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import ppo2
from ppo2.checkpoints import addresses
from ppo2.reporting.card import Score
from ppo2.sharing.zoo import ABOUT

EPISODES = 100
SEED = 1000
POLICIES = {
    "CartPole-v1": ("", "ppo2 train CartPole-v1 --seed 1"),
    "Acrobot-v1": ("", "ppo2 train Acrobot-v1 --seed 1"),
    "LunarLander-v3": ("box2d", "ppo2 train LunarLander-v3 --seed 1"),
    "HalfCheetah-v5": ("mujoco", "ppo2 train HalfCheetah-v5 --seed 1"),
    "MiniGrid-DoorKey-5x5-v0": ("minigrid", "ppo2 train MiniGrid-DoorKey-5x5-v0 --seed 1"),
    "gymnax:Breakout-MinAtar": (
        "jax-envs",
        "ppo2 train gymnax:Breakout-MinAtar --seed 1 --num-envs 64 --total-timesteps 5e6",
    ),
}
"""By the environment's id: the extra that it needs, and the command."""


def main() -> None:
    names = sys.argv[1:] or list(POLICIES)
    addresses.ZOO_FOLDER.mkdir(exist_ok=True)
    found = json.loads(ABOUT.read_text()) if ABOUT.exists() else {}
    for name in names:
        extra, command = POLICIES[name]
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            words = [sys.executable, "-m", *shlex.split(command), "--run-dir", str(run)]
            subprocess.run(words, check=True)
            model = ppo2.load(run)
            returns = ppo2.evaluate(model, name, episodes=EPISODES, seed=SEED).returns
            model.save(addresses.ZOO_FOLDER / f"{addresses.file_name(name)}{addresses.SUFFIX}")
        score = str(Score.of([float(of) for of in returns]))
        found[name] = {"score": score, "episodes": EPISODES, "extra": extra, "command": command}
        ABOUT.write_text(json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False) + "\n")
        print(f"{name}: {score}")


if __name__ == "__main__":
    main()
