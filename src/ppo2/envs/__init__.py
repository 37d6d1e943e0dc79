"""Environments: making them, their families and presets, and stepping them."""

from ppo2.envs.families import FAMILIES, Family, family_of
from ppo2.envs.making import DEFAULT_NUM_ENVS, Made, check_id, make, preset, resolve

__all__ = ["DEFAULT_NUM_ENVS", "FAMILIES", "Family", "Made", "check_id", "family_of", "make", "preset", "resolve"]
