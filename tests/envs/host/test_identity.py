"""Environments that are one and the same object, in whatever disguise."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import SyncVectorEnv

import ppo2
from ppo2.envs.host.identity import check_distinct, check_not_in_training, innermost, training_on
from ppo2.envs.host.vector import HostVectorEnv
from support.environments import Script


class Shim(gym.Env[Any, Any]):
    """An environment of its own class that passes everything on, without being Gymnasium's wrapper."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self._env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        return self._env.step(action)


class Holder(Shim):
    """The same, with the other environment under a name of its own."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.game = self.__dict__.pop("_env")

    def __getattr__(self, name: str) -> Any:
        return self.game if name == "_env" else super().__getattribute__(name)


def limited(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    return gym.wrappers.TimeLimit(env, 50)


DISGUISES: dict[str, Callable[[Script], Any]] = {
    "itself": lambda env: env,
    "wrapper": limited,
    "two wrappers": lambda env: gym.wrappers.RecordEpisodeStatistics(limited(env)),
    "shim": Shim,
    "holder": Holder,
    "function": lambda env: lambda: env,
    "wrapping function": lambda env: lambda: limited(env),
    "vector": lambda env: SyncVectorEnv([lambda: env]),
    "our vector": lambda env: HostVectorEnv([lambda: env], owned=False),
    "wrapped vector": lambda env: gym.vector.VectorWrapper(SyncVectorEnv([lambda: limited(env)])),
}


def test_innermost_looks_through_wrappers_and_attributes() -> None:
    env = Script()
    assert innermost(Shim(limited(Shim(env)))) is env
    assert innermost(limited(Shim(Script()))) is not env
    env._env = env  # an environment that holds itself ends the search
    assert innermost(env) is env


@pytest.mark.parametrize("wrap", [lambda env: env, limited, Shim, Holder])
def test_a_factory_that_gives_the_same_object_is_refused(
    wrap: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppo2.envs.first.SLOW_RESET_SECONDS", math.inf)  # no trial of how fast it is
    one = Script()
    with pytest.raises(ValueError, match=r"`env`: environments 0 and 1 are one and the same object, a Script"):
        ppo2.learn(env=lambda: wrap(one), num_envs=4, nsteps=8, total_timesteps=32, num_hidden=4)
    assert one.t == 0  # nobody stepped it


def test_so_is_a_users_vector_and_any_of_ours() -> None:
    one = Script()
    with pytest.raises(ValueError, match="environments 0 and 1 are one and the same"):
        ppo2.learn(env=SyncVectorEnv([lambda: one] * 2), nsteps=8, total_timesteps=16, num_hidden=4)
    with pytest.raises(ValueError, match="environments 1 and 3 are one and the same"):
        HostVectorEnv([Script, lambda: one, Script, lambda: limited(one)], groups=2)


@pytest.mark.parametrize(("count", "workers"), [(2, 1), (4, 1)])
def test_so_it_is_where_workers_have_copies(count: int, workers: int) -> None:
    from ppo2.envs.host.parallelism import vectorize

    one = Script()
    with pytest.raises(ValueError, match="are one and the same object"):
        vectorize(one, lambda: one, count, may_try=False, workers=workers)


def test_objects_that_only_share_what_they_were_made_of_are_several() -> None:
    space = gym.spaces.Discrete(3)
    kept: list[Script] = []

    def make() -> Script:
        kept.append(Script())
        kept[-1].action_space = space
        return kept[-1]

    check_distinct([make() for _ in range(3)])


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_the_environment_in_training_is_not_evaluated_on(disguise: Callable[[Script], Any]) -> None:
    env, words = Script(), []

    def evaluate(update: int, model: ppo2.Model) -> None:
        before = env.t
        with pytest.raises(ValueError, match=r"`env` is the environment that is being trained on \(a") as error:
            ppo2.evaluate(model, disguise(env), episodes=1)
        assert env.t == before
        words.append(str(error.value))

    model = ppo2.learn(env=env, nsteps=8, total_timesteps=16, num_hidden=4, seed=0, update_fn=evaluate)
    assert len(words) == 2
    assert len(ppo2.evaluate(model, disguise(env), episodes=1).returns) == 1  # nobody trains on it any more


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_nor_is_it_an_eval_env(disguise: Callable[[Script], Any]) -> None:
    env = Script()
    with pytest.raises(ValueError, match=r"`eval_env` is `env` itself \(a .*, or a wrapper around it"):
        ppo2.learn(env=env, eval_env=disguise(env), nsteps=8, total_timesteps=16, num_hidden=4)
    check_not_in_training(env)  # after an error too


def test_vectors_are_compared_as_wholes_and_by_what_is_in_them() -> None:
    vector = SyncVectorEnv([Script, Script])
    ours = ppo2.make("CartPole-v1", num_envs=2, workers=1)  # one of them is in another process
    with training_on(vector), training_on(ours):
        for taken in (vector, gym.vector.VectorWrapper(vector), vector.envs[1], lambda: vector.envs[0], ours):
            with pytest.raises(ValueError, match="is being trained on"):
                ppo2.envs.resolve(taken)
        ppo2.envs.resolve(Script())
    ours.close()
