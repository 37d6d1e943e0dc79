"""Small trainings, and what they leave."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

import ppo2
from ppo2.agent.model import Model
from ppo2.checkpoints import checkpoint

SMALL: dict[str, Any] = {
    "network": "mlp",
    "env": "CartPole-v1",
    "total_timesteps": 4 * 64,
    "num_envs": 4,
    "nsteps": 16,
    "num_hidden": 8,
    "seed": 7,
}
"""Arguments of `learn` for four updates."""

SAVING: dict[str, Any] = {
    "env": "CartPole-v1",
    "total_timesteps": 6 * 32,
    "num_envs": 2,
    "nsteps": 16,
    "num_hidden": 8,
    "seed": 7,
    "log_interval": 1,
    "save_interval": 1,
}
"""Arguments of `learn` for six updates, each of which is logged and saved."""

SWEPT: dict[str, Any] = {
    "total_timesteps": 3 * 8 * 16,
    "nsteps": 16,
    "nminibatches": 2,
    "noptepochs": 2,
    "num_hidden": 8,
    "log_interval": 1,
}
"""Arguments of `sweep` for three updates of 8 environments."""


def learn(**more: Any) -> Model:
    return ppo2.learn(**{**SMALL, **more})


def learn_and_save(**more: Any) -> Model:
    return ppo2.learn(**{**SAVING, **more})


def params(model: Model) -> np.ndarray[Any, Any]:
    return np.array(model.state.params)


def rows(run_dir: Path) -> list[dict[str, str]]:
    """The rows of a run's log."""
    with (run_dir / "progress.csv").open() as file:
        return list(csv.DictReader(file))


def saved_updates(run_dir: Path) -> list[int]:
    """The updates that have a checkpoint."""
    return sorted(checkpoint.numbered(run_dir / "checkpoints"))


def write_monitor(run_dir: Path, text: str, progress: str | None = None) -> Path:
    """A run directory with this monitor.csv, and this progress.csv."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / "monitor.csv").write_text(text)
    if progress is not None:
        (run_dir / "progress.csv").write_text(progress)
    return run_dir
