"""The progress of a run, as a checkpoint holds it, for a resumed run to go on from."""

import math
from typing import NamedTuple

from ppo2.checkpoints.checkpoint import Checkpoint


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
        rollouts: collected by the runner.
        best: None without evaluations, or where all checkpoints are kept.
    """

    update: int = 0
    seconds: float = 0.0
    episodes: int = 0
    rollouts: int = 0
    best: Best | None = None

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
                "another checkpoint, to go on from the run's own, or train from it in another `run_dir`."
            )
        try:
            best = None if run.get("best") is None else Best(**run["best"])
            found = cls(**{name: run[name] for name in cls._fields if name in run} | {"best": best})
        except TypeError:  # no object, or one with other names
            found = cls(update=-1)
        counts = [found.update, found.episodes, found.rollouts, *(() if found.best is None else found.best[:1])]
        numbers = [found.seconds, *(() if found.best is None else found.best[1:])]
        if not all(map(_is_count, counts)) or not all(map(_is_number, numbers)) or found.seconds < 0:
            raise ValueError(f"the checkpoint {saved.path} has invalid progress data: {run!r}"[:1000])
        return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
