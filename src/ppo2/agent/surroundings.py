"""Surroundings of this process for others that it starts, which run no script of the user's."""

import contextlib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from ppo2 import networks
from ppo2.agent.pickling import packed, unpacked
from ppo2.envs.host import registrations
from ppo2.system import processors, runtime

OWN_SETTINGS = ("jax_platforms", "jax_num_cpu_devices", "jax_default_device")
"""JAX's settings that each process makes for itself."""


class Surroundings(NamedTuple):
    """Settings and registrations of this process, for another, which runs no script of the user's, to compute alike.

    Attributes:
        processors: see `processors.take_share`.
        jax_settings: values of JAX's settings here.
        builders: networks that were registered, by name; those that can travel, pickled.
        environments: see `registrations.registered`.
        argv: arguments of the program, for factories that read them.
    """

    processors: int
    jax_settings: Mapping[str, Any]
    builders: Mapping[str, bytes]
    environments: Mapping[str, bytes]
    argv: list[str]

    @classmethod
    def here(cls) -> "Surroundings":
        plain = bool | int | float | str | None
        values = {name: getattr(jax.config, name, value) for name, value in jax.config.values.items()}
        kept = {name: value for name, value in values.items() if isinstance(value, plain) and name not in OWN_SETTINGS}
        builders = {n: b for n, b in networks.known().items() if not _is_part_of(getattr(b, "__module__", ""), "ppo2")}
        own = _pickled(builders), registrations.registered()
        return cls(processors.usable_processors(), kept, *own, list(sys.argv))

    def take_up(self) -> None:
        """Makes this process compute like that one."""
        sys.argv[:] = self.argv
        for name, value in self.jax_settings.items():
            if name in jax.config.values and jax.config.values[name] != value:
                jax.config.update(name, value)
        for name, pickled in self.builders.items():
            if name not in networks.known():
                with contextlib.suppress(Exception):  # of a module that isn't there: it is missed where it is used
                    networks.register(name)(unpacked(pickled))
        registrations.take_up(self.environments)


def environment_variables() -> dict[str, str]:
    """Environment variables by which another process of Python finds the same modules and computes alike."""
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    alone = {"PPO2_ALONE": "1"}  # whatever has started this process
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", **alone, **alike()}


def alike() -> dict[str, str]:
    """Environment variables by which another process comes to the same bits."""
    return {**processors.xla_threads(), **runtime.cpu_devices_variable()}


def _pickled(objects: Mapping[str, Any]) -> dict[str, bytes]:
    """The objects that can travel, each by itself."""
    found: dict[str, bytes] = {}
    for name, one in objects.items():
        try:
            found[name] = packed(one)
        except Exception:  # it is missed where it is used
            continue
    return found


def _is_part_of(place: Any, package: str) -> bool:
    return isinstance(place, str) and re.match(rf"{package}\b", place) is not None
