"""Flax's and Keras' networks, with the real libraries."""

import os
import subprocess
import sys

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2 import networks
from ppo2.agent.policy import build_policy
from ppo2.networks import registry
from ppo2.networks.adapters import Adapted

pytestmark = pytest.mark.usefixtures("quickly_compiled")

os.environ["KERAS_BACKEND"] = "jax"

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))


def imported(name):
    return pytest.importorskip(name, reason=f"{name} is not installed")


def linen(features=6, *middle):
    nn = imported("flax.linen")
    return nn.Sequential([nn.Dense(5), nn.tanh, *middle, nn.Dense(features)])


def nnx(features=6, *middle, seed=0):
    nnx = imported("flax.nnx")
    rngs = nnx.Rngs(seed)
    return nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.tanh, *middle, nnx.Linear(5, features, rngs=rngs))


def keras(features=6, *middle):
    keras = imported("keras")
    layers = keras.layers
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh"), *middle, layers.Dense(features)])


KINDS = {"linen": linen, "nnx": nnx, "keras": keras}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
ready = pytest.mark.parametrize("make", [nnx, keras], ids=["nnx", "keras"])  # with weights of their own


def build(network, shape=(4,), dtype=np.float32, **kwargs):
    return networks.build(network, shape, kwargs, key=KEY, dtype=dtype)


def message(network, *arguments, **kwargs):
    with pytest.raises(ValueError, match="`") as error:
        build(network, *arguments, **kwargs)
    return str(error.value)


def learn(network, updates=2, **kwargs):
    given = {"env": "CartPole-v1", "num_envs": 2, "nsteps": 16, "seed": 1, "lr": 1e-2, **kwargs}
    return ppo2.learn(network=network, total_timesteps=32 * updates, **given)


def theirs(unwrapped, x):
    """The library's own output for a batch."""
    if isinstance(unwrapped, tuple):
        module, variables = unwrapped
        return module.apply(variables, x)
    return unwrapped(x)


def weights(network):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(network) if isinstance(leaf, jax.Array)]


def assert_equal(ones, others):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


# --- as networks ----------------------------------------------------------------------------------------------------


@kinds
def test_features_are_the_librarys_own(make):
    network, features = build(make())
    assert features == 6
    found = jax.jit(jax.vmap(network))(X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, theirs(network.unwrap(), X), rtol=1e-5, atol=1e-6)


def test_linen_modules_are_initialised_by_themselves_from_the_key():
    module = linen()
    assert_equal(weights(build(module)[0].params), weights(module.init(KEY, X[:1])["params"]))


@ready
def test_others_start_with_the_weights_that_they_have(make):
    given = make()
    np.testing.assert_allclose(jax.vmap(build(given)[0])(X), given(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["layer", "unbuilt", "subclass"])
def test_keras_models_of_any_make(kind):
    keras = imported("keras")

    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x, training=False):
            return self.dense(x)

    made = {
        "layer": lambda: keras.layers.Dense(3),
        "unbuilt": lambda: keras.Sequential([keras.layers.Dense(3)]),
        "subclass": Mine,
    }[kind]()
    network, features = build(made)
    assert features == 3
    np.testing.assert_allclose(jax.vmap(network)(X), made(X), rtol=1e-5, atol=1e-6)


def test_nnx_modules_may_keep_rngs_that_they_never_draw_from():
    nnx_ = imported("flax.nnx")
    module = nnx(6, nnx_.Dropout(0.5, rngs=nnx_.Rngs(0)))
    module.eval()
    network, _ = build(module)
    np.testing.assert_allclose(jax.vmap(network)(X), module(X), rtol=1e-5, atol=1e-6)
    assert network.unwrap().layers[2].rngs.count[...] == 0  # what comes back is whole
    assert learn(module).state.counters.updates == 2


def test_linen_dropout_may_be_switched_off():
    nn = imported("flax.linen")
    assert build(linen(6, nn.Dropout(0.5, deterministic=True)))[1] == 6


@kinds
def test_builders_may_give_them(make):
    networks.register("theirs")(lambda features=3: lambda input_shape, *, key: make(features))
    network, features = build("theirs", features=7)
    assert isinstance(network, Adapted)
    assert features == 7
    assert build(lambda: make(2))[1] == 2


def test_a_linen_class_is_a_builder():
    nn = imported("flax.linen")
    assert build(nn.Dense, features=3)[1] == 3


@kinds
def test_ready_ones_take_no_options(make):
    assert message(make(), features=2).startswith("`features`: a ready network (Sequential) takes no network arguments")


def test_images_come_as_they_are():
    nn = imported("flax.linen")
    network, _ = build(nn.Sequential([lambda x: x.reshape(1, -1) / 2.0]), (2, 1), np.uint8)
    np.testing.assert_array_equal(network(jnp.uint8([[4], [255]])), [2, 127.5])


# --- training -------------------------------------------------------------------------------------------------------


def weights_in(given):
    """Weights in a library's own object; a Linen module has none."""
    if hasattr(given, "trainable_variables"):
        return [np.array(variable.value) for variable in given.trainable_variables]
    return weights(imported("flax.nnx").state(given)) if type(given).__module__.startswith("flax.nnx") else []


@kinds
def test_training_changes_all_weights_but_nothing_that_was_given(make, tmp_path):
    given = {"network": make(), "value_network": make(3)}
    before = [*map(weights_in, given.values())]
    start, model = learn(updates=0, **given).policy, learn(**given)
    policy = model.policy
    for one, other in zip(weights(start), weights(policy), strict=True):
        assert other.dtype == np.float32
        assert np.any(one != other)
    for one, other in zip(before, map(weights_in, given.values()), strict=True):
        assert_equal(one, other)

    path = model.save(tmp_path / "model.safetensors")
    again = ppo2.load(path, network=make(), value_network=make(3))
    assert_equal(weights(policy), weights(again.policy))
    np.testing.assert_array_equal(model.value(X), again.value(X))
    with pytest.raises(ValueError, match=r"an object \(Sequential\) as `network`, which no file can hold: pass it"):
        ppo2.load(path)

    for trunk in (policy.trunk, policy.value_trunk):
        features = jax.vmap(trunk)(X)
        np.testing.assert_allclose(theirs(trunk.unwrap(), X), features, rtol=1e-5, atol=1e-6)
    if make is keras:
        assert policy.trunk.unwrap() is given["network"]


def policy_of(network, value_network):
    box, two = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(2)
    return build_policy(box, two, network=network, value_network=value_network, key=KEY)


def test_copies_of_linen_modules_have_weights_of_their_own():
    policy = policy_of(linen(), "copy")
    assert np.any(weights(policy.trunk)[1] != weights(policy.value_trunk)[1])


@ready
def test_copies_of_those_with_weights_are_refused(make):
    with pytest.raises(ValueError, match=r"`value_network` \(='copy'\).* but `network` \(Sequential\) comes with its"):
        policy_of(make(), "copy")
    # either remedy of the message
    given = make()
    assert_equal(*map(weights, (lambda policy: (policy.trunk, policy.value_trunk))(policy_of(given, given))))
    made = iter([make(), make(5)])
    assert policy_of(lambda: lambda input_shape: next(made), "copy").value_head.weight.shape == (1, 5)


@pytest.mark.parametrize(("make", "shares"), [(linen, True), (nnx, True), (keras, False)], ids=KINDS)
def test_programs_are_shared_where_a_network_cannot_change(make, shares):
    one, other = (learn(make(), updates=0) for _ in range(2))
    assert (one.trace_identity() is not None and one.trace_identity() == other.trace_identity()) == shares


# --- what is refused ------------------------------------------------------------------------------------------------


def normalising(kind):
    match kind:
        case "linen":
            return linen(6, imported("flax.linen").BatchNorm(use_running_average=False))
        case "nnx":
            return nnx(6, imported("flax.nnx").BatchNorm(5, rngs=imported("flax.nnx").Rngs(0)))
    return keras(6, imported("keras").layers.BatchNormalization())


def dropping(kind):
    match kind:
        case "linen":
            return linen(6, imported("flax.linen").Dropout(0.5, deterministic=False))
        case "nnx":
            return nnx(6, imported("flax.nnx").Dropout(0.5, rngs=imported("flax.nnx").Rngs(0)))
    return keras(6, imported("keras").layers.Dropout(0.5))


@pytest.mark.parametrize(
    ("kind", "state", "remedy"),
    [
        ("linen", "the collections batch_stats", "nn.LayerNorm"),
        ("nnx", "layers.2.mean, of type BatchStat", "nnx.LayerNorm"),
        ("keras", "batch_normalization", "LayerNormalization"),
    ],
)
def test_batch_norm_is_refused(kind, state, remedy):
    found = message(normalising(kind))
    assert found.startswith("`network` (Sequential) has ")
    assert state in found
    assert remedy in found.split("nothing but weights")[1]


@pytest.mark.parametrize(
    ("kind", "state", "remedy"),
    [
        ("linen", "a source of randomness", "deterministic=True"),
        ("nnx", "a source of randomness", "`eval()`"),
        ("keras", "seed_generator_state", "Leave out Dropout"),
    ],
)
def test_dropout_is_refused(kind, state, remedy):
    found = message(dropping(kind))
    assert state in found
    assert remedy in found.split("nothing but weights")[1]


def test_weights_that_are_not_trained_are_refused():
    model = keras()
    model.layers[0].trainable = False
    assert "let all layers be trainable" in message(model)
    nnx_ = imported("flax.nnx")

    class Table(nnx_.Module):
        def __init__(self):
            self.table = nnx_.Cache(jnp.ones(4))

    assert "has table, of type Cache; a network may have nothing but weights" in message(Table())


@pytest.mark.parametrize("make", [nnx, keras], ids=["nnx", "keras"])
def test_an_observation_of_another_shape_is_refused(make):
    found = message(make(), (3,))
    assert found.startswith(
        "`network` (Sequential) can't be called on one observation of shape (3,) (Flax and Keras see a batch of one, "
        "(1, 3)): "
    )


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (jnp.sum, "(Flax and Keras see a batch of one, (1, 4)): it gives (), whose first axis is not the batch."),
        (jnp.ravel, "it gives (4,), whose first axis is not the batch."),
        (
            lambda x: (x, x),
            "gives ((4,), (4,)) for one observation of shape (4,); it must give one vector of features.",
        ),
        (
            lambda x: x[..., None],
            "gives (4, 1) for one observation of shape (4,); it must give one vector of features.",
        ),
    ],
)
def test_an_output_that_is_no_vector_is_refused(output, said):
    assert message(imported("flax.linen").Sequential([output])).endswith(said)


def test_a_linen_module_that_cannot_be_called_alone_is_refused_with_its_own_words():
    nn = imported("flax.linen")

    class Told(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return x

    assert "missing 1 required positional argument: 'train'" in message(Told())


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_keras_on_another_backend_is_refused():
    imported("keras")
    code = """
import keras, ppo2
ppo2.learn(network=keras.Sequential([keras.layers.Dense(3)]), env="CartPole-v1", total_timesteps=1e5)
"""
    said = "ValueError: `network` (Sequential) runs on numpy, but must on JAX: Keras 3, with the environment variable "
    assert said + "KERAS_BACKEND=jax" in run(code, KERAS_BACKEND="numpy").stderr


def test_importing_and_training_import_neither():
    code = """
import sys, ppo2
ppo2.learn(network="mlp", env="CartPole-v1", num_envs=2, nsteps=8, total_timesteps=16)
assert not {"flax", "keras"} & set(sys.modules)
"""
    assert run(code).returncode == 0
