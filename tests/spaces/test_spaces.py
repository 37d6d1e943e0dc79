import json
import re

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import batch_space, iterate

from ppo2 import spaces
from ppo2.spaces import Spec

INF = np.inf
IMAGE = Box(0, 255, (84, 84, 4), np.uint8)

SPACES = [
    Discrete(3),
    Discrete(3, start=-7),
    Discrete(3, start=1, dtype=np.int8),
    MultiDiscrete([2, 3]),
    MultiDiscrete([2, 3], start=[5, -5], dtype=np.int32),
    MultiDiscrete([[2, 3, 4], [5, 6, 7]], start=[[0, 1, 2], [3, 4, 5]]),
    MultiBinary(1),
    MultiBinary(4),
    MultiBinary((2, 3)),
    Box(-1, 1, (3,)),
    Box(-1, 1, ()),
    Box(-1, 1, (1,)),
    Box(-1, 1, (0,)),
    Box(-INF, INF, (2, 2)),
    Box(0, INF, (2,), np.float64),
    Box(np.array([-INF, 0.1, -3]), np.array([1, INF, -0.3]), dtype=np.float64),
    Box(np.float32([[-0.1, -INF]]), np.float32([[3.4e38, 1e-7]])),
    Box(-1, 1, (2,), np.float16),
    IMAGE,
    Box(np.uint8([1, 2]), np.uint8([3, 255]), dtype=np.uint8),
    Box(np.array([-(2**63), 0]), np.array([2**63 - 1, 3]), dtype=np.int64),
    Box(np.array([0, 0], np.uint64), np.array([2**64 - 1, 3], np.uint64), dtype=np.uint64),
    Box(0, 1, (2,), np.bool_),
]
COMPOSITE = [
    Dict({"a": Discrete(2)}),
    Dict({"b": Discrete(2), "a": Box(-INF, 1, (2,))}),
    Tuple([Discrete(2)]),
    Tuple([Dict({"x": MultiBinary(2), "y": Tuple([Box(0, 1, ()), Discrete(3, start=1)])}), MultiDiscrete([2, 3])]),
    Tuple([]),
]
UNKNOWN = [  # space, the part of it that isn't known
    (Text(3), Text(3)),
    (Sequence(Discrete(2)), Sequence(Discrete(2))),
    (Tuple([Discrete(2), Text(3)]), Text(3)),
    (Dict({"a": Tuple([Text(3)])}), Text(3)),
    (Dict({1: Discrete(2)}), Dict({1: Discrete(2)})),
]


# --- as text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES + COMPOSITE, ids=str)
def test_description_round_trip(space):
    found = spaces.from_description(json.loads(json.dumps(spaces.describe(space), allow_nan=False)))
    assert type(found) is type(space)
    assert found == space
    assert (found.shape, found.dtype) == (space.shape, space.dtype)
    if isinstance(space, Box):  # whose == is only approximate
        np.testing.assert_array_equal(found.low, space.low)
        np.testing.assert_array_equal(found.high, space.high)
        np.testing.assert_array_equal(found.bounded_above, space.bounded_above)
    assert Spec(found) == Spec(space)


def test_no_two_of_them_are_described_alike():
    assert len({Spec(space) for space in SPACES + COMPOSITE}) == len(SPACES + COMPOSITE)
    assert Spec(Discrete(2)) != "Discrete(2)"
    assert repr(Spec(Discrete(2))) == "Spec(Discrete(2))"


def test_the_description_of_an_image_is_short():
    assert len(json.dumps(spaces.describe(IMAGE))) < 120


@pytest.mark.parametrize(("space", "part"), UNKNOWN, ids=str)
def test_unknown_spaces_are_refused(space, part):
    with pytest.raises(TypeError) as error:
        spaces.describe(space)
    assert str(error.value) == (
        f"the space {part} isn't supported; known are Box, Discrete, MultiDiscrete and MultiBinary, and Tuple and Dict "
        "of these."
    )


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


def test_an_unknown_description_is_refused():
    with pytest.raises(ValueError, match=re.escape("the space 'Graph' isn't known.")):
        spaces.from_description({"kind": "Graph"})


# --- observations ---------------------------------------------------------------------------------------------------

FLOATS = Box(-1, 1, (2,))
BYTES = Box(0, 255, (2,), np.uint8)


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


ENCODED = [
    # space, observation, what a network sees
    (Discrete(3), np.int32(1), np.float32([0, 1, 0])),
    (Discrete(3, start=-2), np.int32(0), np.float32([0, 0, 1])),
    (MultiDiscrete([2, 3]), np.int32([1, 0]), np.float32([0, 1, 1, 0, 0])),
    (
        MultiDiscrete([[2, 1], [1, 2]], start=[[3, 0], [0, -1]]),
        np.int32([[4, 0], [0, -1]]),
        np.float32([0, 1, 1, 1, 1, 0]),
    ),
    (MultiBinary((2, 2)), np.int8([[0, 1], [1, 1]]), np.float32([[0, 1], [1, 1]])),
    (Box(-9, 9, (2,), np.float16), np.float16([0.5, -3]), np.float32([0.5, -3])),
    (Box(-9, 9, ()), np.float32(0.5), np.float32(0.5)),
    (Box(-9, 9, (2,), np.int32), np.int32([4, -3]), np.float32([4, -3])),
    (BYTES, np.uint8([0, 255]), np.uint8([0, 255])),
]


@pytest.mark.parametrize(("space", "obs", "expected"), ENCODED)
def test_encode_by_hand(space, obs, expected):
    one = jax.jit(lambda x: spaces.encode(space, x))
    found = one(obs)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert found.shape == expected.shape


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
    assert spaces.is_float_box(space) == np.issubdtype(dtype, np.floating)


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


# --- actions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        (Discrete(3), np.int32([0, 2]), [0, 2]),
        (Discrete(3, start=-5), np.int32([0, 2]), [-5, -3]),
        (MultiDiscrete([2, 3]), np.int32([[1, 2]]), [[1, 2]]),
        (MultiDiscrete([2, 3], start=[10, -1]), np.int32([[1, 2]]), [[11, 1]]),
        (MultiDiscrete([[2, 3], [4, 5]]), np.int32([[0, 1, 2, 3]]), [[[0, 1], [2, 3]]]),
        (MultiBinary((3, 2)), np.int32([[0, 1, 1, 0, 1, 1]]), [[[0, 1], [1, 0], [1, 1]]]),
        (Box(-1, 2, (2,)), np.float32([[-3, 3], [0.5, -0.5]]), [[-1, 2], [0.5, -0.5]]),
        (Box(-1, 2, ()), np.float32([[-3], [0.5]]), [-1, 0.5]),
        (Box(-1, 2, (2, 1, 2)), np.float32([[0, 1, 2, 3]]), [[[[0, 1]], [[2, 2]]]]),
        (Box(np.float32([-INF, 0]), np.float32([1, INF])), np.float32([[-1e9, 1e9], [5, -5]]), [[-1e9, 1e9], [1, 0]]),
    ],
)
def test_actions_as_the_environment_wants_them(space, actions, expected):
    made = spaces.to_environment(space, actions)
    np.testing.assert_array_equal(made, np.asarray(expected, space.dtype))
    assert made.dtype == space.dtype
    assert all(space.contains(action) for action in spaces.separate(space, made))


def test_actions_are_within_bounds_that_float32_cannot_hold():
    space = Box(-0.1, 0.1, (1,), np.float64)
    found = spaces.to_environment(space, np.ones((1, 1), np.float32))
    assert space.contains(found[0])


def test_squashed_actions_are_between_the_bounds():
    space = Box(np.float32([-1, 2]), np.float32([3, 2.5]))
    # tanh(0) = 0 is the middle; tanh(log(3) / 2) = 1/2, three quarters of the way
    u = np.float32([[0, 0], [np.log(3) / 2, -np.log(3) / 2], [1e4, -1e4], [-30, 30]])
    expected = [[1, 2.25], [2, 2.125], [3, 2], [-1, 2.5]]
    found = spaces.to_environment(space, u, squash=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(found[2:], expected[2:])
    on_device = jax.jit(jax.vmap(lambda one: spaces.to_device_environment(space, one, squash=True)))(u)
    np.testing.assert_allclose(on_device, expected, rtol=1e-6)
    assert all(space.contains(one) for one in (*found, *np.asarray(on_device)))


@pytest.mark.parametrize(
    "space",
    [
        Box(-0.1, 0.1, (1,), np.float64),
        Box(-0.1, 0.3, (1,), np.float16),
        Box(-3.4e38, 3.4e38, (1,)),
        Box(-1, 1, ()),
        Box(1e6, 1e6 + 1, (1,)),
    ],
    ids=str,
)
def test_squashed_actions_are_members_of_any_bounded_box(space):
    u = np.float32([[0], [1], [-5], [9], [-1e30], [1e30]])
    found = spaces.to_environment(space, u, squash=True)
    assert found.dtype == space.dtype
    assert all(space.contains(one) for one in spaces.separate(space, found))
    assert np.all(np.isfinite(found))
    on_device = jax.vmap(lambda one: spaces.to_device_environment(space, one, squash=True))(u)
    # to what the low precision of one or the other leaves
    precision = 1e-3 if space.dtype == np.float16 else 3e-7
    largest = max(abs(space.low).max(), abs(space.high).max())
    np.testing.assert_allclose(on_device, found, rtol=0, atol=precision * largest)


def test_squashing_is_for_boxes_alone():
    np.testing.assert_array_equal(spaces.to_environment(Discrete(3, start=2), np.int32([0, 2]), squash=True), [2, 4])


NESTED = Dict(
    {
        "turn": Discrete(3, start=-1),
        "arm": Tuple([Box(-2, 2, (2, 1), np.float64), MultiDiscrete([2, 3], start=[5, 0])]),
        "lamps": MultiBinary((1, 2)),
        "speed": Box(0, 1, ()),
    }
)
ACTIONS = {
    "turn": np.int32([0, 2]),
    "arm": (np.float32([[-3, 0.5], [1, 2.5]]), np.int32([[1, 2], [0, 0]])),
    "lamps": np.int32([[0, 1], [1, 0]]),
    "speed": np.float32([[-1], [0.5]]),
}


def test_actions_of_parts():
    found = spaces.to_environment(NESTED, ACTIONS)
    batched = batch_space(NESTED, 2)
    assert batched.contains(found)
    np.testing.assert_array_equal(found["turn"], [-1, 1])
    np.testing.assert_array_equal(found["arm"][0], [[[-2], [0.5]], [[1], [2]]])
    np.testing.assert_array_equal(found["arm"][1], [[6, 2], [5, 0]])
    np.testing.assert_array_equal(found["lamps"], [[[0, 1]], [[1, 0]]])
    np.testing.assert_array_equal(found["speed"], [0, 0.5])
    # one by one: members, equal to those that Gymnasium would take apart
    alone = spaces.separate(NESTED, found)
    assert [NESTED.contains(one) for one in alone] == [True, True]
    assert isinstance(alone[0]["arm"], tuple)
    for one, theirs in zip(alone, iterate(batched, found), strict=True):
        assert data_equivalence(one, {**theirs, "speed": np.asarray(theirs["speed"])})
    alone = spaces.separate(NESTED["arm"], found["arm"])
    assert [NESTED["arm"].contains(one) for one in alone] == [True, True]


@pytest.mark.parametrize("squash", [False, True])
def test_actions_of_parts_on_the_device(squash):
    found = jax.jit(jax.vmap(lambda one: spaces.to_device_environment(NESTED, one, squash=squash)))(ACTIONS)
    expected = spaces.to_environment(NESTED, ACTIONS, squash=squash)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
