"""The table from action spaces to distributions."""

import typing

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from ppo2.config import ActionDist
from ppo2.distributions import (
    BOXES,
    Bernoulli,
    Categorical,
    DiagGaussian,
    MultiCategorical,
    action_distribution,
)

SPACES = [
    (spaces.Discrete(4), Categorical, 4, (4,), (), np.int32),
    (spaces.Discrete(4, start=-2), Categorical, 4, (4,), (), np.int32),
    (spaces.MultiDiscrete([2, 5]), MultiCategorical, 7, (2, 5), (2,), np.int32),
    (spaces.MultiDiscrete([[2, 3], [4, 5]]), MultiCategorical, 14, (2, 3, 4, 5), (4,), np.int32),
    (spaces.MultiBinary(3), Bernoulli, 3, (), (3,), np.int32),
    (spaces.MultiBinary((2, 3)), Bernoulli, 6, (), (6,), np.int32),
    (spaces.Box(-1, 1, ()), DiagGaussian, 1, (), (1,), np.float32),
    (spaces.Box(-1, 1, (2, 3)), DiagGaussian, 6, (), (6,), np.float32),
    (spaces.Box(-np.inf, np.inf, (2, 3, 2), np.float64), DiagGaussian, 12, (), (12,), np.float32),
]


@pytest.mark.parametrize(("space", "kind", "num_params", "choices", "shape", "dtype"), SPACES, ids=str)
def test_each_space_has_its_distribution(space, kind, num_params, choices, shape, dtype):
    made = action_distribution(space)
    assert made == action_distribution(space)
    assert hash(made) == hash(action_distribution(space))
    assert (made.num_params, made.choices) == (num_params, choices)
    assert (made.action.shape, made.action.dtype) == (shape, dtype)
    assert made.noise_size == num_params
    assert made.log_std_size == (num_params if kind is DiagGaussian else 0)

    def run(key):
        noise = made.noise(key, (2, 5))
        d = made.build(jnp.zeros((2, 5, num_params)), jnp.zeros(made.log_std_size))
        assert type(d) is kind
        actions = d.sample(noise)
        return noise, actions, d.mode(), (d.logp(actions), d.entropy())

    noise, actions, mode, numbers = jax.eval_shape(run, jax.random.key(0))
    assert noise.shape == (2, 5, num_params)
    assert (actions.shape, actions.dtype) == (mode.shape, mode.dtype) == ((2, 5, *shape), dtype)
    assert [number.shape for number in numbers] == [(2, 5)] * 2


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (2,), np.uint8),
        spaces.Box(-3, 3, (), np.int64),
        spaces.Dict({}),
        spaces.Tuple([]),
        spaces.Text(3),
    ],
    ids=str,
)
def test_other_spaces_are_refused(space):
    with pytest.raises(TypeError) as error:
        action_distribution(space)
    for part in ("`env`", f"action space {space}", "Box of floats, and Tuple and Dict of these", "Wrap"):
        assert part in str(error.value)
    with pytest.raises(TypeError) as error:
        action_distribution(spaces.Tuple([spaces.Discrete(2), spaces.Dict({"a": space})]))
    assert f"action space {space}, alone or as a part" in str(error.value)
    assert hasattr(gym.wrappers, "TransformAction")  # the remedy that the message names


def test_users_names_are_those_of_the_table():
    assert set(typing.get_args(ActionDist)) == set(BOXES)


def test_equal_spaces_have_equal_distributions_and_others_others():
    boxes = [spaces.Box(-1, 1, (2,)), spaces.Box(-1, 2, (2,))]
    made = [action_distribution(box, name) for box in boxes for name in BOXES]
    assert len(set(made)) == 4
    assert made[0] == action_distribution(spaces.Box(-1, 1, (2,)))


def test_names_are_for_boxes_alone():
    space = spaces.Discrete(3, start=2)
    assert action_distribution(space, "squashed_gaussian") == action_distribution(space)
