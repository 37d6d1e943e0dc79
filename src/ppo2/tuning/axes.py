"""Axes of a space: the values of one setting, and the parameters of a trial that stand for them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ppo2.config import Config, check_settings

SCHEDULES = ("constant", "linear", "cosine")
SCHEDULED = ("lr", "cliprange", "value_cliprange")
SCHEDULE = "_schedule"
"""End of the name of the parameter that says which schedule a number has."""
DIGITS = 3
"""Significant digits of numbers between two, or of their share of the range where that is finer."""
FORMS = "a list of values, or {low: A, high: B}, with log: true and, for lr and cliprange, schedule: [constant, linear]"


class Choice(NamedTuple):
    """A parameter that is one of some values."""

    values: tuple[Any, ...]


class Range(NamedTuple):
    """A parameter that is a number between two; a whole one where both are."""

    low: float
    high: float
    log: bool

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Axis:
    """The values of one setting.

    Attributes:
        schedules: kinds of schedule that a number may have; (): the setting is the value itself.
    """

    values: Choice | Range
    schedules: tuple[str, ...] = ()

    def including(self, value: Any) -> "Axis":
        """The axis, widened to have this value of the setting too."""
        kind, plain = of_schedule(value) if self.schedules else ("constant", value)
        schedules = self.schedules if not self.schedules or kind in self.schedules else (*self.schedules, kind)
        values = self.values
        if isinstance(values, Choice):
            is_there = any(_same(plain, one) for one in values.values)
            return Axis(values if is_there else Choice((*values.values, plain)), schedules)
        if not is_number(plain) or (values.log and plain <= 0) or (values.is_whole and plain != int(plain)):
            raise ValueError(f"{plain!r} is no number of the range from {values.low:g} to {values.high:g}")
        plain = int(plain) if values.is_whole else float(plain)
        return Axis(Range(min(values.low, plain), max(values.high, plain), values.log), schedules)

    def parameters_of(self, name: str, value: Any) -> dict[str, Any]:
        """The parameters that stand for a value."""
        kind, plain = of_schedule(value) if self.schedules else ("constant", value)
        if isinstance(self.values, Choice):
            plain = next(one for one in self.values.values if _same(plain, one))
        elif self.values.is_whole:
            plain = int(plain)
        found = {name: plain}
        return found if len(self.schedules) < 2 else {**found, name + SCHEDULE: kind}

    def value_of(self, name: str, parameters: Mapping[str, Any]) -> Any:
        """The value that parameters stand for."""
        plain = parameters[name]
        if isinstance(self.values, Range) and not self.values.is_whole:
            plain = _rounded(plain, self.values)
        kind = parameters.get(name + SCHEDULE, next(iter(self.schedules), "constant"))
        return plain if kind == "constant" or not is_number(plain) else f"{kind}:{plain!r}"

    @property
    def any_value(self) -> Any:
        """A value that the setting may have."""
        return self.values.values[0] if isinstance(self.values, Choice) else self.values.low

    def plain(self) -> Any:
        """The axis as a file of a space has it."""
        more: dict[str, Any] = {"schedule": list(self.schedules)} if self.schedules else {}
        if isinstance(self.values, Choice):
            return {"values": list(self.values.values), **more} if more else list(self.values.values)
        return {"low": self.values.low, "high": self.values.high, "log": self.values.log, **more}


def axis_of(where: str, name: str, value: Any) -> Axis:
    """The axis that a value in a space means.

    Raises:
        ValueError: it means none.
    """
    told = f"{where}: `{name}` (={value!r})"
    form = {"values": list(value)} if isinstance(value, list | tuple | range) else value
    if not isinstance(form, Mapping) or set(form) - {"values", "low", "high", "log", "schedule"}:
        raise ValueError(f"{told} must be {FORMS}.")
    schedules = form.get("schedule", ())
    if not isinstance(schedules, list | tuple) or set(schedules) - {*SCHEDULES}:
        raise ValueError(f"{told}: `schedule` must be a list of {', '.join(SCHEDULES)}.")
    if schedules and name not in SCHEDULED:
        raise ValueError(f"{told}: `schedule` is for {', '.join(SCHEDULED)}.")
    values = _choice(told, form) if "values" in form else _range(told, form)
    for one in values.values if isinstance(values, Choice) else values[:2]:
        if name in Config.__dataclass_fields__:
            try:
                check_settings({name: one})
            except (ValueError, TypeError) as error:
                raise ValueError(f"{told}: {error}") from None
    return Axis(values, tuple(schedules))


def _choice(told: str, form: Mapping[str, Any]) -> Choice:
    values = form["values"]
    if {"low", "high", "log"} & set(form) or not isinstance(values, list | tuple | range) or not values:
        raise ValueError(f"{told} must be {FORMS}.")
    if any(not isinstance(one, bool | int | float | str | None) for one in values):
        raise ValueError(f"{told} must have single values: numbers, text, true, false or null.")
    if len(set(map(repr, values))) < len(values):
        raise ValueError(f"{told} has a value twice.")
    return Choice(tuple(values))


def _range(told: str, form: Mapping[str, Any]) -> Range:
    low, high, log = form.get("low"), form.get("high"), form.get("log", False)
    if not (is_number(low) and is_number(high) and isinstance(log, bool)):
        raise ValueError(f"{told} must be {FORMS}.")
    assert low is not None
    assert high is not None
    if not low < high:
        raise ValueError(f"{told}: `low` must be below `high`.")
    if log and low <= 0:
        raise ValueError(f"{told}: with log: true `low` must be above 0; a list may have 0 among other values.")
    whole = isinstance(low, int) and isinstance(high, int)
    return Range(low, high, log) if whole else Range(float(low), float(high), log)


def of_schedule(value: Any) -> tuple[str, Any]:
    """The kind of a schedule, and its number."""
    if isinstance(value, str) and ":" in value:
        kind, _, number = value.partition(":")
        return kind, float(number)
    return "constant", value


def _rounded(number: float, values: Range) -> float:
    """A number of a range with few digits, but as many as tell it from its neighbours, and still in the range."""
    digits = DIGITS - 1 - math.floor(math.log10(abs(number))) if number else 0
    found = round(number, max(digits, DIGITS - math.ceil(math.log10(values.high - values.low))))
    return float(min(max(found, values.low), values.high))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b if not (is_number(a) and is_number(b)) else float(a) == float(b)


def is_single(values: Choice | Range) -> bool:
    return isinstance(values, Choice) and len(values.values) == 1
