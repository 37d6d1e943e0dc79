"""Verbosity: how much a call of this library says by itself, and where.

A call that is quiet prints nothing: its messages go to the logger "ppo2" of `logging`, plain ones as INFO, warnings as
WARNING. Where the program has set up no logging, Python prints warnings on standard error, so that nothing goes wrong
without a word.
"""

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LEVELS = {0: "prints nothing", 1: "the plan, and what is notable", 2: "progress too"}
"""Values of `verbose`."""

_QUIET: ContextVar[bool] = ContextVar("ppo2_quiet", default=False)
_KEPT: ContextVar["list[Message] | None"] = ContextVar("ppo2_kept", default=None)


class Message(NamedTuple):
    """A message for people: the arguments of `say_error`."""

    words: str
    prefix: str
    level: int


def is_quiet() -> bool:
    """True in a call that prints nothing."""
    return _QUIET.get()


def kept() -> list[Message] | None:
    """The messages that a `keeping` context has so far; None outside of one."""
    return _KEPT.get()


@contextlib.contextmanager
def keeping() -> Iterator[list[Message]]:
    """Context in which messages are kept, not said: the process that started this one says them, as loud as the call is
    there.
    """
    messages: list[Message] = []
    token = _KEPT.set(messages)
    try:
        yield messages
    finally:
        _KEPT.reset(token)


def log(text: object, level: int = logging.WARNING) -> None:
    """Passes a message to `logging`."""
    logging.getLogger("ppo2").log(level, "%s", str(text).removeprefix("warning: "))


def check_verbose(verbose: Any) -> int:
    """The level that an argument means; True is 1, False is 0.

    Raises:
        ValueError: no such level.
    """
    if not isinstance(verbose, int) or verbose not in LEVELS:
        known = ", ".join(f"{level} ({words})" for level, words in LEVELS.items())
        raise ValueError(f"`verbose` (={verbose!r}) must be one of {known}.")
    return int(verbose)


@contextlib.contextmanager
def speaking(verbose: Any) -> Iterator[int]:
    """Context of a call with this `verbose`; gives the level that holds: 0 inside a call that is quiet.

    Raises:
        ValueError: see `check_verbose`.
    """
    level = 0 if is_quiet() else check_verbose(verbose)
    token = _QUIET.set(level == 0)
    try:
        yield level
    finally:
        _QUIET.reset(token)


def spoken(function: Callable[P, R]) -> Callable[P, R]:
    """A function that runs in the context of its keyword `verbose`, and gets the level that holds."""
    default = inspect.signature(function).parameters["verbose"].default

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with speaking(kwargs.get("verbose", default)) as level:
            kwargs["verbose"] = level
            return function(*args, **kwargs)

    return call
