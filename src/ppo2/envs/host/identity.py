"""Identity of environments: the object inside all wrappers, and those that are being trained on; without JAX.

Wrappers around one object are the same environment: stepping or resetting one of them moves the other.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium as gym

from ppo2.envs.host.failures import ContractError

_in_training: list[Any] = []
"""The environments of every `learn` that is running, in this process."""


def innermost(env: Any) -> Any:
    """The environment inside all wrappers, Gymnasium's and other environments that hold one under whatever name."""
    seen: list[int] = []
    while id(env) not in seen:
        seen.append(id(env))
        env = env.unwrapped
        held = [one for one in getattr(env, "__dict__", {}).values() if isinstance(one, gym.Env)]
        env = held[0] if len(held) == 1 else env  # a class of the user's around it
    return env


def inside(env: Any) -> list[Any]:
    """The objects that stepping `env` moves: a vector environment and those of its environments that can be seen."""
    if isinstance(env, gym.Env):
        return [innermost(env)]
    if not isinstance(env, gym.vector.VectorEnv):
        return []
    vector = env.unwrapped
    return [vector, *map(innermost, _environments(vector))]


def _environments(vector: Any) -> list[Any]:
    """The environments that a vector environment steps in this process."""
    found = getattr(vector, "envs", ())
    return [env for env in found if isinstance(env, gym.Env)] if isinstance(found, list | tuple) else []


def check_distinct(envs: Iterable[Any], name: str = "env", first: int = 0) -> None:
    """Checks that several environments are as many objects.

    Args:
        first: index of the first of them, for messages.

    Raises:
        ContractError: two of them are the same, or wrappers around the same.
    """
    seen: dict[int, int] = {}
    for i, one in enumerate(map(innermost, envs), start=first):
        if id(one) in seen:
            raise ContractError(
                f"`{name}`: environments {seen[id(one)]} and {i} are one and the same object, {_shown(one)}, or "
                "wrappers around it: each of them would step and reset the other. Pass a function that makes a new "
                "environment at each call, such as lambda: MyEnv(), not lambda: my_env; or the environment itself, to "
                "have one."
            )
        seen[id(one)] = i


def check_vector(vector: Any, name: str = "env") -> None:
    """`check_distinct` of the environments in a user's vector environment."""
    check_distinct(_environments(vector.unwrapped), name)


@contextlib.contextmanager
def training_on(env: Any) -> Iterator[None]:
    """Context in which `env` is being trained on, so that nothing else may step or reset it."""
    _in_training.append(env)
    try:
        yield
    finally:
        _in_training[:] = [one for one in _in_training if one is not env]


def check_not_in_training(env: Any, name: str = "env") -> None:
    """Raises ContractError for an environment that is being trained on, or holds one, or is a wrapper around one."""
    if not _in_training:
        return
    taken = {id(one) for training in _in_training for one in inside(training)}
    for one in inside(env):
        if id(one) in taken:
            whose = "the environment that is being trained on" if name == "env" else "`env` itself"
            raise ContractError(
                f"`{name}` is {whose} ({_shown(one)}), or a wrapper around it: stepping or resetting it here would "
                "change it under the training. Pass another one: a new instance, its id, or a function that makes a "
                "new environment at each call."
            )


def _shown(env: Any) -> str:
    return f"a {type(env).__name__}"
