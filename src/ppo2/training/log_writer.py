"""Writing the rows of the log."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ppo2.algorithm.train_state import UpdateStats
from ppo2.distributed import heartbeat
from ppo2.reporting.health import Health
from ppo2.reporting.tables import rows_of
from ppo2.training.context import Context
from ppo2.training.evaluator import Evaluator
from ppo2.training.loop import is_due


class _LastRow(NamedTuple):
    """The update of the last row, and the seconds of training until then."""

    update: int
    seconds: float


class LogWriter:
    """Writes a row of the log at an interval, and where there was an evaluation; warns of what looks unhealthy.

    Args:
        first: the first update of this run; above 1 where it was resumed.
        synchronise: has all processes go on with one model; called with when that is, in words.
    """

    def __init__(
        self, context: Context, evaluator: Evaluator | None, first: int, synchronise: Callable[[str], None]
    ) -> None:
        self._context, self._evaluator, self._synchronise = context, evaluator, synchronise
        self.interval = context.setup.config.log_interval
        self._health = Health()
        is_resumed = context.setup.start.resumed is not None
        for row in rows_of(context.run_dir) if context.run_dir is not None and is_resumed else []:
            self._health.warnings(row)  # said before
        self._last = _LastRow(first - 1, context.seconds)

    def is_due(self, update: int) -> bool:
        return is_due(update, self.interval) or (self._evaluator is not None and bool(self._evaluator.figures))

    def run(self, update: int, stats: UpdateStats) -> bool:
        logger = self._context.logger
        with self._context.stop.deferred():
            self._synchronise(f"at update {update}")
            row = self._row(update, stats)
            with heartbeat.allow_pause():
                logger.log(row)
                for warning in self._health.warnings(row):
                    logger.say(f"update {update}: {warning}")
        return False

    def _row(self, update: int, stats: UpdateStats) -> dict[str, float]:
        """The figures of an update; those of time are since the last row."""
        setup, logger, now = self._context.setup, self._context.logger, self._context.seconds
        config, numbers = setup.config, setup.numbers(update)
        seconds = max(now - self._last.seconds, 1e-9)
        row = {
            "misc/serial_timesteps": update * config.nsteps,
            "misc/nupdates": update,
            "misc/total_timesteps": update * config.nbatch,
            "fps": (update - self._last.update) * config.nbatch / seconds,
            "misc/explained_variance": float(stats.explained_variance),
            "eprewmean": logger.eprewmean,
            "eplenmean": logger.eplenmean,
            **self._evaluation(),
            "misc/time_elapsed": now,
            **{f"loss/{name}": float(getattr(stats, name)) for name in setup.model.loss_names},
            "misc/grad_norm": float(stats.grad_norm),
            "misc/gradient_steps": int(stats.gradient_steps),
            "misc/skipped_updates": int(setup.model.state.counters.skipped_updates),
            "lr": numbers["lr"],
            "cliprange": numbers["cliprange"],
            **setup.trainer.time_shares(seconds),
        }
        self._last = _LastRow(update, now)
        return row

    def _evaluation(self) -> Mapping[str, float]:
        """The figures of an evaluation that no row has yet."""
        if self._evaluator is None:
            return {}
        figures, self._evaluator.figures = self._evaluator.figures, {}
        return figures
