"""Observations of several parts, encoders, and masks of legal actions: host, device, memory, evaluation, files."""

from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2 import envs, spaces
from ppo2.agent.model import Model
from ppo2.envs.families.masks import MaskedEnv, MaskedVectorEnv
from ppo2.runners.host import Runner
from support.environments import LEGAL, PARTS, Legal, Parts, Spaced, vector

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


# --- masks --------------------------------------------------------------------------------------------------------


class Told(Legal):
    """The same, but the mask is in info."""

    observation_space = LEGAL["observation"]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        obs, _ = super().reset(seed=seed)
        return obs["observation"], {"action_mask": obs["action_mask"]}

    def step(self, action: Any) -> Any:
        obs, *rest, _ = super().step(action)
        return obs["observation"], *rest, {"action_mask": obs["action_mask"]}


class DeviceLegal:
    """The same on the device; an illegal action costs 100."""

    observation_space = LEGAL
    action_space = Discrete(4)

    def __init__(self, stuck_at: int = -1) -> None:
        self.stuck_at = stuck_at

    def _obs(self, key: Any, t: Any) -> Any:
        several, one = jax.random.split(key)
        mask = jax.random.bernoulli(several, 0.5, (4,)) | (jnp.arange(4) == jax.random.randint(one, (), 0, 4))
        mask &= t != self.stuck_at
        return {"observation": jnp.zeros(1), "action_mask": mask.astype(jnp.int8)}

    def reset(self, key: Any) -> Any:
        obs = self._obs(key, 0)
        return (obs["action_mask"], jnp.int32(0)), obs

    def step(self, state: Any, action: Any, key: Any) -> Any:
        mask, t = state
        best = 3 - jnp.argmax(mask[::-1])
        reward = jnp.where(mask[action] > 0, jnp.where(action == best, 1.0, 0.0), -100.0)
        obs = self._obs(key, t + 1)
        return (obs["action_mask"], t + 1), obs, reward, False, t == 5, {}


MASKED = {"in the observation": Legal, "in info": Told, "on the device": DeviceLegal()}


@pytest.mark.parametrize(
    ("where", "network"),
    [
        pytest.param("in the observation", "mlp", id="in the observation"),
        pytest.param("in info", "lstm", id="in info", marks=pytest.mark.slow),
        pytest.param("on the device", "lstm", id="on the device", marks=pytest.mark.slow),
    ],
)
def test_only_legal_actions_are_taken_and_the_best_learned(where: str, network: str) -> None:
    env: Any = MASKED[where]
    settings = {name: value for name, value in SMALL.items() if name != "num_hidden"}
    settings |= {"num_envs": 8, "nsteps": 12, "lr": 1e-2, "total_timesteps": 10_000}
    model = ppo2.learn(**settings, env=env, network=network)
    result = ppo2.evaluate(model, env, episodes=20)
    assert result.returns.min() >= 0
    assert result.mean > 5.5
    assert ppo2.evaluate(model, env, episodes=20, deterministic=False).returns.min() >= 0


def test_ratio_and_entropy_know_the_mask() -> None:
    told: list[Any] = []
    learn(env=Legal, noptepochs=1, nminibatches=1, update_fn=lambda _, model, stats: told.append(stats))
    assert float(told[0].approxkl) < 1e-10
    assert float(told[0].policy_entropy) < 0.9 * np.log(4)  # fewer than all are legal


@pytest.mark.slow
def test_a_state_without_a_legal_action_is_told() -> None:
    no_legal_action = type("Stuck", (Legal,), {"stuck_at": 3})
    message = r"update 1: a state has no legal action .*environment 0 gave it at step 3 of the rollout"
    on_host = r"`env` has a state with no legal action .*: number 0 of 3, at step 3"
    for on_nonfinite in ("raise", "skip"):
        with pytest.raises(ValueError, match=on_host + " of rollout 0"):
            learn(env=no_legal_action, on_nonfinite=on_nonfinite)
        with pytest.raises(ValueError, match=message):
            learn(env=DeviceLegal(3), on_nonfinite=on_nonfinite)
    model = learn(env=Legal)
    for env in (no_legal_action, DeviceLegal(3)):
        with pytest.raises(ValueError, match=on_host):
            ppo2.evaluate(model, env, episodes=3, num_envs=3)
    with pytest.raises(ValueError, match=r"`obs` has a state with no legal action .* number 0 of 1\."):
        model.predict({"observation": np.zeros(1, np.float32), "action_mask": np.zeros(4, np.int8)})


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_masks_from_the_info_of_a_vector_environment(mode: AutoresetMode) -> None:
    env = vector(*[Told] * 3, mode=mode)
    made = envs.resolve(env).env
    assert isinstance(made, MaskedVectorEnv)
    model = learn(env=env, num_envs=None)
    assert int(model.state.counters.updates) == 2
    assert spaces.is_masked(model.observation_space)


def test_masks_from_the_info_of_registered_environments() -> None:
    env = ppo2.make("Taxi-v4", num_envs=2)
    assert all(isinstance(one, MaskedEnv) for one in env.envs)
    model = learn(env="Taxi-v4")
    env.reset(seed=0)
    obs = env.reset(seed=0)[0]
    for _ in range(20):
        actions = model.step(obs)[0]
        assert all(mask[action] for mask, action in zip(obs["action_mask"], actions, strict=True))
        obs = env.step(actions)[0]


@pytest.mark.parametrize(
    ("action_space", "mask"),
    [
        pytest.param(MultiDiscrete([2, 3]), Box(0, 1, (5,), np.int8), marks=pytest.mark.slow),
        (Dict({"move": Box(-1, 1, (2,)), "say": Discrete(3)}), Dict({"say": MultiBinary(3)})),
    ],
    ids=["MultiDiscrete", "Dict"],
)
def test_masks_of_other_spaces(action_space: Any, mask: Any) -> None:
    space = Dict({"observation": Box(-1, 1, (1,)), "action_mask": mask})
    assert int(learn(env=lambda: Whole(space, action_space)).state.counters.updates) == 2


@pytest.mark.parametrize(
    ("action_space", "mask"),
    [(Discrete(3), MultiBinary(2)), (Box(-1, 1, (2,)), MultiBinary(2)), (Tuple([Discrete(2)] * 2), MultiBinary(4))],
    ids=["size", "Box", "Tuple"],
)
def test_masks_that_do_not_fit(action_space: Any, mask: Any) -> None:
    space = Dict({"observation": Box(-1, 1, (1,)), "action_mask": mask})
    with pytest.raises(ValueError, match="an action_mask that doesn't fit its action space"):
        learn(env=lambda: Spaced(space, action_space))


class Whole(gym.Env[Any, Any]):
    """Any masked space; the first option of each choice is always legal, and the only one."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def _obs(self) -> Any:
        sample = self.observation_space.sample()
        if isinstance(self.action_space, MultiDiscrete):
            mask: Any = np.array([1, 0, 1, 0, 0], np.int8)
        else:
            mask = {"say": np.array([1, 0, 0], np.int8)}
        return {**sample, "action_mask": mask}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        if isinstance(self.action_space, MultiDiscrete):
            assert list(action) == [0, 0]
        else:
            assert action["say"] == 0
        return self._obs(), 1.0, self.t == 4, False, {}


class Obeyed(gym.Env[Any, Any]):
    """Gives in info the mask that `mask(t)` says, and asserts that actions obey it. Truncated after 5 steps."""

    observation_space = Box(-1, 1, (1,))

    def __init__(self, mask: Any, action_space: Any = None, length: int = 5) -> None:
        self.mask, self.length, self.action_space = mask, length, action_space or Discrete(4)

    def _info(self) -> dict[str, Any]:
        self.given = self.mask(self.t)
        return {} if self.given is None else {"action_mask": self.given}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), self._info()

    def step(self, action: Any) -> Any:
        if isinstance(self.action_space, Discrete):
            assert self.given[action], f"{action} is illegal under {self.given}"
        elif isinstance(self.action_space, Dict):
            assert self.given["a"][action["a"]]
            assert all(self.given["b"][i] for i in (action["b"][0], 2 + action["b"][1]))
        else:
            assert self.given[0][action[0]]
        self.t += 1
        return np.zeros(1, np.float32), 1.0, False, self.t == self.length, self._info()


def only(t: int) -> Any:
    """One action of four, another each time."""
    return np.eye(4, dtype=np.int8)[t % 4]


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_masks_of_episodes_of_other_lengths(mode: AutoresetMode) -> None:
    env = vector(lambda: Obeyed(only), lambda: Obeyed(only, length=3), mode=mode)
    assert int(learn(env=env, num_envs=None).state.counters.updates) == 3


@pytest.mark.parametrize("scale", [256, 0.5])
def test_whatever_is_not_0_is_legal(scale: float) -> None:
    assert int(learn(env=lambda: Obeyed(lambda t: only(t).astype(int) * scale)).state.counters.updates) == 2


CHOICES = {"a": np.array([1, 0]), "b": np.array([0, 1, 1, 0, 0])}


@pytest.mark.parametrize(
    ("action_space", "mask"),
    [
        (Dict({"a": Discrete(2), "b": MultiDiscrete([2, 3])}), CHOICES),
        pytest.param(Tuple([Discrete(2), Box(-1, 1, (2,))]), (np.array([0, 1]), None), marks=pytest.mark.slow),
    ],
    ids=["Dict", "Tuple"],
)
@pytest.mark.parametrize("is_vector", [False, True], ids=["factory", "vector"])
def test_masks_from_info_for_parts_of_actions(action_space: Any, mask: Any, is_vector: bool) -> None:
    def make() -> Any:
        return Obeyed(lambda t: mask, action_space)

    env = vector(make, make, mode=AutoresetMode.SAME_STEP) if is_vector else make
    assert int(learn(env=env, num_envs=None if is_vector else 3).state.counters.updates) > 0


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (lambda t: only(t)[None], "expected 4 numbers, for the actions of Discrete"),
        (lambda t: [1, 0, 1], "expected 4 numbers"),
        (lambda t: np.full(4, np.nan), "expected 4 numbers"),
        (lambda t: ["a"] * 4, "expected 4 numbers"),
        (lambda t: only(t) if t == 0 else None, "gave no info"),
    ],
    ids=["rank", "size", "NaN", "text", "absent"],
)
def test_masks_from_info_that_are_none(mask: Any, message: str) -> None:
    for env, num_envs in (
        (lambda: Obeyed(mask), 2),
        (vector(lambda: Obeyed(mask), mode=AutoresetMode.NEXT_STEP), None),
    ):
        with pytest.raises(ValueError, match=message):
            learn(env=env, num_envs=num_envs, nminibatches=1)


def test_a_mask_with_a_neighbour_is_refused() -> None:
    space = Dict({"observation": Box(-1, 1, (1,)), "action_mask": Box(0, 1, (2,)), "more": Discrete(2)})
    with pytest.raises(TypeError, match=r"beside action_mask.*must be observation and nothing else"):
        learn(env=lambda: Spaced(space, Discrete(2)))


def test_a_mask_in_the_info_of_a_device_environment_is_refused() -> None:
    class Telling(DeviceLegal):
        observation_space = LEGAL["observation"]

        def reset(self, key: Any) -> Any:
            state, obs = super().reset(key)
            return state, obs["observation"]

        def step(self, state: Any, action: Any, key: Any) -> Any:
            state, obs, *rest, _ = super().step(state, action, key)
            return state, obs["observation"], *rest, {"action_mask": obs["action_mask"]}

    with pytest.raises(ValueError, match="on the device let observations be a Dict of `observation` and `action_mask`"):
        learn(env=Telling())


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
