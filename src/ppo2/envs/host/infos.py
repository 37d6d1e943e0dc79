"""The infos of N environments as one dict, in the form of Gymnasium's vector environments; without JAX."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.envs.host.buffers import EnvBuffers, from_leaves
from ppo2.envs.host.env_types import NDArray
from ppo2.envs.host.episode_statistics import EPISODE


class EnvInfo(NamedTuple):
    """Info of one environment at a step or reset.

    Attributes:
        env: its index.
        info: the reset's, where an episode ended and the next has begun; else the step's.
        final: the step's, where that ended an episode; else None.
    """

    env: int
    info: Mapping[str, Any]
    final: Mapping[str, Any] | None = None


def kept(info: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an info that stays as it is where the environment uses its dicts and arrays again."""
    return {
        key: kept(value) if isinstance(value, dict) else value.copy() if isinstance(value, np.ndarray) else value
        for key, value in info.items()
    }


def gathered(given: Sequence[EnvInfo], count: int) -> dict[str, Any]:
    """Infos of `count` environments by name, each with a mask `_name` of the environments that gave it.

    Numbers and arrays become arrays of `count` rows, 0 where there is none; dicts become dicts of such; anything else
    an array of objects. `final_info` has the last infos of episodes that ended, and `episode` of them stands beside it,
    where Gymnasium's vector wrapper RecordEpisodeStatistics puts it. This is what Gymnasium's `_add_info` makes, but
    for values that differ in shape or don't fit into the first one's dtype: those are all kept as they are.
    """
    infos = _columns([(one.env, one.info) for one in given], count)
    finals = [(one.env, one.final) for one in given if one.final is not None]
    if finals:
        mask = _mask([env for env, _ in finals], count)
        infos |= {"final_info": (ends := _columns(finals, count)), "_final_info": mask}
        if isinstance(ends.get("episode"), dict):
            infos |= {"episode": ends["episode"], "_episode": ends["_episode"]}
    return infos


class FinalObs:
    """Last observations of episodes, from the buffers.

    Args:
        space: observations of one environment.
    """

    def __init__(self, space: spaces.AnySpace) -> None:
        self._space, self._is_array = space, not isinstance(space, spaces.COMPOSITE)
        self._whole = [isinstance(leaf, gym.spaces.Discrete) for leaf in spaces.leaves(space, spaces.tree(space))]

    def read(self, buffers: EnvBuffers, which: NDArray) -> dict[int, Any]:
        """Copies of the last observations of some environments, (n,), whose episodes have just ended."""
        found: dict[int, Any] = {}
        for i in np.flatnonzero(which).tolist():
            pairs = zip(buffers.final_obs, self._whole, strict=True)
            leaves = [leaf[i].item() if is_whole else leaf[i].copy() for leaf, is_whole in pairs]
            found[i] = leaves[0] if self._is_array else from_leaves(self._space, leaves)
        return found


def infos_of_counted(buffers: EnvBuffers) -> dict[str, Any]:
    """The episodes that environments counted themselves, as RecordEpisodeStatistics gives them; none if none ended."""
    counted = buffers.lengths > 0
    if not counted.any():
        return {}
    lengths = np.where(counted, buffers.lengths, 0).astype(int)
    return {EPISODE: {"r": np.where(counted, buffers.returns, 0.0), "l": lengths}, f"_{EPISODE}": counted}


def _columns(rows: Sequence[tuple[int, Mapping[str, Any]]], count: int) -> dict[str, Any]:
    """Entries of dicts, by name; `rows` has the index of each dict's environment."""
    columns: dict[str, list[tuple[int, Any]]] = {}
    for env, info in rows:
        for key, value in info.items():
            columns.setdefault(key, []).append((env, value))
    found: dict[str, Any] = {}
    for key, entries in columns.items():
        found[key] = _column(entries, count)
        found[f"_{key}"] = _mask([env for env, _ in entries], count)
    return found


def _column(entries: Sequence[tuple[int, Any]], count: int) -> Any:
    """One name's values; `entries` has the index of each one's environment."""
    values = [value for _, value in entries]
    if all(isinstance(value, dict) for value in values):
        return _columns(entries, count)
    first = values[0]
    if type(first) in (int, float, bool) or isinstance(first, np.number):
        column = np.zeros(count, type(first))
    elif isinstance(first, np.ndarray) and all(np.shape(value) == first.shape for value in values):
        column = np.zeros((count, *first.shape), first.dtype)
    else:
        column = np.full(count, None, object)
    if column.dtype != object and not all(_fits(value, column.dtype) for value in values):
        column = np.full(count, None, object)
    for env, value in entries:
        column[env] = value
    return column


def _fits(value: Any, dtype: np.dtype[Any]) -> bool:
    """True if an array of `dtype` holds a value without loss."""
    if type(value) is int and dtype.kind == "i":
        info = np.iinfo(dtype)
        return bool(info.min <= value <= info.max)
    if isinstance(value, np.ndarray):
        return value.dtype == dtype or np.can_cast(value.dtype, dtype)
    return isinstance(value, bool | int | float | np.number) and np.can_cast(np.asarray(value).dtype, dtype)


def _mask(envs: Sequence[int], count: int) -> NDArray:
    mask = np.zeros(count, bool)
    mask[envs] = True
    return mask
