"""Spaces as text, and back."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from ppo2.spaces.parts import COMPOSITE, AnySpace

KNOWN_OBSERVATIONS = "Box, Discrete, MultiDiscrete and MultiBinary"


class Spec:
    """A space that can be hashed and compared, for the static part of compiled programs and for files.

    Raises:
        TypeError: the space is of a kind that isn't known.
    """

    def __init__(self, space: AnySpace) -> None:
        self.space = space
        self.text = json.dumps(describe(space), sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Spec({self.space})"


def describe(space: AnySpace) -> dict[str, Any]:
    """`space` as JSON; `from_description` is its inverse.

    Raises:
        TypeError: it is of a kind that isn't known, or has more than `MOST_PARTS` parts.
    """
    if _count(space) > MOST_PARTS:
        raise TypeError(
            f"a space of more than {MOST_PARTS:,} parts isn't supported: put the parts of a kind into one array (a "
            "Box, a MultiDiscrete)."
        )
    return _describe(space)


def _count(space: AnySpace) -> int:
    """The number of spaces that a space is made of, itself included."""
    parts = space.spaces.values() if isinstance(space, gym.spaces.Dict) else getattr(space, "spaces", ())
    return 1 + sum(map(_count, parts)) if isinstance(space, COMPOSITE) else 1


def _describe(space: AnySpace) -> dict[str, Any]:
    dtype = np.dtype(space.dtype).name if space.dtype is not None else ""
    match space:
        case gym.spaces.Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": dtype}
        case gym.spaces.MultiDiscrete():
            return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist(), "dtype": dtype}
        case gym.spaces.MultiBinary():
            return {"kind": "MultiBinary", "shape": list(space.shape)}
        case gym.spaces.Box():
            low, high = _bound(space.low), _bound(space.high)
            return {"kind": "Box", "low": low, "high": high, "shape": list(space.shape), "dtype": dtype}
        case gym.spaces.Tuple():
            return {"kind": "Tuple", "spaces": [_describe(part) for part in space.spaces]}
        case gym.spaces.Dict() if all(isinstance(key, str) for key in space.spaces):
            return {"kind": "Dict", "spaces": {key: _describe(part) for key, part in space.spaces.items()}}
    raise TypeError(f"the space {space} isn't supported; known are {KNOWN_OBSERVATIONS}, and Tuple and Dict of these.")


def from_description(description: Any) -> AnySpace:
    """The space that `describe` described.

    Raises:
        ValueError: it described none, or one whose observations are larger than `LARGEST_BYTES`, or of more parts than
            `MOST_PARTS`.
    """
    try:
        return _from_description(description, _Budget(LARGEST_BYTES, MOST_PARTS))
    except (KeyError, TypeError, AttributeError, AssertionError, IndexError, OverflowError, MemoryError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


LARGEST_BYTES = 2**25
"""Most bytes of one observation that a file describes, so that a hostile one takes no more memory."""
MOST_PARTS = 1000
"""Most spaces that a space is made of: programs take about a millisecond to be made for each."""

DTYPES = {"bool", *(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64))}
"""Known dtypes: NumPy reads whole structures of any size from other text."""


@dataclasses.dataclass
class _Budget:
    """Bytes and parts that are left for a space, which all its parts share."""

    bytes: int
    parts: int


def _from_description(description: Any, budget: _Budget) -> AnySpace:
    budget.parts -= 1
    if budget.parts < 0:
        raise ValueError(f"it has more than {MOST_PARTS:,} parts.")
    match description["kind"]:
        case "Discrete":
            n, start = _whole(description["n"]), _whole(description["start"])
            return gym.spaces.Discrete(n, start=start, dtype=_dtype(description).type)
        case "MultiDiscrete":
            dtype = _dtype(description)
            first, nvec = (np.array(_each_whole(description[name]), dtype) for name in ("start", "nvec"))
            return gym.spaces.MultiDiscrete(nvec, start=first, dtype=dtype.type)
        case "MultiBinary":
            shape = _shape(description, np.dtype(np.int8), budget)
            return gym.spaces.MultiBinary(shape[0] if len(shape) == 1 else list(shape))
        case "Box":
            dtype = _dtype(description)
            shape = _shape(description, dtype, budget)
            low, high = (_full(description[side], shape, dtype) for side in ("low", "high"))
            return gym.spaces.Box(low, high, shape, dtype.type)
        case "Tuple":
            return gym.spaces.Tuple([_from_description(part, budget) for part in description["spaces"]])
        case "Dict":
            parts = description["spaces"].items()
            return gym.spaces.Dict({key: _from_description(part, budget) for key, part in parts})
    raise ValueError(f"the space {description['kind']!r} isn't known.")


def _dtype(description: Mapping[str, Any]) -> np.dtype[Any]:
    if description["dtype"] not in DTYPES:
        raise ValueError(f"the dtype {description['dtype']!r} isn't known.")
    dtype: np.dtype[Any] = np.dtype(description["dtype"])
    return dtype


def _shape(description: Mapping[str, Any], dtype: np.dtype[Any], budget: _Budget) -> tuple[int, ...]:
    shape = tuple(_whole(size) for size in description["shape"])
    budget.bytes -= math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or budget.bytes < 0:
        raise ValueError(f"the shape {shape} of {dtype} can't be: an observation may take {LARGEST_BYTES:,} bytes.")
    return shape


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def _each_whole(values: Any) -> Any:
    return [_each_whole(value) for value in values] if isinstance(values, list) else _whole(values)


def _bound(bound: np.ndarray[Any, Any]) -> Any:
    """One number where all are equal (an image's description would be huge else), infinities as text."""
    flat = bound.ravel()
    equal = flat.size > 0 and bool(np.all(flat == flat[0]))
    numbers = [number if np.isfinite(number) else str(number) for number in flat[: 1 if equal else None].tolist()]
    return numbers[0] if equal else numbers


def _full(bound: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The inverse of `_bound`."""
    numbers = np.array(bound, dtype)
    return np.broadcast_to(numbers.reshape(shape) if isinstance(bound, list) else numbers, shape).copy()
