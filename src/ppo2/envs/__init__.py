"""Environments: making them, their families and presets, and stepping them.

What is here is imported when it is asked for: the workers that step environments do without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppo2.envs.adapters import ADAPTERS
    from ppo2.envs.adapters import split as adapter_of
    from ppo2.envs.device import DeviceEnv, DeviceVector, TimeLimit, is_device_env
    from ppo2.envs.failures import EnvironmentFailureError
    from ppo2.envs.families import DEVICE_FAMILIES, FAMILIES, Family, family_of
    from ppo2.envs.ids import check_id
    from ppo2.envs.making import DEFAULT_NUM_ENVS, AnyEnvs, Made, make, preset, resolve
    from ppo2.envs.remote import RemoteEnvs

__all__ = [
    "ADAPTERS",
    "DEFAULT_NUM_ENVS",
    "DEVICE_FAMILIES",
    "FAMILIES",
    "AnyEnvs",
    "DeviceEnv",
    "DeviceVector",
    "EnvironmentFailureError",
    "Family",
    "Made",
    "RemoteEnvs",
    "TimeLimit",
    "adapter_of",
    "check_id",
    "family_of",
    "is_device_env",
    "make",
    "preset",
    "resolve",
]

_ROOMS = ("making", "ids", "failures", "families", "device", "remote", "adapters")


def __getattr__(name: str) -> Any:
    if name in __all__:
        sought = "split" if name == "adapter_of" else name
        for room in _ROOMS:
            found = vars(importlib.import_module(f"ppo2.envs.{room}"))
            if sought in found:
                return found[sought]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
