"""Images among observations."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary

from ppo2 import spaces


@pytest.mark.parametrize(
    ("space", "is_image"),
    [
        (Box(0, 255, (84, 84, 4), np.uint8), True),
        (Box(0, 255, (3, 64, 64), np.uint8), True),
        (Box(0, 255, (84, 84), np.uint8), True),
        (Box(0, 255, (84, 84, 3), np.float32), True),
        (Box(0, 255, (84, 84, 3), np.int64), True),
        (Box(0, 255, (128,), np.uint8), False),  # the memory of a console
        (Box(0, 255, (2, 84, 84, 3), np.uint8), False),
        (Box(0, 10, (7, 7, 3), np.uint8), False),  # codes
        (Box(0, 254, (84, 84, 3), np.uint8), False),
        (Box(0, 1, (84, 84, 3), np.float32), False),
        (Box(-128, 127, (84, 84, 3), np.int8), False),
        (Box(0, 255, (0, 84), np.uint8), False),
        (Discrete(256), False),
        (MultiBinary((8, 8)), False),
    ],
)
def test_images_are_what_is_declared_so(space, is_image):
    assert spaces.is_image(space) == is_image
    assert spaces.is_scaled(space) == is_image
    assert spaces.gets_cnn(space) == is_image
    assert spaces.has_statistics(space) == (isinstance(space, Box) and not is_image)


def test_the_first_rules():
    """Models that were saved before scale bytes, and have statistics of floats."""
    codes, floats = Box(0, 9, (4,), np.uint8), Box(0, 255, (8, 8, 3))
    assert spaces.is_scaled(codes, 1)
    assert not spaces.is_scaled(floats, 1)
    assert spaces.has_statistics(floats, 1)
    assert not spaces.has_statistics(codes, 1)
    assert not spaces.has_statistics(Box(0, 9, (4,), np.int32), 1)
    assert not spaces.gets_cnn(Box(0, 255, (84, 84), np.uint8), 1)
    assert spaces.channels_place((9, 64, 64), 1) == "last"
    assert spaces.channels_place((4, 64, 64), 1) == "first"
    assert spaces.channels_place((4, 3, 64), 1) == "first"


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Box(0, 1, (24, 24, 3)), True),
        (Box(-1, 1, (3, 24, 24)), True),
        (Box(0, 1, (24, 24)), True),
        (Box(0, 1, (7, 7, 3)), False),
        (Box(-np.inf, np.inf, (24, 24)), False),
        (Box(np.zeros((9, 9)), np.arange(81).reshape(9, 9) + 1.0, dtype=np.float64), False),
        (Box(0, 1, (24,)), False),
        (Discrete(3), False),
    ],
)
def test_what_may_be_an_image(space, expected):
    assert spaces.looks_like_image(space) == expected


@pytest.mark.parametrize(
    ("shape", "place"),
    [((9, 64, 64), "first"), ((64, 64, 9), "last"), ((3, 24, 3), "last"), ((3, 3, 3), "last"), ((1, 8, 8), "first")],
)
def test_channels_are_the_fewest(shape, place):
    assert spaces.channels_place(shape) == place


def test_bounds_of_floats_meant_nothing_under_the_first_rules():
    old, new = Box(0, 255, (7, 7, 3)), Box(0, 10, (7, 7, 3))
    assert not spaces.same_space(old, new)
    assert spaces.same_space(old, new, 1)
    assert not spaces.same_space(old, Box(0, 10, (7, 7, 4)), 1)
    assert not spaces.same_space(Box(0, 9, (7,), np.uint8), Box(0, 8, (7,), np.uint8), 1)
