"""Saving checkpoints while training goes on."""

from collections.abc import Sequence
from pathlib import Path

from ppo2.agent.files import writer
from ppo2.algorithm.train_state import UpdateStats
from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.progress import Best, Progress, storable_row
from ppo2.checkpoints.writer import CheckpointWriter
from ppo2.distributed import collectives, heartbeat
from ppo2.reporting.episode_file import row_of_episode
from ppo2.runners.episodes import Episode
from ppo2.runners.snapshot import gather_snapshots
from ppo2.system import files
from ppo2.training import run_directory
from ppo2.training.log_writer import LogWriter
from ppo2.training.loop import Task
from ppo2.training.setup import Setup


class Saver(Task):
    """Writes the checkpoints of a run: at an interval, of the best evaluations, and at the end.

    A checkpoint that the disk refuses is reported, and doesn't end training.
    """

    def __init__(self, setup: Setup, log_writer: LogWriter) -> None:
        progress = setup.start.progress
        self._setup, self._log_writer = setup, log_writer
        self.interval = setup.config.save_interval
        self._best = self._best_before = progress.best
        is_whole = setup.start.resumed is not None and progress.unfinished is None
        self._saved_update = progress.update if is_whole else None
        self._reported: str | None = None
        self._failed: tuple[int, OSError] | None = None  # the last update, if its checkpoint failed
        self._ending = False
        best = None if progress.best is None else progress.best.update
        # has nothing to write where there is no directory
        self._writer = CheckpointWriter(
            setup.run_dir or Path(),
            keep=setup.config.keep,
            best=best,
            interim=progress.update if progress.interim else None,
        )

    def is_due(self, update: int) -> bool:
        """See `Task`; also due where the update evaluates better than all before, or a callback asks for it."""
        return super().is_due(update) or self._is_best(update) or self._setup.moments.save_asked_at == update

    def run(self, update: int, stats: UpdateStats) -> bool:
        with self._setup.signal.stop.deferred():
            is_new = self.save(update)
        return is_new and self.tell_callbacks(update)

    def tell_callbacks(self, update: int) -> bool:
        """Calls callbacks' `on_checkpoint` once the checkpoint of an update is written. True to end training."""
        setup = self._setup
        if not setup.moments.waits_for_checkpoints:
            return False
        self.wait_until_written()
        if not collectives.broadcast(self._saved_update == update and self._failed is None):
            return False
        return setup.moments.saved(update, None if setup.run_dir is None else checkpoint.file_of(setup.run_dir, update))

    def save(self, update: int) -> bool:
        """Has the checkpoint of an update written while training goes on. False, in all processes, where it is there
        already or nothing is written.
        """
        setup, logger, run_dir = self._setup, self._setup.logger, self._setup.run_dir
        if not collectives.broadcast(run_dir is not None and update != self._saved_update):
            return False
        self.report_failures()
        snapshot = gather_snapshots(setup.trainer.runner.snapshot())
        callbacks, arrays = setup.moments.stored()
        if run_dir is None:  # the first process writes
            return True
        logger.flush()
        row, interim = self._log_writer.unfinished(update), self._is_interim(update)
        progress = Progress(
            update=update,
            seconds=setup.seconds,
            episodes=logger.monitor_rows,
            rollouts=snapshot.rollouts,
            best=self._best,
            interim=interim,
            unfinished=None if row is None else storable_row(row),
            left_out=logger.count - logger.monitor_rows,
            last_episodes=_storable(logger.last) if logger.count > logger.monitor_rows else None,
            figures=storable_row(setup.moments.logged) or None,
        )
        run = {**progress._asdict(), "best": None if self._best is None else self._best._asdict()}
        run |= {"timesteps": update * setup.config.nbatch, "runner": snapshot.facts, "callbacks": callbacks}
        write_model = writer(setup.model, run=run, runner={**snapshot.tensors, **arrays})

        def write(path: Path) -> None:
            logger.sync()  # a run goes on from a checkpoint with the logs up to there
            if not (run_dir / run_directory.CONFIG).exists():  # someone has removed the directory
                run_directory.write_settings(run_dir, setup.settings)
            write_model(path)

        with heartbeat.allow_pause():  # the disk may be slow
            self._writer.save(update, write, is_best=self._is_best(update), is_interim=interim)
        self._saved_update = update
        return True

    def save_for_good(self, update: int) -> bool:
        """Saves an update's checkpoint, and returns once it is written, or has failed once more; see `save`."""
        self.wait_until_written()
        self._ending = True
        is_new = self.save(update)
        self.wait_until_written()
        return is_new

    def last_words(self, *, returned: bool) -> str:
        """Words for the end of a run whose last checkpoint could not be written; "" if it was. Those of the first
        process, in all of them.

        Args:
            returned: `learn` returns the model.
        """
        words, run_dir = "", self._setup.run_dir
        if run_dir is not None and self._failed is not None:
            update, error = self._failed
            there = checkpoint.numbered(run_dir / checkpoint.FOLDER)
            newest = max((number for number in there if number < update), default=None)
            found = "no checkpoint of this run is on the disk"
            again = "Then train again"
            if newest is not None:
                found = f"the newest checkpoint on the disk is that of update {newest:,}"
                again = f"Then `ppo2 resume {run_dir}` continues from there"
            again += " (in Python model.save(PATH) keeps the model that `learn` returns)" if returned else ""
            words = (
                f"the model of update {update:,} could not be saved in {run_dir} ({error.strerror or error}): {found}. "
                f"{files.remedy(error).capitalize()}. {again}."
            )
        return str(collectives.broadcast(words))

    def wait_until_written(self) -> None:
        """Waits until all checkpoints are written, or have failed."""
        with heartbeat.allow_pause():
            self._writer.wait()
        self.report_failures()

    def has(self, update: int) -> bool:
        """True if the checkpoint of an update is written, or is being written."""
        return self._saved_update == update

    def skip(self, update: int) -> None:
        """Takes an update for saved: its checkpoint, from which nobody could go on, would hide an earlier, good one."""
        self._saved_update = update

    def offer_best(self, update: int, mean: float) -> None:
        """Has the checkpoint of an update kept if it evaluates better than all before."""
        best = collectives.broadcast(self._best)  # the first process knows which ones could be written
        self._best = None if best is None else Best(*best)
        if self._best is None or mean > self._best.eval_eprewmean:
            self._best_before, self._best = self._best, Best(update, mean)

    def report_failures(self) -> None:
        """Reports checkpoints that could not be written, once for each reason, and again only after one was written."""
        for update, error in self._writer.results():
            self._failed = None if error is None else (update, error)
            if error is None:
                self._reported = None
                continue
            if update == self._saved_update:
                self._saved_update = None
            if self._is_best(update):
                self._best = self._best_before
            reason = error.strerror or str(error)
            if reason != self._reported and not self._ending:
                self._setup.logger.warn(
                    f"the checkpoint of update {update} could not be written ({error}); training continues, earlier "
                    f"ones are intact. For the next to be written, {files.remedy(error)}."
                )
            self._reported = reason

    def close(self) -> None:
        """Waits for the checkpoint that is being written, and ends the writing thread."""
        self._writer.close()

    def _is_interim(self, update: int) -> bool:
        """True if a run that is never stopped saves no checkpoint of this update."""
        begins = update == 0 and self._setup.start.kind == "weights"
        return not (begins or self.is_due(update) or update >= self._setup.config.nupdates)

    def _is_best(self, update: int) -> bool:
        return self._best is not None and self._best.update == update


def _storable(episodes: Sequence[Episode]) -> list[dict[str, float | str]]:
    """Episodes as a checkpoint holds them."""
    return [storable_row(row_of_episode(episode)) for episode in episodes]
