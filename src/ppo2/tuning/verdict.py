"""The comparison with the preset, on seeds that the search has not seen: the best of many trials looks better than it
is.

The best trials are trained again, with seeds of their own, and the best of these is taken. That and the preset are
then trained with more new seeds, from which alone the reported figures come.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ppo2.numerics.intervals import half_width
from ppo2.tuning.study import Study, Told
from ppo2.tuning.trainers import Trainings, TuneScreen
from ppo2.tuning.trial import Part, Planner, TrialRun

FINALISTS = 3
"""Best trials that are trained again."""
CHOICE_SHARE = 0.4
"""Seeds of these, as a share of those of the comparison that follows."""
PRESET = 0
"""Number of the trial that has the preset's settings."""


class Estimate(NamedTuple):
    """A mean return over trainings with different seeds, and the interval that holds it with 95 % confidence (Student's
    t): NaN, and infinite, of fewer than two.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        mean, variance, count = _moments(values)
        half = half_width(math.sqrt(variance / count), count - 1) if count > 1 else math.inf
        return cls(mean, mean - half, mean + half, count)

    def __str__(self) -> str:
        return "failed" if math.isnan(self.mean) else f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


class Verdict(NamedTuple):
    """The outcome of the comparison.

    Attributes:
        winner: number of the trial whose settings are the result: `PRESET`, unless `tuned` is better on average.
        trial: number of the trial that was compared with the preset.
        tuned, preset: estimates of both.
        difference: the difference of the means, and the interval that holds it with 95 % confidence (Welch's t).
    """

    winner: int
    trial: int
    tuned: Estimate
    preset: Estimate
    difference: tuple[float, float, float]

    @classmethod
    def of(cls, trial: int, tuned: Sequence[float], preset: Sequence[float]) -> "Verdict":
        mine, theirs = Estimate.of(tuned), Estimate.of(preset)
        is_better = mine.mean > theirs.mean or (math.isnan(theirs.mean) and not math.isnan(mine.mean))
        return cls(trial if is_better else PRESET, trial, mine, theirs, _difference(tuned, preset))

    @property
    def is_clear(self) -> bool:
        """True if the interval of the difference excludes 0."""
        _, low, high = self.difference
        return low > 0 or high < 0

    def words(self) -> str:
        """The outcome, in a sentence."""
        failed = [
            name
            for name, one in ((f"trial {self.trial}", self.tuned), ("the preset", self.preset))
            if math.isnan(one.mean)
        ]
        if failed:
            which = "the preset's settings are" if self.winner == PRESET else f"trial {self.trial} is"
            return f"{which} the result: trainings of {' and of '.join(failed)} failed on new seeds"
        mean, low, high = self.difference
        told = f"a difference of {mean:+.1f} [{low:+.1f}, {high:+.1f}]"
        if self.winner == PRESET:
            same = "reaches as much" if self.tuned.mean == self.preset.mean else "isn't beaten"
            return f"the preset {same}, so that its settings are the result: trial {self.trial} makes {told}"
        clear = "" if self.is_clear else ", which more seeds might reverse"
        return f"trial {self.trial} beats the preset: {told}{clear}"


@dataclass
class Comparison:
    """Compares the best trials with the preset.

    Attributes:
        seeds: trainings of each side.
        settings: gives the settings of a trial.
    """

    planner: Planner
    study: Study
    screen: TuneScreen
    seeds: int
    settings: Callable[[Told], Mapping[str, Any]]
    _waiting: list[TrialRun] = field(default_factory=list)

    def make(self, trainings: Trainings) -> Verdict | None:
        """Makes the trainings that are missing. None where a signal came before they were all made, or no trial is
        complete but the preset's.
        """
        finalists = self._finalists()
        if not finalists:
            return None
        best = finalists[0]
        if len(finalists) > 1:
            places = choice_seeds(self.seeds)
            if not self._train(trainings, "choice", finalists, places):
                return None
            best = max(finalists, key=lambda number: _or_least(self._all_values(number, places)))
        if not self._train(trainings, "verdict", [best, PRESET], self.seeds):
            return None
        return Verdict.of(best, *(self._values("verdict", number, self.seeds) for number in (best, PRESET)))

    def _finalists(self) -> list[int]:
        """The best trials, the preset's left out, and one of those with the same settings."""
        complete = [told for told in self.study.trials if told.status == "complete"]
        if not complete:
            return []
        found, seen = list[int](), [repr(sorted(self.settings(self.study.trial(PRESET)).items(), key=str))]
        for told in sorted(complete, key=lambda told: (-told.value, told.number)):
            mine = repr(sorted(self.settings(told).items(), key=str))
            if mine not in seen and len(found) < FINALISTS:
                seen.append(mine)
                found.append(told.number)
        return found

    def _train(self, trainings: Trainings, part: Part, numbers: Sequence[int], places: int) -> bool:
        """Makes the trainings of a part that are missing. False where a signal came before they were all made."""
        wanted = [(number, place) for place in range(places) for number in numbers]
        missing = [one for one in wanted if not _is_known(self.study.final(_name(part, *one)))]
        if trainings.stop.received is None:
            for index, (number, place) in enumerate(missing):
                settings = self.settings(self.study.trial(number))
                self._waiting.append(self.planner.plan(settings, index, trial=number, place=place, part=part))
            trainings.train(self._more, self._ended)
        return all(self.study.final(_name(part, *one)) is not None for one in wanted)

    def _more(self, count: int) -> Sequence[TrialRun]:
        found, self._waiting = self._waiting[:count], self._waiting[count:]
        return found

    def _ended(self, run: TrialRun) -> None:
        if run.status != "stopped":
            value = run.value if run.failure is None and math.isfinite(run.value) else math.nan
            self.study.finish_final(_name(run.part, run.trial, run.place), value)

    def _all_values(self, number: int, places: int) -> list[float]:
        """The mean returns of a finalist: of its trainings in the search too, which all of them were chosen by."""
        return [*self.study.trial(number).values.values(), *self._values("choice", number, places)]

    def _values(self, part: Part, number: int, places: int) -> list[float]:
        found = [self.study.final(_name(part, number, place)) for place in range(places)]
        return [math.nan if value is None else value for value in found]


def choice_seeds(seeds: int) -> int:
    """Trainings of each finalist."""
    return max(1, round(CHOICE_SHARE * seeds))


def _name(part: Part, number: int, place: int) -> str:
    return f"{part} {number} {place}"


def _is_known(value: float | None) -> bool:
    """False for a training that was not made, and for one that failed, which the next call makes again."""
    return value is not None and not math.isnan(value)


def _or_least(values: Sequence[float]) -> float:
    """The mean; least of all where a training failed."""
    mean = math.fsum(values) / len(values)
    return -math.inf if math.isnan(mean) else mean


def _moments(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean, variance and number; NaN of one that failed."""
    numbers = np.asarray(values, np.float64)
    return float(numbers.mean()), float(numbers.var(ddof=1)) if len(numbers) > 1 else math.nan, len(numbers)


def _difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """The difference of two means, and its interval by Welch's t."""
    (mean_a, var_a, n_a), (mean_b, var_b, n_b) = _moments(a), _moments(b)
    mean, parts = mean_a - mean_b, (var_a / n_a, var_b / n_b)
    if min(n_a, n_b) < 2:
        return mean, -math.inf, math.inf
    total = sum(parts)
    if not total > 0:
        return mean, mean - total, mean + total
    freedom = total**2 / (parts[0] ** 2 / (n_a - 1) + parts[1] ** 2 / (n_b - 1))
    half = half_width(math.sqrt(total), freedom)
    return mean, mean - half, mean + half
