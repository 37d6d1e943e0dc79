"""Times one network of ppo2 in a process of its own; `bench/networks.py` starts it and reads its last line."""

from typing import Any

from steady import Job, Result, answer, seconds_of

ACTIONS = 6
STEPS = 2  # gradient steps in a timed update: minibatches run inside a loop, as in training


def model(job: Job) -> Any:
    """A model for 84 x 84 images of four 8-bit channels, whose update makes STEPS gradient steps."""
    import gymnasium as gym
    import jax
    import numpy as np

    import ppo2
    from ppo2.networks import convolution
    from ppo2.policy import build_policy
    from ppo2.randomness import root_key

    jax.config.update("jax_cpu_enable_async_dispatch", False)  # as ppo2.configure_runtime() does
    if job["xla"]:
        convolution.by_products = convolution.by_xla
    images = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    policy = build_policy(images, gym.spaces.Discrete(ACTIONS), network=job["network"], key=root_key(0))
    config = ppo2.Config(num_envs=job["batch"], nsteps=STEPS, nminibatches=STEPS, noptepochs=1)
    return ppo2.Model(policy=policy, config=config, key=root_key(0))


def act(job: Job) -> Result:
    """Seconds from observations in NumPy to actions in NumPy."""
    import numpy as np

    from ppo2.runner import act_program

    mine = model(job)
    obs = np.random.default_rng(0).integers(0, 256, (job["batch"], 84, 84, 4), np.uint8)
    noise = np.asarray(mine.distribution.noise(mine.state.key, (job["batch"],)))
    program = mine.program(act_program)
    state = mine.state
    return seconds_of(lambda: np.asarray(program(state.params, state.normaliser, obs, noise)), job["seconds"])


def step(job: Job) -> Result:
    """Seconds for a gradient step: shuffling, forward, backward, clipping and Adam, in a compiled update."""
    import jax
    import numpy as np

    from ppo2.rollout import Rollout

    mine, rng, shape = model(job), np.random.default_rng(0), (STEPS, job["batch"])
    fields: Any = {name: rng.normal(size=shape).astype(np.float32) for name in ("logp", "values", "rewards")}
    fields |= {name: np.zeros(shape, bool) for name in ("terminated", "truncated")}
    fields["obs"] = rng.integers(0, 256, (*shape, 84, 84, 4), np.uint8)
    fields["actions"] = rng.integers(0, ACTIONS, shape).astype(mine.distribution.dtype)
    fields["next_values"], fields["valid"] = fields["values"], np.ones(shape, bool)
    fields["running_returns"] = np.zeros(job["batch"], np.float32)
    fields["gamma"], fields["lam"] = np.float32(0.99), np.float32(0.95)
    rollout = jax.device_put(Rollout(**fields))

    def update() -> None:
        jax.block_until_ready(mine.train(rollout, lr=1e-4, cliprange=0.1))

    update_seconds = seconds_of(update, job["seconds"])
    return {**update_seconds, "seconds": update_seconds["seconds"] / STEPS}


if __name__ == "__main__":
    answer({"act": act, "step": step})
