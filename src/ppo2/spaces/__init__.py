"""Gymnasium spaces: as text, as checked input, as what a network sees, and as what an environment wants.

Observations and actions of a Dict or Tuple are dicts and tuples of arrays, nested as the space is. What is for the
device is imported when it is asked for: the workers that step environments do without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ppo2.spaces.checks import (
    MASK_KEY,
    MASK_METHOD,
    check_legal,
    check_observation_space,
    device_dtype,
    find_not_finite,
    integer_range,
    is_masked,
    is_narrowed,
    observation,
    same_space,
    unmasked,
    zeros,
)
from ppo2.spaces.images import (
    ENCODING,
    Place,
    channels_place,
    gets_cnn,
    has_statistics,
    is_image,
    is_scaled,
    looks_like_image,
)
from ppo2.spaces.parts import COMPOSITE, AnySpace, leaves, mapped, separate, tree
from ppo2.spaces.space_json import Spec, describe, from_description

if TYPE_CHECKING:
    from ppo2.spaces.device import all_finite, encode, not_finite_part, on_device, out_of_range, part_names

__all__ = [
    "COMPOSITE",
    "ENCODING",
    "MASK_KEY",
    "MASK_METHOD",
    "AnySpace",
    "Place",
    "Spec",
    "all_finite",
    "channels_place",
    "check_legal",
    "check_observation_space",
    "describe",
    "device_dtype",
    "encode",
    "find_not_finite",
    "from_description",
    "gets_cnn",
    "has_statistics",
    "integer_range",
    "is_image",
    "is_masked",
    "is_narrowed",
    "is_scaled",
    "leaves",
    "looks_like_image",
    "mapped",
    "not_finite_part",
    "observation",
    "on_device",
    "out_of_range",
    "part_names",
    "same_space",
    "separate",
    "tree",
    "unmasked",
    "zeros",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("ppo2.spaces.device"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
