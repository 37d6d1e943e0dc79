"""Buffers of a rollout: what is written where."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np

from ppo2.envs.host.episode_statistics import EpisodeEnds
from ppo2.envs.host.transition import Transition
from ppo2.runners.rollout_buffers import RolloutBuffers

YES, NO = np.array([True, False]), np.array([False, True])


def buffers(nsteps: int, nenvs: int, *, recurrent: bool = False) -> RolloutBuffers:
    """Buffers for observations of one number; a recurrent policy learns from two sequences of each environment."""
    model: Any = SimpleNamespace(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (1,)),
        distribution=SimpleNamespace(action=np.zeros((), np.int32)),
        config=SimpleNamespace(num_envs=nenvs),
        is_recurrent=recurrent,
        sequences_per_env=lambda nsteps, num_envs: 2 if recurrent else 1,
        initial_state=lambda nenvs: {"h": np.zeros((nenvs, 1), np.float32)} if recurrent else None,
    )
    return RolloutBuffers(model, nsteps, nenvs, info_keys=1)


def step(rewards: Any, terminated: Any, truncated: Any, valid: Any, **more: Any) -> Transition:
    known = {"obs": None, "episode_starts": None, "final_obs": None, **more}
    return Transition(rewards=np.array(rewards), terminated=terminated, truncated=truncated, valid=valid, **known)


def test_a_step_fills_one_row() -> None:
    made = buffers(2, 2)
    made.columns(slice(0, 2)).write_step(1, step([1.0, 2.0], YES, NO, NO), 7.0, None)
    np.testing.assert_array_equal(made.experience.rewards, [[0, 0], [1, 2]])
    np.testing.assert_array_equal(made.experience.terminated, [[False, False], [True, False]])
    np.testing.assert_array_equal(made.experience.truncated, [[False, False], [False, True]])
    np.testing.assert_array_equal(made.experience.valid, [[True, True], [False, True]])
    np.testing.assert_array_equal(made.seconds, [0, 7])


def test_a_group_fills_its_rows() -> None:
    made = buffers(1, 3)
    made.columns(slice(1, 3)).write_step(0, step([5.0, 6.0], YES, NO, YES), 1.0, None)
    np.testing.assert_array_equal(made.experience.rewards, [[0, 5, 6]])
    np.testing.assert_array_equal(made.experience.terminated, [[False, True, False]])
    np.testing.assert_array_equal(made.experience.valid, [[True, True, False]])


def test_a_plain_step_is_valid_and_ends_nothing_and_what_is_not_made_is_not_valid() -> None:
    made = buffers(3, 2)
    group = made.columns(slice(0, 2))
    group.write_step(0, step([5.0, 6.0], NO, NO, YES, is_plain=True), 1.0, None)
    group.write_rest(1, np.array([[9.0], [8.0]]), None)
    np.testing.assert_array_equal(made.experience.rewards, [[5, 6], [0, 0], [0, 0]])
    np.testing.assert_array_equal(made.experience.valid, [[True, True], [False, False], [False, False]])
    assert not (made.experience.terminated | made.experience.truncated).any()


def test_episodes_of_environments_that_count_them() -> None:
    """The first environment counts one episode in two ends; the second counts none itself."""
    made = buffers(3, 2)
    yes, no = np.array([True, True]), np.array([False, False])
    for t, (length, number) in enumerate([(0.0, 0.5), (4.0, 0.25)]):
        told = EpisodeEnds(YES, np.array([70.0, 0.0]), np.array([length, np.nan]), np.array([[number], [np.nan]]))
        made.columns(slice(0, 2)).write_step(t, step([1.0, 2.0], yes, no, yes, ends=told), 0.5, None)
    returns, lengths = made.episodes(np.array([[1.0, 2.0], [1.0, 2.0]]), np.ones((2, 2), int))
    assert returns.tolist() == [[70, 2], [70, 2]]
    assert lengths.tolist() == [[0, 1], [4, 1]]
    np.testing.assert_array_equal(made.ends.infos[:, 0, 0], [0.5, 0.25, np.nan])


def test_truncated_observations_come_in_batches_of_one_size() -> None:
    """Three of the second group, with the states of their own rows; the second batch is filled up."""
    made = buffers(3, 4, recurrent=True)
    state = {"h": np.array([[3.0], [4.0]], np.float32)}
    for t, row in ((0, 1), (1, 0), (2, 1)):
        final = {row: np.array([10.0 * t])}
        made.columns(slice(2, 4)).write_step(t, step([0.0, 0.0], NO, YES, YES, final_obs=final), 0.0, state)
    first, second = made.truncated_batches(gym.spaces.Box(-np.inf, np.inf, (1,)), 2)
    assert (first[0], second[0]) == (([0, 1], [3, 2]), ([2], [3]))
    assert [obs.ravel().tolist() for _, obs, _ in (first, second)] == [[0, 10], [20, 0]]
    assert [states["h"].ravel().tolist() for *_, states in (first, second)] == [[4, 3], [4, 4]]


def test_states_before_every_sequence() -> None:
    """Four steps in sequences of two, of which only one step is made: what follows stands for the second sequence."""
    made = buffers(4, 1, recurrent=True)
    states = [{"h": np.full((1, 1), x, np.float32)} for x in (5.0, 6.0)]
    group = made.columns(slice(0, 1))
    group.write_recurrent(0, np.array([True]), states[0])
    group.write_rest(1, np.array([[9.0]]), states[1])
    assert made.experience.recurrent_state["h"].ravel().tolist() == [5, 6]
    assert made.experience.episode_starts.ravel().tolist() == [True, False, False, False]
    assert made.experience.obs.ravel().tolist() == [0, 9, 9, 9, 9]
