"""Estimates of memory from traces, beside what XLA's compiled programs take."""

from types import SimpleNamespace

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics import memory
from ppo2.numerics.memory import MOST_ACTIVATIONS, activation_limit, peak_bytes

X = jax.ShapeDtypeStruct((100, 10), jnp.float32)  # 4,000 bytes
W = jax.ShapeDtypeStruct((10, 10), jnp.float32)


def layers(x, w):
    return jnp.tanh(jnp.tanh(x @ w) @ w)


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (lambda x: x + 1.0, (X,), 4000),  # the result alone
        (lambda x: (2.0 * x + 1.0).sum(), (X,), 4),  # fused into the sum
        (lambda x: jnp.tanh(x).reshape(10, 100), (X,), 4000),  # seen in another way
        # the first layer, in place of its product, beside the second product
        (layers, (X, W), 8000),
        (lambda x, w: (2.0 * x) @ w, (X, W), 8000),  # a product reads its argument from memory
        (lambda x: jnp.sort(x.T.ravel()), (X,), 8000),  # so does a sort
        # both results, and in each turn a row's product and its carry
        (lambda x, w: jax.lax.scan(lambda c, row: (c @ w + row, c), x[0], x), (X, W), 4000 + 40 + 40 + 40),
        # the outputs of three layers, the derivative by the fourth's product beside that by its argument, and by w
        (lambda x, w: jax.grad(lambda w: layers(layers(x, w), w).sum())(w), (X, W), 5 * 4000 + 400),
    ],
    ids=["sum", "fused", "view", "layers", "product", "sort", "scan", "gradient"],
)
def test_values_that_live_at_once(function, arguments, expected):
    assert peak_bytes(function, *arguments) == pytest.approx(expected, rel=0.15, abs=50)


def test_the_limit_is_a_share_of_the_device_and_a_power_of_two(monkeypatch):
    device = SimpleNamespace(process_index=0, memory_stats=lambda: {"bytes_limit": 60 * 10**9})
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert activation_limit() == MOST_ACTIVATIONS == 2**31
    device.memory_stats = lambda: {"bytes_limit": 6 * 10**9}
    assert activation_limit() == 2**29  # an eighth is 750 MB
    device.memory_stats = lambda: None
    assert activation_limit() == MOST_ACTIVATIONS
    monkeypatch.setattr(memory, "memory_limit", lambda: 100)
    assert activation_limit() == 8


def _policy(network, space):
    from ppo2.agent.model import Model
    from ppo2.agent.policy import build_policy
    from ppo2.config import Config

    actions = gym.spaces.Discrete(6)
    policy = build_policy(space, actions, network=network, key=jax.random.key(0))
    config = Config(env=None, network=network, total_timesteps=2**16, nsteps=64, num_envs=8, seed=0)
    return Model(policy=policy, config=config, key=jax.random.key(0))


IMAGE = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
VECTOR = gym.spaces.Box(-1, 1, (17,), np.float32)


@pytest.mark.usefixtures("on_cpu")  # on a card XLA's figure has 34 MB for products, whatever their sizes
@pytest.mark.parametrize(
    ("network", "space", "low", "high"),
    [
        ("mlp", VECTOR, 0.7, 1.7),
        ("lstm", VECTOR, 0.6, 1.3),
        ("cnn", IMAGE, 0.8, 1.1),
        pytest.param("impala_cnn", IMAGE, 0.7, 1.1, marks=pytest.mark.slow),  # seconds to compile
    ],
)
def test_estimates_are_near_what_xla_takes(monkeypatch, network, space, low, high):
    """The gradient of 64 samples as accelerators make it, whole and by XLA's own convolution."""
    from ppo2.algorithm.rollout import Batch
    from ppo2.networks import convolution

    monkeypatch.setattr(convolution, "platform", lambda: "gpu")
    model = _policy(network, space)
    shape = (4, 16) if model.is_recurrent else (64,)
    numbers = dict.fromkeys(("logp", "values", "advantages", "returns", "weights"), jnp.ones(shape, jnp.float32))
    batch = Batch(
        obs=jnp.ones((*shape, *space.shape), space.dtype),
        actions=jnp.zeros(shape, jnp.int32),
        episode_starts=jnp.zeros(shape, bool) if model.is_recurrent else None,
        recurrent_state=model.initial_state(4),
        **numbers,
    )
    hyper = model.hyperparameters(lr=1e-3, cliprange=0.2)

    def gradient(params, batch):
        return model.gradients(params, model.state.normaliser, batch, hyper)

    taken = jax.jit(gradient).lower(model.state.params, batch).compile().memory_analysis()
    xla = taken.temp_size_in_bytes + taken.output_size_in_bytes
    assert low < peak_bytes(gradient, model.state.params, batch) / xla < high
