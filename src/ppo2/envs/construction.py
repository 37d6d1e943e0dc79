"""Construction of vector environments from whatever `env=` may be."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.vector import VectorEnv
from gymnasium.wrappers.vector import DictInfoToList

from ppo2.config import is_placeholder, jsonable, placeholder_in
from ppo2.envs import adapters
from ppo2.envs.device.check import check_device_env
from ppo2.envs.device.env import DeviceVector, is_device_env
from ppo2.envs.families import own_vectors
from ppo2.envs.families.arguments import constructor_arguments, fitting
from ppo2.envs.families.factories import Options
from ppo2.envs.families.foreign import hint
from ppo2.envs.families.ids import ENVPOOL
from ppo2.envs.families.keywords import SHADOWING, check_makes, kwargs_of, merged, name_of, tell_shadowed
from ppo2.envs.first import First, check, checked, first_of, with_mask
from ppo2.envs.host.constructors import made_by
from ppo2.envs.host.env_types import AnyEnv, AnyVectorEnv
from ppo2.envs.host.parallelism import Workers, vectorize
from ppo2.envs.host.remote import RemoteEnvs, remote
from ppo2.envs.host.replay import REPLAY_LIMIT
from ppo2.envs.host.vec_env import as_gymnasium
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.envs.host.vector_arguments import check_info_keys
from ppo2.numerics.randomness import Purpose, environment_seeds
from ppo2.system import runtime
from ppo2.system.text import say_error
from ppo2.system.verbosity import spoken
from ppo2.system.whole_numbers import is_whole

DEFAULT_NUM_ENVS = 8
BACKENDS = ("local", "ray")

AnyEnvs = AnyVectorEnv | DeviceVector


class Made(NamedTuple):
    """Environments, and True if they were made here, so that they are ours to close."""

    env: AnyEnvs
    owned: bool


@spoken
def make(
    env_id: str | Callable[..., Any],
    num_envs: int = DEFAULT_NUM_ENVS,
    seed: int | None = None,
    *,
    max_episode_steps: int | None = None,
    reward_scale: float = 1.0,
    frame_stack: int | None = None,
    flatten: bool = False,
    info_keys: Sequence[str] = (),
    workers: Workers = "auto",
    groups: int | None = None,
    env_timeout: float = 60.0,
    replay_limit: int = REPLAY_LIMIT,
    own_vector: bool = False,
    backend: str = "local",
    actors: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    verbose: int = 1,
    **kwargs: Any,
) -> Any:
    """Makes the environment that `learn(env=env_id)` would make, with its family's standard treatment.

    Args:
        env_id: an id of Gymnasium ("module:Id-v0" imports the module first); "envpool:Id-v0"; or, for an environment
            of a JAX library, "gymnax:CartPole-v1" (`ppo2 envs` lists the prefixes), which gives a device environment:
            pure functions of one environment, whose number and seeds are given to `learn` (`num_envs`, `seed`) or to
            `DeviceRunner`. Or a function or class that makes a new environment at each call.
        num_envs: number of environments.
        seed: seeds them (each with a stream of its own), so that `reset()` without a seed is reproducible.
        max_episode_steps: steps after which an episode is truncated; None: as registered.
        reward_scale: factor of rewards, for training: logs have unscaled returns.
        frame_stack: number of observations that make one, the newest last: images along their channels, others along
            the last axis; None: as the family has it.
        flatten: True makes observations vectors, Discrete parts one-hot.
        info_keys: entries of `info` that are numbers (such as "is_success"), to find in the step's infos, and recorded
            by `learn` and `evaluate` at episodes' ends as if named there.
        workers: processes that step environments beside this one; "auto": as many as there are other processors, if a
            trial says that steps are slow enough (`learn` knows how long the run is, and may take one for fast steps
            too). The results don't depend on it; a line on standard error shows the choice.
        groups: 2: the policy acts for one half of the environments while the other steps; 1: for all at once; None:
            see `ppo2.envs.host.parallelism.choose_groups`.
        env_timeout: longest time of a step of one environment, in seconds: see `HostVectorEnv`.
        replay_limit: steps of an episode up to which a resumed run brings it back: see `HostVectorEnv`.
        own_vector: True uses the vector environment of the environment's own package (CartPole, Atari). It is faster,
            but steps by its own rules, so that a resumed run begins new episodes.
        backend: "ray": actors of Ray hold the environments, on this machine or on others, and return whole rollouts:
            only `learn` can use what is made. See docs/distributed.md.
        actors: number of Ray's actors, which must divide `num_envs`; None: one for every 8 environments. `workers` are
            then processes beside each actor ("auto": none).
        env_kwargs: for the environment's constructor, such as `render_mode`, or its treatment: see `AtariFactory`.
        verbose: 0 prints nothing: see `learn`.
        kwargs: the same, for names that are none of the above; `backend` of a Brax environment too.

    Raises:
        ValueError: an unknown id, one whose package isn't installed, an option that doesn't fit, or observations that
            aren't of its space.
        TypeError: an environment that exists already, or anything else that makes none.
    """
    arguments = dict(locals())
    made = _make(env_id, arguments)
    if isinstance(made, HostVectorEnv) and num_envs > 1:
        say_error(f"{num_envs} x {name_of(env_id)}, stepped by {made.stepped_by}", level=logging.INFO)
    return made


def _make(env_id: str | Callable[..., Any], arguments: Mapping[str, Any], name: str = "env_id", **more: Any) -> Any:
    """`make` of its arguments by name, without a word of how environments are stepped.

    Args:
        name: the argument's name, for errors.
        more: other arguments of `vectorize`.
    """
    given = {key: parameter.default for key, parameter in _parameters().items()} | dict(arguments)
    seed, num_envs, backend, info_keys = (given[key] for key in ("seed", "num_envs", "backend", "info_keys"))
    workers, groups, own_vector, kwargs = (given[key] for key in ("workers", "groups", "own_vector", "kwargs"))
    runtime.begin()  # constructors of environments may compute
    options = Options(*(given[key] for key in Options.__dataclass_fields__))
    num_envs = _count(num_envs)
    check_makes(env_id)
    is_device = isinstance(env_id, str) and adapters.adapter_of(env_id) is not None
    if is_device and backend not in BACKENDS:
        kwargs, backend = {"backend": backend, **kwargs}, "local"
    by_keyword = [*kwargs] if name == "env_id" else []
    kwargs = merged(given["env_kwargs"], kwargs)
    if own_vector and not isinstance(env_id, str):
        raise ValueError(f"`own_vector` (=True) is for ids; `env_id` is {name_of(env_id)}. Leave it out.")
    own_vector = own_vector or (isinstance(env_id, str) and env_id.startswith(ENVPOOL))
    one_by_one = not own_vector and not is_device
    which = f"`env_id` (={env_id!r}{', own_vector=True' if own_vector else ''})"
    if backend not in BACKENDS:
        raise ValueError(
            f"`backend` (={backend!r}) must be 'local' or 'ray'; env_kwargs={{'backend': ...}} is for the environment."
        )
    if backend == "ray":
        if not one_by_one:
            _refuse(f"needs environments that are made one by one, which those of {which} are not", backend=backend)
        reason = "is of no use with backend='ray' (`learn` is told the seed; actors give whole rollouts, in one group)"
        _refuse(reason, seed=seed, groups=groups)
        first = first_of(env_id, fitting(env_id, kwargs, name, by_keyword), options, name)
        own: dict[str, Any] = {"env_timeout": given["env_timeout"], "replay_limit": given["replay_limit"]}
        return remote(first.factory, first.env, num_envs, given["actors"], workers, info_keys=tuple(info_keys), **own)
    _refuse("is the number of Ray's actors, for backend='ray'", actors=given["actors"])
    if one_by_one:
        first = first_of(env_id, fitting(env_id, kwargs, name, by_keyword), options, name)
        tell_shadowed(env_id, first.env, _given(given, SHADOWING), given["env_kwargs"] or {})
        vector = vectorize(
            first.env,
            first.factory,
            num_envs,
            may_try=first.may_try,
            workers=workers,
            groups=groups,
            env_timeout=given["env_timeout"],
            info_keys=info_keys,
            replay_limit=given["replay_limit"],
            **more,
        )
        if seed is not None:
            vector.reset(seed=environment_seeds(seed, Purpose.ENV, num_envs))
        return vector
    reason = f"applies to environments that are made one by one, which those of {which} are not"
    _refuse(reason, **vars(options), info_keys=info_keys, workers=workers, groups=groups)
    assert isinstance(env_id, str)
    return own_vectors.make(env_id, num_envs, seed, **kwargs) if own_vector else adapters.make(env_id, **kwargs)


def _refuse(reason: str, **options: Any) -> None:
    """Raises ValueError for an option of `make` that isn't at its default."""
    for name, value in _given(options, options).items():
        raise ValueError(
            f"`{name}` (={value!r}) {reason}; leave it out. (env_kwargs={{{name!r}: ...}} is for the environment.)"
        )


def _given(arguments: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Arguments of `make`, among `names`, that aren't at their defaults."""
    return {name: arguments[name] for name in names if arguments[name] != _parameters()[name].default}


@functools.cache
def _parameters() -> Mapping[str, inspect.Parameter]:
    """The parameters of `make`, but `kwargs` with a default: no others."""
    found = dict(inspect.signature(make).parameters)
    return found | {"kwargs": found["kwargs"].replace(kind=inspect.Parameter.KEYWORD_ONLY, default={})}


def resolve(
    env: Any,
    num_envs: int | None = None,
    name: str = "env",
    *,
    groups: int | None = None,
    info_keys: Sequence[str] = (),
    env_kwargs: Mapping[str, Any] | None = None,
    timesteps: int | None = None,
) -> Made:
    """Makes the vector environment that an argument means.

    Args:
        env: an id, one gymnasium.Env, a gymnasium.vector.VectorEnv (or one of Stable-Baselines3 or SuperSuit), a
            device environment, or a factory: a function without arguments that makes a new environment at each call.
        num_envs: number of environments, for an id, a factory or a device environment (None: 8); else it must be what
            the environment has.
        name: the argument's name, for errors.
        groups: see `make`, for environments that are made here.
        info_keys: entries of `info` that are recorded at episodes' ends.
        env_kwargs: other arguments of `make`, and those of the constructor, for an id or a factory.
        timesteps: steps to come of all of them, where that is known, for the choice of `workers`.

    Raises:
        ValueError: see `make`; or `num_envs` that contradicts the environment.
        TypeError: `env` is none of these.
    """
    if env_kwargs:
        env, made = _as_asked(env, num_envs, name, env_kwargs, {"groups": groups, "info_keys": info_keys}, timesteps)
        if made is not None:
            return made
    if isinstance(env, str) and adapters.adapter_of(env) is not None:
        env = adapters.make(env)
    if isinstance(env, RemoteEnvs):
        raise TypeError(
            f"`{name}` (={env!r}): Ray's actors collect rollouts for the `env` of `learn`, and step for nobody else. "
            "Pass the id, or what ppo2.make gives without `backend`."
        )
    env = as_gymnasium(env)
    if isinstance(env, VectorEnv | gym.Env):
        return _resolve_made(env, num_envs, name, info_keys)
    count = _count(DEFAULT_NUM_ENVS if num_envs is None else num_envs)
    options: dict[str, Any] = {"copy": False, "groups": groups, "info_keys": info_keys, "timesteps": timesteps}
    if isinstance(env, str):
        if env.startswith(ENVPOOL):
            return Made(own_vectors.make(env, count), owned=True)
        return _vectorized(first_of(env, {}, Options()), count, options)
    if not (is_device_env(env) or callable(env)):
        raise TypeError(
            f"`{name}` (={env!r}) must be an environment id, a gymnasium.Env, a gymnasium.vector.VectorEnv, a device "
            "environment (observation_space, action_space, reset(key), step(state, action, key); those of libraries "
            "by id, as 'gymnax:CartPole-v1'), or a function without arguments that makes one environment, such as "
            f"its class.{hint(env)}"
        )
    how = "Pass a function that gives its arguments, such as functools.partial(CLASS, NAME=...)."
    made = env if is_device_env(env) else made_by(env, f"`{name}` (={getattr(env, '__qualname__', env)})", how)
    if is_device_env(made):
        check_device_env(made, name)
        return Made(DeviceVector(made, count), owned=False)
    if not isinstance(made, gym.Env):
        raise TypeError(
            f"`{name}` is a factory that gave {made!r}; it must make a gymnasium.Env at each call.{hint(made)}"
        )
    return _vectorized(checked(made, env, name), count, options)


def _as_asked(
    env: Any,
    num_envs: int | None,
    name: str,
    env_kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    timesteps: int | None,
) -> tuple[Any, Made | None]:
    """`resolve` of an id or a factory with arguments; or a factory, or a device environment, that has them in it.

    Args:
        options, timesteps: other arguments of `resolve`.
    """
    of = kwargs_of(name)
    if not isinstance(env, str) and not _is_factory(env):
        raise ValueError(
            f"`{of}` (={dict(env_kwargs)!r}) applies where `{name}` is an id, or a function or class that makes "
            f"environments; {env!r} exists already: leave it out, and set this where the environment is made."
        )
    for key in sorted({*env_kwargs} & {"num_envs", "seed", "info_keys", "kwargs", "verbose"}):
        raise ValueError(
            f"`{of}` (={dict(env_kwargs)!r}) has {key!r}, an argument by itself: {key}=... beside it. "
            f"({of}={{'env_kwargs': {{{key!r}: ...}}}} is for the environment's constructor.)"
        )
    # `env_id` is `env` here, and an argument of many functions that make environments
    own = {key: value for key, value in env_kwargs.items() if key in _parameters() and key != "env_id"}
    others = {key: value for key, value in env_kwargs.items() if key not in own}
    if isinstance(env, str) and adapters.adapter_of(env) is not None:
        return _make(env, {**own, "kwargs": others}, name), None
    if not isinstance(env, str) and not {*own} - {"env_kwargs"}:  # it may make device environments
        kwargs = merged(own.get("env_kwargs"), others)
        return functools.partial(env, **fitting(env, kwargs, name)), None
    count = _count(DEFAULT_NUM_ENVS if num_envs is None else num_envs)
    if not (own.get("own_vector") or (isinstance(env, str) and env.startswith(ENVPOOL))):  # that know neither of these
        own["info_keys"] = options["info_keys"]
        if own.get("backend") != "ray" and options["groups"] is not None:
            own["groups"] = options["groups"]
    vector = _make(env, {**own, "num_envs": count, "kwargs": others}, name, copy=False, timesteps=timesteps)
    return env, Made(vector, owned=not isinstance(vector, RemoteEnvs))


def _is_factory(env: Any) -> bool:
    """True for a function or class that makes environments, not for an environment, which may be callable too."""
    return callable(env) and (isinstance(env, type) or not (hasattr(env, "step") or hasattr(env, "num_envs")))


def inherited(env: Any, trained_on: Any, env_kwargs: Mapping[str, Any], name: str = "env") -> Mapping[str, Any]:
    """The arguments of `make` for an environment to evaluate on: those for the environment that was trained on.

    They are for an id, or the same function; Ray's actors only train.

    Args:
        name: the name of the argument that the environment is, for errors.

    Raises:
        ValueError: no file could hold one; or another id doesn't take one.
    """
    if not isinstance(env, str) and not (_is_factory(env) and _is_same(env, trained_on)):
        return {}
    if placeholder_in("env_kwargs", env_kwargs):
        raise ValueError(
            f"the environment was trained on with arguments that no file can hold: {dict(env_kwargs)!r}. Give "
            "env_kwargs={...}, from Python."
        )
    is_ray = env_kwargs.get("backend") == "ray"
    kept = {key: value for key, value in env_kwargs.items() if not (is_ray and key in ("backend", "actors", "workers"))}
    if kept and isinstance(env, str) and env != trained_on:
        _check_taken(env, kept, name)
    return kept


def _check_taken(env_id: str, env_kwargs: Mapping[str, Any], name: str) -> None:
    """Raises ValueError for inherited arguments that another environment than the one trained on doesn't take."""
    known, is_open = constructor_arguments(env_id)
    own = () if adapters.adapter_of(env_id) is not None else _parameters()
    foreign = {} if is_open else {key: env_kwargs[key] for key in env_kwargs if key not in {*known, *own}}
    if foreign:
        listed = ", ".join(f"`{key}` (={value!r})" for key, value in foreign.items())
        of, how = kwargs_of(name), " (--no-inherit on the command line)" if name == "env" else ""
        raise ValueError(
            f"`{name}` (={env_id!r}) takes no {listed}, with which the environment of training was made, and which it "
            f"would inherit: give `{of}`, {{}} for none{how}."
        )


def _is_same(env: Any, trained_on: Any) -> bool:
    """True for the function or class that was trained on; of one that a file names, by its name."""
    is_named = is_placeholder(trained_on) and getattr(env, "__name__", "").isidentifier()  # no lambda
    return env is trained_on or (is_named and jsonable(env) == trained_on)


def _vectorized(first: First, count: int, options: dict[str, Any]) -> Made:
    """Environments for a learner, of which the first was made."""
    vector = vectorize(first.env, first.factory, count, may_try=first.may_try, **options)
    return Made(vector, owned=True)


def _resolve_made(env: AnyVectorEnv | AnyEnv, num_envs: int | None, name: str, info_keys: Sequence[str]) -> Made:
    """`resolve` of an environment that the user has made."""
    while isinstance(env, DictInfoToList):  # which only makes its infos lists, in which nobody would look for anything
        env = env.env
    has = env.num_envs if isinstance(env, VectorEnv) else 1
    if num_envs not in (None, has):
        raise ValueError(
            f"`num_envs` (={num_envs}) applies where `{name}` is an id or a factory; this one has {has}. Leave "
            "num_envs out, or pass a factory: a function that makes a new environment at each call."
        )
    check(env, name)
    if isinstance(env, HostVectorEnv):
        check_info_keys(info_keys, env.info_keys, name)
    masked = with_mask(env, name)
    if isinstance(env, VectorEnv):
        return Made(masked, owned=False)
    return Made(HostVectorEnv([lambda: masked], copy=False, owned=False, info_keys=info_keys), owned=False)


def _count(num_envs: Any) -> int:
    if not is_whole(num_envs) or num_envs < 1:
        raise ValueError(f"`num_envs` (={num_envs!r}) must be a whole number of at least 1.")
    return int(num_envs)
