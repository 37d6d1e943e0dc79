"""Acting with NumPy and with XLA: the same actions, the rule for which of them acts, and that a run keeps it."""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2 import spaces
from ppo2.agent.compiled import program
from ppo2.agent.policy import build_policy
from ppo2.checkpoints import checkpoint
from ppo2.numerics.compilation import compiled
from ppo2.numerics.randomness import root_key
from ppo2.runners import acting
from ppo2.runners.acting import NUMPY, XLA, Actor
from ppo2.runners.host_program import act_program, weights_program
from support.places import fake_card
from support.runs import learn, params

pytestmark = pytest.mark.usefixtures("quickly_compiled", "no_curve")

BOX = gym.spaces.Box(-1.0, 1.0, (5,))
MIXED = gym.spaces.Dict({"a": BOX, "b": gym.spaces.Discrete(3), "c": gym.spaces.MultiBinary(4)})
CHOICE = gym.spaces.Discrete(3)
NUMBERS = gym.spaces.Box(-1.0, 1.0, (2,))
FAR = gym.spaces.Box(-np.inf, np.inf, (5,), np.float64)

CASES: dict[str, dict[str, Any]] = {
    "choice": {},
    "choices": {"actions": gym.spaces.MultiDiscrete([2, 3]), "activation": "silu"},
    "bits": {"obs": gym.spaces.Discrete(6), "actions": gym.spaces.MultiBinary(3), "activation": "gelu"},
    "numbers": {"obs": FAR, "actions": NUMBERS, "normalize_obs": True, "value_network": "copy"},
    "squashed": {"actions": NUMBERS, "action_dist": "squashed_gaussian", "activation": "relu"},
    "masked": {"obs": gym.spaces.Dict({"observation": BOX, "action_mask": gym.spaces.MultiBinary(3)})},
    "several": {"obs": MIXED, "actions": gym.spaces.Tuple([CHOICE, NUMBERS]), "layer_norm": True},
    "lstm": {"network": "lstm", "nlstm": 8},
    "gru": {"network": "gru", "ngru": 8},
}


def model_of(
    obs: gym.Space[Any] = BOX,
    actions: gym.Space[Any] = CHOICE,
    normalize_obs: bool = False,
    action_dist: str = "gaussian",
    value_network: Any = None,
    network: Any = "mlp",
    **network_kwargs: Any,
) -> ppo2.Model:
    policy = build_policy(
        obs,
        actions,
        network=network,
        value_network=value_network,
        network_kwargs=network_kwargs,
        action_dist=action_dist,
        key=root_key(0),
    )
    return ppo2.Model(policy=policy, config=ppo2.Config(normalize_obs=normalize_obs), key=root_key(0))


def seen_by(model: ppo2.Model, count: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Observations, noise, states and episode starts of a step."""
    random = np.random.default_rng(seed)

    def drawn(leaf: Any) -> Any:
        if leaf.dtype.kind == "f":
            return random.normal(size=leaf.shape).astype(leaf.dtype)
        return random.integers(0, 2, leaf.shape).astype(leaf.dtype)

    obs = jax.tree.map(drawn, spaces.zeros(model.observation_space, (count,)))
    noise = np.asarray(model.distribution.noise(jax.random.key(seed), (count,)))
    if not model.is_recurrent:
        return obs, noise, None, None
    return obs, noise, jax.tree.map(drawn, model.initial_state(count)), random.integers(0, 2, count).astype(bool)


def acts_of(model: ppo2.Model, count: int) -> tuple[Any, Any]:
    """The functions that act with NumPy and with XLA."""
    found = []
    for model.acts_with in (NUMPY, XLA):
        found.append(Actor(model, count).begin(model.acting_state()))
    return found[0], found[1]


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("case", CASES)
def test_the_same_actions(case: str, count: int) -> None:
    model = model_of(**CASES[case])
    random = np.random.default_rng(1)
    params = random.normal(0, 0.5, model.state.params.shape).astype(np.float32)
    model.state = model.state._replace(params=jnp.asarray(params))
    with_numpy, with_xla = acts_of(model, count)
    for seed in range(5):
        seen = seen_by(model, count, seed)
        found, expected = with_numpy(*seen), with_xla(*seen)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("case", ["choice", "numbers", "lstm"])
@pytest.mark.filterwarnings("error")
def test_observations_that_are_not_finite_are_taken_for_0(case: str) -> None:
    model = model_of(**CASES[case])
    with_numpy, with_xla = acts_of(model, 3)
    obs, noise, state, starts = seen_by(model, 3, 0)
    obs[0, 1], obs[1, 2], obs[2, 0] = np.nan, np.inf, -np.inf
    zeroed = np.where(np.isfinite(obs), obs, 0)
    (found, after), (expected, memory) = (act(obs, noise, state, starts) for act in (with_numpy, with_xla))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found, with_numpy(zeroed, noise, state, starts)[0])
    for mine, theirs, start in zip(*map(jax.tree.leaves, (after, memory, model.initial_state(3))), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(mine, start)


class Summed(eqx.Module):
    """A network that NumPy has no calls for."""

    weights: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.cumsum(x) * self.weights


SUMMED = Summed(jnp.ones(5, jnp.float32))


@pytest.mark.parametrize(
    ("settings", "num_envs", "expected"),
    [
        ({}, 1, NUMPY),
        ({}, 200, NUMPY),  # 200 x (5 x 64 + 64 x 64 + 64 x 3) = 921,600 products
        ({}, 400, XLA),
        ({"num_hidden": 512}, 1, NUMPY),  # 512 x (5 + 512 + 3) = 266,240
        ({"num_hidden": 512}, 4, XLA),
        ({"num_layers": 20}, 1, XLA),  # 20 x 3 calls and those around them
        ({"network": "lstm"}, 8, NUMPY),
        ({"network": "lnlstm"}, 1, XLA),
        ({"network": SUMMED}, 1, XLA),
        ({"obs": gym.spaces.Box(0, 255, (36, 36, 4), np.uint8), "network": "cnn_small"}, 1, XLA),
    ],
)
def test_the_rule(settings: dict[str, Any], num_envs: int, expected: str) -> None:
    assert acting.choose(model_of(**settings), num_envs) == expected


@pytest.mark.parametrize("case", CASES)
def test_the_rule_is_the_same_under_x64(case: str) -> None:
    with jax.enable_x64(True):
        model = model_of(**CASES[case])
        work = acting._in_numpy(model, 2)
    assert work.count == acting._in_numpy(model_of(**CASES[case]), 2).count


def test_a_run_goes_on_with_what_it_acted_with() -> None:
    model, large = model_of(), model_of(num_layers=20)
    assert acting.choose(model, 1, saved={"acts_with": NUMPY}) == NUMPY
    assert acting.choose(model, 1, saved={"acts_with": XLA}) == XLA
    assert acting.choose(model, 1, saved={}) == XLA  # a version that only had XLA
    assert acting.choose(large, 1, saved={"acts_with": NUMPY}) == NUMPY  # when the rule was another
    lost = {"acts_with": NUMPY}
    assert acting.choose(model_of(network=SUMMED), 1, saved=lost) == XLA
    assert "acts with XLA, and its last bits may differ" in acting.changed(lost, XLA)
    assert acting.changed(lost, NUMPY) == acting.changed({"acts_with": XLA}, XLA) == acting.changed({}, XLA) == ""


def test_a_card_acts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    fake_card(monkeypatch)
    model.placement = ppo2.agent.placement.Placement("gpu", "gpu")
    assert acting.choose(model, 1) == XLA
    model.placement = ppo2.agent.placement.Placement("cpu", "gpu")
    assert acting.choose(model, 1) == NUMPY


@pytest.mark.exact
def test_learn_saves_it_and_resumes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = learn(run_dir=tmp_path / "whole")
    run = {"run_dir": tmp_path / "run", "load_path": tmp_path / "run"}
    stopped = learn(run_dir=tmp_path / "run", update_fn=lambda update: update < 2)
    assert stopped.acts_with == NUMPY
    assert checkpoint.load(tmp_path / "run").metadata["acts_with"] == NUMPY
    assert json.loads((tmp_path / "run" / "config.json").read_text())["acts_with"] == NUMPY
    monkeypatch.setattr(acting, "MOST_CALLS", 0)  # another version's rule
    resumed = learn(**run)
    assert resumed.acts_with == NUMPY
    np.testing.assert_array_equal(params(resumed), params(whole))
    assert learn().acts_with == XLA


def test_the_first_ratio_is_1_and_a_group_of_any_size_can_act(monkeypatch: pytest.MonkeyPatch) -> None:
    env = ppo2.make("CartPole-v1", 3)
    model = model_of(env.single_observation_space, env.single_action_space)
    for model.acts_with in (NUMPY, XLA):
        runner = ppo2.Runner(env=env, model=model, nsteps=8, gamma=0.9, lam=0.9)
        rollout = runner.run()
        seen = jax.tree.map(lambda x: np.asarray(x).reshape(24, *x.shape[2:]), (rollout.obs, rollout.actions))
        logp = model.policy.evaluate(model.state.normaliser, *seen).logp
        np.testing.assert_allclose(np.asarray(rollout.logp).ravel(), logp, rtol=1e-6, atol=1e-7)
    env.close()
    # where NumPy can't act for a group of this size, XLA does
    model.acts_with = NUMPY
    monkeypatch.setattr("ppo2.numerics.numpy_translations.MOST_OF_VECTOR_PRODUCT", 1)
    (obs, *_, none) = seen_by(model, 1, 0)[0], None
    found, _ = Actor(model, 1).begin(model.acting_state())(obs, np.zeros((1, 2), np.float32), none, none)
    assert isinstance(found, jax.Array)


@pytest.mark.parametrize("case", ["numbers", "lstm", "images"])
def test_xla_acts_with_weights_cut_once_as_with_all_of_them(case: str) -> None:
    images = {"obs": gym.spaces.Box(0, 255, (36, 36, 4), np.uint8), "network": "cnn_small"}
    model = model_of(**CASES.get(case, images))
    whole = compiled(lambda params, *of: model.policy_of(params).act(*of))
    actor, seen = Actor(model, 4), seen_by(model, 4, 0)
    compilations = []
    for factor in (1.0, 2.0):  # each rollout has weights of its own
        state = model.acting_state()
        state = state._replace(params=factor * state.params)
        found, expected = actor.begin(state)(*seen), whole(state.params, state.normaliser, *seen)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        programs: Any = program(model, weights_program), program(model, act_program)
        compilations.append([made._cache_size() for made in programs])
    assert compilations[0] == compilations[1]
