"""The setup of a training: all that the parts of one `learn` share."""

import time
from pathlib import Path
from typing import Any

from ppo2 import distributed
from ppo2.agent.model import Model
from ppo2.algorithm.train_state import UpdateStats
from ppo2.checkpoints.progress import Progress
from ppo2.config import Config
from ppo2.distributed import collectives, parts
from ppo2.distributed.agreed_signal import AgreedSignal
from ppo2.evaluation.evaluate import Evaluation
from ppo2.reporting import logs
from ppo2.reporting.episode_file import episode_of
from ppo2.reporting.logger import Logger
from ppo2.runners.episodes import Episode
from ppo2.system.directory_lock import DirectoryLock
from ppo2.training import run_directory
from ppo2.training.loop import is_due
from ppo2.training.moments import Moments
from ppo2.training.start import Start
from ppo2.training.trainers import LearnTrainer


class Setup:
    """All that the parts of one `learn` share. Opens the run directory and the log, and says how the run goes on.

    Args:
        run_dir, progress: arguments of `learn`, the first absolute; those of the first process count.
        lock: the claim to the directory; None where nothing is written, and in other processes than the first.

    Attributes:
        signal: the signal to stop for.
        moments: calls the callbacks.
        saved_in: the run directory, for messages; None where nothing is written.
        settings: the content of its config.json.
        run_dir: the directory to write files in; None where nothing is written, and in other processes than the first.
        logger: writes and shows the log.
        started: the instant (of `time.perf_counter`) of the start, as if there had been no resume.
        evaluation: figures of the last evaluation until a row of the log has them.
        eval_interval: updates between two evaluations; 0 without any.
        evaluated: the last update that was evaluated.
        last_evaluation: the result; None where it was broken off.

    Raises:
        ValueError: the directory holds another run, or this one under other settings.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        trainer: LearnTrainer,
        start: Start,
        signal: AgreedSignal,
        moments: Moments,
        *,
        run_dir: Path | None,
        lock: DirectoryLock | None,
        progress: bool | None,
    ) -> None:
        self.lock = lock
        self.config, self.model, self.trainer, self.start = config, model, trainer, start
        self.signal, self.moments = signal, moments
        moments.attach(self)
        self.evaluation: dict[str, float] = {}
        self.eval_interval = 0 if config.eval_env is None else config.eval_interval or config.log_interval
        self.evaluated = 0
        self.last_evaluation: Evaluation | None = None
        before, world = start.progress, distributed.world()
        kept = {"placement": model.placement.saved(), "acts_with": model.acts_with, "most_parts": model.most_parts}
        self.saved_in, self.settings, lines = collectives.run_on_first(
            lambda: run_directory.prepare(run_dir, config, start, trainer.runner.layout, kept, moments.names)
        )
        self.run_dir = Path(self.saved_in) if self.saved_in is not None and world.is_first else None
        self.logger = logger = Logger(
            self.run_dir,
            total_updates=config.nupdates,
            first_update=before.update + 1,
            last_row=before.update if self._is_logged(before) else before.update - 1,
            progress=progress,
            monitor_rows=before.episodes,
            resume=start.goes_on,
            env_id=_id_of(config.env),
            seconds=before.seconds,
            info_keys=trainer.runner.info_keys,
            speaks=world.is_first,
            log=config.log,
            log_options=config.log_options,
            settings=self.settings or config.to_json(),
        )
        if before.left_out:  # the last rows of the file aren't the last episodes
            last_episodes = [episode_of(row) for row in before.last_episodes or ()]
            logger.take_up(last_episodes, logger.monitor_rows, before.left_out)
        last, rows = collectives.broadcast([logger.last, logger.monitor_rows])
        if not world.is_first:
            logger.take_up([Episode(*one) for one in last], rows, before.left_out)
        unused = logs.unused(config.log, config.log_options, self.run_dir) if world.is_first else []
        if unused:
            logger.warn(
                f"`log_options` has options for {', '.join(unused)}, and `log` (={config.log!r}) doesn't name it"
            )
        if lock is not None and lock.note:
            logger.say(lock.note)
        for line in lines:
            logger.say(line)
        if rows < before.episodes:
            logger.warn(
                f"monitor.csv has {rows:,} episodes, the checkpoint tells of {before.episodes:,}: rows were lost or "
                "removed; means of the last episodes begin with those that there are"
            )
        if self.saved_in is not None and world.size > 1 and not config.save_interval:
            logger.warn(
                "`save_interval` is 0: if one of the processes fails, which ends all, nothing will have been saved"
            )
        if start.kind == "restarted":
            logger.say(
                f"the run in {self.saved_in} was stopped before its first checkpoint: it begins again at update 1"
            )
        self.started = time.perf_counter() - before.seconds

    def _is_logged(self, before: Progress) -> bool:
        """True if the row of the update that a run goes on from is as it would be in a run that was never stopped."""
        total = self.start.settings.get("total_timesteps")
        was_last = isinstance(total, int) and before.update == total // self.config.nbatch
        intervals = (self.config.log_interval, self.eval_interval)
        return before.unfinished is None and (was_last or any(is_due(before.update, every) for every in intervals))

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return time.perf_counter() - self.started

    def filled(self, update: int, stats: UpdateStats) -> UpdateStats:
        """The figures of an update with those that only the host knows: of episodes, and of its evaluation."""
        logger = self.logger
        return stats._replace(
            eprewmean=logger.eprewmean,
            eplenmean=logger.eplenmean,
            episodes=logger.count,
            infos=logger.infos,
            last=logger.last,
            evaluation=self.last_evaluation if self.evaluated == update else None,
        )

    def stop(self, reason: str, update: int) -> None:
        """Says why training ends after an update, and leaves it in the model."""
        if not self.model.stop_reason:
            self.model.stop_reason = reason
            self.logger.say(f"{reason} (update {update:,} of {self.config.nupdates:,})")

    def synchronise(self, when: str) -> None:
        """Has all processes go on with the first one's model, and reports where another's had become different."""
        self.model.state, report = parts.synchronise_model(self.model.state, when)
        if report:
            self.logger.warn(report)


def _id_of(env: Any) -> str | None:
    """The id of an environment that `learn` was given; None if it has none."""
    found = env if isinstance(env, str) else getattr(getattr(env, "spec", None), "id", None)
    return found if isinstance(found, str) else None
