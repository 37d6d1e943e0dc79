"""The directory of a study: its settings, by which the same call goes on with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppo2.checkpoints.addresses import SEARCH
from ppo2.config import for_file
from ppo2.numerics.randomness import fresh_seed
from ppo2.sweeps.directory import differences, write_settings
from ppo2.system import files
from ppo2.system.directory_lock import LOCK
from ppo2.system.text import parse_json

SETTINGS, STUDY, TABLE, BEST = SEARCH, "study.db", "trials.csv", "best.yaml"
"""Names in it: what was asked for, Optuna's study, a row for each trial, the settings that were found."""
IMPORTANCE, HISTORY, RUNS = "importance.png", "history.png", "runs"


def settings_in(path: Path) -> dict[str, Any] | None:
    """The settings of the study in a directory; None where nothing is in it but its lock, or what a killed process left
    half written.

    Raises:
        ValueError: something else is there.
    """
    if all(entry.name == LOCK or entry.name.endswith(files.TEMPORARY) for entry in path.iterdir()):
        return None
    try:
        found = parse_json((path / SETTINGS).read_text(encoding="utf-8"))
        if {"env", "seed", "settings", "space"} <= set(found):
            return found
    except (OSError, ValueError):
        pass
    raise ValueError(
        f"`run_dir` (={str(path)!r}) exists, isn't empty and holds no study of tune: choose another, or remove it."
    )


def seed_of(given: int | None, before: Mapping[str, Any] | None) -> int:
    """The seed of a study; None is that of the one that goes on, or else drawn."""
    if given is not None:
        return given
    return fresh_seed() if before is None else int(before["seed"])


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a study as JSON has them."""
    return {**for_file(settings), "settings": for_file(settings["settings"])}


def begin(path: Path, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Writes the settings of a new study; of one that goes on, makes sure that they are the same.

    Raises:
        ValueError: they aren't, or can't be written.
    """
    mine = json.loads(json.dumps(plain(now)))
    if before is None:
        write_settings(path / SETTINGS, mine)
    elif listed := differences(_flat(before), _flat(mine)):
        raise ValueError(
            f"`run_dir` (={str(path)!r}) holds a study with other settings ({listed}). Choose another `run_dir`, or "
            "remove it; or give the same settings, to continue it."
        )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by name, those of the trainings and of the space among them."""
    flat = {name: value for name, value in settings.items() if name not in ("settings", "space")}
    return {**flat, **settings["settings"], **{f"space: {name}": value for name, value in settings["space"].items()}}
