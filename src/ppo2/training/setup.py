"""Setting up a training: environments, model, runner and trainer, from the arguments of `learn` and `sweep`."""

import contextlib
import dataclasses
import functools
import math
import os
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym

from ppo2 import distributed, envs, networks
from ppo2.agent.files import restore
from ppo2.agent.model import Model
from ppo2.agent.policy import build_policy
from ppo2.algorithm.faults import is_finite
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.config import Config, check_settings
from ppo2.distributed import collectives
from ppo2.envs import AnyEnvs, DeviceVector
from ppo2.envs.host.failures import FailureLog
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.evaluate import check_spaces, side_by_side
from ppo2.numerics import sharding
from ppo2.numerics.randomness import Purpose, fresh_seed, root_key
from ppo2.runners.device import DeviceRunner
from ppo2.runners.host import Runner
from ppo2.runners.snapshot import facts_of
from ppo2.training.start import Start, StartKind, find_start
from ppo2.training.trainers import DeviceTrainer, HostTrainer, LearnTrainer, Numbers, Schedules

WARM_UP_TIMESTEPS = 512
"""Steps, over all environments, that fill an empty normaliser before the first rollout."""


class Setup(NamedTuple):
    """All that one `learn` trains with.

    Attributes:
        numbers: see `trainers.Numbers`.
        eval_env: None: nothing is evaluated.
        stepped_by: name of the processes that step the environments, for people; None if the environment decides.
    """

    config: Config
    model: Model
    trainer: LearnTrainer
    numbers: Numbers
    start: Start
    eval_env: AnyEnvs | None
    stepped_by: str | None


def prepare(
    stack: contextlib.ExitStack,
    configure: "functools.partial[Config]",
    *,
    env: Any,
    eval_env: Any,
    model_fn: Callable[..., Model] | None,
    seed: int | None,
    num_envs: int | None,
    shards: int | None,
    load_path: str | os.PathLike[str] | None,
    run_dir: str | os.PathLike[str] | None,
    every_update: bool,
) -> Setup:
    """Makes all that training needs; `stack` closes it in the end.

    Args:
        configure: gives the settings, once `seed`, `num_envs` and `shards` are known.
        every_update: the host is to look after every update.
        others: see `learn`.
    """
    check_settings(configure.keywords)
    networks.check(configure.keywords["network"])
    start = find_start(load_path, run_dir)
    if any(collectives.all_gather(seed is None)):
        fresh = collectives.broadcast(fresh_seed() if seed is None else seed)
        seed = start.settings.get("seed") if start.goes_on else fresh
    groups = None if start.resumed is None else _groups(start.resumed)
    world = distributed.world()
    if hasattr(env, "ppo2_runner"):  # held by other processes
        env.check_learner(num_envs, world.size)
        vector: Any = env
    else:
        vector = _environment(stack, env, share_of(env, num_envs, world), groups=groups)
        if isinstance(vector, HostVectorEnv):
            vector.failures = FailureLog(vector.num_envs * world.rank)  # which speaks of global indices
    if shards is None and start.goes_on:
        shards = start.settings.get("shards")
    config = configure(seed=seed, num_envs=vector.num_envs * world.size, shards=1 if shards is None else shards)
    if shards is None:
        config = dataclasses.replace(config, shards=default_shards(vector, config))
    _check_agreed(config)
    model = build_model(config, vector, model_fn)
    if start.saved is not None:
        restore(model, start.saved)
        _check_finite(model, start.saved)
        if start.kind is StartKind.WEIGHTS:
            model.restart(root_key(config.seed))
    eval_vector = None if eval_env is None else _eval_environment(stack, eval_env, env, model)
    numbers = Schedules(config).at
    return Setup(
        config=config,
        model=model,
        trainer=_trainer(stack, config, vector, model, numbers, every_update),
        numbers=numbers,
        start=start,
        eval_env=eval_vector,
        stepped_by=getattr(vector, "stepped_by", None),
    )


def _trainer(
    stack: contextlib.ExitStack, config: Config, env: Any, model: Model, numbers: Numbers, every_update: bool
) -> LearnTrainer:
    """The trainer that suits the environment."""
    settings: dict[str, Any] = {"model": model, "nsteps": config.nsteps, "gamma": config.gamma, "lam": config.lam}
    if isinstance(env, DeviceVector):
        check_traceable(model)
        device_runner = DeviceRunner(env=env.env, num_envs=config.num_envs, checked=True, **settings)
        if every_update:
            device_runner.chunk_size.capacity = 1
        return DeviceTrainer(model, device_runner, numbers)
    if not hasattr(env, "ppo2_runner"):
        return HostTrainer(model, Runner(env=env, **settings), numbers)
    runner = pkgutil.resolve_name(env.ppo2_runner)(env=env, **settings)
    stack.callback(runner.close)
    return HostTrainer(model, runner, numbers)


def check_callable(**functions: object) -> None:
    """Raises TypeError for an argument that must be a function."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"`{name}` (={function!r}) must be a function, or None.")


def _check_finite(model: Model, saved: Checkpoint) -> None:
    if not bool(is_finite(model.state)):
        raise ValueError(
            f"the checkpoint {saved.path} holds parameters, moments of the optimiser or statistics that are NaN or "
            "infinite, from which nothing can be learned: take an earlier one."
        )


def default_shards(env: AnyEnvs, config: Config) -> int:
    """The meaning of `shards=None` for these environments."""
    if not isinstance(env, DeviceVector):
        return distributed.world().size
    return sharding.default_shards(config.num_envs, config.nsteps, config.nminibatches, devices=config.devices)


def share_of(env: Any, num_envs: Any, world: distributed.World) -> Any:
    """The number of environments that this process makes.

    Raises:
        ValueError: they can't be divided equally.
    """
    if world.size == 1 or isinstance(env, gym.Env | gym.vector.VectorEnv):
        return num_envs
    if num_envs is None:
        return -(-envs.DEFAULT_NUM_ENVS // world.size)
    if num_envs > 0 and num_envs % world.size:
        raise ValueError(
            f"`num_envs` (={num_envs}) counts the environments of all {world.size} processes, each of which steps as "
            f"many: it must be a multiple of {world.size}, such as {-(-num_envs // world.size) * world.size}."
        )
    return num_envs // world.size if num_envs > 0 else num_envs  # which is refused


def _check_agreed(config: Config) -> None:
    """Raises ValueError where processes were told different things."""
    told = collectives.all_gather(config.to_json())
    for rank, theirs in enumerate(told):
        different = [name for name, value in theirs.items() if value != told[0][name]]
        if different:
            name = different[0]
            raise ValueError(
                f"`{name}` is {told[0][name]!r} in the process of rank 0 and {theirs[name]!r} in that of rank {rank}: "
                "all must be given the same."
            )


def check_traceable(model: Model) -> None:
    """Raises TypeError for a model that couldn't learn as it wants to inside a compiled program."""
    if type(model).train is not Model.train:
        raise TypeError(
            f"`model_fn` gave a {type(model).__name__}, which replaces `train`: training on a device environment is "
            "one compiled program that never calls it. Override `update`, `gradients` or `loss` instead."
        )


def _groups(before: Checkpoint) -> int | None:
    """In how many groups a run that goes on steps its environments, whatever the rule says here and now."""
    groups = facts_of(before).get("groups")
    return groups if groups in (1, 2) else None


def _environment(
    stack: contextlib.ExitStack, env: Any, num_envs: int | None, name: str = "env", groups: int | None = None
) -> AnyEnvs:
    """The vector environment that an argument means, closed in the end if it was made here."""
    made = envs.resolve(env, num_envs, name, groups=groups)
    if made.owned:
        stack.callback(made.env.close)
    return made.env


def _eval_environment(stack: contextlib.ExitStack, eval_env: Any, env: Any, model: Model) -> AnyEnvs:
    if eval_env is env and isinstance(env, gym.Env | gym.vector.VectorEnv):
        raise ValueError("`eval_env` is `env` itself, so that evaluating would reset it under training: pass another.")
    count = side_by_side(eval_env, model.config.eval_episodes)
    mine = None if count is None else -(-count // distributed.world().size)
    vector = _environment(stack, eval_env, mine, "eval_env")
    check_spaces(model, vector, "eval_env")
    return vector


def build_model(config: Config, env: AnyEnvs, model_fn: Callable[..., Model] | None) -> Model:
    """The untrained model for an environment."""
    key = root_key(config.seed)
    policy = build_policy(
        env.single_observation_space,
        env.single_action_space,
        network=config.network,
        value_network=config.value_network,
        network_kwargs=config.network_kwargs,
        encoders=config.encoders,
        action_dist=config.action_dist,
        key=root_key(config.seed, Purpose.INIT),
    )
    make = Model if model_fn is None else model_fn
    model = make(policy=policy, config=config, key=key)
    if not isinstance(model, Model):
        raise TypeError(f"`model_fn` gave {model!r}; it must give a ppo2.Model.")
    return model


def warm_up_steps(config: Config, model: Model) -> int:
    """Steps of each environment that fill the normaliser before the first rollout; 0 if it has statistics already."""
    if config.nupdates == 0 or not model.state.normaliser.is_empty:
        return 0
    return min(config.nsteps, math.ceil(WARM_UP_TIMESTEPS / config.num_envs))
