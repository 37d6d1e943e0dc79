"""Measures ppo2 on device environments, in a process of its own. See `bench/device.py`."""

import _thread
import contextlib
import importlib
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from ours import SAME_NAMES, import_time
from steady import Job, Result, SteadyRate, answer

POLL = 0.1  # seconds between two looks for rows of the log
LEAST_UPDATES = 16  # of the shorter sweep


def set_up(job: Job) -> None:
    """JAX as `configure_runtime` sets it, but for the number of CPU devices where the job has one."""
    import jax

    import ppo2

    ppo2.configure_runtime()
    if job["devices"] is not None:
        jax.config.update("jax_num_cpu_devices", job["devices"])
    importlib.import_module("gymnax")  # not part of compiling
    jax.block_until_ready(jax.numpy.zeros(1))  # nor is JAX's own start


def settings(job: Job) -> dict[str, Any]:
    """For `learn` and `sweep`."""
    workload = job["workload"]
    width, *others = workload["hidden"]
    assert all(other == width for other in others), "ppo2's mlp has one width"
    return {
        "env": workload["env"],
        "value_network": "copy",
        "num_hidden": width,
        "num_layers": len(workload["hidden"]),
        "normalize_obs": workload["normalize"],
        "normalize_rewards": workload["normalize"],
        **{name: workload[name] for name in SAME_NAMES},
    }


class Rows(threading.Thread):
    """Shows the log's rows to `watch` while they are written, and interrupts training when it has seen enough.

    An `update_fn` would cut the program, which makes many updates at a time, into single ones.
    """

    def __init__(self, file: Path, watch: SteadyRate) -> None:
        super().__init__(daemon=True)
        self._file, self._watch = file, watch
        self.first: float | None = None  # seconds to the end of the first update, by the log's clock

    def run(self) -> None:
        seen = 0
        while True:
            time.sleep(POLL)
            if not self._file.exists():
                continue
            *lines, _ = self._file.read_text().split("\n")  # the last one may not be complete
            for row in map(json.loads, lines[seen:]):
                elapsed = row["misc/time_elapsed"]
                self.first = elapsed if self.first is None else self.first
                if self._watch.update_done(row["misc/total_timesteps"], elapsed):
                    _thread.interrupt_main()  # `learn` takes it as Ctrl-C: it ends after the program that runs
                    return
            seen = len(lines)


def speed(job: Job) -> Result:
    """Steps per second by our own log, and the time from the call to the end of the first update, less that of one."""
    set_up(job)
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
                **settings(job),
            )
        shards = json.loads((run_dir / "config.json").read_text())["shards"]
    assert rows.first is not None
    update = job["workload"]["num_envs"] * job["workload"]["nsteps"] / watch.result["steps_per_second"]
    return {
        **watch.result,
        "compile_seconds": began[0] - called + rows.first - update,
        "devices": shards,  # one on each
    }


def sweep(job: Job) -> Result:
    """Steps per second of all runs together: the steps that a longer sweep has more than a shorter one, over the time
    that it takes more. Compiling, alike in both (from disk, after the first), doesn't count so.
    """
    set_up(job)
    import jax

    from ppo2.training.sweep import sweep

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
    answer({"speed": speed, "sweep": sweep, "import": import_time})
