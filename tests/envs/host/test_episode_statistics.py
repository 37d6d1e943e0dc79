"""Episodes that environments count themselves: what their own RecordEpisodeStatistics says is what is known of them."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit, TransformReward
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVector
from gymnasium.wrappers.vector import TransformReward as TransformVector

from ppo2.distributions import action_distribution
from ppo2.envs.host.episode_statistics import numbers_in
from ppo2.envs.host.stepper import Stepper
from ppo2.numerics.randomness import Purpose
from support.environments import Script


class Lives(gym.Wrapper[Any, Any, Any, Any]):
    """Ends an episode at every second step, and goes on where it was, as Baselines' EpisodicLife does."""

    goes_on = False

    def reset(self, **how: Any) -> Any:
        if self.goes_on:
            return np.zeros(1, np.float32), {}
        return super().reset(**how)

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        self.goes_on = not (terminated or truncated)
        lost = self.unwrapped.t % 2 == 0  # type: ignore[attr-defined]
        return obs, reward, terminated or lost, truncated, info


class Monitor(gym.Wrapper[Any, Any, Any, Any]):
    """Statistics of another library's own, such as Stable-Baselines3's Monitor."""

    total, steps = 0.0, 0

    def reset(self, **how: Any) -> Any:
        self.total, self.steps = 0.0, 0
        return super().reset(**how)

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        self.total, self.steps = self.total + float(reward), self.steps + 1
        if terminated or truncated:
            info = {**info, "episode": {"r": round(self.total, 6), "l": self.steps, "t": 0.0}}
        return obs, reward, terminated, truncated, info


class Nested(gym.Wrapper[Any, Any, Any, Any]):
    """An episode of two inner ones."""

    inner = 0

    def reset(self, **how: Any) -> Any:
        self.inner = 0
        return super().reset(**how)

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        if terminated and self.inner == 0:
            self.inner, terminated = 1, False
            obs, _ = self.env.reset()
        return obs, reward, terminated, truncated, info


def scaled(env: Any) -> Any:
    return TransformReward(env, functools.partial(np.multiply, 0.01))


def counted(env: Any, steps: int) -> list[list[tuple[float, float]]]:
    """(return, length) of the episodes that each environment counted in so many steps."""
    stepper = Stepper(env, action_distribution(env.single_action_space))
    stepper.reset(0, Purpose.ENV)
    found: list[list[tuple[float, float]]] = [[] for _ in range(env.num_envs)]
    for _ in range(steps):
        ends = stepper.step(np.zeros(env.num_envs, np.int32)).ends
        for i in range(env.num_envs) if ends is not None else ():
            assert ends is not None
            assert ends.counts[i]
            if ends.lengths[i] > 0:
                found[i].append((float(ends.returns[i]), float(ends.lengths[i])))
    return found


CASES: dict[str, tuple[Callable[[], Any], list[tuple[float, float]]]] = {
    # rewards are 1, 2, 3, ...: an episode of 4 steps has the return 10
    "scaled": (lambda: scaled(RecordEpisodeStatistics(Script(4))), [(10, 4)] * 3),
    "scaled within": (lambda: RecordEpisodeStatistics(scaled(Script(4))), [(0.1, 4)] * 3),
    "another key": (lambda: scaled(RecordEpisodeStatistics(Script(4), stats_key="stats")), [(10, 4)] * 3),
    "truncated": (lambda: scaled(RecordEpisodeStatistics(Script(4, "truncated"))), [(10, 4)] * 3),
    "time limit around": (lambda: scaled(TimeLimit(RecordEpisodeStatistics(Script(9)), 3)), [(6, 3)] * 4),
    "lives": (lambda: scaled(Lives(RecordEpisodeStatistics(Script(6)))), [(21, 6)] * 2),
    "another library's": (lambda: scaled(Monitor(Script(4))), [(10, 4)] * 3),
    "nested": (lambda: scaled(Nested(RecordEpisodeStatistics(Script(3)))), [(6, 3)] * 4),
}


@pytest.mark.parametrize("case", CASES)
def test_episodes_as_the_environment_counts_them(case: str, made: Any) -> None:
    factory, expected = CASES[case]
    found = counted(made([factory, factory]), 12)
    for episodes in found:
        np.testing.assert_allclose(episodes, expected)


def test_workers_and_groups_say_the_same(made: Any) -> None:
    factory = CASES["time limit around"][0]
    assert counted(made([factory] * 4, workers=2, groups=2), 7) == [[(6, 3)] * 2] * 4


def test_no_statistics_no_word(made: Any) -> None:
    """Something else under the same key is none."""

    class Odd(Script):
        def step(self, action: Any) -> Any:
            *outcome, _ = super().step(action)
            return *outcome, {"episode": 3}

    for env in (made([Script, Odd]), SyncVectorEnv([Script, Odd])):
        stepper = Stepper(env, action_distribution(env.single_action_space))
        stepper.reset(0, Purpose.ENV)
        for _ in range(4):
            ends = stepper.step(np.zeros(2, np.int32)).ends
            assert ends is None or not ends.counts.any()


def test_an_end_that_a_counting_environment_does_not_know_is_told_once(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first end, before the environment told of any, counts as everywhere; the second is the environment's."""

    class Second(Script):
        ends = 0

        def step(self, action: Any) -> Any:
            *outcome, info = super().step(action)
            self.ends += outcome[2]
            return *outcome, {"episode": {"r": 7.0, "l": 3}} if outcome[2] and self.ends == 2 else info

    env = made([Second])
    stepper = Stepper(env, action_distribution(env.single_action_space))
    stepper.reset(0, Purpose.ENV)
    steps = [stepper.step(np.zeros(1, np.int32)).ends for _ in range(12)]
    assert steps[2] is None
    assert [(float(ends.returns[0]), float(ends.lengths[0])) for ends in steps[5:6] if ends is not None] == [(7, 3)]
    assert all(ends is not None and ends.counts[0] and ends.lengths[0] <= 0 for ends in (steps[8], steps[11]))
    assert capsys.readouterr().err.count("one ended without it") == 1


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        *itertools.product([AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ["around", "inside"]),
        (AutoresetMode.SAME_STEP, "processes"),
    ],
)
def test_vectors_of_users(mode: AutoresetMode, how: str) -> None:
    inside = lambda: RecordEpisodeStatistics(Script(4))  # noqa: E731
    match how:
        case "around":
            env: Any = RecordVector(SyncVectorEnv([Script, lambda: Script(4)], autoreset_mode=mode))
            env, first = TransformVector(env, lambda rewards: rewards * 0.01), [(6.0, 3.0)]
        case "processes":
            env, first = AsyncVectorEnv([lambda: Lives(inside()), inside], autoreset_mode=mode, context="spawn"), []
        case _:
            env, first = SyncVectorEnv([lambda: Lives(inside()), inside], autoreset_mode=mode), []
    found = counted(env, 4)
    assert found[1] == [(10, 4)]
    assert found[0][:1] == first or mode is AutoresetMode.SAME_STEP
    env.close()


def test_numbers_in_infos_of_every_form() -> None:
    mask = np.array([True, False])
    arrays = {"a": np.array([1, 2]), "_a": mask, "nested": {"b": np.array([3.0, 4.0])}, "_nested": ~mask}
    np.testing.assert_array_equal(numbers_in(arrays, ["a"], 2), [1, np.nan])
    np.testing.assert_array_equal(numbers_in(arrays, ["nested", "b"], 2), [np.nan, 4])
    np.testing.assert_array_equal(numbers_in(arrays, ["nowhere"], 2), [np.nan] * 2)
    np.testing.assert_array_equal(numbers_in({"a": np.array([True, None])}, ["a"], 2), [1, np.nan])
    np.testing.assert_array_equal(numbers_in({"a": np.array(["x", "y"])}, ["a"], 2), [np.nan] * 2)
    objects = np.array([{"a": {"b": np.float32(5)}}, None])
    np.testing.assert_array_equal(numbers_in({"final_info": objects}, ["final_info", "a", "b"], 2), [5, np.nan])
    np.testing.assert_array_equal(numbers_in([{"a": 1}, {}], ["a"], 2), [1, np.nan])
