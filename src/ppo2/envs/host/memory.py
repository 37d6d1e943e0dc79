"""Memory that the processes that step environments share; without JAX."""

import math
import mmap
import os
import tempfile
from typing import Any

import numpy as np

from ppo2.envs.host.group import Board, Field

ALIGNED = 64  # bytes of a cache line, so that two processes never write to the same one


def boards_size(fields: list[list[Field] | Field]) -> int:
    """Bytes that a board takes."""
    return sum(_room(field) for field in _flat(fields))


def board_at(buffer: mmap.mmap, fields: list[list[Field] | Field]) -> Board:
    """The board that lies in a piece of memory."""
    at = 0

    def placed(field: Field) -> np.ndarray[Any, Any]:
        nonlocal at
        array = np.frombuffer(buffer, field.dtype, math.prod(field.shape), at).reshape(field.shape)
        at += _room(field)
        return array

    arrays: Any = ([placed(leaf) for leaf in field] if isinstance(field, list) else placed(field) for field in fields)
    return Board(*arrays)


def _flat(fields: list[list[Field] | Field]) -> list[Field]:
    return [leaf for field in fields for leaf in (field if isinstance(field, list) else [field])]


def _room(field: Field) -> int:
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


def control_at(buffer: mmap.mmap, size: int, board: int) -> np.ndarray[Any, Any]:
    """(workers, ALIGNED / 4) numbers after the board."""
    return np.frombuffer(buffer, np.int32, (size - board) // 4, board).reshape(-1, ALIGNED // 4)
