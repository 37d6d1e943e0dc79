"""Measures Brax's own PPO in a process of its own; needs nothing of ppo2. See `bench/gpu/table.py`."""

import functools
import importlib
import time
from collections.abc import Sequence
from typing import Any

from steady import Job, Result, answer

UNROLL = 5  # steps of Brax's own settings for Ant; an update is made of several such rollouts
EVALUATED = 128  # episodes of an evaluation, Brax's default


def whole(job: Job) -> Result:
    """A run of `updates`, in `intervals` compiled calls with an evaluation before and after each: seconds from the
    process's start to its end, those of its evaluations (their compiling included), steps per second of each call after
    the first, which compiles, and the mean return of the last evaluation. It doesn't clip the gradient.
    """
    import jax
    import jax.numpy as jnp

    envs = importlib.import_module("brax.envs")
    networks, ppo = (importlib.import_module(f"brax.training.agents.ppo.{name}") for name in ("networks", "train"))

    def replicated(x: Any, devices: Sequence[Any]) -> Any:
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), x)

    if not hasattr(jax, "device_put_replicated"):  # Brax calls it, and JAX no longer has it
        jax.device_put_replicated = replicated
    workload = job["workload"]
    assert workload["normalize"], "Brax scales rewards, which ours normalises"
    assert workload["activation"] == "silu", "Brax's networks have it"
    steps = workload["num_envs"] * workload["nsteps"]
    shape = {f"{name}_hidden_layer_sizes": tuple(workload["hidden"]) for name in ("policy", "value")}
    rows: list[tuple[float, dict[str, Any]]] = []
    ppo.train(
        environment=envs.get_environment(workload["env"].removeprefix("brax:"), **job["env_kwargs"]),
        num_timesteps=steps * job["updates"],
        num_envs=workload["num_envs"],
        unroll_length=UNROLL,
        num_minibatches=workload["nminibatches"],
        batch_size=steps // UNROLL // workload["nminibatches"],
        num_updates_per_batch=workload["noptepochs"],
        learning_rate=workload["lr"],
        discounting=workload["gamma"],
        gae_lambda=workload["lam"],
        clipping_epsilon=workload["cliprange"],
        vf_loss_coefficient=workload["vf_coef"],
        entropy_cost=workload["ent_coef"],
        reward_scaling=10,
        normalize_observations=True,
        episode_length=1000,
        network_factory=functools.partial(networks.make_ppo_networks, **shape),
        seed=job["seed"],
        max_devices_per_host=1,
        num_evals=job["intervals"] + 1,
        num_eval_envs=EVALUATED,
        progress_fn=lambda _, metrics: rows.append((time.monotonic() - job["started"], metrics)),
    )
    (_, _), (first_seconds, _), *_ = rows
    seconds, last = rows[-1]
    return {
        "seconds": seconds,
        "evaluations": float(last["eval/walltime"]),
        "first_seconds": first_seconds,
        "rates": [float(metrics["training/sps"]) for _, metrics in rows[2:]],
        "return": float(last["eval/episode_reward"]),
    }


if __name__ == "__main__":
    answer({"whole": whole})
