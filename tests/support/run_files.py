"""Run directories written by hand: their files, with no training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "env": "CartPole-v1", "network": "mlp", "total_timesteps": 4000, "num_envs": 2, "nsteps": 50, "seed": 1, "lr": 3e-4,
    "max_grad_norm": 0.5,
}  # fmt: skip
"""A config.json of 40 updates of 100 timesteps."""
HEALTHY: dict[str, float] = {
    "loss/approxkl": 0.01,
    "loss/clipfrac": 0.1,
    "loss/policy_entropy": 0.6,
    "loss/value_loss": 5.0,
    "misc/explained_variance": 0.8,
    "misc/grad_norm": 0.4,
    "time/step": 0.3,
    "time/act": 0.1,
    "time/train": 0.6,
}
"""A row of the log without anything to be said of it."""


def write_run_files(
    run_dir: Path,
    *,
    updates: int = 40,
    episodes: int = 80,
    rows: Sequence[Mapping[str, float]] | None = None,
    **config: Any,
) -> Path:
    """A run directory: a row of the log for each update, and two episodes of 50 timesteps in each, of rising return."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.json").write_text(json.dumps({**CONFIG, **config}))
    found = [HEALTHY] * updates if rows is None else rows
    names = list(dict.fromkeys(name for row in found for name in row)) or list(HEALTHY)
    lines = [["misc/nupdates", "misc/total_timesteps", "misc/serial_timesteps", "misc/time_elapsed", "fps", *names]]
    for i, row in enumerate(found, 1):
        cells = [i, 100 * i, 50 * i, 0.5 * i, 200, *(row.get(name, "") for name in names)]
        lines.append([str(cell) for cell in cells])
    (run_dir / "progress.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    monitor = "".join(f"{float(i)},50,{0.25 * (i + 1)},{i % 2}\n" for i in range(episodes))
    (run_dir / "monitor.csv").write_text("r,l,t,env\n" + monitor)
    return run_dir
