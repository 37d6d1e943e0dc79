"""Episodes of an evaluation that don't end: cut, counted as asked for, and told of."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import ppo2
from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.envs.device.env import TimeLimit
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.envs.time_limit import time_limit
from ppo2.evaluation.device_episodes import _steps_program
from ppo2.evaluation.evaluate import Evaluation
from support.device_envs import Count
from support.environments import Script, vector

NEVER = 10**9
"""Length of a Script that doesn't end."""


@pytest.fixture(scope="module")
def model() -> Model:
    return ppo2.learn(env=Script, total_timesteps=0, num_envs=1, nsteps=8, seed=0, num_hidden=4)


@pytest.fixture(scope="module")
def device_model() -> Model:
    return ppo2.learn(env=Count(), total_timesteps=0, num_envs=1, nsteps=8, seed=0, num_hidden=4)


def of_length(length: int) -> Callable[[], Script]:
    return lambda: Script(length)


ENDLESS: dict[str, Callable[[], Any]] = {
    "factory": lambda: of_length(NEVER),
    "instance": lambda: Script(NEVER),
    "workers": lambda: HostVectorEnv([of_length(NEVER)] * 2, workers=1),
    **{mode.value: lambda mode=mode: vector(*[of_length(NEVER)] * 2, mode=mode) for mode in AutoresetMode},
}


@pytest.mark.parametrize("make", ENDLESS.values(), ids=ENDLESS)
def test_an_environment_that_never_ends(model: Model, make: Callable[[], Any], capsys: Any) -> None:
    """Episodes of 4 steps return 1 + 2 + 3 + 4, as each begins with a reset."""
    env = make()
    result = ppo2.evaluate(model, env, episodes=5, max_steps=4)
    assert result.returns.tolist() == [10.0] * 5
    assert result.lengths.tolist() == [4] * 5
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("ppo2: warning: 5 episodes were cut after `max_steps` (=4) and counted with returns so far")
    if hasattr(env, "close"):
        env.close()


def some_end(model: Model, env: Any = None, **how: Any) -> Evaluation:
    env = SyncVectorEnv([of_length(3), of_length(NEVER)]) if env is None else env
    return ppo2.evaluate(model, env, episodes=6, max_steps=4, **how)


def test_partial_episodes_count_as_the_caller_says(model: Model, capsys: Any) -> None:
    assert sorted(some_end(model).returns.tolist()) == [6.0] * 3 + [10.0] * 3
    assert some_end(model, partial_episodes="drop").returns.tolist() == [6.0] * 3
    with pytest.raises(ValueError, match=r"an episode of environment 1 did not end within `max_steps` \(=4\)"):
        some_end(model, partial_episodes="raise")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "3 episodes were cut after `max_steps` (=4) and counted not at all" in said[1]
    none = ppo2.evaluate(model, of_length(9), episodes=2, max_steps=4, partial_episodes="drop")
    assert (len(none.returns), np.isnan(none.mean), np.isnan(none.std)) == (0, True, True)


def test_an_episode_that_ends_at_the_limit_is_whole(model: Model, capsys: Any) -> None:
    for end in ("terminated", "truncated"):
        result = ppo2.evaluate(model, lambda end=end: Script(4, end), episodes=3, max_steps=4, partial_episodes="raise")
        assert result.lengths.tolist() == [4] * 3
    assert capsys.readouterr().err == ""


class Stubborn(gym.vector.VectorEnv[Any, Any, Any]):
    """A vector environment that knows no `reset_mask`."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(self, *lengths: int) -> None:
        self.inner = SyncVectorEnv([of_length(length) for length in lengths])
        self.num_envs = len(lengths)
        self.single_observation_space, self.observation_space = Script.observation_space, self.inner.observation_space
        self.single_action_space, self.action_space = Script.action_space, self.inner.action_space

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        assert not options
        return self.inner.reset(seed=seed)

    def step(self, actions: Any) -> Any:
        return self.inner.step(actions)


def test_environments_that_can_only_be_reset_together(model: Model, capsys: Any) -> None:
    assert ppo2.evaluate(model, Stubborn(NEVER, NEVER), episodes=4, max_steps=4).returns.tolist() == [10.0] * 4
    assert "cut" in capsys.readouterr().err
    assert sorted(some_end(model, Stubborn(3, NEVER)).returns.tolist()) == [6.0, 6.0, 6.0, 10.0]
    assert "2 episodes are left out: this vector environment can't reset one" in capsys.readouterr().err


def test_device_environments(device_model: Model, capsys: Any) -> None:
    """Rewards are 1, 2, 3 and so on: 4 steps return 10."""
    result = ppo2.evaluate(device_model, Count(NEVER), episodes=5, num_envs=2, max_steps=4)
    assert (result.returns.tolist(), result.lengths.tolist()) == ([10.0] * 5, [4] * 5)
    assert "5 episodes were cut after `max_steps` (=4)" in capsys.readouterr().err
    whole = ppo2.evaluate(device_model, Count(4), episodes=3, max_steps=4, partial_episodes="raise")
    assert whole.lengths.tolist() == [4] * 3
    with pytest.raises(ValueError, match="did not end within"):
        ppo2.evaluate(device_model, Count(4), episodes=3, max_steps=3, partial_episodes="raise")


def test_another_limit_compiles_nothing(device_model: Model) -> None:
    env = Count(7)
    ppo2.evaluate(device_model, env, episodes=3, max_steps=4)
    steps = program(device_model, _steps_program, env, True, ())
    before = steps._cache_size()
    ppo2.evaluate(device_model, env, episodes=3, max_steps=5)
    assert steps is program(device_model, _steps_program, env, True, ())
    assert steps._cache_size() == before


def test_the_default_ends_and_says_so_in_time(model: Model, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("ppo2.evaluation.limits.MAX_STEPS", 64)
    assert ppo2.evaluate(model, of_length(NEVER), episodes=1).lengths.tolist() == [64]
    near, cut = capsys.readouterr().err.splitlines()
    assert near == "ppo2: warning: an episode goes on after 32 steps; it is cut after `max_steps` (=64)"
    assert "an episode was cut after `max_steps` (=64)" in cut
    assert ppo2.evaluate(model, gym.wrappers.TimeLimit(Script(NEVER), 70), episodes=1).lengths.tolist() == [70]


def test_a_slow_environment_is_told_of(model: Model, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("ppo2.evaluation.limits.PATIENCE_SECONDS", -1.0)
    ppo2.evaluate(model, of_length(40), episodes=1, max_steps=50)
    assert capsys.readouterr().err == (
        "ppo2: warning: an episode goes on after 0 steps; it is cut after `max_steps` (=50)\n"
    )


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_memory_begins_anew_after_a_cut(mode: AutoresetMode, monkeypatch: pytest.MonkeyPatch) -> None:
    recurrent = {"network": "lstm", "nlstm": 2, "nminibatches": 1}
    model = ppo2.learn(env=Script, total_timesteps=0, num_envs=1, nsteps=8, seed=0, **recurrent)
    starts, act_on = [], model.act_on

    def spy(obs: Any, key: Any, count: int, state: Any, episode_starts: Any) -> Any:
        starts.append(episode_starts.tolist())
        return act_on(obs, key, count, state, episode_starts)

    monkeypatch.setattr(model, "act_on", spy)
    ppo2.evaluate(model, vector(of_length(NEVER), of_length(NEVER), mode=mode), episodes=4, max_steps=3)
    assert starts == [[True] * 2, [False] * 2, [False] * 2] * 2


@pytest.mark.parametrize("max_steps", [0, -1, 2.5, True, "3"])
def test_refusals(model: Model, max_steps: Any) -> None:
    with pytest.raises(ValueError, match=r"`max_steps` \(=.*\) must be a whole number of at least 1, or None"):
        ppo2.evaluate(model, Script, max_steps=max_steps)
    with pytest.raises(ValueError, match=r"`partial_episodes` \(='keep'\) must be one of 'count', 'drop', 'raise'"):
        ppo2.evaluate(model, Script, partial_episodes="keep")  # type: ignore[arg-type]


def test_time_limits_that_are_known() -> None:
    limited = gym.wrappers.TimeLimit(Script(), 50)
    assert time_limit(Script()) is None
    assert time_limit(gym.wrappers.RecordEpisodeStatistics(limited)) == 50
    assert time_limit(SyncVectorEnv([lambda: limited])) == 50
    assert time_limit(gym.make_vec("CartPole-v1", 2)) == 500
    assert time_limit(TimeLimit(Count(), 7)) == 7
    for env, steps in (("CartPole-v1", 500), (TimeLimit(Count(), 7), 7), (lambda: limited, 50)):
        made = ppo2.envs.resolve(env, 1).env
        assert time_limit(made) == steps
