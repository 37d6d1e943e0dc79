import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics.statistics import Moments, explained_variance, weighted_mean, weighted_moments


def moments_of(data):
    return Moments(jnp.array(data.mean(0)), jnp.array(data.var(0)), jnp.float32(len(data)))


def test_start_weighs_nothing():
    start = Moments.start((2,))
    np.testing.assert_array_equal(start.mean, [0, 0])
    np.testing.assert_array_equal(start.var, [1, 1])
    assert start.count == 0
    still = start.update(jnp.full((3, 2), jnp.nan), jnp.zeros(3))
    np.testing.assert_array_equal(np.stack([still.mean, still.var]), [[0, 0], [1, 1]])
    first = start.update(jnp.float32([[1e6, 5], [1e6 + 2, 5]]), jnp.ones(2))
    np.testing.assert_array_equal(np.stack([first.mean, first.var]), [[1e6 + 1, 5], [1, 0]])


def test_merge_by_hand():
    # {1, 3}: mean 2, variance 1; {8}: mean 8, variance 0. Together mean 4, variance ((-3)^2 + (-1)^2 + 4^2) / 3 = 26/3
    found = Moments(jnp.float32(2), jnp.float32(1), jnp.float32(2)).merge(
        Moments(jnp.float32(8), jnp.float32(0), jnp.float32(1))
    )
    np.testing.assert_allclose((found.mean, found.var, found.count), (4, 26 / 3, 3), rtol=1e-6)


def test_merge_is_the_moments_of_both():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 2, (40, 2, 3)), rng.normal(-5, 0.1, (7, 2, 3))
    found, both = moments_of(a).merge(moments_of(b)), np.concatenate([a, b])
    np.testing.assert_allclose(found.mean, both.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.var, both.var(0), rtol=1e-5)
    assert found.count == 47


def test_updates_piece_by_piece_are_the_moments_of_the_whole():
    # far from 0, where sums of squares would lose every digit in float32: 1e4^2 = 1e8, beside a variance of 1
    data = np.random.default_rng(0).normal(1e4, 1, (600, 2))
    found = Moments.start((2,))
    for piece in np.split(data, 6):
        found = found.update(jnp.array(piece), jnp.ones(100))
    assert found.count == pytest.approx(600)
    np.testing.assert_allclose(found.mean, data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.var, data.var(0), rtol=3e-2)


def test_rows_of_weight_0_count_nothing():
    data, weights = jnp.array([[1.0, 10], [3, 30], [99, -99]]), jnp.array([1.0, 1, 0])
    found = weighted_moments(data, weights)
    np.testing.assert_allclose(found.mean, [2, 20])
    np.testing.assert_allclose(found.var, [1, 100])
    assert found.count == 2
    assert weighted_mean(data[:, 0], weights) == 2


def test_no_row_gives_0():
    found = weighted_moments(jnp.ones((3, 2)), jnp.zeros(3))
    np.testing.assert_array_equal(found.mean, [0, 0])
    np.testing.assert_array_equal(found.var, [0, 0])
    assert found.count == 0
    assert weighted_mean(jnp.ones(3), jnp.zeros(3)) == 0
    before = moments_of(np.array([[1.0, 2], [5, 3]]))
    after = before.update(jnp.full((3, 2), 7.0), jnp.zeros(3))
    np.testing.assert_allclose(after.mean, before.mean)
    np.testing.assert_allclose(after.var, before.var)


TARGETS = jnp.array([1.0, 2, 3, 6])


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (TARGETS, 1),
        (TARGETS + 5, 1),  # an offset has no variance
        (jnp.full(4, 9.0), 0),
        (TARGETS / 2, 0.75),  # Var[t / 2] / Var[t] = 1/4
        (-TARGETS, -3),  # Var[2 t] / Var[t] = 4
    ],
)
def test_explained_variance(predictions, expected):
    assert explained_variance(predictions, TARGETS, jnp.ones(4)) == pytest.approx(expected, abs=1e-6)


def test_explained_variance_leaves_out_weight_0():
    predictions, targets = jnp.append(TARGETS, -1e3), jnp.append(TARGETS, 1e3)
    assert explained_variance(predictions, targets, jnp.array([1.0, 1, 1, 1, 0])) == pytest.approx(1)


@pytest.mark.parametrize(
    "constant",
    [
        0.0,
        2.0,
        0.1,
    ],
)
def test_explained_variance_of_equal_targets_is_nan(constant):
    assert np.isnan(explained_variance(jnp.arange(100.0), jnp.full(100, constant), jnp.ones(100)))
