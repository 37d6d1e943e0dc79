"""The plan of a training, for a person to read before it starts."""

import math

import jax
import numpy as np

from ppo2 import spaces
from ppo2.agent.model import Model
from ppo2.agent.noise import draws_each_step
from ppo2.config import Config
from ppo2.numerics import precision

FLOAT32 = 4


def batch_plan(config: Config, model: Model, *, first: int, warm_up_steps: int, stepped_by: str | None = None) -> str:
    """Environments, batch, minibatches, updates, steps that will really be taken, memory of the rollout.

    Args:
        stepped_by: name of the processes that step the environments; None if unknown.
    """
    if first > config.nupdates:
        done = ", all done before" if first > 1 else ""
        return f"nothing to train: {config.nupdates:,} updates were asked for{done}"
    taken = config.nupdates * config.nbatch
    going_on = f", going on at update {first:,}" if first > 1 else ""
    asked = f" of {config.total_timesteps:,} asked for" if taken != config.total_timesteps else ""
    warm_up = f", after {warm_up_steps * config.num_envs:,} that only fill the normaliser" if warm_up_steps else ""
    by = f", stepped by {stepped_by}" if stepped_by is not None else ""
    gradient_steps = config.noptepochs * config.nminibatches
    return (
        f"batch     {config.num_envs} environments x {config.nsteps} steps = {config.nbatch:,} timesteps an update"
        f"{by}\n"
        f"learning  {config.noptepochs} epochs x {config.nminibatches} minibatches of "
        f"{config.nbatch // config.nminibatches:,} = {gradient_steps:,} gradient steps an update{_products(config)}\n"
        f"total     {config.nupdates:,} updates = {taken:,} timesteps{asked}{warm_up}{going_on}\n"
        f"memory    {human_bytes(rollout_bytes(config, model))} for a rollout, "
        f"{model.state.params.size:,} parameters; seed {config.seed}"
    )


def _products(config: Config) -> str:
    """Words about the precision of products, where it was asked for."""
    if config.precision is not None:
        return f", products in {config.precision}"
    users = precision.users_own()
    return "" if users is None else f", products by jax_default_matmul_precision ({users})"


def rollout_bytes(config: Config, model: Model) -> int:
    """Size of one rollout on the device. A shuffled copy of it is made while learning."""
    space = model.observation_space
    obs = sum(x.nbytes for x in jax.tree.leaves(spaces.zeros(space, ())))
    actions = sum(math.prod(x.shape) * FLOAT32 for x in jax.tree.leaves(model.distribution.action))
    noise = model.distribution.noise_size * FLOAT32
    noise *= config.num_envs if draws_each_step(model.distribution, config.nsteps) else config.nbatch
    numbers, flags = 4 * FLOAT32, 3 * np.dtype(bool).itemsize
    return int(config.nbatch * (obs + actions + numbers + flags) + noise)


def human_bytes(count: float) -> str:
    """A number of bytes, for a person."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
