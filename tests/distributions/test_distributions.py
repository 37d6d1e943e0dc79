import itertools
import math
import re

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from gymnasium import spaces

from ppo2.distributions import (
    ActionDistribution,
    Bernoulli,
    Categorical,
    DiagGaussian,
    Joint,
    MultiCategorical,
    SquashedGaussian,
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
    assert (made.action.shape, made.action.dtype) == (shape, dtype)
    assert (made.noise_size, made.squashes) == (num_params, False)
    assert made.log_std_size == (num_params if made.has_log_std else 0)
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
        spaces.Dict({}),
        spaces.Tuple([]),
        spaces.Text(3),
    ],
    ids=str,
)
def test_other_spaces_are_refused(space):
    with pytest.raises(TypeError) as error:
        ActionDistribution.of(space)
    for part in ("`env`", f"action space {space}", "Box of floats, and Tuple and Dict of these", "Wrap"):
        assert part in str(error.value)
    with pytest.raises(TypeError) as error:
        ActionDistribution.of(spaces.Tuple([spaces.Discrete(2), spaces.Dict({"a": space})]))
    assert f"action space {space}, alone or as a part" in str(error.value)
    assert hasattr(gym.wrappers, "TransformAction")  # the remedy that the message names


# --- the bounds of standard deviations ------------------------------------------------------------------------------


def test_a_gaussians_log_std_is_the_parameter_within_its_bounds():
    made = ActionDistribution.of(spaces.Box(-1, 1, (4,)))
    log_std = np.float32([-9.999, 9.999, 0, 0.1234567])
    np.testing.assert_array_equal(made.build(jnp.zeros((1, 4)), jnp.array(log_std)).log_std, log_std)


def test_a_gaussians_log_std_beyond_its_bounds_is_clipped_and_can_come_back():
    made = ActionDistribution.of(spaces.Box(-1, 1, (2,)))

    @jax.jit
    @jax.value_and_grad
    def entropy(log_std):
        return made.build(jnp.zeros((2,)), log_std).entropy()

    value, gradient = entropy(jnp.float32([50, -50]))
    # 10 and -10, with 1/2 log(2 pi e) each; the entropy rises by 1 for each, bound or not
    assert float(value) == pytest.approx(math.log(2 * math.pi * math.e), abs=1e-4)
    np.testing.assert_array_equal(gradient, [1, 1])


def test_a_squashed_gaussians_log_std_is_bounded_smoothly():
    made = ActionDistribution.of(spaces.Box(-1, 1, (1,)), "squashed_gaussian")

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


# --- SquashedGaussian -----------------------------------------------------------------------------------------------

LOW, HIGH = np.array([-1.0, 2.0]), np.array([3.0, 2.5])
SQUASHED = ActionDistribution.of(spaces.Box(np.float32(LOW), np.float32(HIGH)), "squashed_gaussian")


def squashed(mean, std, batch):
    mean, log_std = (np.tile(np.float32(x), (batch, 1)) for x in (mean, np.log(std)))
    return SquashedGaussian(DiagGaussian(mean, log_std), SQUASHED.log_scale)


def inverse(a, low, high):
    return np.arctanh(2 * (a - low) / (high - low) - 1)


def test_a_squashed_space_has_its_distribution():
    assert ActionDistribution(SquashedGaussian, 4, (), (2,), SQUASHED.log_scale) == SQUASHED
    assert SQUASHED.log_scale == pytest.approx(math.log(2 * 0.25))
    assert (SQUASHED.noise_size, SQUASHED.has_log_std, SQUASHED.log_std_size) == (2, False, 0)
    assert SQUASHED.squashes
    assert SQUASHED.action == jax.ShapeDtypeStruct((2,), np.float32)
    # the head gives means, then standard deviations
    d = SQUASHED.build(jnp.float32([[1, 2, 0, 0]]), None)
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
    expected = 2 * expected + math.log(2 * 0.25)
    found = figures(squashed([mean] * 2, [std] * 2, 1), squashed(MEAN, STD, 1))[0]
    np.testing.assert_allclose(found, [expected], atol=2 * tolerance)


def test_squashed_entropy_is_what_samples_say():
    d = squashed(MEAN, STD, SAMPLES)
    logp = np.asarray(log_density(d, sample(d, jax.random.key(1), (SAMPLES, 2))), float)
    error = logp.std() / math.sqrt(SAMPLES)
    assert float(figures(d, d)[0][0]) == pytest.approx(-logp.mean(), abs=4 * error + 0.01)


def test_squashed_kl_is_the_integral():
    # of p(a) (log p(a) - log q(a)): over u, as the slope of the map cancels
    points, area = grid()
    log_p, log_q = (
        np.asarray(log_density(squashed(*of, len(points)), np.float32(points)), float)
        for of in ((MEAN, STD), (OTHER_MEAN, OTHER_STD))
    )
    p = scipy.stats.norm.pdf(points, MEAN, STD).prod(-1)
    found = figures(squashed(MEAN, STD, 1), squashed(OTHER_MEAN, OTHER_STD, 1))[1]
    np.testing.assert_allclose(found, [(p * (log_p - log_q)).sum() * area], rtol=1e-3)


def test_extreme_squashed_gaussians_have_finite_values_and_gradients():
    def total(params, other, u):
        a, b = SQUASHED.build(params[None], None), SQUASHED.build(other[None], None)
        return jnp.sum(a.logp(u[None]) + a.entropy() + a.kl(b))

    compiled = jax.jit(jax.value_and_grad(total, (0, 1, 2)))
    for size, raw in itertools.product((0.0, 30.0, 1e4), (-1e6, -3.0, 0.0, 3.0, 1e6)):
        one, other = jnp.float32([size, -size, raw, raw]), jnp.float32([-size, size, -raw, raw])
        for u in (jnp.zeros(2), jnp.float32([1e4, -1e4])):  # in the middle; at the bounds, and far beyond in u
            value, gradients = compiled(one, other, u)
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
        ActionDistribution.of(space, "squashed_gaussian")


# --- masks ----------------------------------------------------------------------------------------------------------

DISCRETE_4 = ActionDistribution.of(spaces.Discrete(4, start=3))
CHOICES = ActionDistribution.of(spaces.MultiDiscrete([2, 3]))


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
    entropy, kl = figures(d, masked(DISCRETE_4, np.zeros((4, 4)), np.array([[1, 0, 1, 0]] * 4, kind)))
    np.testing.assert_allclose(entropy, scipy.stats.entropy([0.2, 0.8]), rtol=1e-5)
    np.testing.assert_allclose(kl, 0.2 * np.log(0.2 / 0.5) + 0.8 * np.log(0.8 / 0.5), rtol=1e-4)
    np.testing.assert_array_equal(d.mode(), 2)


def test_masks_of_several_choices_lie_side_by_side():
    # of 2: the second alone; of 3: weights 2, 2, 4 without the last
    logits = np.log(np.float32([[1.0, 3, 2, 2, 4]] * 6))
    d = masked(CHOICES, logits, [[0, 1, 1, 1, 0]] * 6)
    np.testing.assert_allclose(
        np.exp(log_density(d, ACTIONS["multicategorical"])), [0, 0, 0, 0.5, 0.5, 0], rtol=1e-5, atol=1e-6
    )
    entropy, kl = figures(d, d)
    np.testing.assert_allclose(entropy, math.log(2), rtol=1e-5)
    np.testing.assert_allclose(kl, 0, atol=1e-6)
    np.testing.assert_array_equal(d.mode(), [[1, 0]] * 6)


@pytest.mark.parametrize("made", [DISCRETE_4, CHOICES], ids=["discrete", "multidiscrete"])
def test_a_mask_that_allows_everything_changes_nothing(made):
    logits = np.random.default_rng(0).normal(size=(7, made.num_params)) * 3
    one, other = masked(made, logits, np.ones(logits.shape, bool)), masked(made, logits, None)
    actions = other.mode()
    np.testing.assert_allclose(log_density(one, actions), log_density(other, actions), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(figures(one, one), figures(other, other), rtol=1e-4, atol=1e-6)
    key = jax.random.key(0)
    np.testing.assert_array_equal(sample(one, key, logits.shape), sample(other, key, logits.shape))


def test_masked_samples_come_as_often_as_their_probability_says():
    weights = np.float32([1, 2, 4, 8])
    d = masked(DISCRETE_4, np.tile(np.log(weights), (SAMPLES, 1)), np.tile([True, True, False, True], (SAMPLES, 1)))
    counts = np.bincount(sample(d, jax.random.key(2), (SAMPLES, 4)), minlength=4)
    assert counts[2] == 0
    assert scipy.stats.chisquare(counts[[0, 1, 3]], SAMPLES * np.array([1, 2, 8]) / 11).pvalue > 1e-3


def test_no_logit_makes_an_illegal_action_legal():
    for logits in ([1e30, -1e30, 0, 1e30], [-1e30, -1e30, -1e30, 1e30], [1e4, -1e4, -1e4, 0]):
        d = masked(DISCRETE_4, [logits] * 2000, [[0, 1, 1, 0]] * 2000)
        assert set(np.asarray(sample(d, jax.random.key(0), (2000, 4)))) <= {1, 2}
        assert set(np.asarray(d.mode())) <= {1, 2}


def test_masks_leave_finite_values_and_gradients():
    def total(logits, other, mask, action):
        a, b = DISCRETE_4.build(logits, None, mask), DISCRETE_4.build(other, None, mask)
        return a.logp(action) + a.entropy() + a.kl(b)

    compiled = jax.jit(jax.value_and_grad(total, (0, 1)))
    extreme = jnp.float32([1e4, -1e4, 1e9, 0])
    # every mask, with one legal action and with none too; every action, with the illegal ones
    for mask in itertools.product((False, True), repeat=4):
        for action, (one, other) in itertools.product(range(4), itertools.permutations((extreme, -extreme), 2)):
            value, gradients = compiled(one, other, np.array(mask), action)
            assert np.isfinite(value)
            assert np.all(np.isfinite(gradients))
            if any(mask):
                np.testing.assert_array_equal(np.array(gradients)[:, ~np.array(mask)], 0)


def test_one_legal_action_is_certain():
    d = masked(DISCRETE_4, [[3.0, -50, 9, 1]], [[0, 1, 0, 0]])
    np.testing.assert_array_equal(log_density(d, np.array([1])), [0])
    np.testing.assert_array_equal(figures(d, d), [[0], [0]])


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
    for space, name in ((spaces.MultiBinary(2), "Bernoulli"), (spaces.Box(-1, 1, (2,)), "DiagGaussian")):
        made = ActionDistribution.of(space)
        with pytest.raises(ValueError, match=f"^`action_mask`: only Discrete and MultiDiscrete .* not {name}"):
            made.build(jnp.zeros((1, 2)), jnp.zeros(2), np.ones((1, 2)))


# --- Joint ----------------------------------------------------------------------------------------------------------

NESTED = spaces.Dict(
    {
        "turn": spaces.Discrete(3, start=-1),
        "arm": spaces.Tuple([spaces.Box(-2, 2, (2, 1)), spaces.MultiDiscrete([2, 3])]),
        "lamps": spaces.MultiBinary(2),
        "speed": spaces.Box(0, 1, ()),
    }
)
PARAMS = np.random.default_rng(3).normal(size=(2, 6, 13)).astype(np.float32)
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
    made = ActionDistribution.of(NESTED)
    assert (made.kind, made.num_params, made.noise_size, made.log_std_size) == (Joint, 13, 13, 3)
    assert made.has_log_std
    assert hash(made) == hash(ActionDistribution.of(NESTED))
    number, whole = (lambda *shape, d=d: jax.ShapeDtypeStruct(shape, d) for d in (np.float32, np.int32))
    assert made.action == {"arm": (number(2), whole(2)), "lamps": whole(2), "speed": number(1), "turn": whole()}

    (d, other), (parts, others) = zip(*((made.build(p, LOG_STD), by_hand(p, LOG_STD)) for p in PARAMS), strict=True)
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
    np.testing.assert_allclose(d.kl(other), total(lambda part, theirs: part.kl(theirs), others), rtol=1e-4)
    for found, wanted in zip(
        jax.tree.leaves(d.mode()),
        jax.tree.leaves(jax.tree.map(lambda part: part.mode(), parts, is_leaf=is_distribution)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


def test_a_joint_distribution_with_squashed_numbers():
    made = ActionDistribution.of(NESTED, "squashed_gaussian")
    # a mean and a standard deviation for each of 3 numbers, which take one number of noise each
    assert (made.num_params, made.noise_size, made.log_std_size) == (16, 13, 0)
    assert made.squashes
    assert not made.has_log_std
    d = made.build(jnp.zeros((5, 16)), None)
    actions = d.sample(made.noise(jax.random.key(0), (5,)))
    assert d.logp(actions).shape == d.entropy().shape == (5,)
    # uniform choices of 2, 3 and 3 and two bits, and tanh of N(0, 1) in [-2, 2], twice, and in [0, 1]
    one = figures(*[SquashedGaussian(DiagGaussian(np.zeros((1, 1)), np.zeros((1, 1))), 0.0)] * 2)[0][0]
    expected = math.log(2 * 3 * 3 * 4) + 3 * one + 2 * math.log(2) + math.log(0.5)
    np.testing.assert_allclose(d.entropy(), expected, rtol=1e-4)


def test_the_noise_of_parts_is_independent():
    made = ActionDistribution.of(spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,))]))
    noise = np.asarray(made.noise(jax.random.key(0), (SAMPLES,)))
    assert np.all(np.abs(np.corrcoef(noise.T) - np.eye(3)) < 4 / math.sqrt(SAMPLES))


def test_a_dict_is_the_same_in_any_order():
    keys = sorted(NESTED.spaces, reverse=True)
    backwards = spaces.Dict([(key, NESTED[key]) for key in keys])
    assert list(backwards.spaces) == keys
    assert ActionDistribution.of(backwards) == ActionDistribution.of(NESTED)


def test_masks_of_parts():
    made = ActionDistribution.of(NESTED)
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
