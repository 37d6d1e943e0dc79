"""The contract of Gymnasium's vector environments, whichever processes step: against its own in SAME_STEP mode."""

import os
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as vector_wrappers

import ppo2
from ppo2.envs.host.vector import HostVectorEnv
from support.host_envs import Counting, once

ENGINES: dict[str, dict[str, Any]] = {
    "here": {},
    "two groups": {"groups": 2},
    "workers": {"workers": 2},
    "workers, two groups": {"workers": 2, "groups": 2},
}
COUNT = 4
engines = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


class Talker(gym.Env[Any, Any]):
    """Number `i` of several: its infos differ by number and step; episodes of i + 2 steps, whatever the seed."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gym.spaces.Discrete(50)
    action_space = gym.spaces.Discrete(3)
    level = 0

    def __init__(self, i: int = 0, render_mode: str | None = None) -> None:
        self.i, self.t, self.render_mode = i, 0, render_mode

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t, self.options = 0, options
        return self.i, {"began": self.i, "origin": np.full(2, self.i)}

    def step(self, action: Any) -> Any:
        self.t += 1
        info: dict[str, Any] = {"t": self.t, "half": self.t / 2, "name": f"{self.i}", "nothing": None}
        info |= {"array": np.array([self.t, self.i], np.float32), "nested": {"deep": {"x": self.i}, "ok": self.t > 1}}
        if self.i % 2:
            info["odd"] = True
        if self.t == 2:
            info = {"is_success": float(self.i > 1), **info}
        return self.i + self.t, float(self.level), self.t == self.i + 2, False, info

    def set_level(self, level: int, *, more: int = 0) -> int:
        self.level = level + more
        return self.i

    def render(self) -> Any:
        return np.full((2, 2, 3), self.i, np.uint8)

    def complain(self) -> None:
        if self.i >= 1:
            raise KeyError(f"number {self.i} has no such thing")


def talkers(count: int = COUNT, **how: Any) -> list[Any]:
    return [lambda i=i: Talker(i, **how) for i in range(count)]


def equal(one: Any, other: Any) -> bool:
    """True if infos are the same in keys, dtypes and values."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray) and one.dtype != object:
        return bool(one.dtype == other.dtype and np.array_equal(one, other))
    return type(one) is type(other) and [repr(x) for x in one] == [repr(x) for x in other]


@engines
def test_steps_resets_and_infos_are_gymnasiums(engine: dict[str, Any], made: Any) -> None:
    ours, theirs = made(talkers(), **engine), SyncVectorEnv(talkers(), autoreset_mode=AutoresetMode.SAME_STEP)
    for name in ("observation_space", "action_space", "single_observation_space", "single_action_space", "num_envs"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.metadata == theirs.metadata
    (obs, infos), (expected, expected_infos) = ours.reset(seed=1), theirs.reset(seed=1)
    assert np.array_equal(obs, expected)
    assert equal(infos, expected_infos)
    ends = 0
    for _ in range(9):
        actions = theirs.action_space.sample()
        *outcome, infos = ours.step(actions)
        *expected_outcome, expected_infos = theirs.step(actions)
        assert all(map(np.array_equal, outcome, expected_outcome))
        assert [x.dtype for x in outcome] == [x.dtype for x in expected_outcome]
        assert equal(infos, expected_infos), (infos, expected_infos)
        ends += "final_info" in infos
    assert ends >= 4


@engines
def test_methods_and_attributes_are_reached_everywhere(engine: dict[str, Any], made: Any) -> None:
    env = made(talkers(), **engine)
    assert env.get_attr("level") == (0, 0, 0, 0)  # before the first reset
    env.reset(seed=5)
    assert env.call("set_level", 2, more=1) == (0, 1, 2, 3)
    assert env.get_attr("level") == env.call("level") == (3, 3, 3, 3)
    assert env.step([0] * COUNT)[1].tolist() == [3.0] * COUNT
    env.set_attr("level", [4, 5, 6, 7])
    assert env.step([0] * COUNT)[1].tolist() == [4.0, 5.0, 6.0, 7.0]
    env.set_attr("level", 1)
    assert env.step([0] * COUNT)[1].tolist() == [1.0] * COUNT
    assert env.np_random_seed[2:] == (7, 8)  # the others are in their second episodes, with seeds of their own
    assert len(env.np_random) == COUNT
    with pytest.raises(ValueError, match=r"`values` has 3 for 4 environments; give one for each"):
        env.set_attr("level", [1, 2, 3])


@engines
def test_errors_of_calls_are_the_callers_and_no_failures(engine: dict[str, Any], made: Any) -> None:
    env = made(talkers(), **engine)
    env.reset(seed=0)
    with pytest.raises(KeyError, match=r"number [12] has no such thing"):
        env.call("complain")
    with pytest.raises(AttributeError, match="melody"):
        env.get_attr("melody")
    for name in ("reset", "step", "close"):
        with pytest.raises(ValueError, match=rf"call\('{name}'\) .*use its own {name}\("):
            env.call(name)
    obs, *_ = env.step([0] * COUNT)
    assert obs.tolist() == [1, 2, 3, 4]
    assert not env.failures.total


def test_an_attribute_that_nobody_has_is_set_where_the_environment_sees_it(made: Any) -> None:
    env = made([lambda: gym.wrappers.TimeLimit(Talker(), 10)])
    env.set_attr("wish", 3)
    assert env.get_attr("wish") == (3,)
    assert env.envs[0].unwrapped.wish == 3


@pytest.mark.parametrize("how", [{}, {"workers": 1}])
def test_nothing_is_called_while_a_step_is_under_way(how: dict[str, Any], made: Any) -> None:
    env = made(talkers(2), **how)
    env.reset(seed=0)
    env.start(np.zeros(2, int))
    with pytest.raises(gym.error.AlreadyPendingCallError, match=r"call finish\(\) first"):
        env.get_attr("level")
    env.finish()
    assert env.get_attr("t") == (1, 1)


@engines
def test_frames_of_all_environments(engine: dict[str, Any], made: Any) -> None:
    env = made(talkers(render_mode="rgb_array"), **engine)
    assert env.render_mode == "rgb_array"
    env.reset()
    frames = env.render()
    assert isinstance(frames, tuple)
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 1, 2, 3]


class Fussy(Talker):
    """Asserts what it is given, as many environments do; a Box's bounds too."""

    action_space: Any = gym.spaces.Box(-1, 1, (2,))

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), "not mine"
        return super().step(action)


BOTH = gym.spaces.Dict({"a": gym.spaces.Discrete(3, start=1), "b": gym.spaces.Box(-1, 1, (2,))})
WRONG: list[tuple[Any, Any, type[Exception], str]] = [
    (gym.spaces.Discrete(3), 0, TypeError, r"`actions` \(=0\) must be one action for each of 4 environments"),
    (gym.spaces.Discrete(3), None, TypeError, r"one action for each of 4"),
    (gym.spaces.Discrete(3), [0.0, 1.0, 0.0, 1.0], TypeError, r"dtype float64; actions of Discrete\(3\) are integers"),
    (gym.spaces.Discrete(3), ["up"] * 4, TypeError, r"are integers"),
    (gym.spaces.Discrete(3), [0, 1, 2], ValueError, r"shape \(3,\).*must be \(4,\)"),
    (gym.spaces.Discrete(3), [], ValueError, r"shape \(0,\)"),
    (gym.spaces.Discrete(3), [[0]] * 4, ValueError, r"shape \(4, 1\)"),
    (gym.spaces.Discrete(3), [0, 1, 3, 0], ValueError, r"have 3 for environment 2, which is no action of Disc"),
    (gym.spaces.Discrete(3), [0, -1, 2, 0], ValueError, r"have -1 for environment 1"),
    (gym.spaces.Discrete(3, start=5), [5, 6, 0, 5], ValueError, r"have 0 for environment 2"),
    (gym.spaces.MultiDiscrete([2, 5]), [[0, 0], [1, 4], [2, 0], [0, 0]], ValueError, r"\[2 0\] for environment 2"),
    (gym.spaces.MultiBinary(2), [[0, 1], [0, 7], [0, 0], [1, 1]], ValueError, r"\[0 7\] for environment 1"),
    (gym.spaces.Box(-1, 1, (2,)), np.zeros((4, 3)), ValueError, r"shape \(4, 3\).*must be \(4, 2\)"),
    (gym.spaces.Box(-1, 1, (2,)), [[0, 0], [0, np.nan], [0, 0], [0, 0]], ValueError, r"nan.*for environment 1"),
    (gym.spaces.Box(-1, 1, (2,)), np.zeros((4, 2), complex), TypeError, r"complex128.*are real numbers"),
    (gym.spaces.Box(-1, 1, (2,)), [[0], [0, 0], [0], [0]], ValueError, r"are not one action of Box.* each"),
    (gym.spaces.Box(0, 9, (2,), np.uint8), np.full((4, 2), 256), ValueError, r"\[256 256\] for environment 0"),
    (BOTH, {"a": np.ones(4, int)}, ValueError, r"KeyError.*'b'"),
    (BOTH, {"a": np.zeros(4, int), "b": np.zeros((4, 2))}, ValueError, r"have 0 for environment 0.*start=1"),
    (BOTH, [{"a": 1, "b": [0, 0]}] * 3, ValueError, r"there are 3"),
    (BOTH, 3, ValueError, r"must be a batch of Dict"),
]  # fmt: skip


@engines
def test_wrong_actions_are_the_same_error_everywhere_and_no_failures(engine: dict[str, Any], made: Any) -> None:
    for space in [*dict.fromkeys(map(repr, (case[0] for case in WRONG)))]:
        cases = [case for case in WRONG if repr(case[0]) == space]

        class Wants(Talker):
            action_space: Any = cases[0][0]

        if engine and not isinstance(Wants.action_space, gym.spaces.Discrete | gym.spaces.Dict):
            continue  # starting workers for every kind would take long: all are checked in this process
        env = made([Wants] * COUNT, **engine)
        env.reset(seed=0)
        for _, actions, kind, words in cases:
            with pytest.raises(kind, match=words):
                env.step(actions)
        env.step(env.action_space.sample())  # as if nothing had been
        env.step([env.single_action_space.sample() for _ in range(COUNT)])
        assert not env.failures.total


@engines
def test_an_action_that_an_environment_refuses_is_no_failure_of_it(
    engine: dict[str, Any], made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    env = made([Fussy] * COUNT, **engine)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"for environment 2, which is no action of Box.*AssertionError: not mine"):
        env.step(np.array([[0, 0], [1, 1], [0, 3], [0, 0]], np.float32))
    assert not env.failures.total
    assert "failed" not in capsys.readouterr().err
    env.reset(seed=0)
    env.step(np.zeros((COUNT, 2), np.float32))


def test_numbers_beyond_a_boxs_bounds_are_the_environments_affair(made: Any) -> None:
    env = made([lambda: gym.make("Pendulum-v1")] * 2)
    env.reset(seed=0)
    env.step([[9.0], [-9.0]])  # it clips them
    assert not env.failures.total


@engines
def test_a_closed_one_says_so(engine: dict[str, Any], made: Any) -> None:
    env = made(talkers(), **engine)
    env.reset()
    env.close()
    env.close()
    for use in (env.reset, env.render, lambda: env.step([0] * COUNT), lambda: env.call("level"),
                lambda: env.get_attr("level"), lambda: env.set_attr("level", 1)):  # fmt: skip
        with pytest.raises(gym.error.ClosedEnvironmentError, match="were closed"):
            use()


@engines
def test_some_are_reset_and_the_others_go_on(engine: dict[str, Any], made: Any) -> None:
    env = made([lambda i=i: Counting(i) for i in range(COUNT)], **engine)
    mask = np.array([True, False, False, True])
    with pytest.raises(gym.error.ResetNeeded, match="reset all environments first"):
        env.reset(options={"reset_mask": mask})
    env.reset(seed=0, options={"reset_mask": np.ones(COUNT, bool)})
    for _ in range(3):
        env.step([0] * COUNT)
    options = {"reset_mask": mask, "hint": 1}
    obs, _ = env.reset(seed=[7, None, None, None], options=options)
    assert options.keys() == {"reset_mask", "hint"}
    assert obs[:, 2].tolist() == [0, 3, 3, 0]
    assert env.position.seeds.tolist() == [7, 1, 2, 3]
    assert env.position.episodes.tolist() == [0, 0, 0, 1]
    assert env.step([0] * COUNT)[0][:, 2].tolist() == [1, 4, 4, 1]


@pytest.mark.parametrize(
    ("mask", "kind", "words"),
    [
        ([True, False], TypeError, "must be a numpy array"),
        (np.array([True]), ValueError, r"must have shape `\(2,\)`, got \(1,\)"),
        (np.array([1, 0]), TypeError, r"must have `dtype=np.bool_`, got int"),
        (np.array([False, False]), ValueError, "at least one True value"),
    ],
)
def test_masks_of_resets_that_are_none(mask: Any, kind: type[Exception], words: str, made: Any) -> None:
    env = made(talkers(2))
    env.reset()
    with pytest.raises(kind, match=words):
        env.reset(options={"reset_mask": mask})


def test_info_keys_are_numbers_with_masks_of_the_step_itself(made: Any) -> None:
    env = made(talkers(), info_keys=("is_success", "t"), workers=1)
    env.reset(seed=0)
    first, second = env.step([0] * COUNT)[-1], env.step([0] * COUNT)[-1]
    assert not first["_is_success"].any()
    assert second["_is_success"].all()
    assert second["is_success"].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert second["t"].tolist() == [2.0] * COUNT  # of the step that ended number 0's episode, not of its reset
    assert second["final_info"]["is_success"].tolist() == [0.0] * COUNT
    for name in ("final_obs", "final_info", "episode", "_final_obs", "_t"):
        with pytest.raises(ValueError, match=rf"`info_keys` names '{name}'"):
            HostVectorEnv(talkers(1), info_keys=("t", name))


def test_episodes_that_environments_count_stand_beside_the_infos(made: Any) -> None:
    env = made([lambda i=i: gym.wrappers.RecordEpisodeStatistics(Talker(i)) for i in range(2)], workers=1)
    env.set_attr("level", 2)
    env.reset(seed=0)
    assert "episode" not in env.step([0, 0])[-1]
    infos = env.step([0, 0])[-1]
    assert infos["_episode"].tolist() == [True, False]
    assert infos["episode"]["r"].tolist() == [4.0, 0.0]
    assert infos["episode"]["l"].tolist() == [2, 0]
    assert infos["final_info"]["episode"]["r"].tolist() == [4.0, 0.0]


def test_an_info_that_cannot_travel_is_left_out_with_a_word(made: Any, capfd: pytest.CaptureFixture[str]) -> None:
    class Locked(Talker):
        def step(self, action: Any) -> Any:
            *outcome, info = super().step(action)
            return *outcome, info | {"lock": threading.Lock()}

    env = made([Locked, Locked], workers=1)
    env.reset()
    for _ in range(2):
        *_, infos = env.step([0, 0])
    assert infos["final_info"]["_lock"].tolist() == [True, False]
    assert infos["final_info"]["_t"].all()
    assert capfd.readouterr().err.count("info['lock'] is left out: it can't travel from a worker") == 1


def test_a_process_that_a_call_kills_is_replaced_and_told(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Deadly(Talker):
        def die(self) -> int:
            if self.i:
                once(tmp_path / "died", lambda: os._exit(3))()
            return self.i

    env = made([lambda i=i: Deadly(i) for i in range(2)], workers=1)
    env.reset(seed=0)
    env.step([0, 0])
    assert env.call("die") == (0, 1)
    obs, _, _, truncated, infos = env.step([0, 0])
    assert truncated.tolist() == infos["failed"].tolist() == [False, True]
    assert infos["began"].tolist()[1] == 1
    assert obs[1] == 1
    assert env.failures.total == 1
    assert "begins anew (without what call() or set_attr() changed in it)" in capsys.readouterr().err


def test_the_environment_is_named_and_known() -> None:
    env = ppo2.make("CartPole-v1", num_envs=3, workers=0, max_episode_steps=77)
    assert repr(env) == "HostVectorEnv(CartPole-v1, num_envs=3)"
    assert env.spec.id == "CartPole-v1"
    assert env.spec.max_episode_steps == 77
    assert repr(HostVectorEnv(talkers(2))) == "HostVectorEnv(num_envs=2)"


def test_vector_wrappers_work_or_say_what_to_do() -> None:
    env = ppo2.make("CartPole-v1", num_envs=2, seed=0, workers=0)
    for wrap in (vector_wrappers.FlattenObservation, vector_wrappers.NormalizeObservation):
        with pytest.raises(ValueError, match=rf"{wrap.__name__} needs .*ppo2.make\(lambda: .*{wrap.__name__}"):
            wrap(env)
    with pytest.raises(ValueError, match=r"learn\(normalize_obs=True\)"):
        vector_wrappers.NormalizeObservation(vector_wrappers.ClipReward(env, 0, 1))
    counted = vector_wrappers.RecordEpisodeStatistics(vector_wrappers.ClipReward(env, 0.0, 0.5))
    counted.reset(seed=0)
    ends = [counted.step([1, 1])[-1] for _ in range(12)]
    episodes = [infos["episode"]["r"][infos["_episode"]] for infos in ends if "episode" in infos]
    assert 4.0 <= float(np.concatenate(episodes)[0]) <= 6.0
    listed = vector_wrappers.DictInfoToList(ppo2.make(Talker, num_envs=2, workers=0))
    assert [info["began"] for info in listed.reset()[1]] == [0, 0]
