"""Actions as environments want them, rewards too large to learn from, and batches that teach nothing."""

from typing import Any

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2.envs.host.vector import HostVectorEnv
from support.environments import Bandit, vector

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SMALL: dict[str, Any] = {"nsteps": 8, "nminibatches": 2, "noptepochs": 1, "seed": 0, "num_hidden": 4}


# --- actions


class Strict(gym.Env[Any, Any]):
    """Raises at an action that isn't what its space's `sample` gives, part by part, or can't be kept and changed."""

    observation_space: Any = Box(-1, 1, (1,))

    def __init__(self, space: Any) -> None:
        self.action_space = space
        self.kept: list[Any] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        check_like(action, self.action_space.sample())
        assert self.action_space.contains(action)
        for before, copied in self.kept:
            assert np.array_equal(before, copied)
        if isinstance(action, np.ndarray):
            self.kept.append((action, action.copy()))
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t >= 3, False, {}


def check_like(action: Any, sample: Any) -> None:
    if isinstance(sample, dict):
        assert isinstance(action, dict)
        for key in sample:
            check_like(action[key], sample[key])
    elif isinstance(sample, tuple):
        for one, like in zip(action, sample, strict=True):
            check_like(one, like)
    else:
        assert type(action) is type(sample), (type(action), type(sample))
        assert action.dtype == sample.dtype
        assert action.shape == sample.shape
        action.item() if action.shape == () else action.fill(0)  # it is theirs


class Kept(Strict):
    """The same, of actions that it keeps as they are."""

    def step(self, action: Any) -> Any:
        assert type(action) is np.int64
        assert isinstance(action, np.integer)
        assert action.item() in (5, 6)
        return super().step(action)


SPACES = [
    Discrete(2),
    Discrete(2, start=5),
    Discrete(2, dtype=np.int32),
    MultiDiscrete([2, 3]),
    MultiBinary(3),
    Box(-1, 1, (2,)),
    Box(-1, 1, (2,), np.float64),
    Dict({"a": Discrete(3), "b": Tuple([Discrete(2), Box(-1, 1, (2,))])}),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_actions_are_what_a_sample_is(space: Any) -> None:
    """In training by a factory, by workers, in a vector environment of Gymnasium's, in evaluation, and by `predict`."""

    def factory() -> Strict:
        return Strict(space)

    model = ppo2.learn(env=factory, num_envs=2, total_timesteps=16, **SMALL)
    ppo2.evaluate(model, factory, episodes=1)
    check_like(model.predict(np.zeros(1, np.float32))[0], space.sample())
    for env in (
        HostVectorEnv([factory] * 2, workers=1),
        vector(factory, factory, mode=AutoresetMode.NEXT_STEP),
        vector(factory, factory, mode=AutoresetMode.SAME_STEP),
    ):
        ppo2.learn(env=env, total_timesteps=16, **SMALL)
        env.close()


def test_an_instance_gets_the_same(tmp_path: Any) -> None:
    """Also where its actions are repeated in a resumed run."""
    settings = {**SMALL, "total_timesteps": 24, "run_dir": tmp_path}
    ppo2.learn(env=Kept(Discrete(2, start=5)), update_fn=lambda _: False, **settings)
    ppo2.learn(env=Kept(Discrete(2, start=5)), load_path=tmp_path, **settings)


def test_gymnasiums_own_environments_get_what_is_quickest() -> None:
    seen: list[type] = []

    class Cart(CartPoleEnv):
        def step(self, action: Any) -> Any:
            seen.append(type(action))
            return super().step(action)

    gym.register("Cart-v0", entry_point=lambda **kwargs: Cart(**kwargs), max_episode_steps=9)
    env = ppo2.make("Cart-v0", num_envs=1, workers=0)
    gym.registry.pop("Cart-v0")
    env.reset(seed=0)
    env.step(np.zeros(1, int))
    assert seen == [np.int64]  # a user's, though by the same class
    ours = ppo2.make("CartPole-v1", num_envs=1, workers=0)
    ours.reset(seed=0)
    assert ours.envs[0].unwrapped.action_space.contains(np.int64(1))
    assert not ours.envs[0].unwrapped.action_space.contains(np.int64(2))
    assert not ours.envs[0].unwrapped.action_space.contains(2)


# --- rewards


class Huge(gym.Env[Any, Any]):
    """A reward at the third step of an episode of five."""

    observation_space: Any = Box(-1, 1, (1,))
    action_space: Any = Discrete(2)

    def __init__(self, reward: Any) -> None:
        self.reward = reward

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.zeros(1, np.float32), self.reward if self.t == 3 else 0.0, self.t >= 5, False, {}


class HugeOnDevice:
    """The same on the device."""

    observation_space: Any = Box(-1, 1, (1,))
    action_space: Any = Discrete(2)

    def __init__(self, reward: float) -> None:
        self.reward = reward

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jnp.zeros(1)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        return state + 1, jnp.zeros(1), jnp.where(state == 2, self.reward, 0.0), state >= 4, False, {}


@pytest.mark.parametrize("normalize_rewards", [False, True])
@pytest.mark.parametrize(
    "make_env",
    [
        lambda: lambda: Huge(1e20),
        lambda: lambda: Huge(-1e300),
        lambda: vector(lambda: Huge(1e300), mode=AutoresetMode.SAME_STEP),
        lambda: HugeOnDevice(1e20),
    ],
    ids=["1e20", "-1e300", "vector", "device"],
)
def test_a_reward_too_large_to_learn_from_is_named(make_env: Any, normalize_rewards: bool) -> None:
    env = make_env()
    settings = {**SMALL, "normalize_rewards": normalize_rewards}
    with pytest.raises(ValueError, match=r"a reward is too large .*environment 0 gave it at step 2 .*`reward_scale`"):
        ppo2.learn(env=env, num_envs=1, total_timesteps=32, **settings)


def test_updates_with_a_reward_too_large_may_be_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    model = ppo2.learn(env=Huge(1e300), total_timesteps=32, on_nonfinite="skip", **SMALL)
    assert int(model.state.counters.skipped_updates) == 4
    told = capsys.readouterr()
    assert "update 1 skipped: a reward is too large" in told.out + told.err


def test_a_whole_number_that_no_float_holds_is_named() -> None:
    with pytest.raises(ValueError, match="whole number that no float can hold"):
        ppo2.learn(env=Huge(10**400), total_timesteps=8, **SMALL)


def test_infinite_rewards_are_infinite() -> None:
    with pytest.raises(ValueError, match="update 1: a reward is NaN or infinite; environment 0 gave it at step 2"):
        ppo2.learn(env=Huge(float("inf")), total_timesteps=8, **SMALL)


# --- batches


@pytest.mark.parametrize(
    "sizes",
    [
        {"nsteps": 4, "nminibatches": 4},
        {"nsteps": 1, "nminibatches": 1},
        {"nsteps": 2, "nminibatches": 6, "num_envs": 3},
        {"nsteps": 2, "nminibatches": 2, "num_envs": 2, "shards": 2},
    ],
)
def test_minibatches_of_one_sample_are_refused(sizes: dict[str, int]) -> None:
    size = sizes["nsteps"] * sizes.get("num_envs", 1)
    if size // sizes["nminibatches"] > 1:  # each of two blocks gives it one
        assert ppo2.learn(env=lambda: Bandit("constant"), total_timesteps=4, **{**SMALL, **sizes}) is not None
        return
    with pytest.raises(ValueError, match=r"^`nminibatches` .* minibatches of one sample, .*: raise `nsteps` or"):
        ppo2.learn(env=lambda: Bandit("constant"), total_timesteps=12, **{**SMALL, "num_envs": 1, **sizes})


def test_a_sweep_refuses_them_too() -> None:
    with pytest.raises(ValueError, match="minibatches of one sample"):
        ppo2.sweep(env=HugeOnDevice(1.0), num_envs=2, nsteps=2, nminibatches=4, total_timesteps=8, seed=[0, 1])


def test_an_untrained_model_may_have_any_batch() -> None:
    model = ppo2.learn(env=lambda: Bandit("constant"), num_envs=1, nsteps=4, nminibatches=4, total_timesteps=0)
    assert model.config.nminibatches == 4
