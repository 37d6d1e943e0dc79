"""Trains the policies of `src/ppo2/zoo` anew, each by its command in zoo.json: minutes to half an hour each.

    python tools/zoo.py                      # all
    python tools/zoo.py LunarLander-v3       # one
    python tools/zoo.py LunarLander-v3 RUN   # one, from the directory of a run that its command has made

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
    "MiniGrid-DoorKey-6x6-v0": ("minigrid", "ppo2 train MiniGrid-DoorKey-6x6-v0 --seed 1 --lr linear:1e-3"),
    "gymnax:SpaceInvaders-MinAtar": (
        "jax-envs",
        "ppo2 train gymnax:SpaceInvaders-MinAtar --seed 1 --num-envs 64 --activation relu --lr linear:5e-3 "
        "--total-timesteps 1e7",
    ),
}
"""By the environment's id: the extra that it needs, and the command."""


def main() -> None:
    name, *run = sys.argv[1:3] if len(sys.argv) > 2 and sys.argv[2] not in POLICIES else [""]
    if run:
        keep(name, Path(run[0]))
        return
    for name in sys.argv[1:] or list(POLICIES):
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "-m", *shlex.split(POLICIES[name][1]), "--run-dir", f"{folder}/run"]
            subprocess.run(words, check=True)
            keep(name, Path(folder) / "run")


def keep(name: str, run: Path) -> None:
    """Puts the policy of a run into the zoo, with its score."""
    model = ppo2.load(run)
    returns = ppo2.evaluate(model, name, episodes=EPISODES, seed=SEED).returns
    addresses.ZOO_FOLDER.mkdir(exist_ok=True)
    model.save(addresses.ZOO_FOLDER / f"{addresses.file_name(name)}{addresses.SUFFIX}")
    extra, command = POLICIES[name]
    score = str(Score.of([float(of) for of in returns]))
    found = json.loads(ABOUT.read_text()) if ABOUT.exists() else {}
    found[name] = {"score": score, "episodes": EPISODES, "extra": extra, "command": command}
    kept = {one: about for one, about in sorted(found.items()) if one in POLICIES}
    ABOUT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    print(f"{name}: {score}")


if __name__ == "__main__":
    main()
