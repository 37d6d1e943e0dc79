"""Cost of a memory on a simulated robot: `python bench/robots.py`.

Training on Brax's inverted pendulum without its speeds, with an MLP and with recurrent networks in turns: timesteps per
second, and the ratio to the MLP of the same round. Compilation is left out: each is trained once before.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

import ppo2

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
    """Time of a training."""
    env = First(ppo2.make("brax:inverted_pendulum"), count=2)
    began = time.perf_counter()
    shape: dict[str, Any] = {"num_envs": num_envs, "nsteps": 32, "total_timesteps": updates * num_envs * 32}
    ppo2.learn(env=env, seed=0, verbose=0, **shape, **network)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--num-envs", type=int, default=256)
    given = parser.parse_args()
    for network in NETWORKS.values():
        seconds(network, 1, given.num_envs)
    taken: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for _ in range(given.rounds):
        for name, network in NETWORKS.items():
            # of two lengths, so that what a call costs by itself falls out
            times = [seconds(network, updates, given.num_envs) for updates in (1, 1 + given.updates)]
            taken[name].append(times[1] - times[0])
    steps, first = given.updates * given.num_envs * 32, next(iter(taken.values()))
    print("| network | timesteps/s | share of the MLP's |")
    print("|---|---|---|")
    for name, times in taken.items():
        ratios = [mine / own for mine, own in zip(first, times, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {steps / statistics.median(times):,.0f} | {spread} |")


if __name__ == "__main__":
    main()
