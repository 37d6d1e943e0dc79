"""Compiled programs, shared by all models that compile to the same thing: a second training compiles nothing."""

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from ppo2.numerics.compilation import chosen_place

if TYPE_CHECKING:
    from ppo2.agent.model import Model

P = TypeVar("P")


Programs = OrderedDict[Hashable, Any]
"""Compiled programs by what they were made from; the last is the one that was used last."""

SHARED: Programs = OrderedDict()
"""The programs of all models that others may share."""
MOST_PROGRAMS = 48
"""Number of programs that are kept; the one that was used longest ago goes first."""


def program(model: "Model", make: Callable[..., P], *arguments: Any) -> P:
    """`make(model, *arguments)`, made once for all models that compile to the same thing.

    `make` may use all of the model but its state, which is an argument of whatever it compiles. Its other arguments
    are compared. An argument that only equals itself, such as a user's environment, may change between two trainings,
    so that its programs stay this model's own. Each place has programs of its own (`computing_on`), and so has each
    choice of frozen parameters, which may change between two updates.
    """
    identity = model.trace_identity()
    shared = identity is not None and all(map(is_immutable, arguments))
    key = (make, identity, model.frozen, chosen_place(), *map(typed_key if shared else identity_key, arguments))
    programs = SHARED if shared else model.own_programs
    if key not in programs:
        programs[key] = make(without_state(model), *arguments)
        if len(programs) > MOST_PROGRAMS:
            programs.popitem(last=False)
    programs.move_to_end(key)
    found: P = programs[key]
    return found


def without_state(model: "Model") -> "Model":
    """A copy of a model without what programs must not keep alive: arrays, environments, other programs."""
    copied = copy.copy(model)
    del copied.state, copied.own_programs, copied._acting
    copied.config = dataclasses.replace(model.config, env=None, eval_env=None, eval_env_kwargs=None, model_fn=None)
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


def identity_key(x: Any) -> Hashable:
    """`x` itself or, where it has no hash, its identity: the program keeps `x` alive, so that no other takes its id."""
    return x if is_hashable(x) else ("id", id(x))


def is_hashable(x: object) -> bool:
    """True if `x` has a hash."""
    try:
        hash(x)
    except TypeError:
        return False
    return True
