"""Runs as a report shows them: whatever their directories hold, damaged and half-written files included."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppo2.checkpoints.addresses import check_is_no_address, check_is_no_search
from ppo2.config import PLACEHOLDER, secrets
from ppo2.plot.series import SECONDS, TIMESTEPS, UPDATES
from ppo2.plot.sources import SETTINGS, directories_of, read_all
from ppo2.reporting.run_curve import Floats, RunCurve, read_episodes, read_table
from ppo2.reporting.tables import rows_of
from ppo2.system.text import parse_json, printable

CLIPS = {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif"}
CLIP_FOLDERS = (".", "videos", "video")
FILES = ("config.json", "progress.csv", "progress.jsonl", "monitor.csv")


class Run(NamedTuple):
    """A run.

    Attributes:
        name: its directory's, or its path where others have the same.
        curve: the part that could be read.
        problems: sentences about what couldn't.
    """

    name: str
    curve: RunCurve
    problems: Sequence[str]

    @property
    def config(self) -> Mapping[str, Any]:
        return self.curve.config

    def setting(self, name: str, kind: type) -> Any:
        """A setting, or None if there is none of this type."""
        value = self.config.get(name)
        return value if isinstance(value, kind) and not isinstance(value, bool) else None

    def column(self, name: str) -> Floats:
        """A column of the log; empty if there is none."""
        return self.curve.progress.get(name, np.empty(0))

    def last(self, name: str) -> float | None:
        """The last finite number of a column."""
        found = self.column(name)
        found = found[np.isfinite(found)]
        return float(found[-1]) if found.size else None

    @property
    def updates(self) -> tuple[int, int | None]:
        """Number of updates made, and of all; None if it isn't known."""
        sizes = [self.setting(name, int) for name in ("total_timesteps", "num_envs", "nsteps")]
        total = sizes[0] // (sizes[1] * sizes[2]) if all(size and size > 0 for size in sizes) else None
        return int(self.last(UPDATES) or 0), total

    @property
    def timesteps(self) -> float:
        at = self.curve.timesteps
        return self.last(TIMESTEPS) or (float(at[-1]) if at.size else 0.0)

    @property
    def seconds(self) -> float | None:
        return self.last(SECONDS)


def gather(paths: Sequence[Path], *, may_be_missing: bool = False) -> list[Run]:
    """The runs of run directories and of sweeps.

    Args:
        may_be_missing: a directory that isn't there, or has nothing of a run, is one that has not begun.

    Raises:
        ValueError: `paths` is empty, or has one that is no run directory.
    """
    if not paths:
        raise ValueError("name at least one run directory")
    found = list[tuple[RunCurve, list[str]]]()
    for path in paths:
        check_is_no_address(path)
        check_is_no_search(path)
        if not may_be_missing and not _is_run(path):
            what = (
                "has none of a run's files"
                if path.is_dir()
                else "is no directory"
                if path.exists()
                else "does not exist"
            )
            raise ValueError(
                f"{printable(path)} {what}. A run directory is what `run_dir` of learn(), or --run-dir of `ppo2 "
                "train`, named"
            )
        is_sweep = (path / SETTINGS).is_file()
        runs = directories_of(path)
        if is_sweep and not runs:
            found += _device_sweep(path, may_be_missing)
        found += [read(run) for run in runs]
    names = [printable(curve.path.resolve().name) for curve, _ in found]
    distinct = names if len(set(names)) == len(names) else [printable(curve.path) for curve, _ in found]
    return [Run(name, curve, problems) for name, (curve, problems) in zip(distinct, found, strict=True)]


def _is_run(path: Path) -> bool:
    return (path / SETTINGS).is_file() or any((path / name).is_file() for name in FILES)


def _device_sweep(path: Path, may_be_missing: bool) -> list[tuple[RunCurve, list[str]]]:
    try:
        return [(curve, []) for curve in read_all([path])]
    except ValueError as error:
        if not may_be_missing:
            raise
        return [(_nothing(path), [str(error)])]


def _nothing(path: Path) -> RunCurve:
    return RunCurve(path, {}, np.empty(0), np.empty(0), {})


def read(path: Path) -> tuple[RunCurve, list[str]]:
    """A run directory as far as it can be read, and sentences about the rest."""
    problems = list[str]()
    config = _config(path / "config.json", problems)
    progress = dict[str, Floats]()
    try:
        progress = read_table(path / "progress.csv")
    except (OSError, ValueError) as error:
        rows = rows_of(path)
        progress = {name: np.array([row.get(name, np.nan) for row in rows]) for row in rows[:1] for name in row}
        instead = "; shown is progress.jsonl instead" if rows else ""
        problems.append(f"{printable(error)}{instead}")
    timesteps, monitor = np.empty(0), dict[str, Floats]()
    try:
        if (path / "monitor.csv").is_file() and (path / "monitor.csv").stat().st_size:
            timesteps, monitor = read_episodes(path / "monitor.csv", progress)
    except (OSError, ValueError) as error:
        problems.append(printable(error))
    return RunCurve(path, config, timesteps, monitor.get("r", np.empty(0)), progress, monitor), problems


def _config(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return secrets.shown(parse_json(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (OSError, ValueError) as error:
        problems.append(f"{printable(path)} is damaged: {printable(error)}")
        return {}


def name_of(value: Any) -> str:
    """A setting as text; for an object that config.json could not hold, its name."""
    if isinstance(value, Mapping) and set(value) == {PLACEHOLDER}:
        return printable(value[PLACEHOLDER])
    return printable(value)


def policy_of(run: Run) -> Path:
    """The path from which a run's newest policy is loaded: of a sweep on the device a file of its own."""
    path = run.curve.path
    return path.parent / "models" / f"{int(path.name.split()[-1]):04}.safetensors" if run.curve.is_smooth else path


def newest_clip(run_dir: Path) -> Path | None:
    """The newest film in a run directory, if there is one."""
    found = [
        file
        for folder in CLIP_FOLDERS
        for file in (run_dir / folder).glob("[!.]*")  # one that is being written has a dot
        if file.suffix.lower() in CLIPS and file.is_file()
    ]
    return max(found, key=lambda file: file.stat().st_mtime, default=None)
