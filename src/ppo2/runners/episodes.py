"""Counting episodes: returns and lengths from rewards and ends, with no wrapper around the environments.

Episodes are kept by column, so that no work in Python grows with their number: on the device tens of thousands end in
an update.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, overload

import numpy as np

NDArray = np.ndarray[Any, Any]

NO_NUMBERS: Mapping[str, NDArray] = MappingProxyType({})
FLOAT32_MAX = float(np.finfo(np.float32).max)
EPISODE_WINDOW = 100
"""Episodes that eprewmean and eplenmean are means over, as in Baselines."""


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


@dataclass(frozen=True, eq=False)
class Episodes(Sequence[Episode]):
    """Finished episodes: a sequence of `Episode`, kept by column.

    Attributes:
        r, l, t, env: see `Episode`, (n,) each.
        infos: numbers of their last `info`, (n,) each, NaN where an episode has none.
    """

    r: NDArray
    l: NDArray  # noqa: E741
    t: NDArray
    env: NDArray
    infos: Mapping[str, NDArray] = field(default_factory=dict)

    @classmethod
    def none(cls) -> "Episodes":
        return cls.from_lists([[], [], [], []], {})

    @classmethod
    def of(cls, rows: Sequence[Episode]) -> "Episodes":
        """Some episodes by column; those that are so already as they are."""
        if isinstance(rows, Episodes):
            return rows
        names = dict.fromkeys(name for row in rows for name in row.infos)
        columns = [list(column) for column in zip(*(row[:4] for row in rows), strict=True)] or [[], [], [], []]
        return cls.from_lists(columns, {name: [row.infos.get(name, np.nan) for row in rows] for name in names})

    @classmethod
    def from_lists(cls, columns: Sequence[Sequence[Any]], infos: Mapping[str, Sequence[float]]) -> "Episodes":
        """The inverse of `lists`."""
        kinds = (np.float64, np.int64, np.float64, np.int64)
        r, l, t, env = (np.array(column, kind) for column, kind in zip(columns, kinds, strict=True))  # noqa: E741
        return cls(r, l, t, env, {name: np.array(numbers, np.float64) for name, numbers in infos.items()})

    def lists(self) -> tuple[list[list[Any]], dict[str, list[float]]]:
        """The columns in Python's own numbers, and those of `infos`."""
        return [column.tolist() for column in self.columns], {name: x.tolist() for name, x in self.infos.items()}

    @classmethod
    def joined(cls, parts: Sequence["Episodes"]) -> "Episodes":
        """The episodes of some parts, one part after the other."""
        parts = [part for part in parts if len(part)] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        names = dict.fromkeys(name for part in parts for name in part.infos)
        infos = {
            name: np.concatenate([part.infos.get(name, np.full(len(part), np.nan)) for part in parts]) for name in names
        }
        r, l, t, env = map(np.concatenate, zip(*(part.columns for part in parts), strict=True))  # noqa: E741
        return cls(r, l, t, env, infos)

    @property
    def columns(self) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """The columns that all episodes have."""
        return self.r, self.l, self.t, self.env

    def chosen(self, index: Any) -> "Episodes":
        """Some of them: a slice, or what else NumPy takes."""
        r, l, t, env = (column[index] for column in self.columns)  # noqa: E741
        return Episodes(r, l, t, env, {name: x[index] for name, x in self.infos.items()})

    def __len__(self) -> int:
        return len(self.r)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> "Episodes": ...
    def __getitem__(self, index: int | slice) -> "Episode | Episodes":
        return self.chosen(index) if isinstance(index, slice) else next(iter(self.chosen([index])))

    def __iter__(self) -> Iterator[Episode]:
        columns, infos = self.lists()
        for i, (r, length, t, env) in enumerate(zip(*columns, strict=True)):
            yield Episode(r, length, t, env, {name: x[i] for name, x in infos.items() if x[i] == x[i]})


@dataclass(frozen=True, eq=False)
class Ended:
    """The episodes that ended since the last look.

    Attributes:
        rows: episodes that are handed on, in the order in which they ended; all of them unless `last` is given.
        steps: the step of its environment at which each did, counted from the last look.
        last, last_steps: the last hundred, where `rows` are only some.
        count: the number of all.
    """

    rows: Episodes
    steps: NDArray
    last: Episodes | None = None
    last_steps: NDArray | None = None
    count: int = 0

    @classmethod
    def all(cls, rows: Episodes, steps: NDArray) -> "Ended":
        """All that ended."""
        return cls(rows, steps, count=len(rows))

    def later(self, steps: int) -> "Ended":
        """The same, so many steps later."""
        last = None if self.last_steps is None else self.last_steps + steps
        return Ended(self.rows, self.steps + steps, self.last, last, self.count)

    def to_json(self) -> list[Any]:
        """All of it as JSON can hold it; see `from_json`."""
        last = None if self.last is None or self.last_steps is None else [self.last.lists(), self.last_steps.tolist()]
        return [self.rows.lists(), self.steps.tolist(), last, self.count]

    @classmethod
    def from_json(cls, told: Sequence[Any]) -> "Ended":
        """The inverse of `to_json`."""
        rows, steps, last, count = told
        found = cls(Episodes.from_lists(*rows), np.array(steps, np.int64), count=count)
        if last is None:
            return found
        return replace(found, last=Episodes.from_lists(*last[0]), last_steps=np.array(last[1], np.int64))


def side_by_side(parts: Sequence[Ended]) -> Ended:
    """The episodes of several processes, by step and environment: the clocks of processes differ."""
    return parts[0] if len(parts) == 1 else _merged(parts, in_order=True)


def _merged(parts: Sequence[Ended], *, in_order: bool) -> Ended:
    def merge(some: Sequence[tuple[Episodes, NDArray]]) -> tuple[Episodes, NDArray]:
        rows = Episodes.joined([rows for rows, _ in some])
        steps = np.concatenate([steps for _, steps in some])
        if not in_order:
            return rows, steps
        order = np.lexsort((rows.env, steps))
        return rows.chosen(order), steps[order]

    rows = merge([(part.rows, part.steps) for part in parts])
    count = sum(part.count for part in parts)
    if all(part.last is None for part in parts):
        return Ended(*rows, count=count)
    last, steps = merge([_last(part) for part in parts])
    return Ended(*rows, last[-EPISODE_WINDOW:], steps[-EPISODE_WINDOW:], count)


def _last(part: Ended) -> tuple[Episodes, NDArray]:
    """The last hundred, and their steps."""
    if part.last is not None and part.last_steps is not None:
        return part.last, part.last_steps
    return part.rows[-EPISODE_WINDOW:], part.steps[-EPISODE_WINDOW:]


def thinned(ended: Ended, most: int | None, update: NDArray | None = None) -> Ended:
    """Every k-th episode of each update, the first one included, with the least k that leaves `most` rows; episodes
    that are only some already as they are.

    Args:
        most: None is all.
        update: the update that each of the episodes belongs to, ascending from 0; None: all to one.
    """
    if not most or ended.last is not None or ended.count <= most:
        return ended
    update = np.zeros(ended.count, np.int64) if update is None else update
    counts = np.bincount(update)
    rank = np.arange(ended.count) - (np.cumsum(counts) - counts)[update]
    kept = rank % np.maximum(1, -(-counts // most))[update] == 0
    rows, steps = (ended.rows, ended.steps) if kept.all() else (ended.rows.chosen(kept), ended.steps[kept])
    return Ended(rows, steps, *_last(ended), ended.count)


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
        columns = (returns[t, env], lengths[t, env], seconds[t], env + self._first)
        found = {key: values[t, env] for key, values in infos.items()}
        self.extend(Ended.all(episodes_of(columns, found), t), len(lengths))

    def extend(self, ended: Ended, steps: int) -> None:
        """Adds the episodes of so many steps, which count from the first of these."""
        self._ended.append(ended.later(self._steps))
        self._steps += steps

    def take(self) -> Ended:
        """The episodes that ended since the last call."""
        ended, self._ended, self._steps = self._ended, [], 0
        if len(ended) == 1:
            return ended[0]
        return _merged(ended, in_order=False) if ended else Ended.all(Episodes.none(), np.zeros(0, np.int64))


def episodes_of(columns: Sequence[NDArray], infos: Mapping[str, NDArray]) -> Episodes:
    """Episodes as rows of monitor.csv, from numbers of any dtype; without numbers of `info` that none of them has."""
    r, length, t, env = columns
    found = {key: values.astype(np.float64) for key, values in infos.items() if not np.isnan(values).all()}
    return Episodes(r.astype(np.float64), length.astype(np.int64), t.round(6), env.astype(np.int64), found)


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
