"""Numbers that change over training, as functions of the remaining fraction.

`frac` is 1 - (update - 1) / nupdates: 1 at the first update, falling towards 0 (Baselines' convention).
"""

import math
import numbers
from collections.abc import Callable
from typing import TypeAlias

Schedule: TypeAlias = Callable[[float], float]
ScheduleLike: TypeAlias = float | str | Schedule
"""A number, text such as "linear:3e-4", or a function of `frac`."""


def constant(value: float) -> Schedule:
    """`value` at every update."""
    return lambda _frac: value


def linear(start: float) -> Schedule:
    """From `start` down to 0 in a straight line: start * frac."""
    return lambda frac: start * frac


def cosine(start: float) -> Schedule:
    """From `start` down to 0 along half a cosine: start * (1 - cos(pi frac)) / 2."""
    return lambda frac: start * 0.5 * (1.0 - math.cos(math.pi * frac))


KINDS: dict[str, Callable[[float], Schedule]] = {"constant": constant, "linear": linear, "cosine": cosine}


def parse(value: ScheduleLike, name: str = "schedule") -> Schedule:
    """The schedule that `value` means; `name` is the argument's name in errors.

    Raises:
        ValueError: text of another form, or a number that is negative or not finite.
        TypeError: neither number, text nor function.
    """
    if isinstance(value, str):
        return _from_text(value, name)
    if callable(value):
        _checked(value(1.0), name, where=" at frac=1")
        return lambda frac: _checked(value(frac), name, where=f" at frac={frac:.4g}")
    number: object = value  # NumPy's scalars are numbers too, which the annotation can't say
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(f"`{name}` (={value!r}) must be a number, text such as 'linear:3e-4', or a function of frac.")
    return constant(_checked(float(number), name))


def _from_text(text: str, name: str) -> Schedule:
    kind, colon, number = text.partition(":")
    if not colon:
        kind, number = "constant", text
    try:
        start = float(number)
    except ValueError:
        start = math.nan
    if kind not in KINDS or math.isnan(start):
        raise ValueError(
            f"`{name}` (={text!r}) is not a schedule: write a number, or one of "
            f"{', '.join(f'{kind}:NUMBER' for kind in KINDS)}, for example 'linear:3e-4'."
        )
    return KINDS[kind](_checked(start, name))


def _checked(number: float, name: str, where: str = "") -> float:
    number = float(number)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"`{name}` (={number}{where}) must be finite and not negative, for example 3e-4.")
    return number
