"""Arrays through which environments and learner exchange steps, in memory that processes share; without JAX."""

import math
import mmap
import os
import tempfile
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ppo2 import spaces
from ppo2.envs.host.env_types import NDArray

ALIGNED = 64
"""Bytes of a cache line: every array begins at one, so that two processes never write to the same."""


class Spaces(NamedTuple):
    """Spaces of one environment."""

    observation: spaces.AnySpace
    action: spaces.AnySpace


class EnvBuffers(NamedTuple):
    """Inputs and outputs of n environments; n is the first axis of every array.

    | field | shape | meaning |
    |---|---|---|
    | actions, obs, final_obs | (n, ...) for each leaf | `final_obs` only where an episode has just ended |
    | rewards, terminated, truncated | (n,) | as the environments gave them |
    | missing | (n,) | True where an episode was terminated without a last observation: `final_obs` means nothing |
    | failed | (n,) | True where the step raised: it is no experience, and its environment began anew |
    | returns, lengths | (n,) | of environments that count episodes themselves; see `episode_statistics` |
    | infos | (n, k) | entries of `info`: those asked for at full steps, all `end_keys` at episodes' ends; NaN: none |
    | seeds | (n,) | each environment's seed, from which its episodes' seeds derive; UNSEEDED: none |
    | episodes | (n,) | number of the running episode since that seed, from 0 |
    """

    actions: list[NDArray]
    obs: list[NDArray]
    final_obs: list[NDArray]
    rewards: NDArray
    terminated: NDArray
    truncated: NDArray
    missing: NDArray
    failed: NDArray
    returns: NDArray
    lengths: NDArray
    infos: NDArray
    seeds: NDArray
    episodes: NDArray

    def rows(self, of: slice) -> "EnvBuffers":
        """Views of the rows of some of the environments."""
        fields: Any = ([leaf[of] for leaf in field] if isinstance(field, list) else field[of] for field in self)
        return EnvBuffers(*fields)


def buffers_in(memory: mmap.mmap | None, env_spaces: Spaces, count: int, infos: int) -> tuple[EnvBuffers, int]:
    """Buffers of `count` environments and `infos` entries of `info`, and the bytes that they take in memory.

    Without memory this only measures: the arrays are empty.
    """
    offset = 0

    def array(dtype: Any, *shape: int) -> NDArray:
        nonlocal offset
        start, size = offset, math.prod(shape) * np.dtype(dtype).itemsize
        offset += -(-size // ALIGNED) * ALIGNED
        if memory is None:
            return np.empty(0)
        return np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape)

    def leaves(space: spaces.AnySpace) -> list[NDArray]:
        return [array(leaf.dtype, count, *(leaf.shape or ())) for leaf in spaces.leaves(space, spaces.tree(space))]

    buffers = EnvBuffers(
        actions=leaves(env_spaces.action),
        obs=leaves(env_spaces.observation),
        final_obs=leaves(env_spaces.observation),
        rewards=array(np.float64, count),
        terminated=array(bool, count),
        truncated=array(bool, count),
        missing=array(bool, count),
        failed=array(bool, count),
        returns=array(np.float64, count),
        lengths=array(np.float64, count),
        infos=array(np.float64, count, infos),
        seeds=array(np.int64, count),
        episodes=array(np.int64, count),
    )
    return buffers, offset


def from_leaves(space: spaces.AnySpace, leaves: Iterable[Any]) -> Any:
    """A batch of `space` made of its leaves: the inverse of `spaces.leaves`."""
    parts = iter(leaves)
    return spaces.mapped(lambda _: next(parts), space)


def control_rows_in(memory: mmap.mmap, offset: int) -> NDArray:
    """Control words behind the buffers, int32, (workers, ALIGNED / 4): a cache line for each worker process."""
    return np.frombuffer(memory, np.int32, (len(memory) - offset) // 4, offset).reshape(-1, ALIGNED // 4)


def open_memory(size: int) -> int:
    """Opens a descriptor of `size` zero bytes without a name: they are gone with the last process that holds it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ppo2")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
