"""Training under the switches of JAX and NumPy that users set, for all of a process, for their own code's sake."""

import contextlib
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2.numerics.compilation import platform
from support.device_cartpole import CARTPOLE
from support.environments import Bandit, Legal, Script
from support.runs import params, rows

Switch = Callable[[], contextlib.AbstractContextManager[Any]]


def on_last_device() -> contextlib.AbstractContextManager[Any]:
    """Small host environments learn on the CPU, also beside a card."""
    return jax.default_device(jax.devices("cpu")[-1])


SWITCHES: dict[str, Switch] = {
    "enable_x64": lambda: jax.enable_x64(True),
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "default_device": on_last_device,
    "default_platform": lambda: jax.default_device("cpu"),
    "matmul_precision": lambda: jax.default_matmul_precision("highest"),
    "rbg": lambda: jax.default_prng_impl("rbg"),
    "unsafe_rbg": lambda: jax.default_prng_impl("unsafe_rbg"),
    "tracer_leaks": jax.checking_leaks,
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "numpy_raises": lambda: np.errstate(all="raise"),
    "warnings": lambda: warnings.catch_warnings(action="error"),
}
"""Switches under which every bit stays the same."""

OTHER_BITS: dict[str, Switch] = {
    "disable_jit": jax.disable_jit,
    "threefry": lambda: jax.threefry_partitionable(False),
}
"""Switches under which sums are taken in another order, or JAX's generator draws other numbers."""

TINY: dict[str, Any] = {
    "num_envs": 2, "nsteps": 4, "nminibatches": 2, "noptepochs": 1, "total_timesteps": 16, "log_interval": 1, "seed": 0,
}  # fmt: skip
MLP: dict[str, Any] = {"network": "mlp", "num_hidden": 4, "num_layers": 1}


def kept(env: Any, run_dir: Path, **more: Any) -> tuple[np.ndarray[Any, Any], list[float], Any]:
    """Parameters, returns of an evaluation and values after a training with all that belongs to one."""
    saw: list[float] = []
    model = ppo2.learn(
        env=env, eval_env=env, eval_episodes=2, run_dir=run_dir, update_fn=lambda *now: saw.append(now[2].value_loss),
        **{**TINY, **more},
    )  # fmt: skip
    loaded = ppo2.load(run_dir)
    obs = np.zeros((2, *loaded.observation_space.shape), loaded.observation_space.dtype)
    _, values, states, _ = loaded.step(obs)
    loaded.predict(obs, states)
    returns = ppo2.evaluate(loaded, env, episodes=2, deterministic=False).returns
    resumed = ppo2.learn(env=env, load_path=run_dir, **{**TINY, **more, "total_timesteps": 24})
    assert model.state.params.dtype == values.dtype == np.float32
    assert len(saw) == 2
    assert np.isfinite([float(value) for value in saw]).all()
    return params(resumed), returns.tolist(), values


@functools.cache
def usual(kept_of: Callable[[Path], Any], where: Path) -> Any:
    return kept_of(where)


def host(run_dir: Path) -> Any:
    return kept(Script, run_dir, normalize_obs=True, normalize_rewards=True, **MLP)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], Any]], Any]:
    """Function that gives the result of a training without any switch."""
    return lambda train: usual(train, tmp_path_factory.getbasetemp() / f"usual_{train.__name__}" / "run")


def assert_same(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("quickly_compiled", "no_curve")
@pytest.mark.parametrize("name", SWITCHES)
def test_training_under_a_switch_gives_the_same_bits(name: str, without: Any, tmp_path: Path) -> None:
    expected = without(host)
    with SWITCHES[name]():
        found = host(tmp_path / "run")
    assert_same(found, expected)


@pytest.mark.usefixtures("quickly_compiled")
@pytest.mark.parametrize("name", OTHER_BITS)
def test_training_under_a_switch_that_changes_bits(name: str, tmp_path: Path) -> None:
    with OTHER_BITS[name]():
        model = ppo2.learn(env=Script, **{**TINY, "total_timesteps": 8}, **MLP)
        loaded = ppo2.load(model.save(tmp_path / "model.safetensors"))
        returns = ppo2.evaluate(loaded, Script, episodes=1).returns
    assert np.isfinite(params(model)).all()
    assert int(model.state.counters.gradient_steps) == 2
    assert returns == [6.0]  # of three steps: 1 + 2 + 3


@pytest.mark.usefixtures("quickly_compiled")
def test_debug_nans_lets_equal_returns_pass(tmp_path: Path, no_curve: None) -> None:
    env = functools.partial(Bandit, "constant")  # every return is 1, of which no variance can be explained
    with jax.debug_nans(True):
        saw: list[Any] = []
        ppo2.learn(env=env, run_dir=tmp_path / "run", update_fn=lambda *now: saw.append(now[2]), **TINY, **MLP)
    assert all(np.isnan(stats.explained_variance) for stats in saw)
    assert [row["misc/explained_variance"] for row in rows(tmp_path / "run")] == ["nan", "nan"]


@pytest.mark.usefixtures("quickly_compiled")
def test_networks_of_64_bits_are_trained_in_32() -> None:
    with jax.enable_x64(True):
        network = eqx.nn.MLP(1, 4, 4, 1, key=jax.random.key(0))
        assert network.layers[0].weight.dtype == jnp.float64
        model = ppo2.learn(network=network, env=Script, **TINY)
        assert model.state.params.dtype == np.float32
        assert model.policy.trunk.layers[0].weight.dtype == np.float32


class Doubles:
    """A device environment that computes in as many bits as JAX has."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (1,))
    action_space = gym.spaces.Box(-0.2, 0.2, (1,))

    def reset(self, key: Any) -> Any:
        place = jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0)
        return place, place

    def step(self, state: Any, action: Any, key: Any) -> Any:
        place = jnp.clip(state + action, -10.0, 10.0)
        return place, place, -jnp.abs(place[0]), False, jnp.abs(place[0]) > 5, {}


@pytest.mark.usefixtures("quickly_compiled")
def test_an_environment_computes_in_64_bits_and_the_policy_in_32() -> None:
    with jax.enable_x64(True):
        env = ppo2.envs.TimeLimit(Doubles(), max_episode_steps=3)
        model = ppo2.learn(env=env, **TINY, **MLP)
        assert jax.eval_shape(env.reset, jax.random.key(0))[1].dtype == jnp.float64
        assert {leaf.dtype.name for leaf in jax.tree.leaves(model.state._replace(key=None))} == {"float32", "int32"}


# --- every kind of program under every switch ---------------------------------------------------------------------


def device(run_dir: Path) -> Any:
    return kept(CARTPOLE, run_dir, normalize_obs=True, normalize_rewards=True, **MLP)


def lstm(run_dir: Path) -> Any:
    return kept(Script, run_dir, network="lnlstm", nlstm=4)


def device_gru(run_dir: Path) -> Any:
    return kept(CARTPOLE, run_dir, network="gru", ngru=4, target_kl=0.01)


def squashed(run_dir: Path) -> Any:
    return kept("Pendulum-v1", run_dir, action_dist="squashed_gaussian", value_network="copy", **MLP)


def gaussian(run_dir: Path) -> Any:
    return kept("MountainCarContinuous-v0", run_dir, value_cliprange=None, layer_norm=True, **MLP)


def adapted(run_dir: Path) -> Any:
    pytest.importorskip("gymnax")
    return kept("gymnax:CartPole-v1", run_dir, **MLP)


def masked(_: Path) -> Any:
    model = ppo2.learn(env=Legal, **TINY, **MLP)
    return params(model), ppo2.evaluate(model, Legal, episodes=2).returns


def swept(_: Path) -> Any:
    return [params(model) for model in ppo2.sweep(env=CARTPOLE, lr=[1e-3, 1e-4], **TINY, **MLP).models]


def workers(_: Path) -> Any:
    env = ppo2.make("CartPole-v1", num_envs=2, seed=0, workers=1)
    with contextlib.closing(env):
        model = ppo2.learn(env=env, **{**TINY, "num_envs": None}, **MLP)
    return [params(model)]


KINDS = (device, lstm, device_gru, squashed, gaussian, adapted, masked, swept, workers)
LOOSE = {("enable_x64", adapted), ("enable_x64", device), ("enable_x64", device_gru), ("enable_x64", swept)}
"""Pairs of which other bits are right, as the environment computes in 64 bits."""
ON_THE_CARD = (device, device_gru, adapted, swept)
"""Kinds that a card computes where there is one, unless the switch says another device."""
ENDLESS = {"disable_jit": (squashed, gaussian, device, device_gru, adapted, swept)}
"""Kinds whose evaluation, or whose every step, would take minutes without compiling."""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of the longer environments are cut."""
    for name in ("Pendulum-v1", "MountainCarContinuous-v0"):
        monkeypatch.setattr(gym.spec(name), "max_episode_steps", 5)


@pytest.mark.slow
@pytest.mark.usefixtures("no_curve", "short")
@pytest.mark.parametrize("train", KINDS, ids=lambda train: train.__name__)
@pytest.mark.parametrize("name", [*SWITCHES, *OTHER_BITS])
def test_every_kind_of_program_under_every_switch(name: str, train: Any, without: Any, tmp_path: Path) -> None:
    if train in ENDLESS.get(name, ()):
        pytest.skip("takes minutes where nothing is compiled")
    expected = without(train)
    with {**SWITCHES, **OTHER_BITS}[name]():
        found = train(tmp_path / "run")
    moved = name.startswith("default_") and train in ON_THE_CARD and platform() != "cpu"
    if name in SWITCHES and (name, train) not in LOOSE and not moved:
        assert_same(found, expected)
