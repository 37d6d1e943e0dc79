"""Arguments of a vector environment, checked; without JAX."""

from collections.abc import Sequence
from types import FrameType
from typing import Any

import numpy as np
from gymnasium.vector import VectorObservationWrapper, VectorWrapper

from ppo2.config.info_keys import end_keys
from ppo2.system.whole_numbers import is_whole

OWN_INFOS = ("final_obs", "final_info", "episode")
"""Entries of `infos` that a vector environment makes itself, as it does a mask `_key` for each `key`."""


def check_arguments(
    count: int, workers: int, groups: int, env_timeout: float, info_keys: Sequence[str], replay_limit: Any
) -> None:
    """Raises ValueError for an argument of `HostVectorEnv` that doesn't fit `count` environments."""
    if not is_whole(replay_limit) or replay_limit < 0:
        raise ValueError(f"`replay_limit` (={replay_limit!r}) must be a whole number of steps, 0 or more.")
    if isinstance(groups, bool) or groups not in (1, 2) or groups > count:
        raise ValueError(f"`groups` (={groups!r}) must be 1 or 2, of at least one environment each (of {count}).")
    most = count - 1 if groups == 1 else count // 2
    if not 0 <= workers <= most:
        raise ValueError(
            f"`workers` (={workers!r}) must be a whole number from 0 to {most}: each steps one of the {count} "
            f"environments at least{', of each group' if groups > 1 else ', and this process too'}."
        )
    if isinstance(env_timeout, bool | str | None) or not env_timeout > 0:
        raise ValueError(f"`env_timeout` (={env_timeout!r}) must be a number of seconds above 0.")
    if isinstance(info_keys, str) or not all(isinstance(key, str) for key in info_keys):
        raise ValueError(f"`info_keys` (={info_keys!r}) must be names, as in ('is_success',).")
    own = {*OWN_INFOS, *(f"_{key}" for key in (*OWN_INFOS, *info_keys))}
    if taken := sorted({*info_keys} & own):
        raise ValueError(f"`info_keys` names {taken[0]!r}, an entry that `infos` has for itself; leave it out.")


def check_info_keys(asked: Sequence[str], made_with: Sequence[str], name: str) -> None:
    """Raises ValueError where environments, the argument `name`, were made without some keys that are asked for."""
    if missing := [key for key in asked if key not in end_keys(made_with)]:
        raise ValueError(
            f"`info_keys` (={list(asked)!r}): `{name}` was made without {', '.join(map(repr, missing))}, which is said "
            f"when it is made: ppo2.make(..., info_keys={list(asked)!r})."
        )


def check_reset_mask(mask: Any, count: int) -> None:
    """Raises TypeError or ValueError where Gymnasium's vector environments do for options["reset_mask"]."""
    name = "`options['reset_mask']`"
    if not isinstance(mask, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, got {type(mask)}")
    if mask.shape != (count,):
        raise ValueError(f"{name} must have shape `({count},)`, got {mask.shape}")
    if mask.dtype != np.bool_:
        raise TypeError(f"{name} must have `dtype=np.bool_`, got {mask.dtype}")
    if not mask.any():
        raise ValueError(f"{name} must contain a boolean array with at least one True value, got reset_mask={mask}")


_ASKING: Any = VectorWrapper.metadata
"""The property by which wrappers read the metadata of what they wrap."""


def refuse_observation_wrapper(frame: FrameType | None) -> None:
    """Raises ValueError if an observation wrapper of Gymnasium is being made, which looks at the metadata first.

    Gymnasium would refuse the autoreset mode itself, without a remedy.

    Args:
        frame: the function that reads the metadata.
    """
    while frame is not None and frame.f_code is _ASKING.fget.__code__:
        frame = frame.f_back
    if frame is None or frame.f_code is not VectorObservationWrapper.__init__.__code__:
        return
    name = type(frame.f_locals.get("self")).__name__
    raise ValueError(
        f"{name} needs a vector environment whose autoreset_mode is NEXT_STEP or DISABLED; these environments reset in "
        "the same step (SAME_STEP), and it would never see an episode's last observation. Wrap each environment "
        f"instead: ppo2.make(lambda: gymnasium.wrappers.{name}(gymnasium.make(...)), num_envs=...)"
        f"{', or learn(normalize_obs=True), which saves the statistics.' if name == 'NormalizeObservation' else '.'}"
    )
