"""From what cost of `step` on Ray's actors pay: `python bench/remote.py` (needs `pip install 'ppo2[ray]'`).

Training on environments whose step takes a given time, held by workers of this machine (`ppo2.make(id, num_envs=N)`)
and by actors: as many as there are processes locally, which shows what they cost, and more, which shows what they
bring. The environment sleeps, and so models one that another host computes: here it takes no processor from anybody,
however many there are. What is measured is therefore the traffic between processes of one machine, not a network.

All are made once and train in turns; a figure is the median over rounds of the timesteps per second of some whole
updates, a ratio that of neighbours, with its range.
"""

import argparse
import contextlib
import ctypes
import importlib
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import jax
import numpy as np

import ppo2
from ppo2.config import Config
from ppo2.envs.host.remote import RemoteEnvs
from ppo2.runners.host import Runner
from ppo2.runners.remote import RemoteRunner
from ppo2.training.construction import build_model

PR_SET_TIMERSLACK = 29  # of Linux' prctl
NUM_ENVS, NSTEPS, SECONDS = 32, 32, 1.5
LOCAL = "local workers"


class Slow(gym.Env[Any, Any]):
    """A step takes `seconds`, in which it sleeps; episodes have 100 steps."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, seconds: float) -> None:
        self.seconds, self.t = seconds, 0
        self.obs = np.zeros(4, np.float32)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)  # else a short sleep takes 50 µs more

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.t = 0
        return self.obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        time.sleep(self.seconds)
        return self.obs, 1.0, False, self.t >= 100, {}


def cost_of(seconds: float) -> float:
    """Seconds that a step really takes."""
    env = Slow(seconds)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        env.step(0)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def training(env: Any, close: contextlib.ExitStack) -> Callable[[], None]:
    """One update, rollout included."""
    config = Config(num_envs=env.num_envs, nsteps=NSTEPS)
    model = build_model(config, env, None)
    how: dict[str, Any] = {"model": model, "nsteps": NSTEPS, "gamma": 0.99, "lam": 0.95}
    runner: Any
    if isinstance(env, RemoteEnvs):
        runner = RemoteRunner(env=env, **how)
        close.callback(runner.close)
    else:
        runner = Runner(env=env, **how)
        close.callback(env.close)

    def update() -> None:
        jax.block_until_ready(model.train(runner.run(), lr=3e-4, cliprange=0.2))

    return update


def rate(update: Callable[[], None], updates: int) -> float:
    """Timesteps per second."""
    began = time.perf_counter()
    for _ in range(updates):
        update()
    return updates * NUM_ENVS * NSTEPS / (time.perf_counter() - began)


def measure(seconds: float, actors: list[int], repeats: int) -> None:
    env_id = f"Slow{round(1e6 * seconds)}-v0"
    made: Any = Slow  # Gymnasium wants a function of any arguments
    gym.register(id=env_id, entry_point=made, kwargs={"seconds": seconds}, disable_env_checker=True)
    with contextlib.ExitStack() as close:
        updates = {LOCAL: training(ppo2.make(env_id, num_envs=NUM_ENVS), close)}
        for count in actors:
            env = ppo2.make(env_id, num_envs=NUM_ENVS, backend="ray", actors=count)
            updates[f"{count} actors"] = training(env, close)
        for update in updates.values():
            rate(update, 2)  # compiles
        counts = {
            name: max(1, round(SECONDS * rate(update, 1) / (NUM_ENVS * NSTEPS))) for name, update in updates.items()
        }
        rates: dict[str, list[float]] = {name: [] for name in updates}
        for _ in range(repeats):
            for name, update in updates.items():
                rates[name].append(rate(update, counts[name]))
    cells = [f"{1e6 * cost_of(seconds):,.0f} µs", f"{statistics.median(rates[LOCAL]):,.0f}"]
    for name in list(rates)[1:]:
        pairs = [mine / local for mine, local in zip(rates[name], rates[LOCAL], strict=True)]
        spread = f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
        cells += [f"{statistics.median(rates[name]):,.0f}", spread]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--costs", type=float, nargs="+", default=[1e-5, 1e-4, 1e-3, 1e-2], help="seconds of a step")
    parser.add_argument("--actors", type=int, nargs="+", default=[2, 8])
    options = parser.parse_args()
    ppo2.configure_runtime()
    ray: Any = importlib.import_module("ray")
    # for all at once, though they take their turns
    ray.init(address="local", num_cpus=sum(options.actors), include_dashboard=False, logging_level=logging.ERROR)
    print(f"{NUM_ENVS} environments x {NSTEPS} steps an update; timesteps per second")
    heads = [head for count in options.actors for head in (f"{count} actors", "ratio")]
    print(f"| a step takes | {LOCAL} | {' | '.join(heads)} |\n|{'---|' * (2 + len(heads))}")
    for seconds in options.costs:
        measure(seconds, options.actors, options.repeats)
    ray.shutdown()


if __name__ == "__main__":
    main()
