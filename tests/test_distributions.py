import itertools
import math

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from gymnasium import spaces

from ppo2.distributions import (
    ActionDistribution,
    Bernoulli,
    Categorical,
    DiagGaussian,
    MultiCategorical,
)

SAMPLES = 40_000

# One distribution of each discrete kind, another of the same kind, every action, and each action's probability.
# Categorical: logits are log-weights, so the probabilities are weight / sum of weights.
# MultiCategorical: choices of 2 and 3; Bernoulli: P(bit) = weight / (1 + weight), as a logit is the odds' logarithm.
WEIGHTS = {
    "categorical": ([1.0, 2, 5], [4.0, 3, 1]),
    "multicategorical": ([1.0, 3, 2, 2, 4], [2.0, 2, 1, 5, 2]),
    "bernoulli": ([0.25, 3], [1.0, 0.5]),
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
DISCRETE = sorted(WEIGHTS)


# Compiled as wholes: every operation of its own would be a program of its own.
log_density = jax.jit(lambda d, actions: d.logp(actions))
figures = jax.jit(lambda a, b: (a.entropy(), a.kl(b)))
sample = jax.jit(lambda d, key, shape: d.sample(d.noise(key, shape)), static_argnums=2)


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
    np.testing.assert_allclose(np.exp(log_probabilities(kind, WEIGHTS[kind][0])), PROBABILITIES[kind], rtol=1e-5)


@pytest.mark.parametrize("kind", DISCRETE)
def test_entropy_and_kl_are_sums_over_every_action(kind):
    mine, others = WEIGHTS[kind]
    p, log_q = np.array(PROBABILITIES[kind]), log_probabilities(kind, others).astype(float)
    assert np.exp(log_q).sum() == pytest.approx(1, abs=1e-5)
    a, b = discrete(kind, mine, 1), discrete(kind, others, 1)
    entropy, kl = figures(a, b)
    np.testing.assert_allclose(entropy, [-(p * np.log(p)).sum()], rtol=1e-5)
    np.testing.assert_allclose(kl, [(p * (np.log(p) - log_q)).sum()], rtol=1e-4)
    np.testing.assert_allclose(figures(a, a)[1], [0], atol=1e-6)


def test_categorical_agrees_with_scipy():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5)) * 3
    actions = np.random.default_rng(1).integers(5, size=(2, 3))
    d = Categorical(np.float32(logits))
    expected = np.take_along_axis(scipy.special.log_softmax(logits, axis=-1), actions[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_density(d, actions), expected, rtol=1e-4)
    np.testing.assert_allclose(
        figures(d, d)[0], scipy.stats.entropy(scipy.special.softmax(logits, -1), axis=-1), rtol=1e-4
    )


@pytest.mark.parametrize("kind", DISCRETE)
def test_mode_is_the_most_probable_action(kind):
    np.testing.assert_array_equal(discrete(kind, WEIGHTS[kind][0], 2).mode(), [MODES[kind]] * 2)


@pytest.mark.parametrize("kind", DISCRETE)
def test_samples_come_as_often_as_their_probability_says(kind):
    d = discrete(kind, WEIGHTS[kind][0], SAMPLES)
    samples = np.asarray(sample(d, jax.random.key(0), d.logits.shape))
    assert samples.dtype == np.int32
    # every action of the joint distribution is a cell, so dependent choices would show too
    rows = samples.reshape(SAMPLES, -1)
    counts = [np.all(rows == np.atleast_1d(action), axis=1).sum() for action in ACTIONS[kind]]
    expected = np.array(PROBABILITIES[kind]) * SAMPLES
    assert sum(counts) == SAMPLES
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("kind", DISCRETE)
def test_extreme_logits_have_finite_values_and_gradients(kind):
    def total(logits, other):
        make = {
            "categorical": lambda x: Categorical(x[None, :3]),
            "multicategorical": lambda x: MultiCategorical(x[None], (2, 3)),
            "bernoulli": lambda x: Bernoulli(x[None, :2]),
        }[kind]
        a, b = make(logits), make(other)
        # action 0 everywhere is as improbable as can be for the first choice
        actions = jnp.zeros((1, *np.shape(MODES[kind])), jnp.int32)
        return jnp.sum(a.logp(actions) + a.entropy() + a.kl(b))

    compiled = jax.jit(jax.value_and_grad(total, (0, 1)))
    extreme = jnp.array([1e4, -1e4, 1e4, 0.0, -1e4])
    for logits, other in itertools.permutations((extreme, -extreme, jnp.zeros(5)), 2):
        value, gradients = compiled(logits, other)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradients))


def test_extreme_logits_by_hand():
    # softmax(1e4, 0) is (1, 0) to float32: no entropy, log-probabilities 0 and -1e4
    d = Categorical(np.array([[1e4, 0]] * 2, np.float32))
    np.testing.assert_allclose(log_density(d, np.array([0, 1])), [0, -1e4])
    np.testing.assert_allclose(figures(d, d), np.zeros((2, 2)))
    bits = Bernoulli(np.array([[1e4], [-1e4]], np.float32))
    np.testing.assert_allclose(log_density(bits, np.ones((2, 1), np.int32)), [0, -1e4])
    np.testing.assert_allclose(figures(bits, bits), np.zeros((2, 2)))


# --- DiagGaussian ---------------------------------------------------------------------------------------------------

MEAN, STD = np.array([0.5, -1.0]), np.array([0.7, 2.0])
OTHER_MEAN, OTHER_STD = np.array([0.0, 1.0]), np.array([1.0, 1.5])


def gaussian(mean, std, batch):
    return DiagGaussian(np.tile(np.float32(mean), (batch, 1)), np.log(np.float32(std)))


def grid():
    """Points that cover 10 standard deviations each way, and the area of each."""
    axes = [np.linspace(m - 10 * s, m + 10 * s, 201) for m, s in zip(MEAN, STD, strict=True)]
    area = math.prod(axis[1] - axis[0] for axis in axes)
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2), area


def test_gaussian_log_density_agrees_with_scipy():
    actions = np.random.default_rng(0).normal(size=(6, 2)) * 3
    expected = scipy.stats.norm.logpdf(actions, MEAN, STD).sum(-1)
    np.testing.assert_allclose(log_density(gaussian(MEAN, STD, 6), np.float32(actions)), expected, rtol=1e-4)


def test_gaussian_integrates_to_one_and_entropy_and_kl_are_integrals():
    points, area = grid()
    mine, other = gaussian(MEAN, STD, len(points)), gaussian(OTHER_MEAN, OTHER_STD, len(points))
    log_p, log_q = (np.asarray(log_density(d, np.float32(points)), float) for d in (mine, other))
    assert np.exp(log_p).sum() * area == pytest.approx(1, rel=1e-4)
    entropy = -(np.exp(log_p) * log_p).sum() * area
    kl = (np.exp(log_p) * (log_p - log_q)).sum() * area
    found = figures(gaussian(MEAN, STD, 1), gaussian(OTHER_MEAN, OTHER_STD, 1))
    np.testing.assert_allclose(found, [[entropy], [kl]], rtol=1e-4)


def test_gaussian_by_hand():
    d = DiagGaussian(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    other = DiagGaussian(np.ones((1, 1), np.float32), np.log(np.float32([2])))
    # N(0, 1): density 1/sqrt(2 pi) exp(-x^2 / 2) at x = 2; entropy 1/2 log(2 pi e)
    np.testing.assert_allclose(log_density(d, np.float32([[2]])), [-0.5 * math.log(2 * math.pi) - 2], rtol=1e-6)
    entropy, kl = figures(d, other)
    np.testing.assert_allclose(entropy, [0.5 * math.log(2 * math.pi * math.e)], rtol=1e-6)
    # KL(N(0, 1) || N(1, 2)) = log(2 / 1) + (1 + (0 - 1)^2) / (2 * 4) - 1/2 = log 2 - 1/4
    np.testing.assert_allclose(kl, [math.log(2) - 0.25], rtol=1e-5)
    np.testing.assert_allclose(figures(d, d)[1], [0], atol=1e-7)


def test_gaussian_mode_is_the_mean():
    np.testing.assert_array_equal(gaussian(MEAN, STD, 3).mode(), np.tile(MEAN, (3, 1)))


def test_gaussian_samples_have_its_mean_and_standard_deviation():
    d = gaussian(MEAN, STD, SAMPLES)
    samples = np.asarray(sample(d, jax.random.key(0), (SAMPLES, 2)), float)
    # the mean's standard error is std / sqrt(n), the standard deviation's std / sqrt(2 n): 4 of each
    np.testing.assert_array_less(abs(samples.mean(0) - MEAN), 4 * STD / math.sqrt(SAMPLES))
    np.testing.assert_array_less(abs(samples.std(0) - STD), 4 * STD / math.sqrt(2 * SAMPLES))
    assert abs(np.corrcoef(samples.T)[0, 1]) < 4 / math.sqrt(SAMPLES)
    for column, mean, std in zip(samples.T, MEAN, STD, strict=True):
        assert scipy.stats.kstest(column, "norm", (mean, std)).pvalue > 1e-3


def test_extreme_gaussians_have_finite_gradients():
    def total(mean, log_std):
        d, other = DiagGaussian(mean[None], log_std), DiagGaussian(jnp.zeros((1, 2)), jnp.zeros(2))
        return jnp.sum(d.logp(jnp.zeros((1, 2))) + d.entropy() + d.kl(other))

    compiled = jax.jit(jax.grad(total, (0, 1)))
    for log_std in (-10.0, 10.0):
        gradients = compiled(jnp.array([1e4, -1e4]), jnp.full(2, log_std))
        assert np.all(np.isfinite(gradients))


# --- from spaces ----------------------------------------------------------------------------------------------------

SPACES = [
    (spaces.Discrete(4), Categorical, 4, (), (), np.int32),
    (spaces.Discrete(4, start=-2), Categorical, 4, (), (), np.int32),
    (spaces.MultiDiscrete([2, 5]), MultiCategorical, 7, (2, 5), (2,), np.int32),
    (spaces.MultiDiscrete([[2, 3], [4, 5]]), MultiCategorical, 14, (2, 3, 4, 5), (4,), np.int32),
    (spaces.MultiBinary(3), Bernoulli, 3, (), (3,), np.int32),
    (spaces.MultiBinary((2, 3)), Bernoulli, 6, (), (6,), np.int32),
    (spaces.Box(-1, 1, ()), DiagGaussian, 1, (), (1,), np.float32),
    (spaces.Box(-1, 1, (2, 3)), DiagGaussian, 6, (), (6,), np.float32),
    (spaces.Box(-np.inf, np.inf, (2, 3, 2), np.float64), DiagGaussian, 12, (), (12,), np.float32),
]


@pytest.mark.parametrize(("space", "kind", "num_params", "sizes", "shape", "dtype"), SPACES, ids=str)
def test_each_space_has_its_distribution(space, kind, num_params, sizes, shape, dtype):
    made = ActionDistribution.of(space)
    assert made == ActionDistribution(kind, num_params, sizes, shape)
    assert hash(made) == hash(ActionDistribution.of(space))
    assert made.dtype == dtype
    assert made.has_log_std == (kind is DiagGaussian)

    def run(key):
        noise = made.noise(key, (2, 5))
        d = made.build(jnp.zeros((2, 5, num_params)), jnp.zeros(num_params) if made.has_log_std else None)
        assert type(d) is kind
        actions = d.sample(noise)
        return noise, actions, d.mode(), (d.logp(actions), d.entropy(), d.kl(d))

    noise, actions, mode, numbers = jax.eval_shape(run, jax.random.key(0))
    assert noise.shape == (2, 5, num_params)
    assert (actions.shape, actions.dtype) == (mode.shape, mode.dtype) == ((2, 5, *shape), dtype)
    assert [number.shape for number in numbers] == [(2, 5)] * 3


def test_a_multidiscrete_matrix_is_taken_row_by_row():
    # [[2, 3], [4, 5]] has its logits in the order 2, 3, 4, 5: the highest of each choice wins
    sizes = (2, 3, 4, 5)
    logits = np.concatenate([np.eye(n, dtype=np.float32)[n - 1] for n in sizes])
    made = ActionDistribution.of(spaces.MultiDiscrete([[2, 3], [4, 5]]))
    np.testing.assert_array_equal(made.build(jnp.array(logits)[None], None).mode(), [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (2,), np.uint8),
        spaces.Box(-3, 3, (), np.int64),
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.Text(3),
    ],
    ids=str,
)
def test_other_spaces_are_refused(space):
    with pytest.raises(TypeError) as error:
        ActionDistribution.of(space)
    for part in ("`env`", f"action space {space}", "Discrete, MultiDiscrete, MultiBinary and Box of floats", "Wrap"):
        assert part in str(error.value)
    assert hasattr(gym.wrappers, "TransformAction")  # the remedy that the message names
