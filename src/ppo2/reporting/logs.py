"""Logs of a run: which formats it has, by `log` or by an environment variable."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppo2.config.logs import FORMATS, PACKAGES, check_installed

VARIABLE = "PPO2_LOG_FORMAT"
FILES = ("csv", "json", "tensorboard")
"""Formats that are files of the run directory."""


def formats_from_environment() -> frozenset[str]:
    """The formats to write: CSV, JSON lines, and those that `PPO2_LOG_FORMAT` names ("tensorboard,wandb").

    Raises:
        ValueError: an unknown format, or one whose package isn't installed.
    """
    asked = {name.strip().lower() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    if unknown := sorted(asked - {*FORMATS}):
        raise ValueError(f"{VARIABLE} names {', '.join(map(repr, unknown))}; known: {', '.join(FORMATS)}")
    check_installed(sorted(asked & PACKAGES.keys()), VARIABLE)
    return frozenset(asked | {"csv", "json"})


def chosen(log: Sequence[str], run_dir: Path | None) -> frozenset[str]:
    """The formats of a run: those of `log`, or of the environment variable, which is for runs with a directory."""
    if log:
        return frozenset({*log, "csv", "json"})
    return frozenset() if run_dir is None else formats_from_environment()


def unused(log: Sequence[str], log_options: Mapping[str, Any], run_dir: Path | None) -> list[str]:
    """The trackers that have options, and get nothing."""
    return sorted(log_options.keys() - chosen(log, run_dir))


def check(log: Sequence[str], run_dir: Path | None) -> None:
    """Raises ValueError for formats that can't be written here: a package is missing, or there is no directory."""
    if run_dir is None and (written := [name for name in log if name in FILES]):
        raise ValueError(
            f"`log` (={tuple(log)!r}) has {written[0]!r}, which is written into the run directory: give `run_dir`."
        )
    check_installed(log, "`log`")
    chosen(log, run_dir)
