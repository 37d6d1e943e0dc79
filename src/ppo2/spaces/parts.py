"""Spaces of several parts: Tuple and Dict, nested."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

AnySpace = gym.Space[Any]

COMPOSITE = (gym.spaces.Tuple, gym.spaces.Dict)
"""Spaces of several parts."""


def tree(space: AnySpace) -> Any:
    """Dicts and tuples, as observations and actions of `space` are made of, with the other spaces in them as leaves."""
    match space:
        case gym.spaces.Tuple():
            return tuple(tree(part) for part in space.spaces)
        case gym.spaces.Dict():
            return {key: tree(part) for key, part in space.spaces.items()}
    return space


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


def separate(space: AnySpace, actions: Any) -> Any:
    """The actions of a batch, one by one, each a member of `space`; those of a Box of rank 0 are arrays, as its
    `contains` requires.
    """
    match space:
        case gym.spaces.Tuple():
            return list(zip(*map(separate, space.spaces, actions), strict=True))
        case gym.spaces.Dict():
            parts = [separate(part, actions[key]) for key, part in space.spaces.items()]
            return [dict(zip(space.spaces, one, strict=True)) for one in zip(*parts, strict=True)]
    return [np.asarray(action) for action in actions] if space.shape == () and actions.dtype.kind == "f" else actions
