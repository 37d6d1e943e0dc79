"""Gymnasium spaces: as text, as checked input, as what a network sees, and as what an environment wants.

Observations and actions of a Dict or Tuple are dicts and tuples of arrays, nested as the space is.
"""

from ppo2.spaces.acting import separate, to_device_environment, to_environment
from ppo2.spaces.describing import AnySpace, Spec, describe, from_description, tree
from ppo2.spaces.observing import (
    all_finite,
    check_legal,
    check_observation_space,
    device_dtype,
    encode,
    is_float_box,
    is_masked,
    observation,
    on_device,
    out_of_range,
    room,
    unmasked,
)

__all__ = [
    "AnySpace",
    "Spec",
    "all_finite",
    "check_legal",
    "check_observation_space",
    "describe",
    "device_dtype",
    "encode",
    "from_description",
    "is_float_box",
    "is_masked",
    "observation",
    "on_device",
    "out_of_range",
    "room",
    "separate",
    "to_device_environment",
    "to_environment",
    "tree",
    "unmasked",
]
