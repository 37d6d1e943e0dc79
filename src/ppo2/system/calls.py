"""Arguments that a function takes, and errors for others: one sentence with the remedy, before anything is done."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def takes(function: Any, count: int) -> bool:
    """True if a function can be called with so many arguments by position; False if it says nothing about itself."""
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def told_plainly(example: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: a call without an argument that must be given, with an unknown one, or with more by position than
    there are, raises a TypeError in plain words.

    Args:
        example: a right call, to be shown.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def told(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                words = _fault(signature.parameters, args, kwargs) or f"{error}."
                raise TypeError(f"{function.__name__}(): {words} A right call is {example}.") from None
            return function(*args, **kwargs)

        return told

    return decorate


def _fault(parameters: Mapping[str, inspect.Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The fault of a call, in words; "" if it is another than those known here."""
    by_position = [name for name, parameter in parameters.items() if parameter.kind in BY_POSITION]
    if len(args) > len(by_position):
        if not by_position:
            return "its arguments are given by name."
        listed = ", ".join(f"`{name}`" for name in by_position)
        return f"{listed} can be given by position, and {len(args)} values were; all others are given by name."
    given = {*by_position[: len(args)], *kwargs}
    several = [parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()]
    for name in [] if any(several) else [name for name in kwargs if name not in parameters]:
        close = difflib.get_close_matches(name, [known for known in parameters if known not in given], n=1)
        return f"`{name}` is no argument of it" + (f"; did you mean `{close[0]}`?" if close else ".")
    for name, parameter in parameters.items():
        is_one = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if is_one and parameter.default is parameter.empty and name not in given:
            return f"`{name}` is missing."
    return ""
