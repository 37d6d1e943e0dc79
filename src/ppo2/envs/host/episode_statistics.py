"""Statistics at ends of episodes: those that environments count themselves, and numbers of `info`; without JAX."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from ppo2.config.info_keys import end_keys
from ppo2.envs.host.env_types import AnyEnv, AnyVectorEnv, NDArray

EPISODE = "episode"
"""Key of `info` under which episodes are counted, as by Gymnasium's RecordEpisodeStatistics: {"r": ..., "l": ...}."""
UNCOUNTED, NONE_ENDED, UNEXPLAINED = math.nan, 0.0, -1.0
"""Lengths in the place of an episode's: the environment doesn't count; it does, but none ended; one seems to have
ended, but the environment, which told of others, doesn't tell of it.
"""


class EpisodeEnds(NamedTuple):
    """Statistics at a step in which episodes ended, (N,) each but for `infos`, (N, keys).

    | field | meaning |
    |---|---|
    | counts | True for environments that count their episodes themselves: an episode is what they say is one |
    | returns, lengths | of the episodes that these counted, where the length is above 0 |
    | infos | numbers of `info` at this step, by key of `end_keys`; NaN: none |
    """

    counts: NDArray
    returns: NDArray
    lengths: NDArray
    infos: NDArray


def number(value: Any) -> float:
    """A number, also as an array of one; NaN for anything else."""
    if value is None:  # most often; an exception takes long
        return math.nan
    try:
        return float(value.item() if isinstance(value, np.ndarray) else value)
    except (TypeError, ValueError):
        return math.nan


class Counted(NamedTuple):
    """An episode that an environment counted: its return, and its length in steps."""

    r: float
    length: float


class _Running(NamedTuple):
    """Sums of a RecordEpisodeStatistics, and when its episode began."""

    episode: Counted
    began: float


class EpisodeReader:
    """Reads the episodes that one environment counts itself.

    These are environments with a RecordEpisodeStatistics anywhere among their wrappers, those whose factory declares
    it, and any other from the first `info["episode"]` on that holds numbers `r` and `l`. Where a wrapper outside of the
    RecordEpisodeStatistics ends an episode (a time limit, the loss of a life), the reset decides: if it reaches the
    statistics, an episode has ended, else it goes on.

    Args:
        declared: the factory says that only `info["episode"]` marks the end of an episode.

    Attributes:
        counts: True if the environment is known to count its episodes.
    """

    def __init__(self, env: AnyEnv, *, declared: bool = False) -> None:
        self._wrapper: Any = recorder_in(env)
        self._key = EPISODE if self._wrapper is None else str(self._wrapper._stats_key)
        self._declared = declared
        self.counts = declared or self._wrapper is not None
        self._before: _Running | None = None

    def read(self, info: Mapping[str, Any], *, ended: bool) -> Counted | None:
        """The episode that a step's `info` tells of; `ended`: a reset comes next."""
        if ended:
            self._before = self._running()
        given = info.get(self._key)
        if given is None or not isinstance(given, Mapping):
            return None
        found = Counted(number(given.get("r")), number(given.get("l")))
        if not (found.length > 0 and not math.isnan(found.r)):
            return None
        self.counts = True
        return found

    def after_reset(self) -> Counted:
        """The episode that ended without a word in `info`, now that the reset has shown whether it did.

        Its length is UNCOUNTED, NONE_ENDED or UNEXPLAINED where there is none.
        """
        before, after = self._before, self._running()
        if before is None or after is None:
            length = NONE_ENDED if self._declared else UNEXPLAINED if self.counts else UNCOUNTED
            return Counted(0.0, length)
        was_reset = after.began != before.began or after.episode.length < before.episode.length
        return before.episode if was_reset else Counted(0.0, NONE_ENDED)

    def _running(self) -> _Running | None:
        wrapper = self._wrapper
        if wrapper is None:
            return None
        return _Running(
            Counted(number(wrapper.episode_returns), number(wrapper.episode_lengths)), wrapper.episode_start_time
        )


def recorder_in(env: AnyEnv) -> gym.wrappers.RecordEpisodeStatistics[Any, Any] | None:
    """The RecordEpisodeStatistics among an environment's wrappers: the outermost under the usual key, or of all."""
    found = []
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.RecordEpisodeStatistics):
            found.append(env)
        env = env.env
    return min(found, key=lambda one: one._stats_key != EPISODE, default=None)


class VectorReader:
    """Reads the same of a vector environment that the user passed in, from its `infos`.

    Args:
        info_keys: see `end_keys`.
    """

    def __init__(self, env: AnyVectorEnv, info_keys: Sequence[str]) -> None:
        self._nenvs, self._keys = env.num_envs, end_keys(info_keys)
        self._declared = getattr(env, "counts_episodes", False) is True
        key = recorder_key(env)
        self._key = EPISODE if key is None else key
        self._counts = np.full(self._nenvs, self._declared or key is not None)

    def read(self, infos: Any, ended: NDArray) -> EpisodeEnds | None:
        """The statistics of a step, given where episodes ended; None where there are none."""
        is_dict = isinstance(infos, Mapping)
        if is_dict and not (self._key in infos or "final_info" in infos or ended.any()):
            return None
        returns, lengths = (self._numbers(infos, self._key, name) for name in ("r", "l"))
        told = (lengths > 0) & ~np.isnan(returns)
        self._counts = self._counts | told
        if not (told.any() or ended.any()):
            return None
        missing = NONE_ENDED if self._declared else UNEXPLAINED
        silent = np.where(self._counts & ended, missing, NONE_ENDED)
        return EpisodeEnds(
            counts=self._counts,
            returns=np.where(told, returns, 0.0),
            lengths=np.where(told, lengths, silent),
            infos=np.stack([self._numbers(infos, key) for key in self._keys], axis=1),
        )

    def _numbers(self, infos: Any, *path: str) -> NDArray:
        """Numbers at an episode's last step: those in `final_info` (SAME_STEP) before those beside it."""
        final, beside = (numbers_in(infos, where, self._nenvs) for where in (("final_info", *path), path))
        return np.where(np.isnan(final), beside, final)


def recorder_key(env: AnyVectorEnv) -> str | None:
    """The key under which a vector environment counts episodes, by a RecordEpisodeStatistics around or in it."""
    vector: Any = env
    while isinstance(vector, gym.vector.VectorWrapper):
        if isinstance(vector, gym.wrappers.vector.RecordEpisodeStatistics):
            return str(vector._stats_key)
        vector = vector.env
    if isinstance(vector, gym.vector.SyncVectorEnv):
        inner = recorder_in(vector.envs[0])
        return None if inner is None else str(inner._stats_key)
    if isinstance(vector, gym.vector.AsyncVectorEnv):
        return EPISODE if all(vector.call("has_wrapper_attr", "return_queue")) else None
    return None


def numbers_in(infos: Any, path: Sequence[str], count: int) -> NDArray:
    """The numbers, (N,), under a path of keys in the infos of N environments; NaN where there is none.

    Args:
        infos: a dict of arrays with masks, as Gymnasium's vector environments give it, or dicts, one by one.
    """
    here = np.full(count, True)
    for depth, key in enumerate(path):
        if not isinstance(infos, Mapping):
            return np.where(here, _one_by_one(infos, path[depth:], count), math.nan)
        if key not in infos:
            return np.full(count, math.nan)
        mask = np.asarray(infos.get(f"_{key}", True), bool)
        here = here & mask if mask.shape in ((), (count,)) else here
        infos = infos[key]
    array = np.asarray(infos)
    if array.size != count or array.dtype.kind not in "biufO":
        return np.full(count, math.nan)
    flat = [number(one) for one in array.ravel()] if array.dtype.kind == "O" else array.reshape(count)
    return np.where(here, np.asarray(flat, np.float64), math.nan)


def _one_by_one(infos: Any, path: Sequence[str], count: int) -> NDArray:
    """`numbers_in` of a list, or an array of objects, with a dict or None for each environment."""
    if not isinstance(infos, list | tuple | np.ndarray) or len(infos) != count:
        return np.full(count, math.nan)
    found = np.full(count, math.nan)
    for i, info in enumerate(infos):
        for key in path:
            info = info.get(key) if isinstance(info, Mapping) else None
        found[i] = number(info)
    return found
