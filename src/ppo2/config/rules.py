"""Rules of settings: which values are allowed, and the error for the others.

A rule checks a value and gives it in its own type (1e6 as a whole number, NumPy's numbers as Python's). It raises
TypeError for a value of a wrong type, ValueError for one out of range.
"""

import contextlib
import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

from ppo2.config.placeholders import decoded
from ppo2.numerics import schedules

Rule: TypeAlias = Callable[[str, Any], Any]
"""A function of a setting's name, for errors, and of the value."""


def whole(least: int, *, cut: bool = False) -> Rule:
    """A whole number of at least `least`; 1e6 is one, as people write it. `cut`: decimals are cut off."""

    def check(name: str, value: Any) -> int:
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if isinstance(value, bool | str) or number is None or (number != value and not cut):
            raise TypeError(f"`{name}` (={value!r}) must be a whole number{_no_quotes(value)}.")
        if number < least:
            raise ValueError(f"`{name}` (={value!r}) must be at least {least}.")
        return number

    return check


def number(most: float = math.inf, *, positive: bool = False) -> Rule:
    """A finite number of at least 0, or above 0 (`positive`), and at most `most`."""
    limits = "0 or more" if most == math.inf else f"between 0 and {most:g}"
    limits = "above 0 (None switches it off)" if positive else limits

    def check(name: str, value: Any) -> float:
        is_flag = isinstance(value, bool) or getattr(value, "dtype", None) == "bool"
        try:
            found = None if is_flag or isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            found = None
        if found is None:
            raise TypeError(f"`{name}` (={value!r}) must be a number{_no_quotes(value)}.")
        if not 0 <= found <= most or found == math.inf or (positive and found == 0):
            raise ValueError(f"`{name}` (={value!r}) must be finite and {limits}.")
        return found

    return check


def _no_quotes(value: Any) -> str:
    """The remedy for a number that was given as text."""
    with contextlib.suppress(TypeError, ValueError):
        return ", without quotes" if isinstance(value, str) and math.isfinite(float(value)) else ""
    return ""


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` (={value!r}) must be True or False.")
    return value


def schedule(*words: str) -> Rule:
    """A number, text or function of the remaining fraction (see `ppo2.numerics.schedules`), or one of `words`."""

    def check(name: str, value: Any) -> Any:
        if isinstance(value, str) and value in words:
            return value
        schedules.parse(value, name)
        return float(value) if isinstance(value, numbers.Real) else value

    return check


def one_of(literal: Any) -> Rule:
    """One of the words of a `Literal`."""

    def check(name: str, value: Any) -> str:
        if value not in get_args(literal):
            raise ValueError(f"`{name}` (={value!r}) must be {' or '.join(map(repr, get_args(literal)))}.")
        return str(value)

    return check


def mapping(meaning: str) -> Rule:
    """A mapping with text as keys; `meaning` says to what, for the error."""

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"`{name}` (={value!r}) must be a mapping {meaning}.")
        return value

    return check


def arguments(name: str, value: Any) -> dict[str, Any]:
    """A mapping from arguments' names to values of any type, also as `placeholders.coded` has it."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(
            f"`{name}` (={value!r}) must be a dict of arguments by name, as in {{'max_episode_steps': 50}}."
        )
    return {key: decoded(item) for key, item in value.items()}


def anything(_: str, value: Any) -> Any:
    """Any object; whoever uses it checks it."""
    return value


@dataclasses.dataclass(frozen=True)
class SettingInfo:
    """Facts about a setting beside its type and default.

    Attributes:
        rule: for values other than None.
        null: None is allowed.
        traced: its way into compiled programs as a number: "update" (`Hyperparameters`) or "rollout" (`Rollout`).
        static: compiled programs depend on its value.
        apart: runs of a sweep that differ in it are different programs, though it is traced.
        text: for a person.
    """

    rule: Rule
    null: bool
    traced: Literal["update", "rollout"] | None
    static: bool
    apart: bool
    text: str


def setting(
    default: Any,
    rule: Rule,
    text: str,
    *,
    null: bool = False,
    traced: Literal["update", "rollout"] | None = None,
    static: bool = False,
    apart: bool = False,
) -> Any:
    """The field of `Config` for a setting: see `SettingInfo`. A callable default makes one for each instance."""
    info = SettingInfo(rule=rule, null=null, traced=traced, static=static, apart=apart, text=text)
    given: dict[str, Any] = {"default_factory" if callable(default) else "default": default}
    return dataclasses.field(**given, metadata={"info": info})
