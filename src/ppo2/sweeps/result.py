"""The result of a sweep: its table, curves and models, and the files that have them."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ppo2.agent.model import Model
from ppo2.config import for_file, jsonable, names
from ppo2.plot import confidence
from ppo2.plot.sources import CURVES, SETTINGS, TABLE
from ppo2.sweeps.plan import Curve, SweepFailure, SweepRun
from ppo2.system import files
from ppo2.system.text import say_error

Row = dict[str, Any]

ROW_KEYS = ("final", "best", "auc")
PICTURE, MODELS = "curves.png", "models"


@dataclass(eq=False, repr=False)
class Sweep:
    """The result of a sweep. Runs are numbered from 0, in the order of `table`.

    Attributes:
        table: one dict a run: `run`, `seed`, every setting that was swept and the scalar hyperparameters; then
            `final`, the mean return of the last 100 episodes, `best`, the highest that it was at any row of the log,
            `auc`, the area under that curve over its timesteps (so in units of return), `timesteps`,
            `info/NAME` for each number of `info` that is recorded (`info_keys`), its mean over the last 100 episodes,
            `skipped_updates`, those that were not finite, and `status`: "finished", "failed", or where a signal came
            "stopped" or "waiting" (not begun). NaN where no episode ended, and of a run that failed.
        models: the trained models; None for a run that failed.
        curves: the learning curve of each run, with a point after each update: see `Curve`.
        failures: the runs that failed, each with its settings and its error.
        swept: the names of the settings that were swept, seed aside.
        run_dir: the directory that it was saved in, or None.
        seeds: number of seeds of each configuration.
        unsaved: words about why not all of it is on the disk; "" where all is well.
    """

    table: list[Row]
    models: list[Model | None]
    curves: list[Curve]
    swept: tuple[str, ...]
    run_dir: Path | None
    seeds: int
    failures: list[SweepFailure] = field(default_factory=list)
    unsaved: str = ""

    @classmethod
    def of(cls, runs: Sequence[SweepRun], swept: tuple[str, ...], run_dir: Path | None, seeds: int) -> "Sweep":
        """The result of these runs, as far as they came."""
        failures = [run.failure for run in runs if run.failure is not None]
        models = [None if run.failure is not None else run.model for run in runs]
        return cls(
            [row_of(run, swept, _info_names(runs)) for run in runs],
            models,
            [r.curve for r in runs],
            swept,
            run_dir,
            seeds,
            failures,
        )

    def best(self, by: str = "final") -> Row:
        """The row of the run with the highest `by`; its model is `models[row["run"]]`.

        Raises:
            ValueError: `by` is none of final, best, auc; or no episode ended in any run that didn't fail.
        """
        if by not in ROW_KEYS:
            raise ValueError(f"`by` (={by!r}) must be 'final', 'best' or 'auc'.")
        finished = [row for row in self.table if not math.isnan(row[by])]
        if not finished:
            raise ValueError("no episode ended in any run of this sweep, so that none is the best: train longer.")
        return max(finished, key=lambda row: row[by])

    def configurations(self) -> list[Row]:
        """One row for each configuration: what was swept, `runs`, those that didn't fail, and the interquartile means
        over their seeds of the figures in `table`. Best first.
        """
        rows = []
        for members in self._by_configuration():
            setting = {name: self.table[members[0]][name] for name in self.swept}
            there = [row for row in (self.table[i] for i in members) if row["status"] != "failed"]
            figures = {name: confidence.iqm([row[name] for row in there]) for name in ROW_KEYS}
            rows.append({**setting, "runs": len(there), **figures})
        return sorted(rows, key=lambda row: -math.inf if math.isnan(row["final"]) else row["final"], reverse=True)

    def _by_configuration(self) -> list[range]:
        """The runs of each configuration, which differ in the seed alone: neighbours, as the seed varies fastest."""
        return [range(first, first + self.seeds) for first in range(0, len(self.table), self.seeds)]

    def save(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Writes table, curves, picture, settings and models into a directory."""
        (path / MODELS).mkdir(parents=True, exist_ok=True)
        write_settings_file(path / SETTINGS, settings)
        write_csv(path / TABLE, self.table[0], (map(_shown, row.values()) for row in self.table))
        points = (
            (i, t, r, recent)
            for i, curve in enumerate(self.curves)
            for t, r, recent in zip(*map(np.ndarray.tolist, curve), strict=True)
        )
        write_csv(path / CURVES, ("run", "timesteps", "return", "recent"), points)
        for i, model in enumerate(self.models):
            if model is not None:
                model.save(path / MODELS / f"{i:04}.safetensors")
        self.plot(path / PICTURE)

    def plot(self, out: str | os.PathLike[str]) -> Path | None:
        """Draws the learning curves, a line for each configuration: the interquartile mean over its seeds, and a band
        that holds it with 95 % confidence (bootstrap over seeds). None where no episode ended.
        """
        groups: list[tuple[str, list[tuple[Any, Any]]]] = []
        for members in self._by_configuration():
            label = "  ".join(f"{name} {_shown(self.table[members[0]][name])}" for name in self.swept)
            drawn = [self.curves[i] for i in members if self.models[i] is not None]
            groups.append((label, [(curve.timesteps, curve.recent) for curve in drawn]))
        titles = [str(_shown(model.config.env)) for model in self.models if model is not None]
        with_runs = [group for group in groups if group[1]]
        return confidence.confidence(with_runs, Path(out), title=titles[0]) if titles else None


def save_all(result: Sweep, path: Path, settings: Mapping[str, Any]) -> str:
    """Saves a sweep, whose result isn't lost for a full disk; returns what it said where it couldn't."""
    try:
        result.save(path, settings_json(settings))
    except OSError as error:
        words = (
            f"the results of the sweep could not be saved whole in {path} ({error.strerror or error}). "
            f"{files.remedy(error).capitalize()}. Then, in Python, `Sweep.save` writes those that `sweep` returns."
        )
        say_error(words)
        return words
    return ""


def _info_names(runs: Sequence[SweepRun]) -> list[str]:
    """The numbers of `info` that any run recorded, or was asked to."""
    return list(dict.fromkeys(name for run in runs for name in (*run.config.info_keys, *run.infos)))


def row_of(run: SweepRun, swept: Sequence[str], info_names: Sequence[str]) -> Row:
    """The row of a run in the table."""
    config, (timesteps, returns, _) = run.config, run.logged
    there = np.isfinite(returns) & (run.failure is None)
    known, at = returns[there], timesteps[there]
    if len(at) > 1:
        area = float(np.trapezoid(known, at) / (at[-1] - at[0]))
    else:
        area = float(known[0]) if len(at) else math.nan
    return {
        "run": run.index,
        "seed": config.seed,
        **{name: run.settings[name] for name in swept},
        **{name: getattr(config, name) for name in names(together=True) if name not in swept},
        "final": float(returns[-1]) if len(returns) and run.failure is None else math.nan,
        "best": float(known.max()) if len(known) else math.nan,
        "auc": area,
        **{f"info/{name}": run.infos.get(name, math.nan) if run.failure is None else math.nan for name in info_names},
        "timesteps": int(timesteps[-1]) if len(timesteps) else 0,
        "skipped_updates": int(run.model.state.counters.skipped_updates),
        "status": run.status,
    }


def settings_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a sweep as JSON holds them."""
    return {**for_file(settings), "fixed": for_file(settings["fixed"])}


def write_settings_file(file: Path, settings: Mapping[str, Any]) -> None:
    """Writes settings as JSON holds them."""
    files.replace(file, (json.dumps(settings, indent=2) + "\n").encode())


def _shown(value: Any) -> Any:
    """A setting in a table: what no file can hold by its name."""
    plain = jsonable(value)
    return plain["object"] if isinstance(plain, dict) else plain


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a table, whole or not at all."""
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    files.replace(path, text.getvalue().encode())
