"""`tune`: a search for settings that an environment is learned better with."""

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppo2.agent.placement import asked_place, place_to_begin
from ppo2.config import Config
from ppo2.envs import DeviceVector
from ppo2.envs.host.vec_env import is_made
from ppo2.numerics.compilation import computing_on, transfers_allowed
from ppo2.reporting.screens import open_display, shows_progress
from ppo2.sweeps.processes import Pool
from ppo2.sweeps.turns import (
    Parallel,
    check_one_process,
    checked_parallel,
    how_to_train,
    kwargs_to_look_at,
    may_need_processes,
)
from ppo2.system import runtime
from ppo2.system.calls import told_plainly
from ppo2.system.signals import StopSignals, raise_for
from ppo2.system.verbosity import spoken
from ppo2.training import interruption, run_directory
from ppo2.training.construction import open_environment, place_model
from ppo2.training.start import Start
from ppo2.tuning import directory
from ppo2.tuning.plan import Plan, plan
from ppo2.tuning.result import Tuning, result_of, save
from ppo2.tuning.search import Budget, Search
from ppo2.tuning.study import Study, Told, check_optuna, opened
from ppo2.tuning.trainers import COLUMNS, Trainings, TunePace, TuneScreen
from ppo2.tuning.trial import Planner
from ppo2.tuning.verdict import PRESET, Comparison, Verdict


@told_plainly("ppo2.tune(env='CartPole-v1', trials=30, total_timesteps=5e4)")
@spoken
@transfers_allowed
def tune(
    *,
    env: Any,
    trials: int = 30,
    time_limit: float | None = None,
    seeds: int = 1,
    final_seeds: int = 5,
    space: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    seed: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    parallel: Parallel = "auto",
    dry_run: bool = False,
    verbose: int = 1,
    progress: bool | None = None,
    **arguments: Any,
) -> Tuning:
    """Searches for settings that train better on an environment than its preset, with Optuna's TPE.

    The first trial has the settings of the preset (`ppo2.preset`), the others have settings from a space. From two
    fifths of its training on, a trial is given up if it is worse than half of the earlier ones. Then the best trials
    are trained again, and the best of these is compared with the preset on `final_seeds` new seeds. If it is no better,
    the result is the preset. See docs/tuning.md.

    Args:
        env: environment to train on, in any form that `learn` takes. One that exists already can't be given to several
            processes, nor evaluated on while it is trained on: its trials train one after another, and are judged by
            the returns of training until their end.
        trials: number of trials, the preset's, failed ones and those given up included.
        time_limit: minutes after which no trial begins, over all calls for one study; the comparison is not in it.
        seeds: trainings of each trial, with different seeds; its value is their mean.
        final_seeds: trainings of each side of the comparison, at least 2.
        space: the settings to search, as a file (YAML, TOML, JSON) or a dict, in the form of `tuning/spaces.yaml`,
            which has the one of each family: {"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "nsteps": [64, 128]}.
            None: that of the environment's family, without what is given here as an argument.
        seed: seed of the search and, by way of it, of all trainings; None draws one. One trial at a time, the same
            seed makes the same trials; of several, the next one also depends on which of them ends first.
        run_dir: directory for the study (`study.db`, SQLite), a run directory for each training, the table
            (`trials.csv`), pictures and `best.yaml`, which `ppo2 train --config` takes; None writes nothing. A search
            that was stopped or killed goes on with the same arguments, of which the budget (`trials`, `time_limit`,
            `final_seeds`) and `parallel` may differ.
        parallel: trainings at a time, on host environments each in a process of its own; "auto": as many as there are
            processors, as in `sweep`. On device environments the trials that train in one program; "auto": a quarter
            of all, 16 at most.
        dry_run: True prints the plan of the search and its space, and trains nothing.
        verbose: see `learn`; the messages are about the trials.
        progress: see `learn`.
        **arguments: arguments of `learn` and of the network's builder, which all trainings have in place of the
            preset's; they are not searched. `total_timesteps` is that of each training. `eval_env` and `eval_episodes`
            say on what, and on how many episodes, trials are evaluated; the comparison takes five times as many.

    Returns:
        See `Tuning`: `best_settings`, `value`, `interval`, `trials`, `path`.

    Raises:
        ValueError, TypeError: an argument that can't work, before any training; it says which, and why.
        Exception: the error of the first trial, if all trials failed.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; trials that were training begin again in the next call,
            and `ppo2.interrupted` returns the result so far. In a notebook or at a prompt Ctrl-C returns it.
    """
    runtime.begin()
    check_one_process("search")
    check_optuna()
    parallel = checked_parallel(parallel, "local")
    made = plan(env, arguments, space, Budget(trials, time_limit, seeds), final_seeds)
    asked_place(made.space.base.get("device", Config.device))
    if dry_run:
        return _say_plan(made, parallel)
    with run_directory.locked(run_dir):
        path = run_directory.absolute(run_dir)  # now: an environment may change the current directory
        before = None if path is None else directory.settings_in(path)
        now = made.settings(directory.seed_of(seed, before))
        shows = shows_progress(progress, verbose)
        work = _Work(made, now, path, before)
        result, stop = work.do(parallel, shows)
    if stop.received is not None:
        interruption.keep(result)
        if not interruption.is_returned(stop):
            raise_for(stop.received)
    return result


class _Work:
    """A search and the comparison that follows it.

    Args:
        now: the settings of the study; before: those of the one in its directory, or None.
    """

    def __init__(self, made: Plan, now: Mapping[str, Any], path: Path | None, before: Mapping[str, Any] | None) -> None:
        self.plan, self.now, self.path, self.before = made, now, path, before

    def do(self, parallel: Parallel, progress: bool) -> tuple[Tuning, StopSignals]:
        """Searches and compares. Returns the result, and the signals that came."""
        made, env = self.plan, self.plan.env
        base = made.space.base
        with contextlib.ExitStack() as stack:
            early = may_need_processes(parallel, "local", env, made.most_at_once)
            pool = stack.enter_context(Pool(early)) if early else None
            looked_at = stack.enter_context(contextlib.ExitStack())
            count = base.get("num_envs") if is_made(env) else 1
            kwargs = kwargs_to_look_at(env, base.get("env_kwargs"))
            vector = open_environment(looked_at, env, count, env_kwargs=kwargs)
            on_device = isinstance(vector, DeviceVector)
            stack.enter_context(computing_on(place_to_begin(base.get("device", Config.device), on_device=on_device)))
            planner = Planner(
                vector, env, self.now["seed"], self.path, made.evaluates, made.eval_env, made.eval_env_kwargs,
                made.episodes,
            )  # fmt: skip
            width, how, pool = self._width(planner, parallel, pool, early)
            if not is_made(env) and not on_device:
                looked_at.close()  # each training makes its own
            if self.path is not None:
                directory.begin(self.path, self.before, self.now)
            study = stack.enter_context(self._study(width, prunes=not on_device))
            screen = self._screen(stack, progress)
            for line in (*made.lines(width, how), *self._note(study)):
                screen.display.say(line)
            interruption.forget()
            stop = stack.enter_context(StopSignals())
            screen.display.begin()
            trainings = Trainings(planner, screen, stop, pool, width)
            result = self._search(trainings, study)
            screen.display.say(result.words())
            if self.path is not None and not result.unsaved and not math.isnan(result.value):
                screen.display.say(f"settings  {self.path / directory.BEST}: {result.command}")
        return result, stop

    def _search(self, trainings: Trainings, study: Study) -> Tuning:
        made, planner, screen = self.plan, trainings.planner, trainings.screen
        search = Search(planner, made.space, study, made.budget, screen)
        verdict: Verdict | None = None
        try:
            trainings.train(search.more, search.ended)
            if not search.all_failed:  # after a signal it is as far as it was
                compared = Comparison(planner, study, screen, made.final_seeds, search.settings)
                verdict = compared.make(trainings)
        finally:
            told = search.known()
            settings = {PRESET: made.space.base} | {one.number: search.settings(one) for one in told}
            result = result_of(made.env, told, settings, [*made.space.axes], verdict, study.importances(), self.path)
            result.failures = dict(search.errors)
            result.unsaved = save(result, told)
        if trainings.stop.received is None and search.all_failed:
            raise self._error_of_all(search, told)
        return result

    def _error_of_all(self, search: Search, told: Sequence[Told]) -> Exception:
        """The error where all trials failed."""
        for error in search.errors.values():
            error.add_note(f"All {len(told)} trials failed; this is the error of the first.")
            return error
        return ValueError(
            f"all {len(told)} trials of the study in {self.path} have failed before, the first with: {told[0].error}. "
            "Once that is fixed, remove the directory, or choose another `run_dir`, to begin again."
        )

    def _width(
        self, planner: Planner, parallel: Parallel, pool: Pool | None, early: int
    ) -> tuple[int, str, Pool | None]:
        """The number of trainings at a time, words about it, and the processes for them.

        Raises:
            ValueError, TypeError: the settings of the first trial can't be; or no processes can train it, and several
                were asked for.
        """
        first = planner.plan(self.plan.space.base, 0, trial=PRESET)
        if isinstance(planner.vector, DeviceVector):
            return self.plan.together(parallel), "", None
        place_model(first.model, planner.vector, Start())
        width, how = how_to_train(parallel, "local", self.plan.env, [first] * max(2, early), early)
        width = early if width > 1 else 1
        return width, how.replace("runs", "trainings"), pool if width > 1 else None

    def _study(self, width: int, *, prunes: bool) -> contextlib.AbstractContextManager[Study]:
        file = None if self.path is None else self.path / directory.STUDY
        return opened(file, self.plan.space.parameters, self.now["seed"], prunes=prunes, together=width > 1)

    def _screen(self, stack: contextlib.ExitStack, progress: bool) -> TuneScreen:
        budget = self.plan.budget
        pace = TunePace(budget.trials * budget.seeds + 2 * self.plan.final_seeds)
        screen = TuneScreen([], pace)
        screen.display = open_display(pace, progress, (COLUMNS,), screen.rows)
        stack.enter_context(contextlib.closing(screen.display))
        return screen

    def _note(self, study: Study) -> list[str]:
        """The line that says how a study goes on."""
        done = [told for told in study.trials if told.status != "running"]
        if self.before is None:
            return [f"seed      {self.now['seed']}"]
        again = len(study.trials) - len(done)
        more = f", {again} that {'was' if again == 1 else 'were'} broken off begin again" if again else ""
        trials = max(self.plan.budget.trials, len(study.trials))
        return [f"the study in {self.path} continues: {len(done)} of {trials} trials are done{more}"]


def _say_plan(made: Plan, parallel: Parallel) -> Tuning:
    """Says what would be done."""
    display = open_display(TunePace(1), False)
    in_processes = may_need_processes(parallel, "local", made.env, made.most_at_once)
    width = made.together(parallel) if made.on_device else in_processes
    for line in (*made.lines(max(1, width), ""), made.listing()):
        display.say(line)
    display.close()
    return result_of(made.env, [], {PRESET: made.space.base}, [*made.space.axes], None, {}, None)
