"""The plan of a training, for a person to read before it starts."""

from ppo2.agent.model import Model
from ppo2.config import Config
from ppo2.numerics import precision
from ppo2.numerics.compilation import memory_limit
from ppo2.system.text import human_bytes, plural
from ppo2.training.memory import MemoryNeed, rollout_bytes


def batch_plan(
    config: Config,
    model: Model,
    need: MemoryNeed,
    *,
    first: int,
    warm_up_steps: int,
    stepped_by: str | None = None,
    together: int = 1,
) -> str:
    """Environments, batch, minibatches, updates, steps that will really be taken, memory of the device.

    Args:
        need: memory of each device.
        stepped_by: name of the processes that step the environments; None if unknown.
        together: devices that have one memory.
    """
    if first > config.nupdates:
        done = ", all done before" if first > 1 else ""
        return f"nothing to train: {config.nupdates:,} updates were asked for{done}"
    taken = config.nupdates * config.nbatch
    going_on = f", continuing at update {first:,}" if first > 1 else ""
    asked = f" of {config.total_timesteps:,} asked for" if taken != config.total_timesteps else ""
    warm_up = f", after {warm_up_steps * config.num_envs:,} that only fill the normaliser" if warm_up_steps else ""
    by = f", stepped by {stepped_by}" if stepped_by is not None else ""
    gradient_steps = config.noptepochs * config.nminibatches
    return (
        f"batch     {config.num_envs} {plural('environment', config.num_envs)} x {config.nsteps} "
        f"{plural('step', config.nsteps)} = {config.nbatch:,} timesteps an update{by}\n"
        f"learning  {config.noptepochs} {plural('epoch', config.noptepochs)} x {config.nminibatches} "
        f"{plural('minibatch', config.nminibatches)} of {config.nbatch // config.nminibatches:,} = {gradient_steps:,} "
        f"gradient {plural('step', gradient_steps)} an update{_products(config)}\n"
        f"total     {config.nupdates:,} {plural('update', config.nupdates)} = {taken:,} "
        f"timesteps{asked}{warm_up}{going_on}\n"
        f"memory    {human_bytes(rollout_bytes(config, model))} for a rollout, {model.state.params.size:,} parameters; "
        f"{_total(need, together)}; seed {config.seed}"
    )


def _products(config: Config) -> str:
    """Words about the precision of products, where it was asked for."""
    if config.precision is not None:
        return f", products in {config.precision}"
    users = precision.users_own()
    return "" if users is None else f", products by jax_default_matmul_precision ({users})"


def _total(need: MemoryNeed, together: int) -> str:
    """The estimate for a device, or for several that have one memory, and what there is of it."""
    limit, here = memory_limit(), MemoryNeed(*(together * size for size in need))
    inside = f", {human_bytes(here.activations)} of it inside the network" if here.activations else ""
    by = f", on {together} CPU devices" if together > 1 else ""
    return f"about {human_bytes(here.total)}{'' if limit is None else f' of {human_bytes(limit)}'} in all{inside}{by}"
