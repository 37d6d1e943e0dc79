"""Rules of settings: which values are allowed, and the error for the others."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np

from ppo2.numerics import schedules


class Rule(Protocol):
    """Checks a value, and gives it in its own type (1e6 as a whole number, NumPy's numbers as Python's)."""

    def check(self, name: str, value: Any) -> Any:
        """The value of the setting `name`.

        Raises:
            TypeError: it is of a wrong type.
            ValueError: it is out of range.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number of at least `least`; 1e6 is one, as people write it. `cut`: decimals are cut off."""

    least: int
    cut: bool = False

    def check(self, name: str, value: Any) -> int:
        try:
            whole = int(value)
        except (TypeError, ValueError, OverflowError):
            whole = None
        if isinstance(value, bool | str) or whole is None or (whole != value and not self.cut):
            raise TypeError(f"`{name}` (={value!r}) must be a whole number.")
        if whole < self.least:
            raise ValueError(f"`{name}` (={value!r}) must be at least {self.least}.")
        return whole


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number of at least 0, or above 0 (`positive`), and at most `most`."""

    most: float = math.inf
    positive: bool = False

    def check(self, name: str, value: Any) -> float:
        if isinstance(value, bool | np.bool_ | str):
            raise TypeError(f"`{name}` (={value!r}) must be a number.")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"`{name}` (={value!r}) must be a number.") from None
        if not 0 <= number <= self.most or number == math.inf or (self.positive and number == 0):
            limits = "0 or more" if self.most == math.inf else f"between 0 and {self.most:g}"
            limits = "above 0 (None switches it off)" if self.positive else limits
            raise ValueError(f"`{name}` (={value!r}) must be finite and {limits}.")
        return number


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError(f"`{name}` (={value!r}) must be True or False.")
        return value


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A number, text or function of the remaining fraction (see `ppo2.numerics.schedules`), or one of `words`."""

    words: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and value in self.words:
            return value
        schedules.parse(value, name)
        return float(value) if isinstance(value, numbers.Real) else value


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of some words."""

    words: tuple[str, ...]

    def check(self, name: str, value: Any) -> str:
        if value not in self.words:
            raise ValueError(f"`{name}` (={value!r}) must be {' or '.join(map(repr, self.words))}.")
        return str(value)


@dataclasses.dataclass(frozen=True)
class MappingTo:
    """A mapping with text as keys; `meaning` says to what, for the error."""

    meaning: str

    def check(self, name: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError(f"`{name}` (={value!r}) must be a mapping {self.meaning}.")
        return value


@dataclasses.dataclass(frozen=True)
class Anything:
    """Any object; whoever uses it checks it."""

    def check(self, name: str, value: Any) -> Any:
        return value


@dataclasses.dataclass(frozen=True)
class Use:
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
    """The field of `Config` for a setting: see `Use`. A callable default makes one for each instance."""
    use = Use(rule=rule, null=null, traced=traced, static=static, apart=apart, text=text)
    if callable(default):
        return dataclasses.field(default_factory=default, metadata={"use": use})
    return dataclasses.field(default=default, metadata={"use": use})
