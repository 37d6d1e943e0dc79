"""Spaces: the settings that are searched, their values, and the parameters of a trial, which stand for them."""

import functools
import importlib.resources
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ppo2 import networks
from ppo2.config import Config, check_settings, names, read_settings
from ppo2.config.settings_file import check_names
from ppo2.config.yaml_text import parsed

FILE = "spaces.yaml"
"""Beside this module: the space of each family."""
SEARCHABLE = (
    "num_envs", "nsteps", "nminibatches", "noptepochs", "lr", "cliprange", "value_cliprange", "gamma", "lam",
    "ent_coef", "vf_coef", "max_grad_norm", "target_kl", "bootstrap_truncated", "normalize_obs", "normalize_rewards",
    "network", "value_network", "action_dist",
)  # fmt: skip
"""Settings that a space may have, beside the arguments of the network."""
SCHEDULES = ("constant", "linear", "cosine")
SCHEDULED = ("lr", "cliprange", "value_cliprange")
SCHEDULE = "_schedule"
"""End of the name of the parameter that says which schedule a number has."""
DIGITS = 3
"""Significant digits of numbers between two."""
LEAST_UPDATES = 10
"""Updates that a training must have for a value of nsteps to be tried unasked."""
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
        kind, plain = _of_schedule(value) if self.schedules else ("constant", value)
        schedules = self.schedules if not self.schedules or kind in self.schedules else (*self.schedules, kind)
        values = self.values
        if isinstance(values, Choice):
            is_there = any(_same(plain, one) for one in values.values)
            return Axis(values if is_there else Choice((*values.values, plain)), schedules)
        if not _is_number(plain) or (values.log and plain <= 0) or (values.is_whole and plain != int(plain)):
            raise ValueError(f"{plain!r} is no number of the range from {values.low:g} to {values.high:g}")
        plain = int(plain) if values.is_whole else float(plain)
        return Axis(Range(min(values.low, plain), max(values.high, plain), values.log), schedules)

    def parameters_of(self, name: str, value: Any) -> dict[str, Any]:
        """The parameters that stand for a value."""
        kind, plain = _of_schedule(value) if self.schedules else ("constant", value)
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
            plain = float(f"{plain:.{DIGITS}g}")
        kind = parameters.get(name + SCHEDULE, next(iter(self.schedules), "constant"))
        return plain if kind == "constant" or not _is_number(plain) else f"{kind}:{plain!r}"

    def plain(self) -> Any:
        """The axis as a file of a space has it."""
        more: dict[str, Any] = {"schedule": list(self.schedules)} if self.schedules else {}
        if isinstance(self.values, Choice):
            return {"values": list(self.values.values), **more} if more else list(self.values.values)
        return {"low": self.values.low, "high": self.values.high, "log": self.values.log, **more}


@dataclass(frozen=True)
class Space:
    """The settings that are searched.

    Attributes:
        axes: their values, by name.
        base: the settings of every trial where it has no others: those given, and the preset's.
    """

    axes: Mapping[str, Axis]
    base: Mapping[str, Any]

    @property
    def parameters(self) -> dict[str, Choice | Range]:
        """The parameters of a trial, by name."""
        found: dict[str, Choice | Range] = {}
        for name, axis in self.axes.items():
            found[name] = axis.values
            if len(axis.schedules) > 1:
                found[name + SCHEDULE] = Choice(axis.schedules)
        return found

    @property
    def of_base(self) -> dict[str, Any]:
        """The parameters that stand for the settings of `base`."""
        found: dict[str, Any] = {}
        for name, axis in self.axes.items():
            found |= axis.parameters_of(name, default(name, self.base))
        return found

    def settings(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a trial, arguments of `learn`."""
        searched = {name: axis.value_of(name, parameters) for name, axis in self.axes.items()}
        found = {**self.base, **searched}
        if "network" in searched:
            found = {name: value for name, value in found.items() if _is_taken(name, found["network"])}
        batch = (found.get("num_envs") or Config.num_envs) * found.get("nsteps", Config.nsteps)
        block, most = batch // (found.get("shards") or 1), found.get("nminibatches", Config.nminibatches)
        if "nminibatches" in searched and most <= block:
            found["nminibatches"] = next(n for n in range(most, 0, -1) if block % n == 0)
        return found

    def plain(self) -> dict[str, Any]:
        """The space as a file has it."""
        return {name: axis.plain() for name, axis in self.axes.items()}


def space_of(
    given: Any, family: str, base: Mapping[str, Any], fixed: Mapping[str, Any], *, on_device: bool = False
) -> Space:
    """The space of a study.

    Args:
        given: the argument `space`: a file, settings by name, or None for that of the family.
        base: see `Space`.
        fixed: settings of `base` that are not searched.
        on_device: its trials train together in one program.

    Raises:
        ValueError: it has names or values that can't be; or there is nothing in it.
    """
    where = f"`space` (={os.fspath(given)!r})" if isinstance(given, str | os.PathLike) else "`space`"
    if given is None:
        found = {name: value for name, value in of_family(family).items() if _is_taken(name, base["network"])}
        together = names(together=True)
        found = {name: value for name, value in found.items() if not on_device or name in together}
    else:
        found = dict(_read(given))
        taken = {*SEARCHABLE, *_network_options(base["network"], found.get("network"))}
        check_names(where, found, taken, {name: default(name, base) for name in SEARCHABLE} | {"network": "mlp"})
    axes = {}
    for name, value in found.items():
        if name in fixed:
            continue
        axes[name], mine = _axis(where, name, value), default(name, base)
        if isinstance(axes[name].values, Range) and not axes[name].schedules and name in SCHEDULED:
            kind, _ = _of_schedule(mine)
            axes[name] = replace(axes[name], schedules=() if kind == "constant" else (kind,))
        try:
            axes[name] = axes[name].including(mine)
        except ValueError as error:
            raise ValueError(
                f"{where}: `{name}` (={value!r}) has to have the preset's value, with which the search begins, and "
                f"{error}: give a list of values, or `{name}` itself."
            ) from None
    if given is None:
        axes = _fitting(axes, base)
    axes = {name: axis for name, axis in axes.items() if axis.schedules or not _is_single(axis.values)}
    if not axes:
        raise ValueError(
            f"{where} has nothing to search: every setting in it was given a value, or has but one. Leave some of "
            f"{', '.join(found)} out of the arguments."
            if found
            else f"{where} is empty: give it settings, each as {FORMS}."
        )
    return Space(axes, base)


@functools.cache
def _families() -> Mapping[str, Mapping[str, Any]]:
    text = (importlib.resources.files(__package__) / FILE).read_text(encoding="utf-8")
    found: Mapping[str, Mapping[str, Any]] = parsed(text)
    return found


def of_family(family: str) -> dict[str, Any]:
    """The settings that are searched for a family, as the file has them."""
    mine = dict(_families().get(family, _families()["default"]))
    like = mine.pop("like", None)
    return mine if like is None else {**of_family(like), **mine}


def default(name: str, base: Mapping[str, Any]) -> Any:
    """The value of a setting in a training with the settings of `base`."""
    if name in base:
        return base[name]
    if name in Config.__dataclass_fields__:
        return Config.__dataclass_fields__[name].default
    builder = networks.check(base["network"])
    return None if builder is None else networks.options(builder)[name].default


def _read(given: Any) -> Mapping[str, Any]:
    if isinstance(given, str | os.PathLike):
        return read_settings(given)
    if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        return given
    raise TypeError(f"`space` (={given!r}) must be a file, or a dict of settings by name, each as {FORMS}.")


def _axis(where: str, name: str, value: Any) -> Axis:
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
    if not (_is_number(low) and _is_number(high) and isinstance(log, bool)):
        raise ValueError(f"{told} must be {FORMS}.")
    assert low is not None
    assert high is not None
    if not low < high:
        raise ValueError(f"{told}: `low` must be below `high`.")
    if log and low <= 0:
        raise ValueError(f"{told}: with log: true `low` must be above 0; a list may have 0 among other values.")
    whole = isinstance(low, int) and isinstance(high, int)
    return Range(low, high, log) if whole else Range(float(low), float(high), log)


def _fitting(axes: Mapping[str, Axis], base: Mapping[str, Any]) -> dict[str, Axis]:
    """The axes without values of nsteps that leave too few updates, but for that of `base`."""
    found = dict(axes)
    axis = found.get("nsteps")
    if axis is not None and isinstance(axis.values, Choice):
        most = base["total_timesteps"] / ((base.get("num_envs") or Config.num_envs) * LEAST_UPDATES)
        mine = default("nsteps", base)
        found["nsteps"] = replace(axis, values=Choice(tuple(n for n in axis.values.values if n <= most or n == mine)))
    return found


def _network_options(network: Any, searched: Any) -> set[str]:
    """The arguments of the network; where that is searched, those that any has."""
    several = searched if isinstance(searched, list | tuple) else [network]
    builders = [networks.check(one) for one in several if one in networks.known() or not isinstance(one, str)]
    return {name for builder in builders if builder is not None for name in networks.options(builder)}


def _is_taken(name: str, network: Any) -> bool:
    """True for a setting, and for an argument of this network."""
    return name in Config.__dataclass_fields__ or name in _network_options(network, None)


def _of_schedule(value: Any) -> tuple[str, Any]:
    """The kind of a schedule, and its number."""
    if isinstance(value, str) and ":" in value:
        kind, _, number = value.partition(":")
        return kind, float(number)
    return "constant", value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b if not (_is_number(a) and _is_number(b)) else float(a) == float(b)


def _is_single(values: Choice | Range) -> bool:
    return isinstance(values, Choice) and len(values.values) == 1


def listed(settings: Mapping[str, Any], names_: Sequence[str]) -> str:
    """Some settings in few words."""
    return ", ".join(f"{name} {_short(settings[name])}" for name in names_ if name in settings)


def _short(value: Any) -> str:
    if isinstance(value, str) and ":" in value:
        kind, number = _of_schedule(value)
        return f"{kind}:{number:.3g}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
