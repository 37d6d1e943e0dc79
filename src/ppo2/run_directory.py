"""The directory of a run: its settings and its checkpoints."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppo2 import checkpoint
from ppo2.config import Config

CONFIG = "config.json"
CURVE = "curve.png"


def claim(path: Path) -> None:
    """Makes sure that a new run may write to `path`.

    Raises:
        ValueError: it holds a run already, or can't be a directory.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"`run_dir` (={str(path)!r}) is a file; it must be a directory, or not exist yet.")
    checkpoints = sorted((path / checkpoint.FOLDER).glob("*"))
    logs = [path / name for name in ("progress.csv", "progress.jsonl", "monitor.csv")]
    found = next((file.name for file in [*checkpoints, *logs] if file.exists() and _holds_something(file)), None)
    if not found:  # of a run that never got as far as its first update
        for log in logs:
            log.unlink(missing_ok=True)
    if found:
        raise ValueError(
            f"`run_dir` (={str(path)!r}) already holds a run (it has {found}), and a run is never overwritten. "
            f"Choose another directory, remove this one, or go on with it: ppo2 resume {path}, or "
            f"learn(load_path={str(path)!r}, run_dir={str(path)!r}) with the same arguments."
        )


def _holds_something(file: Path) -> bool:
    """A checkpoint, or a log with a row under its header that tells of an update."""
    with file.open("rb") as opened:
        lines = sum(1 for _ in opened)
    return file.suffix not in (".csv", ".jsonl") or (file.stem == "progress" and lines > (file.suffix == ".csv"))


def write_config(path: Path, config: Config, **more: Any) -> None:
    """Writes the settings, as JSON that a person can read."""
    path.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**config.to_json(), **more}, indent=2, allow_nan=False) + "\n"
    temporary = path / f".{CONFIG}.new"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path / CONFIG)


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings that a run was started with.

    Raises:
        ValueError: `path` is no run directory.
    """
    file = Path(path).expanduser() / CONFIG
    try:
        settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no run directory: its {CONFIG} can't be read ({error}).") from error
    return settings


def check_same(saved: Mapping[str, Any], config: Config, path: Path) -> None:
    """Raises ValueError where a run can't go on under these settings, naming those that differ."""
    mine, defaults = config.to_json(), Config().to_json()
    # what an earlier version had no setting for was done by default
    saved = {**defaults, **saved}
    different = [name for name in mine if saved[name] != mine[name]]
    if different:
        listed = "; ".join(f"`{name}` was {saved[name]!r}, is {mine[name]!r}" for name in different)
        raise ValueError(
            f"`run_dir` (={str(path)!r}) holds a run with other settings: {listed}. Resume it with the same ones, or "
            "leave `run_dir` out or choose another to begin a new run from its weights."
        )
