"""The multi-layer perceptron."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2 import networks
from ppo2.networks.mlp import ACTIVATIONS
from support.networks import assert_orthogonal, build, message

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def by_hand(network, x, *, layer_norm=False):
    """Dense, layer norm, tanh, written out in NumPy."""
    h = np.ravel(x).astype(float)
    for layer in network.layers:
        h = np.asarray(layer.weight, float) @ h + np.asarray(layer.bias)
        if layer_norm:
            h = (h - h.mean()) / np.sqrt(h.var() + 1e-5)
        h = np.tanh(h)
    return h


@pytest.mark.parametrize("layer_norm", [False, True])
def test_mlp_by_hand(layer_norm):
    network, features = build("mlp", (2, 3), num_layers=2, num_hidden=5, layer_norm=layer_norm)
    assert [layer.weight.shape for layer in network.layers] == [(5, 6), (5, 5)]
    assert features == 5
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    found = jax.jit(lambda network, x: network(x))(network, x)
    np.testing.assert_allclose(found, by_hand(network, x, layer_norm=layer_norm), rtol=1e-4, atol=1e-5)
    assert not layer_norm or found.std() > 0.1  # else the two cases would be the same


@pytest.mark.parametrize("rows", [2, 200])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_mlp_on_a_batch_is_the_mlp_of_each_row(rows, layer_norm):
    network, _ = build("mlp", (2, 3), num_hidden=16, layer_norm=layer_norm)
    x = np.random.default_rng(0).normal(size=(rows, 2, 3)).astype(np.float32)
    expected = [by_hand(network, row, layer_norm=layer_norm) for row in x]
    np.testing.assert_allclose(jax.jit(networks.apply)(network, x), expected, rtol=1e-4, atol=1e-5)


def test_mlp_is_baselines_by_default():
    network, features = build("mlp")
    assert [layer.weight.shape for layer in network.layers] == [(64, 3), (64, 64)]
    for layer in network.layers:
        assert_orthogonal(layer.weight, math.sqrt(2))
        np.testing.assert_array_equal(layer.bias, np.zeros(64))
    assert network.activation is ACTIVATIONS["tanh"]
    assert (network.norms, features) == (None, 64)
    # each layer has a key of its own
    assert np.any(np.asarray(build("mlp", (64,))[0].layers[0].weight) != np.asarray(network.layers[1].weight))


def test_mlp_without_layers_only_flattens():
    network, features = build("mlp", (2, 2), num_layers=0)
    assert features == 4
    np.testing.assert_allclose(network(np.uint8([[0, 51], [255, 102]])), [0, 0.2, 1, 0.4])
    assert build("mlp", (), num_layers=0)[1] == 1


def test_mlp_depends_on_the_key():
    make = networks.mlp(num_layers=1, num_hidden=4)
    one, again, other = (np.asarray(make((3,), key=jax.random.key(k)).layers[0].weight) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.all(one != other)


X = np.array([-1.5, 0.0, 2.0])

SIGMOID = 1 / (1 + np.exp(-X))
EXPECTED = {
    "tanh": np.tanh(X),
    "relu": [0, 0, 2],
    "elu": [math.exp(-1.5) - 1, 0, 2],
    "gelu": 0.5 * X * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3))),
    "silu": X * SIGMOID,
    "leaky_relu": [-0.015, 0, 2],
    "sigmoid": SIGMOID,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_by_hand(name):
    np.testing.assert_allclose(ACTIVATIONS[name](np.float32(X)), EXPECTED[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("activation", "function"), [("relu", jax.nn.relu), (jnp.sin, jnp.sin)])
def test_activations_are_names_or_functions(activation, function):
    network, _ = build("mlp", num_layers=1, num_hidden=4, activation=activation)
    assert network.activation is function
    x = np.float32([1, -2, 3])
    np.testing.assert_allclose(network(x), function(network.layers[0].weight @ x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "least", "value"),
    [
        *(("num_layers", 0, value) for value in (-1, 2.0, "2", True, None)),
        *(("num_hidden", 1, value) for value in (0, -64, 64.5, "64", True, None)),
    ],
)
def test_mlp_sizes_are_checked(name, least, value):
    found = message(ValueError, "mlp", **{name: value})
    assert found == f"`{name}` (={value!r}) must be a whole number of at least {least}, for example 2 or 64."


def test_mlp_activation_is_checked():
    known = "tanh, relu, elu, gelu, silu, leaky_relu, sigmoid"
    found = message(ValueError, "mlp", activation="rleu")
    assert found == f"`activation` (='rleu') is unknown; known are {known}."
    found = message(ValueError, "mlp", activation=3)
    assert found == f"`activation` (=3) must be a name ({known}) or a function."
