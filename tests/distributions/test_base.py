"""Masks of legal actions, and samples as the environment wants them."""

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from gymnasium import spaces

from ppo2.distributions import action_distribution
from ppo2.spaces import separate
from support.distributions import SAMPLES, entropy, log_density, sample

DISCRETE_4 = action_distribution(spaces.Discrete(4, start=3))
CHOICES = action_distribution(spaces.MultiDiscrete([2, 3]))
PAIRS = np.array(list(itertools.product(range(2), range(3))))  # every action of CHOICES


def masked(made, logits, mask):
    return made.build(jnp.float32(logits), None, None if mask is None else np.array(mask))


@pytest.mark.parametrize("kind", [bool, np.int8, np.float32])
def test_a_mask_by_hand(kind):
    # weights 1, 2, 4, 8 with the second and the last ruled out: 1/5 and 4/5
    logits = np.log(np.float32([[1, 2, 4, 8]] * 4))
    d = masked(DISCRETE_4, logits, np.array([[1, 0, 1, 0]] * 4, kind))
    log_p = np.asarray(log_density(d, np.arange(4)))
    np.testing.assert_allclose(np.exp(log_p), [0.2, 0, 0.8, 0], rtol=1e-5)
    assert np.all(log_p[[1, 3]] < -1e8)
    assert np.all(np.isfinite(log_p**2))
    np.testing.assert_allclose(entropy(d), scipy.stats.entropy([0.2, 0.8]), rtol=1e-5)
    np.testing.assert_array_equal(d.mode(), 2)


def test_masks_of_several_choices_lie_side_by_side():
    # of 2: the second alone; of 3: weights 2, 2, 4 without the last
    logits = np.log(np.float32([[1.0, 3, 2, 2, 4]] * 6))
    d = masked(CHOICES, logits, [[0, 1, 1, 1, 0]] * 6)
    np.testing.assert_allclose(np.exp(log_density(d, PAIRS)), [0, 0, 0, 0.5, 0.5, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(entropy(d), math.log(2), rtol=1e-5)
    np.testing.assert_array_equal(d.mode(), [[1, 0]] * 6)


@pytest.mark.parametrize("made", [DISCRETE_4, CHOICES], ids=["discrete", "multidiscrete"])
def test_a_mask_that_allows_everything_changes_nothing(made):
    logits = np.random.default_rng(0).normal(size=(7, made.num_params)) * 3
    one, other = masked(made, logits, np.ones(logits.shape, bool)), masked(made, logits, None)
    actions = other.mode()
    np.testing.assert_allclose(log_density(one, actions), log_density(other, actions), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(entropy(one), entropy(other), rtol=1e-4, atol=1e-6)
    key = jax.random.key(0)
    np.testing.assert_array_equal(sample(made, one, key, (7,)), sample(made, other, key, (7,)))


def test_masked_samples_come_as_often_as_their_probability_says():
    weights = np.float32([1, 2, 4, 8])
    d = masked(DISCRETE_4, np.tile(np.log(weights), (SAMPLES, 1)), np.tile([True, True, False, True], (SAMPLES, 1)))
    counts = np.bincount(sample(DISCRETE_4, d, jax.random.key(2), (SAMPLES,)), minlength=4)
    assert counts[2] == 0
    assert scipy.stats.chisquare(counts[[0, 1, 3]], SAMPLES * np.array([1, 2, 8]) / 11).pvalue > 1e-3


def test_no_logit_makes_an_illegal_action_legal():
    for logits in ([1e30, -1e30, 0, 1e30], [-1e30, -1e30, -1e30, 1e30], [1e4, -1e4, -1e4, 0]):
        d = masked(DISCRETE_4, [logits] * 2000, [[0, 1, 1, 0]] * 2000)
        assert set(np.asarray(sample(DISCRETE_4, d, jax.random.key(0), (2000,)))) <= {1, 2}
        assert set(np.asarray(d.mode())) <= {1, 2}


def test_masks_leave_finite_values_and_gradients():
    def total(logits, mask, action):
        d = DISCRETE_4.build(logits, None, mask)
        return d.logp(action) + d.entropy()

    compiled = jax.jit(jax.value_and_grad(total))
    extreme = jnp.float32([1e4, -1e4, 1e9, 0])
    # every mask, with one legal action and with none too; every action, with the illegal ones
    for mask in itertools.product((False, True), repeat=4):
        for action, logits in itertools.product(range(4), (extreme, -extreme)):
            value, gradient = compiled(logits, np.array(mask), action)
            assert np.isfinite(value)
            assert np.all(np.isfinite(gradient))
            if any(mask):
                np.testing.assert_array_equal(np.array(gradient)[~np.array(mask)], 0)


def test_one_legal_action_is_certain():
    d = masked(DISCRETE_4, [[3.0, -50, 9, 1]], [[0, 1, 0, 0]])
    np.testing.assert_array_equal(log_density(d, np.array([1])), [0])
    np.testing.assert_array_equal(entropy(d), [0])


def test_no_legal_action_is_told_and_stands_for_all():
    mask = np.array([[0, 0, 0, 0], [0, 0, 1, 0]], np.int8)
    np.testing.assert_array_equal(DISCRETE_4.none_legal(mask), [True, False])
    logits = np.random.default_rng(0).normal(size=(2, 4))
    found = log_density(masked(DISCRETE_4, logits, mask), np.zeros(2, int))
    np.testing.assert_allclose(found[0], scipy.special.log_softmax(logits[0])[0], rtol=1e-5)
    # of several choices one is enough
    mask = np.array([[0, 0, 1, 1, 1], [1, 0, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(CHOICES.none_legal(mask), [True, True, False, True])


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"^`action_mask`: expected one array .* each of the 4 options, found one of shape \(1, 3\)\.$"
    ):
        masked(DISCRETE_4, [[0.0] * 4], [[1, 0, 1]])
    with pytest.raises(ValueError, match="found a dict of a"):
        DISCRETE_4.none_legal({"a": np.ones(4)})
    for space in (spaces.MultiBinary(2), spaces.Box(-1, 1, (2,))):
        rule = re.escape(f"`action_mask`: only Discrete and MultiDiscrete actions can be masked, not {space}.")
        with pytest.raises(ValueError, match=f"^{rule}$"):
            action_distribution(space).build(jnp.zeros((1, 2)), jnp.zeros(2), np.ones((1, 2)))


@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        (spaces.Discrete(3), np.int32([0, 2]), [0, 2]),
        (spaces.Discrete(3, start=-5), np.int32([0, 2]), [-5, -3]),
        (spaces.MultiDiscrete([2, 3]), np.int32([[1, 2]]), [[1, 2]]),
        (spaces.MultiDiscrete([2, 3], start=[10, -1]), np.int32([[1, 2]]), [[11, 1]]),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), np.int32([[0, 1, 2, 3]]), [[[0, 1], [2, 3]]]),
        (spaces.MultiBinary((3, 2)), np.int32([[0, 1, 1, 0, 1, 1]]), [[[0, 1], [1, 0], [1, 1]]]),
        (spaces.Box(-1, 2, (2,)), np.float32([[-3, 3], [0.5, -0.5]]), [[-1, 2], [0.5, -0.5]]),
        (spaces.Box(-1, 2, ()), np.float32([[-3], [0.5]]), [-1, 0.5]),
        (spaces.Box(-1, 2, (2, 1, 2)), np.float32([[0, 1, 2, 3]]), [[[[0, 1]], [[2, 2]]]]),
        (
            spaces.Box(np.float32([-np.inf, 0]), np.float32([1, np.inf])),
            np.float32([[-1e9, 1e9], [5, -5]]),
            [[-1e9, 1e9], [1, 0]],
        ),
    ],
)
def test_actions_as_the_environment_wants_them(space, actions, expected):
    made = action_distribution(space).to_environment(actions)
    np.testing.assert_array_equal(made, np.asarray(expected, space.dtype))
    assert made.dtype == space.dtype
    assert all(space.contains(action) for action in separate(space, made))


def test_actions_are_within_bounds_that_float32_cannot_hold():
    space = spaces.Box(-0.1, 0.1, (1,), np.float64)
    found = action_distribution(space).to_environment(np.ones((1, 1), np.float32))
    assert space.contains(found[0])


def test_one_action_becomes_the_environments_without_batch_axes():
    for space, action, expected in (
        (spaces.Discrete(3, start=-5), np.int32(2), -3),
        (spaces.Box(-1, 2, (2, 1)), np.float32([-3, 1]), [[-1], [1]]),
    ):
        found = jax.jit(action_distribution(space).to_environment)(action)
        np.testing.assert_array_equal(found, expected)
        assert found.shape == space.shape
