"""Subjects of films: environments that draw themselves, made anew like those that a policy is trained on."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym

from ppo2 import envs
from ppo2.envs.device.env import is_device_env
from ppo2.envs.families.atari import AtariFactory
from ppo2.envs.families.factories import MaskedFactory, OwnFactory, SpecFactory
from ppo2.envs.families.masks import MaskedEnv
from ppo2.envs.host.env_types import EnvTraits, Factory
from ppo2.envs.host.remote import RemoteEnvs
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.drawn import DrawnEnv, DrawnPrograms, drawer

MODE = "rgb_array"
"""The render mode of films."""


def subject_of(env: Any, env_kwargs: Mapping[str, Any], vector: Any, name: str, remedy: str) -> Factory:
    """The factory of environments to film.

    Args:
        env, env_kwargs: an environment in any form that `learn` takes, and its arguments.
        vector: a vector environment or a device environment that was made of it.
        name: the argument's name, for errors.
        remedy: a sentence about what to do where there is no such factory.

    Raises:
        ValueError: it can't be made anew, or can't be drawn.
    """
    if is_device_env(vector):
        if drawer(vector) is None:
            raise ValueError(
                f"`{name}` (={env!r}) is a device environment without a method render(state) -> array (height, width, "
                f"3) of bytes, by which films are made. {remedy}"
            )
        return DrawnFactory(env if isinstance(env, str) else vector, env_kwargs if isinstance(env, str) else {})
    factory = _factory_of(env, vector, name, remedy)
    drawing = with_render_mode(factory)
    if drawing is None and getattr(vector, "render_mode", None) != MODE:
        raise ValueError(
            f"`{name}` (={env!r}) makes environments of render_mode {getattr(vector, 'render_mode', None)!r}, and "
            f"films need {MODE!r}: let it take an argument `render_mode` and pass it on, as in def make(render_mode="
            f"None), or make them so. {remedy}"
        )
    modes = list(getattr(vector, "metadata", {}).get("render_modes") or ())
    innermost = factory.factory if isinstance(factory, MaskedFactory) else factory
    is_registered = isinstance(innermost, SpecFactory | AtariFactory) and not isinstance(innermost, OwnFactory)
    if is_registered and MODE not in modes:
        raise ValueError(
            f"`{name}` (={env!r}) can't be drawn: its render modes are {', '.join(map(str, modes)) or 'none'}, and "
            f"films need {MODE!r}. {remedy}"
        )
    return factory if drawing is None else drawing


def with_render_mode(factory: Factory) -> Factory | None:
    """The factory of environments that draw; None where it takes no `render_mode`."""
    if isinstance(factory, MaskedFactory):
        inner = with_render_mode(factory.factory)
        return None if inner is None else factory.around(inner)
    if isinstance(factory, OwnFactory):
        return factory.with_kwargs(render_mode=MODE) if _takes_mode(factory.function) else None
    if isinstance(factory, SpecFactory | AtariFactory):
        return factory.with_kwargs(render_mode=MODE)
    function: Callable[..., Any] = factory
    return functools.partial(function, render_mode=MODE) if _takes_mode(function) else None


def _takes_mode(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a class that says nothing about itself
        return False
    return any(p.name == "render_mode" or p.kind is p.VAR_KEYWORD for p in parameters)


def _factory_of(env: Any, vector: Any, name: str, remedy: str) -> Factory:
    """A factory of environments like those of a vector environment."""
    again = f"`{name}` (={env!r}) is there once, and films are made of environments of their own. {remedy}"
    if isinstance(vector, RemoteEnvs):
        return vector.factory
    if isinstance(env, gym.Env):
        return _remade(env, vector, again)
    if isinstance(vector, HostVectorEnv):
        return vector.factory
    makers = getattr(vector, "env_fns", None)  # of Gymnasium's own, without a wrapper that may change observations
    if type(vector) in (gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv) and makers:
        made: Factory = makers[0]
        return made
    raise ValueError(again)


def _remade(env: gym.Env[Any, Any], vector: Any, again: str) -> Factory:
    """A factory of environments with the spec of one that exists."""
    try:
        spec = env.spec  # with its wrappers
    except Exception:  # of a wrapper that doesn't tell
        spec = None
    if spec is None or any(wrapper.kwargs is None for wrapper in spec.additional_wrappers):
        raise ValueError(again)
    remade = functools.partial(gym.make, spec, disable_env_checker=True)
    inner = vector.envs[0] if isinstance(vector, HostVectorEnv) else None
    return MaskedFactory(remade, by_method=inner.by_method) if isinstance(inner, MaskedEnv) else remade


class DrawnFactory(EnvTraits):
    """Makes device environments that draw themselves, as environments of Gymnasium, which share their programs.

    Args:
        env: a device environment, or the id of one.
        env_kwargs: its arguments.
    """

    def __init__(self, env: Any, env_kwargs: Mapping[str, Any]) -> None:
        self._env, self._env_kwargs = env, dict(env_kwargs)
        self._programs: DrawnPrograms | None = None

    def __call__(self) -> DrawnEnv:
        if self._programs is None:
            made: Any = envs.resolve(self._env, 1, env_kwargs=self._env_kwargs).env
            self._programs = DrawnPrograms(made.env)
        return DrawnEnv(self._programs)
