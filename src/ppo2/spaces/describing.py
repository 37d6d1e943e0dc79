"""Spaces as text and as trees."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

AnySpace = gym.Space[Any]
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
    """`space` as JSON; `from_description` is its inverse."""
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
            return {"kind": "Tuple", "spaces": [describe(part) for part in space.spaces]}
        case gym.spaces.Dict() if all(isinstance(key, str) for key in space.spaces):
            return {"kind": "Dict", "spaces": {key: describe(part) for key, part in space.spaces.items()}}
    raise TypeError(f"the space {space} isn't supported; known are {KNOWN_OBSERVATIONS}, and Tuple and Dict of these.")


def tree(space: AnySpace) -> Any:
    """Dicts and tuples, as observations and actions of `space` are made of, with the other spaces in them as leaves."""
    match space:
        case gym.spaces.Tuple():
            return tuple(tree(part) for part in space.spaces)
        case gym.spaces.Dict():
            return {key: tree(part) for key, part in space.spaces.items()}
    return space


COMPOSITE = (gym.spaces.Tuple, gym.spaces.Dict)
"""Spaces of several parts."""


def leaves(space: AnySpace, of: Any) -> list[Any]:
    """The parts of `of`, which has the structure of `tree(space)`, in the space's order."""
    match space:
        case gym.spaces.Tuple():
            return [leaf for part, own in zip(space.spaces, of, strict=True) for leaf in leaves(part, own)]
        case gym.spaces.Dict():
            return [leaf for key, part in space.spaces.items() for leaf in leaves(part, of[key])]
    return [of]


def mapped(function: Callable[..., Any], space: AnySpace, *of: Any) -> Any:
    """`function(leaf space, *parts)` of each leaf of `space`, in the structure of `tree(space)`."""
    match space:
        case gym.spaces.Tuple():
            return tuple(mapped(function, part, *own) for part, *own in zip(space.spaces, *of, strict=True))
        case gym.spaces.Dict():
            return {key: mapped(function, part, *(one[key] for one in of)) for key, part in space.spaces.items()}
    return function(space, *of)


def from_description(description: Mapping[str, Any]) -> AnySpace:
    """The space that `describe` described."""
    match description["kind"]:
        case "Discrete":
            n, start = description["n"], description["start"]
            return gym.spaces.Discrete(n, start=start, dtype=np.dtype(description["dtype"]).type)
        case "MultiDiscrete":
            nvec, start = np.array(description["nvec"]), np.array(description["start"])
            return gym.spaces.MultiDiscrete(nvec, start=start, dtype=np.dtype(description["dtype"]).type)
        case "MultiBinary":
            shape = description["shape"]
            return gym.spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
        case "Box":
            shape, dtype = tuple(description["shape"]), np.dtype(description["dtype"])
            low, high = (_full(description[side], shape, dtype) for side in ("low", "high"))
            return gym.spaces.Box(low, high, shape, dtype.type)
        case "Tuple":
            return gym.spaces.Tuple([from_description(part) for part in description["spaces"]])
        case "Dict":
            return gym.spaces.Dict({key: from_description(part) for key, part in description["spaces"].items()})
    raise ValueError(f"the space {dict(description)!r} isn't known.")


def _bound(bound: np.ndarray[Any, Any]) -> Any:
    """One number where all are equal (an image's description would be huge else), infinities as text."""
    numbers = [str(number) if not np.isfinite(number) else number for number in bound.ravel().tolist()]
    return numbers[0] if numbers and all(number == numbers[0] for number in numbers) else numbers


def _full(bound: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    numbers = np.array(bound, dtype)
    return np.broadcast_to(numbers.reshape(shape) if isinstance(bound, list) else numbers, shape).copy()
