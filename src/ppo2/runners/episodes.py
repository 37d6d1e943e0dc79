"""Counting episodes: returns and lengths from rewards and ends, with no wrapper around the environments."""

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

NDArray = np.ndarray[Any, Any]

NO_NUMBERS: Mapping[str, NDArray] = MappingProxyType({})
FLOAT32_MAX = float(np.finfo(np.float32).max)


class Episode(NamedTuple):
    """One finished episode: a row of monitor.csv, in Python's own numbers.

    | field | meaning |
    |---|---|
    | `r` | undiscounted return |
    | `l` | length in timesteps |
    | `t` | seconds from the run's start to the episode's end |
    | `env` | the environment's index |
    | `infos` | numbers of its last `info`, by name: a column each |
    """

    r: float
    l: int  # noqa: E741 - the column's name in every monitor.csv since Baselines
    t: float
    env: int
    infos: Mapping[str, float] = {}


class Ended(NamedTuple):
    """An episode that ended, and the step of its environment at which it did, counted from the last look."""

    step: int
    episode: Episode


def in_order(ended: Iterable[Ended]) -> list[Episode]:
    """Episodes in the order in which they ended, by step and environment: the clocks of several processes differ."""
    return [one.episode for one in sorted(ended, key=lambda one: (one.step, one.episode.env))]


class EpisodeQueue:
    """Ended episodes that nobody has looked at yet.

    Args:
        first: global index of the first environment.
    """

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._ended: list[Ended] = []
        self._steps = 0  # of each environment since the last look

    def add(
        self, returns: NDArray, lengths: NDArray, seconds: NDArray, infos: Mapping[str, NDArray] = NO_NUMBERS
    ) -> None:
        """Adds the episodes of T steps.

        Args:
            returns, lengths: (T, N), at the step that ended an episode; elsewhere the length is 0.
            seconds: (T,), when each step ended.
            infos: numbers of `info`, (T, N) each, NaN where there is none.
        """
        t, env = np.nonzero(lengths)
        columns = (returns[t, env], lengths[t, env], seconds[t].round(6), env + self._first)
        found = {key: values[t, env] for key, values in infos.items()}
        found = {key: values for key, values in found.items() if not np.isnan(values).all()}
        if found:
            rows = zip(*(values.tolist() for values in found.values()), strict=True)
            named = [{key: x for key, x in zip(found, row, strict=True) if not math.isnan(x)} for row in rows]
            episodes = map(Episode, *(column.tolist() for column in columns), named)
        else:
            episodes = map(Episode, *(column.tolist() for column in columns))
        self.extend(map(Ended, t.tolist(), episodes), len(lengths))

    def extend(self, ended: Iterable[Ended], steps: int) -> None:
        """Adds the episodes of so many steps, which count from the first of these."""
        self._ended += [one._replace(step=one.step + self._steps) for one in ended]
        self._steps += steps

    def take(self) -> list[Ended]:
        """The episodes that ended since the last call."""
        ended, self._ended, self._steps = self._ended, [], 0
        return ended


def steps_since_end(ended: NDArray, before: NDArray | int = 0) -> NDArray:
    """Steps of the running episodes, (N,), after T steps, of which some ended one, (T, N); given those before."""
    steps: NDArray = np.where(ended.any(axis=0), np.argmax(ended[::-1], axis=0), before + len(ended))
    return steps


def carry_returns(before: NDArray, rewards: NDArray, ended: NDArray, gamma: float) -> NDArray:
    """The discounted sum of the running episodes' rewards after T steps, (T, N), given it before the first, (N,)."""
    steps_left = np.arange(len(rewards) - 1, -1, -1)[:, None]
    weights = gamma**steps_left * (steps_left < steps_since_end(ended))
    kept = np.where(ended.any(axis=0), 0.0, before * gamma ** len(rewards))
    carried: NDArray = np.clip(kept + (rewards * weights).sum(axis=0), -FLOAT32_MAX, FLOAT32_MAX)
    return carried.astype(np.float32)


def bring_into_float32(rewards: NDArray) -> None:
    """Lowers finite rewards that float32 doesn't hold to what it does, as they aren't infinite, but too large."""
    beyond = np.isfinite(rewards) & (np.abs(rewards) > FLOAT32_MAX)
    rewards[beyond] = np.copysign(FLOAT32_MAX, rewards[beyond])


class RunningEpisodes(NamedTuple):
    """Sums over the running episodes so far, (N,): rewards, discounted and as they are; steps."""

    discounted: NDArray
    returns: NDArray
    lengths: NDArray

    @classmethod
    def start(cls, nenvs: int) -> "RunningEpisodes":
        """The sums before the first step."""
        return cls(np.zeros(nenvs, np.float32), np.zeros(nenvs), np.zeros(nenvs, int))

    def with_steps(
        self, rewards: NDArray, ended: NDArray, valid: NDArray, gamma: float
    ) -> tuple["RunningEpisodes", NDArray, NDArray]:
        """Adds T steps, (T, N). Those that are not valid add nothing; an episode that ends at one is left out.

        Returns:
            The sums after these steps; returns and lengths of the episodes that ended: see `EpisodeQueue.add`.
        """
        with np.errstate(all="ignore"):  # what the user has set is meant for code of the user's own
            return self._with_steps(np.where(valid, rewards, 0.0), ended, valid, gamma)

    def _with_steps(
        self, rewards: NDArray, ended: NDArray, valid: NDArray, gamma: float
    ) -> tuple["RunningEpisodes", NDArray, NDArray]:
        finite = np.where(np.isfinite(rewards), rewards, 0.0)
        returns, lengths = np.zeros(rewards.shape), np.zeros(rewards.shape, int)
        running_returns, running_lengths = self.returns.copy(), self.lengths.copy()
        start = np.zeros(len(running_returns), int)  # of each environment's running episode, among these steps
        for t, i in np.argwhere(ended).tolist():
            if valid[t, i]:
                returns[t, i] = running_returns[i] + rewards[start[i] : t + 1, i].sum()
                lengths[t, i] = running_lengths[i] + valid[start[i] : t + 1, i].sum()
            running_returns[i], running_lengths[i], start[i] = 0.0, 0, t + 1
        is_running = np.arange(len(rewards))[:, None] >= start
        after = RunningEpisodes(
            discounted=carry_returns(self.discounted, finite, ended, gamma),
            returns=running_returns + np.where(is_running, rewards, 0.0).sum(axis=0),
            lengths=running_lengths + (is_running & valid).sum(axis=0),
        )
        return after, returns, lengths
