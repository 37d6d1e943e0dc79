"""Environments: making them, their families and presets, and stepping them.

Names are imported when they are asked for, as the workers that step environments do without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppo2.envs.adapters import ADAPTERS, adapter_of, is_on_device
    from ppo2.envs.construction import DEFAULT_NUM_ENVS, AnyEnvs, Made, inherited, make, resolve
    from ppo2.envs.device.env import DeviceEnv, DeviceVector, TimeLimit, is_device_env
    from ppo2.envs.families.ids import check_id
    from ppo2.envs.families.registry import DEVICE_FAMILIES, FAMILIES, Family, family_of, family_with
    from ppo2.envs.host.failures import EnvironmentFailureError
    from ppo2.envs.host.remote import RemoteEnvs
    from ppo2.envs.presets import preset

__all__ = [
    "ADAPTERS", "DEFAULT_NUM_ENVS", "DEVICE_FAMILIES", "FAMILIES", "AnyEnvs", "DeviceEnv", "DeviceVector",
    "EnvironmentFailureError", "Family", "Made", "RemoteEnvs", "TimeLimit", "adapter_of", "check_id", "family_of",
    "family_with", "inherited", "is_device_env", "is_on_device", "make", "preset", "resolve",
]  # fmt: skip

_MODULES = {
    "adapters": ("ADAPTERS", "adapter_of", "is_on_device"),
    "construction": ("DEFAULT_NUM_ENVS", "AnyEnvs", "Made", "inherited", "make", "resolve"),
    "device.env": ("DeviceEnv", "DeviceVector", "TimeLimit", "is_device_env"),
    "families.ids": ("check_id",),
    "families.registry": ("DEVICE_FAMILIES", "FAMILIES", "Family", "family_of", "family_with"),
    "host.failures": ("EnvironmentFailureError",),
    "host.remote": ("RemoteEnvs",),
    "presets": ("preset",),
}
"""Modules and the names that each defines."""


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"ppo2.envs.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
