"""The first environment of several, made and checked: what it is shows what all are."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium.error
from gymnasium.vector import VectorEnv

from ppo2 import spaces
from ppo2.distributions import action_distribution
from ppo2.envs.families.arguments import constructor_arguments
from ppo2.envs.families.factories import MaskedFactory, Options, OwnFactory
from ppo2.envs.families.ids import spec_of
from ppo2.envs.families.keywords import name_of
from ppo2.envs.families.masks import METHOD, MaskedEnv, MaskedVectorEnv, has_method
from ppo2.envs.families.registry import family_of
from ppo2.envs.host import contract, identity
from ppo2.envs.host.constructors import ConstructorError, made_by
from ppo2.envs.host.contract import SHIMMY
from ppo2.envs.host.env_types import AnyEnv, Factory
from ppo2.spaces import MASK_KEY, MASK_METHOD

SLOW_RESET_SECONDS = 2e-4
"""Seconds of a reset above which an unregistered environment is stepped on trial: a faster one may count its steps."""


class First(NamedTuple):
    """The first environment, a factory of others, and True if the first may be stepped on trial."""

    env: AnyEnv
    factory: Factory
    may_try: bool


def first_of(
    env_id: str | Callable[..., Any], kwargs: Mapping[str, Any], options: Options, name: str = "env_id"
) -> First:
    """The first environment of an id or a factory, an argument called `name`."""
    if not isinstance(env_id, str):
        own = OwnFactory(env_id, kwargs, options)
        how = "Give its arguments by name, in env_kwargs={...}."
        return checked(made_by(own, f"`{name}` (={name_of(env_id)})", how), own)
    spec, family = spec_of(env_id), family_of(env_id)
    factory = family.factory(spec, kwargs, options)
    try:
        how = f"Give its arguments by name: ppo2.make({env_id!r}, NAME=...)."
        if kwargs:
            how += f" Those known are {', '.join(constructor_arguments(env_id).known)}."
        first = made_by(factory, f"`env` (={env_id!r})", how)
    except ConstructorError as error:
        cause = error.__cause__
        if isinstance(cause, gymnasium.error.DependencyNotInstalled | ImportError) and family.remedy:
            raise ValueError(
                f"`env` (={env_id!r}) needs a package that isn't installed: {family.remedy} (It says: {cause})"
            ) from cause
        if isinstance(cause, TypeError) and "Gym is incompatible with Gymnasium" in str(cause):
            raise ConstructorError(
                f"`env` (={env_id!r}) makes an environment of the old package gym, which Gymnasium doesn't take: "
                f"convert it with the package shimmy: {SHIMMY}."
            ) from cause
        if family.remark is None or not isinstance(cause, AttributeError):
            raise
        raise ValueError(f"`env` (={env_id!r}) could not be made ({cause}): {family.remark}") from cause
    return checked(first, factory)


def checked(env: AnyEnv, factory: Factory, name: str = "env") -> First:
    """An environment and the factory that made it, both with masks in the observations if it gives any."""
    check(env, name)
    began = time.perf_counter()
    masked = with_mask(env, name)
    may_try = env.spec is not None or time.perf_counter() - began > SLOW_RESET_SECONDS
    return First(masked, factory if masked is env else MaskedFactory(factory, by_method=masked.by_method), may_try)


def check(env: Any, name: str = "env") -> None:
    """Checks an environment before its first reset.

    Raises:
        ValueError: it must not be reset, as it is being trained on; it is several times the same object; or `reset`
            doesn't take Gymnasium's arguments.
        TypeError: a space is missing.
    """
    contract.check_members(env, name)
    identity.check_not_in_training(env, name)
    if isinstance(env, VectorEnv):
        identity.check_vector(env, name)


def with_mask(env: Any, name: str = "env") -> Any:
    """An environment, with action masks in its observations if it gives any, as a reset shows: in `info`, or by a
    method `action_masks`, as sb3-contrib has it.

    Raises:
        ValueError: `reset` breaks Gymnasium's contract; or its actions can't be masked.
        TypeError: actions that no policy can take.
    """
    prefix = "single_" if isinstance(env, VectorEnv) else ""
    action_space = getattr(env, f"{prefix}action_space")
    distribution = action_distribution(action_space)
    _, info = contract.unpack_reset(env, env.reset())
    by_method = MASK_KEY not in info and has_method(env)
    if spaces.is_masked(getattr(env, f"{prefix}observation_space")):
        return env
    if not (by_method or MASK_KEY in info):
        if MASK_METHOD in info:
            raise ValueError(
                f"`{name}` gives info[{MASK_METHOD!r}] at a reset; masks are read from info[{MASK_KEY!r}]."
            )
        return env
    if not distribution.can_be_masked:
        raise ValueError(
            f"`{name}` gives {METHOD if by_method else f'info[{MASK_KEY!r}]'}, but its actions are {action_space}: "
            "masks are for Discrete and MultiDiscrete, and Tuple and Dict of these. Leave it out."
        )
    return (MaskedVectorEnv if isinstance(env, VectorEnv) else MaskedEnv)(env, by_method=by_method)
