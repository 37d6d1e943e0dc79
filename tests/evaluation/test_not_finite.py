"""Observations and rewards that are NaN or infinite, where a model is used: the errors that training gives."""

import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2.agent.model import Model
from support.environments import PARTS, Broken, Parts, vector

BOX = gym.spaces.Box(-np.inf, np.inf, (2,))
BAD = [np.array([np.nan, 0], np.float32), np.array([0, np.inf], np.float32), np.array([-np.inf, 0], np.float32)]


def untrained(env: Any, **more: Any) -> Model:
    return ppo2.learn(env=env, total_timesteps=0, num_envs=1, nsteps=8, seed=0, num_hidden=4, **more)


@pytest.fixture(scope="module")
def model() -> Model:
    return untrained(lambda: Broken(BOX, np.zeros(2, np.float32)))


@pytest.fixture(scope="module")
def of_parts() -> Model:
    return untrained(Parts)


@pytest.mark.parametrize("bad", BAD)
def test_a_model_that_is_asked(model: Model, bad: Any) -> None:
    batch = np.stack([np.zeros(2, np.float32), bad, bad])
    for ask in (model.predict, model.step, model.value):
        with pytest.raises(ValueError, match=r"`obs` holds (nan|-?inf): an observation is NaN or infinite\. Fix"):
            ask(bad)
        with pytest.raises(ValueError, match="an observation is NaN or infinite; it is number 1 of 3"):
            ask(batch)
        ask(batch[0])


def test_a_part_is_named(of_parts: Model) -> None:
    obs = PARTS.sample()
    obs["lidar"][1, 0] = np.nan
    with pytest.raises(ValueError, match=r"`obs`\['lidar'\] holds nan"):
        of_parts.predict(obs)


def test_float64_that_is_infinite_on_the_device() -> None:
    model = untrained(lambda: Broken(gym.spaces.Box(-np.inf, np.inf, (2,), np.float64), np.zeros(2)))
    with pytest.raises(ValueError, match=r"`obs` holds 1e\+300: an observation is NaN or infinite"):
        model.predict(np.array([1e300, 0.0]))
    model.predict(np.array([1e30, 0.0]))


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
@pytest.mark.parametrize("bad", BAD)
def test_evaluation(model: Model, bad: Any, mode: AutoresetMode | None) -> None:
    def make(after: int) -> Any:
        return lambda: gym.wrappers.TimeLimit(Broken(BOX, bad, after=after), 6)

    words = r"an observation is NaN or infinite; environment 1 gave it at step {} of the evaluation: fix the env"
    made = iter([make(99), make(3), make(99), make(6)])
    for step in (3, 6):  # the last one is that of an episode that is truncated there
        env = (lambda: next(made)()) if mode is None else vector(next(made), next(made), mode=mode)
        with pytest.raises(ValueError, match=words.format(step)):
            ppo2.evaluate(model, env, episodes=4, num_envs=2 if mode is None else None)


def test_a_last_observation_of_a_true_end_may_be_anything(model: Model) -> None:
    class Falls(Broken):
        def step(self, action: Any) -> Any:
            obs, reward, _, truncated, info = super().step(action)
            return obs, reward, bool(np.isnan(obs).any()), truncated, info

    for mode in AutoresetMode:
        env = vector(*[lambda: Falls(BOX, BAD[0])] * 2, mode=mode)
        assert ppo2.evaluate(model, env, episodes=4).lengths.tolist() == [3] * 4


def test_a_first_observation_and_a_part(model: Model, of_parts: Model) -> None:
    with pytest.raises(ValueError, match="environment 0 gave it at step 0"):
        ppo2.evaluate(model, lambda: Broken(BOX, BAD[0], at_reset=True), episodes=1)
    bad = PARTS.sample()
    bad["pose"][0] = np.inf
    with pytest.raises(ValueError, match=r"NaN or infinite in its part \['pose'\]; environment 0 gave it at step 3"):
        ppo2.evaluate(of_parts, lambda: Broken(PARTS, bad), episodes=1)


def test_rewards(model: Model) -> None:
    with pytest.raises(ValueError, match="a reward is NaN or infinite; environment 0 gave it at step 3 of the eval"):
        ppo2.evaluate(model, lambda: Broken(BOX, np.zeros(2, np.float32), reward=np.nan), episodes=1)


@dataclass(frozen=True)
class Breaking:
    """A device environment whose first observation breaks, or a part or the reward at step 3, which may end it."""

    what: str
    terminates: bool = False

    observation_space = gym.spaces.Dict({"a": BOX, "b": gym.spaces.Box(-1, 1, (1,))})
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), {"a": jnp.zeros(2), "b": jnp.full(1, jnp.nan if self.what == "reset" else 0.0)}

    def step(self, t: Any, action: Any, key: Any) -> Any:
        t = t + 1
        a, b, reward = (jnp.where((t == 3) & (self.what == one), jnp.nan, 1.0) for one in ("a", "b", "reward"))
        return t, {"a": jnp.full(2, a), "b": jnp.full(1, b)}, reward, (t == 3) & self.terminates, t == 5, {}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a", r"an observation is NaN or infinite in its part \['a'\]; environment 0 gave it at step 3 of"),
        ("b", r"an observation is NaN or infinite in its part \['b'\]; environment 0 gave it at step 3 of"),
        ("reset", r"an observation is NaN or infinite in its part \['b'\]; environment 0 gave it at step 0 of"),
        ("reward", "a reward is NaN or infinite; environment 0 gave it at step 3 of"),
    ],
)
def test_device_environments(what: str, words: str) -> None:
    model = untrained(Breaking(""))
    with pytest.raises(ValueError, match=words):
        ppo2.evaluate(model, Breaking(what), episodes=2)
    if what == "a":
        assert ppo2.evaluate(model, Breaking(what, terminates=True), episodes=2).lengths.tolist() == [3, 3]


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_evaluations_while_training(on_nonfinite: Any, capsys: Any) -> None:
    def learn() -> None:
        ppo2.learn(
            env=lambda: Broken(BOX, np.zeros(2, np.float32)),
            eval_env=lambda: Broken(BOX, BAD[0]),
            eval_interval=1,
            total_timesteps=16,
            num_envs=1,
            nsteps=8,
            num_hidden=4,
            on_nonfinite=on_nonfinite,
        )

    words = "an observation is NaN or infinite; environment 0 gave it at step 3 of the evaluation"
    if on_nonfinite == "raise":
        with pytest.raises(ValueError, match=f"the evaluation at update 1: {words}"):
            learn()
        return
    learn()
    lines = [line for line in capsys.readouterr().out.splitlines() if "was broken off" in line]
    assert [line.partition(": ")[0] for line in lines] == [
        f"the evaluation at update {i} was broken off" for i in (1, 2)
    ]
    assert all(words in line for line in lines)


def test_checks_warn_of_nothing(model: Model) -> None:
    """Also where NumPy raises for what overflows or is no number."""
    with np.errstate(all="raise"), warnings.catch_warnings(action="error"):
        with pytest.raises(ValueError, match="NaN or infinite"):
            model.predict(BAD[0])
        with pytest.raises(ValueError, match="NaN or infinite"):
            model.predict(BAD[1])
