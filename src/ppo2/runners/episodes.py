"""Counting episodes: returns and lengths from rewards and ends, with no wrapper around the environments."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ppo2.envs.host.stepper import Transition

NDArray = np.ndarray[Any, Any]


class Episode(NamedTuple):
    """One finished episode: a row of monitor.csv, in Python's own numbers.

    | field | meaning |
    |---|---|
    | `r` | undiscounted return |
    | `l` | length in timesteps |
    | `t` | seconds from the run's start to the episode's end |
    | `env` | the environment's index |
    """

    r: float
    l: int  # noqa: E741 - the column's name in every monitor.csv since Baselines
    t: float
    env: int


class Ended(NamedTuple):
    """An episode that ended, and at which step of its environment, counted from when they were last told of."""

    step: int
    episode: Episode


def in_order(ended: Iterable[Ended]) -> list[Episode]:
    """Episodes in the order in which they ended, by step and environment, as one process would tell of them all: the
    clocks of several differ.
    """
    return [one.episode for one in sorted(ended, key=lambda one: (one.step, one.episode.env))]


class Record(NamedTuple):
    """A rollout's outcomes on the host, (T, N): what counting episodes needs.

    | field | meaning |
    |---|---|
    | seconds (T,) | when each step ended |
    | counted | of environments that count themselves: returns and lengths of the episodes that ended, elsewhere 0 |
    """

    rewards: NDArray
    terminated: NDArray
    truncated: NDArray
    valid: NDArray
    seconds: NDArray
    counted: tuple[NDArray, NDArray] | None = None

    @classmethod
    def empty(cls, nsteps: int, nenvs: int, *, counted: bool = False) -> "Record":
        """Room for a rollout; no step of it is valid yet."""
        shape = (nsteps, nenvs)
        return cls(
            rewards=np.zeros(shape),
            terminated=np.zeros(shape, bool),
            truncated=np.zeros(shape, bool),
            valid=np.zeros(shape, bool),
            seconds=np.zeros(nsteps),
            counted=(np.zeros(shape), np.zeros(shape, int)) if counted else None,
        )

    @property
    def ended(self) -> NDArray:
        return self.terminated | self.truncated

    def write(self, t: int, rows: slice, step: "Transition", seconds: float) -> None:
        """Takes down step t of some of the environments."""
        self.rewards[t, rows] = step.rewards
        self.terminated[t, rows] = step.terminated
        self.truncated[t, rows] = step.truncated
        self.valid[t, rows] = step.valid
        self.seconds[t] = seconds
        if self.counted is not None and step.episodes is not None:
            _, self.counted[0][t, rows], self.counted[1][t, rows] = step.episodes

    def carry_returns(self, before: NDArray, gamma: float, steps: int) -> NDArray:
        """The discounted sum of the running episodes' rewards after `steps` steps, given it before the first."""
        steps_left = np.arange(steps - 1, -1, -1)[:, None]
        ended = self.ended[:steps]
        any_end = ended.any(axis=0)
        # how many steps belong to the running episode: those after the last end
        length = np.where(any_end, np.argmax(ended[::-1], axis=0), steps)
        weights = gamma**steps_left * (steps_left < length)
        rewards = np.where(np.isfinite(self.rewards) & self.valid, self.rewards, 0.0)[:steps]
        carried: NDArray = np.where(any_end, 0.0, before * gamma**steps) + (rewards * weights).sum(axis=0)
        return carried.astype(np.float32)


class Tally:
    """Counts the episodes of a vector environment."""

    def __init__(self, nenvs: int) -> None:
        self._returns = np.zeros(nenvs)
        self._lengths = np.zeros(nenvs, int)
        self._done: list[Ended] = []
        self._steps = 0

    def add(self, record: Record) -> None:
        """Counts a rollout in. Steps that were no experience add nothing; an episode that ends at one isn't told of.

        Where environments count themselves, an end of theirs alone is an episode's.
        """
        if record.counted is not None:
            returns, lengths = record.counted
            for t, i in np.argwhere(lengths).tolist():
                self._tell(t, i, returns[t, i], lengths[t, i], record)
            self._steps += len(lengths)
            return
        rewards = np.where(record.valid, record.rewards, 0.0)
        start = np.zeros(len(self._returns), int)  # of each environment's running episode, within this rollout
        for t, i in np.argwhere(record.ended).tolist():
            if record.valid[t, i]:
                r = self._returns[i] + rewards[start[i] : t + 1, i].sum()
                length = self._lengths[i] + record.valid[start[i] : t + 1, i].sum()
                self._tell(t, i, r, length, record)
            self._returns[i], self._lengths[i], start[i] = 0.0, 0, t + 1
        running = np.arange(len(rewards))[:, None] >= start
        self._returns += np.where(running, rewards, 0.0).sum(axis=0)
        self._lengths += (running & record.valid).sum(axis=0)
        self._steps += len(rewards)

    def _tell(self, t: int, i: int, r: float, length: int, record: Record) -> None:
        episode = Episode(r=float(r), l=int(length), t=round(float(record.seconds[t]), 6), env=i)
        self._done.append(Ended(self._steps + t, episode))

    @property
    def running(self) -> tuple[NDArray, NDArray]:
        """Returns and lengths of the running episodes so far, (N,) each."""
        return self._returns.copy(), self._lengths.copy()

    def resume(self, returns: NDArray, lengths: NDArray) -> None:
        """Goes on from `running`."""
        self._returns, self._lengths = returns.copy(), lengths.copy()

    def take(self) -> list[Ended]:
        """The episodes that ended since the last call."""
        done, self._done, self._steps = self._done, [], 0
        return done
