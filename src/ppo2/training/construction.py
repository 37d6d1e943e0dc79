"""Environments, settings, model and trainer from the arguments of `learn` and `sweep`."""

import contextlib
import dataclasses
import functools
import inspect
import math
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from ppo2 import distributed, envs, networks, spaces
from ppo2.agent.model import Model
from ppo2.agent.placement import Placement, choose
from ppo2.agent.policy import build_policy
from ppo2.algorithm.faults import Fault
from ppo2.config import Config
from ppo2.config.foreign_names import explained
from ppo2.distributed import collectives, parts
from ppo2.envs import AnyEnvs, DeviceVector
from ppo2.envs.host.failures import FailureLog
from ppo2.envs.host.identity import training_on
from ppo2.envs.host.remote import RemoteEnvs
from ppo2.envs.host.vec_env import is_made
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.evaluate import check_spaces, side_by_side
from ppo2.numerics import sharding
from ppo2.numerics.randomness import Purpose, fresh_seed, root_key
from ppo2.runners import acting
from ppo2.runners.device import DeviceRunner
from ppo2.runners.host import Runner
from ppo2.runners.protocol import HostRunner
from ppo2.runners.snapshot import facts_of
from ppo2.system import descendants
from ppo2.system.exits import EXIT_HOOKS
from ppo2.system.garbage import collection_put_off
from ppo2.training.start import Start
from ppo2.training.trainers import DeviceTrainer, HostTrainer, LearnTrainer, scheduled_numbers

WARM_UP_TIMESTEPS = 512
"""Steps, over all environments, that fill an empty normaliser before the first rollout."""
MOST_WARM_UPS = 2
"""Rollouts that fill the normaliser: the first may only find where observations far from 0 lie."""


def check_callable(**functions: object) -> None:
    """Raises TypeError for an argument that must be a function."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"`{name}` (={function!r}) must be a function, or None.")


def check_names(network: Any, network_kwargs: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises ValueError for arguments under the names that other libraries have for them.

    Args:
        network_kwargs: arguments of `learn` that it doesn't have itself.
        known: arguments that it has, for values that depend on them.
    """
    builder = networks.check(network)
    parameters = {} if builder is None else inspect.signature(builder).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    others = {name: value for name, value in network_kwargs.items() if name not in parameters}
    counted = {"num_envs": known.get("num_envs") or envs.DEFAULT_NUM_ENVS}
    found = explained(others, {"nsteps": Config.nsteps, **known, **counted})
    if found:
        told = [f"`{name}` (={others[name]!r}): {foreign.words('python')}" for name, foreign in found.items()]
        which = f"{'these are' if len(found) > 1 else 'this is'} no argument{'s' if len(found) > 1 else ''}"
        raise ValueError(f"{' '.join(told)} ({which} of learn(), nor of the network.)")


def open_environment(
    stack: contextlib.ExitStack, env: Any, num_envs: int | None, name: str = "env", **options: Any
) -> AnyEnvs:
    """The vector environment that an argument means, closed in the end if it was made here; `options`: of `resolve`."""
    with descendants.none_left_on_error() as started:
        made = envs.resolve(env, num_envs, name, **options)
        if made.owned:
            stack.callback(made.env.close)
    if started:  # for an end without Python's own ways
        hook = functools.partial(descendants.terminate, started)
        stack.callback(EXIT_HOOKS.discard, hook)
        EXIT_HOOKS.add(hook)
    return made.env


def open_training_environment(
    stack: contextlib.ExitStack, env: Any, num_envs: int | None, start: Start, settings: Mapping[str, Any]
) -> Any:
    """The environments of this process, of `num_envs` over all processes; those of actors as they are.

    Args:
        settings: the settings of the training, checked.
    """
    world = distributed.world()
    info_keys, env_kwargs = settings["info_keys"], settings["env_kwargs"]
    if hasattr(env, "ppo2_runner") and not env_kwargs:
        env.check_learner(num_envs, world.size, info_keys)
        return env
    if not is_made(env):
        num_envs = parts.local_num_envs(num_envs, envs.DEFAULT_NUM_ENVS, world)
    # a run that goes on steps its environments in as many groups as before, whatever the rule says here and now
    groups = None if start.resumed is None else facts_of(start.resumed).get("groups")
    groups = groups if groups in (1, 2) else None
    timesteps = (settings["total_timesteps"] - start.timesteps) // world.size
    options = {"groups": groups, "info_keys": info_keys, "env_kwargs": env_kwargs, "timesteps": timesteps}
    vector: Any = open_environment(stack, env, num_envs, **options)
    if hasattr(vector, "ppo2_runner"):
        vector.check_learner(num_envs, world.size, info_keys)
        return vector
    if isinstance(vector, HostVectorEnv):
        vector.failures = FailureLog(vector.num_envs * world.rank)  # which reports global indices
    stack.enter_context(training_on(vector))
    return vector


def open_eval_environment(stack: contextlib.ExitStack, eval_env: Any, model: Model) -> AnyEnvs:
    """The environments of this process to evaluate on, which have the model's spaces."""
    count = side_by_side(eval_env, model.config.eval_episodes)
    mine = None if count is None else -(-count // distributed.world().size)
    config = model.config
    kwargs = config.eval_env_kwargs
    if kwargs is None:
        kwargs = envs.inherited(eval_env, config.env, config.env_kwargs, "eval_env")
    options = {"info_keys": config.info_keys, "env_kwargs": kwargs}
    vector = open_environment(stack, eval_env, mine, "eval_env", **options)
    check_spaces(model, vector, "eval_env")
    return vector


def build_config(
    configure: Callable[..., Config], env: AnyEnvs, start: Start, *, seed: int | None, num_envs: int, shards: int | None
) -> Config:
    """The settings, in which all processes must agree; a `seed` or `shards` of None is that of the run that goes on.

    In a new run, None draws a seed, and makes a shard for each process or, of device environments, each device.
    """
    if any(collectives.all_gather(seed is None)):
        seed = start.settings.get("seed", collectives.broadcast(fresh_seed() if seed is None else seed))
    if shards is None:
        shards = start.settings.get("shards")
    config = configure(seed=seed, num_envs=num_envs, shards=1 if shards is None else shards)
    if shards is None:
        shards = distributed.world().size
        if isinstance(env, DeviceVector):
            shards = sharding.default_shards(
                config.num_envs, config.nsteps, config.nminibatches, devices=config.devices
            )
        config = dataclasses.replace(config, shards=shards)
    parts.check_agreed(config.to_json())
    return config


@collection_put_off()
def build_model(
    config: Config, env: AnyEnvs, model_fn: Callable[..., Model] | None, encoding: int = spaces.ENCODING
) -> Model:
    """The untrained model for an environment.

    Args:
        encoding: rules by which observations are encoded (see `ppo2.spaces.images`).

    Raises:
        TypeError: `model_fn` gave none, or one that couldn't learn as it wants to inside a compiled program.
        ValueError: see `check_minibatches`.
    """
    policy = build_policy(
        env.single_observation_space,
        env.single_action_space,
        network=config.network,
        value_network=config.value_network,
        network_kwargs=config.network_kwargs,
        encoders=config.encoders,
        action_dist=config.action_dist,
        precision=config.precision,
        encoding=encoding,
        key=root_key(config.seed, Purpose.INIT),
    )
    model = (model_fn or Model)(policy=policy, config=config, key=root_key(config.seed))
    if not isinstance(model, Model):
        raise TypeError(f"`model_fn` gave {model!r}; it must give a ppo2.Model.")
    if isinstance(env, DeviceVector) and type(model).train is not Model.train:
        raise TypeError(
            f"`model_fn` gave a {type(model).__name__}, which replaces `train`: training on a device environment is "
            "one compiled program that never calls it. Override `update`, `gradients` or `loss` instead."
        )
    if type(model).update is Model.update:
        check_minibatches(config)
    return model


@collection_put_off()
def place_model(model: Model, env: Any, start: Start) -> None:
    """Has a model act and learn where its settings, the run so far and this machine say; see `ppo2.agent.placement`.

    One copy of the policy acts for all environments of this process or, where actors hold them, of an actor.
    """
    at_once = env.each if isinstance(env, RemoteEnvs) else env.num_envs
    found = choose(
        model,
        model.config.device,
        num_envs=at_once,
        on_device=isinstance(env, DeviceVector),
        saved=start.kept.get("placement") if start.goes_on else None,
    )
    model.place(Placement(*collectives.broadcast(list(found))))
    if start.goes_on and type(most_parts := start.kept.get("most_parts")) is int:
        model.most_parts = most_parts
    if not isinstance(env, DeviceVector):
        acts_with = acting.choose(model, at_once, saved=start.kept if start.goes_on else None)
        model.acts_with = collectives.broadcast(acts_with)


def check_minibatches(config: Config) -> None:
    """Raises ValueError where a minibatch has one sample: its advantage, less the mean, is 0, and nothing is learned.

    Not a rule of `Config`, as the settings of a saved model may be so.
    """
    if config.total_timesteps and config.nbatch == config.nminibatches:
        size = f"`num_envs * nsteps` (={config.num_envs} * {config.nsteps} = {config.nbatch})"
        raise ValueError(
            f"`nminibatches` (={config.nminibatches}) cuts {size} into minibatches of one sample, whose normalised "
            "advantage is always 0, so that the policy would never learn: raise `nsteps` or `num_envs`, or lower "
            "`nminibatches`."
        )


def build_trainer(stack: contextlib.ExitStack, config: Config, env: Any, model: Model) -> LearnTrainer:
    """The trainer that suits the environment."""
    numbers = scheduled_numbers(config)
    settings: dict[str, Any] = {"model": model, "nsteps": config.nsteps, "gamma": config.gamma, "lam": config.lam}
    if isinstance(env, DeviceVector):
        device_runner = DeviceRunner(env=env.env, num_envs=config.num_envs, checked=True, **settings)
        return DeviceTrainer(model, device_runner, numbers)
    if not hasattr(env, "ppo2_runner"):
        return HostTrainer(model, Runner(env=env, **settings), numbers)
    runner = pkgutil.resolve_name(env.ppo2_runner)(env=env, **settings)
    stack.callback(runner.close)
    return HostTrainer(model, runner, numbers)


def fill_normaliser(
    config: Config, model: Model, runner: HostRunner | DeviceRunner, check_fault: Callable[[Fault], None]
) -> None:
    """Fills an empty normaliser, before the first rollout that is learned from."""
    for _ in range(MOST_WARM_UPS):
        steps = warm_up_steps(config, model)
        if steps:
            check_fault(model.observe(runner.run(steps), runner.axis))
            runner.mark_learned()


def warm_up_steps(config: Config, model: Model) -> int:
    """Steps of each environment that fill the normaliser before the first rollout; 0 if it has statistics already."""
    if config.nupdates == 0 or not model.state.normaliser.is_empty:
        return 0
    return min(config.nsteps, math.ceil(WARM_UP_TIMESTEPS / config.num_envs))
