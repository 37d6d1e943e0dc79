"""The progress of a run, as a checkpoint holds it, for a resumed run to go on from."""

import math
from typing import NamedTuple

from ppo2.checkpoints import checkpoint


class Best(NamedTuple):
    """The best evaluation so far: after which update, and its mean return."""

    update: int
    eval_eprewmean: float


class Progress(NamedTuple):
    """The progress of a run when a checkpoint was made.

    Attributes:
        update: the last update that was made; 0 before the first.
        seconds: of training.
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
    def of(cls, saved: checkpoint.Checkpoint) -> "Progress":
        """The progress of the run that wrote a checkpoint.

        Raises:
            ValueError: the checkpoint was saved by hand, or tells nonsense.
        """
        run = saved.section("run")
        if "update" not in run:
            raise ValueError(
                f"{saved.path} was saved by hand and doesn't say where training stood: move it elsewhere, or name "
                "another checkpoint, to go on from the run's own, or train from it in another `run_dir`."
            )
        whole = {name: run.get(name, 0) for name in ("update", "episodes", "rollouts")}
        seconds, best = run.get("seconds", 0.0), run.get("best")
        if all(map(_is_count, whole.values())) and _is_number(seconds) and seconds >= 0:
            if best is None:
                return cls(**whole, seconds=float(seconds))
            if isinstance(best, dict) and set(best) == set(Best._fields):
                found = Best(**best)
                if _is_count(found.update) and _is_number(found.eval_eprewmean):
                    return cls(**whole, seconds=float(seconds), best=found)
        raise ValueError(f"the checkpoint {saved.path} tells nonsense of where training stood: {run!r}"[:1000])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
