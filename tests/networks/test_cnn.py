"""Convolutional networks: architecture, initialisation, layouts, errors."""

import math

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2 import networks
from support.environments import Light

pytestmark = pytest.mark.usefixtures("quickly_compiled")

KEY = jax.random.key(0)
ATARI = (84, 84, 4)


def build(name, shape=ATARI, dtype=np.uint8, **kwargs):
    return networks.build(name, shape, kwargs, key=KEY, dtype=dtype)


def message(name, shape=ATARI, **kwargs):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the callers compare the message)
        build(name, shape, **kwargs)
    return str(error.value)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def parameters(network):
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)))


@pytest.mark.parametrize(
    ("name", "kwargs", "features", "count"),
    [
        # 84 -> (84 - 8) / 4 + 1 = 20 -> (20 - 4) / 2 + 1 = 9 -> 7: 7 * 7 * 64 = 3136
        ("cnn", {}, 512, (8 * 8 * 4 + 1) * 32 + (4 * 4 * 32 + 1) * 64 + (3 * 3 * 64 + 1) * 64 + (3136 + 1) * 512),
        # 84 -> 20 -> 9: 9 * 9 * 16 = 1296
        ("cnn_small", {}, 128, (8 * 8 * 4 + 1) * 8 + (4 * 4 * 8 + 1) * 16 + (1296 + 1) * 128),
        ("conv_only", {}, 3136, (8 * 8 * 4 + 1) * 32 + (4 * 4 * 32 + 1) * 64 + (3 * 3 * 64 + 1) * 64),
        # 84 -> 21 -> 11 at strides 4 and 2
        ("conv_only", {"convs": [[2, 8, 4], [3, 4, 2]], "padding": "same"}, 11 * 11 * 3, 257 * 2 + (4 * 4 * 2 + 1) * 3),
        # 84 -> 42 -> 21 -> 11: 11 * 11 * 32 = 3872; each block has one convolution into it and four within
        (
            "impala_cnn",
            {},
            256,
            (37 * 16 + 4 * 145 * 16) + (145 * 32 + 4 * 289 * 32) + (289 * 32 + 4 * 289 * 32) + 3873 * 256,
        ),
        ("impala_cnn", {"depths": [3], "dense": 5}, 5, (37 * 3 + 4 * 28 * 3) + (42 * 42 * 3 + 1) * 5),
    ],
)
def test_sizes(name, kwargs, features, count):
    network, found = build(name, **kwargs)
    assert found == features
    assert parameters(network) == count


def filters(network):
    """The kernels (k, k, C, F), in the order of the layers."""
    return [leaf for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)) if leaf.ndim == 4]


@pytest.mark.parametrize("name", ["cnn", "cnn_small", "conv_only", "impala_cnn"])
def test_layers_are_orthogonal_of_gain_sqrt_2_with_zero_bias(name):
    network, _ = build(name)
    leaves = jax.tree.leaves(eqx.filter(network, eqx.is_array))
    matrices = [kernel.reshape(-1, kernel.shape[-1]) for kernel in filters(network)]
    matrices += [leaf.T for leaf in leaves if leaf.ndim == 2]
    for matrix in map(np.float64, matrices):
        product = matrix.T @ matrix if len(matrix) >= matrix.shape[1] else matrix @ matrix.T
        np.testing.assert_allclose(product, 2 * np.eye(len(product)), atol=1e-5)
    assert all(not np.any(leaf) for leaf in leaves if leaf.ndim == 1)
    # each layer has a key of its own
    same = [k for k in filters(network) if k.shape == filters(network)[-1].shape]
    assert len({np.asarray(k).tobytes() for k in same}) == len(same)


def xlas(images, kernel, stride, padding):
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_nature_is_its_layers():
    network, _ = build("cnn")
    image = pixels(*ATARI)
    h = jnp.float32(image)[None] / 255
    for kernel, stride in zip(filters(network), (4, 2, 1), strict=True):
        h = jax.nn.relu(xlas(h, kernel, stride, "VALID"))
    expected = jax.nn.relu(network.dense.weight @ h.ravel())
    np.testing.assert_allclose(network(image), expected, rtol=1e-4, atol=1e-5)


def test_impala_is_its_layers():
    network, _ = build("impala_cnn", (9, 12, 3), depths=(4, 6), dense=7)
    images = pixels(32, 9, 12, 3)  # on CPU two pieces of four parts
    h, kernels = jnp.float32(images) / 255, iter(filters(network))

    def conv(x):
        return xlas(x, next(kernels), 1, "SAME")

    for _ in range(2):
        h = jax.lax.reduce_window(conv(h), -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for _ in range(2):
            h = h + conv(jax.nn.relu(conv(jax.nn.relu(h))))
    expected = jax.nn.relu(jax.nn.relu(h).reshape(32, -1) @ network.dense.weight.T)
    np.testing.assert_allclose(networks.apply(network, images), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network(images[0]), expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ("cnn", "impala_cnn")])
def test_a_batch_is_its_observations_one_by_one(name):
    network, _ = build(name, (40, 36, 2))
    images = pixels(3, 40, 36, 2)
    one_by_one = [network(image) for image in images]
    for found in (networks.apply(network, images), jax.vmap(network)(images)):
        np.testing.assert_allclose(found, one_by_one, rtol=1e-4, atol=1e-5)


def test_bytes_are_scaled_and_floats_are_not():
    network, _ = build("cnn_small")
    image = pixels(*ATARI)
    np.testing.assert_allclose(network(image), network(np.float32(image) / 255), rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(network(np.float32(image)))).max() > 50 * np.abs(np.asarray(network(image))).max()


@pytest.mark.parametrize(
    ("shape", "channels", "height_width_channels"),
    [
        ((4, 84, 84), "auto", (84, 84, 4)),
        ((84, 84, 4), "auto", (84, 84, 4)),
        ((1, 84, 84), "auto", (84, 84, 1)),
        ((3, 3, 3), "auto", (3, 3, 3)),  # last where nothing tells
        ((9, 84, 84), "auto", (84, 84, 9)),
        ((84, 84, 12), "auto", (84, 84, 12)),
        ((24, 84, 24), "auto", (24, 84, 24)),
        ((5, 84, 84), "first", (84, 84, 5)),
        ((4, 84, 84), "last", (4, 84, 84)),
        ((84, 84), "auto", (84, 84, 1)),
        ((84, 84), "first", (84, 84, 1)),
    ],
)
def test_channels(shape, channels, height_width_channels):
    kwargs = {"convs": [(2, 3, 2)], "channels": channels}
    network, _ = build("conv_only", shape, **kwargs)
    image = pixels(*shape)
    height, width, count = height_width_channels
    assert filters(network)[0].shape == (3, 3, count, 2)
    first = count != shape[-1] and len(shape) == 3
    last = np.moveaxis(image, 0, -1) if first else image.reshape(height_width_channels)
    plain, _ = build("conv_only", (height, width, count), **{**kwargs, "channels": "last"})
    np.testing.assert_allclose(network(image), plain(last), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        *(
            (name, {"channels": "middle"}, "`channels` (='middle') must be one of auto, first, last.")
            for name in ("cnn", "cnn_small", "conv_only", "impala_cnn")
        ),
        ("conv_only", {"padding": "full"}, "`padding` (='full') must be one of valid, same."),
        *(
            (
                "conv_only",
                {"convs": convs},
                f"`convs` (={convs!r}) must be a list of (filters, size, stride), whole numbers of at least 1, for "
                "example [(32, 8, 4), (64, 4, 2), (64, 3, 1)].",
            )
            for convs in ([], "32", None, 3, [32], [(32, 8)], [(32, 8, 0)], [(32, 8.0, 4)], [(True, 8, 4)], ["abc"])
        ),
        *(
            (
                "impala_cnn",
                {"depths": depths},
                f"`depths` (={depths!r}) must be a list of whole numbers of at least 1, for example [16, 32, 32].",
            )
            for depths in ((), "16", None, 16, (16, 0), (16.0,), (True,))
        ),
        *(
            (
                "impala_cnn",
                {"dense": dense},
                f"`dense` (={dense!r}) must be a whole number of at least 1, for example 256.",
            )
            for dense in (0, -1, 2.5, "256", True, None)
        ),
    ],
)
def test_arguments_are_checked(name, kwargs, expected):
    assert message(name, **kwargs) == expected


@pytest.mark.parametrize("name", ["cnn", "cnn_small", "conv_only", "impala_cnn"])
@pytest.mark.parametrize("shape", [(4,), (), (2, 84, 84, 3), (0, 84, 3)], ids=str)
def test_what_is_no_image_is_refused(name, shape):
    assert message(name, shape) == (
        f"the network {name!r} wants images, (height, width), (height, width, channels) or (channels, height, width); "
        f"the observations have the shape {shape}. For vectors there is network='mlp'."
    )


def test_images_that_are_too_small_are_refused_with_the_least_size():
    # one pixel is left of 3, these are made of (3 - 1) * 2 + 4 = 8, and these of (8 - 1) * 4 + 8 = 36
    assert message("cnn", (35, 84, 3)) == (
        "the network 'cnn' wants images of at least 36 x 36 pixels; the observations' shape (35, 84, 3) was read as "
        "35 x 84. Take network='conv_only' with smaller `convs`, or enlarge the images; if the channels were taken for "
        "pixels, say channels='first' or 'last'."
    )
    assert build("cnn", (36, 36, 3))[1] == 512
    assert "at least 20 x 20" in message("cnn_small", (19, 84, 3))  # (4 - 1) * 4 + 8
    assert build("cnn_small", (20, 20, 3))[1] == 128
    assert "at least 5 x 5" in message("conv_only", (4, 4), convs=[(2, 3, 2), (2, 2, 1)])  # (2 - 1) * 2 + 3
    for size in (1, 2):
        assert build("conv_only", (size, size, 3), padding="same")[1] == 64
        assert build("impala_cnn", (size, size, 3))[1] == 256


@pytest.mark.slow
def test_learn_from_images():
    """The answer is found, by a shared trunk and by two; and a file of the model answers as the model."""
    for value_network in (None, "copy"):
        model = ppo2.learn(
            network="conv_only",
            convs=[(4, 3, 3)],
            value_network=value_network,
            env=Light,
            total_timesteps=4 * 256,
            num_envs=8,
            nsteps=32,
            nminibatches=4,
            lr=1e-2,
            gamma=0.5,
            seed=0,
        )
        result = ppo2.evaluate(model, Light, episodes=20)
        assert result.mean == 1.0


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ("cnn_small", "impala_cnn")])
def test_learn_saves_and_loads(name, tmp_path):
    size = {"cnn_small": 20, "impala_cnn": 5}[name]

    def env():
        return Light((3, size, size))

    kwargs = {"depths": (2,), "dense": 4} if name == "impala_cnn" else {}
    model = ppo2.learn(network=name, env=env, total_timesteps=32, num_envs=2, nsteps=16, seed=0, **kwargs)
    obs = pixels(4, 3, size, size)
    loaded = ppo2.load(model.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(loaded.predict(obs)[0], model.predict(obs)[0])
    np.testing.assert_array_equal(loaded.value(obs), model.value(obs))


class LightOnDevice:
    """`Light` as a device environment."""

    observation_space = gym.spaces.Box(0, 255, (12, 12, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, key):
        right = jax.random.bernoulli(key)
        return right, self._obs(right)

    def step(self, state, action, key):
        reward = (action == state).astype(jnp.float32)
        return state, self._obs(state), reward, jnp.ones((), bool), jnp.zeros((), bool), {}

    def _obs(self, right):
        white = (jnp.arange(12) >= 6) == right
        return jnp.broadcast_to(jnp.where(white, 255, 0).astype(jnp.uint8)[:, None], (12, 12, 3))


@pytest.mark.slow
def test_learn_from_images_on_the_device():
    model = ppo2.learn(
        network="conv_only",
        convs=[(4, 3, 3)],
        env=LightOnDevice(),
        total_timesteps=4 * 256,
        num_envs=8,
        nsteps=32,
        lr=1e-2,
        gamma=0.5,
        seed=0,
    )
    assert ppo2.evaluate(model, LightOnDevice(), episodes=20).mean == 1.0
    assert math.isfinite(float(model.value(np.zeros((12, 12, 3), np.uint8))))
