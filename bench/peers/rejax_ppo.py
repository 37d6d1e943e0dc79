"""Measures rejax's PPO in a process of its own; needs nothing of ppo2. See `bench/device.py`.

Not called rejax.py: as a script it would stand in the package's way.
"""

import functools
import importlib
import itertools
import json
import time
from typing import Any

from steady import Job, Result, SteadyRate, answer


def start(job: Job) -> Result:  # noqa: ARG001
    """Everything that comes before compiling: the imports, and JAX's own start."""
    import jax

    importlib.import_module("rejax")
    jax.block_until_ready(jax.numpy.zeros(1))
    return {"device": jax.devices()[0].device_kind}


@functools.cache
def compiled(workload_json: str) -> tuple[Any, float]:
    """`train`, compiled for as many updates as our log has between two rows, and the seconds from making the algorithm
    to having it compiled.
    """
    import jax

    workload = json.loads(workload_json)
    assert workload["value_cliprange"] == workload["cliprange"], "rejax clips the value by clip_eps"
    assert not workload["normalize"]
    steps = workload["log_interval"] * workload["num_envs"] * workload["nsteps"]
    called = time.perf_counter()
    made = (
        importlib.import_module("rejax")
        .PPO.create(
            env=workload["env"].removeprefix("gymnax:"),
            num_envs=workload["num_envs"],
            num_steps=workload["nsteps"],
            num_epochs=workload["noptepochs"],
            num_minibatches=workload["nminibatches"],
            learning_rate=workload["lr"],
            gamma=workload["gamma"],
            gae_lambda=workload["lam"],
            clip_eps=workload["cliprange"],
            vf_coef=workload["vf_coef"],
            ent_coef=workload["ent_coef"],
            max_grad_norm=workload["max_grad_norm"],
            total_timesteps=steps,
            eval_freq=steps,
            skip_initial_evaluation=True,
            agent_kwargs={"activation": "tanh", "hidden_layer_sizes": tuple(workload["hidden"])},
        )
        .replace(eval_callback=lambda *_: ())
    )
    train = jax.jit(made.train).lower(jax.random.key(0)).compile()
    return train, time.perf_counter() - called


def speed(job: Job) -> Result:
    """Steps per second of `train`, called again and again. Each call also makes the first states, which takes a
    millisecond.
    """
    import jax

    start(job)
    workload = job["workload"]
    train, compile_seconds = compiled(json.dumps(workload))
    steps = workload["log_interval"] * workload["num_envs"] * workload["nsteps"]
    keys = jax.random.split(jax.random.key(job["seed"]), 1000)
    watch = SteadyRate(job["seconds"], job["warmup"])
    for call, key in enumerate(itertools.cycle(keys), start=1):
        jax.block_until_ready(train(key))
        if watch.update_done(call * steps):
            break
    return {**watch.result, "compile_seconds": compile_seconds, "devices": 1}


def import_time(job: Job) -> Result:  # noqa: ARG001
    begin = time.perf_counter()
    importlib.import_module("rejax")
    seconds = time.perf_counter() - begin
    from importlib.metadata import version

    return {"seconds": seconds, "versions": {name: version(name) for name in ("rejax", "gymnax", "jax", "numpy")}}


if __name__ == "__main__":
    answer({"start": start, "speed": speed, "import": import_time})
