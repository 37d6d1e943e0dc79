"""Environments of JAX libraries as device environments, by ids such as "gymnax:CartPole-v1"."""

import importlib.util
from typing import Any

from ppo2.envs.adapters.brax import Brax
from ppo2.envs.adapters.common import AdaptedEnv
from ppo2.envs.adapters.craftax import Craftax
from ppo2.envs.adapters.gymnax import Gymnax
from ppo2.envs.adapters.navix import Navix
from ppo2.envs.adapters.pgx import Pgx
from ppo2.envs.adapters.playground import Playground
from ppo2.envs.adapters.xminigrid import XMiniGrid
from ppo2.envs.device.env import is_device_env
from ppo2.envs.host.constructors import ConstructorError, made_by
from ppo2.system import runtime

__all__ = ["ADAPTERS", "AdaptedEnv", "adapter_of", "arguments", "check", "is_on_device", "make"]

ADAPTERS: dict[str, type[AdaptedEnv]] = {
    adapter.prefix: adapter for adapter in (Gymnax, Brax, Playground, XMiniGrid, Navix, Pgx, Craftax)
}
"""Libraries by the prefix of their ids."""


def adapter_of(env_id: str) -> tuple[type[AdaptedEnv], str] | None:
    """The adapter of an id and the name behind its colon; None if it has no prefix of an adapter."""
    prefix, colon, name = env_id.partition(":")
    return (ADAPTERS[prefix], name) if colon and prefix in ADAPTERS else None


def is_on_device(env: object) -> bool:
    """True for a device environment, and for the id of one."""
    return is_device_env(env) or (isinstance(env, str) and adapter_of(env) is not None)


def check(env_id: str) -> None:
    """Raises ValueError if the library of an id isn't installed or has no such environment."""
    adapter, name = _installed(env_id)
    adapter.check_name(name)


def make(env_id: str, **kwargs: Any) -> AdaptedEnv:
    """Makes a device environment.

    Args:
        env_id: "prefix:name", such as "gymnax:CartPole-v1".
        kwargs: arguments of the library's environment.

    Raises:
        ValueError: an unknown prefix, name or argument, a library that isn't installed, or what it raised itself.
        TypeError: a space that isn't supported.
    """
    adapter, name = _installed(env_id)
    try:
        made: AdaptedEnv = made_by(
            lambda: adapter(name, **kwargs), f"`env` (={env_id!r})", f"See ppo2.make({env_id!r}, NAME=...)."
        )
    except ConstructorError as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        raise ValueError(
            f"`env` (={env_id!r}): {adapter.package} can't be imported ({error.__cause__}): {adapter.remedy}."
        ) from error
    return made


def arguments(env_id: str) -> dict[str, Any]:
    """The arguments that `make` takes for an id, and their defaults; raises as `make` does."""
    return dict(make(env_id).defaults)


def _installed(env_id: str) -> tuple[type[AdaptedEnv], str]:
    """`adapter_of`, with an error where there is none or its library isn't installed."""
    found = adapter_of(env_id)
    if found is None:
        raise ValueError(
            f"`env` (={env_id!r}) names no library of device environments; known are {', '.join(ADAPTERS)}, as in "
            "'gymnax:CartPole-v1'."
        )
    if importlib.util.find_spec(found[0].package) is None:
        raise ValueError(f"`env` (={env_id!r}) needs a package that isn't installed: {found[0].remedy}.")
    runtime.begin()  # some of them compute when they are imported
    return found
