"""Stopping early: a mean return that is high enough, or a figure that no longer improves."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ppo2.callbacks.base import Callback, Training, is_number, is_own
from ppo2.reporting.episode_file import RECENT_SHARE
from ppo2.runners.episodes import EPISODE_WINDOW

FEWEST_RECENT = 10
"""Fewest recent episodes that decide whether a threshold is reached."""
By = Literal["episodes", "evaluation"]


class RewardThreshold(Callback):
    """Stops training once the mean return reaches a threshold.

    By "episodes" it is that of the last 100 training episodes. Long episodes of before would keep it low for long:
    where the last 100 took more than a twentieth of all timesteps, those within it (10 at least) are enough, if their
    mean less its standard error reaches the threshold. By "evaluation" it is that of an evaluation on `eval_env`.

    Args:
        threshold: the mean return to reach; None: the environment's `reward_threshold`.
        by: the episodes that count.

    Attributes:
        mean: the last mean return that was looked at.
        reached: True once it reached the threshold.

    Raises:
        ValueError, when training starts: the environment has no `reward_threshold`, or there is no `eval_env`.
    """

    def __init__(self, threshold: float | None = None, *, by: By = "episodes") -> None:
        if threshold is not None and not (is_number(threshold) and math.isfinite(threshold)):
            raise ValueError(f"`threshold` (={threshold!r}) must be a number, or None.")
        self.threshold, self._given, self.by = threshold, threshold, checked_by(by)
        self.mean, self.reached = math.nan, False
        self._episodes = "the evaluation"  # whose mean return it is
        if by == "evaluation":
            self.interval = None  # evaluations are enough

    def on_start(self, training: Training) -> None:
        if self.by == "evaluation":
            check_evaluates(training, "RewardThreshold(by='evaluation')")
        self.mean, self.reached = math.nan, False  # it may have been in another training
        if self._given is None:
            self.threshold = reward_threshold(training.config.env, made=training.env)

    def on_update(self, training: Training) -> None:
        if self.by == "episodes" and training.stats is not None:
            self.look(training.stats, training.config.total_timesteps)
            self._stop_if_reached(training)

    def on_evaluation(self, training: Training) -> None:
        if self.by == "evaluation" and training.evaluation is not None and self.threshold is not None:
            self.mean = training.evaluation.mean
            self.reached = self.mean >= self.threshold
            self._stop_if_reached(training)

    def look(self, stats: Any, total_timesteps: float) -> None:
        """Looks whether the episodes so far reach the threshold.

        Args:
            stats: figures of an update, as `update_fn` gets them.
        """
        assert self.threshold is not None
        self.mean, self._episodes = float(stats.eprewmean), f"the last {EPISODE_WINDOW} episodes"
        self.reached = self.mean >= self.threshold and stats.episodes >= EPISODE_WINDOW
        recent = _recent(stats.last, RECENT_SHARE * total_timesteps)
        if not self.reached and len(recent) >= FEWEST_RECENT:
            mean = statistics.fmean(recent)
            if mean - statistics.stdev(recent) / math.sqrt(len(recent)) >= self.threshold:
                self.mean, self._episodes, self.reached = mean, f"the last {len(recent)} episodes", True

    def verdict(self) -> str:
        """The outcome, in words."""
        if self.reached:
            mean = f"the mean return of {self._episodes}, {self.mean:.1f}"
            return f"solved: {mean}, reaches the threshold of {self.threshold:g}"
        is_above = self.threshold is not None and self.mean >= self.threshold
        few = f" in {EPISODE_WINDOW} episodes" if is_above else ""
        return f"not solved: the mean return did not reach the threshold of {self.threshold:g}{few}"

    def _stop_if_reached(self, training: Training) -> None:
        if self.reached:
            training.stop("solved" if self._given is None else self.verdict().removeprefix("solved: "))


class NoImprovement(Callback):
    """Stops training when a figure hasn't improved for some time.

    Args:
        patience: looks in a row without improvement that end training: evaluations, if the figure is of those, else
            every `interval` updates.
        monitor: the figure's name in the log: "eval_eprewmean", "eprewmean", "info/is_success", "loss/value_loss", ...
            One that a callback logs, such as "eval/NAME/eprewmean", is looked at when it is logged; that callback comes
            before this one in the list.
        mode: "max": higher is better; "min": lower is.
        min_delta: change that counts as an improvement, at least.
        after: timesteps before which no look counts.
        interval: updates between two looks.

    Attributes:
        best: the best value so far; NaN before the first.
        waited: looks since then.

    Raises:
        ValueError, when training starts: the figure is of evaluations, and there is no `eval_env`; at the first look:
            no figure has this name.
    """

    def __init__(
        self,
        patience: int,
        monitor: str = "eval_eprewmean",
        *,
        mode: Literal["max", "min"] = "max",
        min_delta: float = 0.0,
        after: float = 0,
        interval: int = 1,
    ) -> None:
        if type(patience) is not int or patience < 1:
            raise ValueError(f"`patience` (={patience!r}) must be a number of looks, at least 1.")
        if mode not in ("max", "min"):
            raise ValueError(f"`mode` (={mode!r}) must be 'max', where higher is better, or 'min'.")
        if type(monitor) is not str or not monitor:
            raise TypeError(f"`monitor` (={monitor!r}) must be the name of a figure, as in 'eprewmean'.")
        for name, value in (("min_delta", min_delta), ("after", after)):
            if not (is_number(value) and value >= 0):
                raise ValueError(f"`{name}` (={value!r}) must be a number, at least 0.")
        self.patience, self.monitor, self.mode, self.min_delta, self.after = patience, monitor, mode, min_delta, after
        self.interval = None if self._is_of_evaluations else interval
        self.best, self.waited = math.nan, 0
        self._has_told = False

    def on_start(self, training: Training) -> None:
        self._has_told = training.update > 0
        if training.update == 0:  # it may have been in another training
            self.best, self.waited = math.nan, 0
        if self._is_of_evaluations:
            check_evaluates(training, f"NoImprovement(monitor={self.monitor!r})")

    def on_update(self, training: Training) -> None:
        if not self._is_of_evaluations:
            self._look(training)

    def on_evaluation(self, training: Training) -> None:
        if self._is_of_evaluations or self.monitor in training.logged:
            self._look(training)

    def _look(self, training: Training) -> None:
        figures = training.figures
        if self.monitor not in (figures if is_own(self.monitor) else training.logged):
            if not self.monitor.startswith(("info/", "eval_info/")):  # which are there from when an episode has it
                self._wait_for_callback(training)
            return
        self._has_told = True
        now, sign = figures[self.monitor], 1.0 if self.mode == "max" else -1.0
        if math.isnan(now) or training.timesteps < self.after:
            return
        is_better = math.isnan(self.best) or sign * (now - self.best) > self.min_delta
        self.best, self.waited = (now, 0) if is_better else (self.best, self.waited + 1)
        if self.waited >= self.patience:
            looks = f"{self.waited} {'evaluations' if self._is_of_evaluations else 'looks'}"
            training.stop(f"no improvement: {self.monitor} hasn't been better than {self.best:g} for {looks}")

    def _wait_for_callback(self, training: Training) -> None:
        """Says once that no callback has logged the figure so far; raises ValueError where none could."""
        if is_own(self.monitor) or len(training.callbacks) == 1:
            known = ", ".join(training.figures)
            raise ValueError(f"`monitor` (={self.monitor!r}) is no figure of this training: {known}.")
        if not self._has_told and self.monitor not in training.figures:
            training.say(
                f"NoImprovement waits for {self.monitor!r}, which no callback before it in the list has logged so far"
            )
        self._has_told = True

    @property
    def _is_of_evaluations(self) -> bool:
        return self.monitor.startswith("eval_")

    def state_dict(self) -> Mapping[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


def checked_by(by: Any) -> By:
    """The argument `by`; raises ValueError for what is none."""
    if by not in ("episodes", "evaluation"):
        raise ValueError(f"`by` (={by!r}) must be 'episodes', those of training, or 'evaluation', on `eval_env`.")
    found: By = by
    return found


def check_evaluates(training: Training, what: str) -> None:
    """Raises ValueError where a training has no evaluations."""
    if training.config.eval_env is None:
        raise ValueError(f"{what} looks at evaluations, and there are none: give `eval_env`.")


def reward_threshold(env: Any, what: str = "RewardThreshold()", made: Any = None) -> float:
    """The mean return at which an environment counts as solved.

    Args:
        made: the vector environment that was made of it, for a function.

    Raises:
        ValueError: it is registered without one.
    """
    import gymnasium as gym

    from ppo2 import envs

    spec = getattr(env, "spec", None) or getattr(made, "spec", None)
    if isinstance(env, str):
        envs.check_id(env)
        spec = None if envs.adapter_of(env) else gym.spec(env.rpartition(":")[2])
    threshold = getattr(spec, "reward_threshold", None)
    if threshold is None:
        name = env if isinstance(env, str) else "`env`"
        raise ValueError(
            f"{what}: {name} is registered without a reward_threshold. Say which mean return is enough, as in Python "
            "RewardThreshold(200), or leave it out."
        )
    return float(threshold)


def _recent(episodes: Sequence[Any], most: float) -> list[float]:
    """The returns of the last episodes that took no more than so many timesteps; none if all did."""
    returns: list[float] = []
    steps = 0
    for episode in reversed(episodes):
        steps += episode.l
        if steps > most and len(returns) >= FEWEST_RECENT:
            return returns
        returns.append(episode.r)
    return returns if steps > most else []
