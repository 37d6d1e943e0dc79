"""The progress of a run, as a checkpoint holds it, for a resumed run to go on from."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.config.info_keys import MONITOR_COLUMNS


class Best(NamedTuple):
    """The best evaluation so far: after which update, and its mean return."""

    update: int
    eval_eprewmean: float


class Progress(NamedTuple):
    """The progress of a run when a checkpoint was made.

    Attributes:
        update: the last update that was made; 0 before the first.
        seconds: seconds of training.
        episodes: rows of monitor.csv.
        left_out: episodes that have no row there, as they were too many.
        last_episodes: the last hundred of all, where some were left out; each a row by the names of its columns.
        figures: figures that callbacks logged, for the next row of the log.
        rollouts: collected by the runner.
        best: None without evaluations, or where all checkpoints are kept.
        interim: True for a checkpoint that only a stop brought about: the resumed run removes it once it has written
            its next one.
        unfinished: the row of the log for this update, without an evaluation that was broken off: the resumed run makes
            that again and writes the row. None where all was done. Numbers that are not finite are text.
    """

    update: int = 0
    seconds: float = 0.0
    episodes: int = 0
    rollouts: int = 0
    best: Best | None = None
    interim: bool = False
    unfinished: Mapping[str, float | str] | None = None
    left_out: int = 0
    last_episodes: Sequence[Mapping[str, float | str]] | None = None
    figures: Mapping[str, float | str] | None = None

    @classmethod
    def of(cls, saved: Checkpoint) -> "Progress":
        """The progress of the run that wrote a checkpoint.

        Raises:
            ValueError: the checkpoint was saved by hand, or has invalid progress data.
        """
        run = saved.section("run")
        if "update" not in run:
            raise ValueError(
                f"{saved.path} was saved by hand and doesn't say where training stood: move it elsewhere, or name "
                "another checkpoint, to continue from the run's own, or train from it in another `run_dir`."
            )
        try:
            best = None if run.get("best") is None else Best(**run["best"])
            found = cls(**{name: run[name] for name in cls._fields if name in run} | {"best": best})
        except TypeError:  # no object, or one with other names
            found = cls(update=-1)
        counts = [found.update, found.episodes, found.rollouts, found.left_out]
        counts += () if found.best is None else found.best[:1]
        numbers = [found.seconds, *(() if found.best is None else found.best[1:])]
        is_valid = type(run.get("interim", False)) is bool and _is_row(found.unfinished) and _is_row(found.figures)
        is_valid &= all(map(_is_count, counts)) and _are_episodes(found.last_episodes)
        if not is_valid or not all(map(_is_number, numbers)) or found.seconds < 0:
            raise ValueError(f"the checkpoint {saved.path} has invalid progress data: {run!r}"[:1000])
        return found


def storable_row(row: Mapping[str, float]) -> dict[str, float | str]:
    """A row of the log for `Progress.unfinished`."""
    return {name: value if math.isfinite(value) else str(value) for name, value in row.items()}


def row_of(stored: Mapping[str, float | str]) -> dict[str, float]:
    """The inverse of `storable_row`."""
    return {name: float(value) if isinstance(value, str) else value for name, value in stored.items()}


def _is_row(value: object) -> bool:
    if not isinstance(value, dict):
        return value is None
    return all(number in ("nan", "inf", "-inf") or _is_number(number) for number in value.values())


def _are_episodes(value: object) -> bool:
    """True for None, and for rows of monitor.csv."""
    if not isinstance(value, list):
        return value is None
    return all(isinstance(row, dict) and set(MONITOR_COLUMNS) <= row.keys() and _is_row(row) for row in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
