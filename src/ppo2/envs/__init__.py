"""Environments: making them, their families and presets, and stepping them.

Names are imported when they are asked for, as the workers that step environments do without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppo2.envs.adapters import ADAPTERS, adapter_of
    from ppo2.envs.construction import DEFAULT_NUM_ENVS, AnyEnvs, Made, make, preset, resolve
    from ppo2.envs.device.env import DeviceEnv, DeviceVector, TimeLimit, is_device_env
    from ppo2.envs.families.ids import check_id
    from ppo2.envs.families.registry import DEVICE_FAMILIES, FAMILIES, Family, family_of
    from ppo2.envs.host.failures import EnvironmentFailureError
    from ppo2.envs.host.remote import RemoteEnvs

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

_MODULES = {
    "ADAPTERS": "adapters",
    "DEFAULT_NUM_ENVS": "construction",
    "DEVICE_FAMILIES": "families.registry",
    "FAMILIES": "families.registry",
    "AnyEnvs": "construction",
    "DeviceEnv": "device.env",
    "DeviceVector": "device.env",
    "EnvironmentFailureError": "host.failures",
    "Family": "families.registry",
    "Made": "construction",
    "RemoteEnvs": "host.remote",
    "TimeLimit": "device.env",
    "adapter_of": "adapters",
    "check_id": "families.ids",
    "family_of": "families.registry",
    "is_device_env": "device.env",
    "make": "construction",
    "preset": "construction",
    "resolve": "construction",
}
"""The module that defines each name."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"ppo2.envs.{_MODULES[name]}"), name)
