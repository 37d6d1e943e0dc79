import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from ppo2.agent.policy import build_policy
from ppo2.algorithm.normaliser import BoxStatistics, Normaliser
from ppo2.networks.layers import as_float
from ppo2.numerics.statistics import Moments
from ppo2.spaces import Spec, encode

KEY = jax.random.key(0)
OBS_SPACE = Box(-np.inf, np.inf, (3,))
NOTHING = Normaliser(obs=None, returns=None)
SMALL = {"num_layers": 1, "num_hidden": 8}
OBS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def policy(action_space=None, observation_space=OBS_SPACE, network="mlp", value_network=None, kwargs=SMALL, key=KEY):
    return build_policy(
        observation_space,
        Discrete(2) if action_space is None else action_space,
        network=network,
        value_network=value_network,
        network_kwargs=kwargs,
        key=key,
    )


def sum_and_gradient(policy, observation_space):
    """The sum, and its gradient, of a policy's values and probabilities for two observations, as XLA is told of it."""
    obs = jax.tree.map(lambda x: np.stack([x, x]), observation_space.sample())
    state = jax.tree.map(lambda x: jnp.stack([x, x]), policy.initial_state())
    starts = None if state is None else np.ones((2, 1), bool)
    obs = obs if state is None else obs[:, None]
    actions = np.zeros(obs.shape[: 1 if state is None else 2], np.int32)
    weights, rest = eqx.partition(policy, eqx.is_inexact_array)

    def loss(weights):
        found = eqx.combine(weights, rest).evaluate(NOTHING, obs, actions, state, starts)
        return jnp.sum(found.logp) + jnp.sum(found.values)

    return jax.jit(jax.value_and_grad(loss)).lower(weights).as_text()


@pytest.mark.parametrize("network", ["mlp", "cnn_small", "impala_cnn", "lstm", "lnlstm", "gru", "cnn_lstm"])
def test_all_products_but_the_heads_are_of_bfloat16_where_it_is_asked_for(network):
    space = Box(0, 255, (36, 36, 3), np.uint8) if "cnn" in network else OBS_SPACE
    kwargs = {"mlp": SMALL, "impala_cnn": {"depths": (4, 4), "dense": 8}}.get(network, {})
    for precision, few in ((None, 0), ("bf16", 6)):
        mine = build_policy(space, Discrete(2), network=network, network_kwargs=kwargs, precision=precision, key=KEY)
        text = sum_and_gradient(mine, space)
        found = re.findall(r"stablehlo\.(?:dot_general|convolution).* : \((.*)\) -> tensor<.*x(\w+)>", text)
        factors = [factors for factors, _ in found]
        assert len(factors) > 6
        assert {result for _, result in found} == {"f32"}  # sums, of gradients too: only so are they fast on a CPU
        # each head: the result, the gradient by its weights and that by the features
        assert [one.count("bf16") for one in factors if "bf16" in one] == [2] * (len(factors) - few if few else 0)


def test_heads_are_float32_where_the_networks_precision_is_given():
    with jax.default_matmul_precision("bfloat16"):
        for precision, rounded in ((None, True), ("float32", False)):
            mine = build_policy(OBS_SPACE, Discrete(2), network_kwargs=SMALL, precision=precision, key=KEY)
            text = sum_and_gradient(mine, OBS_SPACE)
            assert ("bf16" in text) == rounded
    products = re.findall(r"stablehlo\.dot_general.*", text)
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in one for one in products)


@eqx.filter_jit
def act(policy, obs, key=KEY, normaliser=NOTHING):
    return policy.act(normaliser, obs, policy.distribution.noise(key, obs.shape[:1]))[0]


@eqx.filter_jit
def evaluate(policy, obs, actions, normaliser=NOTHING):
    return policy.evaluate(normaliser, obs, actions)


@eqx.filter_jit
def apart(policy, obs, actions, key=KEY, normaliser=NOTHING):
    """The parts of `act` and `evaluate`, computed one by one: sample, logp, entropy, value."""
    distribution, values, _ = policy(normaliser, obs)
    noise = policy.distribution.noise(key, obs.shape[:1])
    return distribution.sample(noise), (distribution.logp(actions), distribution.entropy(), values)


@eqx.filter_jit
def params_and_values(policy, obs, normaliser=NOTHING):
    distribution, values, _ = policy(normaliser, obs)
    return jax.tree.leaves(distribution), values


class Scaled(eqx.Module):
    """A network with one parameter and 3 features."""

    factor: jax.Array

    def __call__(self, x):
        return self.factor * as_float(x).ravel()


ACTION_SPACES = [
    Discrete(3, start=5),
    MultiDiscrete([[2, 3], [4, 2]], start=[[1, 0], [0, -9]]),
    MultiBinary((2, 2)),
    Box(-0.5, 0.5, (2, 2)),
    Box(-0.5, 0.5, ()),
]


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_acting_and_evaluating_are_of_one_distribution(space):
    mine = policy(space)
    actions = act(mine, OBS)
    sampled, figures = apart(mine, OBS, actions)
    # the ratio of the first minibatch is 1
    np.testing.assert_allclose(actions, sampled, rtol=1e-5, atol=1e-6)
    found = evaluate(mine, OBS, actions)
    assert found.logp.shape == found.entropy.shape == found.values.shape == (5,)
    np.testing.assert_allclose(found, figures, rtol=1e-5, atol=1e-6)
    # actions are the distribution's, and become the environment's
    assert (actions.shape, actions.dtype) == ((5, *mine.distribution.shape), mine.distribution.dtype)
    for action in np.asarray(mine.distribution.to_environment(np.asarray(actions))):
        assert space.contains(np.asarray(action, space.dtype))


def test_log_probability_belongs_to_the_sample_before_it_is_clipped():
    mine = policy(Box(-1e-3, 1e-3, (2,)))
    actions = act(mine, OBS)
    assert np.all(np.abs(actions) > 1e-3)
    mean = np.asarray(params_and_values(mine, OBS)[0][0])
    expected = -0.5 * (np.asarray(actions) - mean) ** 2 - 0.5 * np.log(2 * np.pi)  # standard deviation 1
    np.testing.assert_allclose(evaluate(mine, OBS, actions).logp, expected.sum(1), rtol=1e-4)


def test_noise_decides_the_action():
    mine = policy(Box(-9, 9, (2,)))
    one, again, other = (np.asarray(act(mine, OBS, jax.random.key(k))) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.all(one != other)


def test_heads_as_baselines_initialises_them():
    mine = policy(Box(-1, 1, (2,)))
    weight = np.asarray(mine.action_head.weight, float)
    np.testing.assert_allclose(weight @ weight.T, 1e-4 * np.eye(2), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(mine.value_head.weight), 1, rtol=1e-5)
    for head in (mine.action_head, mine.value_head):
        np.testing.assert_array_equal(head.bias, np.zeros(head.bias.shape))
    trunk = np.asarray(mine.trunk.layers[0].weight, float)
    np.testing.assert_allclose(trunk.T @ trunk, 2 * np.eye(3), atol=1e-5)  # gain sqrt(2)
    np.testing.assert_array_equal(mine.log_std, np.zeros(2))
    assert policy(Discrete(2)).log_std is None


def test_policies_differ_by_key():
    one, again, other = (policy(key=jax.random.key(k)) for k in (0, 0, 1))
    for part in (lambda p: p.trunk.layers[0].weight, lambda p: p.action_head.weight, lambda p: p.value_head.weight):
        np.testing.assert_array_equal(part(one), part(again))
        assert np.all(np.asarray(part(one)) != np.asarray(part(other)))


def test_forward_by_hand():
    mine = policy(network=Scaled(jnp.float32(2)), kwargs=None)
    (logits,), values = params_and_values(mine, OBS)
    np.testing.assert_allclose(logits, 2 * OBS @ np.asarray(mine.action_head.weight).T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values, 2 * OBS @ np.asarray(mine.value_head.weight)[0], rtol=1e-4, atol=1e-6)


def test_the_normaliser_comes_with_each_call():
    mine = policy()
    moments = BoxStatistics(jnp.zeros(3), Moments(jnp.float32([1, 2, 3]), jnp.float32([4, 9, 16]), jnp.float32(8)))
    found = params_and_values(mine, OBS, Normaliser(obs=moments, returns=None))
    expected = params_and_values(mine, (OBS - np.float32([1, 2, 3])) / np.float32([2, 3, 4]))
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[0][0], expected[0][0], rtol=1e-4, atol=1e-6)


# --- value networks -------------------------------------------------------------------------------------------------


def with_double_trunk(mine):
    return eqx.tree_at(lambda p: p.trunk.layers[0].weight, mine, 2 * mine.trunk.layers[0].weight)


@pytest.mark.parametrize("value_network", [None, "shared"])
def test_shared_both_heads_are_on_one_trunk(value_network):
    mine = policy(value_network=value_network)
    assert mine.value_trunk is None
    before, after = (params_and_values(p, OBS)[1] for p in (mine, with_double_trunk(mine)))
    assert np.all(np.asarray(before) != np.asarray(after))


def test_copy_gives_the_value_a_trunk_of_its_own():
    mine = policy(value_network="copy")
    assert mine.value_trunk.layers[0].weight.shape == mine.trunk.layers[0].weight.shape == (8, 3)
    assert np.all(np.asarray(mine.value_trunk.layers[0].weight) != np.asarray(mine.trunk.layers[0].weight))
    (params, values), (other_params, other_values) = (
        params_and_values(p, OBS) for p in (mine, with_double_trunk(mine))
    )
    np.testing.assert_array_equal(values, other_values)
    assert np.all(np.asarray(params[0]) != np.asarray(other_params[0]))


def test_a_value_network_by_name_has_that_builders_defaults():
    mine = policy(value_network="mlp")
    assert [layer.weight.shape for layer in mine.value_trunk.layers] == [(64, 3), (64, 64)]
    assert mine.value_head.weight.shape == (1, 64)
    assert mine.action_head.weight.shape == (2, 8)


def test_a_value_network_may_be_ready():
    mine = policy(value_network=Scaled(jnp.float32(3)))
    assert mine.value_head.weight.shape == (1, 3)
    expected = 3 * OBS @ np.asarray(mine.value_head.weight)[0]
    np.testing.assert_allclose(params_and_values(mine, OBS)[1], expected, rtol=1e-4, atol=1e-6)


def test_a_value_network_that_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"^`value_network` \(='lmp'\): unknown network type; did you mean 'mlp'"):
        policy(value_network="lmp")
    with pytest.raises(TypeError, match=r"^`value_network` \(=3\) must be a name"):
        policy(value_network=3)

    def scalar():
        return lambda input_shape: lambda x: x.sum()

    with pytest.raises(ValueError, match=r"^`value_network` \(scalar\) gives \(\) for one observation of shape \(3,\)"):
        policy(value_network=scalar)


# --- spaces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "obs", "shape", "dtype"),
    [
        (Discrete(4, start=2), np.int32([2, 5]), (4,), np.float32),
        (MultiDiscrete([1, 3]), np.int32([[0, 2], [0, 1]]), (4,), np.float32),
        (MultiBinary((2, 2)), np.int8([[[0, 1], [1, 1]], [[0, 0], [0, 1]]]), (2, 2), np.float32),
        (Box(0, 255, (2, 2, 1), np.uint8), np.uint8(np.arange(8).reshape(2, 2, 2, 1)), (2, 2, 1), np.uint8),
        (Box(-1, 1, (), np.float64), np.float32([0.5, -0.5]), (), np.float32),
    ],
)
def test_networks_see_encoded_observations(space, obs, shape, dtype):
    seen = []

    def spy():
        def at_shape(input_shape):
            seen.append(input_shape)
            return lambda x: seen.append((x.shape, x.dtype)) or as_float(x).ravel()

        return at_shape

    mine = policy(observation_space=space, network=spy, kwargs=None)
    values = params_and_values(mine, obs)[1]
    assert seen == [shape, (shape, dtype), (shape, dtype)]
    encoded = np.stack([np.ravel(as_float(encode(space, one))) for one in jnp.asarray(obs)])
    np.testing.assert_allclose(values, encoded @ np.asarray(mine.value_head.weight)[0], rtol=1e-4, atol=1e-6)


def test_unsupported_spaces_are_refused():
    with pytest.raises(TypeError, match=r"^`env` has the observation space Dict\("):
        policy(observation_space=Dict({1: Discrete(2)}))
    with pytest.raises(TypeError, match=r"^`env` has the action space Box\(0, 255"):
        policy(Box(0, 255, (1,), np.uint8))


def test_the_policy_remembers_its_spaces():
    mine = policy(Discrete(2, start=3))
    assert mine.observation_space == Spec(OBS_SPACE)
    assert mine.action_space == Spec(Discrete(2, start=3))
