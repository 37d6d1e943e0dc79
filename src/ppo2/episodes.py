"""Counting episodes: returns and lengths from rewards and ends, with no wrapper around the environments."""

from typing import Any, NamedTuple

import numpy as np

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


class Record(NamedTuple):
    """A rollout's outcomes on the host, (T, N): what counting episodes needs. `seconds` (T,): when each step ended."""

    rewards: NDArray
    terminated: NDArray
    truncated: NDArray
    valid: NDArray
    seconds: NDArray

    @classmethod
    def empty(cls, nsteps: int, nenvs: int) -> "Record":
        """Room for a rollout; no step of it is valid yet."""
        shape = (nsteps, nenvs)
        return cls(
            rewards=np.zeros(shape),
            terminated=np.zeros(shape, bool),
            truncated=np.zeros(shape, bool),
            valid=np.zeros(shape, bool),
            seconds=np.zeros(nsteps),
        )

    @property
    def ended(self) -> NDArray:
        return self.terminated | self.truncated

    def write(
        self, t: int, *, rewards: NDArray, terminated: NDArray, truncated: NDArray, valid: NDArray, seconds: float
    ) -> None:
        self.rewards[t] = rewards
        self.terminated[t] = terminated
        self.truncated[t] = truncated
        self.valid[t] = valid
        self.seconds[t] = seconds

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
        self._done: list[Episode] = []

    def add(self, record: Record) -> None:
        """Counts a rollout in. Steps that were no experience add nothing; an episode that ends at one isn't told of."""
        rewards = np.where(record.valid, record.rewards, 0.0)
        start = np.zeros(len(self._returns), int)  # of each environment's running episode, within this rollout
        for t, i in np.argwhere(record.ended).tolist():
            if record.valid[t, i]:
                r = self._returns[i] + rewards[start[i] : t + 1, i].sum()
                length = self._lengths[i] + record.valid[start[i] : t + 1, i].sum()
                self._done.append(Episode(r=float(r), l=int(length), t=round(float(record.seconds[t]), 6), env=i))
            self._returns[i], self._lengths[i], start[i] = 0.0, 0, t + 1
        running = np.arange(len(rewards))[:, None] >= start
        self._returns += np.where(running, rewards, 0.0).sum(axis=0)
        self._lengths += (running & record.valid).sum(axis=0)

    def take(self) -> list[Episode]:
        done, self._done = self._done, []
        return done
