"""Actions: as what an environment wants."""

from typing import Any

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from ppo2.spaces.describing import AnySpace
from ppo2.spaces.observing import device_dtype


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
        converted = _between(space, np.tanh(converted))
    converted = converted.astype(space.dtype, copy=False)
    match space:
        case gym.spaces.Discrete() | gym.spaces.MultiDiscrete():
            converted = converted + space.start
        case gym.spaces.Box():
            converted = converted.clip(space.low, space.high)
    return converted


def to_device_environment(
    space: AnySpace, action: PyTree[Shaped[Array, "..."]], *, squash: bool = False
) -> PyTree[Shaped[Array, "..."]]:
    """`to_environment` for one action, on the device; 64 bits become 32."""
    match space:
        case gym.spaces.Tuple():
            pairs = zip(space.spaces, action, strict=True)
            return tuple(to_device_environment(part, own, squash=squash) for part, own in pairs)
        case gym.spaces.Dict():
            return {k: to_device_environment(part, action[k], squash=squash) for k, part in space.spaces.items()}
    converted = action.reshape(space.shape or ())
    if squash and isinstance(space, gym.spaces.Box):
        converted = _between(space, jnp.tanh(converted))
    converted = converted.astype(device_dtype(space))
    match space:
        case gym.spaces.Discrete() | gym.spaces.MultiDiscrete():
            converted = converted + jnp.asarray(space.start, converted.dtype)
        case gym.spaces.Box():
            converted = jnp.clip(converted, space.low.astype(converted.dtype), space.high.astype(converted.dtype))
    return converted


def _between(space: gym.spaces.Box, share: Any) -> Any:
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
