"""Looks at ppo2 on a card, in a process of its own: bits, images, precision. See `bench/gpu/table.py`."""

import math
import tempfile
from pathlib import Path
from typing import Any

from ours_device import rate
from steady import Job, Result, answer

SMALL_RUNS: dict[str, dict[str, Any]] = {
    "device": {"env": "gymnax:CartPole-v1", "num_envs": 64, "nsteps": 64},
    "host": {"env": "CartPole-v1", "num_envs": 8, "nsteps": 64},
    "LSTM": {"env": "gymnax:CartPole-v1", "num_envs": 64, "nsteps": 16, "network": "lstm", "nlstm": 32},
}
ON_THE_CARD = {"host, on the card": {**SMALL_RUNS["host"], "device": "gpu"}}
"""A run that acts and learns on the CPU unless it is told otherwise."""
UPDATES, STOPPED_AT = 8, 4
PRECISIONS = ("float32", "tf32", "bf16")


def same_bits(job: Job) -> Result:  # noqa: ARG001
    """Equality of the last parameters, for each kind of run: with those of a run of the same seed, and with those of a
    run that was stopped and resumed.
    """
    import jax
    import numpy as np

    import ppo2

    ppo2.configure_runtime()
    found: Result = {}
    runs = {**SMALL_RUNS, **(ON_THE_CARD if jax.devices()[0].platform == "gpu" else {})}
    for name, run in runs.items():
        given = {**run, "seed": 0, "total_timesteps": UPDATES * run["num_envs"] * run["nsteps"]}

        def ended(given: dict[str, Any] = given, **more: Any) -> Any:
            return np.asarray(ppo2.learn(**given, **more).state.params)

        once = ended()
        with tempfile.TemporaryDirectory() as folder:
            saved: dict[str, Any] = {"run_dir": Path(folder) / "run", "save_interval": 2}
            ended(update_fn=lambda update: update < STOPPED_AT, **saved)
            resumed = ended(load_path=saved["run_dir"], **saved)
        found[name] = {"again": bool((once == ended()).all()), "resumed": bool((once == resumed).all())}
    return found


def images(job: Job) -> Result:
    """Steps per second with Nature's CNN, on images that the device makes, and the most of its memory in use."""
    from dataclasses import dataclass

    import gymnasium as gym
    import jax
    import jax.numpy as jnp
    import numpy as np

    import ppo2

    @dataclass(frozen=True)
    class Images:
        """Images of noise, in episodes of 200 steps; the reward is for the action that a pixel asks for."""

        observation_space = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
        action_space = gym.spaces.Discrete(6)

        def reset(self, key: Any) -> Any:
            return jnp.int32(0), jax.random.bits(key, (84, 84, 4), jnp.uint8)

        def step(self, state: Any, action: Any, key: Any) -> Any:
            obs = jax.random.bits(key, (84, 84, 4), jnp.uint8)
            return state + 1, obs, jnp.where(action == obs[0, 0, 0] % 6, 1.0, 0.0), state > 200, False, {}

    ppo2.configure_runtime()
    workload = job["workload"]
    names = ("num_envs", "nsteps", "noptepochs", "nminibatches", "lr", "log_interval")
    given = {name: workload[name] for name in names}
    found = rate(job, {"env": Images(), "network": "cnn", **given, **job.get("more", {})})
    memory = jax.devices()[0].memory_stats() or {}
    return {**found, "peak_gb": memory.get("peak_bytes_in_use", 0) / 1e9}


def precision(job: Job) -> Result:
    """For each precision: the root mean square difference of log-probabilities between acting and gradient steps, where
    the learning rate is 0, so that nothing but arithmetic makes one.
    """
    import ppo2

    ppo2.configure_runtime()
    found: Result = {}
    for name in PRECISIONS:
        asked: dict[str, Any] = {"precision": name, "lr": 0.0, "seed": job["seed"]}
        kl: list[float] = []  # half the mean square of the differences
        ppo2.learn(
            env="gymnax:CartPole-v1",
            num_envs=64,
            nsteps=128,
            total_timesteps=64 * 128,
            update_fn=lambda *of, kl=kl: kl.append(float(of[2].approxkl)),
            **asked,
        )
        found[name] = math.sqrt(2 * kl[0])
    return found


if __name__ == "__main__":
    answer({"same_bits": same_bits, "images": images, "precision": precision})
