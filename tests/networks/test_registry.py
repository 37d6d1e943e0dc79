"""Builders by name, and the values that a `network` argument may have."""

import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2 import networks
from ppo2.networks import registry
from ppo2.networks.layers import as_float
from support.networks import KEY, Doubler, build, message


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))


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


def test_what_cannot_be_called_as_a_builder_is_refused():
    for given in (eqx.nn.Linear, networks.recurrent("mlp", "lstm")(nlstm=4)):
        assert "can't be called as a builder is: " in message(ValueError, given)
    found = message(ValueError, lambda: lambda: 3)
    assert found.startswith("what `network` (<lambda>) gave can't be called as a builder is: too many positional")
