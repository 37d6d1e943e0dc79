"""Cost and gain of several processes and devices: all-reduce by size, training measured, throughput predicted.

    python bench/scaling.py                                     # two processes on this machine, about 5 minutes
    python bench/scaling.py --quick                             # to see whether it works
    mpirun -n 4 python bench/scaling.py                         # on the processes of a launcher, on any machines
    python bench/scaling.py --alpha 5e-6 --bandwidth 20e9       # predictions for another network

Measured, each as the median (least - greatest) of `--repeats`: a sum of so many float32 over all processes, a hundred
of them in one compiled program; whole updates (rollout and learning) of an MLP on a device CartPole and of Nature's CNN
on pictures, in one process and in all, with as many environments in each.

Predicted for n devices with as many environments each as were measured: an update takes the time of one device, one
all-reduce for each gradient step, of the parameters and the loss as one vector, and a few small ones for statistics
(SMALL_SUMS). An all-reduce of s bytes over n devices takes 2 (n - 1) (alpha + s / (n bandwidth)) along a ring, and
2 log2(n) alpha + 2 s / bandwidth along a tree; the faster counts, as collective libraries choose. alpha and bandwidth
are fitted to the measurements, unless given.
"""

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import ppo2
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.distributed import World
from ppo2.numerics import sharding
from report import TABLE_WIDTH
from results import figure, on_screen, save, source
from tables import table

FLOATS = (1, 1_000, 10_000, 100_000, 1_000_000, 2_000_000)
QUICK_FLOATS = (1, 100_000)
SUMS = 100  # in one program
DEVICES = (1, 2, 8, 32, 128, 512, 1024)
UPDATES = 8  # in one measurement
SMALL_SUMS = (3, 8)  # in each epoch (advantages, weights), in each update (explained variance, statistics, faults)


class Pictures:
    """A device environment as large as Atari's frames, which costs next to nothing: the network's cost remains."""

    observation_space = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = gym.spaces.Discrete(6)

    def reset(self, key: Any) -> tuple[Any, Any]:
        return jnp.int32(0), self._picture(jnp.int32(0))

    def step(self, state: Any, action: Any, key: Any) -> tuple[Any, Any, Any, Any, Any, dict[str, Any]]:
        after = state + 1
        reward = (action == after % 6).astype(jnp.float32)
        return after, self._picture(after), reward, after >= 100, jnp.zeros((), bool), {}

    def _picture(self, step: Any) -> Any:
        return jnp.full((84, 84, 4), step % 256, jnp.uint8)


class Policy(NamedTuple):
    """A training task, with so many environments in each process."""

    name: str
    env: Callable[[], Any]
    settings: dict[str, Any]
    num_envs: tuple[int, ...]


def cartpole() -> Any:
    return ppo2.make("gymnax:CartPole-v1")


MLP = Policy("MLP", cartpole, {"nsteps": 128, "nminibatches": 4, "noptepochs": 4}, (8, 64, 512))
CNN = Policy("Nature's CNN", Pictures, {"network": "cnn", "nsteps": 32, "nminibatches": 4, "noptepochs": 4}, (8,))


def main() -> None:
    options = parse()
    ppo2.configure_runtime()
    jax.config.update("jax_num_cpu_devices", 1)
    world = ppo2.distributed.init()
    if world.size == 1 and not options.alone:
        start(options)
        return
    measured = {
        "all_reduce": {str(count): all_reduce(count, options.repeats) for count in options.floats},
        "updates": {
            policy.name: {
                str(nenvs): updates(policy, nenvs, world, options) for nenvs in policy.num_envs[: options.most]
            }
            for policy in (MLP, CNN)
        },
        "parameters": {policy.name: parameters(policy) for policy in (MLP, CNN)},
    }
    if world.is_first:
        print(json.dumps(measured | {"processes": world.size}))
    if world.size > 1 and world.is_first and not options.child:
        alone = run(options, "--alone", PPO2_ALONE="1")
        report(measured | {"processes": world.size}, alone, options)


def start(options: argparse.Namespace) -> None:
    """Processes on this machine, and one by itself."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    job = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(options.processes)}
    others = [
        subprocess.Popen(command(options, "--child"), env={**os.environ, **job, "JAX_PROCESS_ID": str(rank)})
        for rank in range(1, options.processes)
    ]
    together = run(options, "--child", **job, JAX_PROCESS_ID="0")
    for other in others:
        other.wait()
    report(together, run(options, "--alone"), options)


def command(options: argparse.Namespace, *more: str) -> list[str]:
    quick = ["--quick"] if options.quick else []
    return [sys.executable, __file__, "--repeats", str(options.repeats), *quick, *more]


def run(options: argparse.Namespace, *more: str, **environment: str) -> dict[str, Any]:
    given = {**os.environ, **environment}
    done = subprocess.run(command(options, *more), env=given, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def all_reduce(count: int, repeats: int) -> list[float]:
    """Seconds of a sum of so many numbers over all processes."""
    split = sharding.across_processes()
    if split.devices == 1:
        return [0.0] * repeats

    def summed(x: Any) -> Any:
        # each waits for the one before, as gradient steps do
        return jax.lax.fori_loop(0, SUMS, lambda _, y: jax.lax.psum(y, sharding.AXIS) * 0.5, x)

    program = jax.jit(sharding.over_blocks(summed, split, sharding.BY_ENV, sharding.BY_ENV))
    numbers = sharding.to_global(np.ones((1, count), np.float32), split, sharding.BY_ENV)
    jax.block_until_ready(program(numbers))
    return [timed(lambda: program(numbers)) / SUMS for _ in range(repeats)]


def updates(policy: Policy, nenvs: int, world: World, options: argparse.Namespace) -> list[float]:
    """Seconds of an update with so many environments in each process."""
    runner = runner_of(policy, nenvs * world.size, world.size)
    config = runner.model.config
    hyper: Hyperparameters = runner.model.hyperparameters(lr=3e-4, cliprange=0.2)
    runner.iterate([hyper])
    count = min(UPDATES, config.log_interval)
    return [timed(lambda: runner.iterate([hyper] * count).done) / count for _ in range(options.repeats)]


def runner_of(policy: Policy, num_envs: int, shards: int) -> ppo2.DeviceRunner:
    env = policy.env()
    sizes = {"num_envs": num_envs, "shards": shards, "total_timesteps": 0, "log_interval": UPDATES}
    settings: dict[str, Any] = {**policy.settings, **sizes}
    model = ppo2.learn(env=env, seed=0, **settings)
    return ppo2.DeviceRunner(
        env=env, num_envs=num_envs, model=model, nsteps=policy.settings["nsteps"], gamma=0.99, lam=0.95
    )


def parameters(policy: Policy) -> int:
    world = ppo2.distributed.world()
    return int(runner_of(policy, 2 * world.size, world.size).model.state.params.size)


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - began


class Network(NamedTuple):
    """Seconds before anything arrives, and bytes a second then."""

    alpha: float
    bandwidth: float

    @property
    def cells(self) -> list[Any]:
        return [figure([1e6 * self.alpha], ""), figure([self.bandwidth / 1e9], "")]

    @classmethod
    def fitted(cls, seconds: dict[int, float], processes: int) -> "Network":
        """To the smallest and the largest sum that were measured, over a ring of so many."""
        few, many = min(seconds), max(seconds)
        hops = 2 * (processes - 1)
        per_byte = max(seconds[many] - seconds[few], 1e-9) / (4 * (many - few))
        return cls(seconds[few] / hops, hops / processes / per_byte)

    def all_reduce(self, count: int, devices: int) -> float:
        """Seconds for so many float32."""
        if devices == 1:
            return 0.0
        size = 4 * count
        ring = 2 * (devices - 1) * (self.alpha + size / (devices * self.bandwidth))
        tree = 2 * math.log2(devices) * self.alpha + 2 * size / self.bandwidth
        return min(ring, tree)


def report(together: dict[str, Any], alone: dict[str, Any], options: argparse.Namespace) -> None:
    """Prints the tables, and writes them where `--json` says."""
    sums = {int(count): statistics.median(seconds) for count, seconds in together["all_reduce"].items()}
    network = Network.fitted(sums, together["processes"])
    predicted = "predicted"
    if options.alpha is not None:
        network, predicted = Network(options.alpha, options.bandwidth), "predicted for another network"
    found = {
        "all-reduce": table(("microseconds",), all_reduce_rows(together), ""),
        "network": table(("alpha, microseconds", "beta, GB/s"), [("", network.cells)], ""),
        "updates": table(update_columns(together["processes"]), update_rows(together, alone, network), ""),
        predicted: table([f"{n:,}" for n in DEVICES], predicted_rows(together, alone, network), ""),
    }
    console = Console(highlight=False, width=TABLE_WIDTH)
    for name, of in found.items():
        console.print(on_screen(name, of))
    if options.json is not None:
        kept = found if options.alpha is None else {predicted: found[predicted]}
        save(options.json, {"sources": {"": source(sys.argv, {"jax": {"JAX": jax.__version__}})}, "tables": kept})


def all_reduce_rows(together: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """By the number of float32."""
    return [
        (f"{int(count):,}", [figure([1e6 * of for of in seconds], "")])
        for count, seconds in together["all_reduce"].items()
    ]


def update_columns(processes: int) -> tuple[str, ...]:
    rates = ("timesteps/s, 1 process", f"timesteps/s, {processes}")
    return "1 process, ms", f"{processes} processes, ms", *rates, "ratio", "lost to being several", "of it predicted"


def update_rows(together: dict[str, Any], alone: dict[str, Any], network: Network) -> list[tuple[str, list[Any]]]:
    """By policy and the number of environments in each process."""
    processes, rows = together["processes"], []
    for policy, nenvs, one in measured_sizes(alone):
        both, batch = together["updates"][policy.name][nenvs], int(nenvs) * policy.settings["nsteps"]
        single, several = statistics.median(one), statistics.median(both)
        share = sums_of(policy, together["parameters"][policy.name], network, processes) / several
        cells: list[Any] = [figure([1e3 * of for of in seconds], "ms") for seconds in (one, both)]
        cells += [human(batch / single), human(processes * batch / several), f"{processes * single / several:.2f}"]
        rows.append((titled(policy, nenvs, together), [*cells, f"{1 - single / several:.0%}", f"{share:.0%}"]))
    return rows


def predicted_rows(together: dict[str, Any], alone: dict[str, Any], network: Network) -> list[tuple[str, list[Any]]]:
    """Efficiency and timesteps per second, by policy and the number of environments of each device."""
    rows = []
    for policy, nenvs, one in measured_sizes(alone):
        single, batch = statistics.median(one), int(nenvs) * policy.settings["nsteps"]
        count, cells = together["parameters"][policy.name], []
        for n in DEVICES:
            whole = single + sums_of(policy, count, network, n)
            efficiency = "" if n == 1 else f"{single / whole:.0%}, "
            cells.append(f"{efficiency}{human(n * batch / whole)}")
        rows.append((f"{policy.name}, {nenvs}", cells))
    return rows


def measured_sizes(alone: dict[str, Any]) -> list[tuple[Policy, str, list[float]]]:
    """Policies and numbers of environments, with the seconds of an update in one process."""
    return [(policy, nenvs, one) for policy in (MLP, CNN) for nenvs, one in alone["updates"][policy.name].items()]


def titled(policy: Policy, nenvs: str, together: dict[str, Any]) -> str:
    count, nsteps = together["parameters"][policy.name], policy.settings["nsteps"]
    return f"{policy.name}, {count:,} parameters, {nenvs} x {nsteps}"


def sums_of(policy: Policy, count: int, network: Network, devices: int) -> float:
    """Seconds of all that an update sums over the devices."""
    epochs = policy.settings["noptepochs"]
    small = SMALL_SUMS[0] * epochs + SMALL_SUMS[1]
    steps = epochs * policy.settings["nminibatches"]
    seconds: float = steps * network.all_reduce(count + 6, devices) + small * network.all_reduce(8, devices)
    return seconds


def human(rate: float) -> str:
    """12.3 M, 456 k."""
    return f"{rate / 1e6:,.3g} M" if rate >= 999_500 else f"{rate / 1e3:.3g} k" if rate >= 1000 else f"{rate:.0f}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="to start, where no launcher has")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--alpha", type=float, help="seconds before a message arrives, for the predictions")
    parser.add_argument("--bandwidth", type=float, help="bytes a second, for the predictions")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, for bench/document.py")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if (options.alpha is None) != (options.bandwidth is None):
        parser.error("--alpha and --bandwidth go together")
    options.floats, options.most = (QUICK_FLOATS, 1) if options.quick else (FLOATS, None)
    options.repeats = min(options.repeats, 2) if options.quick else options.repeats
    return options


if __name__ == "__main__":
    main()
