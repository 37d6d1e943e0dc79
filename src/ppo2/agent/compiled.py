"""Compiled programs, shared by all models that compile to the same thing."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

P = TypeVar("P")


class Programs:
    """What was compiled last, by what it was compiled from.

    Args:
        kept: how many; the one that was used longest ago goes first.
    """

    def __init__(self, kept: int = 48) -> None:
        self._kept = kept
        self._made: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], P]) -> P:
        """The program of `key`; `make()` if there is none."""
        if key not in self._made:
            self._made[key] = make()
            if len(self._made) > self._kept:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        program: P = self._made[key]
        return program

    def __iter__(self) -> Iterator[Any]:
        """The programs."""
        return iter(self._made.values())


SHARED = Programs()


class _Same:
    """Equal to itself alone, with what it holds."""

    def __init__(self, of: object) -> None:
        self._of = of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._of is other._of

    def __hash__(self) -> int:
        return id(self._of)


def identity_key(x: Any) -> Hashable:
    """`x`, or if it has no hash a stand-in that is equal to itself alone."""
    return x if _is_hashable(x) else _Same(x)


def typed_key(x: Any) -> Hashable:
    """A value with the types of all that it holds: 0, 0.0 and False are equal, but what they compile to isn't."""
    if isinstance(x, tuple):
        return (type(x), *map(typed_key, x))
    if dataclasses.is_dataclass(x):
        return (type(x), *(typed_key(getattr(x, field.name)) for field in dataclasses.fields(x) if field.compare))
    return (type(x), x)


def is_immutable(x: Any) -> bool:
    """Whether `x` is equal to others that are made alike, with all that it holds, and can't change."""
    if getattr(type(x), "__hash__", None) is object.__hash__ or not _is_hashable(x):
        return False
    if isinstance(x, tuple | frozenset):
        return all(map(is_immutable, x))
    if dataclasses.is_dataclass(x):
        return all(is_immutable(getattr(x, field.name)) for field in dataclasses.fields(x) if field.compare)
    return True


def _is_hashable(x: object) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True
