"""Arrays through which environments and learner exchange steps, in memory that processes share; without JAX."""

import math
import mmap
import os
import tempfile
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ppo2 import spaces
from ppo2.envs.host.env_types import NDArray

ALIGNED = 64
"""Bytes of a cache line: every array begins at one, so that two processes never write to the same."""


class EnvBuffers(NamedTuple):
    """Inputs and outputs of n environments; n is the first axis of every array.

    | field | shape | meaning |
    |---|---|---|
    | actions, obs, final_obs | (n, ...) for each leaf | `final_obs` only where an episode has just ended |
    | rewards, terminated, truncated | (n,) | as the environments gave them |
    | failed | (n,) | True where the step raised: it is no experience, and its environment began anew |
    | returns, lengths | (n,) | `info["episode"]`, of environments that count episodes themselves; NaN: none ended |
    | infos | (n, k) | the entries of `info` that were asked for; NaN where there is none |
    | seeds | (n,) | each environment's seed, from which its episodes' seeds derive; UNSEEDED: none |
    | episodes | (n,) | number of the running episode since that seed, from 0 |
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
        """Views of the rows of some of the environments."""
        fields: Any = ([leaf[of] for leaf in field] if isinstance(field, list) else field[of] for field in self)
        return EnvBuffers(*fields)


class ArraySpec(NamedTuple):
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes of the array, up to the next cache line."""
        return -(-math.prod(self.shape) * self.dtype.itemsize // ALIGNED) * ALIGNED


Layout: TypeAlias = list[list[ArraySpec] | ArraySpec]
"""Specs of the fields of `EnvBuffers`, in their order."""


def layout_of(observation_space: spaces.AnySpace, action_space: spaces.AnySpace, count: int, infos: int) -> Layout:
    """Layout of the buffers of `count` environments, of whose `info` so many entries were asked for."""

    def leaves(space: spaces.AnySpace) -> list[ArraySpec]:
        parts = spaces.leaves(space, spaces.tree(space))
        return [ArraySpec((count, *(part.shape or ())), np.dtype(part.dtype)) for part in parts]

    obs = leaves(observation_space)
    flag, number, integer = (ArraySpec((count,), np.dtype(kind)) for kind in (bool, np.float64, np.int64))
    numbers = ArraySpec((count, infos), np.dtype(np.float64))
    return [leaves(action_space), obs, obs, number, flag, flag, flag, number, number, numbers, integer, integer]


def layout_size(layout: Layout) -> int:
    """Bytes that buffers take."""
    return sum(leaf.size for field in layout for leaf in (field if isinstance(field, list) else [field]))


def buffers_in(memory: mmap.mmap, layout: Layout) -> EnvBuffers:
    """Buffers at the beginning of a piece of memory."""
    offset = 0

    def array(spec: ArraySpec) -> NDArray:
        nonlocal offset
        view = np.frombuffer(memory, spec.dtype, math.prod(spec.shape), offset).reshape(spec.shape)
        offset += spec.size
        return view

    fields: Any = ([array(leaf) for leaf in field] if isinstance(field, list) else array(field) for field in layout)
    return EnvBuffers(*fields)


def control_rows_in(memory: mmap.mmap, layout: Layout) -> NDArray:
    """Control words behind the buffers, int32, (workers, ALIGNED / 4): a cache line for each worker process."""
    offset = layout_size(layout)
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
