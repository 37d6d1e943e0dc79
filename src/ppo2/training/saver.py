"""Saving checkpoints while training goes on."""

import time
from pathlib import Path

from ppo2.agent.files import writer
from ppo2.agent.model import Model
from ppo2.algorithm.train_state import UpdateStats
from ppo2.checkpoints.progress import Best, Progress
from ppo2.checkpoints.writer import CheckpointWriter
from ppo2.config import Config
from ppo2.distributed import collectives, heartbeat
from ppo2.reporting.logger import Logger
from ppo2.runners.protocol import RolloutRunner
from ppo2.runners.snapshot import Snapshot, gather_snapshots
from ppo2.system import files
from ppo2.system.signals import StopSignals
from ppo2.training import run_directory
from ppo2.training.loop import is_due


class Clock:
    """Seconds of training, those before a resume included."""

    def __init__(self, before: float) -> None:
        self.started = time.perf_counter() - before

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.started


class Saver:
    """Writes the checkpoints of a run: at an interval, of the best evaluations, and at the end.

    A checkpoint that the disk refuses is reported, and doesn't end training.

    Args:
        runner: whose environments are saved too; None before there is one.
        run_dir: where; None in other processes than the first, and where nothing is to be written.
        progress: of the run before, for one that is resumed.
        layout: see `RolloutRunner.layout`.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        runner: RolloutRunner,
        *,
        run_dir: Path | None,
        progress: Progress,
        is_resumed: bool,
        logger: Logger,
        clock: Clock,
        stop: StopSignals,
    ) -> None:
        self._config, self._model, self._runner, self._run_dir = config, model, runner, run_dir
        self._logger, self._clock, self._stop = logger, clock, stop
        self.best: Best | None = progress.best
        self._best_before = self.best
        self._saved_update = progress.update if is_resumed else None
        self._reported: str | None = None
        best = None if self.best is None else self.best.update
        self._writer = None if run_dir is None else CheckpointWriter(run_dir, keep=config.keep, best=best)

    @property
    def interval(self) -> int:
        """Updates between two checkpoints; 0: only the last."""
        return self._config.save_interval

    def is_due(self, update: int) -> bool:
        """See `Task`; also due where the update evaluates better than all before."""
        return is_due(update, self.interval) or (self.best is not None and self.best.update == update)

    def run(self, update: int, stats: UpdateStats) -> bool:
        """See `Task`."""
        with self._stop.deferred():
            self.save(update)
        return False

    def save(self, update: int) -> None:
        """Has the checkpoint of an update written, unless it is there already, while training goes on."""
        if not collectives.broadcast(self._writer is not None and update != self._saved_update):
            return
        self.report_failures()
        snapshot = gather_snapshots(self._runner.snapshot())
        if self._writer is None or self._run_dir is None:  # the first process writes
            return
        with heartbeat.allow_pause():  # the disk may be slow
            self._write(update, snapshot, self._writer, self._run_dir)

    def _write(self, update: int, snapshot: Snapshot, checkpoints: CheckpointWriter, run_dir: Path) -> None:
        logger, config, layout = self._logger, self._config, self._runner.layout
        progress = Progress(
            update=update,
            seconds=self._clock.seconds,
            episodes=logger.monitor_rows,
            rollouts=snapshot.rollouts,
            best=self.best,
        )
        logger.flush()
        run = {**progress._asdict(), "best": None if self.best is None else self.best._asdict()}
        run |= {"timesteps": update * config.nbatch, "runner": snapshot.facts}
        write_model = writer(self._model, run=run, runner=snapshot.tensors)

        def write(path: Path) -> None:
            logger.sync()  # a run goes on from a checkpoint with the logs up to there
            if not (run_dir / run_directory.CONFIG).exists():  # someone has removed the directory
                run_directory.write_settings(run_dir, config, layout)
            write_model(path)

        checkpoints.save(update, write, is_best=self.best is not None and self.best.update == update)
        self._saved_update = update

    def save_for_good(self, update: int) -> None:
        """Saves an update's checkpoint, and returns once it is written, or has failed once more."""
        self.settle()
        self.save(update)
        self.settle()

    def settle(self) -> None:
        """Waits until all checkpoints are written, or have failed."""
        if self._writer is not None:
            with heartbeat.allow_pause():
                self._writer.wait()
            self.report_failures()

    def skip(self, update: int) -> None:
        """Takes an update for saved: its checkpoint, from which nobody could go on, would hide an earlier, good one."""
        self._saved_update = update

    def offer_best(self, update: int, mean: float) -> None:
        """Has the checkpoint of an update kept if it evaluates better than all before."""
        best = collectives.broadcast(self.best)
        self.best = None if best is None else Best(*best)
        if self.best is None or mean > self.best.eval_eprewmean:
            self._best_before, self.best = self.best, Best(update, mean)

    def report_failures(self) -> None:
        """Says of checkpoints that could not be written, once for each reason, and again only after it worked."""
        for update, error in [] if self._writer is None else self._writer.results():
            if error is None:
                self._reported = None
                continue
            if update == self._saved_update:
                self._saved_update = None
            if self.best is not None and self.best.update == update:
                self.best = self._best_before
            reason = error.strerror or str(error)
            if reason != self._reported:
                self._logger.say(
                    f"the checkpoint of update {update} could not be written ({error}); training goes on, earlier ones "
                    f"are intact. For the next to be written, {files.remedy(error)}."
                )
            self._reported = reason

    def close(self) -> None:
        """Waits for what is being written, and lets the thread go."""
        if self._writer is not None:
            self._writer.close()
