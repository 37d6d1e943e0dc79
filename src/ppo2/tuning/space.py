"""Spaces: the settings that are searched, their values, and the parameters of a trial, which stand for them."""

import functools
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ppo2 import networks
from ppo2.config import Config, names, read_settings
from ppo2.config.settings_file import check_names
from ppo2.config.yaml_text import parsed
from ppo2.tuning.axes import FORMS, SCHEDULE, SCHEDULED, Axis, Choice, Range, axis_of, is_single, of_schedule

FILE = "spaces.yaml"
"""Beside this module: the space of each family."""
SEARCHABLE = (
    "num_envs", "nsteps", "nminibatches", "noptepochs", "lr", "cliprange", "value_cliprange", "gamma", "lam",
    "ent_coef", "vf_coef", "max_grad_norm", "target_kl", "bootstrap_truncated", "normalize_obs", "normalize_rewards",
    "network", "value_network", "action_dist",
)  # fmt: skip
"""Settings that a space may have, beside the arguments of the network."""
LEAST_UPDATES = 10
"""Updates that a training must have for a value of nsteps to be tried unasked."""


@dataclass(frozen=True)
class Space:
    """The settings that are searched.

    Attributes:
        axes: their values, by name.
        base: the settings of every trial where it has no others: those given, and the preset's.
        num_envs: number of environments where the settings have none.
    """

    axes: Mapping[str, Axis]
    base: Mapping[str, Any]
    num_envs: int = Config.num_envs

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
            has_it = _is_taken(name, self.base["network"])  # else it is of another network that is searched
            found |= axis.parameters_of(name, default(name, self.base) if has_it else axis.any_value)
        return found

    def settings(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a trial, arguments of `learn`."""
        searched = {name: axis.value_of(name, parameters) for name, axis in self.axes.items()}
        found = {**self.base, **searched}
        if "network" in searched:
            found = {name: value for name, value in found.items() if _is_taken(name, found["network"])}
        batch = (found.get("num_envs") or self.num_envs) * found.get("nsteps", Config.nsteps)
        block, most = batch // (found.get("shards") or 1), found.get("nminibatches", Config.nminibatches)
        if "nminibatches" in searched and most <= block:
            found["nminibatches"] = next(n for n in range(most, 0, -1) if block % n == 0)
        return found

    def plain(self) -> dict[str, Any]:
        """The space as a file has it."""
        return {name: axis.plain() for name, axis in self.axes.items()}


def space_of(
    given: Any,
    family: str,
    base: Mapping[str, Any],
    fixed: Mapping[str, Any],
    *,
    on_device: bool = False,
    num_envs: int = Config.num_envs,
) -> Space:
    """The space of a study.

    Args:
        given: the argument `space`: a file, settings by name, or None for that of the family.
        base: see `Space`.
        fixed: settings of `base` that are not searched.
        on_device: its trials train together in one program.
        num_envs: see `Space`.

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
        axes[name] = axis_of(where, name, value)
        if not _is_taken(name, base["network"]):
            continue
        mine = default(name, base)
        if isinstance(axes[name].values, Range) and not axes[name].schedules and name in SCHEDULED:
            kind, _ = of_schedule(mine)
            axes[name] = replace(axes[name], schedules=() if kind == "constant" else (kind,))
        try:
            axes[name] = axes[name].including(mine)
        except ValueError as error:
            raise ValueError(
                f"{where}: `{name}` (={value!r}) has to have the preset's value, with which the search begins, and "
                f"{error}: give a list of values, or `{name}` itself."
            ) from None
    if given is None:
        axes = _fitting(axes, base, num_envs)
    axes = {name: axis for name, axis in axes.items() if axis.schedules or not is_single(axis.values)}
    if not axes:
        raise ValueError(
            f"{where} has nothing to search: every setting in it was given a value, or has but one. Leave some of "
            f"{', '.join(found)} out of the arguments, or of the file that --config names."
            if found
            else f"{where} is empty: give it settings, each as {FORMS}."
        )
    return Space(axes, base, num_envs)


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


def _fitting(axes: Mapping[str, Axis], base: Mapping[str, Any], num_envs: int) -> dict[str, Axis]:
    """The axes without values of nsteps that leave too few updates, but for that of `base`."""
    found = dict(axes)
    axis = found.get("nsteps")
    if axis is not None and isinstance(axis.values, Choice):
        most = base["total_timesteps"] / ((base.get("num_envs") or num_envs) * LEAST_UPDATES)
        mine = default("nsteps", base)
        found["nsteps"] = replace(axis, values=Choice(tuple(n for n in axis.values.values if n <= most or n == mine)))
    return found


def _network_options(network: Any, searched: Any) -> set[str]:
    """The arguments of the network; where that is searched, those that any has."""
    values = searched.get("values") if isinstance(searched, Mapping) else searched
    several = values if isinstance(values, list | tuple) else [network]
    builders = [networks.check(one) for one in several if one in networks.known() or not isinstance(one, str)]
    return {name for builder in builders if builder is not None for name in networks.options(builder)}


def _is_taken(name: str, network: Any) -> bool:
    """True for a setting, and for an argument of this network."""
    return name in Config.__dataclass_fields__ or name in _network_options(network, None)


def listed(settings: Mapping[str, Any], names_: Sequence[str]) -> str:
    """Some settings in few words."""
    return ", ".join(f"{name} {_short(settings[name])}" for name in names_ if name in settings)


def _short(value: Any) -> str:
    if isinstance(value, str) and ":" in value:
        kind, number = of_schedule(value)
        return f"{kind}:{number:.3g}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
