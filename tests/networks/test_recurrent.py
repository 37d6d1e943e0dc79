"""Policies with a memory: cells, sequences, the state through acting, training, evaluation and files."""

import functools
from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2 import networks
from ppo2.agent.microbatched import MicrobatchedModel
from ppo2.agent.model import Model
from ppo2.algorithm.minibatches import (
    flatten,
    join_sequences,
    minibatches,
    sequences,
    sequences_per_env,
    shuffle_bits,
    split_sequences,
)
from ppo2.algorithm.rollout import Batch
from ppo2.algorithm.update import batch_of
from ppo2.envs import TimeLimit
from ppo2.networks.recurrent import advance, unroll
from ppo2.numerics.randomness import root_key
from ppo2.runners.host import Runner
from support.environments import Light, Recall, Script, Sequence, vector

SMALL: dict[str, Any] = {
    "network": "lstm",
    "nlstm": 8,
    "num_envs": 3,
    "nsteps": 8,
    "nminibatches": 2,
    "noptepochs": 2,
    "seed": 5,
}


def learn(**more: Any) -> Model:
    settings: dict[str, Any] = {"env": lambda: Script(5), "total_timesteps": 2 * 24, **SMALL, **more}
    return ppo2.learn(**settings)


def fresh(**more: Any) -> Model:
    return learn(**{**more, "total_timesteps": 0})


def some(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- sequences ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "lnlstm", "gru"])
def test_a_sequence_is_its_steps(cell: str) -> None:
    """Also where an episode begins within it."""
    network, features = networks.build(networks.recurrent("mlp", cell), (3,), {"num_hidden": 6}, key=root_key(1))
    assert features == 128
    xs, episode_starts = some((7, 3)), np.array([0, 0, 1, 0, 1, 1, 0], bool)
    state = jax.tree.map(lambda x: jnp.asarray(some(x.shape, 3)), network.initial_state())
    state = jax.tree.map(lambda x: x[None], state)
    got, expected = unroll(network, xs, state, episode_starts[None]), []
    for x, new in zip(xs, episode_starts, strict=True):
        out, state = advance(network, x[None], state, new[None])
        expected.append(out[0])
    np.testing.assert_allclose(got, expected, atol=1e-6)


# --- builders -----------------------------------------------------------------------------------------------------


def test_any_trunk_with_any_cell() -> None:
    builder = networks.recurrent("mlp", "gru")
    assert list(networks.options(builder)) == ["num_layers", "num_hidden", "activation", "layer_norm", "ngru"]
    network, features = networks.build(builder, (4, 2), {"num_hidden": 5, "ngru": 7}, key=root_key(0))
    assert features == 7
    assert network.trunk.layers[0].weight.shape == (5, 8)
    assert network.cell.input_weight.shape == (21, 5)


def test_builders_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match=r"`cell` .='lstn'. is unknown; known are lstm, lnlstm, gru"):
        networks.recurrent("mlp", "lstn")
    with pytest.raises(ValueError, match=r"`trunk` .='mpl'.: unknown network type; did you mean 'mlp'"):
        networks.recurrent("mpl")
    with pytest.raises(ValueError, match=r"`nlstm` .=0. must be a whole number of at least 1"):
        fresh(nlstm=0)
    with pytest.raises(ValueError, match=r"`num_hiden`.*no argument of learn.. nor of the network"):
        fresh(network=networks.recurrent("mlp"), num_hiden=3)
    with pytest.raises(TypeError, match="has no initial_state"):
        ppo2.learn(
            env=lambda: Script(5), network=networks.recurrent("mlp", lambda: lambda input_shape: eqx.nn.Identity())
        )


class Counter(eqx.Module):
    """A recurrent network of one's own: counts its episode's steps."""

    scale: Any

    def initial_state(self) -> Any:
        return jnp.zeros(1)

    def __call__(self, x: Any, state: Any) -> Any:
        return jnp.concatenate([self.scale * x, state]), state + 1


class Forgetful(Counter):
    def __call__(self, x: Any, state: Any) -> Any:
        return x, jnp.zeros(2)


@pytest.mark.slow
def test_a_recurrent_network_of_ones_own() -> None:
    settings = {name: value for name, value in SMALL.items() if name != "nlstm"}
    model = ppo2.learn(env=lambda: Script(5), total_timesteps=24, **{**settings, "network": Counter(jnp.ones(()))})
    state = model.initial_state(1)
    for step in range(3):
        _, state = model.predict(np.zeros(1, np.float32), state)
        assert float(state[0][0, 0]) == step + 1
    with pytest.raises(ValueError, match=r"its state changes from"):
        ppo2.learn(env=lambda: Script(5), total_timesteps=24, **{**settings, "network": Forgetful(jnp.ones(()))})


# --- sequences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nenvs", "nsteps", "nminibatches", "expected"),
    [(8, 128, 4, 1), (1, 128, 4, 4), (6, 128, 4, 2), (3, 8, 4, 4), (1, 6, 4, 6), (5, 7, 7, 7)],
)
def test_slices_are_as_few_as_fill_every_minibatch(nenvs: int, nsteps: int, nminibatches: int, expected: int) -> None:
    assert sequences_per_env(nenvs, nsteps, nminibatches) == expected


def test_cutting_and_joining() -> None:
    x = np.arange(6 * 2 * 3).reshape(6, 2, 3)
    pieces = split_sequences(x, 3)
    assert pieces.shape == (3, 2, 2, 3)
    np.testing.assert_array_equal(pieces[1, 0], x[2:4, 0])
    np.testing.assert_array_equal(join_sequences(pieces), x)


def test_minibatches_hold_whole_sequences() -> None:
    """Each step's number is t + 100 n, each state that of the sequence's first step."""
    numbers = jnp.arange(8)[:, None] + 100.0 * jnp.arange(4)
    fields = dict.fromkeys(("obs", "actions", "logp", "values", "advantages", "returns", "weights"), numbers)
    batch = Batch(**fields, episode_starts=numbers > 3, recurrent_state={"c": numbers[::4]})
    flat = flatten(sequences(batch), shards=2)
    random = shuffle_bits(jax.random.key(0), epochs=1, total=8, shards=2)[0]
    shuffled = minibatches(flat, random, nminibatches=2)
    assert shuffled.obs.shape == (2, 4, 4)
    np.testing.assert_array_equal(
        shuffled.obs - shuffled.recurrent_state["c"][..., None], np.broadcast_to(np.arange(4), (2, 4, 4))
    )
    np.testing.assert_array_equal(np.sort(shuffled.obs.ravel()), np.sort(np.asarray(numbers).ravel()))
    for minibatch in np.asarray(shuffled.recurrent_state["c"]):
        assert (minibatch < 200).sum() == 2  # an equal share of each block


# --- acting and training ------------------------------------------------------------------------------------------


def acted(model: Model, of: Any, first: Any) -> tuple[Any, Any, Any]:
    """Log-probabilities and values as acting gives them step by step, and the state that is left."""
    policy, normaliser = model.policy, model.state.normaliser
    state, logp, values = first, [], []
    for obs, actions, episode_starts in zip(of.obs, of.actions, of.episode_starts, strict=True):
        distribution, value, state = policy(normaliser, obs, state, episode_starts)
        logp.append(distribution.logp(actions))
        values.append(value)
    return np.stack(logp), np.stack(values), state


MODES = list(AutoresetMode)


@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
@pytest.mark.parametrize("value_network", [None, "copy", "mlp"])
def test_training_sees_what_acting_saw(mode: AutoresetMode, value_network: Any) -> None:
    model = fresh(value_network=value_network, nminibatches=4)
    factories = [functools.partial(Script, 5, "truncated", i) for i in range(3)]
    runner = Runner(env=vector(*factories, mode=mode), model=model, nsteps=8, gamma=0.9, lam=0.8)
    state = model.initial_state(3)
    for _ in range(3):
        got = jax.tree.map(np.asarray, runner.run())
        assert jax.tree.leaves(got.recurrent_state)[0].shape[:2] == (4, 3)
        logp, values, state = acted(model, got, state)
        np.testing.assert_allclose(np.where(got.valid, got.logp - logp, 0), 0, atol=1e-5)
        np.testing.assert_allclose(np.where(got.valid, got.values - values, 0), 0, atol=1e-5)
    batch = batch_of(got, model.advantages(model.state.normaliser, got))
    flat = flatten(sequences(batch), 1)
    now = model.policy.evaluate(
        model.state.normaliser, flat.obs, flat.actions, flat.recurrent_state, flat.episode_starts
    )
    np.testing.assert_allclose(np.where(flat.weights > 0, now.logp - flat.logp, 0), 0, atol=1e-6)


def test_the_first_ratio_is_one() -> None:
    told: list[Any] = []
    learn(noptepochs=1, nminibatches=1, total_timesteps=24, update_fn=lambda _, model, stats: told.append(stats))
    assert float(told[0].approxkl) < 1e-10
    assert float(told[0].clipfrac) == 0


def test_truncated_episodes_go_on_from_the_state_before_the_reset() -> None:
    model = fresh()
    factories = [functools.partial(Script, 5, "truncated", i) for i in range(3)]
    runner = Runner(env=vector(*factories, mode=AutoresetMode.SAME_STEP), model=model, nsteps=8, gamma=0.9, lam=0.8)
    got = jax.tree.map(np.asarray, runner.run())
    state = model.initial_state(3)
    for t in range(5):
        _, _, state = model.policy(model.state.normaliser, got.obs[t], state, got.episode_starts[t])
    final = got.obs[4] + 1
    expected = model.policy(model.state.normaliser, final, state).values
    assert got.truncated[4].all()
    np.testing.assert_allclose(got.next_values[4], expected, atol=1e-5)
    np.testing.assert_allclose(got.next_values[3], got.values[4], atol=1e-6)


def test_one_environment_with_several_minibatches() -> None:
    model = learn(num_envs=1, nsteps=16, nminibatches=4, total_timesteps=32)
    assert model.sequences_per_env(16, 1) == 4
    assert int(model.state.counters.gradient_steps) == 2 * 2 * 4


def test_micro_batches_make_the_same_gradient() -> None:
    whole = learn(num_envs=4, nminibatches=2)
    pieces = learn(num_envs=4, nminibatches=2, model_fn=functools.partial(MicrobatchedModel, microbatch_size=8))
    np.testing.assert_allclose(whole.state.params, pieces.state.params, atol=1e-5)
    with pytest.raises(ValueError, match=r"`microbatch_size` .=4. must hold whole sequences .* 8 steps long"):
        learn(num_envs=4, nminibatches=2, model_fn=functools.partial(MicrobatchedModel, microbatch_size=4))


# --- the model ----------------------------------------------------------------------------------------------------


def test_step_carries_the_state() -> None:
    model = fresh()
    obs = some((4, 1))
    first = model.step(obs)
    again = model.step(obs, model.initial_state(4), np.zeros(4, bool))
    np.testing.assert_array_equal(first[1], again[1])
    later = model.step(obs, first[2])
    assert not np.allclose(later[1], first[1])
    anew = model.step(obs, first[2], [True, False, False, True])
    np.testing.assert_allclose(anew[1], np.where([1, 0, 0, 1], first[1], later[1]), atol=1e-6)
    np.testing.assert_array_equal(model.value(obs, first[2]), later[1])
    action, state = model.predict(obs[0])
    assert action.shape == ()
    assert jax.tree.leaves(state)[0].shape == (1, 8)
    assert model.predict(obs[0], state)[0].shape == ()


def test_a_state_that_is_none_of_it() -> None:
    model = fresh()
    plain = tuple(model.initial_state(2)[0])
    for wrong in (
        model.initial_state(3),
        (plain, None),
        jax.tree.map(lambda x: x.astype(object), model.initial_state(2)),
    ):
        with pytest.raises(ValueError, match=r"the state .S, states. of 2 environments is .*; found "):
            model.step(some((2, 1)), wrong)
    for flags in (np.zeros(3, bool), [0.0, np.nan], ["no", "no"]):
        for state in (None, model.initial_state(2)):
            with pytest.raises(ValueError, match=r"`M` .* must hold one flag for each of 2 environments"):
                model.step(some((2, 1)), state, flags)
    with pytest.raises(ValueError, match=r"`nenvs` .=0. must be at least 1"):
        model.initial_state(0)
    with pytest.raises(ValueError, match="`obs` holds no observation"):
        model.predict(some((0, 1)))
    with pytest.raises(ValueError, match=r"no state to pass on"):
        ppo2.learn(env=lambda: Script(5), total_timesteps=0).step(some((2, 1)), model.initial_state(2))


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = learn(run_dir=tmp_path / "run", value_network="copy")
    loaded = ppo2.load(tmp_path / "run")
    obs, state = some((4, 1)), model.initial_state(4)
    np.testing.assert_array_equal(loaded.value(obs, state), model.value(obs, state))
    result = [ppo2.evaluate(m, lambda: Script(5), episodes=3, deterministic=False).returns for m in (model, loaded)]
    np.testing.assert_array_equal(*result)


@pytest.mark.parametrize("on_device", [False, True])
def test_evaluation_remembers_within_an_episode_and_not_beyond(on_device: bool) -> None:
    """The network's only feature is its episode's step, and the policy's head makes 1 of the odd ones."""
    settings = {name: value for name, value in SMALL.items() if name != "nlstm"}
    env: Any = TimeLimit(Alternate(), 6) if on_device else (lambda: gym.wrappers.TimeLimit(HostAlternate(), 6))
    model = ppo2.learn(env=env, total_timesteps=0, **{**settings, "network": Parity()})
    head = model.policy.action_head
    policy = eqx.tree_at(
        lambda p: (p.action_head.weight, p.action_head.bias),
        model.policy,
        (jnp.array([[0.0], [10.0]]), jnp.array([5.0, 0.0])),
    )
    assert head.weight.shape == (2, 1)
    arrays = eqx.filter(policy, eqx.is_inexact_array)
    model.state = model.state._replace(params=jax.flatten_util.ravel_pytree(arrays)[0])
    assert ppo2.evaluate(model, env, episodes=8).returns.tolist() == [6.0] * 8


class Parity(eqx.Module):
    """0, 1, 0, 1, ... from an episode's beginning."""

    def initial_state(self) -> Any:
        return jnp.zeros(1)

    def __call__(self, x: Any, state: Any) -> Any:
        return state, 1 - state


class Alternate:
    """Wants the actions 0, 1, 0, 1, ..."""

    observation_space = gym.spaces.Discrete(1)
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jnp.int32(0)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        return state + 1, jnp.int32(0), (action == state % 2).astype(jnp.float32), False, False, {}


class HostAlternate(gym.Env[Any, Any]):
    observation_space = Alternate.observation_space
    action_space = Alternate.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.t = 0
        return 0, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return 0, float(action == (self.t - 1) % 2), False, False, {}


# --- on the device ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sweep_rows_are_learns() -> None:
    settings: dict[str, Any] = {**SMALL, "num_envs": 4, "env": TimeLimit(Alternate(), 6), "total_timesteps": 64}
    result = ppo2.sweep(**{**settings, "seed": [1, 2]}, lr=[1e-3, 1e-2])
    for row, model in zip(result.table, result.models, strict=True):
        alone = ppo2.learn(**{**settings, "seed": row["seed"], "lr": row["lr"]})
        np.testing.assert_allclose(model.state.params, alone.state.params, atol=2e-5)


# --- what only memory solves --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fixed_sequence_is_learned_without_a_hint() -> None:
    env = Sequence
    model = ppo2.learn(
        network="lstm",
        env=env,
        total_timesteps=50_000,
        num_envs=8,
        nsteps=10,
        nminibatches=1,
        lr=1e-2,
        gamma=0.9,
        seed=0,
    )
    assert ppo2.evaluate(model, env, episodes=20).mean > 0.7 * 5


RECALL: dict[str, Any] = {
    "num_envs": 16,
    "nsteps": 20,
    "nminibatches": 2,
    "lr": 5e-3,
    "ent_coef": 0.02,
    "seed": 0,
}


@pytest.mark.slow
@pytest.mark.parametrize("network", ["lstm", "gru"])
def test_a_symbol_is_recalled(network: str) -> None:
    model = ppo2.learn(network=network, env=Recall, total_timesteps=40_000, **RECALL)
    assert ppo2.evaluate(model, Recall, episodes=50).mean > 0.95


@pytest.mark.slow
def test_without_memory_it_is_not() -> None:
    model = ppo2.learn(network="mlp", env=Recall, total_timesteps=20_000, **RECALL)
    assert ppo2.evaluate(model, Recall, episodes=50).mean < 0.75


# --- with images --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        "cnn_small_gru",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cnn_lstm", "cnn_lnlstm", "impala_cnn_lstm")),
    ],
)
def test_images_and_memory(network: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        **SMALL,
        "env": lambda: Light((36, 36, 3)),
        "network": networks.recurrent("cnn_small", "gru") if network == "cnn_small_gru" else network,
        "total_timesteps": 24,
        "run_dir": tmp_path / "run",
    }
    if network == "cnn_small_gru":
        settings["ngru"] = settings.pop("nlstm")
    told: list[Any] = []
    settings |= {"noptepochs": 1, "nminibatches": 1, "update_fn": lambda update, model, stats: told.append(stats)}
    model = ppo2.learn(**settings)
    assert float(told[0].approxkl) < 1e-9
    obs = np.zeros((2, 36, 36, 3), np.uint8)
    again = settings["network"] if network == "cnn_small_gru" else None
    np.testing.assert_array_equal(ppo2.load(tmp_path / "run", network=again).value(obs), model.value(obs))


@pytest.mark.slow
def test_a_sweep_with_images() -> None:
    settings: dict[str, Any] = {"env": DeviceLight(), "network": "cnn_small", "num_envs": 4, "nsteps": 4}
    settings |= {"total_timesteps": 32, "nminibatches": 2}
    result = ppo2.sweep(**settings, seed=[1, 2])
    for row, model in zip(result.table, result.models, strict=True):
        alone = ppo2.learn(**settings, seed=row["seed"])
        np.testing.assert_allclose(model.state.params, alone.state.params, atol=2e-5)


class DeviceLight:
    """An image, white or black: 1 for the action that says which."""

    observation_space = gym.spaces.Box(0, 255, (20, 20, 1), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        white = jax.random.bernoulli(key)
        return white, jnp.full((20, 20, 1), 255 * white, jnp.uint8)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        white, obs = self.reset(key)
        return white, obs, (action == state).astype(jnp.float32), True, False, {}


# --- what a first reading found -----------------------------------------------------------------------------------


class Wandering(gym.Env[Any, Any]):
    """Random observations; truncated every three steps."""

    observation_space, action_space = gym.spaces.Box(-9, 9, (3,)), gym.spaces.Discrete(2)

    def _obs(self) -> Any:
        return self.np_random.normal(size=3).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._obs(), 1.0, False, self.t == 3, {}


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_a_truncated_episode_is_worth_what_its_memory_says(mode: AutoresetMode) -> None:
    env = vector(Wandering, mode=mode)
    seen: list[Any] = []
    step = env.step
    env.step = lambda actions: seen.append(step(actions)) or seen[-1]  # type: ignore[func-returns-value,method-assign]
    model = fresh(env=env, num_envs=None, nminibatches=1)
    found = Runner(env=env, model=model, nsteps=8, gamma=0.9, lam=0.9).run()
    memory, episode_starts = model.initial_state(1), np.ones(1, bool)
    for t in range(3):
        memory = model.policy(model.state.normaliser, found.obs[t], memory, episode_starts).recurrent_state
        episode_starts = np.zeros(1, bool)
    last = np.stack(seen[2][4]["final_obs"]) if mode is AutoresetMode.SAME_STEP else seen[2][0]
    right = model.policy(model.state.normaliser, jnp.asarray(last, jnp.float32), memory, episode_starts).values
    assert bool(found.truncated[2, 0])
    np.testing.assert_allclose(found.next_values[2], right, atol=1e-6)


class Learned(eqx.Module):
    """A cell that learns what it begins with."""

    first: jax.Array

    def initial_state(self) -> jax.Array:
        return self.first

    def __call__(self, x: Any, state: Any) -> Any:
        after = jnp.tanh(x + state)
        return after, after


def test_a_learned_first_state_is_the_learned_one(tmp_path: Path) -> None:
    cell = Learned(jnp.zeros(3))
    settings = {name: value for name, value in SMALL.items() if name not in ("network", "nlstm")}
    model = ppo2.learn(**settings, env=Wandering, network=cell, lr=0.1, total_timesteps=48)
    first = np.asarray(model.policy.trunk.first)  # type: ignore[union-attr]
    assert np.abs(first).max() > 0.01
    np.testing.assert_array_equal(model.initial_state(2)[0], [first, first])
    model.save(tmp_path / "m.safetensors")
    loaded = ppo2.load(tmp_path / "m.safetensors", network=cell)
    np.testing.assert_array_equal(loaded.initial_state(1)[0], [first])
    obs = some((1, 3))
    np.testing.assert_array_equal(model.value(obs), model.value(obs, model.initial_state(1)))


def test_a_memory_of_nothing_is_refused() -> None:
    class Empty(Learned):
        def initial_state(self) -> Any:
            return ()

    settings = {name: value for name, value in SMALL.items() if name not in ("network", "nlstm")}
    with pytest.raises(ValueError, match=r"initial_state\(\) gives no array"):
        ppo2.learn(**settings, env=Wandering, network=Empty(jnp.zeros(3)), total_timesteps=0)
