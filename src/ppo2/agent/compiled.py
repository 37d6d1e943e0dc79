"""Compiled programs, shared by all models that compile to the same thing: a second training compiles nothing."""

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ppo2.agent.model import Model

P = TypeVar("P")


class Programs:
    """A cache of compiled programs.

    Args:
        capacity: number of programs that are kept; the one that was used longest ago goes first.
    """

    def __init__(self, capacity: int = 48) -> None:
        self._capacity = capacity
        self._programs: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], P]) -> P:
        """The program of `key`; `make()` if there is none."""
        if key not in self._programs:
            self._programs[key] = make()
            if len(self._programs) > self._capacity:
                self._programs.popitem(last=False)
        self._programs.move_to_end(key)
        program: P = self._programs[key]
        return program

    def __iter__(self) -> Iterator[Any]:
        """The programs."""
        return iter(self._programs.values())


SHARED = Programs()
"""The programs of all models that others may share."""


def program(model: "Model", make: Callable[..., P], *arguments: Any) -> P:
    """`make(model, *arguments)`, made once for all models that compile to the same thing.

    `make` may use all of the model but its state, which is an argument of whatever it compiles. Its other arguments
    are compared. An argument that only equals itself, such as a user's environment, may change between two trainings,
    so that its programs stay this model's own.
    """
    identity = model.trace_identity()
    shared = identity is not None and all(map(is_immutable, arguments))
    key = (make, identity, *map(typed_key if shared else identity_key, arguments))
    return (SHARED if shared else model.own_programs).get(key, lambda: make(without_state(model), *arguments))


def without_state(model: "Model") -> "Model":
    """A copy of a model without what programs must not keep alive: arrays, environments, other programs."""
    copied = copy.copy(model)
    del copied.state, copied.own_programs
    copied.config = dataclasses.replace(model.config, env=None, eval_env=None, model_fn=None)
    return copied


def is_immutable(x: Any) -> bool:
    """True if `x`, with all that it holds, can't change and equals others that are made alike."""
    if getattr(type(x), "__hash__", None) is object.__hash__ or not is_hashable(x):
        return False
    if isinstance(x, tuple | frozenset):
        return all(map(is_immutable, x))
    if dataclasses.is_dataclass(x):
        return all(is_immutable(getattr(x, field.name)) for field in dataclasses.fields(x) if field.compare)
    return True


def typed_key(x: Any) -> Hashable:
    """A key of a value with the types of all that it holds: 0, 0.0 and False are equal, but compile to other things."""
    if isinstance(x, tuple):
        return (type(x), *map(typed_key, x))
    if dataclasses.is_dataclass(x):
        return (type(x), *(typed_key(getattr(x, field.name)) for field in dataclasses.fields(x) if field.compare))
    return (type(x), x)


class _Identity:
    """A key that equals only the key of the same object, which it keeps alive."""

    def __init__(self, x: object) -> None:
        self._x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._x is other._x

    def __hash__(self) -> int:
        return id(self._x)


def identity_key(x: Any) -> Hashable:
    """`x` itself, or a key of this very object where it has no hash."""
    return x if is_hashable(x) else _Identity(x)


def is_hashable(x: object) -> bool:
    """True if `x` has a hash."""
    try:
        hash(x)
    except TypeError:
        return False
    return True
