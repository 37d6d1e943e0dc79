import numpy as np
import pytest

from ppo2.envs.host.stepper import Transition
from ppo2.runners.episodes import Ended, Episode, Record, Tally, in_order


def record(rewards, ended=(), invalid=(), start=0.0):
    """A rollout of which the steps listed as (t, n) ended an episode or were no experience; a step takes 0.5 s.

    Ends are of both kinds in turn.
    """
    rewards = np.array(rewards, float)
    made = Record.empty(*rewards.shape)
    for t, row in enumerate(rewards):
        columns = np.arange(rewards.shape[1])
        end = np.array([(t, n) in ended for n in columns])
        by_time_limit = (columns + t) % 2 == 0
        valid = np.array([(t, n) not in invalid for n in columns])
        write(made, t, row, end & ~by_time_limit, end & by_time_limit, valid, start + 0.5 * t)
    return made


def write(made, t, rewards, terminated, truncated, valid, seconds, rows=slice(None), episodes=None):
    step = Transition(None, rewards, terminated, truncated, valid, terminated | truncated, None, episodes)
    made.write(t, rows, step, seconds)


def taken(*records, nenvs=1):
    tally = Tally(nenvs)
    for rollout in records:
        tally.add(rollout)
    return in_order(tally.take())


def test_write_fills_one_row():
    made = Record.empty(2, 2)
    assert not made.valid.any()
    no, yes = np.array([False, True]), np.array([True, False])
    write(made, 1, np.array([1.0, 2]), yes, no, no, 7.0)
    np.testing.assert_array_equal(made.rewards, [[0, 0], [1, 2]])
    np.testing.assert_array_equal(made.terminated, [[False, False], [True, False]])
    np.testing.assert_array_equal(made.truncated, [[False, False], [False, True]])
    np.testing.assert_array_equal(made.ended, [[False, False], [True, True]])
    np.testing.assert_array_equal(made.valid, [[False, False], [False, True]])
    np.testing.assert_array_equal(made.seconds, [0, 7])


def test_write_fills_the_rows_of_a_group():
    made = Record.empty(1, 3)
    some = np.array([True, False])
    write(made, 0, np.array([5.0, 6.0]), some, ~some, some, 1.0, rows=slice(1, 3))
    np.testing.assert_array_equal(made.rewards, [[0, 5, 6]])
    np.testing.assert_array_equal(made.ended, [[False, True, True]])
    np.testing.assert_array_equal(made.valid, [[False, True, False]])


def test_environments_that_count_themselves_tell_of_their_episodes_alone():
    """Two ends, of which only the second is an episode's: its return is not the sum of what was learned from."""
    made = Record.empty(4, 1, counted=True)
    yes, no = np.array([True]), np.array([False])
    for t, (end, told) in enumerate(
        [(no, None), (yes, None), (no, None), (yes, (yes, np.array([70.0]), np.array([4])))]
    ):
        write(made, t, np.array([1.0]), end, no, yes, 0.5 * t, episodes=told)
    assert taken(made) == [Episode(r=70, l=4, t=1.5, env=0)]


def test_episodes_of_one_rollout_by_hand():
    # environment 0: 1 + 2 in two steps, then 3 + 4; environment 1: 10 alone, 20 + 30, 40 still running
    found = taken(
        record([[1, 10], [2, 20], [3, 30], [4, 40]], ended=[(1, 0), (3, 0), (0, 1), (2, 1)]),
        nenvs=2,
    )
    # in the order in which they ended
    assert found == [
        Episode(r=10, l=1, t=0.0, env=1),
        Episode(r=3, l=2, t=0.5, env=0),
        Episode(r=50, l=2, t=1.0, env=1),
        Episode(r=7, l=2, t=1.5, env=0),
    ]


def test_episodes_over_several_rollouts():
    found = taken(
        record([[1, 10], [2, 20]], ended=[(0, 1)]),
        record([[3, 30], [4, 40]], start=1.0),
        record([[5, 50], [6, 60]], ended=[(0, 0), (1, 0), (1, 1)], start=2.0),
        nenvs=2,
    )
    assert found == [
        Episode(r=10, l=1, t=0.0, env=1),
        Episode(r=1 + 2 + 3 + 4 + 5, l=5, t=2.0, env=0),
        Episode(r=6, l=1, t=2.5, env=0),
        Episode(r=20 + 30 + 40 + 50 + 60, l=5, t=2.5, env=1),
    ]


def test_invalid_steps_add_neither_reward_nor_length():
    # the step after an end only resets, in this rollout and at the beginning of the next
    found = taken(
        record([[1], [100], [2], [3]], ended=[(0, 0), (3, 0)], invalid=[(1, 0)]),
        record([[100], [4], [5]], ended=[(2, 0)], invalid=[(0, 0)], start=2.0),
    )
    assert found == [
        Episode(r=1, l=1, t=0.0, env=0),
        Episode(r=5, l=2, t=1.5, env=0),
        Episode(r=9, l=2, t=3.0, env=0),
    ]


def test_types_are_those_of_a_csv_row():
    (episode,) = taken(record([[1.5]], ended=[(0, 0)]))
    assert [type(value) for value in episode] == [float, int, float, int]


def test_episodes_are_taken_once():
    tally = Tally(1)
    tally.add(record([[1]], ended=[(0, 0)]))
    assert len(tally.take()) == 1
    assert tally.take() == []
    tally.add(record([[2]], ended=[(0, 0)]))
    assert [episode.r for episode in in_order(tally.take())] == [2]


def test_counting_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    tally, returns, lengths, expected, found = Tally(3), np.zeros(3), np.zeros(3, int), [], []
    for _ in range(4):
        rewards = rng.integers(-9, 9, (17, 3)).astype(float)
        ended, valid = rng.random((17, 3)) < 0.2, rng.random((17, 3)) < 0.9
        ended &= valid
        for t in range(17):
            for n in range(3):
                if valid[t, n]:
                    returns[n] += rewards[t, n]
                    lengths[n] += 1
                if ended[t, n]:
                    expected.append((returns[n], lengths[n], n))
                    returns[n] = lengths[n] = 0
        truncated = ended & (rewards > 0)
        tally.add(Record(rewards, ended & ~truncated, truncated, valid, np.arange(17.0)))
        found += [(episode.r, episode.l, episode.env) for episode in in_order(tally.take())]
    assert len(expected) > 20
    assert found == expected


def test_an_episode_that_a_failed_step_ended_is_not_counted():
    found = taken(record([[5], [0], [1]], ended=[(1, 0), (2, 0)], invalid=[(1, 0)]))
    assert found == [Episode(r=1, l=1, t=1.0, env=0)]


def test_a_reward_that_is_not_finite_spoils_its_own_episode_only():
    tally = Tally(1)
    tally.add(record([[np.nan], [1]], ended=[(0, 0), (1, 0)]))
    assert np.isnan(tally.take()[0].episode.r)
    tally.add(record([[2]], ended=[(0, 0)]))
    assert [episode.r for episode in in_order(tally.take())] == [2]


# --- carry_returns --------------------------------------------------------------------------------------------------


def test_carried_returns_by_hand():
    made = record([[1, 1, 1], [2, 2, 2], [3, 3, 3]], ended=[(1, 1), (2, 2)])
    # gamma 0.5, from 8: ((8 * 0.5 + 1) * 0.5 + 2) * 0.5 + 3 = 5.25; after an end just 3; at an end 0
    found = made.carry_returns(np.full(3, 8.0), 0.5, len(made.rewards))
    np.testing.assert_allclose(found, [5.25, 3, 0])
    assert found.dtype == np.float32


@pytest.mark.parametrize("gamma", [0.9, 1.0, 0.0])
@pytest.mark.parametrize("steps", [1, 17])
def test_carried_returns_equal_a_plain_loop(steps, gamma):
    rng = np.random.default_rng(0)
    running = before = rng.normal(size=6)
    rewards, ended = rng.normal(size=(steps, 6)), rng.random((steps, 6)) < 0.15
    ended[:, 0] = False
    for reward, end in zip(rewards, ended, strict=True):
        running = np.where(end, 0, gamma * running + reward)
    found = record(rewards, ended=set(map(tuple, np.argwhere(ended)))).carry_returns(before, gamma, len(rewards))
    np.testing.assert_allclose(found, running, rtol=1e-5, atol=1e-6)


def test_rewards_that_are_not_finite_are_not_carried():
    found = record([[np.nan, np.inf], [2, 3]]).carry_returns(np.array([8.0, 8]), 0.5, 2)
    # 8 * 0.25 + 0 + 2 and + 3
    np.testing.assert_allclose(found, [4, 5])


def test_episodes_of_several_processes_are_told_of_in_the_order_of_their_steps():
    tallies = [Tally(1), Tally(1)]
    ends = [[0, 1, 0, 1], [1, 0, 0, 1]]
    for tally, mine in zip(tallies, ends, strict=True):
        for half in (mine[:2], mine[2:]):  # of two rollouts
            tally.add(record([[1.0]] * 2, ended=[(t, 0) for t in range(2) if half[t]]))
    whole = [
        Ended(step, episode._replace(env=env)) for env, tally in enumerate(tallies) for step, episode in tally.take()
    ]
    assert [(episode.env, episode.l) for episode in in_order(whole)] == [(1, 1), (0, 2), (0, 2), (1, 3)]
