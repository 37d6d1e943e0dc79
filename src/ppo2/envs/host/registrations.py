"""Environments that are registered in this process, for others, which don't run its script; without JAX."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import cloudpickle
import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator


def registered() -> dict[str, bytes]:
    """The specifications of all environments by id, pickled, as far as they can travel.

    All, as a script may register what it likes: one of Gymnasium's classes, or under one of its ids.
    """
    found: dict[str, bytes] = {}
    for name, spec in gym.registry.items():
        with contextlib.suppress(Exception):  # it is missed where it is used
            found[name] = cloudpickle.dumps(portable_spec(spec))
    return found


def take_up(environments: Mapping[str, bytes]) -> None:
    """Registers what was registered in the process that started this one."""
    for name, pickled in environments.items():
        with contextlib.suppress(Exception):  # of a module that isn't there: it is missed where it is used
            gym.registry[name] = cloudpickle.loads(pickled)


def portable_spec(spec: EnvSpec) -> EnvSpec:
    """A specification for another process: what it names in the script of this one (`entry_point="__main__:MyEnv"`)
    goes there itself.
    """
    found: dict[str, Any] = {}
    for attribute in ("entry_point", "vector_entry_point"):
        name = getattr(spec, attribute)
        if isinstance(name, str) and name.startswith("__main__:"):
            with contextlib.suppress(AttributeError, ValueError):  # whoever makes one will tell
                found[attribute] = load_env_creator(name)
    return dataclasses.replace(spec, **found) if found else spec
