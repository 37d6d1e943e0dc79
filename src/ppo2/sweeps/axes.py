"""The axes of a sweep: settings that are given as several values, each of which is trained with."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ppo2 import networks
from ppo2.config import names

NOT_TAKEN = (
    "load_path", "load_parts", "update_fn", "callbacks", "init_fn", "eval_env", "eval_interval", "eval_episodes",
    "save_interval", "keep", "eval_env_kwargs",
)  # fmt: skip
NOT_SWEPT = (
    "env", "env_kwargs", "run_dir", "verbose", "progress", "device", "parallel", "backend",
    "video_interval", "video_envs", "video_steps",
)  # fmt: skip


def axes_of(arguments: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The arguments to sweep over: those that were given as several values."""
    axes: dict[str, list[Any]] = {}
    for name, values in arguments.items():
        if not isinstance(values, list | range | np.ndarray | jax.Array) or _is_one_value(name, values, arguments):
            continue
        if name in ("info_keys", "log"):  # lists by themselves
            continue
        if name in NOT_SWEPT:
            raise ValueError(f"`{name}` (={values!r}) can't be swept over: expected one value, found {len(values)}.")
        listed = list(values) if isinstance(values, list | range) else np.atleast_1d(values).tolist()
        if not listed:
            raise ValueError(f"`{name}` (={values!r}) is empty: expected at least one value to sweep over.")
        several = (list, range, dict, np.ndarray, *([tuple] if name in names(together=True) else []))
        for value in listed:
            if isinstance(value, several):
                raise ValueError(
                    f"`{name}` is swept over {values!r}: expected single values, found {value!r}, a "
                    f"{type(value).__name__}."
                )
        if len(set(map(repr, listed))) < len(listed):
            raise ValueError(f"`{name}` (={values!r}) holds a value twice: the same run would be trained twice.")
        axes[name] = listed
    return axes


def announcement(axes: Mapping[str, Sequence[Any]], timesteps: Sequence[int]) -> str:
    """The line that announces a sweep, of runs of so many timesteps."""
    several = {name: len(values) for name, values in axes.items() if len(values) > 1}
    words = [f"{count} {'seeds' if name == 'seed' else f'values of {name}'}" for name, count in several.items()]
    count = f"{' x '.join(words)} = {len(timesteps)} runs" if words else "one run"
    return f"sweep     {count} of {sum(timesteps) // len(timesteps):,} timesteps"


def _is_one_value(name: str, values: Any, arguments: Mapping[str, Any]) -> bool:
    """True if a list is one value of an argument of the network that is a list itself, such as `convs`."""
    network = arguments.get("network", "mlp")
    builder = networks.known().get(network) if isinstance(network, str) else network
    option = networks.options(builder).get(name) if callable(builder) else None
    return option is not None and isinstance(option.default, tuple) and _depth(values) <= _depth(option.default)


def _depth(value: Any) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list | tuple) else 0
