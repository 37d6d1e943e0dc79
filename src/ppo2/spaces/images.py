"""Images among observations, by what is declared; without JAX, for the workers that step environments."""

from typing import Literal, TypeAlias, TypeGuard

import gymnasium as gym
import numpy as np

from ppo2.spaces.parts import AnySpace

ENCODING = 2
"""Number of the rules by which observations become a network's input. A model keeps those it was trained with.

| number | images, which are scaled from 0..255 to 0..1 | statistics of `normalize_obs` | channels first |
|---|---|---|---|
| 1 | every Box of uint8 | Boxes of floats | at most 4, and fewer than the last axis has |
| 2 | `is_image` | Boxes that are no images | fewer than the two other axes have |
"""

MOST_CHANNELS = 4
"""Largest first axis that encoding 1 takes for the channels: a colour image, or four grey frames."""
LEAST_SIDE = 8
"""Pixels of a side from which numbers other than 0..255 are taken for an image, where that only decides about advice
and about the stacking of frames."""

Place: TypeAlias = Literal["first", "last"]


def is_image(space: AnySpace) -> bool:
    """True for what is declared 0..255, of any dtype, with an image's axes: (height, width), and the channels on
    either side.
    """
    return _has_axes(space) and bool(np.all(space.low == 0) and np.all(space.high == 255))


def _has_axes(space: AnySpace) -> TypeGuard[gym.spaces.Box]:
    """True for an array with an image's axes."""
    return isinstance(space, gym.spaces.Box) and len(space.shape) in (2, 3) and 0 not in space.shape


def is_scaled(space: AnySpace, encoding: int = ENCODING) -> bool:
    """True if observations of `space` are divided by 255."""
    if encoding == 1:
        return isinstance(space, gym.spaces.Box) and space.dtype == np.uint8
    return is_image(space)


def gets_cnn(space: AnySpace, encoding: int = ENCODING) -> bool:
    """True for a part of an observation that is encoded by a convolutional network, if it is large enough."""
    return is_scaled(space, encoding) and (encoding > 1 or len(space.shape or ()) == 3)


def has_statistics(space: AnySpace, encoding: int = ENCODING) -> bool:
    """True if the normaliser keeps statistics of `space`'s observations."""
    if not isinstance(space, gym.spaces.Box):
        return False
    return bool(np.issubdtype(space.dtype, np.floating)) if encoding == 1 else not is_image(space)


def looks_like_image(space: AnySpace) -> bool:
    """True for an image, and for what may be one: a large enough Box of two or three axes with one pair of bounds."""
    if is_image(space):
        return True
    if not _has_axes(space):
        return False
    *_, height, width = sorted(space.shape)
    alike = np.all(space.low == space.low.flat[0]) and np.all(space.high == space.high.flat[0])
    return bool(min(height, width) >= LEAST_SIDE and alike and space.is_bounded())


def channels_place(shape: tuple[int, ...], encoding: int = ENCODING) -> Place:
    """The place of the channels in an image of three axes, of which they are fewest."""
    if encoding == 1:
        return "first" if shape[0] <= MOST_CHANNELS and shape[0] < shape[2] else "last"
    return "first" if shape[0] < shape[2] and shape[0] < shape[1] else "last"
