"""Graphs of policies act as the models do, in onnxruntime and in NumPy, whatever the spaces and the network."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2 import spaces
from ppo2.deployment.npz_file import npz_act, npz_bytes
from ppo2.deployment.policy_function import PolicyFunction, named
from ppo2.deployment.policy_graph import policy_graph
from ppo2.deployment.translator import NotExportableError
from support.policies import CASES, FLOATS, IMAGE, untrained

onnx_file = pytest.importorskip("ppo2.deployment.onnx_file")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("quickly_compiled")

COUNT = 3


def inputs_of(function, seed=0):
    """A batch of observations, and states and episode starts where there are any, as `predict` takes them."""
    model, rng = function.model, np.random.default_rng(seed)
    space = model.observation_space
    space.seed(seed)
    drawn = [space.sample() for _ in range(COUNT)]
    obs = spaces.mapped(lambda leaf, *x: np.stack(x).astype(leaf.dtype), space, *drawn)
    if spaces.is_masked(space):  # of two options the first is legal, of three the last two
        mask = jax.tree.map(
            lambda x: np.array([1, 0, 0, 1, 1], x.dtype)[-x.shape[1] :] * np.ones_like(x), obs["action_mask"]
        )
        obs["action_mask"] = jax.tree.map(lambda x: np.roll(x, 1, 1) if x.shape[1] == 2 else x, mask)
    if not model.is_recurrent:
        return obs, None, None
    state = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), model.initial_state(COUNT))
    return obs, state, np.array([True, False, False])


def expected_of(function, obs, state, starts):
    model = function.model
    actions, after = model.predict(obs, state, starts)
    expected = named("action", actions) | {"value": model.value(obs, state, starts)}
    return expected if after is None else expected | function.named_state(after, "next_state")


def check(model, tolerance=1e-5):
    function = PolicyFunction(model)
    graph = policy_graph(function)
    obs, state, starts = inputs_of(function)
    inputs = function.named_obs(obs)
    if starts is not None:
        inputs |= function.named_state(state) | {"episode_starts": starts}
    assert list(inputs) == list(function.inputs)
    for act in (onnx_file.onnx_act(onnx_file.onnx_bytes(graph, {})), npz_act(npz_bytes(graph, {}))):
        outputs = act(inputs)
        for name, right in expected_of(function, obs, state, starts).items():
            assert outputs[name].dtype == right.dtype, name
            np.testing.assert_allclose(outputs[name], right, rtol=tolerance, atol=tolerance, err_msg=name)
        alone = act({name: x[1:2] for name, x in inputs.items()})  # a batch of another size
        for name, x in alone.items():
            np.testing.assert_allclose(x, outputs[name][1:2], rtol=1e-5, atol=1e-5, err_msg=name)
    return graph


@pytest.mark.parametrize("case", CASES)
def test_a_policy_acts_as_its_model(case):
    check(untrained(**CASES[case]), 3e-2 if case == "bf16" else 1e-5)


class Attention(eqx.Module):
    """Attention over the numbers of an observation, each embedded, with an odd function or two."""

    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    table: jax.Array

    def __init__(self):
        self.attention = eqx.nn.MultiheadAttention(2, 8, key=jax.random.key(0))
        self.norm, self.table = eqx.nn.LayerNorm(8), jax.random.normal(jax.random.key(1), (5, 8))

    def __call__(self, x):
        rows = self.table[jnp.clip((x * 2 + 2).astype(jnp.int32), 0, 4)] + x[:, None]
        seen = jax.vmap(self.norm)(self.attention(rows, rows, rows))
        return jax.nn.softplus(jnp.sort(x)[0] if False else seen.sum(0)) + jax.nn.silu(jnp.flip(seen, 0)[0])


class Vision(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 3), strides=(2, 2), feature_group_count=3)(x.astype(jnp.float32) / 255)
        x = nn.max_pool(nn.gelu(x), (3, 3), strides=(2, 2), padding="SAME")
        x = nn.avg_pool(nn.elu(nn.LayerNorm()(x)), (2, 2))
        return nn.log_softmax(x.reshape((*x.shape[:-3], -1)))


def test_networks_of_users_are_exported():
    check(untrained(network=Attention()))
    check(untrained(IMAGE, network=Vision()))


class Sorting(eqx.Module):
    def __call__(self, x):
        return jnp.sort(x)


def test_an_operation_without_translation_is_named():
    with pytest.raises(NotExportableError, match=r"'sort'.*no translation to ONNX.*StableHLO"):
        policy_graph(PolicyFunction(untrained(network=Sorting())))


def test_the_graph_of_an_mlp_computes_nothing_that_does_not_change():
    graph = policy_graph(PolicyFunction(untrained(normalize_obs=True)))
    operators = [node.operator for node in graph.nodes]
    assert [name for name in operators if name not in ("Reshape", "Cast")] == [
        "Sub", "Sub", "Mul", "Max", "Min", "MatMul", "Add", "Tanh", "MatMul", "Add", "Tanh", "MatMul", "Add", "MatMul",
        "Add", "ArgMax", "Add",
    ]  # fmt: skip


def test_the_names_and_types_of_what_goes_in_and_comes_out():
    function = PolicyFunction(untrained(**CASES["parts"]))
    assert {name: str(of.dtype) for name, of in function.inputs.items()} == {
        "obs.a.0": "float32", "obs.a.1": "float16", "obs.b": "int8",
    }  # fmt: skip
    assert sorted(policy_graph(function).outputs) == [
        "action.also.0", "action.also.1", "action.arm", "action.move", "log_std.arm", "logits.also.0", "logits.also.1",
        "logits.move", "mean.arm", "value",
    ]  # fmt: skip
    function = PolicyFunction(untrained(FLOATS, network="lstm", value_network="copy"))
    assert list(function.inputs) == [
        "obs",
        "state.policy.c",
        "state.policy.h",
        "state.value.c",
        "state.value.h",
        "episode_starts",
    ]
