"""Checks of observations and their spaces."""

import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from ppo2 import spaces
from support.spaces import BYTES, FLOATS, IMAGE, SPACES, UNKNOWN


@pytest.mark.parametrize("space", [*(space for space, _ in UNKNOWN), Tuple(()), Dict()], ids=str)
def test_unknown_observation_spaces_are_refused(space):
    with pytest.raises(TypeError) as error:
        spaces.check_observation_space(space)
    for part in (f"`env` has the observation space {space};", "Discrete", "Wrap", "FlattenObservation"):
        assert part in str(error.value)
    assert hasattr(gym.wrappers, "FlattenObservation")
    assert hasattr(gym.wrappers, "TransformObservation")


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_known_observation_spaces_are_not_refused(space):
    spaces.check_observation_space(space)


@pytest.mark.parametrize(
    ("space", "given", "expected"),
    [
        (FLOATS, [0.5, 1], np.float32([0.5, 1])),
        (FLOATS, np.array([0.1, 0.2]), np.float32([0.1, 0.2])),
        (FLOATS, np.float16([0.5, 1]), np.float32([0.5, 1])),
        (FLOATS, np.array([3, -5]), np.float32([3, -5])),  # float bounds are not enforced
        (FLOATS, np.array([True, False]), np.float32([1, 0])),
        (Box(-1, 1, (), np.float64), 0.1, np.float64(0.1)),
        (BYTES, np.array([0, 255]), np.uint8([0, 255])),
        (BYTES, np.array([True, False]), np.uint8([1, 0])),
        (Box(0, 9, (2,), np.uint8), [10, 200], np.uint8([10, 200])),  # within the dtype, as for floats
        (Box(-9, 9, (1,), np.int64), np.uint64([2**63 - 1]), np.array([2**63 - 1])),
        (Discrete(3), 2, np.int64(2)),
        (Discrete(3), np.uint8(2), np.int64(2)),
        (Discrete(3, start=-1), -1, np.int64(-1)),
        (MultiDiscrete([2, 3]), np.int8([1, 2]), np.array([1, 2])),
        (MultiDiscrete([[2, 3]], start=[[5, -5]]), [[6, -3]], np.array([[6, -3]])),
        (MultiBinary(2), [True, False], np.int8([1, 0])),
        (MultiBinary((1, 2)), [[1, 0]], np.int8([[1, 0]])),
        (Box(0, 1, (2,), np.bool_), [True, False], np.array([True, False])),
    ],
)
def test_observations_are_cast(space, given, expected):
    array, single = spaces.observation(space, given)
    assert single
    assert (array.dtype, array.shape) == (space.dtype, (1, *space.shape))
    np.testing.assert_array_equal(array[0], expected)
    array, single = spaces.observation(space, np.stack([given] * 3))
    assert not single
    assert (array.dtype, array.shape) == (space.dtype, (3, *space.shape))
    np.testing.assert_array_equal(array, np.stack([expected] * 3))


def test_an_empty_batch_is_a_batch():
    array, single = spaces.observation(FLOATS, np.zeros((0, 2)))
    assert (array.shape, array.dtype, single) == ((0, 2), np.float32, False)
    assert spaces.observation(Discrete(2), np.zeros(0, int))[0].shape == (0,)


def test_one_of_a_batch_is_not_taken_for_one_alone():
    assert spaces.observation(FLOATS, np.zeros((1, 2)))[1] is False
    assert spaces.observation(Discrete(2), [1])[1] is False


@pytest.mark.parametrize(
    ("space", "given", "wanted"),
    [
        (FLOATS, np.zeros(3), "wants (2,) for one observation or (n, 2) for a batch of n."),
        (FLOATS, np.zeros((2, 3)), "wants (2,) for one observation or (n, 2) for a batch of n."),
        (FLOATS, 0.5, "wants (2,) for one observation or (n, 2) for a batch of n."),
        (FLOATS, np.zeros((1, 1, 2)), "wants (2,) for one observation or (n, 2) for a batch of n."),
        (IMAGE, np.zeros((4, 84, 84), np.uint8), "wants (84, 84, 4) for one observation or (n, 84, 84, 4) for a batch"),
        (Discrete(3), np.zeros((2, 1), int), "wants () for one observation or (n,) for a batch of n."),
        (Discrete(3), np.zeros((2, 0), int), "wants () for one observation or (n,) for a batch of n."),
    ],
)
def test_another_shape_is_refused(space, given, wanted):
    rule = f"`obs` has the shape {np.shape(given)}; the observation space {space} {wanted}"
    with pytest.raises(ValueError, match="^" + re.escape(rule)):
        spaces.observation(space, given)


@pytest.mark.parametrize(
    ("space", "given", "kinds"),
    [
        (Discrete(3), 1.0, "integers"),
        (MultiDiscrete([2, 3]), np.zeros(2), "integers"),
        (MultiBinary(2), np.zeros(2), "integers"),
        (BYTES, np.zeros(2), "integers"),
        (FLOATS, np.zeros(2, complex), "real numbers"),
        (FLOATS, ["a", "b"], "real numbers"),
        (FLOATS, np.array([None, None]), "real numbers"),
        (Discrete(3), "1", "integers"),
    ],
)
def test_another_kind_of_number_is_refused(space, given, kinds):
    rule = f"`first obs` has the dtype {np.asarray(given).dtype}; the observation space {space} wants {kinds}."
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
        spaces.observation(space, given, "`first obs`")


@pytest.mark.parametrize(
    ("space", "given", "bad"),
    [
        (Discrete(3), 3, 3),
        (Discrete(3), -1, -1),
        (Discrete(3), [0, 2, 7], 7),
        (Discrete(3, start=5), 4, 4),
        (Discrete(3, start=5), 8, 8),
        (Discrete(3), np.uint64(2**63), 2**63),
        (MultiDiscrete([2, 3]), [0, 3], 3),
        (MultiDiscrete([2, 3]), [2, 0], 2),
        (MultiDiscrete([2, 3], start=[1, 0]), [0, 0], 0),
        (MultiDiscrete([2, 3]), [[0, 0], [0, -1]], -1),
        (MultiBinary(2), [0, 2], 2),
        (MultiBinary(2), [-1, 0], -1),
        (BYTES, [0, 256], 256),
        (BYTES, [-1, 0], -1),
        (Box(-9, 9, (1,), np.int64), np.uint64([2**63]), 2**63),
    ],
)
def test_a_value_out_of_range_is_refused(space, given, bad):
    rule = f"`obs` holds {bad}, which is out of range for the observation space {space}."
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
        spaces.observation(space, given)


@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (FLOATS, np.float32),
        (Box(-1, 1, (2,), np.float64), np.float32),
        (Box(-1, 1, (2,), np.float16), np.float16),
        (IMAGE, np.uint8),
        (Box(0, 9, (2,), np.int16), np.int16),
        (Box(0, 9, (2,), np.int64), np.int32),
        (Box(0, 1, (2,), np.bool_), np.bool_),
        (Discrete(3), np.int32),
        (MultiDiscrete([2, 3]), np.int32),
        (MultiBinary(2), np.int8),
    ],
)
def test_device_dtype(space, dtype):
    assert spaces.device_dtype(space) == dtype
    assert spaces.is_narrowed(space) == (space.dtype == np.float64)


@pytest.mark.parametrize(
    ("dtype", "high", "narrowed"),
    [(np.int64, 2**40, True), (np.uint32, 2**32 - 1, True), (np.int64, 9, False), (np.float16, 9, False)],
)
def test_narrowed_are_those_that_32_bits_do_not_hold(dtype, high, narrowed):
    assert spaces.is_narrowed(Box(0, high, (2,), dtype)) == narrowed
    assert not spaces.is_narrowed(MultiDiscrete([2, 3]))
