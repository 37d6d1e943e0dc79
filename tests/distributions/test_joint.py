"""Joint distributions of Tuple and Dict."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from ppo2.distributions import (
    BOXES,
    Bernoulli,
    Categorical,
    DiagGaussian,
    Joint,
    MultiCategorical,
    SquashedGaussian,
    action_distribution,
)
from support.distributions import SAMPLES, entropy

NESTED = spaces.Dict(
    {
        "turn": spaces.Discrete(3, start=-1),
        "arm": spaces.Tuple([spaces.Box(-2, 2, (2, 1), np.float64), spaces.MultiDiscrete([2, 3], start=[5, 0])]),
        "lamps": spaces.MultiBinary(2),
        "speed": spaces.Box(0, 1, ()),
    }
)

PARAMS = np.random.default_rng(3).normal(size=(6, 13)).astype(np.float32)

LOG_STD = np.float32([0.1, -0.3, 0.5])


def by_hand(params, log_std):
    """Parts in the order arm (2 + 5), lamps (2), speed (1), turn (3); the numbers of Boxes in that order too."""
    return {
        "arm": (DiagGaussian(params[:, :2], log_std[:2]), MultiCategorical(params[:, 2:7], (2, 3))),
        "lamps": Bernoulli(params[:, 7:9]),
        "speed": DiagGaussian(params[:, 9:10], log_std[2:]),
        "turn": Categorical(params[:, 10:13]),
    }


def is_distribution(x):
    return not isinstance(x, dict | tuple)


def test_a_joint_distribution_is_its_parts():
    made = action_distribution(NESTED)
    assert (made.num_params, made.noise_size, made.log_std_size) == (13, 13, 3)
    assert hash(made) == hash(action_distribution(NESTED))
    number, whole = (lambda *shape, d=d: jax.ShapeDtypeStruct(shape, d) for d in (np.float32, np.int32))
    assert made.action == {"arm": (number(2), whole(2)), "lamps": whole(2), "speed": number(1), "turn": whole()}

    d, parts = made.build(PARAMS, LOG_STD), by_hand(PARAMS, LOG_STD)
    assert type(d) is Joint
    noise = made.noise(jax.random.key(0), (6,))
    cut = np.split(noise, [2, 7, 9, 10], axis=-1)
    expected = jax.tree.map(
        lambda part, own: part.sample(own),
        parts,
        {"arm": (cut[0], cut[1]), "lamps": cut[2], "speed": cut[3], "turn": cut[4]},
        is_leaf=is_distribution,
    )
    actions = d.sample(noise)
    assert jax.tree.structure(actions) == jax.tree.structure(made.action)
    for found, wanted, like in zip(*map(jax.tree.leaves, (actions, expected, made.action)), strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert (found.shape, found.dtype) == ((6, *like.shape), like.dtype)

    def total(of, *more):
        return sum(jax.tree.leaves(jax.tree.map(of, parts, *more, is_leaf=is_distribution)))

    np.testing.assert_allclose(d.logp(actions), total(lambda part, own: part.logp(own), actions), rtol=1e-5)
    np.testing.assert_allclose(d.entropy(), total(lambda part: part.entropy()), rtol=1e-5)
    np.testing.assert_array_equal(d.logp_and_entropy(actions), (d.logp(actions), d.entropy()))
    for found, wanted in zip(
        jax.tree.leaves(d.mode()),
        jax.tree.leaves(jax.tree.map(lambda part: part.mode(), parts, is_leaf=is_distribution)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


def test_a_joint_distribution_with_squashed_numbers():
    made = action_distribution(NESTED, "squashed_gaussian")
    # a mean and a standard deviation for each of 3 numbers, which take one number of noise each
    assert (made.num_params, made.noise_size, made.log_std_size) == (16, 13, 0)
    d = made.build(jnp.zeros((5, 16)), None)
    actions = d.sample(made.noise(jax.random.key(0), (5,)))
    assert d.logp(actions).shape == d.entropy().shape == (5,)
    # uniform choices of 2, 3 and 3 and two bits, and tanh of N(0, 1) in [-2, 2], twice, and in [0, 1]
    one = entropy(SquashedGaussian(DiagGaussian(np.zeros((1, 1)), np.zeros((1, 1))), 0.0))[0]
    expected = math.log(2 * 3 * 3 * 4) + 3 * one + 2 * math.log(2) + math.log(0.5)
    np.testing.assert_allclose(d.entropy(), expected, rtol=1e-4)


def test_the_noise_of_parts_is_independent():
    made = action_distribution(spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,))]))
    noise = np.asarray(made.noise(jax.random.key(0), (SAMPLES,)))
    assert np.all(np.abs(np.corrcoef(noise.T) - np.eye(3)) < 4 / math.sqrt(SAMPLES))


def test_a_dict_is_the_same_in_any_order():
    keys = sorted(NESTED.spaces, reverse=True)
    backwards = spaces.Dict([(key, NESTED[key]) for key in keys])
    assert list(backwards.spaces) == keys
    made = action_distribution(backwards)
    assert made == action_distribution(NESTED)
    assert list(made.to_environment(ACTIONS)) == keys  # but the environment gets its own order


def test_masks_of_parts():
    made = action_distribution(NESTED)
    params = np.zeros((2, 13), np.float32)
    masks = {"turn": np.array([[1, 0, 0], [0, 0, 0]]), "arm": (None, np.array([[0, 1, 1, 0, 0], [1, 1, 1, 1, 1]]))}
    d = made.build(params, LOG_STD, masks)
    mode = d.mode()
    np.testing.assert_array_equal(mode["turn"], [0, 0])
    np.testing.assert_array_equal(mode["arm"][1], [[1, 0], [0, 0]])
    whole = made.build(params, LOG_STD)
    # what is certain has no entropy: log 3 of turn, log 2 and log 3 of arm are gone; no legal action leaves all
    np.testing.assert_allclose(whole.entropy() - d.entropy(), [math.log(3 * 2 * 3), 0], atol=1e-5)
    np.testing.assert_array_equal(made.none_legal(masks), [False, True])
    np.testing.assert_array_equal(made.none_legal({"arm": masks["arm"]}), [False, False])
    assert not made.none_legal({})
    for wrong in ({"legs": masks["turn"]}, [masks["turn"]], masks["turn"]):
        with pytest.raises(
            ValueError, match=r"^`action_mask`: expected a dict with keys of arm, lamps, speed, turn, found"
        ):
            made.build(params, LOG_STD, wrong)
    with pytest.raises(ValueError, match=r"^`action_mask`: expected a tuple of 2, found"):
        made.build(params, LOG_STD, {"arm": (None,)})


ACTIONS = {
    "turn": np.int32([0, 2]),
    "arm": (np.float32([[-3, 0.5], [1, 2.5]]), np.int32([[1, 2], [0, 0]])),
    "lamps": np.int32([[0, 1], [1, 0]]),
    "speed": np.float32([[-1], [0.5]]),
}


def test_actions_of_parts_as_the_environment_wants_them():
    found = action_distribution(NESTED).to_environment(ACTIONS)
    assert batch_space(NESTED, 2).contains(found)
    np.testing.assert_array_equal(found["turn"], [-1, 1])
    np.testing.assert_array_equal(found["arm"][0], [[[-2], [0.5]], [[1], [2]]])
    np.testing.assert_array_equal(found["arm"][1], [[6, 2], [5, 0]])
    np.testing.assert_array_equal(found["lamps"], [[0, 1], [1, 0]])
    np.testing.assert_array_equal(found["speed"], [0, 0.5])


@pytest.mark.parametrize("action_dist", BOXES)
def test_actions_of_parts_on_the_device(action_dist):
    made = action_distribution(NESTED, action_dist)
    found, expected = jax.jit(jax.vmap(made.to_environment))(ACTIONS), made.to_environment(ACTIONS)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
