"""Episodes, counted from rewards and ends; by hand, and against plain loops."""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import pytest

from ppo2.runners.episodes import (
    Ended,
    Episode,
    EpisodeQueue,
    Episodes,
    RunningEpisodes,
    carry_returns,
    side_by_side,
    steps_since_end,
    thinned,
)

At = Collection[tuple[int, int]]


class Outcomes(NamedTuple):
    """A rollout of which the steps listed as (t, n) ended an episode or were no experience; a step takes 0.5 s."""

    rewards: Any
    ended: At = ()
    invalid: At = ()
    start: float = 0.0


class Counter:
    """The episodes of some environments, rollout by rollout."""

    def __init__(self, nenvs: int, first: int = 0) -> None:
        self.running, self.queue = RunningEpisodes.start(nenvs), EpisodeQueue(first)

    def add(self, of: Outcomes) -> None:
        rewards = np.array(of.rewards, float)
        ended, valid = np.zeros(rewards.shape, bool), np.ones(rewards.shape, bool)
        for at in of.ended:
            ended[at] = True
        for at in of.invalid:
            valid[at] = False
        self.running, *found = self.running.with_steps(rewards, ended, valid, 0.5)
        self.queue.add(*found, of.start + 0.5 * np.arange(len(rewards)))


def taken(*rollouts: Outcomes, nenvs: int = 1) -> list[Episode]:
    counter = Counter(nenvs)
    for rollout in rollouts:
        counter.add(rollout)
    return list(counter.queue.take().rows)


def test_episodes_of_one_rollout_by_hand() -> None:
    # environment 0: 1 + 2 in two steps, then 3 + 4; environment 1: 10 alone, 20 + 30, 40 still running
    found = taken(
        Outcomes([[1, 10], [2, 20], [3, 30], [4, 40]], ended=[(1, 0), (3, 0), (0, 1), (2, 1)]),
        nenvs=2,
    )
    # in the order in which they ended
    assert found == [
        Episode(r=10, l=1, t=0.0, env=1),
        Episode(r=3, l=2, t=0.5, env=0),
        Episode(r=50, l=2, t=1.0, env=1),
        Episode(r=7, l=2, t=1.5, env=0),
    ]


def test_episodes_over_several_rollouts() -> None:
    found = taken(
        Outcomes([[1, 10], [2, 20]], ended=[(0, 1)]),
        Outcomes([[3, 30], [4, 40]], start=1.0),
        Outcomes([[5, 50], [6, 60]], ended=[(0, 0), (1, 0), (1, 1)], start=2.0),
        nenvs=2,
    )
    assert found == [
        Episode(r=10, l=1, t=0.0, env=1),
        Episode(r=1 + 2 + 3 + 4 + 5, l=5, t=2.0, env=0),
        Episode(r=6, l=1, t=2.5, env=0),
        Episode(r=20 + 30 + 40 + 50 + 60, l=5, t=2.5, env=1),
    ]


def test_invalid_steps_add_neither_reward_nor_length() -> None:
    # the step after an end only resets, in this rollout and at the beginning of the next
    found = taken(
        Outcomes([[1], [100], [2], [3]], ended=[(0, 0), (3, 0)], invalid=[(1, 0)]),
        Outcomes([[100], [4], [5]], ended=[(2, 0)], invalid=[(0, 0)], start=2.0),
    )
    assert found == [
        Episode(r=1, l=1, t=0.0, env=0),
        Episode(r=5, l=2, t=1.5, env=0),
        Episode(r=9, l=2, t=3.0, env=0),
    ]


def test_types_are_those_of_a_csv_row() -> None:
    (episode,) = taken(Outcomes([[1.5]], ended=[(0, 0)]))
    assert [type(value) for value in episode] == [float, int, float, int, dict]


def test_episodes_are_taken_once() -> None:
    counter = Counter(1)
    counter.add(Outcomes([[1]], ended=[(0, 0)]))
    assert counter.queue.take().count == 1
    assert counter.queue.take().count == len(counter.queue.take().rows) == 0
    counter.add(Outcomes([[2]], ended=[(0, 0)]))
    assert [episode.r for episode in counter.queue.take().rows] == [2]


def test_counting_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    counter, returns, lengths = Counter(3), np.zeros(3), np.zeros(3, int)
    expected, found = [], []
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
        where = [list(map(tuple, np.argwhere(flags).tolist())) for flags in (ended, ~valid)]
        counter.add(Outcomes(rewards, *where))
        found += [(episode.r, episode.l, episode.env) for episode in counter.queue.take().rows]
        np.testing.assert_array_equal(counter.running.returns, returns)
        np.testing.assert_array_equal(counter.running.lengths, lengths)
    assert len(expected) > 20
    assert found == expected


def test_an_episode_that_a_failed_step_ended_is_not_counted() -> None:
    found = taken(Outcomes([[5], [0], [1]], ended=[(1, 0), (2, 0)], invalid=[(1, 0)]))
    assert found == [Episode(r=1, l=1, t=1.0, env=0)]


def test_a_reward_that_is_not_finite_spoils_its_own_episode_only() -> None:
    counter = Counter(1)
    counter.add(Outcomes([[np.nan], [1]], ended=[(0, 0), (1, 0)]))
    assert np.isnan(counter.queue.take().rows[0].r)
    counter.add(Outcomes([[2]], ended=[(0, 0)]))
    assert [episode.r for episode in counter.queue.take().rows] == [2]


def test_earlier_sums_stay_as_they_were() -> None:
    """A snapshot may be of before a rollout."""
    counter = Counter(1)
    before = counter.running
    counter.add(Outcomes([[3]]))
    assert [array.tolist() for array in before] == [[0], [0], [0]]
    assert [array.tolist() for array in counter.running] == [[3], [3], [1]]


# --- discounted -----------------------------------------------------------------------------------------------------


def test_carried_returns_by_hand() -> None:
    rewards, ended = np.array([[1.0] * 3, [2.0] * 3, [3.0] * 3]), np.zeros((3, 3), bool)
    ended[1, 1] = ended[2, 2] = True
    # gamma 0.5, from 8: ((8 * 0.5 + 1) * 0.5 + 2) * 0.5 + 3 = 5.25; after an end just 3; at an end 0
    found = carry_returns(np.full(3, 8.0), rewards, ended, 0.5)
    np.testing.assert_allclose(found, [5.25, 3, 0])
    assert found.dtype == np.float32


@pytest.mark.parametrize("gamma", [0.9, 1.0, 0.0])
@pytest.mark.parametrize("steps", [1, 17])
def test_carried_returns_equal_a_plain_loop(steps: int, gamma: float) -> None:
    rng = np.random.default_rng(0)
    running = before = rng.normal(size=6)
    rewards, ended = rng.normal(size=(steps, 6)), rng.random((steps, 6)) < 0.15
    ended[:, 0] = False
    for reward, end in zip(rewards, ended, strict=True):
        running = np.where(end, 0, gamma * running + reward)
    np.testing.assert_allclose(carry_returns(before, rewards, ended, gamma), running, rtol=1e-5, atol=1e-6)


def test_rewards_that_are_not_finite_are_not_carried() -> None:
    counter = Counter(2)
    counter.running = counter.running._replace(discounted=np.array([8.0, 8.0]))
    counter.add(Outcomes([[np.nan, np.inf], [2, 3]]))
    # 8 * 0.25 + 0 + 2 and + 3
    np.testing.assert_allclose(counter.running.discounted, [4, 5])


def test_rewards_of_steps_that_are_not_valid_are_not_carried() -> None:
    counter = Counter(1)
    counter.add(Outcomes([[4], [100], [2]], invalid=[(1, 0)]))
    np.testing.assert_allclose(counter.running.discounted, [4 * 0.25 + 2])


def test_steps_since_the_last_end() -> None:
    ended = np.array([[False, True, False], [False, True, False], [False, False, True]])
    assert steps_since_end(ended, np.array([5, 5, 5])).tolist() == [8, 1, 0]


# --- several processes ----------------------------------------------------------------------------------------------


def test_episodes_of_several_processes_are_told_of_in_the_order_of_their_steps() -> None:
    counters = [Counter(1, first) for first in range(2)]
    for counter, ends in zip(counters, ([0, 1, 0, 1], [1, 0, 0, 1]), strict=True):
        for half in (ends[:2], ends[2:]):  # of two rollouts
            counter.add(Outcomes([[1.0]] * 2, ended=[(t, 0) for t in range(2) if half[t]]))
    told = json.loads(json.dumps([counter.queue.take().to_json() for counter in counters]))
    whole = side_by_side([Ended.from_json(one) for one in told])
    assert [(episode.env, episode.l) for episode in whole.rows] == [(1, 1), (0, 2), (0, 2), (1, 3)]
    assert whole.count == 4


def test_steps_of_added_episodes_follow_those_before() -> None:
    queue, episode = EpisodeQueue(), Episode(r=1.0, l=1, t=0.0, env=0)
    for _ in range(2):
        queue.extend(Ended.all(Episodes.of([episode]), np.array([3])), steps=4)
    assert queue.take().steps.tolist() == [3, 7]


# --- more than monitor.csv is to have ---------------------------------------------------------------------------------


def numbered(count: int, first: int = 0) -> Ended:
    """Episodes that ended one a step, with the returns first, first + 1 and so on."""
    rows = [Episode(r=float(first + i), l=1, t=0.0, env=0) for i in range(count)]
    return Ended.all(Episodes.of(rows), np.arange(count))


def test_of_too_many_every_kth_stays_with_the_last_hundred() -> None:
    """250 in at most 100 rows: every 3rd, 84 of them; 7 in 4 rows: every 2nd."""
    found = thinned(numbered(250), 100)
    assert found.rows.r.tolist() == found.steps.tolist() == [*range(0, 250, 3)]
    assert found.last is not None
    assert found.last.r.tolist() == [*range(150, 250)]
    assert found.count == 250
    assert thinned(numbered(7), 4).rows.r.tolist() == [0, 2, 4, 6]


def test_each_update_is_thinned_by_itself_and_once() -> None:
    """Updates of 5, 0 and 2 episodes, 2 rows each: every 3rd of the first, both of the last."""
    found = thinned(numbered(7), 2, np.array([0, 0, 0, 0, 0, 2, 2]))
    assert found.rows.r.tolist() == [0, 3, 5, 6]
    assert thinned(found, 2) is found
    everything = numbered(7)
    assert thinned(everything, None) is everything
    assert thinned(everything, 7).rows is everything.rows
    assert thinned(everything, 2**70).rows is everything.rows
    assert len(thinned(numbered(0), 2**70).rows) == 0


def test_a_queue_keeps_the_last_hundred_of_what_was_thinned() -> None:
    queue = EpisodeQueue()
    queue.extend(numbered(30), steps=30)
    queue.extend(thinned(numbered(250, first=30), 10), steps=250)
    queue.extend(numbered(40, first=280), steps=40)
    found = queue.take()
    assert found.last is not None
    assert found.last_steps is not None
    assert found.last.r.tolist() == found.last_steps.tolist() == [*range(220, 320)]
    assert found.rows.r.tolist() == [*range(30), *range(30, 280, 25), *range(280, 320)]
    assert found.count == 320


def test_numbers_of_infos_stay_with_their_episodes() -> None:
    some = [Episode(1.0, 1, 0.0, 0, {"a": 5.0}), Episode(2.0, 1, 0.0, 1), Episode(3.0, 1, 0.0, 2, {"b": np.inf})]
    whole = Episodes.joined([Episodes.of(some[:1]), Episodes.of(some[1:2]), Episodes.of(some[2:])])
    assert list(whole) == some
    assert whole[-1] == some[2]
    assert list(whole[1:]) == some[1:]
    assert list(Episodes.from_lists(*json.loads(json.dumps(whole.lists())))) == some
