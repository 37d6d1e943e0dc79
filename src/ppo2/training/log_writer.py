"""Writing the rows of the log."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ppo2.algorithm.train_state import UpdateStats
from ppo2.distributed import heartbeat
from ppo2.reporting.health import Health
from ppo2.reporting.tables import rows_of
from ppo2.training.loop import Task, is_due
from ppo2.training.setup import Setup


class LogWriter(Task):
    """Writes a row of the log at an interval, and where there was an evaluation; warns of what looks unhealthy.

    Attributes:
        stats: figures of the last update, with its number; None before the first.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.interval = setup.config.log_interval
        self._health = Health()
        if setup.run_dir is not None and setup.start.resumed is not None:
            for row in rows_of(setup.run_dir):
                self._health.warnings(row)  # the run gave these before it was stopped
        self._last_update, self._last_seconds = setup.start.progress.update, setup.seconds
        self.stats: tuple[int, UpdateStats] | None = None
        self._row: dict[str, float] | None = None  # of the last update, if it was written without its evaluation
        self._written = 0  # the last update that has a row
        self._knows_missing = False
        self._whole = 0  # the last update whose row is written, with all that belongs to it

    def is_due(self, update: int) -> bool:
        return super().is_due(update) or bool(self._setup.evaluation)

    def run(self, update: int, stats: UpdateStats) -> None:
        with self._setup.signal.stop.deferred():
            self._setup.synchronise(f"at update {update}")
            row = self._row_of(update, stats)
            self.write(update, row)
            self._setup.moments.logged.clear()
            if self._lacks_evaluation(update):
                self._row = row
            else:
                self._whole = update

    def complete(self, update: int) -> None:
        """Writes the row of the update at which training ends, if it has none yet."""
        if self.stats is not None and self.stats[0] == update and self._written != update:
            row = self._row_of(*self.stats)
            self.write(update, row)
            if self.is_due(update) or self._lacks_evaluation(update):
                self._row = row
                self._setup.moments.logged.clear()  # else the row that the resumed run writes next has them

    def write(self, update: int, row: Mapping[str, float]) -> None:
        """Writes and shows a row, and warns of what looks unhealthy in it."""
        logger, self._written = self._setup.logger, update
        with heartbeat.allow_pause():
            logger.log(row)
            for warning in self._health.warnings(row):
                logger.warn(f"update {update}: {warning}")
        self._say_missing(row)

    def _say_missing(self, row: Mapping[str, float]) -> None:
        """Says once which entries of `info` were asked for and not found, when the first episodes have ended."""
        if self._knows_missing or math.isnan(row["eprewmean"]):
            return
        self._knows_missing = True
        if missing := [key for key in self._setup.trainer.runner.info_keys if math.isnan(row[f"info/{key}"])]:
            self._setup.logger.warn(
                f"`info_keys` (={missing!r}): no episode so far had such a number in its last step's info; look at "
                "what `env` gives there"
            )

    def unfinished(self, update: int) -> dict[str, float] | None:
        """The row of an update that is yet to be written, or to be written again with its evaluation; else None."""
        if self.stats is None or self.stats[0] != update or update == self._whole:
            return None
        if not (self.is_due(update) or self._lacks_evaluation(update)):
            return None
        return self._row_of(*self.stats) if self._row is None else self._row

    def stats_of(self, row: Mapping[str, float]) -> UpdateStats:
        """The figures of an update whose row is known."""
        names = {f"loss/{name}": name for name in self._setup.model.loss_names}
        names |= {f"misc/{name}": name for name in ("explained_variance", "grad_norm", "gradient_steps")}
        known: dict[str, Any] = {name: np.float32(row[column]) for column, name in names.items() if column in row}
        return UpdateStats.blank().on_host()._replace(**known)

    def _lacks_evaluation(self, update: int) -> bool:
        return is_due(update, self._setup.eval_interval) and self._setup.evaluated != update

    def _row_of(self, update: int, stats: UpdateStats) -> dict[str, float]:
        """The figures of an update; speed and shares of time are since the last row."""
        setup, now = self._setup, self._setup.seconds
        config, numbers = setup.config, setup.trainer.numbers(update)
        seconds = max(now - self._last_seconds, 1e-9)
        row = {
            "misc/serial_timesteps": update * config.nsteps,
            "misc/nupdates": update,
            "misc/total_timesteps": update * config.nbatch,
            "fps": (update - self._last_update) * config.nbatch / seconds,
            "misc/explained_variance": float(stats.explained_variance),
            "eprewmean": setup.logger.eprewmean,
            "eplenmean": setup.logger.eplenmean,
            **{f"info/{key}": value for key, value in setup.logger.infos.items()},
            **({"misc/monitor_share": setup.logger.share} if setup.logger.share < 1.0 else {}),
            **setup.evaluation,
            "misc/time_elapsed": now,
            **{f"loss/{name}": float(getattr(stats, name)) for name in setup.model.loss_names},
            "misc/grad_norm": float(stats.grad_norm),
            "misc/gradient_steps": int(stats.gradient_steps),
            "misc/skipped_updates": int(setup.model.state.counters.skipped_updates),
            "lr": numbers["lr"],
            "cliprange": numbers["cliprange"],
            **setup.trainer.time_shares(seconds),
            **setup.moments.logged,
        }
        setup.evaluation.clear()
        self._last_update, self._last_seconds = update, now
        return row
