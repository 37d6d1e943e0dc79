"""Actions: those of a user checked and written into the buffers, and read from there one by one; without JAX."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.envs.host.buffers import from_leaves
from ppo2.envs.host.env_types import NDArray

MANY = 10_000
"""Choices above which their numbers aren't kept."""


class ActionWriter:
    """Writes a batch of actions into arrays, one for each leaf of the action space.

    Checked is what no environment could take: kind, shape, number, values that no choice has, and NaN. Numbers beyond
    the bounds of a float Box are the environment's affair, as in Gymnasium: many clip them.

    Args:
        space: actions of one environment.
    """

    def __init__(self, space: spaces.AnySpace) -> None:
        self.space = space
        self._is_array = not isinstance(space, spaces.COMPOSITE)
        self._leaves = spaces.leaves(space, spaces.tree(space))
        self._choices: frozenset[int] | None = None  # of the usual space, for which they are the quickest check
        if isinstance(space, gym.spaces.Discrete) and space.n <= MANY:
            self._choices = frozenset(range(int(space.start), int(space.start + space.n)))
        self._ranges = [
            tuple(int(x) if np.ndim(x) == 0 and x is not None else x for x in spaces.integer_range(leaf))
            for leaf in self._leaves
        ]

    def write(self, rows: Sequence[NDArray], actions: Any) -> None:
        """Writes an action for each row: from a batch of the action space, or a list of actions.

        Raises:
            TypeError: one action instead of a batch, or another kind of number.
            ValueError: another structure, shape or number of actions, or values out of range.
        """
        count = len(rows[0])
        is_plain = type(actions) is np.ndarray and actions.shape == (count,) and actions.dtype.kind in "iu"
        if self._choices is not None and is_plain and self._choices.issuperset(actions.tolist()):
            rows[0][:] = actions
            return
        given = [self._array(actions)] if self._is_array else self._split(actions, count)
        for row, array, leaf, (low, high) in zip(rows, given, self._leaves, self._ranges, strict=True):
            if array.shape != row.shape:
                self._refuse_shape(array, row, actions)
            kinds = "iubf" if low is None else "iub"
            if array.dtype.kind not in kinds:
                wanted = "real numbers" if low is None else "integers"
                raise TypeError(f"`actions` have the dtype {array.dtype}; actions of {leaf} are {wanted}.")
            if not _all_within(array, low, high):
                wrong = np.isnan(array) if low is None else (array < low) | (array > high)
                where = int(np.argwhere(wrong)[0][0])
                raise ValueError(
                    f"`actions` have {array[where]} for environment {where}, which is no action of {leaf}."
                )
            row[...] = array

    def _array(self, actions: Any) -> NDArray:
        try:
            return np.asarray(actions)
        except ValueError as error:  # lists of unequal length
            raise ValueError(f"`actions` (={actions!r}) are not one action of {self.space} each ({error}).") from None

    def _split(self, actions: Any, count: int) -> list[NDArray]:
        """Leaves of actions of several parts."""
        try:
            if isinstance(actions, list):
                parts = [spaces.leaves(self.space, one) for one in actions]
                if len(parts) != count:
                    raise ValueError(f"there are {len(parts)}")
                return [np.stack(part) for part in zip(*parts, strict=True)]
            return [np.asarray(leaf) for leaf in spaces.leaves(self.space, actions)]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"`actions` (={actions!r}) must be a batch of {self.space} for {count} environments, or a list of "
                f"{count} actions of it ({type(error).__name__}: {error})."
            ) from None

    def _refuse_shape(self, array: NDArray, row: NDArray, actions: Any) -> None:
        """Raises the error for a batch of another shape."""
        if not array.ndim:
            raise TypeError(f"`actions` (={actions!r}) must be one action for each of {len(row)} environments.")
        raise ValueError(
            f"`actions` have the shape {array.shape}; for {len(row)} environments with actions of {self.space} it must "
            f"be {row.shape}."
        )


def _all_within(array: NDArray, low: Any, high: Any) -> bool:
    """True if all numbers are from `low` to `high`; without these, if none is NaN."""
    if low is None:
        return not np.isnan(array).any()
    return bool((array >= low).all() and (array <= high).all())


def splitter(space: spaces.AnySpace, *, python_integers: bool = False) -> Callable[[Sequence[NDArray]], Iterable[Any]]:
    """A function that makes copies of actions one by one, from a batch's leaves: arrays or NumPy's numbers, as `sample`
    of a space gives.

    Args:
        space: actions of one environment.
        python_integers: True gives those of a Discrete space as Python's integers, with which a step of 8 CartPoles
            takes 5 % less; for environments that are known not to care (`EnvTraits.python_integers`).
    """
    if isinstance(space, spaces.COMPOSITE) or (not space.shape and not isinstance(space, gym.spaces.Discrete)):
        return lambda leaves: spaces.separate(space, from_leaves(space, [leaf.copy() for leaf in leaves]))
    if not isinstance(space, gym.spaces.Discrete):
        return lambda leaves: leaves[0].copy()
    if python_integers:
        return lambda leaves: leaves[0].tolist()
    if space.n > MANY:
        return lambda leaves: list(leaves[0])
    number, start = space.dtype.type, int(space.start)
    known = {choice: number(choice) for choice in range(start, start + int(space.n))}
    return lambda leaves: map(known.__getitem__, leaves[0].tolist())  # a third of the time of new numbers
