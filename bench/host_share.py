"""Share of the host in an update on device environments: its work on the episodes of an update, between two compiled
chunks and in the thread that writes monitor.csv while the next chunk runs.

    python bench/host_share.py                      # 16,384 x 128 timesteps, episodes of 22 steps
    python bench/host_share.py --num-envs 2048

Also the time that the choice of the episodes takes in the compiled program. Nothing is trained: episodes end at random.
An idle machine is up to you.
"""

import argparse
import functools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppo2 import Config
from ppo2.numerics.compilation import compiled
from ppo2.numerics.sharding import ONE_DEVICE
from ppo2.reporting.logger import Logger
from ppo2.runners.ends import Ends, handed_over, to_ended
from ppo2.runners.episodes import EpisodeQueue, side_by_side, thinned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=16384)
    parser.add_argument("--nsteps", type=int, default=128)
    parser.add_argument("--length", type=int, default=22, help="steps of an episode, on average")
    parser.add_argument("--updates", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options.num_envs, options.nsteps, options.length, options.updates, Path(folder))


def measure(num_envs: int, nsteps: int, length: int, updates: int, folder: Path) -> None:
    most, rng = Config.monitor_limit, np.random.default_rng(0)
    ended = rng.random((nsteps, num_envs)) < 1 / length
    lengths = np.where(ended, rng.integers(1, 2 * length, ended.shape), 0).astype(np.int32)
    none = np.zeros((*ended.shape, 0), np.float32)
    some = Ends(*map(jax.device_put, (lengths.astype(np.float32), lengths, none)))
    program, queue = compiled(functools.partial(handed_over, most=most, axis=ONE_DEVICE)), EpisodeQueue()
    seconds: dict[str, list[float]] = {"choice, in the program": [], "host, between two chunks": [], "thread": []}
    with Logger(folder / "run", total_updates=updates, progress=False) as logger:
        for update in range(updates + 1):
            times = [time.perf_counter()]
            handed: Any = jax.block_until_ready(program(some))
            times.append(time.perf_counter())
            handed = jax.tree.map(lambda x: x[None], jax.device_get(handed))
            clock = update + np.arange(1, nsteps + 1) / nsteps
            found = to_ended(handed, most, steps=nsteps, nenvs=num_envs, seconds=clock, info_keys=(), devices=1)
            queue.extend(found, nsteps)
            taken = thinned(side_by_side([queue.take()]), most)
            logger.episodes(taken.rows, taken.last, taken.count)
            figures = logger.eprewmean, logger.eplenmean
            times.append(time.perf_counter())
            logger.settle()  # in a run the next chunk is on its way by now
            times.append(time.perf_counter())
            if update:  # the first compiles
                for name, took in zip(seconds, np.diff(times), strict=True):
                    seconds[name].append(float(took))
    kept = f"{taken.count:,} episodes an update, of which {len(taken.rows):,} have a row"
    print(f"{num_envs:,} x {nsteps} timesteps, {kept}; mean return of the last 100 {figures[0]:.1f}")
    for name, all_ in seconds.items():
        low, *_, high = statistics.quantiles(all_, n=10)
        print(f"{name:28}{1e3 * statistics.median(all_):8.2f} ms   ({1e3 * low:.2f} to {1e3 * high:.2f}, p10 to p90)")


if __name__ == "__main__":
    main()
