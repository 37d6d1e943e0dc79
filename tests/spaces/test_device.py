"""Observations on the device."""

import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from ppo2 import spaces
from support.spaces import BYTES, FLOATS

ENCODED = [
    # space, observation, what a network sees
    (Discrete(3), np.int32(1), np.float32([0, 1, 0])),
    (Discrete(3, start=-2), np.int32(0), np.float32([0, 0, 1])),
    (MultiDiscrete([2, 3]), np.int32([1, 0]), np.float32([0, 1, 1, 0, 0])),
    (MultiDiscrete([2, 2, 3, 2]), np.int32([1, 0, 2, 1]), np.float32([0, 1, 1, 0, 0, 0, 1, 0, 1])),
    (
        MultiDiscrete([[2, 1], [1, 2]], start=[[3, 0], [0, -1]]),
        np.int32([[4, 0], [0, -1]]),
        np.float32([0, 1, 1, 1, 1, 0]),
    ),
    (MultiBinary((2, 2)), np.int8([[0, 1], [1, 1]]), np.float32([[0, 1], [1, 1]])),
    (Box(-9, 9, (2,), np.float16), np.float16([0.5, -3]), np.float32([0.5, -3])),
    (Box(-9, 9, ()), np.float32(0.5), np.float32(0.5)),
    (Box(-9, 9, (2,), np.int32), np.int32([4, -3]), np.float32([4, -3])),
    (BYTES, np.uint8([0, 255]), np.float32([0, 255])),
    (Box(0, 1, (2, 1, 1), np.uint8), np.uint8([[[0]], [[1]]]), np.float32([[[0]], [[1]]])),
    (Box(0, 255, (2, 1, 1), np.uint8), np.uint8([[[0]], [[255]]]), np.uint8([[[0]], [[255]]])),
    (Box(0, 255, (2, 1), np.float64), np.float32([[0], [255]]), np.float32([[0], [1]])),
    (Box(0, 255, (2, 1), np.int32), np.int32([[0], [255]]), np.float32([[0], [1]])),
]


@pytest.mark.parametrize(("space", "obs", "expected"), ENCODED)
def test_encode_by_hand(space, obs, expected):
    one = jax.jit(lambda x: spaces.encode(space, x))
    found = one(obs)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert found.shape == expected.shape


def test_the_first_rules_took_every_byte_for_a_pixel():
    for space in (BYTES, Box(0, 1, (2,), np.uint8)):
        assert spaces.encode(space, np.uint8([0, 1]), 1).dtype == np.uint8
    floats = np.float32([[51], [255]])
    np.testing.assert_array_equal(spaces.encode(Box(0, 255, (2, 1)), floats, 1), floats)


@pytest.mark.parametrize(
    ("space", "obs", "wrong"),
    [
        (Discrete(3), [0, 2, 3, -1], [False, False, True, True]),
        (Discrete(3, start=5), [5, 7, 4, 8], [False, False, True, True]),
        (MultiDiscrete([2, 3]), [[1, 2], [2, 0], [0, 3], [-1, 0]], [False, True, True, True]),
        (MultiDiscrete([[2], [3]], start=[[1], [0]]), [[[1], [2]], [[0], [0]], [[3], [0]]], [False, True, True]),
        (MultiBinary(2), [[0, 1], [2, 0], [0, -1]], [False, True, True]),
        (BYTES, [[0, 255], [1, 2]], [False, False]),
        (FLOATS, [[9.0, 9], [0, 0]], [False, False]),
    ],
)
def test_out_of_range_on_the_device(space, obs, wrong):
    # two steps of len(obs) environments, the second with the environments in reverse
    obs = np.stack([obs, obs[::-1]]).astype(spaces.device_dtype(space))
    found = jax.jit(lambda x: spaces.out_of_range(space, x))(obs)
    np.testing.assert_array_equal(found, [wrong, wrong[::-1]])
