"""The runs that a path means: a run directory, or all runs of a sweep's directory."""

import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppo2.checkpoints.addresses import check_is_no_address, check_is_no_search
from ppo2.config import Config
from ppo2.reporting.run_curve import RunCurve, read_run, read_table
from ppo2.system import files
from ppo2.system.text import parse_json, printable

SETTINGS, TABLE, CURVES, RUNS = "sweep.json", "table.csv", "curves.csv", "runs"
"""Names in the directory of a sweep: its settings, a row for each run, their curves, their run directories."""


def directories_of(path: Path) -> list[Path]:
    """The run directories that a path means: itself, or those of a sweep's runs that have begun."""
    if not (path / SETTINGS).is_file():
        return [path]
    return sorted(run.parent for run in (path / RUNS).glob("*/monitor.csv"))


def read_all(paths: Iterable[Path | str]) -> list[RunCurve]:
    """The runs of run directories and of sweeps.

    Raises:
        ValueError: a path is neither, is damaged, or is a sweep without curves so far.
    """
    found = list[RunCurve]()
    for path in map(Path, paths):
        check_is_no_address(path)
        check_is_no_search(path)
        runs = [read_run(run) for run in directories_of(path)]
        found += runs or _device_sweep(path)
    return found


def _device_sweep(path: Path) -> list[RunCurve]:
    """The runs of a sweep on a device environment, which have no directories: their curves are in one file."""
    curves = read_table(path / CURVES)
    column = "recent" if "recent" in curves else "return"  # of an earlier version
    if {"run", "timesteps", column} - curves.keys():
        raise ValueError(f"{path} is the directory of a sweep that has no curves yet; wait until its runs have ended")
    try:
        settings = parse_json((path / SETTINGS).read_text(encoding="utf-8"))
        rows = list(csv.DictReader(files.whole_lines(path / TABLE)))
        swept = [name for name in settings.get("swept", {}) if name != "seed"]
        fixed = {"env": settings.get("env"), **settings.get("fixed", {})}
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    known = {field.name for field in dataclasses.fields(Config)}
    runs = []
    for index in np.unique(curves["run"]).astype(int).tolist():
        row: dict[str, Any] = rows[index] if index < len(rows) else {}
        config = {**{k: v for k, v in fixed.items() if k in known}, **{name: row.get(name) for name in swept}}
        mine = curves["run"] == index
        timesteps, returns = curves["timesteps"][mine], curves[column][mine]
        name = path / f"run {index}"
        runs.append(RunCurve(name, {**config, "seed": row.get("seed")}, timesteps, returns, {}, is_smooth=True))
    if not runs:
        raise ValueError(f"{printable(path)} is the directory of a sweep in which no run has got anywhere yet")
    return runs
