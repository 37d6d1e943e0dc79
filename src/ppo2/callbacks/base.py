"""The base class of callbacks, and the view of the training that their methods get."""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppo2.agent.model import Model
from ppo2.algorithm.rollout import Rollout
from ppo2.algorithm.train_state import UpdateStats
from ppo2.config import Config
from ppo2.evaluation.evaluate import Evaluation

OWN_COLUMNS = frozenset({"fps", "eprewmean", "eplenmean", "eval_eprewmean", "eval_eplenmean", "lr", "cliprange"})
"""Columns of the log that `learn` writes; with those that begin as follows, names that no callback may log under."""
OWN_FOLDERS = ("misc/", "info/", "eval_info/", "loss/", "time/")


@dataclass(kw_only=True, eq=False)
class Training:
    """A training, as a callback sees it.

    Attributes:
        model: the model, as it is now.
        config: its settings.
        env: the environments of this process: a vector environment, or a device environment.
        run_dir: the run directory; None where nothing is written. Of several processes only the first writes there.
        update: the last update that was made; 0 before the first.
        say, warn: print a text, or a warning, above the live table where there is one.
        callbacks: all of this process.
        stats: figures of that update, as `update_fn` gets them; None before the first update of this call, and in
            `on_rollout` where nobody has looked at them.
        rollout: the steps that the model is about to learn from, arrays (nsteps, num_envs, ...) of this process's
            environments; only in `on_rollout` on host environments, else None.
        checkpoint: the checkpoint of that update; only in `on_checkpoint`, and in the process that writes it.
        stop_reason: the reason to stop, once a callback gave one; else None.
        error: the exception that ended training early, KeyboardInterrupt for Ctrl-C; only in `on_end`.
    """

    model: Model
    config: Config
    env: Any
    run_dir: Path | None
    say: Callable[[str], None]
    warn: Callable[[str], None]
    callbacks: Sequence["Callback"] = field(default=(), repr=False)
    update: int = 0
    stats: UpdateStats | None = None
    rollout: Rollout | None = None
    checkpoint: Path | None = None
    stop_reason: str | None = None
    error: BaseException | None = None
    pending: dict[str, float] = field(default_factory=dict, repr=False)
    logged: dict[str, float] = field(default_factory=dict, repr=False)
    asks_for_checkpoint: bool = field(default=False, repr=False)
    reason_is_known: bool = field(default=False, repr=False)
    is_over: bool = field(default=False, repr=False)

    @property
    def evaluation(self) -> Evaluation | None:
        """The evaluation on `eval_env` that was made after that update; None where there was none, or not yet."""
        found: Evaluation | None = None if self.stats is None else self.stats.evaluation
        return found

    @property
    def nupdates(self) -> int:
        """Updates in the whole of training."""
        return self.config.nupdates

    @property
    def timesteps(self) -> int:
        """Timesteps so far, over all environments."""
        return self.update * self.config.nbatch

    @property
    def figures(self) -> dict[str, float]:
        """The figures of the last update by the log's names: `eprewmean`, `eplenmean`, `info/NAME`, `loss/NAME`,
        `misc/explained_variance` and `misc/grad_norm`; where it was evaluated `eval_eprewmean`, `eval_eplenmean` and
        `eval_info/NAME`; and the callbacks' own that no row of the log has yet. Empty before the first update.
        """
        stats, evaluation = self.stats, self.evaluation
        if stats is None:
            return self.pending | self.logged
        found = {
            "eprewmean": float(stats.eprewmean),
            "eplenmean": float(stats.eplenmean),
            **{f"info/{key}": float(value) for key, value in stats.infos.items()},
            **{f"loss/{name}": float(getattr(stats, name)) for name in self.model.loss_names},
            "misc/explained_variance": float(stats.explained_variance),
            "misc/grad_norm": float(stats.grad_norm),
        }
        return found | ({} if evaluation is None else evaluation_figures(evaluation)) | self.pending | self.logged

    def log(self, name: str, value: float) -> None:
        """Puts a figure into the next row of the log: progress.csv and .jsonl, TensorBoard, Weights & Biases. Later
        values replace earlier ones; a row without it has an empty cell.

        In `on_update` and `on_evaluation` the next row is that of this update, if it has one (`log_interval`).

        Raises:
            ValueError: the name is one of the log's own, or has characters that can't be printed.
            TypeError: it is no name, or no number.
            RuntimeError: training is over, and so is its log.
        """
        if type(name) is not str or not name:
            raise TypeError(f"`name` (={name!r}) must be the name of a column of the log.")
        if is_own(name):
            raise ValueError(f"`name` (={name!r}) is a column that the log has by itself: choose another name.")
        if not name.isprintable():  # a line break would end the header of the table
            raise ValueError(f"`name` (={name!r}) must have characters that can be printed, in one line.")
        given: Any = value
        if isinstance(given, str | bytes):  # which float() would read
            raise TypeError(f"`value` (={value!r}) of {name!r} must be a number, and is text.")
        if self.is_over:
            raise RuntimeError(
                f"log({name!r}, {value!r}): the last row of the log is written; log in an earlier moment."
            )
        try:
            self.logged[name] = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"`value` (={value!r}) of {name!r} must be a number.") from None

    def stop(self, reason: str) -> None:
        """Ends training after this update (from `on_start`: before the first), with a checkpoint.

        Args:
            reason: words for people, which `learn` prints and leaves in `model.stop_reason`. The first one counts.
        """
        if type(reason) is not str or not reason:
            raise TypeError(f"`reason` (={reason!r}) must be text that says why training stops.")
        if self.stop_reason is None:
            self.stop_reason = reason

    def save(self) -> None:
        """Has a checkpoint of this update written, where there is a run directory."""
        self.asks_for_checkpoint = True


class Callback:
    """An object that `learn(callbacks=[...])` calls while it trains. All methods do nothing here: override some.

    Each moment comes after the one before it, of one update:

    | method | moment |
    |---|---|
    | `on_start` | training is about to begin, or to go on |
    | `on_rollout` | a rollout was collected, and will be learned from |
    | `on_update` | an update was made |
    | `on_evaluation` | it was evaluated on `eval_env`; where that is due |
    | `on_checkpoint` | its checkpoint is on the disk; where one is due |
    | `on_end` | training has ended, in whatever way; all files are written |

    Attributes:
        interval: updates between two calls of `on_rollout` and `on_update`, the first update's included. None calls
            `on_update` whenever training comes by: on host environments after each update, on device environments,
            where several are made in one program, after about a second.
    """

    interval: int | None = 1
    is_setting: bool = False
    """True for one that `learn` makes of its own arguments: it has no state in checkpoints."""

    def on_start(self, training: Training) -> None:
        """Called once, before the first update of this call of `learn`; the callback's state is restored already."""

    def on_rollout(self, training: Training) -> None:
        """Called when a rollout was collected, before the update that learns from it: `training.rollout` has it, and
        `training.update` counts the updates before. On device environments rollout and update are one program: called
        after both, without the rollout.
        """

    def on_update(self, training: Training) -> None:
        """Called after an update."""

    def on_evaluation(self, training: Training) -> None:
        """Called after an evaluation on `eval_env`, which `training.evaluation` has."""

    def on_checkpoint(self, training: Training) -> None:
        """Called when a checkpoint is on the disk, `training.checkpoint`. A run that goes on from a checkpoint calls it
        once more for that one, as the state in it is that of before the call.
        """

    def on_end(self, training: Training) -> None:
        """Called when training has ended: by itself, by `training.stop_reason`, or by `training.error`."""

    def before_end(self, training: Training, until: Callable[[], bool]) -> None:
        """Called before the files are closed where training ended by itself or by a `stop_reason`, not by a signal:
        for what must still be written. Waits no longer once `until` is True.
        """

    def state_dict(self) -> Mapping[str, Any]:
        """The state to go on with, which each checkpoint gets: a dict of numbers, text, None, NumPy's arrays, and lists
        and dicts of these. (A run that begins from other weights has a checkpoint of update 0, from before `on_start`.)
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned, in a run that goes on; called before `on_start`."""


def is_number(value: Any) -> bool:
    """True for a real number, of Python or NumPy."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_own(name: str) -> bool:
    """True for a name of the log's own columns."""
    return name in OWN_COLUMNS or name.startswith(OWN_FOLDERS)


def evaluation_figures(evaluation: Evaluation) -> dict[str, float]:
    """The means of an evaluation, by the log's names."""
    infos = {key: values[values == values] for key, values in evaluation.infos.items()}
    return {
        "eval_eprewmean": evaluation.mean,
        "eval_eplenmean": float(evaluation.lengths.mean()) if len(evaluation.lengths) else math.nan,
        **{f"eval_info/{key}": math.fsum(x) / len(x) if len(x) else math.nan for key, x in infos.items()},
    }
