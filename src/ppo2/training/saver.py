"""Saving checkpoints while training goes on."""

from pathlib import Path

from ppo2.agent.files import writer
from ppo2.algorithm.train_state import UpdateStats
from ppo2.checkpoints.progress import Best, Progress
from ppo2.checkpoints.writer import CheckpointWriter
from ppo2.distributed import collectives, heartbeat
from ppo2.runners.snapshot import Snapshot, gather_snapshots
from ppo2.system import files
from ppo2.training import run_directory
from ppo2.training.context import Context
from ppo2.training.loop import is_due


class Saver:
    """Writes the checkpoints of a run: at an interval, of the best evaluations, and at the end.

    A checkpoint that the disk refuses is reported, and doesn't end training.

    Attributes:
        best: the best evaluation so far; None without evaluations, or where all checkpoints are kept.
    """

    def __init__(self, context: Context) -> None:
        config, progress = context.setup.config, context.setup.start.progress
        self._context, self._config = context, config
        self.interval = config.save_interval
        self.best = self._best_before = progress.best
        self._saved_update = None if context.setup.start.resumed is None else progress.update
        self._reported: str | None = None
        self._writer: CheckpointWriter | None = None
        if context.run_dir is not None:
            best = None if self.best is None else self.best.update
            self._writer = CheckpointWriter(context.run_dir, keep=config.keep, best=best)

    def is_due(self, update: int) -> bool:
        """See `Task`; also due where the update evaluates better than all before."""
        return is_due(update, self.interval) or (self.best is not None and self.best.update == update)

    def run(self, update: int, stats: UpdateStats) -> bool:
        with self._context.stop.deferred():
            self.save(update)
        return False

    def save(self, update: int) -> None:
        """Has the checkpoint of an update written, unless it is there already, while training goes on."""
        if not collectives.broadcast(self._writer is not None and update != self._saved_update):
            return
        self.report_failures()
        snapshot = gather_snapshots(self._context.setup.trainer.runner.snapshot())
        if self._writer is None or self._context.run_dir is None:  # the first process writes
            return
        with heartbeat.allow_pause():  # the disk may be slow
            self._write(update, snapshot, self._writer, self._context.run_dir)

    def _write(self, update: int, snapshot: Snapshot, checkpoints: CheckpointWriter, run_dir: Path) -> None:
        logger, setup = self._context.logger, self._context.setup
        config, layout = setup.config, setup.trainer.runner.layout
        progress = Progress(
            update=update,
            seconds=self._context.seconds,
            episodes=logger.monitor_rows,
            rollouts=snapshot.rollouts,
            best=self.best,
        )
        logger.flush()
        run = {**progress._asdict(), "best": None if self.best is None else self.best._asdict()}
        run |= {"timesteps": update * config.nbatch, "runner": snapshot.facts}
        write_model = writer(setup.model, run=run, runner=snapshot.tensors)

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
                self._context.logger.say(
                    f"the checkpoint of update {update} could not be written ({error}); training goes on, earlier ones "
                    f"are intact. For the next to be written, {files.remedy(error)}."
                )
            self._reported = reason

    def close(self) -> None:
        """Waits for what is being written, and lets the thread go."""
        if self._writer is not None:
            self._writer.close()
