"""Buffers of environments in a piece of memory."""

import mmap

import gymnasium as gym
import jax
import numpy as np

from ppo2.envs.host.buffers import ALIGNED, EnvBuffers, Spaces, buffers_in, control_rows_in

SPACES = Spaces(
    gym.spaces.Dict({"image": gym.spaces.Box(0, 255, (3, 3), np.uint8), "arm": gym.spaces.Box(-1, 1, (), np.float32)}),
    gym.spaces.Discrete(2),
)


def test_arrays_begin_at_cache_lines_and_do_not_overlap() -> None:
    """Each array is filled with its own number; none changes another."""
    _, size = buffers_in(None, SPACES, 5, 2)
    memory = mmap.mmap(-1, size + 3 * ALIGNED)
    buffers, _ = buffers_in(memory, SPACES, 5, 2)
    arrays = [*jax.tree.leaves(buffers), control_rows_in(memory, size)]
    start = arrays[0].ctypes.data
    for number, array in enumerate(arrays):
        assert (array.ctypes.data - start) % ALIGNED == 0
        array[...] = number % 2 if array.dtype == bool else number
    assert all((array == (number % 2 if array.dtype == bool else number)).all() for number, array in enumerate(arrays))
    assert arrays[-1].shape == (3, ALIGNED // 4)


def test_rows_are_views() -> None:
    _, size = buffers_in(None, SPACES, 5, 0)
    buffers, _ = buffers_in(mmap.mmap(-1, size), SPACES, 5, 0)
    part: EnvBuffers = buffers.rows(slice(1, 3))
    part.rewards[:], part.obs[0][:] = 7.0, 1
    assert buffers.rewards.tolist() == [0, 7, 7, 0, 0]
    assert buffers.obs[0].reshape(5, -1).any(axis=1).tolist() == [False, True, True, False, False]
