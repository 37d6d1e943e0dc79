"""Distributions over numbers: against SciPy, integrals and samples; bounds of standard deviations; squashing."""

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

from ppo2.distributions import DiagGaussian, SquashedGaussian, action_distribution
from ppo2.spaces import separate
from support.distributions import SAMPLES, entropy, log_density, sample

MEAN, STD = np.array([0.5, -1.0]), np.array([0.7, 2.0])

GAUSSIAN = action_distribution(spaces.Box(-1, 1, (2,)))


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


def test_gaussian_integrates_to_one_and_entropy_is_the_integral():
    points, area = grid()
    log_p = np.asarray(log_density(gaussian(MEAN, STD, len(points)), np.float32(points)), float)
    assert np.exp(log_p).sum() * area == pytest.approx(1, rel=1e-4)
    expected = -(np.exp(log_p) * log_p).sum() * area
    np.testing.assert_allclose(entropy(gaussian(MEAN, STD, 1)), [expected], rtol=1e-4)


def test_gaussian_by_hand():
    d = DiagGaussian(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    # N(0, 1): density 1/sqrt(2 pi) exp(-x^2 / 2) at x = 2; entropy 1/2 log(2 pi e)
    np.testing.assert_allclose(log_density(d, np.float32([[2]])), [-0.5 * math.log(2 * math.pi) - 2], rtol=1e-6)
    np.testing.assert_allclose(entropy(d), [0.5 * math.log(2 * math.pi * math.e)], rtol=1e-6)


def test_gaussian_mode_is_the_mean():
    np.testing.assert_array_equal(gaussian(MEAN, STD, 3).mode(), np.tile(MEAN, (3, 1)))


def test_gaussian_samples_have_its_mean_and_standard_deviation():
    d = gaussian(MEAN, STD, SAMPLES)
    samples = np.asarray(sample(GAUSSIAN, d, jax.random.key(0), (SAMPLES,)), float)
    # the mean's standard error is std / sqrt(n), the standard deviation's std / sqrt(2 n): 4 of each
    np.testing.assert_array_less(abs(samples.mean(0) - MEAN), 4 * STD / math.sqrt(SAMPLES))
    np.testing.assert_array_less(abs(samples.std(0) - STD), 4 * STD / math.sqrt(2 * SAMPLES))
    assert abs(np.corrcoef(samples.T)[0, 1]) < 4 / math.sqrt(SAMPLES)
    for column, mean, std in zip(samples.T, MEAN, STD, strict=True):
        assert scipy.stats.kstest(column, scipy.stats.norm(mean, std).cdf).pvalue > 1e-3


def test_extreme_gaussians_have_finite_gradients():
    def total(mean, log_std):
        d = DiagGaussian(mean[None], log_std)
        return jnp.sum(d.logp(jnp.zeros((1, 2))) + d.entropy())

    compiled = jax.jit(jax.grad(total, (0, 1)))
    for log_std in (-10.0, 10.0):
        gradients = compiled(jnp.array([1e4, -1e4]), jnp.full(2, log_std))
        assert np.all(np.isfinite(gradients))


def test_a_gaussians_log_std_is_the_parameter_within_its_bounds():
    made = action_distribution(spaces.Box(-1, 1, (4,)))
    log_std = np.float32([-9.999, 9.999, 0, 0.1234567])
    np.testing.assert_array_equal(made.build(jnp.zeros((1, 4)), jnp.array(log_std)).log_std, log_std)


def test_a_gaussians_log_std_beyond_its_bounds_is_clipped_and_can_come_back():
    made = action_distribution(spaces.Box(-1, 1, (2,)))

    @jax.jit
    @jax.value_and_grad
    def of_both(log_std):
        return made.build(jnp.zeros((2,)), log_std).entropy()

    value, gradient = of_both(jnp.float32([50, -50]))
    # 10 and -10, with 1/2 log(2 pi e) each; the entropy rises by 1 for each, bound or not
    assert float(value) == pytest.approx(math.log(2 * math.pi * math.e), abs=1e-4)
    np.testing.assert_array_equal(gradient, [1, 1])


def test_a_squashed_gaussians_log_std_is_bounded_smoothly():
    made = action_distribution(spaces.Box(-1, 1, (1,)), "squashed_gaussian")

    @jax.jit
    @jax.vmap
    @jax.value_and_grad
    def log_std(raw):
        return made.build(jnp.stack([0.0, raw]), None).gaussian.log_std[0]

    values, slopes = log_std(jnp.float32([-1e6, -20, -1, 0, 1, 20, 1e6]))
    assert values[0] == pytest.approx(-5, abs=1e-5)
    assert values[-1] == pytest.approx(2, abs=1e-5)
    assert (values[3], slopes[3]) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-5))
    assert np.all(np.diff(values) >= 0)
    assert np.all(np.isfinite(slopes))
    assert np.all(slopes[1:-1] > 0)


LOW, HIGH = np.array([-1.0, 2.0]), np.array([3.0, 2.5])

SQUASHED = action_distribution(spaces.Box(np.float32(LOW), np.float32(HIGH)), "squashed_gaussian")

LOG_SCALE = math.log(2 * 0.25)  # halves of 4 and of 0.5


def squashed(mean, std, batch):
    mean, log_std = (np.tile(np.float32(x), (batch, 1)) for x in (mean, np.log(std)))
    return SquashedGaussian(DiagGaussian(mean, log_std), LOG_SCALE)


def inverse(a, low, high):
    return np.arctanh(2 * (a - low) / (high - low) - 1)


def test_a_squashed_space_has_its_distribution():
    assert (SQUASHED.num_params, SQUASHED.noise_size, SQUASHED.log_std_size) == (4, 2, 0)
    assert SQUASHED.action == jax.ShapeDtypeStruct((2,), np.float32)
    # the head gives means, then standard deviations
    d = SQUASHED.build(jnp.float32([[1, 2, 0, 0]]))
    assert d.log_scale == pytest.approx(LOG_SCALE)
    np.testing.assert_array_equal(d.mode(), [[1, 2]])
    np.testing.assert_allclose(d.gaussian.log_std, [[0, 0]], atol=1e-6)
    noise = SQUASHED.noise(jax.random.key(0), (3,))
    assert noise.shape == (3, 2)
    np.testing.assert_allclose(d.sample(noise), np.float32([1, 2]) + noise, rtol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [([0.5, -1], [0.7, 0.9]), ([0, 0], [0.1, 1.0]), ([2, -1], [0.7, 0.5])])
def test_a_squashed_density_integrates_to_one_over_the_actions(mean, std):
    # over a, between the bounds: where u = atanh((a - middle) / half), for equal steps of a
    a = [low + (high - low) * (np.arange(1000) + 0.5) / 1000 for low, high in zip(LOW, HIGH, strict=True)]
    area = math.prod((HIGH - LOW) / 1000)
    points = np.stack(np.meshgrid(*a), axis=-1).reshape(-1, 2)
    u = np.float32(inverse(points, LOW, HIGH))
    density = np.exp(np.asarray(log_density(squashed(mean, std, len(u)), u), float))
    assert density.sum() * area == pytest.approx(1, rel=3e-3)


def test_a_squashed_density_agrees_with_scipy():
    # p(a) = p(u) |du/da|, du/da = 1 / (half (1 - tanh(u)^2)), in double precision
    u = np.random.default_rng(0).normal(size=(50, 2)) * 2
    slope = (HIGH - LOW) / 2 * (1 - np.tanh(u) ** 2)
    expected = (scipy.stats.norm.logpdf(u, MEAN, STD) - np.log(slope)).sum(-1)
    np.testing.assert_allclose(log_density(squashed(MEAN, STD, 50), np.float32(u)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("std", "tolerance"), [(0.01, 1e-4), (0.5, 1e-4), (1.0, 1e-4), (1.6, 1e-3), (math.e, 1e-2), (math.exp(2), 0.2)]
)
@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0, -3.0])
def test_squashed_entropy_is_the_integral(mean, std, tolerance):
    def integrand(z):
        u = mean + std * z
        log_slope = 2 * (math.log(2) - abs(u) - math.log1p(math.exp(-2 * abs(u))))
        return scipy.stats.norm.pdf(z) * log_slope

    kink = float(np.clip(-mean / std, -12, 12))
    expected = scipy.stats.norm.entropy(scale=std) + scipy.integrate.quad(integrand, -12, 12, points=[kink])[0]
    expected = 2 * expected + LOG_SCALE
    found = entropy(squashed([mean] * 2, [std] * 2, 1))
    np.testing.assert_allclose(found, [expected], atol=2 * tolerance)


def test_squashed_entropy_is_what_samples_say():
    d = squashed(MEAN, STD, SAMPLES)
    logp = np.asarray(log_density(d, sample(SQUASHED, d, jax.random.key(1), (SAMPLES,))), float)
    error = logp.std() / math.sqrt(SAMPLES)
    assert float(entropy(d)[0]) == pytest.approx(-logp.mean(), abs=4 * error + 0.01)


def test_extreme_squashed_gaussians_have_finite_values_and_gradients():
    def total(params, u):
        d = SQUASHED.build(params[None])
        return jnp.sum(d.logp(u[None]) + d.entropy())

    compiled = jax.jit(jax.value_and_grad(total, (0, 1)))
    for size, raw in itertools.product((0.0, 30.0, 1e4), (-1e6, -3.0, 0.0, 3.0, 1e6)):
        params = jnp.float32([size, -size, raw, -raw])
        for u in (jnp.zeros(2), jnp.float32([1e4, -1e4])):  # in the middle; at the bounds, and far beyond in u
            value, gradients = compiled(params, u)
            assert np.isfinite(value)
            assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (2,)),
        spaces.Box(0, np.inf, (2,)),
        spaces.Box(np.float32([0, 1]), np.float32([1, 1])),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-np.inf, 0, (1,))}),
    ],
    ids=str,
)
def test_only_bounded_boxes_can_be_squashed(space):
    box = space["b"] if isinstance(space, spaces.Dict) else space
    rule = f"`action_dist` (='squashed_gaussian') needs finite bounds, low < high, but `env` has the action space {box}"
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}"):
        action_distribution(space, "squashed_gaussian")


def test_squashed_actions_are_between_the_bounds():
    space = spaces.Box(np.float32([-1, 2]), np.float32([3, 2.5]))
    squashing = action_distribution(space, "squashed_gaussian")
    # tanh(0) = 0 is the middle; tanh(log(3) / 2) = 1/2, three quarters of the way
    u = np.float32([[0, 0], [np.log(3) / 2, -np.log(3) / 2], [1e4, -1e4], [-30, 30]])
    expected = [[1, 2.25], [2, 2.125], [3, 2], [-1, 2.5]]
    found = squashing.to_environment(u)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(found[2:], expected[2:])
    on_device = jax.jit(squashing.to_environment)(u)
    np.testing.assert_allclose(on_device, expected, rtol=1e-6)
    assert all(space.contains(one) for one in (*found, *np.asarray(on_device)))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-0.1, 0.1, (1,), np.float64),
        spaces.Box(-0.1, 0.3, (1,), np.float16),
        spaces.Box(-3.4e38, 3.4e38, (1,)),
        spaces.Box(-1, 1, ()),
        spaces.Box(1e6, 1e6 + 1, (1,)),
    ],
    ids=str,
)
def test_squashed_actions_are_members_of_any_bounded_box(space):
    u = np.float32([[0], [1], [-5], [9], [-1e30], [1e30]])
    squashing = action_distribution(space, "squashed_gaussian")
    found = squashing.to_environment(u)
    assert found.dtype == space.dtype
    assert all(space.contains(one) for one in separate(space, found))
    assert np.all(np.isfinite(found))
    on_device = jax.vmap(squashing.to_environment)(u)
    # to what the low precision of one or the other leaves
    precision = 1e-3 if space.dtype == np.float16 else 3e-7
    largest = max(abs(space.low).max(), abs(space.high).max())
    np.testing.assert_allclose(on_device, found, rtol=0, atol=precision * largest)
