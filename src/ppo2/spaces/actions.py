"""Actions: as what an environment wants."""

from typing import Any

import gymnasium as gym
import numpy as np

from ppo2.spaces.space_json import AnySpace


def to_environment(space: AnySpace, actions: Any, *, squash: bool = False) -> Any:
    """Actions (N, *inner) of the distribution as the environment wants them, (N, *shape), and in its dtype.

    `start` is added; a Box's are clipped to its bounds, and only here: the log-probability belongs to what was sampled.
    Those of a Tuple or Dict are a tuple or dict of arrays, before and after.

    Args:
        squash: a Box's numbers go through tanh to between its bounds: see `ActionDistribution.squashes`.
    """
    match space:
        case gym.spaces.Tuple():
            pairs = zip(space.spaces, actions, strict=True)
            return tuple(to_environment(part, own, squash=squash) for part, own in pairs)
        case gym.spaces.Dict():
            return {k: to_environment(part, actions[k], squash=squash) for k, part in space.spaces.items()}
    converted: np.ndarray[Any, Any] = actions.reshape(len(actions), *(space.shape or ()))
    if squash and isinstance(space, gym.spaces.Box):
        converted = between(space, np.tanh(converted))
    converted = converted.astype(space.dtype, copy=False)
    match space:
        case gym.spaces.Discrete() | gym.spaces.MultiDiscrete():
            converted = converted + space.start
        case gym.spaces.Box():
            converted = converted.clip(space.low, space.high)
    return converted


def between(space: gym.spaces.Box, share: Any) -> Any:
    """From [-1, 1] to between the bounds, whose difference may be too large for a float."""
    return (1 - share) / 2 * space.low + (1 + share) / 2 * space.high


def separate(space: AnySpace, actions: Any) -> Any:
    """A batch of actions, to be taken one by one: each a member of `space` as its `contains` asks, in which those of a
    Box of rank 0 are arrays.
    """
    match space:
        case gym.spaces.Tuple():
            return list(zip(*map(separate, space.spaces, actions), strict=True))
        case gym.spaces.Dict():
            parts = [separate(part, actions[key]) for key, part in space.spaces.items()]
            return [dict(zip(space.spaces, one, strict=True)) for one in zip(*parts, strict=True)]
    return [np.asarray(action) for action in actions] if space.shape == () and actions.dtype.kind == "f" else actions
