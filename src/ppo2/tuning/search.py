"""The search: which training is next, and which trial is given up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ppo2.envs import DeviceVector
from ppo2.tuning.space import Space, listed
from ppo2.tuning.study import Study, Told
from ppo2.tuning.trainers import Clock, TuneScreen
from ppo2.tuning.trial import Planner, TrialRun

HOPELESS = 5
"""First trials after which, where all of them failed, the others are not begun."""
NO_RETURN = "no episode ended in its evaluation, or its return was no number"


@dataclass(frozen=True)
class Budget:
    """The work that a search may do.

    Attributes:
        trials: number of trials, those that failed or were given up included.
        minutes: time after which no trial begins, over all calls; None: no limit.
        seeds: trainings of each trial.
    """

    trials: int
    minutes: float | None
    seeds: int


@dataclass
class Search:
    """Makes trials until the budget is spent: `more` and `ended` are for `Trainings`.

    Attributes:
        errors: the error of each trial that failed in this call, by number.
    """

    planner: Planner
    space: Space
    study: Study
    budget: Budget
    screen: TuneScreen
    errors: dict[int, Exception] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._clock = Clock(self.study.seconds)
        self._running: dict[int, set[int]] = {}
        self._index = 0
        self._best = max(self._complete(), key=lambda told: told.value, default=None)
        self.screen.best = math.nan if self._best is None else self._best.value
        for told in self.study.trials:
            if told.status == "running":
                self._running[told.number] = set()
                self._complete_if_whole(told.number)

    def settings(self, told: Told) -> Mapping[str, Any]:
        """The settings of a trial; of the first those of the preset."""
        return self.space.base if told.number == 0 else self.space.settings(told.parameters)

    def more(self, count: int) -> Sequence[TrialRun]:
        """See `Trainings`: other seeds of trials that go on, then new trials."""
        found = list[TrialRun]()
        while len(found) < count:
            place = self._waiting()
            if place is None:
                if not self._may_begin():
                    break
                told = self.study.ask(self.space.of_base if not self.study.trials else None)
                self._running[told.number] = set()
                continue
            if (run := self._planned(*place)) is not None:
                found.append(run)
        return found

    def ended(self, run: TrialRun) -> None:
        """See `Trainings`."""
        self.study.seconds = self._clock.seconds
        number = run.trial
        if number not in self._running:  # another of its seeds has failed
            return
        self._running[number].discard(run.place)
        if run.status == "stopped":
            return
        if run.failure is not None:
            self._fail(number, run.failure.error)
        elif run.given_up:
            del self._running[number]
            self.study.prune(number)
            seen = self.study.trial(number).seen
            percent = max(seen, default=0)
            self._say(number, f"given up after {percent} %, at {seen.get(percent, math.nan):.1f}")
        elif not math.isfinite(run.value):
            self._fail(number, ValueError(NO_RETURN))
            self._say(number, f"failed: {NO_RETURN}")
        else:
            self.study.finish_seed(number, run.place, run.value)
            self._complete_if_whole(number)

    def known(self) -> list[Told]:
        """The trials whose settings are known: of the last one they may not be, where it was broken off."""
        names = self.space.parameters.keys()
        return [told for told in self.study.trials if told.number == 0 or names <= told.parameters.keys()]

    @property
    def all_failed(self) -> bool:
        """True where no trial did anything but fail."""
        trials = self.study.trials
        return bool(trials) and all(told.status == "failed" for told in trials)

    @property
    def is_hopeless(self) -> bool:
        """True where the first trials of this call have all failed, and no other came further."""
        return len(self.errors) >= HOPELESS and all(
            told.status in ("failed", "running") and not told.seen for told in self.study.trials
        )

    def _complete(self) -> list[Told]:
        return [told for told in self.study.trials if told.status == "complete"]

    def _may_begin(self) -> bool:
        is_late = self.budget.minutes is not None and self._clock.seconds >= 60 * self.budget.minutes
        return len(self.study.trials) < self.budget.trials and not is_late and not self.is_hopeless

    def _waiting(self) -> tuple[int, int] | None:
        """A trial, and the place of its next seed. One is judged by its first seed before it gets others; together with
        others in one program none is.
        """
        together = isinstance(self.planner.vector, DeviceVector)
        for number, running in self._running.items():
            values = self.study.trial(number).values
            several = together or 0 in values
            for place in range(self.budget.seeds if several else 1):
                if place not in values and place not in running:
                    return number, place
        return None

    def _planned(self, number: int, place: int) -> TrialRun | None:
        """The training, or None where its settings can't be: then the trial has failed."""
        told = self.study.trial(number)
        try:
            run = self.planner.plan(self.settings(told), self._index, trial=number, place=place, judge=self._judge)
        except (ValueError, TypeError) as error:
            self._fail(number, error)
            self._say(number, f"failed: {error}")
            return None
        self._index += 1
        self._running[number].add(place)
        return run

    def _judge(self, run: TrialRun, percent: int, value: float) -> bool:
        """True if a trial isn't worth going on with: see `Judge`."""
        if run.place or run.trial not in self._running:
            return False
        return self.study.see(run.trial, percent, value)

    def _fail(self, number: int, error: Exception) -> None:
        self._running.pop(number, None)
        self.errors[number] = error
        self.study.fail(number, f"{type(error).__name__}: {error}")

    def _complete_if_whole(self, number: int) -> None:
        if len(self.study.trial(number).values) < self.budget.seeds:
            return
        self._running.pop(number, None)
        self.study.complete(number)
        told = self.study.trial(number)
        if self._best is None or told.value > self._best.value:
            self._best = told
            self.screen.best = told.value
        self._say(number, f"{told.value:.1f}")

    def _say(self, number: int, words: str) -> None:
        """Says what came of a trial, with its settings, and which is the best so far."""
        told = self.study.trial(number)
        which = "the preset" if number == 0 else listed(self.settings(told), [*self.space.axes])
        best = "" if self._best is None or self._best.number == number else f"  best {self._best.value:.1f}"
        mark = "  best so far" if self._best is not None and self._best.number == number else best
        self.screen.display.say(f"trial {number:<3}  {words}{mark}  ({which})")
