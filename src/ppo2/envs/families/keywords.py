"""Keywords of `ppo2.make` and of environments' constructors: which are whose."""

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ppo2.envs.device.env import is_device_env
from ppo2.envs.families.foreign import hint
from ppo2.envs.host.env_types import AnyEnv
from ppo2.envs.host.vec_env import is_made
from ppo2.system.text import say_error

SHADOWING = (
    *("max_episode_steps", "reward_scale", "frame_stack", "flatten", "info_keys", "workers", "groups"),
    *("env_timeout", "replay_limit", "own_vector", "actors", "verbose"),
)
"""Keywords of `ppo2.make` that a constructor may have too, with a meaning of its own; a seed has the same."""
NOT_OF_ONE = ("workers", "groups", "backend", "actors", "own_vector")
"""Arguments of `ppo2.make` that say how several environments are stepped."""


def check_makes(env_id: Any) -> None:
    """Raises TypeError for what is neither an id nor a function or class that makes environments."""
    if is_made(env_id) or is_device_env(env_id):
        kind = "vector environment" if hasattr(env_id, "num_envs") else "environment"
        raise TypeError(
            f"`env_id` (={env_id!r}) is one {kind} that exists already; ppo2.make makes them. Pass an id, a class, or "
            "a function that makes a new environment at each call, such as lambda: MyEnv(); or give this one to "
            "learn(env=...) as it is."
        )
    if not isinstance(env_id, str) and not callable(env_id):
        raise TypeError(
            f"`env_id` (={env_id!r}) must be an id, such as 'CartPole-v1', or a function or class that makes a new "
            f"environment at each call.{hint(env_id)}"
        )


def name_of(env_id: str | Callable[..., Any]) -> str:
    """The id, or the name of a factory."""
    return env_id if isinstance(env_id, str) else getattr(env_id, "__name__", repr(env_id))


def merged(env_kwargs: Mapping[str, Any] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor from `env_kwargs` and from keywords that `ppo2.make` doesn't have itself.

    Raises:
        ValueError: `env_kwargs` is no dict by names, or one argument is given in both ways.
    """
    own: Any = {} if env_kwargs is None else env_kwargs
    if not isinstance(own, Mapping) or not all(isinstance(name, str) for name in own):
        raise ValueError(
            f"`env_kwargs` (={own!r}) must be a dict of arguments by name, as in {{'render_mode': 'human'}}."
        )
    if twice := sorted({*own} & {*kwargs}):
        raise ValueError(f"`{twice[0]}` is given twice: in `env_kwargs` and beside it; leave one out.")
    return {**own, **kwargs}


def kwargs_of(name: str) -> str:
    """The name of the argument that has the keywords for the environment called `name`."""
    return "eval_env_kwargs" if name == "eval_env" else "env_kwargs"


def as_given(kwargs: Mapping[str, Any], name: str, by_keyword: Collection[str]) -> str:
    """Words for arguments of a constructor as the caller gave them, for errors.

    Args:
        name: the name of the argument that the environment is.
        by_keyword: names of those that were given by themselves, not in `env_kwargs`.
    """
    beside = {key: value for key, value in kwargs.items() if key not in by_keyword}
    words = [f"`{key}` (={kwargs[key]!r})" for key in kwargs if key in by_keyword]
    return ", ".join([*words, *([f"`{kwargs_of(name)}` (={beside!r})"] if beside or not words else [])])


def check_arguments(
    factory: Callable[..., Any], kwargs: Mapping[str, Any], name: str = "env_id", by_keyword: Collection[str] = ()
) -> None:
    """Raises ValueError where a factory doesn't take such arguments. For `by_keyword` see `as_given`."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # of a class that says nothing about itself
        return
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        close = [near for key in kwargs for near in difflib.get_close_matches(key, [*signature.parameters], n=1)]
        hint = [near for near in close if near not in kwargs]
        verb = "doesn't" if [*kwargs] == [*by_keyword][:1] else "don't"
        raise ValueError(
            f"{as_given(kwargs, name, by_keyword)} {verb} fit `{name}`, {name_of(factory)}{signature}: {error}"
            f"{f'; did you mean {hint[0]!r}?' if hint else '.'}"
        ) from None


def tell_shadowed(
    env_id: str | Callable[..., Any], env: AnyEnv, given: Mapping[str, Any], env_kwargs: Mapping[str, Any]
) -> None:
    """Says which keywords, taken as `ppo2.make`'s own, the environment's constructor has as well.

    Args:
        env: made by the constructor.
        given: keywords in `SHADOWING` that are not at their defaults.
        env_kwargs: arguments that go to the constructor for certain.
    """
    if not given:
        return
    try:
        parameters = inspect.signature(type(env.unwrapped) if isinstance(env_id, str) else env_id).parameters
    except (TypeError, ValueError):  # of a class that says nothing about itself
        return
    for name in sorted({*parameters} & {*given} - {*env_kwargs}):
        words = f"{name_of(env_id)} has one too, which env_kwargs={{{name!r}: ...}} sets"
        say_error(f"`{name}` (={given[name]!r}) is taken as ppo2.make's own; {words}.")
