"""The memory that a training needs on a device, estimated before it starts."""

import contextlib
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ppo2 import spaces
from ppo2.agent.model import Model
from ppo2.agent.noise import draws_each_step
from ppo2.algorithm.rollout import Batch
from ppo2.config import Config
from ppo2.numerics.compilation import memory_limit, platform
from ppo2.numerics.memory import peak_bytes
from ppo2.numerics.sharding import DataAxis
from ppo2.runners.experience import Experience, evaluate_steps
from ppo2.system.text import human_bytes

FLOAT32 = 4
OBS_COPIES = 3
"""Copies of a rollout's observations that live at once: themselves, the next ones, those shuffled for an epoch. Counted
in XLA's `memory_analysis` of the program that makes updates: 3.1 for images."""
OTHER_COPIES = 6
"""Copies of all else of a rollout: as it was, with advantages, flattened, shuffled, of the current epoch, XLA's own."""
WHOLE_COPIES = 3
"""Copies that each device has whole, of OTHER_COPIES, where several divide a minibatch: as it was, with advantages,
flattened."""
PARAMETER_COPIES = 8
"""Arrays of a parameter's size: parameters, Adam's moments, a gradient; before and after."""
WORTH_TRACING = 2**26
"""Bytes of a rollout from which a run's activations are estimated, too, where the device doesn't tell its memory: to
trace the network and its gradient takes 50 ms for an MLP, 200 for Nature's CNN, 700 for IMPALA's."""


class MemoryNeed(NamedTuple):
    """Estimated bytes on each device.

    | field | meaning |
    |---|---|
    | rollout | arrays of one rollout |
    | copies | their copies while learning; recurrent states of all steps, which device environments leave |
    | activations | values inside the network, of the largest piece; 0: too few to estimate |
    | parameters | parameters, Adam's moments, gradients |
    """

    rollout: int
    copies: int
    activations: int
    parameters: int

    @property
    def total(self) -> int:
        """The sum."""
        return sum(self)


def memory_need(config: Config, model: Model, devices: int = 1, *, on_device: bool = False) -> MemoryNeed:
    """The memory that training needs on each of the devices that share the environments, or the minibatches.

    Args:
        on_device: the environments are stepped there, too.
    """
    parts = 1 if on_device else model.minibatch_parts
    obs, other = (size // devices for size in _rollout_parts(config, model))
    remembered = config.nbatch // devices * _state_bytes(model) if on_device else 0
    wanted = memory_limit() is not None or obs + other >= WORTH_TRACING
    return MemoryNeed(
        rollout=obs + other,
        copies=(OBS_COPIES - 1) * obs // parts
        + (WHOLE_COPIES - 1) * other
        + (OTHER_COPIES - WHOLE_COPIES) * other // parts
        + remembered,
        activations=activation_bytes(config, model, devices, parts) if wanted else 0,
        parameters=PARAMETER_COPIES * FLOAT32 * model.state.params.size,
    )


def in_one_memory(model: Model, axis: DataAxis, *, on_device: bool) -> int:
    """The number of devices that have their memory in common: those of a CPU, each of which needs `memory_need`.

    Args:
        axis: the devices that rollouts lie on.
        on_device: see `memory_need`.
    """
    if platform() != "cpu":
        return 1
    return axis.local_devices if on_device else model.minibatch_parts


def check_memory(config: Config, need: MemoryNeed) -> str | None:
    """A warning where training may need more memory than its device has; None where it doesn't, or isn't known.

    Raises:
        ValueError: it can't but need more: the rollout alone, with one minibatch and the optimiser's state, is larger.
    """
    limit = memory_limit()
    if limit is None or need.total <= limit:
        return None
    sizes = f"`num_envs` (={config.num_envs}) x `nsteps` (={config.nsteps})"
    room = f"JAX may take {human_bytes(limit)} of the device's memory"
    remedy = (
        "Lower `num_envs` or `nsteps`, spread the environments over more devices, or let JAX take more "
        "(XLA_CLIENT_MEM_FRACTION: docs/gpu.md)."
    )
    least = need.rollout + need.rollout // config.nminibatches + need.parameters // 2
    if least > limit:
        raise ValueError(
            f"{sizes} make a rollout of {human_bytes(need.rollout)} which, with a minibatch of it and the parameters, "
            f"must fit in {human_bytes(limit)}: {room}. {remedy}"
        )
    return (
        f"warning: {sizes} need about {human_bytes(need.total)} ({human_bytes(need.rollout + need.copies)} for the "
        f"rollout and its copies, {human_bytes(need.activations)} inside the network, {human_bytes(need.parameters)} "
        f"for parameters and optimiser), but {room}: training may fail for want of it. {remedy} More `nminibatches`, "
        "or ppo2.MicrobatchedModel, help a little."
    )


def rollout_bytes(config: Config, model: Model) -> int:
    """Size of one rollout, of all environments."""
    return sum(_rollout_parts(config, model))


def _rollout_parts(config: Config, model: Model) -> tuple[int, int]:
    """Bytes of a rollout's observations, and of all else."""
    space = model.observation_space
    obs = sum(x.nbytes for x in jax.tree.leaves(spaces.zeros(space, ())))
    actions = sum(math.prod(x.shape) * FLOAT32 for x in jax.tree.leaves(model.distribution.action))
    noise = model.distribution.noise_size * FLOAT32
    noise *= config.num_envs if draws_each_step(model.distribution, config.nsteps) else config.nbatch
    numbers, flags = 4 * FLOAT32, 3 * np.dtype(bool).itemsize
    return int(config.nbatch * obs), int(config.nbatch * (actions + numbers + flags) + noise)


def _state_bytes(model: Model) -> int:
    """Bytes of a recurrent policy's state; 0 of others."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(_state(model)))


# --- activations --------------------------------------------------------------------------------------------------


def activation_bytes(config: Config, model: Model, devices: int = 1, parts: int = 1) -> int:
    """The most bytes inside the network at once: of a gradient, or of completing a rollout; both in their pieces.

    Args:
        devices: number of devices that share the environments.
        parts: number of devices that share a minibatch.
    """
    nenvs, normaliser = max(1, config.num_envs // devices), model.state.normaliser
    count = model.sequences_per_env(config.nsteps, config.num_envs)
    length = config.nsteps // count
    experience = _experience(model, config.nsteps, nenvs, count)
    rows = max(1, nenvs * count * (1 if model.is_recurrent else config.nsteps) // config.nminibatches // parts)
    batch = _minibatch(model, (rows, length) if model.is_recurrent else (rows,))
    params = model.state.params
    hyper = model.hyperparameters(lr=0.0, cliprange=0.0)
    found = [peak_bytes(lambda p, e: evaluate_steps(model.policy_of(p), normaliser, e), params, experience)]
    # a user's own loss may not be traced for an estimate: its errors are told where it is compiled
    with contextlib.suppress(Exception):
        found.append(peak_bytes(lambda p, b: model.gradients(p, normaliser, b, hyper), params, batch))
    return max(found)


def _shaped(tree: PyTree[Any], *lead: int) -> PyTree[jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a tree's arrays, with leading axes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), tree)


def _seen(model: Model, *lead: int) -> PyTree[jax.ShapeDtypeStruct]:
    return _shaped(spaces.zeros(model.observation_space, ()), *lead)


def _state(model: Model, *lead: int) -> PyTree[jax.ShapeDtypeStruct]:
    return _shaped(jax.eval_shape(lambda p: model.policy_of(p).initial_state(), model.state.params), *lead)


def _experience(model: Model, nsteps: int, nenvs: int, sequences: int) -> Experience:
    number, flag = (jax.ShapeDtypeStruct((nsteps, nenvs), dtype) for dtype in (jnp.float32, jnp.bool_))
    return Experience(
        obs=_seen(model, nsteps, nenvs),
        actions=_shaped(model.distribution.action, nsteps, nenvs),
        rewards=number,
        terminated=flag,
        truncated=flag,
        valid=flag,
        episode_starts=flag if model.is_recurrent else None,
        recurrent_state=_state(model, sequences, nenvs),
        running_returns=None,
        gamma=None,
        lam=None,
    )


def _minibatch(model: Model, shape: tuple[int, ...]) -> Batch:
    number: Any = jax.ShapeDtypeStruct(shape, jnp.float32)
    return Batch(
        obs=_seen(model, *shape),
        actions=_shaped(model.distribution.action, *shape),
        logp=number,
        values=number,
        advantages=number,
        returns=number,
        weights=number,
        episode_starts=jax.ShapeDtypeStruct(shape, jnp.bool_) if model.is_recurrent else None,  # type: ignore[arg-type]
        recurrent_state=_state(model, shape[0]),
    )
