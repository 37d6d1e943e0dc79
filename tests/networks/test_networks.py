import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2 import networks
from ppo2.networks import registry
from ppo2.networks.layers import as_float, dense, linear
from ppo2.networks.mlp import ACTIVATIONS

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))


class Doubler(eqx.Module):
    factor: jax.Array = eqx.field(default_factory=lambda: jnp.float32(2))

    def __call__(self, x):
        return self.factor * as_float(x).ravel()


def build(network, shape=(3,), /, **kwargs):
    return networks.build(network, shape, kwargs, key=KEY)


def message(kind, *arguments, **kwargs):
    with pytest.raises(kind) as error:
        build(*arguments, **kwargs)
    return str(error.value)


# --- layers ---------------------------------------------------------------------------------------------------------


def assert_orthogonal(weight, gain):
    """Rows are orthogonal and of length `gain`, or columns where there are fewer."""
    weight = np.asarray(weight, float)
    smaller = weight @ weight.T if len(weight) <= weight.shape[1] else weight.T @ weight
    np.testing.assert_allclose(smaller, gain**2 * np.eye(len(smaller)), atol=1e-5 * gain**2)


@pytest.mark.parametrize(("n_in", "n_out", "gain"), [(3, 5, math.sqrt(2)), (5, 3, 0.01), (4, 4, 1.0)])
def test_dense_is_orthogonal_with_zero_bias(n_in, n_out, gain):
    layer = dense(n_in, n_out, gain, key=KEY)
    assert layer.weight.shape == (n_out, n_in)
    assert_orthogonal(layer.weight, gain)
    np.testing.assert_array_equal(layer.bias, np.zeros(n_out))


def test_only_8_bit_images_are_scaled():
    found = as_float(np.uint8([0, 51, 255]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0, 0.2, 1])
    for dtype in (np.int8, np.int32, np.float16, np.bool_):
        given = np.array([0, 1, 100]).astype(dtype)
        assert as_float(given).dtype == np.float32
        np.testing.assert_array_equal(as_float(given), given.astype(np.float32))


# --- mlp ------------------------------------------------------------------------------------------------------------


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


# --- names and options ----------------------------------------------------------------------------------------------


def test_register_makes_a_builder_known():
    @networks.register("zeros")
    def zeros(size=2):
        return lambda input_shape: lambda x: jnp.zeros(size)

    named = "cnn cnn_lnlstm cnn_lstm cnn_small conv_only gru impala_cnn impala_cnn_lstm lnlstm lstm mlp zeros"
    assert list(networks.known()) == named.split()
    assert networks.known()["zeros"] is zeros
    assert networks.known()["cnn"] is networks.cnn
    assert build("zeros")[1] == 2
    assert build("zeros", size=7)[1] == 7
    assert networks.register("zeros")(zeros) is zeros  # a notebook's cell, run again


def test_a_name_is_taken_once():
    def mine(**kwargs):
        return None

    def other(**kwargs):
        return None

    networks.register("mine")(mine)
    with pytest.raises(ValueError, match=r"a network named 'mine' is registered already \(.*mine\)") as error:
        networks.register("mine")(other)
    assert mine.__qualname__ in str(error.value)
    assert networks.known()["mine"] is mine


def test_a_partial_can_be_registered_again():
    for _ in range(2):
        networks.register("small")(functools.partial(networks.mlp, num_hidden=8))


def test_an_unknown_name_is_refused_with_the_known_ones():
    found = message(ValueError, "lmp")
    assert found.startswith("`network` (='lmp'): unknown network type; did you mean 'mlp'? Known are cnn, ")
    assert "@ppo2.register(name)" in found
    found = message(ValueError, "transformer")
    assert "did you mean" not in found
    with pytest.raises(ValueError, match=r"^`value_network` \(='x'\): unknown network type"):
        networks.check("x", "value_network")


def test_an_unknown_option_is_refused_with_the_known_ones():
    taken = "`num_layers`, `num_hidden`, `activation`, `layer_norm`"
    found = message(ValueError, "mlp", num_hiden=32)
    assert found == (
        f"`num_hiden` (=32) is no argument of learn() nor of the network 'mlp', which takes {taken}; "
        "did you mean `num_hidden`?"
    )
    assert message(ValueError, "mlp", xyz=1).endswith(f"which takes {taken}.")


def test_a_builder_without_options_says_so():
    def plain():
        return Doubler()

    assert message(ValueError, plain, depth=2).endswith("nor of the network 'plain', which takes none.")
    assert list(networks.options(networks.mlp)) == ["num_layers", "num_hidden", "activation", "layer_norm"]


# --- what a network argument may be ---------------------------------------------------------------------------------


def test_builders_with_and_without_a_key():
    seen = []

    def with_key(*, depth=1):
        def at_shape(input_shape, *, key):
            seen.append((input_shape, depth, key))
            return Doubler()

        return at_shape

    def without_key(**kwargs):
        def at_shape(input_shape):
            seen.append((input_shape, kwargs))
            return lambda x: x.ravel()

        return at_shape

    assert build(with_key, (2, 3), depth=4)[1] == 6
    assert build(without_key, (2, 3), depth=4, more=5)[1] == 6
    assert seen[0] == ((2, 3), 4, KEY)
    assert seen[1] == ((2, 3), {"depth": 4, "more": 5})


def test_ready_networks():
    ready = Doubler()
    network, features = build(ready, (2, 3))
    assert network is ready
    assert features == 6
    # a builder may also give one at once, and a class is a builder
    assert build(lambda: ready)[0] is ready
    assert isinstance(build(Doubler)[0], Doubler)
    assert networks.check(ready) is None
    assert networks.check(Doubler) is Doubler
    assert networks.check("mlp") is networks.mlp


def test_ready_networks_take_no_options():
    found = message(ValueError, Doubler(), num_layers=2)
    assert found == "`num_layers`: a ready network (Doubler) takes no network arguments."


def test_other_things_are_refused():
    for thing in (None, 3, ["mlp"]):
        found = message(TypeError, thing)
        assert found.startswith(f"`network` (={thing!r}) must be a name (cnn, cnn_lnlstm, cnn_lstm, ")


def test_a_module_that_cannot_be_called_is_refused():
    class Mute(eqx.Module):
        pass

    assert message(TypeError, Mute()) == "`network` (Mute) is an equinox.Module without __call__."


def test_a_builder_that_gives_no_network_is_refused():
    def broken():
        return 3

    def broken_later():
        return lambda input_shape: 3

    assert message(TypeError, broken) == "`network` (broken) gave 3, which is no network: it can't be called."
    assert message(TypeError, broken_later).startswith("`network` (broken_later) gave 3, which is no network")


@pytest.mark.parametrize(
    ("output", "shapes"),
    [
        (lambda x: x.sum(), "()"),
        (lambda x: x[None], "(1, 3)"),
        (lambda x: (x, x), "((3,), (3,))"),
        (lambda x: x.astype(jnp.int32), "(3,) of int32, which is no float,"),
        (lambda x: 3.0, "3.0"),
    ],
)
def test_a_network_that_gives_no_vector_is_refused(output, shapes):
    def odd():
        return lambda input_shape: output

    found = message(ValueError, odd)
    assert found == (
        f"`network` (odd) gives {shapes} for one observation of shape (3,); it must give one vector of features."
    )


def test_a_network_that_fails_is_refused_with_its_own_words():
    def batched():
        return lambda input_shape: lambda x: x @ jnp.ones((5, 2))

    found = message(ValueError, batched)
    assert found.startswith("`network` (batched) can't be called on one observation of shape (3,) (networks see one ")
    assert "dot_general" in found


def test_networks_are_tried_with_the_observations_dtype():
    seen = []

    def spy():
        return lambda input_shape: lambda x: seen.append((x.shape, x.dtype)) or as_float(x).ravel()

    networks.build(spy, (2, 2), {}, key=KEY, dtype=np.uint8)
    assert seen == [((2, 2), np.uint8)]


# --- the linear layer


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


def test_what_cannot_be_called_as_a_builder_is_refused():
    for given in (eqx.nn.Linear, networks.recurrent("mlp", "lstm")(nlstm=4)):
        assert "can't be called as a builder is: " in message(ValueError, given)
    found = message(ValueError, lambda: lambda: 3)
    assert found.startswith("what `network` (<lambda>) gave can't be called as a builder is: too many positional")
