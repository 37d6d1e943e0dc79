"""State of callbacks as a checkpoint holds it: JSON, and arrays beside it; nothing in it can run."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ppo2.checkpoints.checkpoint import Checkpoint, Tensors

CALLBACKS = "callbacks/"
"""Beginning of the names of tensors that are callbacks'."""
STORABLE_KINDS = "biuf"
"""Kinds of dtypes of arrays that a checkpoint holds."""


class SavedState(NamedTuple):
    """The state of a callback in a checkpoint.

    Attributes:
        type: name of its class, with the module.
        stored: see `to_stored`.
    """

    type: str
    stored: Any

    def state(self, saved: Checkpoint) -> Any:
        """Returns what `state_dict` did.

        Raises:
            ValueError: it is damaged.
        """
        try:
            return from_stored(self.stored, saved.tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{saved.path} has a damaged state of {self.type} ({error}): take an earlier one."
            ) from error


def saved_states(saved: Checkpoint, rank: int) -> list[SavedState]:
    """The states of the callbacks of a process; where there was none of this rank, of the first one.

    Raises:
        ValueError: they are damaged.
    """
    parts = saved.section("run").get("callbacks") or [[]]
    try:
        return [SavedState(str(entry["type"]), entry["state"]) for entry in parts[rank if rank < len(parts) else 0]]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{saved.path} has damaged states of callbacks: take an earlier checkpoint.") from error


def to_stored(state: Any, prefix: str) -> tuple[Any, Tensors]:
    """A state as JSON, and its arrays by names that begin with `prefix`.

    Raises:
        TypeError: a part of it is none of what a file without code can hold.
    """
    tensors: Tensors = {}
    return _stored(state, "state", prefix, tensors), tensors


def from_stored(stored: Any, tensors: Mapping[str, Any]) -> Any:
    """The inverse of `to_stored`; arrays are copies.

    Raises:
        KeyError, TypeError, ValueError: it isn't what `to_stored` gives.
    """
    match stored:
        case {"array": name, **rest} if not rest:
            return np.array(tensors[name])
        case {"float": text, **rest} if not rest:
            return float(text)
        case {"dict": parts, **rest} if not rest:
            return {str(key): from_stored(value, tensors) for key, value in parts.items()}
        case {"tuple": parts, **rest} if not rest:
            return tuple(from_stored(part, tensors) for part in parts)
        case list():
            return [from_stored(part, tensors) for part in stored]
        case None | bool() | int() | float() | str():
            return stored
    raise TypeError(f"{stored!r:.100} is no state")


def _stored(value: Any, where: str, prefix: str, tensors: Tensors) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        parts = {key: _stored(part, f"{where}[{key!r}]", prefix, tensors) for key, part in value.items()}
        return {"dict": parts}
    if type(value) in (list, tuple):
        listed = [_stored(part, f"{where}[{i}]", prefix, tensors) for i, part in enumerate(value)]
        return listed if isinstance(value, list) else {"tuple": listed}
    if _is_array(value):
        array = np.asarray(value)
        if array.dtype.kind in STORABLE_KINDS and array.dtype.isnative and array.dtype.itemsize <= 8:
            name = f"{prefix}{len(tensors)}"
            tensors[name] = np.array(array)
            return {"array": name}
    raise TypeError(
        f"{where} is {value!r:.100}, of type {type(value).__name__}; a checkpoint holds numbers, text, None, arrays of "
        "numbers, and lists and dicts (by text) of these, as it has no code."
    )


def _is_array(value: Any) -> bool:
    """True for NumPy's arrays, and JAX's but for keys."""
    return isinstance(value, np.ndarray) or (hasattr(value, "__array__") and getattr(value, "dtype", None) is not None)
