"""Learning curves as a run directory holds them: the episodes of monitor.csv at their timesteps, and progress.csv."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppo2.reporting.episode_file import has_all_episodes, table_lines
from ppo2.system.text import parse_json

Floats = NDArray[np.float64]

OTHER_UNIT = 1.5
"""Ratio of the sum of lengths to timesteps, above which lengths count something else."""


class RunCurve(NamedTuple):
    """One run directory, read.

    | field | shape | meaning |
    |---|---|---|
    | `timesteps` | (E,) | environment timesteps, over all environments, when each episode ended; ascending |
    | `returns` | (E,) | undiscounted return of each episode |
    | `progress` | name: (rows,) | the columns of progress.csv, NaN where a cell is empty |
    | `config` | | config.json, empty where there is none |
    """

    path: Path
    config: dict[str, Any]
    timesteps: Floats
    returns: Floats
    progress: dict[str, Floats]


def read_run(run_dir: Path | str) -> RunCurve:
    """Reads a run directory, also one that is still being written."""
    path = Path(run_dir)
    monitor_file, config_file = path / "monitor.csv", path / "config.json"
    if not monitor_file.is_file():
        missing = f"has no monitor.csv: {monitor_file}" if path.is_dir() else "does not exist"
        raise ValueError(
            f"{path} {missing}. A run directory is what `run_dir` of learn(), or --run-dir of `ppo2 train`, named"
        )
    monitor, progress = _read_csv(monitor_file), _read_csv(path / "progress.csv")
    if absent := {"r", "l", "env"} - monitor.keys():
        raise ValueError(f"{monitor_file} lacks the columns {', '.join(sorted(absent))}")
    try:
        config = parse_json(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{config_file} is damaged: {error}") from error
    seconds = monitor.get("t", np.full(len(monitor["l"]), np.inf))
    if has_all_episodes(monitor_file):
        timesteps = _timesteps(monitor["l"], monitor["env"], seconds, progress)
    else:
        timesteps = _timesteps_by_clock(seconds, progress)
    order = np.argsort(timesteps, kind="stable")
    return RunCurve(path, config, timesteps[order], monitor["r"][order], progress)


def _read_csv(path: Path) -> dict[str, Floats]:
    """The columns of a file, without a last row that is half written; none where there is no file."""
    try:
        header, *rows = csv.reader(table_lines(path) or [""])
        cells = [[float(cell or "nan") for cell in row] for row in rows]
        columns = np.array(cells, dtype=np.float64).reshape(len(rows), len(header)).T
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return dict(zip(header, columns, strict=True))


def _timesteps_by_clock(seconds: Floats, progress: dict[str, Floats]) -> Floats:
    """Timesteps of all environments at each episode's end, where other episodes were left out: between the rows of
    progress.csv by the clock.
    """
    elapsed, total = (progress.get(name, np.empty(0)) for name in ("misc/time_elapsed", "misc/total_timesteps"))
    found: Floats = np.interp(seconds, [0.0, *elapsed], [0.0, *total])
    return found


def _timesteps(lengths: Floats, env: Floats, seconds: Floats, progress: dict[str, Floats]) -> Floats:
    """Timesteps of all environments at each episode's end.

    Environments step together, so an environment that has made n steps means n times their number in all. (The sum of
    all lengths so far leaves out the episodes under way, which are most of a run of many environments.)
    Their number is that of progress.csv, total over serial timesteps; without a row in it, of those that finished.
    Environments that count their episodes themselves may count something else, such as frames: then lengths are to be
    scaled by what progress.csv has at its last row.

    Args:
        seconds: time at which each episode ended.
    """
    total, serial = (progress.get(f"misc/{name}_timesteps", np.empty(0)) for name in ("total", "serial"))
    logged = total.size and serial.size and serial[-1] > 0
    nenvs = max(1, round(float(total[-1] / serial[-1]))) if logged else int(env.max(initial=0)) + 1
    timesteps = np.empty_like(lengths)
    for index in np.unique(env):
        timesteps[env == index] = np.cumsum(lengths[env == index]) * nenvs
    elapsed = progress.get("misc/time_elapsed", np.empty(0))
    counted = timesteps[seconds <= elapsed[-1]].max(initial=0) if logged and elapsed.size else 0
    if counted and counted > OTHER_UNIT * total[-1]:
        timesteps *= total[-1] / counted
    return timesteps
