"""Writing the rows of the log."""

from ppo2.algorithm.train_state import UpdateStats
from ppo2.reporting.health import Health
from ppo2.reporting.tables import rows_of
from ppo2.training.context import Context
from ppo2.training.loop import Task


class LogWriter(Task):
    """Writes a row of the log at an interval, and where there was an evaluation; warns of what looks unhealthy."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.interval = context.setup.config.log_interval
        self._health = Health()
        if context.run_dir is not None and context.setup.start.resumed is not None:
            for row in rows_of(context.run_dir):
                self._health.warnings(row)  # the run gave these before it was stopped
        self._last_update, self._last_seconds = context.setup.start.progress.update, context.seconds

    def is_due(self, update: int) -> bool:
        return super().is_due(update) or bool(self._context.evaluation)

    def run(self, update: int, stats: UpdateStats) -> None:
        logger = self._context.logger
        with self._context.signal.stop.deferred():
            self._context.synchronise(f"at update {update}")
            row = self._row(update, stats)
            logger.log(row)
            for warning in self._health.warnings(row):
                logger.say(f"update {update}: {warning}")

    def _row(self, update: int, stats: UpdateStats) -> dict[str, float]:
        """The figures of an update; speed and shares of time are since the last row."""
        context, setup, now = self._context, self._context.setup, self._context.seconds
        config, numbers = setup.config, setup.trainer.numbers(update)
        seconds = max(now - self._last_seconds, 1e-9)
        row = {
            "misc/serial_timesteps": update * config.nsteps,
            "misc/nupdates": update,
            "misc/total_timesteps": update * config.nbatch,
            "fps": (update - self._last_update) * config.nbatch / seconds,
            "misc/explained_variance": float(stats.explained_variance),
            "eprewmean": context.logger.eprewmean,
            "eplenmean": context.logger.eplenmean,
            **context.evaluation,
            "misc/time_elapsed": now,
            **{f"loss/{name}": float(getattr(stats, name)) for name in setup.model.loss_names},
            "misc/grad_norm": float(stats.grad_norm),
            "misc/gradient_steps": int(stats.gradient_steps),
            "misc/skipped_updates": int(setup.model.state.counters.skipped_updates),
            "lr": numbers["lr"],
            "cliprange": numbers["cliprange"],
            **setup.trainer.time_shares(seconds),
        }
        context.evaluation.clear()
        self._last_update, self._last_seconds = update, now
        return row
