"""Pruning trials of Optuna."""

from typing import Any

from ppo2.callbacks.base import Callback, Training
from ppo2.callbacks.stopping import By, check_evaluates, checked_by


class OptunaPruning(Callback):
    """Reports mean returns to a trial of Optuna, and ends a training that its pruner gives up.

    `learn` then saves as usual and raises `optuna.TrialPruned`, by which `study.optimize` knows.

    Args:
        trial: the trial.
        by: "evaluation" reports each evaluation on `eval_env`; "episodes" the mean of the last 100 training episodes,
            every `interval` updates. Steps are timesteps.
        interval: see `by`.
    """

    def __init__(self, trial: Any, *, by: By = "evaluation", interval: int = 10) -> None:
        if not (callable(getattr(trial, "report", None)) and callable(getattr(trial, "should_prune", None))):
            raise TypeError(f"`trial` (={trial!r}) must be a trial of Optuna.")
        self.trial, self.by = trial, checked_by(by)
        self.interval = None if by == "evaluation" else interval
        self._pruned = ""

    def on_start(self, training: Training) -> None:
        self._pruned = ""
        if self.by == "evaluation":
            check_evaluates(training, "OptunaPruning")

    def on_update(self, training: Training) -> None:
        if self.by == "episodes":
            self._report(training, training.figures["eprewmean"])

    def on_evaluation(self, training: Training) -> None:
        if self.by == "evaluation":
            self._report(training, training.figures["eval_eprewmean"])

    def on_end(self, training: Training) -> None:
        """Raises optuna.TrialPruned where the trial was pruned."""
        if self._pruned and training.error is None:
            import optuna

            raise optuna.TrialPruned(self._pruned)

    def _report(self, training: Training, mean: float) -> None:
        if mean != mean or self._pruned:  # no episode so far
            return
        self.trial.report(mean, step=training.timesteps)
        if self.trial.should_prune():
            self._pruned = f"pruned by Optuna: a mean return of {mean:.1f} after {training.timesteps:,} timesteps"
            training.stop(self._pruned)
