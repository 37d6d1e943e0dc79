"""The plan of a search: its arguments checked, the settings of the first trial, what it will cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ppo2 import envs, networks
from ppo2.config import Config, check_settings, names, separate_settings
from ppo2.config.secrets import check_none_would_be_saved
from ppo2.config.yaml_text import dumped
from ppo2.envs import DeviceVector
from ppo2.envs.families.registry import DEFAULT, IMAGES, family_with
from ppo2.envs.host.vec_env import is_made
from ppo2.training.construction import check_names
from ppo2.tuning.search import Budget
from ppo2.tuning.space import Space, space_of
from ppo2.tuning.trial import MARKS
from ppo2.tuning.verdict import FINALISTS, choice_seeds

NOT_TAKEN = (
    "load_path", "load_parts", "update_fn", "callbacks", "init_fn", "eval_interval", "save_interval", "keep",
)  # fmt: skip
"""Arguments of `learn` that a search can't give to its trainings."""
EPISODES, EPISODES_ON_DEVICE = 20, 64
"""Episodes in each evaluation of a trial, unless the caller says how many."""
MOST_TOGETHER = 16
"""Trials on a device environment that train together, unless the caller says how many."""


@dataclass(frozen=True)
class Plan:
    """A search, before anything is done.

    Attributes:
        space: the settings that are searched; its `base` has all others.
        family: name of the environment's family.
        on_device: the environment is in JAX.
        eval_env: argument of `learn`; None: `env`.
        eval_env_kwargs: argument of `learn`; None where there is none, or those of `env`.
        final_seeds: trainings of each side of the comparison.
    """

    env: Any
    space: Space
    family: str
    on_device: bool
    eval_env: Any
    eval_env_kwargs: Mapping[str, Any] | None
    episodes: int
    budget: Budget
    final_seeds: int

    @property
    def evaluates(self) -> bool:
        """True if trainings are evaluated as they go on: there are environments for that beside their own."""
        return not self.on_device and (self.eval_env is not None or not is_made(self.env))

    @property
    def most_at_once(self) -> int:
        """The most trainings that there can be at a time."""
        trials, seeds = self.budget.trials, self.budget.seeds
        if trials == 1:
            return seeds
        return max(trials * seeds, FINALISTS * choice_seeds(self.final_seeds), 2 * self.final_seeds)

    def together(self, parallel: int | str) -> int:
        """Trials on a device environment that train together."""
        if isinstance(parallel, int):
            return parallel
        return max(1, min(MOST_TOGETHER, math.ceil(self.budget.trials / 4)))

    def settings(self, seed: int) -> dict[str, Any]:
        """The settings by which a study goes on."""
        how = {"seed": seed, "seeds": self.budget.seeds, "eval_episodes": self.episodes}
        where = {"eval_env": self.eval_env, "eval_env_kwargs": self.eval_env_kwargs}
        return {"env": self.env, **how, **where, "settings": dict(self.space.base), "space": self.space.plain()}

    def lines(self, width: int, how: str) -> Sequence[str]:
        """Lines that say what will be done, and what it costs."""
        budget, timesteps = self.budget, int(self.space.base["total_timesteps"])
        places = choice_seeds(self.final_seeds)
        final = FINALISTS * places + 2 * self.final_seeds if budget.trials > 1 else 0
        compare = (
            f"up to {final} trainings on new seeds: {FINALISTS} best trials x {places}, then the best of them and the "
            f"preset x {self.final_seeds}"
        )
        trainings = budget.trials * budget.seeds + final
        seeds = f" x {budget.seeds} seeds" if budget.seeds > 1 else ""
        late = "" if budget.minutes is None else f", none of which begins after {budget.minutes:g} minutes"
        looks = f"{MARKS} evaluations or more" if self.evaluates else "one evaluation"
        looks += f" of {self.episodes} episodes"
        return (
            f"tune      {self.family} space of {len(self.space.axes)} settings: {', '.join(self.space.axes)}",
            f"search    {budget.trials} trials{seeds} of {timesteps:,} timesteps and {looks}, {width} at a time{late}"
            + ("; poor ones are given up early" if not self.on_device else ""),
            f"compare   {compare if final else 'nothing, as the only trial is the preset'}",
            f"cost      up to {trainings} trainings, {trainings * timesteps:,} timesteps, evaluations aside",
            *filter(None, [how]),
        )

    def listing(self) -> str:
        """The space, as a file has it."""
        rows = [f"{name}: {_flow(value)}" for name, value in self.space.plain().items()]
        return "\n".join(["# The space, as --space FILE takes it:", *rows])


def _flow(value: Any) -> str:
    """A value of a space in YAML, in one line."""
    if not isinstance(value, Mapping):
        return dumped(value)
    return "{" + ", ".join(f"{name}: {dumped(one)}" for name, one in value.items()) + "}"


def plan(env: Any, arguments: Mapping[str, Any], space: Any, budget: Budget, final_seeds: int) -> Plan:
    """The plan of a search.

    Args:
        arguments: given arguments of `learn`.

    Raises:
        ValueError, TypeError: they can't be, or the budget, or the space.
    """
    _check_budget(budget, final_seeds)
    given = dict(arguments)
    for name in NOT_TAKEN:
        if given.pop(name, None):
            raise ValueError(f"`{name}` is of no use in a search: leave it out, or call learn.")
    for name in ("env_kwargs", "eval_env_kwargs", "num_envs", "shards"):
        if name in given and given[name] is None:
            del given[name]
    _check_single(given)
    given |= check_settings({name: value for name, value in given.items() if name in _CHECKED})
    eval_env, episodes = given.pop("eval_env", None), given.pop("eval_episodes", None)
    eval_env_kwargs = given.pop("eval_env_kwargs", None)
    if eval_env is None and eval_env_kwargs:
        told = f"`eval_env_kwargs` (={dict(eval_env_kwargs)!r})"
        raise ValueError(f"{told} is for `eval_env`, which is None: give both, or neither.")
    on_device = _is_on_device(env)
    alone = [name for name in ("log", "video_interval") if on_device and given.get(name)]
    if alone:
        raise ValueError(
            f"`{alone[0]}` (={given[alone[0]]!r}) is for trainings by themselves: on a device environment many train "
            "in one program. Leave it out."
        )
    preset = envs.preset(env, given.get("env_kwargs"))
    family = _family(env, preset)
    base = _base(preset, given)
    found = space_of(space, family, base, given, on_device=on_device, num_envs=_num_envs(env))
    network_kwargs = separate_settings(base)[1]
    check_none_would_be_saved({**base, "network_kwargs": network_kwargs, "eval_env_kwargs": eval_env_kwargs})
    check_names(base["network"], network_kwargs, base)
    few = EPISODES_ON_DEVICE if on_device else EPISODES
    return Plan(env, found, family, on_device, eval_env, eval_env_kwargs, episodes or few, budget, final_seeds)


_CHECKED = frozenset({*Config.__dataclass_fields__} - {"seed", "env", "network"})


def _base(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the first trial: those given, and the preset's, of which another network has not all."""
    base = {"network": Config.network, **preset, **given}
    builder = networks.check(base["network"])
    taken = {*Config.__dataclass_fields__, *given, *(networks.options(builder) if builder is not None else ())}
    base = {name: value for name, value in base.items() if name in taken}
    base["total_timesteps"] = check_settings({"total_timesteps": base["total_timesteps"]})["total_timesteps"]
    return base


def _family(env: Any, preset: Mapping[str, Any]) -> str:
    env_id = env if isinstance(env, str) else getattr(getattr(env, "spec", None), "id", None)
    if isinstance(env_id, str):
        return family_with(env_id, preset).name
    has_images = preset.get("encoders") or preset["network"] == IMAGES.settings["network"]
    return IMAGES.name if has_images else DEFAULT.name


def _num_envs(env: Any) -> int:
    """The number of environments where `num_envs` isn't given."""
    if not (is_made(env) or isinstance(env, DeviceVector)):
        return Config.num_envs
    return int(getattr(env, "num_envs", 1))


def _is_on_device(env: Any) -> bool:
    return envs.is_on_device(env) or isinstance(env, DeviceVector)


def _check_single(given: Mapping[str, Any]) -> None:
    """Raises ValueError for settings that were given as several values, as `sweep` takes them."""
    several = [name for name in names() if isinstance(given.get(name), list | range)]
    if several:
        name = several[0]
        raise ValueError(
            f"`{name}` (={given[name]!r}) must be one value, which is then not searched; values to search are given in "
            f"`space`: space={{{name!r}: {list(given[name])!r}}}."
        )


def _check_budget(budget: Budget, final_seeds: int) -> None:
    counts = (("trials", budget.trials, 1), ("seeds", budget.seeds, 1), ("final_seeds", final_seeds, 2))
    for name, value, least in counts:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"`{name}` (={value!r}) must be a whole number.")
        if value < least:
            why = ", as one training says nothing of chance" if name == "final_seeds" else ""
            raise ValueError(f"`{name}` (={value!r}) must be at least {least}{why}.")
    minutes: Any = budget.minutes
    is_number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
    if minutes is not None and not (is_number and 0 < minutes < math.inf):
        raise ValueError(f"`time_limit` (={minutes!r}) must be a number of minutes above 0, or None for no limit.")
