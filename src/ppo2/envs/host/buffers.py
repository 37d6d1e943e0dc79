"""Memory that the processes that step environments share; without JAX."""

import math
import mmap
import os
import tempfile
from typing import Any, NamedTuple

import numpy as np

from ppo2 import spaces

NDArray = np.ndarray[Any, Any]

ALIGNED = 64  # bytes of a cache line, so that two processes never write to the same one


class EnvBuffers(NamedTuple):
    """What goes in and out of n environments, each field's first axis; in memory that processes may share.

    | field | shape | meaning |
    |---|---|---|
    | actions, obs, final_obs | (n, ...) for each leaf | `final_obs` only where an episode has just ended |
    | rewards, terminated, truncated | (n,) | as the environments gave them |
    | failed | (n,) | the step raised: it is no experience, and its environment began anew |
    | returns, lengths | (n,) | `info["episode"]`, of environments that count episodes themselves; NaN: none ended |
    | infos | (n, k) | the numbers in `info` that were asked for; NaN where there is none |
    | seeds | (n,) | each environment's, from which every episode's is made; UNSEEDED: none |
    | episodes | (n,) | which episode of that seed is running, from 0 |
    """

    actions: list[NDArray]
    obs: list[NDArray]
    final_obs: list[NDArray]
    rewards: NDArray
    terminated: NDArray
    truncated: NDArray
    failed: NDArray
    returns: NDArray
    lengths: NDArray
    infos: NDArray
    seeds: NDArray
    episodes: NDArray

    def rows(self, of: slice) -> "EnvBuffers":
        """The same for some of the environments."""
        buffer_specs: Any = ([leaf[of] for leaf in field] if isinstance(field, list) else field[of] for field in self)
        return EnvBuffers(*buffer_specs)


class ArraySpec(NamedTuple):
    """Shape and dtype of an array of a board."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def buffer_specs(
    observation_space: spaces.AnySpace, action_space: spaces.AnySpace, count: int, infos: int
) -> list[list[ArraySpec] | ArraySpec]:
    """What a board is made of, for `count` environments."""

    def leaves(space: spaces.AnySpace) -> list[ArraySpec]:
        parts = spaces.leaves(space, spaces.tree(space))
        return [ArraySpec((count, *(part.shape or ())), np.dtype(part.dtype)) for part in parts]

    obs = leaves(observation_space)
    flag, number, whole = (ArraySpec((count,), np.dtype(kind)) for kind in (bool, np.float64, np.int64))
    numbers = ArraySpec((count, infos), np.dtype(np.float64))
    return [leaves(action_space), obs, obs, number, flag, flag, flag, number, number, numbers, whole, whole]


def buffers_size(buffer_specs: list[list[ArraySpec] | ArraySpec]) -> int:
    """Bytes that a board takes."""
    return sum(_room(field) for field in _flat(buffer_specs))


def buffers_at(buffer: mmap.mmap, buffer_specs: list[list[ArraySpec] | ArraySpec]) -> EnvBuffers:
    """The board that lies in a piece of memory."""
    at = 0

    def placed(field: ArraySpec) -> np.ndarray[Any, Any]:
        nonlocal at
        array = np.frombuffer(buffer, field.dtype, math.prod(field.shape), at).reshape(field.shape)
        at += _room(field)
        return array

    arrays: Any = (
        [placed(leaf) for leaf in field] if isinstance(field, list) else placed(field) for field in buffer_specs
    )
    return EnvBuffers(*arrays)


def _flat(buffer_specs: list[list[ArraySpec] | ArraySpec]) -> list[ArraySpec]:
    return [leaf for field in buffer_specs for leaf in (field if isinstance(field, list) else [field])]


def _room(field: ArraySpec) -> int:
    return -(-math.prod(field.shape) * field.dtype.itemsize // ALIGNED) * ALIGNED


def memory(size: int) -> int:
    """A descriptor of so many zero bytes, which no name leads to: it is gone with the last process that holds it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ppo2")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, max(size, 1))
    return descriptor


def control_rows_at(buffer: mmap.mmap, size: int, buffers: int) -> np.ndarray[Any, Any]:
    """(workers, ALIGNED / 4) numbers after the board."""
    return np.frombuffer(buffer, np.int32, (size - buffers) // 4, buffers).reshape(-1, ALIGNED // 4)
