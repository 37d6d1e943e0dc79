"""What `learn` and `sweep` make of their arguments before the first step: environments, model, runner, schedules."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym

from ppo2 import distributed, envs, networks
from ppo2.agent.files import restore
from ppo2.agent.model import Model
from ppo2.agent.policy import build_policy
from ppo2.algorithm.faults import is_finite
from ppo2.checkpoints import checkpoint
from ppo2.config import Config
from ppo2.distributed import collectives
from ppo2.envs import AnyEnvs, DeviceVector
from ppo2.envs.host.failures import FailureLog
from ppo2.envs.host.remote import RemoteEnvs
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.evaluate import check_spaces, side_by_side
from ppo2.numerics import schedules, sharding
from ppo2.numerics.randomness import Purpose, fresh_seed, root_key
from ppo2.runners.device import DeviceRunner
from ppo2.runners.host import Runner
from ppo2.runners.remote import AnyRunner, RemoteRunner
from ppo2.runners.snapshot import facts_of
from ppo2.training import run_directory

WARM_UP_TIMESTEPS = 512
"""How many steps, over all environments, fill an empty normaliser before the first rollout."""

SETTINGS = frozenset(field.name for field in dataclasses.fields(Config)) | {"network_kwargs"}


class Prepared(NamedTuple):
    """What `learn` trains, and with what.

    Attributes:
        saved: what it begins from.
        before: the same, where the run that left it goes on.
        again: whether a run goes on that left nothing yet.
        eval_env: None: nothing is evaluated.
        stepped_by: who steps the environments, if that is ours to say.
    """

    config: Config
    model: Model
    runner: AnyRunner
    saved: checkpoint.Checkpoint | None
    before: checkpoint.Checkpoint | None
    again: bool
    eval_env: AnyEnvs | None
    stepped_by: str | None

    @property
    def warm_up_steps(self) -> int:
        """See `warm_up_steps`."""
        return warm_up_steps(self.config, self.model)


def prepare(
    stack: contextlib.ExitStack,
    settings: Mapping[str, Any],
    *,
    eval_env: Any,
    load_path: str | os.PathLike[str] | None,
    run_dir: str | os.PathLike[str] | None,
) -> Prepared:
    """All that training needs, closed in the end by `stack`.

    Args:
        settings: those of `SETTINGS`, as `learn` was given them; the others as there.
    """
    world = distributed.world()
    given = dict(settings)
    env, model_fn = given["env"], given["model_fn"]
    networks.check(given["network"])
    saved, goes_on, told = _beginning(load_path, run_dir)
    before = saved if goes_on else None
    if any(collectives.all_gather(given["seed"] is None)):
        mine = fresh_seed() if given["seed"] is None else given["seed"]
        given["seed"] = told.get("seed") if goes_on else collectives.broadcast(mine)
    share = share_of(env, given["num_envs"], world)
    vector = (
        _held_elsewhere(env, share, world)
        if isinstance(env, RemoteEnvs)
        else _environment(stack, env, share, groups=None if before is None else _groups(before))
    )
    if isinstance(vector, HostVectorEnv) and world.rank:
        vector.failures = FailureLog(vector.num_envs * world.rank)  # speaks of them by their indices among all
    given["num_envs"] = vector.num_envs * world.size
    if given["shards"] is None and goes_on:
        given["shards"] = told.get("shards")
    if given["shards"] is None:
        sizes = (given[name] for name in ("num_envs", "nsteps", "nminibatches", "devices"))
        given["shards"] = default_shards(vector, *sizes)
    config = Config(**given)
    _check_agreed(config)
    model = build_model(config, vector, model_fn)
    if saved is not None:
        restore(model, saved)
        _check_finite(model, saved)
        if not goes_on:
            model.restart(root_key(config.seed))
    eval_vector = None if eval_env is None else _eval_environment(stack, eval_env, env, model)
    runner = _runner(config, vector, model)
    if isinstance(runner, RemoteRunner):
        stack.callback(runner.close)
    return Prepared(
        config=config,
        model=model,
        runner=runner,
        saved=saved,
        before=before,
        again=goes_on and before is None,
        eval_env=eval_vector,
        stepped_by=vector.stepped_by if isinstance(vector, HostVectorEnv | RemoteEnvs) else None,
    )


def check_callable(**functions: object) -> None:
    """Raises TypeError for an argument that must be a function."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"`{name}` (={function!r}) must be a function, or None.")


def _check_finite(model: Model, saved: checkpoint.Checkpoint) -> None:
    if not bool(is_finite(model.state)):
        raise ValueError(
            f"the checkpoint {saved.path} holds parameters, moments of the optimiser or statistics that are NaN or "
            "infinite, from which nothing can be learned: take an earlier one."
        )


def default_shards(env: AnyEnvs | RemoteEnvs, num_envs: int, nsteps: Any, nminibatches: Any, devices: Any) -> int:
    """What `shards=None` means for so many environments over all processes; for settings that Config will refuse, as
    few as there are processes.
    """
    whole = all(isinstance(number, int) for number in (nsteps, nminibatches, 1 if devices is None else devices))
    if not (isinstance(env, DeviceVector) and whole):
        return distributed.world().size
    return sharding.default_shards(num_envs, nsteps, nminibatches, devices=devices)


def _beginning(
    load_path: str | os.PathLike[str] | None, run_dir: str | os.PathLike[str] | None
) -> tuple[checkpoint.Checkpoint | None, bool, dict[str, Any]]:
    """What training begins from, whether it is the run in `run_dir` that goes on, and that run's settings; as the first
    process finds it, whose files they are.
    """
    read: list[checkpoint.Checkpoint] = []

    def begin() -> tuple[bool, dict[str, Any]]:
        saved, goes_on = run_directory.beginning(load_path, run_dir)
        read.extend([] if saved is None else [saved])
        return goes_on, run_directory.settings_of(saved, run_dir) if goes_on else {}

    goes_on, settings = collectives.run_on_first(begin)
    if distributed.world().size > 1:
        sent = collectives.broadcast_bytes(checkpoint.to_message(read[0]) if read else b"")
        read = [checkpoint.from_message(sent)] if sent else []
    return read[0] if read else None, goes_on, settings


def share_of(env: Any, num_envs: Any, world: distributed.World) -> Any:
    """How many of the environments this process makes.

    Raises:
        ValueError: they can't be parted equally.
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


def _runner(config: Config, env: AnyEnvs | RemoteEnvs, model: Model) -> AnyRunner:
    settings: dict[str, Any] = {"model": model, "nsteps": config.nsteps, "gamma": config.gamma, "lam": config.lam}
    if isinstance(env, RemoteEnvs):
        return RemoteRunner(envs=env, **settings)
    if not isinstance(env, DeviceVector):
        return Runner(env=env, **settings)
    check_traceable(model)
    return DeviceRunner(env=env.env, num_envs=config.num_envs, checked=True, **settings)


def check_traceable(model: Model) -> None:
    """Raises TypeError for a model that couldn't learn as it wants to inside a compiled program."""
    if type(model).train is not Model.train:
        raise TypeError(
            f"`model_fn` gave a {type(model).__name__}, which replaces `train`: training on a device environment is "
            "one compiled program that never calls it. Override `update`, `gradients` or `loss` instead."
        )


def _groups(before: checkpoint.Checkpoint) -> int | None:
    """In how many groups a run that goes on steps its environments, whatever the rule says here and now."""
    groups = facts_of(before).get("groups")
    return groups if groups in (1, 2) else None


def _held_elsewhere(env: RemoteEnvs, num_envs: int | None, world: distributed.World) -> RemoteEnvs:
    """Raises ValueError where the environments of actors can't be trained on as they are asked to be."""
    if world.size > 1:
        raise ValueError(
            f"`env` (={env!r}): Ray's actors have one learner, and this is one of {world.size} processes. Start one "
            "process, or let each step environments of its own: ppo2.make without `backend`."
        )
    if num_envs not in (None, env.num_envs):
        raise ValueError(
            f"`num_envs` (={num_envs}) applies where `env` is an id or a factory; this one has {env.num_envs}: leave "
            "it out, or say it to ppo2.make."
        )
    return env


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


def build_model(config: Config, env: AnyEnvs | RemoteEnvs, model_fn: Callable[..., Model] | None) -> Model:
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


class Schedules:
    """What changes from update to update: the learning rate, the ratio's clip, and the value's if it has its own."""

    def __init__(self, config: Config) -> None:
        self._config = config
        names = ["lr", "cliprange"]
        if config.value_cliprange is not None and config.value_cliprange != "same":
            names.append("value_cliprange")
        self._schedules = {name: schedules.parse(getattr(config, name), name) for name in names}

    def at(self, update: int) -> dict[str, float]:
        """For `Model.train`, at an update counted from 1."""
        frac = self._config.frac(update)
        return {name: schedule(frac) for name, schedule in self._schedules.items()}


def warm_up_steps(config: Config, model: Model) -> int:
    """How many steps of each environment fill the normaliser before the first rollout; 0 if it has seen something."""
    if config.nupdates == 0 or not model.state.normaliser.is_empty:
        return 0
    return min(config.nsteps, math.ceil(WARM_UP_TIMESTEPS / config.num_envs))
