"""A run: what it does when it begins, after each update, when it is broken off and at its end."""

import contextlib
import signal
from pathlib import Path
from typing import Self

from ppo2 import distributed, plot
from ppo2.algorithm.faults import FATAL, Fault, FaultKind, fault_words
from ppo2.checkpoints.progress import row_of
from ppo2.distributed import heartbeat, processes
from ppo2.envs import AnyEnvs
from ppo2.envs.time_limit import time_limit
from ppo2.reporting import card
from ppo2.reporting.health import EndlessEpisodes, NoProgress
from ppo2.runners.episodes import EPISODE_WINDOW, Ended, side_by_side, thinned
from ppo2.runners.snapshot import part_of
from ppo2.system.signals import Interrupted
from ppo2.system.text import as_options, say_error
from ppo2.training import interruption, run_directory
from ppo2.training.evaluator import Evaluator
from ppo2.training.log_writer import LogWriter
from ppo2.training.loop import Task
from ppo2.training.moments import UpdateMoment
from ppo2.training.saver import Saver
from ppo2.training.setup import Setup
from ppo2.training.trainers import Advance


class Run:
    """One call of `learn`. As a context it saves the model, whatever ends training early.

    Args:
        eval_env: environments to evaluate on; None evaluates nothing.

    Attributes:
        first: the update that comes first, above 1 where an earlier run goes on.
        tasks: the work that is due between updates.
    """

    def __init__(self, setup: Setup, eval_env: AnyEnvs | None) -> None:
        self._setup, self._logger, self._before = setup, setup.logger, setup.start.progress
        self._done, self.first = self._before.update, self._before.update + 1
        self._counted = self._before.update
        self._log_writer = LogWriter(setup)
        self._saver = Saver(setup, self._log_writer)
        self._evaluator = None if eval_env is None else Evaluator(setup, eval_env, self._saver)
        self._endless = EndlessEpisodes(
            setup.config.nsteps,
            time_limit(getattr(setup.trainer.runner, "env", None)),
            update=self._before.update,
            episodes=self._logger.count,
        )
        self._progress = _no_progress(setup)
        self.tasks: list[Task] = [self._log_writer, self._saver]
        if self._evaluator is not None:
            self.tasks.insert(0, self._evaluator)
        if setup.moments.any:
            self.tasks.insert(0, UpdateMoment(setup.moments))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Saves what was learned before an early end; of several processes, where that ends all of them alike."""
        try:
            if error is not None and self._done and not self._setup.model.state.params.is_deleted():
                interruption.keep(self._setup.model)
            begun = self._setup.trainer.runner.rollouts > self._before.rollouts
            in_first_update = kind is Interrupted and self._done < self.first
            lost = self._setup.lock is not None and not self._setup.lock.is_mine
            if error is None or not begun or in_first_update or lost:
                return
            if processes.raised_by_all(error):
                with contextlib.suppress(RuntimeError):  # an update broken off in its middle leaves no state to save
                    self._log_writer.complete(self._done)
                    self._saver.save_for_good(self._done)
                    self._say_last_words(returned=False)  # no process ends before it is written
        finally:
            self._saver.close()
            self._logger.close(failed=error is not None)
            number = _number_of(error)
            if number is not None:
                self.tell_of_stop(number)

    def begin(self) -> None:
        """Brings the environments of a run that goes on to where they were; saves the start of one that doesn't."""
        start, runner, num_envs = self._setup.start, self._setup.trainer.runner, self._setup.config.num_envs
        runner.rollouts = self._before.rollouts
        if start.resumed is not None:
            rows = distributed.world().part(num_envs)
            for line in runner.resume(part_of(start.resumed, rows, num_envs)):
                self._logger.warn(line)
        runner.start_clock(self._setup.started)
        if start.kind == "weights":
            self._saver.save(0)  # for this run to begin again from there, wherever it is stopped
        self._setup.signal.start()

    def finish_update(self) -> None:
        """Does what was broken off after the update that a run goes on from: evaluates, writes the row, saves."""
        if self._before.unfinished is None:
            return
        update, row = self._before.update, row_of(self._before.unfinished)
        stats = self._log_writer.stats_of(row)
        if self._evaluator is not None and self._evaluator.is_due(update) and "eval_eprewmean" not in row:
            self._evaluator.run(update, stats)
        if self._setup.signal.received is None:
            logged = self._setup.moments.logged
            self._log_writer.write(update, row | self._setup.evaluation | logged)
            self._setup.evaluation.clear()
            logged.clear()
            if self._saver.is_due(update):
                self._saver.run(update, stats)

    def check_fault(self, update: int, fault: Fault) -> None:
        """Waits for the update and raises ValueError where it couldn't be made, unless it is to be skipped."""
        kind, config = FaultKind(int(fault.kind)), self._setup.config
        if kind is FaultKind.NONE:
            return
        where = f"update {update}" if update else "the rollout that fills the normaliser"
        words = fault_words(kind, int(fault.step), config.num_envs, self._setup.model.observation_space)
        if config.on_nonfinite == "skip" and kind not in FATAL:
            self._logger.warn(f"{where} skipped: {words}")
            return
        if kind is FaultKind.STATE_NOT_FINITE:
            self._saver.skip(self._done)
            raise ValueError(f"{where}: {words}.")
        saved_in = f", saved in {self._setup.saved_in}" if self._setup.saved_in else ""
        skip = "" if kind in FATAL else " `on_nonfinite='skip'` continues without such updates."
        raise ValueError(f"{where}: {words}. The model is as it was before{saved_in}.{skip}")

    def record(self, update: int, advance: Advance) -> None:
        """Takes note of the updates up to `update`: faults, episodes, signals. See `loop.run_updates`."""
        if advance.halted:
            self._count(update - 1)
        self.check_fault(advance.fault_update, advance.fault)
        self._count(update)
        self._log_writer.stats = update, advance.stats
        self._setup.moments.recorded(update, advance.stats)

    def _count(self, update: int) -> None:
        runner = self._setup.trainer.runner
        if self._setup.lock is not None:
            self._setup.lock.check()
        self._done = update
        runner.mark_learned()
        self._saver.report_failures()
        mine = runner.ended()
        told = self._setup.signal.all_gather(mine.to_json() if distributed.world().size > 1 else None)
        parts = [mine] if len(told) == 1 else [Ended.from_json(one) for one in told]
        ended = thinned(side_by_side(parts), self._setup.config.monitor_limit)
        with heartbeat.allow_pause():  # the disk may be slow
            self._say_first_left_out(update, ended)
            self._logger.episodes(ended.rows, ended.last, ended.count)
            if warning := self._endless.warning(update, self._logger.count):
                self._logger.warn(f"update {update}: {warning}")
            self._progress.note(update, ended.rows)
            before, self._counted = self._counted, update
            if before < self._progress.half <= update < self._setup.config.nupdates:
                self._warn_of_no_progress(update)
        self._logger.tick(update)

    def _warn_of_no_progress(self, update: int) -> None:
        if warning := self._progress.warning(update, [episode.r for episode in self._logger.last]):
            self._logger.warn(f"update {update}: {warning}")

    def _say_first_left_out(self, update: int, ended: Ended) -> None:
        """Says where monitor.csv gets a part of the episodes only, the first time."""
        setup, logger = self._setup, self._logger
        if setup.run_dir is not None and ended.count > len(ended.rows) and logger.share == 1.0:
            logger.say(
                f"update {update}: more episodes end than `monitor_limit` (={setup.config.monitor_limit:,}) an update: "
                "monitor.csv gets evenly spaced ones, their share is in its first line and in the log "
                "(misc/monitor_share); all means and counts are of all episodes"
            )

    def finish(self, update: int, *, progress: bool | None) -> None:
        """Writes the last checkpoint and the curve, and says how it went; takes note of a signal that came last."""
        with heartbeat.allow_pause():
            self._warn_of_no_progress(update)
            self._log_writer.complete(update)
            if self._saver.save_for_good(update):
                self._saver.tell_callbacks(update)
            self._setup.moments.before_end(lambda: self._setup.signal.stop.received is not None)
            curve = self._draw_curve()
            self._write_card()
            self._logger.close(failed=self._setup.signal.received is not None)
            if progress is not False:
                self._logger.say(self._summary(update, curve))
            self._setup.model.unsaved = self._say_last_words(returned=self._setup.signal.received is None)
        self._setup.signal.all_gather(None)  # no process ends before all is written

    def _say_last_words(self, *, returned: bool) -> str:
        """Says on standard error where the last model could not be saved; returns what it said, in all processes."""
        words = self._saver.last_words(returned=returned)
        if words and distributed.world().is_first:
            say_error(words)
        return words

    def tell_of_stop(self, number: int, *, is_returned: bool = False) -> None:
        """Says what stopped training, after which update, and where the model is.

        Args:
            is_returned: `learn` returns it.
        """
        setup, done = self._setup, self._done
        if setup.signal.stop.is_inner:  # whoever called has more to say
            return
        if is_returned:
            interruption.keep(setup.model)
        saved = setup.saved_in is not None and self._saver.has(done)
        where = ["the model so far is returned"] if is_returned else []
        where += [f"saved in {setup.saved_in}"] if saved else []
        if not where and interruption.interrupted() is not None:
            where = ["ppo2.interrupted() returns the model, which is saved nowhere"]
        when = f"after update {done:,} of {setup.config.nupdates:,}" if done else "before the first update"
        self._logger.say("; ".join([f"stopped by {signal.Signals(number).name} {when}", *where]))

    def _draw_curve(self) -> Path | None:
        run_dir = self._setup.run_dir
        if run_dir is None or not self._logger.count:
            return None
        self._logger.settle()
        try:
            plot.curve(run_dir, run_dir / run_directory.CURVE)
            return run_dir / run_directory.CURVE
        except (OSError, ValueError) as error:
            self._logger.warn(f"the learning curve could not be drawn: {error}")
            return None

    def _write_card(self) -> None:
        """Writes the model card, unless a person has."""
        run_dir = self._setup.run_dir
        if run_dir is None:
            return
        self._logger.settle()
        try:
            card.write(run_dir)
        except (OSError, ValueError) as error:
            self._logger.warn(f"the model card could not be written: {error}")

    def _summary(self, update: int, curve: Path | None) -> str:
        """The last line that a person reads."""
        seconds = max(self._setup.seconds - self._before.seconds, 1e-9)
        steps = (update - self._before.update) * self._setup.config.nbatch
        episodes = min(self._logger.count, EPISODE_WINDOW)
        mean = f"mean return {self._logger.eprewmean:.1f} over the last {episodes} episodes"
        words = [
            mean if episodes else "no episode ended",
            f"{steps:,} timesteps in {seconds:.1f} s",
            f"{steps / seconds:,.0f} timesteps per second",
            "" if self._setup.run_dir is None else f"run directory {self._setup.run_dir}",
            "" if curve is None else f"curve {curve}",
        ]
        return "; ".join(filter(None, words))


def _no_progress(setup: Setup) -> NoProgress:
    env, config = setup.config.env, setup.config
    vector = getattr(setup.trainer.runner, "env", None)
    threshold = getattr(getattr(vector, "spec", None), "reward_threshold", None)
    doctor = "`ppo2.doctor(env)`"
    if isinstance(env, str):
        doctor = f"`ppo2 doctor {env}{as_options(config.env_kwargs or {})}`"
    return NoProgress(config.nupdates, config.nbatch, threshold, doctor, fresh=setup.start.saved is None)


def _number_of(error: BaseException | None) -> int | None:
    """The signal that an exception stands for; None for others."""
    if isinstance(error, Interrupted):
        return error.number
    if isinstance(error, SystemExit):
        return signal.SIGTERM if error.code == 128 + signal.SIGTERM else None
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else None
