"""Distributions over choices: arithmetic by hand, sums over every action, samples, extreme logits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from gymnasium import spaces

from ppo2.distributions import Bernoulli, Categorical, MultiCategorical, action_distribution
from ppo2.distributions.choices import log_softmax
from support.distributions import SAMPLES, entropy, log_density, sample

# Weights of a distribution of each kind, every action, and each action's probability.
# Categorical: logits are log-weights, so the probabilities are weight / sum of weights.
# MultiCategorical: choices of 2 and 3; Bernoulli: P(bit) = weight / (1 + weight), as a logit is the odds' logarithm.
WEIGHTS = {
    "categorical": [1.0, 2, 5],
    "multicategorical": [1.0, 3, 2, 2, 4],
    "bernoulli": [0.25, 3],
}

PROBABILITIES = {
    "categorical": [1 / 8, 2 / 8, 5 / 8],
    "multicategorical": [1 / 16, 1 / 16, 2 / 16, 3 / 16, 3 / 16, 6 / 16],  # (1/4, 3/4) x (2/8, 2/8, 4/8)
    "bernoulli": [4 / 5 * 1 / 4, 4 / 5 * 3 / 4, 1 / 5 * 1 / 4, 1 / 5 * 3 / 4],  # bits on with 1/5 and 3/4
}

ACTIONS = {
    "categorical": np.arange(3),
    "multicategorical": np.array(list(itertools.product(range(2), range(3)))),
    "bernoulli": np.array(list(itertools.product(range(2), range(2)))),
}

MODES = {"categorical": 2, "multicategorical": [1, 2], "bernoulli": [0, 1]}

MADE = {
    "categorical": action_distribution(spaces.Discrete(3)),
    "multicategorical": action_distribution(spaces.MultiDiscrete([2, 3])),
    "bernoulli": action_distribution(spaces.MultiBinary(2)),
}

DISCRETE = sorted(WEIGHTS)


def discrete(kind, weights, batch):
    """A batch of equal distributions."""
    logits = np.tile(np.log(np.array(weights, np.float32)), (batch, 1))
    if kind == "multicategorical":
        return MultiCategorical(logits, (2, 3))
    return Categorical(logits) if kind == "categorical" else Bernoulli(logits)


def log_probabilities(kind, weights):
    actions = ACTIONS[kind]
    return np.asarray(log_density(discrete(kind, weights, len(actions)), actions))


@pytest.mark.parametrize("kind", DISCRETE)
def test_probabilities_by_hand(kind):
    np.testing.assert_allclose(np.exp(log_probabilities(kind, WEIGHTS[kind])), PROBABILITIES[kind], rtol=1e-5)


@pytest.mark.parametrize("kind", DISCRETE)
def test_entropy_is_the_sum_over_every_action(kind):
    p = np.array(PROBABILITIES[kind])
    np.testing.assert_allclose(entropy(discrete(kind, WEIGHTS[kind], 1)), [-(p * np.log(p)).sum()], rtol=1e-5)


def test_categorical_agrees_with_scipy():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5)) * 3
    actions = np.random.default_rng(1).integers(5, size=(2, 3))
    d = Categorical(np.float32(logits))
    expected = np.take_along_axis(scipy.special.log_softmax(logits, axis=-1), actions[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_density(d, actions), expected, rtol=1e-4)
    np.testing.assert_allclose(entropy(d), scipy.stats.entropy(scipy.special.softmax(logits, -1), axis=-1), rtol=1e-4)


@pytest.mark.parametrize("kind", DISCRETE)
def test_mode_is_the_most_probable_action(kind):
    np.testing.assert_array_equal(discrete(kind, WEIGHTS[kind], 2).mode(), [MODES[kind]] * 2)


@pytest.mark.parametrize("kind", DISCRETE)
def test_samples_come_as_often_as_their_probability_says(kind):
    d = discrete(kind, WEIGHTS[kind], SAMPLES)
    samples = np.asarray(sample(MADE[kind], d, jax.random.key(0), (SAMPLES,)))
    assert samples.dtype == np.int32
    # every action of the joint distribution is a cell, so dependent choices would show too
    rows = samples.reshape(SAMPLES, -1)
    counts = [np.all(rows == np.atleast_1d(action), axis=1).sum() for action in ACTIONS[kind]]
    expected = np.array(PROBABILITIES[kind]) * SAMPLES
    assert sum(counts) == SAMPLES
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("kind", DISCRETE)
def test_extreme_logits_have_finite_values_and_gradients(kind):
    def total(logits):
        make = {
            "categorical": lambda x: Categorical(x[None, :3]),
            "multicategorical": lambda x: MultiCategorical(x[None], (2, 3)),
            "bernoulli": lambda x: Bernoulli(x[None, :2]),
        }[kind]
        d = make(logits)
        # action 0 everywhere is as improbable as can be for the first choice
        actions = jnp.zeros((1, *np.shape(MODES[kind])), jnp.int32)
        return jnp.sum(d.logp(actions) + d.entropy())

    compiled = jax.jit(jax.value_and_grad(total))
    extreme = jnp.array([1e4, -1e4, 1e4, 0.0, -1e4])
    for logits in (extreme, -extreme, jnp.zeros(5)):
        value, gradient = compiled(logits)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("kind", DISCRETE)
def test_both_at_once_are_each_alone(kind):
    actions = ACTIONS[kind]
    made = discrete(kind, WEIGHTS[kind], len(actions))
    logp, entropy = made.logp_and_entropy(actions)
    np.testing.assert_array_equal(logp, made.logp(actions))
    np.testing.assert_array_equal(entropy, made.entropy())


def test_log_softmax_has_the_values_and_derivatives_of_jaxs():
    logits, mask = (
        jnp.array([[0.5, -2, 3], [0, 0, -1e9], [40, -40, 0]]),
        jnp.array([[1.0, 2, -3], [0, 1, 0], [1, 1, 1]]),
    )

    def weighed(function):
        return lambda x: jnp.sum(function(x) * mask)

    np.testing.assert_array_equal(log_softmax(logits), jax.nn.log_softmax(logits))
    for derivative in (jax.grad, lambda f: jax.jacfwd(jax.grad(f))):
        found, expected = (derivative(weighed(f))(logits) for f in (log_softmax, jax.nn.log_softmax))
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_extreme_logits_by_hand():
    # softmax(1e4, 0) is (1, 0) to float32: no entropy, log-probabilities 0 and -1e4
    d = Categorical(np.array([[1e4, 0]] * 2, np.float32))
    np.testing.assert_allclose(log_density(d, np.array([0, 1])), [0, -1e4])
    np.testing.assert_allclose(entropy(d), [0, 0])
    bits = Bernoulli(np.array([[1e4], [-1e4]], np.float32))
    np.testing.assert_allclose(log_density(bits, np.ones((2, 1), np.int32)), [0, -1e4])
    np.testing.assert_allclose(entropy(bits), [0, 0])


def test_a_multidiscrete_matrix_is_taken_row_by_row():
    # [[2, 3], [4, 5]] has its logits in the order 2, 3, 4, 5: the highest of each choice wins
    sizes = (2, 3, 4, 5)
    logits = np.concatenate([np.eye(n, dtype=np.float32)[n - 1] for n in sizes])
    made = action_distribution(spaces.MultiDiscrete([[2, 3], [4, 5]]))
    np.testing.assert_array_equal(made.build(jnp.array(logits)[None], None).mode(), [[1, 2, 3, 4]])
