"""Times one network of ppo2 in a process of its own; `bench/networks.py` starts it and reads its last line."""

import functools
from typing import Any

from steady import Job, Result, answer, seconds_of

ACTIONS = 6
MINIBATCHES = 2  # of a timed update: they run inside a loop, as in training
LENGTH = 32  # steps of a recurrent network's sequences


def model(job: Job) -> Any:
    """A model for 84 x 84 images of four 8-bit channels, or 64 numbers, whose update makes MINIBATCHES gradient steps.

    A minibatch is of `batch` samples: environments of a single step; for recurrent networks a LENGTH-th as many, of
    LENGTH steps.
    """
    import gymnasium as gym
    import numpy as np

    import ppo2
    from ppo2.agent.policy import build_policy
    from ppo2.networks import convolution
    from ppo2.numerics.randomness import root_key

    ppo2.configure_runtime(compilation_cache=False)
    if job["xla"]:
        convolution.by_products = convolution.by_xla
        vars(convolution)["by_columns"] = functools.partial(convolution.by_xla, 1)
    images = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    numbers = gym.spaces.Box(-np.inf, np.inf, (64,), np.float32)
    policy = build_policy(
        images if job["images"] else numbers, gym.spaces.Discrete(ACTIONS), network=job["network"], key=root_key(0)
    )
    nsteps = LENGTH if policy.initial_state() is not None else 1
    if job["measure"] == "step" and job["batch"] % nsteps:
        raise ValueError(f"a recurrent network's step batch (={job['batch']}) must be a multiple of {nsteps}.")
    config = ppo2.Config(
        num_envs=max(1, MINIBATCHES * job["batch"] // nsteps), nsteps=nsteps, nminibatches=MINIBATCHES, noptepochs=1
    )
    return ppo2.Model(policy=policy, config=config, key=root_key(0))


def observations(job: Job, *shape: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    if job["images"]:
        return rng.integers(0, 256, (*shape, 84, 84, 4), np.uint8)
    return rng.normal(size=(*shape, 64)).astype(np.float32)


def act(job: Job) -> Result:
    """Seconds from observations in NumPy to actions in NumPy."""
    import numpy as np

    from ppo2.runners.acting import Actor

    mine, count = model(job), job["batch"]
    obs, memory = observations(job, count), mine.initial_state(count)
    episode_starts = np.zeros(count, bool) if mine.is_recurrent else None
    noise = np.asarray(mine.distribution.noise(mine.state.key, (count,)))
    compiled_act = Actor(mine, count).begin(mine.acting_state())

    def acting() -> None:
        actions, _ = compiled_act(obs, noise, memory, episode_starts)
        np.asarray(actions)

    return seconds_of(acting, job["seconds"])


def step(job: Job) -> Result:
    """Seconds for a gradient step: shuffling, forward, backward, clipping and Adam, in a compiled update."""
    import jax
    import numpy as np

    from ppo2.algorithm.rollout import Rollout

    mine, rng = model(job), np.random.default_rng(0)
    shape = mine.config.nsteps, mine.config.num_envs
    fields: Any = {name: rng.normal(size=shape).astype(np.float32) for name in ("logp", "values", "rewards")}
    fields |= {name: np.zeros(shape, bool) for name in ("terminated", "truncated")}
    fields["obs"] = observations(job, *shape)
    fields["actions"] = rng.integers(0, ACTIONS, shape).astype(mine.distribution.dtype)
    fields["next_values"], fields["valid"] = fields["values"], np.ones(shape, bool)
    fields["running_returns"] = np.zeros(shape[1], np.float32)
    fields["gamma"], fields["lam"] = np.float32(0.99), np.float32(0.95)
    if mine.is_recurrent:
        fields["begins"] = np.zeros(shape, bool)
        fields["state"] = jax.tree.map(lambda x: x[None], mine.initial_state(shape[1]))
    rollout = jax.device_put(Rollout(**fields))

    def update() -> None:
        jax.block_until_ready(mine.train(rollout, lr=1e-4, cliprange=0.1))

    update_seconds = seconds_of(update, job["seconds"])
    return {**update_seconds, "seconds": update_seconds["seconds"] / MINIBATCHES}


if __name__ == "__main__":
    answer({"act": act, "step": step})
