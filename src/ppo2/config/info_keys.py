"""Keys of `info` whose numbers are recorded at episodes' ends."""

from collections.abc import Iterable, Sequence
from typing import Any

IS_SUCCESS = "is_success"
"""Key that is recorded without being asked for."""
MONITOR_COLUMNS = ("r", "l", "t", "env")
"""Columns of monitor.csv that every run has, whose names no other figure of an episode can have."""


def entries(name: str, value: Any) -> tuple[str, ...]:
    """Keys of `info`: different names, none of which is a column of monitor.csv."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"`{name}` (={value!r}) must be a list of names, as in ['is_success'].")
    keys = tuple(value)
    if not all(isinstance(key, str) and key for key in keys):
        raise TypeError(f"`{name}` (={value!r}) must be a list of names, as in ['is_success'].")
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"`{name}` (={value!r}) names {twice[0]!r} twice: name it once.")
    if taken := sorted(set(keys) & set(MONITOR_COLUMNS)):
        raise ValueError(
            f"`{name}` (={value!r}) names {taken[0]!r}, which is a column of monitor.csv already: give it another name "
            "in `info`."
        )
    return keys


def end_keys(info_keys: Sequence[str]) -> tuple[str, ...]:
    """The keys that are recorded: those asked for, and `is_success`."""
    return (*info_keys, *(() if IS_SUCCESS in info_keys else (IS_SUCCESS,)))
