"""One training of a trial: planned, then watched."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppo2.config import Config
from ppo2.envs import AnyEnvs, DeviceVector
from ppo2.sweeps.plan import Returns, SweepRun, plan_run

MARKS = 5
"""Times that a training is looked at: after every fifth of it."""
FINAL_FACTOR = 5
"""Episodes of the evaluation that ends a training of the comparison, in those of a trial's."""
Part = Literal["search", "choice", "verdict"]
PARTS: tuple[Part, ...] = ("search", "choice", "verdict")
Judge = Callable[["TrialRun", int, float], bool]
"""A function of a training, the percent of it that is done, and the mean return by then: True gives it up."""


@dataclass
class TrialRun(SweepRun):
    """One training of a trial, with one of its seeds.

    Attributes:
        trial: the trial's number.
        part: belongs to the search, or to the comparison that follows it.
        place: number of its seed among those of the trial.
        judge: see `Judge`.
        by_episodes: it is judged by its training episodes, as nothing evaluates it before its end.
        last_evaluated: the last update after which it is evaluated, if anything does as it goes on.
        value: mean return of its last evaluation; NaN so far.
    """

    trial: int = 0
    part: Part = "search"
    place: int = 0
    judge: Judge | None = None
    by_episodes: bool = False
    last_evaluated: int = 0
    value: float = math.nan
    _marks: int = field(default=0, repr=False)

    @property
    def name(self) -> str:
        """Its directory's name, and that of its result."""
        stage = "" if self.part == "search" else f"{self.part}-"
        return f"{stage}{self.trial:04}-{self.place}"

    def record(self, update: int, returns: Returns) -> bool:
        """See `SweepRun`; looks at its evaluations too."""
        is_row = super().record(update, returns)
        value = returns.mean if self.by_episodes else returns.evaluation
        share = MARKS * update / max(self.config.nupdates, 1)
        mark = math.floor(share) if self.by_episodes else round(share)
        if not self.by_episodes and update == self.last_evaluated:
            self.value = math.nan  # it may have been broken off
        if not math.isnan(value):
            self.value = value
            if mark > self._marks and self.judge is not None and not self.given_up:
                self._marks = mark
                self.given_up = self.judge(self, 100 * min(mark, MARKS) // MARKS, value)
        return is_row


@dataclass(frozen=True)
class Planner:
    """Plans trainings of one environment.

    Attributes:
        vector: environments with its spaces.
        evaluates: trainings are evaluated as they go on; else by whoever trains them, at their end.
        path: the directory of the study, or None.
        eval_env: argument of `learn`; None: `env`.
        eval_env_kwargs: argument of `learn`.
        episodes: episodes in each evaluation of the search.
    """

    vector: AnyEnvs
    env: Any
    seed: int
    path: Path | None
    evaluates: bool
    eval_env: Any
    eval_env_kwargs: Mapping[str, Any] | None
    episodes: int

    def seed_of(self, part: Part, trial: int, place: int) -> int:
        """The seed of a training: each its own; of the comparison the same for all that are compared."""
        words = [self.seed, PARTS.index(part), trial if part == "search" else 0, place]
        return int(np.random.SeedSequence(words).generate_state(1)[0]) % 2**31

    def plan(
        self,
        settings: Mapping[str, Any],
        index: int,
        *,
        trial: int,
        place: int = 0,
        part: Part = "search",
        judge: Judge | None = None,
    ) -> TrialRun:
        """A training with these settings.

        Raises:
            ValueError, TypeError: they can't be.
        """
        seed = self.seed_of(part, trial, place)
        # in one program what is no number must not end the others' training
        faults = "skip" if isinstance(self.vector, DeviceVector) else Config.on_nonfinite
        arguments = {"on_nonfinite": faults, **settings, "seed": seed, **self._evaluation(part)}
        planned = plan_run(self.vector, self.env, arguments, index)
        if self.evaluates:
            arguments |= {"eval_interval": evaluation_interval(planned.config.nupdates, part), "verbose": 0}
        planned.settings, planned.named = arguments, {"trial": trial, "seed": seed}
        run = TrialRun(**vars(planned), trial=trial, part=part, place=place, judge=judge)
        run.by_episodes = not self.evaluates
        if self.evaluates:
            run.last_evaluated = planned.config.nupdates - planned.config.nupdates % arguments["eval_interval"]
        run.run_dir = None if self.path is None else self.path / "runs" / run.name
        return run

    def final_episodes(self, part: Part) -> int:
        """Episodes of the evaluation at the end of a training."""
        return self.episodes if part == "search" else FINAL_FACTOR * self.episodes

    def _evaluation(self, part: Part) -> dict[str, Any]:
        """The arguments by which `learn` evaluates, if it does; how often depends on the number of updates."""
        if not self.evaluates:
            return {}
        env = self.env if self.eval_env is None else self.eval_env
        how = {"eval_env_kwargs": self.eval_env_kwargs, "eval_episodes": self.final_episodes(part)}
        return {"eval_env": env, **how}


def evaluation_interval(updates: int, part: Part) -> int:
    """The updates between two evaluations: of the search a fifth of all, or fewer, so that the last one is at the end
    of training or shortly before; in the comparison there is one, at the end.
    """
    if part != "search":
        return updates
    most = max(1, updates // MARKS)
    return min(range(most, max(1, -(-updates // (2 * MARKS))) - 1, -1), key=lambda interval: updates % interval)
