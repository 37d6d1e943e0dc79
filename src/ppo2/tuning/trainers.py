"""Trainings of trials: side by side in processes, one after another in this one, or together in one program."""

import contextlib
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ppo2.checkpoints import checkpoint
from ppo2.envs import DeviceVector
from ppo2.evaluation.evaluate import evaluate
from ppo2.reporting.figures import Column, Pace
from ppo2.sweeps.plan import SweepRun
from ppo2.sweeps.processes import Pool
from ppo2.sweeps.screen import SweepScreen
from ppo2.sweeps.turns import train_in_turn
from ppo2.sweeps.vmapped import groups, train_together
from ppo2.system.signals import StopSignals
from ppo2.training.construction import place_model
from ppo2.training.start import Start
from ppo2.tuning.trial import Planner, TrialRun

COLUMNS = (
    Column("done", "trainings done", "done", ",.0f"),
    Column("pruned", "given up early", "given up", ",.0f"),
    Column("best", "best mean return", "best"),
)
EVALUATION_SEED = 0x5EED
"""Number by which the seed of an evaluation at the end differs from that of its training."""
More = Callable[[int], Sequence[TrialRun]]
"""A function that gives so many trainings to make next, at most; none where there is nothing to do at the moment."""
Ended = Callable[[TrialRun], None]


class TunePace(Pace):
    """The position of a search: trainings that are done, of those expected, each of which counts as one hundred."""

    def __init__(self, trainings: int) -> None:
        super().__init__(100 * trainings, 1)
        self.ended = 0

    def done(self) -> str:
        return f"training {self.ended + 1:,} of {self.total // 100:,}"


@dataclass
class TuneScreen(SweepScreen):
    """Shows how far a search is.

    Attributes:
        ended: number of trainings that are over; pruned: those of them that were given up.
        best: highest mean return of a trial.
    """

    ended: int = 0
    pruned: int = 0
    best: float = float("nan")

    def tick(self, updates: int) -> None:
        """See `SweepScreen`; counts shares of trainings, which have different numbers of updates."""
        shares = [100 * run.update // max(run.config.nupdates, 1) for run in self.runs]
        self.pace.tick(100 * self.ended + sum(shares))
        self.display.tick()

    def begin(self, runs: Sequence[SweepRun]) -> None:
        """Takes note of trainings that begin."""
        self.runs = [*self.runs, *runs]

    def end(self, run: TrialRun) -> None:
        """Takes note of a training that is over, whose model is no longer needed."""
        self.runs = [one for one in self.runs if one is not run]
        self.ended += 1
        self.pruned += run.given_up
        if isinstance(self.pace, TunePace):
            self.pace.ended = self.ended
        self.tick(0)
        self.show()

    def show(self) -> None:
        self.display.show({"done": self.ended, "pruned": self.pruned, "best": self.best})


@dataclass
class Trainings:
    """Makes trainings, `width` of them at a time.

    Attributes:
        pool: the processes for them; None: this process makes them, one after another, or of device environments
            together in one program.
    """

    planner: Planner
    screen: TuneScreen
    stop: StopSignals
    pool: Pool | None
    width: int

    def train(self, more: More, ended: Ended) -> None:
        """Makes trainings until there are no more, or a signal comes; `ended` gets each that is over."""
        vector, env = self.planner.vector, self.planner.env
        if isinstance(vector, DeviceVector):
            while runs := self._begin(more, self.width):
                self._together(vector, runs)
                for run in runs:
                    self._end(run, ended)
        elif self.pool is not None:
            running = 0

            def then(run: SweepRun) -> Sequence[TrialRun]:
                nonlocal running
                assert isinstance(run, TrialRun)
                self._end(run, ended)
                found = self._begin(more, self.width - running + 1)
                running += len(found) - 1
                return found

            first = self._begin(more, self.width)
            running = len(first)
            self.pool.train(env, first, self.screen, self.stop, then)
        else:
            while runs := self._begin(more, 1):
                train_in_turn(env, runs, self.screen, self.stop)
                if runs[0].status == "finished" and not self.planner.evaluates:
                    self._evaluate(runs[0])
                self._end(runs[0], ended)

    def _begin(self, more: More, count: int) -> Sequence[TrialRun]:
        runs = [] if self.stop.received is not None else more(count)
        for run in runs:
            if run.run_dir is not None and run.run_dir.exists():  # one that was broken off begins again
                shutil.rmtree(run.run_dir)
        self.screen.begin(runs)
        return runs

    def _end(self, run: TrialRun, ended: Ended) -> None:
        if run.run_dir is not None and run.part != "verdict":  # its figures are what counts
            with contextlib.suppress(OSError):
                shutil.rmtree(run.run_dir / checkpoint.FOLDER)
        ended(run)
        self.screen.end(run)

    def _together(self, vector: DeviceVector, runs: Sequence[TrialRun]) -> None:
        """Trains all in as few programs as their settings allow, and evaluates what was learned."""
        for group in groups(runs):
            if self.stop.received is None:
                self._in_one_program(vector, group)
        for run in runs:
            if run.status == "waiting":
                run.status = "stopped"

    def _in_one_program(self, vector: DeviceVector, runs: Sequence[TrialRun]) -> None:
        for run in runs:
            run.status = "running"
        try:
            train_together(vector.env, runs, self.screen, self.stop)
        except Exception as error:  # which ends all of them
            for run in runs:
                run.fail(error, "".join(traceback.format_exception(error)))
                self.screen.say_failure(run)
            return
        for run in runs:
            run.status = "finished" if self.stop.received is None else "stopped"
            if run.status == "finished":
                place_model(run.model, vector, Start())
                self._evaluate(run)

    def _evaluate(self, run: TrialRun) -> None:
        """Evaluates what a training has learned, which nothing did as it went on."""
        planner = self.planner
        env: Any = planner.eval_env if planner.eval_env is not None else planner.env
        seed = run.config.seed ^ EVALUATION_SEED
        try:
            episodes, kwargs = planner.final_episodes(run.part), planner.eval_env_kwargs
            run.value = evaluate(run.model, env, episodes, seed=seed, env_kwargs=kwargs, verbose=0).mean
        except Exception as error:  # of the environment
            run.fail(error, "".join(traceback.format_exception(error)))
            self.screen.say_failure(run)


class Clock:
    """Seconds of this call, after those of earlier ones."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
