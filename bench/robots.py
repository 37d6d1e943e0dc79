"""Cost of a memory on a simulated robot: `python bench/robots.py --json robots.json`.

Training on Brax's inverted pendulum without its speeds, with an MLP and with recurrent networks in turns: timesteps per
second, and the ratio to the MLP of the same round. The first updates, and what is compiled for them, are left out.
"""

import argparse
import csv
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console

import ppo2
from report import TABLE_WIDTH
from results import figure, on_screen, save, source
from tables import table

NSTEPS = 32
FIRST = 8
"""Updates that are not measured."""
PACKAGES = ("ppo2", "jax", "brax")
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp, 2 x 64": {"network": "mlp", "num_hidden": 64},
    "lstm, 64": {"network": "lstm", "nlstm": 64},
    "gru, 64": {"network": "gru", "ngru": 64},
}


@dataclass(frozen=True)
class First:
    """An environment of which only the first numbers of an observation are seen."""

    env: Any
    count: int

    @property
    def observation_space(self) -> gym.spaces.Box:
        return gym.spaces.Box(-np.inf, np.inf, (self.count,), np.float32)

    @property
    def action_space(self) -> Any:
        return self.env.action_space

    def reset(self, key: Any) -> tuple[Any, Any]:
        state, obs = self.env.reset(key)
        return state, obs[: self.count]

    def step(self, state: Any, action: Any, key: Any) -> tuple[Any, ...]:
        state, obs, *rest = self.env.step(state, action, key)
        return state, obs[: self.count], *rest


def seconds(network: dict[str, Any], updates: int, num_envs: int) -> float:
    """Time of so many updates of a training, by its own log, after the first ones."""
    env = First(ppo2.make("brax:inverted_pendulum"), count=2)
    shape: dict[str, Any] = {
        "num_envs": num_envs,
        "nsteps": NSTEPS,
        "total_timesteps": (FIRST + updates) * num_envs * NSTEPS,
        "log_interval": FIRST,
    }
    with tempfile.TemporaryDirectory() as folder:
        ppo2.learn(env=env, seed=0, verbose=0, run_dir=f"{folder}/run", **shape, **network)
        with Path(folder, "run", "progress.csv").open(encoding="utf-8") as file:
            elapsed = {int(row["misc/nupdates"]): float(row["misc/time_elapsed"]) for row in csv.DictReader(file)}
    return elapsed[FIRST + updates] - elapsed[FIRST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=16)
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, for bench/document.py")
    given = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for _ in range(given.rounds):
        for name, network in NETWORKS.items():
            taken[name].append(seconds(network, given.updates, given.num_envs))
    steps, first = given.updates * given.num_envs * NSTEPS, next(iter(taken.values()))
    rows = []
    for name, times in taken.items():
        ratios = [mine / own for mine, own in zip(first, times, strict=True)]
        rows.append((name, (figure([steps / of for of in times], "steps/s"), figure(ratios, "x"))))
    found = table(("timesteps per second", "share of the MLP's"), rows, "")
    Console(highlight=False, width=TABLE_WIDTH).print(on_screen("Robots", found))
    if given.json is not None:
        versions = {"": {name: version(name) for name in PACKAGES}}
        save(given.json, {"sources": {"": source(sys.argv, versions)}, "tables": {"memory": found}})


if __name__ == "__main__":
    main()
