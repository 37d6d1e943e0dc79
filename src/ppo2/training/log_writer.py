"""Writing the rows of the log."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ppo2.agent.model import Model
from ppo2.algorithm.train_state import UpdateStats
from ppo2.config import Config
from ppo2.distributed import heartbeat
from ppo2.reporting.health import Health
from ppo2.reporting.logger import Logger
from ppo2.system.signals import StopSignals
from ppo2.training.evaluator import Evaluator
from ppo2.training.loop import is_due
from ppo2.training.saver import Clock
from ppo2.training.trainers import LearnTrainer, Numbers


class _LastRow(NamedTuple):
    """The update of the last row, and the seconds of training until then."""

    update: int
    seconds: float


class LogWriter:
    """Writes a row of the log at an interval, and where there was an evaluation; warns of what looks unhealthy.

    Args:
        first: the first update of this run; above 1 where it was resumed.
        earlier_rows: rows that the run has already, of whose warnings nothing is said again.
        numbers: see `trainers.Numbers`.
        synchronise: has all processes go on with one model; called with when that is, in words.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        trainer: LearnTrainer,
        evaluator: Evaluator | None,
        *,
        first: int,
        earlier_rows: list[dict[str, float]],
        numbers: Numbers,
        logger: Logger,
        clock: Clock,
        stop: StopSignals,
        synchronise: Callable[[str], None],
    ) -> None:
        self._config, self._model, self._trainer, self._evaluator = config, model, trainer, evaluator
        self._numbers, self._logger, self._clock, self._stop = numbers, logger, clock, stop
        self._synchronise = synchronise
        self._health = Health()
        for row in earlier_rows:
            self._health.warnings(row)
        self._last = _LastRow(first - 1, clock.seconds)

    @property
    def interval(self) -> int:
        """Updates between two rows."""
        return self._config.log_interval

    def is_due(self, update: int) -> bool:
        """See `Task`."""
        return is_due(update, self.interval) or (self._evaluator is not None and bool(self._evaluator.figures))

    def run(self, update: int, stats: UpdateStats) -> bool:
        """See `Task`."""
        with self._stop.deferred():
            self._synchronise(f"at update {update}")
            row = self._row(update, stats)
            with heartbeat.allow_pause():
                self._logger.log(row)
                for warning in self._health.warnings(row):
                    self._logger.say(f"update {update}: {warning}")
        return False

    def _row(self, update: int, stats: UpdateStats) -> dict[str, float]:
        """The figures of an update; those of time are since the last row."""
        config, logger, numbers, now = self._config, self._logger, self._numbers(update), self._clock.seconds
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
            **{f"loss/{name}": float(getattr(stats, name)) for name in self._model.loss_names},
            "misc/grad_norm": float(stats.grad_norm),
            "misc/gradient_steps": int(stats.gradient_steps),
            "misc/skipped_updates": int(self._model.state.counters.skipped_updates),
            "lr": numbers["lr"],
            "cliprange": numbers["cliprange"],
            **self._trainer.time_shares(seconds),
        }
        self._last = _LastRow(update, now)
        return row

    def _evaluation(self) -> Mapping[str, float]:
        """The figures of an evaluation that no row has yet."""
        if self._evaluator is None:
            return {}
        figures, self._evaluator.figures = self._evaluator.figures, {}
        return figures
