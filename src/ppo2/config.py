"""The settings of a run: frozen, checked once, in one place."""

import dataclasses
import json
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from ppo2.distributions import ACTION_DISTS
from ppo2.numerics import schedules
from ppo2.numerics.schedules import ScheduleLike

PLACEHOLDER = "object"
"""The key that marks, in JSON, what no file can hold: `{"object": "what it was"}`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What `ppo2.learn` was told, but for the objects it acts on. The fields are its arguments; see there.

    Raises:
        ValueError: a setting out of its range, or two that don't fit together.
        TypeError: a setting of the wrong type.
    """

    env: object = None
    eval_env: object = None
    total_timesteps: int = 0
    num_envs: int = 8
    network: object = "mlp"
    network_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    value_network: object = None
    encoders: Mapping[str, Any] | None = None
    model_fn: object = None
    seed: int = 0
    nsteps: int = 2048
    ent_coef: float = 0.0
    lr: ScheduleLike = 3e-4
    vf_coef: float = 0.5
    max_grad_norm: float | None = 0.5
    gamma: float = 0.99
    lam: float = 0.95
    log_interval: int = 10
    nminibatches: int = 4
    noptepochs: int = 4
    cliprange: ScheduleLike = 0.2
    save_interval: int = 0
    normalize_obs: bool = False
    normalize_rewards: bool = False
    value_cliprange: ScheduleLike | None = "same"
    action_dist: str = "gaussian"
    target_kl: float | None = None
    bootstrap_truncated: bool = True
    eval_interval: int | None = None
    eval_episodes: int = 10
    shards: int = 1
    devices: int | None = None
    keep: int | None = None
    on_nonfinite: str = "raise"

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            if not (name in ("eval_interval", "keep", "devices") and getattr(self, name) is None):
                object.__setattr__(self, name, _whole(name, getattr(self, name), least))
        for name in ("ent_coef", "vf_coef", "gamma", "lam", "max_grad_norm", "target_kl"):
            value = getattr(self, name)
            if not (value is None and name in ("max_grad_norm", "target_kl")):
                object.__setattr__(self, name, _number(name, value))
        for name in ("normalize_obs", "normalize_rewards", "bootstrap_truncated"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}` (={getattr(self, name)!r}) must be True or False.")
        for name in ("lr", "cliprange", "value_cliprange"):
            value = getattr(self, name)
            if not (name == "value_cliprange" and (value is None or (isinstance(value, str) and value == "same"))):
                schedules.parse(value, name)
                object.__setattr__(self, name, float(value) if isinstance(value, numbers.Real) else value)
        if not isinstance(self.network_kwargs, Mapping):
            raise TypeError(f"`network_kwargs` (={self.network_kwargs!r}) must be a mapping of names to values.")
        if not (self.encoders is None or isinstance(self.encoders, Mapping)):
            raise TypeError(
                f"`encoders` (={self.encoders!r}) must be a mapping from paths in the observation to networks, such as "
                "{'camera': 'cnn_small'}."
            )
        if self.action_dist not in ACTION_DISTS:
            raise ValueError(f"`action_dist` (={self.action_dist!r}) must be {' or '.join(map(repr, ACTION_DISTS))}.")
        if self.on_nonfinite not in ("raise", "skip"):
            raise ValueError(f"`on_nonfinite` (={self.on_nonfinite!r}) must be 'raise' or 'skip'.")
        try:
            json.dumps(self.to_json(), allow_nan=False)
        except ValueError:
            raise ValueError(f"`network_kwargs` (={dict(self.network_kwargs)!r}) must be finite.") from None
        self._check_batch()

    def _check_batch(self) -> None:
        if self.num_envs % self.shards:
            raise ValueError(
                f"`shards` (={self.shards}) must divide `num_envs` (={self.num_envs}): each block of environments is "
                "shuffled apart, and all are of one size."
            )
        block = self.nbatch // self.shards
        if block % self.nminibatches:
            near = _divisors_near(self.nminibatches, block)
            blocks = f" / shards (={self.shards})" if self.shards > 1 else ""
            raise ValueError(
                f"`nminibatches` (={self.nminibatches}) must divide `num_envs * nsteps`{blocks} "
                f"(={self.num_envs} * {self.nsteps}{f' / {self.shards}' if blocks else ''} = {block}); "
                f"{' and '.join(map(str, near))} {'do' if len(near) > 1 else 'does'}."
            )
        if 0 < self.total_timesteps < self.nbatch:
            raise ValueError(
                f"`total_timesteps` (={self.total_timesteps}) is less than one batch of `num_envs * nsteps` "
                f"(={self.num_envs} * {self.nsteps} = {self.nbatch}), so that nothing would be learned: raise it, or "
                "lower `nsteps` or `num_envs`."
            )

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))

    @property
    def nbatch(self) -> int:
        """Steps in one rollout, over all environments."""
        return self.num_envs * self.nsteps

    @property
    def nupdates(self) -> int:
        return self.total_timesteps // self.nbatch

    def frac(self, update: int) -> float:
        """What is left of training before an update (counted from 1): the argument of schedules."""
        return 1.0 - (update - 1) / self.nupdates

    @property
    def trace(self) -> tuple[object, ...]:
        """The settings that compiled programs depend on; all others reach them as numbers."""
        return (
            self.nminibatches,
            self.noptepochs,
            self.shards,
            self.bootstrap_truncated,
            self.value_cliprange is None,
            self.action_dist,
            self.max_grad_norm is None,
            self.target_kl is None,
        )

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON; objects that a file can't hold as placeholders."""
        return {field.name: jsonable(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Config":
        """The inverse of `to_json`, for settings without placeholders (replace those first)."""
        return cls(**data)


_WHOLE = {
    "total_timesteps": 0,
    "num_envs": 1,
    "seed": 0,
    "nsteps": 1,
    "log_interval": 1,
    "nminibatches": 1,
    "noptepochs": 1,
    "save_interval": 0,
    "eval_interval": 1,
    "eval_episodes": 1,
    "shards": 1,
    "keep": 1,
    "devices": 1,
}


def _divisors_near(n: int, block: int) -> list[int]:
    """The next divisors of `block` below and above `n`, if they aren't too far to look for."""
    far = 10**5
    below = next((d for d in range(min(n, block), max(min(n, block) - far, 0), -1) if block % d == 0), 1)
    above = next((d for d in range(n, min(n + far, block) + 1) if block % d == 0), below if n > block else block)
    return sorted({below, above})


def _whole(name: str, value: Any, least: int) -> int:
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = None
    # 1e6 is a whole number as people write it; 2.5 and True are not.
    if isinstance(value, bool | str) or whole is None or (whole != value and name != "total_timesteps"):
        raise TypeError(f"`{name}` (={value!r}) must be a whole number.")
    if whole < least:
        raise ValueError(f"`{name}` (={value!r}) must be at least {least}.")
    return whole


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool | np.bool_ | str):
        raise TypeError(f"`{name}` (={value!r}) must be a number.")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` (={value!r}) must be a number.") from None
    unit = name in ("gamma", "lam")
    above_zero = name in ("max_grad_norm", "target_kl")
    if not math.isfinite(number) or number < 0 or (unit and number > 1) or (above_zero and number == 0):
        rule = "between 0 and 1" if unit else "above 0 (None switches it off)" if above_zero else "0 or more"
        raise ValueError(f"`{name}` (={value!r}) must be finite and {rule}.")
    return number


def jsonable(value: object) -> Any:
    """`value` if JSON can hold it, else a placeholder that says what it was."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    return {PLACEHOLDER: getattr(value, "__name__", type(value).__name__)}


def placeholder_in(name: str, value: object) -> Mapping[str, str] | None:
    """The placeholder that the setting `name`, read from JSON, is or (encoders) holds."""
    parts = value.values() if name == "encoders" and isinstance(value, Mapping) else [value]
    return next((part for part in parts if isinstance(part, Mapping) and is_placeholder(part)), None)


def is_placeholder(value: object) -> bool:
    """Whether `value`, read from JSON, stands for an object that the file could not hold."""
    return isinstance(value, Mapping) and set(value) == {PLACEHOLDER}
