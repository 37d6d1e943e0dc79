"""Cost of a checkpoint for the thread that trains: of the whole write, as `Model.save` does it, and of the wait in
`learn`, which leaves the write to another thread.

    python bench/saving.py                  # into a temporary directory; --folder for another disk

Also the updates that follow at once, beside the thread that writes. An idle machine is up to you.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np

import ppo2
from ppo2.agent.files import writer
from ppo2.checkpoints.writer import CheckpointWriter

CASES: dict[str, tuple[str, gym.spaces.Box]] = {
    "mlp, 4 numbers": ("mlp", gym.spaces.Box(-1.0, 1.0, (4,), np.float32)),
    "cnn, 84 x 84 x 4": ("cnn", gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)),
}


class Still(gym.Env[Any, Any]):
    """Costs nothing to step."""

    action_space = gym.spaces.Discrete(6)

    def __init__(self, space: gym.spaces.Box) -> None:
        self.observation_space = space
        self.obs = space.sample()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.obs, 0.0, False, False, {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary directory)")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for title, (network, space) in CASES.items():
            measure(title, network, space, Path(folder), options.repeats)


def measure(title: str, network: str, space: gym.spaces.Box, folder: Path, repeats: int) -> None:
    def env() -> gym.Env[Any, Any]:
        return Still(space)

    settings: dict[str, Any] = {"num_envs": 4, "nsteps": 32, "noptepochs": 1, "total_timesteps": 128, "seed": 0}
    model = ppo2.learn(network=network, env=env, **settings)
    vector = gym.vector.SyncVectorEnv([env] * 4)
    runner = ppo2.Runner(env=vector, model=model, nsteps=32, gamma=0.99, lam=0.95)
    rollout = runner.run()
    saving = CheckpointWriter(folder, keep=1, best=None)

    def update() -> None:
        jax.block_until_ready(model.train(rollout, lr=1e-4, cliprange=0.2))

    def save_aside() -> None:
        saving.save(next(numbers), writer(model), is_best=False)

    numbers = iter(range(1, 10**6))
    whole = timed(lambda: model.save(folder / "whole.safetensors"), update, saving.wait, repeats=repeats)
    aside = timed(save_aside, update, saving.wait, repeats=repeats)
    plain = timed(update, lambda: None, saving.wait, repeats=repeats)
    beside = timed(update, save_aside, saving.wait, repeats=repeats)
    size = (folder / "whole.safetensors").stat().st_size
    print(f"{title}: {model.state.params.size:,} parameters, a file of {size / 1e6:.2f} MB")
    print(f"  the whole write            {milliseconds(whole)}")
    print(f"  what training waits for    {milliseconds(aside)}")
    print(f"  an update                  {milliseconds(plain)}")
    print(f"  an update beside the write {milliseconds(beside)}")


def timed(
    function: Callable[[], object], before: Callable[[], None], after: Callable[[], None], *, repeats: int
) -> list[float]:
    """Seconds of each call, with `before` and `after` around it."""
    seconds = []
    for _ in range(repeats + 2):
        before()
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
        after()
    return seconds[2:]


def milliseconds(seconds: list[float]) -> str:
    """The median, and the range."""
    median, *ends = (1e3 * x for x in (statistics.median(seconds), min(seconds), max(seconds)))
    return f"{median:9.2f} ms ({ends[0]:.2f} to {ends[1]:.2f})"


if __name__ == "__main__":
    main()
