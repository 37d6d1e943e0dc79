"""Environments: making them, their families and presets, and stepping them."""

from ppo2.envs.adapters import ADAPTERS
from ppo2.envs.adapters import split as adapter_of
from ppo2.envs.device import DeviceEnv, DeviceVector, TimeLimit, is_device_env
from ppo2.envs.families import DEVICE_FAMILIES, FAMILIES, Family, family_of
from ppo2.envs.making import DEFAULT_NUM_ENVS, AnyEnvs, Made, check_id, make, preset, resolve

__all__ = [
    "ADAPTERS",
    "DEFAULT_NUM_ENVS",
    "DEVICE_FAMILIES",
    "FAMILIES",
    "AnyEnvs",
    "DeviceEnv",
    "DeviceVector",
    "Family",
    "Made",
    "TimeLimit",
    "adapter_of",
    "check_id",
    "family_of",
    "is_device_env",
    "make",
    "preset",
    "resolve",
]
