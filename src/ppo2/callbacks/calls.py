"""Callbacks as `learn` is given them: checks, names, and the moments that they are for."""

from collections.abc import Sequence
from typing import Any

from ppo2.callbacks.base import Callback


def checked_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """The argument `callbacks` of `learn`.

    Raises:
        TypeError: it is no list of callbacks; ValueError: one is in it twice, or has no such interval.
    """
    if isinstance(callbacks, Callback | type) or not isinstance(callbacks, Sequence):
        raise TypeError(
            f"`callbacks` (={callbacks!r}) must be a list of callbacks, as in [ppo2.callbacks.Freeze('trunk')]."
        )
    for callback in callbacks:
        if not isinstance(callback, Callback):
            hint = " A class isn't an object: call it." if isinstance(callback, type) else ""
            hint = hint or (" A function goes to `update_fn`." if callable(callback) else "")
            raise TypeError(
                f"`callbacks` holds {callback!r}, of type {type(callback).__name__}; it must be an object of a class "
                f"derived from ppo2.callbacks.Callback.{hint}"
            )
        if sum(one is callback for one in callbacks) > 1:
            raise ValueError(f"`callbacks` holds {callback!r} twice: give it once.")
    return tuple(callbacks)


def has_moment(callback: Callback, method: str) -> bool:
    """True if a callback does anything at a moment."""
    return method in vars(callback) or getattr(type(callback), method) is not getattr(Callback, method)


def never_called(callback: Callback) -> str:
    """Words about methods that look like moments and are none, or about a callback without any; "" otherwise."""
    names = [name for name in dir(Callback) if name.startswith("on_")]
    others = [name for name in dir(callback) if name.startswith("on_") and name not in names]
    others = [name for name in others if callable(getattr(callback, name, None))]
    if others:
        return f"{class_name(callback)} has {', '.join(others)}, which is no moment and never called by itself"
    if any(has_moment(callback, name) for name in names):
        return ""
    return f"{class_name(callback)} does nothing, as it has none of {', '.join(names)}"


def interval_of(callback: Callback) -> int:
    """The interval of a callback; 0 for None."""
    interval = callback.interval
    if interval is not None and (type(interval) is not int or interval < 1):
        raise ValueError(f"`interval` (={interval!r}) of {class_name(callback)} must be a number of updates, or None.")
    return interval or 0


def class_name(callback: Callback) -> str:
    """The name of a callback's class, for messages."""
    return type(callback).__name__


def type_name(callback: Callback) -> str:
    """The name of a callback's class with its module, by which its state is found again."""
    return f"{type(callback).__module__}.{type(callback).__qualname__}"
