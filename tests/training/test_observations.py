"""Observations of several parts, encoders, and masks of legal actions: host, device, memory, evaluation, files."""

from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2 import spaces
from ppo2.agent.model import Model
from ppo2.runners.host import Runner
from support.environments import PARTS, Parts, Spaced, vector

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SMALL: dict[str, Any] = {
    "num_envs": 3,
    "nsteps": 8,
    "nminibatches": 2,
    "noptepochs": 2,
    "total_timesteps": 48,
    "num_hidden": 8,
    "seed": 5,
}


def learn(**more: Any) -> Model:
    return ppo2.learn(**{**SMALL, **more})


class DeviceParts:
    """The same on the device."""

    observation_space = PARTS
    action_space = Discrete(2)

    def _drawn(self, key: Any) -> Any:
        keys = jax.random.split(key, 4)
        pose = jax.random.uniform(keys[0], (2,), minval=-1, maxval=1)
        arm = (jax.random.randint(keys[1], (), 1, 4), jax.random.bernoulli(keys[2], shape=(2,)).astype(jnp.int8))
        return {"pose": pose, "arm": arm, "lidar": jax.random.normal(keys[3], (2, 2))}

    def reset(self, key: Any) -> Any:
        obs = self._drawn(key)
        return (obs["pose"][0], jnp.int32(0)), obs

    def step(self, state: Any, action: Any, key: Any) -> Any:
        obs, (x, t) = self._drawn(key), state
        return (obs["pose"][0], t + 1), obs, (action == (x > 0)).astype(jnp.float32), False, t == 4, {}


class Offset(gym.Env[Any, Any]):
    """The observation is `far` plus a sign, which is the best action; in one step."""

    action_space = Discrete(2)

    def __init__(self, space: Box, far: float) -> None:
        self.observation_space, self.far = space, far

    def _obs(self) -> Any:
        self.right = int(self.np_random.integers(2))
        return np.array([self.far + 2 * self.right - 1], self.observation_space.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        reward = float(action == self.right)
        return self._obs(), reward, True, False, {}


FAR = {
    "float64": (Box(-np.inf, np.inf, (1,), np.float64), 1.7e9),
    "int64": (Box(0, 2**62, (1,), np.int64), 2**40),
    "int32": (Box(0, 2**31 - 1, (1,), np.int32), 1_000_000_000),
    "float32": (Box(-np.inf, np.inf, (1,), np.float32), 5_400_000),
    "uint8": (Box(0, 255, (1,), np.uint8), 100),
}


@pytest.mark.parametrize("kind", FAR)
def test_observations_far_from_0_are_told_apart(kind: str, tmp_path: Path) -> None:
    """In training, evaluation, answers and files: float32 has steps of 128 at 1.7e9."""
    space, far = FAR[kind]
    settings = {"num_envs": 8, "nsteps": 32, "total_timesteps": 16 * 256, "noptepochs": 8, "lr": 1e-2}
    model = ppo2.learn(env=lambda: Offset(space, far), num_hidden=8, seed=0, normalize_obs=True, **settings)
    np.testing.assert_allclose(model.state.normaliser.obs.var, [1], rtol=0.05)
    np.testing.assert_allclose(model.state.normaliser.obs.mean, [far], rtol=1e-6, atol=0.1)
    assert ppo2.evaluate(model, lambda: Offset(space, far), episodes=40).mean > 0.95
    both = np.array([[far - 1], [far + 1]], space.dtype)
    loaded = ppo2.load(model.save(tmp_path / "model.safetensors"))
    for one in (model, loaded):
        assert one.predict(both)[0].tolist() == [0, 1]
        assert one.predict(both[1])[0] == 1


# --- spaces -------------------------------------------------------------------------------------------------------


def test_batches_are_checked_part_by_part() -> None:
    one = {"pose": [1.0, 2.0], "arm": (2, np.array([0, 1])), "lidar": np.zeros((2, 2))}
    batch, single = spaces.observation(PARTS, one)
    assert single
    assert batch["pose"].dtype == np.float32
    assert (batch["arm"][0].shape, batch["arm"][1].shape) == ((1,), (1, 2))
    many = jax.tree.map(lambda x: np.stack([x] * 4), batch)
    again, single = spaces.observation(PARTS, jax.tree.map(lambda x: x[:, 0], many))
    assert not single
    assert again["lidar"].shape == (4, 2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": (7, [0, 1])}, r"`obs`\['arm'\]\[0\] holds 7, which is out of range"),
        ({"arm": (2,)}, r"`obs`\['arm'\]: the observation space is a Tuple of 2; it has 1 parts"),
        ({"pose": np.zeros(3)}, r"`obs`\['pose'\] has the shape \(3,\)"),
        ({"more": 1}, r"`obs`: the observation space is a Dict of .*; it has the keys"),
        ({"pose": np.zeros((4, 2))}, "its parts are not of one batch"),
    ],
)
def test_a_part_that_is_wrong_is_named(change: Any, message: str) -> None:
    one = {"pose": [1.0, 2.0], "arm": (2, [0, 1]), "lidar": np.zeros((2, 2))}
    with pytest.raises(ValueError, match=message):
        spaces.observation(PARTS, {**one, **change})


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_rollouts_hold_the_parts(mode: AutoresetMode) -> None:
    model = learn(env=Parts, total_timesteps=0, normalize_obs=True)
    runner = Runner(env=vector(*[Parts] * 3, mode=mode), model=model, nsteps=8, gamma=0.9, lam=0.8)
    got = jax.tree.map(np.asarray, runner.run())
    assert got.obs["pose"].shape == (8, 3, 2)
    assert got.obs["arm"][1].shape == (8, 3, 2)
    right = got.obs["pose"][..., 0] > 0
    np.testing.assert_array_equal(np.where(got.valid, got.rewards, 0), got.valid * (got.actions == right))
    stats = model.train(got, lr=1e-3, cliprange=0.2)
    assert int(stats.fault) == 0
    normaliser = model.state.normaliser
    assert normaliser.obs["arm"] == (None, None)
    np.testing.assert_allclose(normaliser.obs["pose"].mean, got.obs["pose"][got.valid].mean(axis=0), atol=1e-4)


@pytest.mark.parametrize(
    ("env", "network"),
    [pytest.param(*case, marks=pytest.mark.slow) for case in ((Parts, "lstm"), (DeviceParts(), "mlp"))],
    ids=["host", "device"],
)
def test_it_learns_from_a_part(env: Any, network: str) -> None:
    # on one trunk an LSTM soon tells how far an episode is, and the value's gradient leaves the policy's little room
    kwargs: dict[str, Any] = {"num_hidden": 16} if network == "mlp" else {"nlstm": 16, "value_network": "copy"}
    settings = {name: value for name, value in SMALL.items() if name != "num_hidden"} | kwargs
    settings |= {"num_envs": 8, "nsteps": 20, "lr": 3e-3, "noptepochs": 4, "total_timesteps": 16_000}
    model = ppo2.learn(**settings, env=env, network=network, normalize_obs=True)
    assert ppo2.evaluate(model, env, episodes=40).mean > 4.3


def test_saved_loaded_and_asked(tmp_path: Path) -> None:
    model = learn(env=Parts, normalize_obs=True, run_dir=tmp_path / "run", value_network="copy")
    loaded = ppo2.load(tmp_path / "run")
    env = Parts()
    obs, _ = env.reset(seed=0)
    np.testing.assert_array_equal(loaded.value(obs), model.value(obs))
    assert env.action_space.contains(loaded.predict(obs)[0])


def test_bits_do_not_depend_on_the_order_of_keys() -> None:
    obs, _ = Parts().reset(seed=0)
    model = learn(env=Parts)
    np.testing.assert_array_equal(model.value(obs), model.value(dict(reversed(obs.items()))))


# --- encoders -----------------------------------------------------------------------------------------------------


def test_encoders_by_path() -> None:
    model = learn(env=Parts, total_timesteps=0, encoders={"lidar": "mlp", "arm/0": lambda: lambda shape: Halved()})
    encoders = model.policy.trunk.encoders
    # arm/0 one-hot of 3, halved to 3; arm/1 2 bits; lidar 64 units; pose 2 numbers
    assert model.policy.trunk.network.layers[0].weight.shape == (8, 3 + 2 + 64 + 2)
    obs = {"pose": jnp.array([1.0, 2]), "arm": (jnp.array([0.0, 1, 0]), jnp.ones(2)), "lidar": jnp.zeros((2, 2))}
    np.testing.assert_array_equal(encoders(obs)[:5], [0, 0.5, 0, 1, 1])
    np.testing.assert_array_equal(encoders(obs)[-2:], [1, 2])


class Halved(eqx.Module):
    def __call__(self, x: Any) -> Any:
        return x / 2


def test_encoders_that_do_not_fit() -> None:
    with pytest.raises(
        ValueError, match=r"`encoders` has 'arm', which the observation lacks: its parts are 'arm/0', 'arm/1'"
    ):
        learn(env=Parts, encoders={"arm": "mlp"})
    with pytest.raises(ValueError, match=r"`encoders` .* apply to observations of several parts"):
        learn(env="CartPole-v1", encoders={"pole": "mlp"})
    with pytest.raises(ValueError, match=r"`encoders\['pose'\]` .='mpl'.: unknown network type"):
        learn(env=Parts, encoders={"pose": "mpl"})


class Pose(eqx.Module):
    def __call__(self, obs: Any) -> Any:
        return obs["pose"]


def test_a_ready_network_sees_the_parts() -> None:
    settings = {name: value for name, value in SMALL.items() if name != "num_hidden"}
    model = ppo2.learn(**settings, env=Parts, network=Pose())
    assert model.policy.action_head.weight.shape == (2, 2)


@pytest.mark.parametrize(
    "space",
    [
        Dict({"a": Box(-1, 1, (1,)), "b": Dict({})}),
        Tuple([Box(-1, 1, (1,)), Tuple([])]),
    ],
    ids=["Dict", "Tuple"],
)
def test_parts_that_hold_nothing_are_refused(space: Any) -> None:
    with pytest.raises(TypeError, match="`env` has the observation space"):
        learn(env=lambda: Spaced(space, Discrete(2)))


@pytest.mark.parametrize(
    "space",
    [Box(-1, 1, (0,)), pytest.param(Dict({"a": Box(-1, 1, (0, 2)), "b": Discrete(2)}), marks=pytest.mark.slow)],
    ids=["alone", "beside another"],
)
def test_an_array_of_no_size_is_seen(space: Any) -> None:
    model = learn(env=lambda: Spaced(space, Discrete(2)), normalize_obs=True)
    assert int(model.state.counters.updates) == 2


def test_encoders_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"`encoders\['lidar'\]` .*'lstm'.* has a memory"):
        learn(env=Parts, encoders={"lidar": "lstm"})
    with pytest.raises(ValueError, match=r"`encoders\['lidar'\]`: the network 'cnn' wants images"):
        learn(env=Parts, encoders={"lidar": "cnn"})
    twice = Dict({"a/b": Box(-1, 1, (2,)), "a": Dict({"b": Box(-1, 1, (3,))})})
    with pytest.raises(ValueError, match="have one path twice: rename a key that has a '/'"):
        learn(env=lambda: Spaced(twice, Discrete(2)))


def test_encoders_given_as_objects_are_asked_for(tmp_path: Path) -> None:
    space = Dict({"object": Box(-1, 1, (2,)), "b": Box(-1, 1, (1,))})
    path = tmp_path / "m.safetensors"
    learn(env=lambda: Spaced(space, Discrete(2)), total_timesteps=0, encoders={"object": "mlp"}).save(path)
    assert ppo2.load(path).config.encoders == {"object": "mlp"}
    own = {"b": lambda: Halved()}
    learn(env=lambda: Spaced(space, Discrete(2)), total_timesteps=0, encoders=own).save(path)
    with pytest.raises(ValueError, match=r"as `encoders`, which no file can hold: pass it"):
        ppo2.load(path)
    assert ppo2.load(path, encoders=own).config.encoders == own
