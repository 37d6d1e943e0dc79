"""Learning curves as a run directory holds them: the episodes of monitor.csv at their timesteps, and progress.csv."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppo2.reporting.episode_file import has_all_episodes
from ppo2.system.text import parse_json

Floats = NDArray[np.float64]

OTHER_UNIT = 1.5
"""Ratio of the sum of lengths to timesteps, above which lengths count something else."""
BLOCK_BYTES = 2**24
"""Bytes of a table that are read at once: of ten million episodes, text takes several times the room of numbers."""
EMPTY_CELL = re.compile(r"(?<=,)(?=[,\r\n])|(?<=,)$|^(?=,)", re.MULTILINE)


class RunCurve(NamedTuple):
    """One run directory, read.

    | field | shape | meaning |
    |---|---|---|
    | `timesteps` | (E,) | environment timesteps, over all environments, when each episode ended; ascending |
    | `returns` | (E,) | undiscounted return of each episode |
    | `progress` | name: (rows,) | the columns of progress.csv, NaN where a cell is empty |
    | `config` | | config.json, empty where there is none |
    | `monitor` | name: (E,) | the columns of monitor.csv, in the same order as `timesteps` |
    | `is_smooth` | | True if `returns` are means over episodes already, as a sweep on the device has them |
    """

    path: Path
    config: dict[str, Any]
    timesteps: Floats
    returns: Floats
    progress: dict[str, Floats]
    monitor: Mapping[str, Floats] = {}
    is_smooth: bool = False


def read_run(run_dir: Path | str) -> RunCurve:
    """Reads a run directory, also one that is still being written."""
    path = Path(run_dir)
    monitor_file, config_file = path / "monitor.csv", path / "config.json"
    if not monitor_file.is_file():
        missing = f"has no monitor.csv: {monitor_file}" if path.is_dir() else "does not exist"
        raise ValueError(
            f"{path} {missing}. A run directory is what `run_dir` of learn(), or --run-dir of `ppo2 train`, named"
        )
    progress = read_table(path / "progress.csv")
    try:
        config = parse_json(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{config_file} is damaged: {error}") from error
    timesteps, monitor = read_episodes(monitor_file, progress)
    return RunCurve(path, config, timesteps, monitor["r"], progress, monitor)


def read_episodes(path: Path, progress: Mapping[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
    """The timesteps at which the episodes of a monitor.csv ended, ascending, and its columns in that order.

    Args:
        progress: the columns of progress.csv.

    Raises:
        ValueError: it is damaged, or lacks columns.
    """
    monitor = read_table(path)
    if absent := {"r", "l", "env"} - monitor.keys():
        raise ValueError(f"{path} lacks the columns {', '.join(sorted(absent))}")
    seconds = monitor.get("t", np.full(len(monitor["l"]), np.inf))
    if has_all_episodes(path):
        timesteps = _timesteps(monitor["l"], monitor["env"], seconds, progress)
    else:
        timesteps = _timesteps_by_clock(seconds, progress)
    order = np.argsort(timesteps, kind="stable")
    return timesteps[order], {name: column[order] for name, column in monitor.items()}


def read_table(path: Path) -> dict[str, Floats]:
    """The columns of a CSV file of numbers, without a last row that is half written; none where there is no file.

    Raises:
        ValueError: it is damaged.
    """
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        first = file.readline()
        header = file.readline() if first.startswith(b"#") else first
        try:
            names = next(csv.reader([header.decode(errors="replace")] if header.endswith(b"\n") else []), list[str]())
            parts, rest = [np.empty((0, len(names)))], b""
            while block := file.read(BLOCK_BYTES):
                whole, _, rest = (rest + block).rpartition(b"\n")
                parts += [_numbers(whole.decode(errors="replace"), len(names))] if whole.strip() else []
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    return dict(zip(names, np.concatenate(parts).T, strict=True))


def _numbers(text: str, columns: int) -> Floats:
    """The rows of a table, (rows, columns); NaN where a cell is empty."""
    rows = np.loadtxt(EMPTY_CELL.sub("nan", text).splitlines(), np.float64, comments=None, delimiter=",", ndmin=2)
    if rows.shape[1] != columns:
        raise ValueError(f"rows have {rows.shape[1]} cells, its header has {columns}")
    return rows


def _timesteps_by_clock(seconds: Floats, progress: Mapping[str, Floats]) -> Floats:
    """Timesteps of all environments at each episode's end, where other episodes were left out: between the rows of
    progress.csv by the clock.
    """
    elapsed, total = (progress.get(name, np.empty(0)) for name in ("misc/time_elapsed", "misc/total_timesteps"))
    found: Floats = np.interp(seconds, [0.0, *elapsed], [0.0, *total])
    return found


def _timesteps(lengths: Floats, env: Floats, seconds: Floats, progress: Mapping[str, Floats]) -> Floats:
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
