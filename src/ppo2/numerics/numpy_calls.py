"""Lists of NumPy's calls, with the arrays that they read and write."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ppo2.numerics.traced import Operation, Value

NDArray = np.ndarray[Any, Any]

LINE = 64
"""Bytes of a processor's cache line and of its widest registers. Arrays begin at a multiple of it, so that no result
depends on where in memory a process has them."""
INTEGERS = (f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
NUMBERS = {*map(np.dtype, ("bool", "float32", "float64", *INTEGERS))}
"""The dtypes that NumPy computes with as XLA does. Under `jax_enable_x64` constants of a network have 64 bits."""


class UntranslatableError(Exception):
    """A traced function does something for which there is no call of NumPy here."""


class Calls:
    """Calls of NumPy, those to be repeated each time and those for what seldom changes, and their arrays.

    Attributes:
        fixed, varying: the two lists, of functions and their arguments.
        products: multiplications of the matrix products that are repeated.
        numbers: numbers that the other repeated calls go through.
        varies: True while the calls added are to be repeated.
    """

    def __init__(self) -> None:
        self.fixed: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.varying: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.products = self.numbers = 0
        self.varies = False
        self._arrays: dict[Value, NDArray] = {}

    def add(self, function: Callable[..., Any], *arguments: Any, products: int = 0, numbers: int = 0) -> None:
        """Adds a call; `products` and `numbers` say how much work it is."""
        (self.varying if self.varies else self.fixed).append((function, arguments))
        if self.varies:
            self.products += products
            self.numbers += numbers

    def write(self, target: NDArray, array: NDArray) -> None:
        """Adds a call that writes an array into another one. It takes half the time of `np.copyto`."""
        self.add(target.__setitem__, ..., array, numbers=target.size)

    def new(self, value: Value) -> NDArray:
        """A new array for a value."""
        self._arrays[value] = array = aligned(value.shape, value.dtype)
        return array

    def let(self, value: Value, array: NDArray) -> None:
        """Says where a value is: in an array, or a view of one, that a call writes already."""
        self._arrays[value] = array

    def array(self, value: Value) -> NDArray:
        """The array of a value."""
        if value.number is not None and value not in self._arrays:
            np.copyto(self.new(value), value.number)
        return self._arrays[value]

    def stretched(self, value: Value, shape: tuple[int, ...]) -> NDArray:
        """The array of an argument, where the result has such a shape. One that seldom changes is stretched to it, as
        NumPy adds arrays of one shape three times as fast.
        """
        return self.array(value) if value.varies or value.shape == shape else self._copied(value, shape)

    def in_order(self, value: Value, transposed: bool) -> NDArray:
        """The matrix of a product, or its transpose; one that seldom changes is in order of memory."""
        if value.varies:
            return self.array(value).T if transposed else self.array(value)
        return self._copied(value, value.shape[::-1] if transposed else value.shape, transposed)

    def _copied(self, value: Value, shape: tuple[int, ...], transposed: bool = False) -> NDArray:
        array, target = self.array(value), aligned(shape, value.dtype)
        self.fixed.append((target.__setitem__, (..., array.T if transposed else array)))
        return target


def aligned(shape: Sequence[int], dtype: Any) -> NDArray:
    """An array of zeros that begins at a multiple of `LINE`."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    array: NDArray = memory[start : start + size].view(dtype).reshape(shape)
    return array


def require(operation: Operation, holds: bool) -> None:
    """Raises UntranslatableError unless a condition of an operation's translation holds."""
    if not holds:
        raise UntranslatableError(f"{operation.name} {operation.settings}")
