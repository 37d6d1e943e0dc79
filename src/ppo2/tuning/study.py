"""The study: Optuna's, in a file of SQLite, which one process writes and whose every step is on the disk at once."""

import contextlib
import importlib.util
import math
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppo2.system.text import install_command
from ppo2.tuning.axes import Choice, Range

NAME = "tune"
"""Name of the study in its file: `optuna-dashboard sqlite:///RUN_DIR/study.db` shows it."""
RANDOM_TRIALS = 8
"""Trials that are drawn at random before the sampler builds on what it has seen."""
PRUNED_FROM = 5
"""Trials that must be complete before one is compared with them."""
WARM_UP = 30
"""Percent of a training up to which no trial is given up."""
ERROR, SECONDS, FINAL, VALUE = "error", "seconds", "final ", "seed "
"""Names of attributes, of the last two followed by which."""


class Told(NamedTuple):
    """A trial, as the study has it.

    Attributes:
        status: "complete", "pruned", "failed", or "running", also where it was broken off.
        value: mean return over its seeds; NaN where there is none.
        seen: mean return of the first seed's evaluations, by percent of training.
        values: mean return of each seed that is finished, by its place.
    """

    number: int
    status: str
    value: float
    parameters: Mapping[str, Any]
    seen: Mapping[int, float]
    values: Mapping[int, float]
    error: str


def check_optuna() -> None:
    """Raises ValueError where Optuna isn't installed."""
    if importlib.util.find_spec("optuna") is None:
        raise ValueError(f"tune needs a package that isn't installed, Optuna: {install_command('tune')}.")


@contextlib.contextmanager
def opened(
    file: Path | None, parameters: Mapping[str, Choice | Range], seed: int, *, prunes: bool, together: bool
) -> Iterator["Study"]:
    """Context with the study in a file, which is made if it isn't there; in memory of None.

    Args:
        prunes: trials are given up by what was seen of them.
        together: several are trained at a time.
    """
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = _storage(file)
        try:
            yield Study(storage, parameters, seed, prunes=prunes, together=together)
        except Exception as error:
            if file is None or not _is_of_storage(error):
                raise
            raise OSError(
                f"the study {file} can't be written, or read ({_cause(error)}): make sure that there is room on the "
                "disk, and that this process may write there; then the same call continues."
            ) from error
        finally:
            if file is not None:
                storage.scoped_session.remove()
                storage.engine.dispose()
    finally:
        optuna.logging.set_verbosity(before)


def _is_of_storage(error: BaseException) -> bool:
    """True for errors of SQLite, and of what stands between it and this module."""
    import optuna

    own = (sqlite3.Error, optuna.exceptions.StorageInternalError)
    return isinstance(error, own) or type(error).__module__.startswith("sqlalchemy.")


def _cause(error: BaseException) -> BaseException:
    """The error of SQLite that an error comes from."""
    while not isinstance(error, sqlite3.Error) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _storage(file: Path | None) -> Any:
    import optuna

    if file is None:
        return optuna.storages.InMemoryStorage()
    from sqlalchemy.pool import StaticPool

    # by its path, not as a part of an address, in which some characters mean something
    engine = {"creator": lambda: sqlite3.connect(file, check_same_thread=False), "poolclass": StaticPool}
    try:
        return optuna.storages.RDBStorage("sqlite://", engine_kwargs=engine)
    except Exception as error:  # of whatever SQLAlchemy finds in it
        raise ValueError(f"{file} can't be read as a study of Optuna ({type(error).__name__}: {error}).") from error


class Study:
    """Trials: their parameters, what was seen of them, what came of them.

    The sampler is made anew for each trial, from the seed and the trial's number: one at a time, the same trials come
    whether or not the search was broken off between two of them.
    """

    def __init__(
        self, storage: Any, parameters: Mapping[str, Choice | Range], seed: int, *, prunes: bool, together: bool
    ) -> None:
        import optuna

        self._parameters = dict(parameters)
        self._seed, self._together = seed, together
        median = optuna.pruners.MedianPruner(n_startup_trials=PRUNED_FROM, n_warmup_steps=WARM_UP)
        pruner = median if prunes else optuna.pruners.NopPruner()
        self._study = optuna.create_study(
            storage=storage, study_name=NAME, direction="maximize", load_if_exists=True, pruner=pruner
        )
        self._asked: dict[int, Any] = {}
        for told in self.trials:
            if told.status == "running" and not self._parameters.keys() <= told.parameters.keys():
                self._propose(told.number)  # it was broken off as its parameters were written down

    def ask(self, parameters: Mapping[str, Any] | None = None) -> Told:
        """A new trial; with these parameters, or those that its sampler proposes."""
        number = len(self._study.get_trials(deepcopy=False))
        if parameters is not None:
            self._study.enqueue_trial(dict(parameters))
        self._propose(number)
        return self.trial(number)

    def _propose(self, number: int) -> None:
        """Gives the trial of a number its parameters; a new one, or one that has not all of them."""
        import optuna

        with warnings.catch_warnings(action="ignore"):  # some of what is used is experimental in some versions
            self._study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=RANDOM_TRIALS,
                multivariate=True,
                constant_liar=self._together,
                seed=int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0]),
            )
            found = self._study.get_trials(deepcopy=False)
            is_new = number == len(found) or found[number].state == optuna.trial.TrialState.WAITING
            trial = self._asked[number] = self._study.ask() if is_new else self._handle(number)
            assert trial.number == number
            for name, values in self._parameters.items():
                _suggest(trial, name, values)

    def trial(self, number: int) -> Told:
        return _told(self._study.get_trials(deepcopy=False)[number])

    @property
    def trials(self) -> list[Told]:
        """All trials, by number."""
        return [_told(trial) for trial in self._study.get_trials(deepcopy=False)]

    def see(self, number: int, percent: int, value: float) -> bool:
        """Takes note of what a trial has reached after so many percent of its training. True if it isn't worth going
        on with.
        """
        trial = self._handle(number)
        if percent not in self.trial(number).seen:
            trial.report(value, percent)
        return percent < 100 and number > 0 and bool(trial.should_prune())

    def finish_seed(self, number: int, place: int, value: float) -> None:
        """Takes note of what one seed of a trial has reached."""
        self._handle(number).set_user_attr(f"{VALUE}{place}", value)

    def complete(self, number: int) -> None:
        """Takes note of a trial whose seeds are all finished."""
        values = [*self.trial(number).values.values()]
        self._study.tell(number, math.fsum(values) / len(values))

    def prune(self, number: int) -> None:
        """Takes note of a trial that was given up."""
        import optuna

        self._study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, words: str) -> None:
        """Takes note of a trial that failed, and why."""
        import optuna

        self._handle(number).set_user_attr(ERROR, words)
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)

    @property
    def seconds(self) -> float:
        """Seconds that were spent on searching."""
        return float(self._study.user_attrs.get(SECONDS, 0.0))

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._study.set_user_attr(SECONDS, seconds)

    def final(self, name: str) -> float | None:
        """The mean return of a training of the comparison; None: it was not made; NaN: it failed."""
        found = self._study.user_attrs.get(FINAL + name, ())
        return None if found == () else math.nan if found is None else float(found)

    def finish_final(self, name: str, value: float) -> None:
        """Takes note of a training of the comparison."""
        self._study.set_user_attr(FINAL + name, None if math.isnan(value) else value)

    def importances(self) -> dict[str, float]:
        """The share of each parameter in what made trials good, the greatest first; {} where there are too few.

        Source: Watanabe et al. 2023, arXiv:2304.10255 (PED-ANOVA).
        """
        import optuna

        complete = [trial for trial in self.trials if trial.status == "complete"]
        if len({trial.value for trial in complete}) < 3 or len(complete) < RANDOM_TRIALS:  # nothing to tell apart
            return {}
        with warnings.catch_warnings(action="ignore"):
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}

    def _handle(self, number: int) -> Any:
        """Optuna's handle of a trial, also of one that another process began."""
        import optuna

        if number not in self._asked:
            frozen = self._study.get_trials(deepcopy=False)[number]
            self._asked[number] = optuna.trial.Trial(self._study, frozen._trial_id)
        return self._asked[number]


def _told(trial: Any) -> Told:
    status = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(trial.state.name, "running")
    attributes = trial.user_attrs
    values = {int(key.removeprefix(VALUE)): v for key, v in attributes.items() if key.startswith(VALUE)}
    value = float(trial.value) if status == "complete" else math.nan
    seen = dict(sorted(trial.intermediate_values.items()))
    return Told(trial.number, status, value, trial.params, seen, values, attributes.get(ERROR, ""))


def _suggest(trial: Any, name: str, values: Choice | Range) -> None:
    """Gives a trial a parameter: what it was asked for with, or what the sampler proposes."""
    if isinstance(values, Choice):
        trial.suggest_categorical(name, values.values)
    elif values.is_whole:
        trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    else:
        trial.suggest_float(name, values.low, values.high, log=values.log)
