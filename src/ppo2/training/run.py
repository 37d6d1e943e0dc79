"""A run: its directory, log, checkpoints and evaluations, from the directory's claim to the learning curve."""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from ppo2 import distributed
from ppo2.algorithm.faults import FATAL, Fault, FaultKind, fault_words
from ppo2.algorithm.train_state import UpdateStats
from ppo2.distributed import collectives, heartbeat, processes
from ppo2.distributed.agreed_signal import AgreedSignal
from ppo2.reporting import plot
from ppo2.reporting.logger import Logger
from ppo2.reporting.tables import EPISODE_WINDOW
from ppo2.runners.episodes import Ended, Episode, in_order
from ppo2.runners.snapshot import part_of
from ppo2.system.signals import Interrupted, StopSignals
from ppo2.training import run_directory
from ppo2.training.context import Context
from ppo2.training.evaluator import Evaluator
from ppo2.training.log_writer import LogWriter
from ppo2.training.loop import Task
from ppo2.training.saver import Saver
from ppo2.training.setup import Setup
from ppo2.training.start import StartKind
from ppo2.training.trainers import Advance


class Run:
    """One call of `learn`. As a context it saves the model, whatever ends training early.

    Args:
        run_dir, progress: arguments of `learn`.

    Attributes:
        first, nupdates: the update that comes first, above 1 where an earlier run goes on; and the last.
        signal: the signal to stop for.
        tasks: the work that is due between updates.

    Raises:
        ValueError: the directory holds another run, or this one under other settings.
    """

    def __init__(
        self, setup: Setup, *, run_dir: str | os.PathLike[str] | None, progress: bool, stop: StopSignals
    ) -> None:
        if run_dir == "":
            raise ValueError("`run_dir` (='') must name a directory; None writes nothing.")
        config, start, runner = setup.config, setup.start, setup.trainer.runner
        world, before = distributed.world(), start.progress
        path = None if run_dir is None else Path(run_dir).expanduser()
        aside = ""
        if collectives.broadcast(path is not None):  # whatever the others were told
            aside = collectives.run_on_first(
                lambda: run_directory.prepare(Path(str(path)), config, start, runner.layout)
            )
        self._speaks = progress and world.is_first
        self.signal = AgreedSignal(stop)
        self.first, self.nupdates = before.update + 1, config.nupdates
        self._done, self._rollouts_before = before.update, before.rollouts
        mine = path if world.is_first else None
        self._kept_in = collectives.broadcast(None if path is None else str(path))
        self.logger = Logger(
            mine,
            total_updates=config.nupdates,
            first_update=self.first,
            progress=self._speaks,
            monitor_rows=before.episodes,
            resume=start.goes_on and mine is not None,
            speaks=world.is_first,
        )
        last, rows = collectives.broadcast([self.logger.last, self.logger.monitor_rows])
        if not world.is_first:
            self.logger.take_up([Episode(*one) for one in last], rows)
        started = time.perf_counter() - before.seconds
        self._context = Context(setup, mine, self.logger, stop, self.signal, started)
        self._setup, self._run_dir, self._seconds_before = setup, mine, before.seconds
        self._saver = Saver(self._context)
        evaluator = None if setup.eval_env is None else Evaluator(self._context, setup.eval_env, self._saver)
        log = LogWriter(self._context, evaluator, self.first, self.synchronise)
        self.tasks: list[Task] = [*([] if evaluator is None else [evaluator]), log, self._saver]
        self._say_start(aside, path)

    def _say_start(self, aside: str, path: Path | None) -> None:
        """Says what a person should know of the run that goes on."""
        say, start, rows = self.logger.say, self._setup.start, self.logger.monitor_rows
        if aside:
            say(aside)
        if rows < start.progress.episodes:
            say(
                f"monitor.csv has {rows:,} episodes, the checkpoint tells of {start.progress.episodes:,}: rows were "
                "lost or removed; means of the last episodes begin with those that there are"
            )
        if path is not None and distributed.world().size > 1 and not self._setup.config.save_interval:
            say("`save_interval` is 0: should one of the processes fail, which ends all, nothing will have been saved")
        if start.kind is StartKind.RESTARTED and self._run_dir is not None:
            say(f"the run in {path} was stopped before its first checkpoint: it begins again at update 1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Saves what was learned before an early end; of several processes, where that ends all of them."""
        try:
            begun = self._setup.trainer.runner.rollouts > self._rollouts_before
            in_first_update = kind is Interrupted and self._done < self.first
            together = error is not None and processes.raised_by_all(error)
            if begun and together and not in_first_update:
                with contextlib.suppress(RuntimeError):  # an update broken off in its middle leaves no state to save
                    self._saver.save_for_good(self._done)
                    collectives.all_gather(None)  # nobody goes before it is written
        finally:
            self._saver.close()
            self.logger.close()

    def begin(self) -> None:
        """Brings the environments of a run that goes on to where they were; saves the start of one that doesn't."""
        setup, runner, config = self._setup, self._setup.trainer.runner, self._setup.config
        runner.rollouts = self._rollouts_before
        if setup.start.resumed is not None:
            rows = distributed.world().part(config.num_envs)
            for line in runner.resume(part_of(setup.start.resumed, rows, config.num_envs)):
                self.logger.say(line)
        runner.start_clock(self._context.started)
        if setup.start.kind is StartKind.WEIGHTS:
            self._saver.save(0)  # for this run to begin again from there, wherever it is stopped
        self.signal.start()

    def synchronise(self, when: str) -> None:
        """Has all processes go on with the first one's model, and says so where another had become of it.

        Raises:
            ValueError: theirs have other shapes than the first one's.
        """
        model = self._setup.model
        model.state, others = collectives.synchronise(model.state)
        if others:
            self.logger.say(
                f"{when}, the model was another one in rank {', '.join(map(str, others))} than in rank 0: all go on "
                "with that one. What `network`, `model_fn`, `init_fn` and `update_fn` do to the model must be the same "
                "in all processes."
            )

    def check_fault(self, update: int, fault: Fault) -> None:
        """Waits for the update and raises ValueError where it couldn't be made, unless it is to be skipped."""
        kind, config = FaultKind(int(fault.kind)), self._setup.config
        if kind is FaultKind.NONE:
            return
        where = f"update {update}" if update else "the rollout that fills the normaliser"
        words = fault_words(kind, int(fault.step), config.num_envs, self._setup.model.observation_space)
        if config.on_nonfinite == "skip" and kind not in FATAL:
            self.logger.say(f"{where} skipped: {words}")
            return
        if kind is FaultKind.STATE_NOT_FINITE:
            self._saver.skip(self._done)
            raise ValueError(f"{where}: {words}.")
        kept = f", saved in {self._kept_in}" if self._kept_in else ""
        skip = "" if kind in FATAL else " `on_nonfinite='skip'` goes on without such updates."
        raise ValueError(f"{where}: {words}. The model is as it was before{kept}.{skip}")

    def record(self, update: int, advance: Advance) -> None:
        """Takes note of the updates up to `update`: faults, episodes, signals. See `loop.run_updates`."""
        if advance.halted:
            self._count(update - 1)
        self.check_fault(advance.fault_update, advance.fault)
        self._count(update)

    def _count(self, update: int) -> None:
        runner = self._setup.trainer.runner
        self._done = update
        runner.mark_learned()
        self._saver.report_failures()
        parts = self.signal.all_gather(runner.ended())
        ended = parts[0] if len(parts) == 1 else [Ended(at, Episode(*one)) for part in parts for at, one in part]
        with heartbeat.allow_pause():  # the disk may be slow
            self.logger.episodes(in_order(ended))
        self.logger.tick(update)

    def complete(self, stats: UpdateStats) -> UpdateStats:
        """The figures of an update with those that only the host knows."""
        logger = self.logger
        return stats._replace(eprewmean=logger.eprewmean, eplenmean=logger.eplenmean, episodes=logger.monitor_rows)

    def finish(self, update: int) -> None:
        """Writes the last checkpoint and the curve, and says how it went; takes note of a signal that came last."""
        with heartbeat.allow_pause():
            self._saver.save_for_good(update)
            curve = self._draw_curve()
            self.logger.close()
            if self._speaks:
                self.logger.say("; ".join(self._last_words(update, curve)))
        self.signal.all_gather(None)  # nobody goes before all is written

    def _draw_curve(self) -> Path | None:
        if self._run_dir is None or not self.logger.monitor_rows:
            return None
        try:
            return plot.curve(self._run_dir, self._run_dir / run_directory.CURVE)
        except (OSError, ValueError) as error:
            self.logger.say(f"the learning curve could not be drawn: {error}")
            return None

    def _last_words(self, update: int, curve: Path | None) -> Sequence[str]:
        seconds = max(self._context.seconds - self._seconds_before, 1e-9)
        steps = (update - self.first + 1) * self._setup.config.nbatch
        counted = min(self.logger.monitor_rows, EPISODE_WINDOW)
        words = [
            f"mean return {self.logger.eprewmean:.1f} over the last {counted} episodes"
            if counted
            else "no episode ended",
            f"{steps:,} timesteps in {seconds:.1f} s",
            f"{steps / seconds:,.0f} timesteps per second",
        ]
        if self._run_dir is not None:
            words.append(f"run directory {self._run_dir}")
        if curve is not None:
            words.append(f"curve {curve}")
        return words
