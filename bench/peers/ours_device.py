"""Measures ppo2 on device environments, in a process of its own. See `bench/device.py`."""

import _thread
import contextlib
import functools
import importlib
import json
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from ours import SAME_NAMES, import_time
from steady import Job, Result, SteadyRate, answer

POLL = 0.1  # seconds between two looks for rows of the log
LEAST_UPDATES = 16  # of the shorter sweep


@functools.cache
def set_up(devices: int | None) -> str:
    """JAX as `configure_runtime` sets it, but for the number of CPU devices where a number is given; the name of the
    device.
    """
    import jax

    import ppo2

    ppo2.configure_runtime()
    if devices is not None:
        jax.config.update("jax_num_cpu_devices", devices)
    importlib.import_module("gymnax")  # not part of compiling
    jax.block_until_ready(jax.numpy.zeros(1))  # nor is JAX's own start
    return str(jax.devices()[0].device_kind)


def start(job: Job) -> Result:
    return {"device": set_up(job["devices"])}


def settings(job: Job) -> dict[str, Any]:
    """Arguments of `learn` and `sweep`; `more` of the job has others."""
    workload = job["workload"]
    width, *others = workload["hidden"]
    assert all(other == width for other in others), "ppo2's mlp has one width"
    return {
        "env": workload["env"],
        "value_network": "copy",
        "num_hidden": width,
        "num_layers": len(workload["hidden"]),
        "activation": workload["activation"],
        "normalize_obs": workload["normalize"],
        "normalize_rewards": workload["normalize"],
        **{name: workload[name] for name in SAME_NAMES},
        **job.get("more", {}),
    }


class Rows(threading.Thread):
    """Shows the log's rows to `watch` while they are written, and interrupts training when it has seen enough.

    An `update_fn` would cut the program, which makes many updates at a time, into single ones.
    """

    def __init__(self, file: Path, watch: SteadyRate) -> None:
        super().__init__(daemon=True)
        self._file, self._watch = file, watch
        self.first: tuple[float, int] | None = None  # seconds to the first row, by the log's clock, and its timesteps

    def run(self) -> None:
        seen = 0
        while True:
            time.sleep(POLL)
            if not self._file.exists():
                continue
            *lines, _ = self._file.read_text().split("\n")  # the last one may not be complete
            for row in map(json.loads, lines[seen:]):
                elapsed, steps = row["misc/time_elapsed"], row["misc/total_timesteps"]
                self.first = (elapsed, steps) if self.first is None else self.first
                if self._watch.update_done(steps, elapsed):
                    _thread.interrupt_main()  # `learn` takes it as Ctrl-C: it ends after the program that runs
                    return
            seen = len(lines)


def speed(job: Job) -> Result:
    """Steps per second by our own log, and the time from the call to the log's first row, less that of its updates."""
    set_up(job["devices"])
    return rate(job, settings(job))


def rate(job: Job, arguments: Result) -> Result:
    """`speed`, of `learn` with these arguments."""
    import ppo2

    watch = SteadyRate(job["seconds"], job["warmup"])
    began: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        rows = Rows(run_dir / "progress.jsonl", watch)
        rows.start()
        called = time.perf_counter()
        with contextlib.suppress(KeyboardInterrupt):
            ppo2.learn(
                total_timesteps=1e12,
                seed=job["seed"],
                run_dir=run_dir,
                init_fn=lambda: began.append(time.perf_counter()),  # the log's clock starts a moment before
                **arguments,
            )
        shards = json.loads((run_dir / "config.json").read_text())["shards"]
    assert rows.first is not None
    elapsed, steps = rows.first
    return {
        **watch.result,
        "compile_seconds": began[0] - called + elapsed - steps / watch.result["steps_per_second"],
        "devices": shards,  # one on each
    }


def whole(job: Job) -> Result:
    """A run of `updates`: seconds from the process's start to its end, steps per second between the rows of its log,
    and the mean return of its last 100 episodes.
    """
    set_up(job["devices"])
    import ppo2

    workload = job["workload"]
    batch = workload["num_envs"] * workload["nsteps"]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        env = ppo2.make(workload["env"], **job["env_kwargs"])
        arguments = {**settings(job), "env": env}
        ppo2.learn(total_timesteps=job["updates"] * batch, seed=job["seed"], run_dir=run_dir, **arguments)
        seconds = time.monotonic() - job["started"]
        rows = [json.loads(line) for line in (run_dir / "progress.jsonl").read_text().splitlines()]
    ends = [(row["misc/total_timesteps"], row["misc/time_elapsed"]) for row in rows]
    rates = [(steps - before) / (now - then) for (before, then), (steps, now) in pairwise(ends)]
    return {"seconds": seconds, "rates": rates, "first_seconds": ends[0][1], "return": rows[-1]["eprewmean"]}


def sweep(job: Job) -> Result:
    """Steps per second of all runs together: the steps that a longer sweep has more than a shorter one, over the time
    that it takes more. Compiling, alike in both (from disk, after the first), doesn't count so.
    """
    set_up(job["devices"])
    import jax

    from ppo2.sweeps.sweep import sweep

    workload = job["workload"]
    batch = workload["num_envs"] * workload["nsteps"]

    def seconds(updates: int) -> float:
        begin = time.perf_counter()
        sweep(seed=range(job["runs"]), total_timesteps=updates * batch, **settings(job))
        return time.perf_counter() - begin

    seconds(LEAST_UPDATES)
    shorter = min(seconds(LEAST_UPDATES) for _ in range(2))
    more = LEAST_UPDATES
    while (beyond := seconds(LEAST_UPDATES + more) - shorter) < job["seconds"]:
        # what it takes by this measure and a tenth, but not all of it at once: the first ones measure mostly noise
        more = int(more * min(4.0, max(1.5, 1.1 * job["seconds"] / max(beyond, 1e-3))))
    steps = more * batch * job["runs"]
    return {
        "steps_per_second": steps / beyond,
        "steps": steps,
        "seconds": beyond,
        "devices": jax.local_device_count(),
    }


if __name__ == "__main__":
    answer({"start": start, "speed": speed, "whole": whole, "sweep": sweep, "import": import_time})
