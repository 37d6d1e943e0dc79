"""Layers: initialisation, scaling of images, the linear layer and its gradients."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.networks import layers
from ppo2.networks.layers import as_float, dense, linear, linear_on_batch
from support.networks import KEY, assert_orthogonal

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize(("n_in", "n_out", "gain"), [(3, 5, math.sqrt(2)), (5, 3, 0.01), (4, 4, 1.0)])
def test_dense_is_orthogonal_with_zero_bias(n_in, n_out, gain):
    layer = dense(n_in, n_out, gain, key=KEY)
    assert layer.weight.shape == (n_out, n_in)
    assert_orthogonal(layer.weight, gain)
    np.testing.assert_array_equal(layer.bias, np.zeros(n_out))


def test_dense_has_all_that_a_linear_layer_of_equinox_has():
    layer, theirs = dense(3, 5, 1.0, key=KEY), eqx.nn.Linear(3, 5, key=KEY)
    assert isinstance(layer, eqx.nn.Linear)
    shapes = [jax.tree.map(np.shape, dataclasses.asdict(one)) for one in (layer, theirs)]
    assert shapes[0] == shapes[1]
    np.testing.assert_allclose(layer(jnp.ones(3)), layer.weight.sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 96), (96, 3), (40, 30)])
def test_large_layers_are_as_orthogonal_by_matrix_products(monkeypatch, shape):
    exact = layers.orthogonal(shape, 1.5, key=KEY)
    monkeypatch.setattr(layers, "MOST_QR_WORK", 0)
    found = layers.orthogonal(shape, 1.5, key=KEY)
    assert_orthogonal(found, 1.5)
    assert found.shape == shape
    np.testing.assert_array_equal(found, layers.orthogonal(shape, 1.5, key=KEY))
    if shape == (40, 30):  # float64: the same random matrix, hence the same one that is orthogonal
        np.testing.assert_allclose(found, exact, atol=1e-5)


def test_a_matrix_that_cholesky_refuses_is_decomposed_by_qr(monkeypatch):
    monkeypatch.setattr(layers, "MOST_QR_WORK", 0)
    monkeypatch.setattr(layers, "_drawn", lambda shape, generator: np.zeros(shape))
    assert_orthogonal(layers.orthogonal((40, 20), 1.0, key=KEY), 1.0)


def test_badly_conditioned_matrices_take_a_second_pass(monkeypatch):
    def nearly_dependent(shape, generator):
        drawn = generator.standard_normal(shape)
        drawn[:, 1] = drawn[:, 0] + 1e-6 * drawn[:, 1]
        return drawn

    monkeypatch.setattr(layers, "MOST_QR_WORK", 0)
    monkeypatch.setattr(layers, "_drawn", nearly_dependent)
    assert_orthogonal(layers.orthogonal((40, 20), 1.5, key=KEY), 1.5)
    monkeypatch.setattr(layers, "MOST_CONDITION", np.inf)  # one pass isn't enough
    with pytest.raises(AssertionError):
        assert_orthogonal(layers.orthogonal((40, 20), 1.5, key=KEY), 1.5)


def test_only_8_bit_images_are_scaled():
    found = as_float(np.uint8([0, 51, 255]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0, 0.2, 1])
    for dtype in (np.int8, np.int32, np.float16, np.bool_):
        given = np.array([0, 1, 100]).astype(dtype)
        assert as_float(given).dtype == np.float32
        np.testing.assert_array_equal(as_float(given), given.astype(np.float32))


def stacked(*trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def biased(seed):
    """4 features to 3, with a bias that is not 0."""
    layer = dense(4, 3, 1.0, key=jax.random.key(seed))
    return eqx.tree_at(lambda m: m.bias, layer, jax.random.normal(jax.random.key(seed), (3,)))


INPUTS = jax.random.normal(KEY, (5, 4))


def over_inputs(apply, layer):
    return jax.vmap(lambda x: apply(layer, x))(INPUTS)


WAYS = {
    "one input": (lambda apply, layer: apply(layer, INPUTS[0]), lambda: biased(0)),
    "inputs": (over_inputs, lambda: biased(0)),
    "inputs twice": (
        lambda apply, layer: jax.vmap(jax.vmap(lambda x: apply(layer, x)))(INPUTS.reshape(5, 2, 2).repeat(2, -1)),
        lambda: biased(0),
    ),
    "layers, then inputs": (
        lambda apply, layers: jax.vmap(lambda layer: over_inputs(apply, layer))(layers),
        lambda: stacked(biased(0), biased(1)),
    ),
    "inputs, then layers": (
        lambda apply, layers: jax.vmap(lambda x: jax.vmap(lambda layer: apply(layer, x))(layers))(INPUTS),
        lambda: stacked(biased(0), biased(1)),
    ),
    "layers with inputs of their own": (
        lambda apply, layers: jax.vmap(apply)(layers, INPUTS),
        lambda: stacked(*map(biased, range(5))),
    ),
    "layers alone": (
        lambda apply, layers: jax.vmap(lambda layer: apply(layer, INPUTS[0]))(layers),
        lambda: stacked(biased(0), biased(1)),
    ),
}


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_linear_is_the_layer_and_so_are_its_gradients(way, jit):
    """Against Equinox's own, however it is mapped: by sample as in policies, by seed as in sweeps, or not at all."""
    apply_in, make = WAYS[way]

    def outputs_and_gradients(apply, layer, x_scale):
        def loss(layer, x_scale):
            found = apply_in(lambda layer, x: apply(layer, x * x_scale), layer)
            return jnp.sum(jnp.sin(found)), found

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(layer, x_scale)

    run = jax.jit(outputs_and_gradients, static_argnums=0) if jit else outputs_and_gradients
    arguments = make(), jnp.float32(0.7)
    mine, theirs = (run(apply, *arguments) for apply in (linear, lambda layer, x: layer(x)))
    for one, other in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def plain_product(layer, x):
    return jnp.matmul(x, layer.weight.T, precision="highest") + layer.bias


def test_linear_on_many_rows_is_linear_of_each_and_so_are_its_derivatives():
    layer = eqx.tree_at(lambda m: m.bias, dense(40, 16, 1.0, key=KEY), jnp.arange(16, dtype=jnp.float32))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(128, 40)), jnp.float32)

    def of(function):
        loss = jax.value_and_grad(lambda pair: jnp.sum(jnp.sin(function(*pair))))
        gradient = jax.jit(loss)((layer, x))
        forwards = jax.jvp(lambda x: function(layer, x), (x,), (jnp.cos(x),))
        curvature = jax.grad(lambda pair: jnp.sum(loss(pair)[1][0].weight ** 2))((layer, x))
        return jax.tree.leaves((gradient, forwards, curvature))

    for found, expected in zip(of(linear_on_batch), of(plain_product), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_gradient_of_a_weight_reads_a_transposed_copy_where_rows_are_many(monkeypatch):
    layer = dense(64, 64, 1.0, key=KEY)

    def copies(rows):
        x = jnp.ones((rows, 64), jnp.float32)
        return str(jax.make_jaxpr(jax.grad(lambda m: jnp.sum(linear_on_batch(m, x))))(layer)).count("barrier")

    assert copies(128) > 0 == copies(127)
    monkeypatch.setattr(layers, "platform", lambda: "gpu")
    assert copies(128) == 0
