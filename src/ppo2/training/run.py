"""What surrounds the updates of one `learn`: its directory, log, checkpoints, evaluations and last words."""

import contextlib
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from ppo2 import distributed
from ppo2.agent.files import writer as model_writer
from ppo2.agent.model import Model
from ppo2.algorithm.faults import FATAL, Fault, FaultKind, fault_words
from ppo2.algorithm.train_state import UpdateStats
from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.progress import Best, Position
from ppo2.checkpoints.writer import Saving
from ppo2.config import Config
from ppo2.distributed import World, collectives, heartbeat, processes
from ppo2.envs import AnyEnvs
from ppo2.evaluation.evaluate import Evaluation, run_episodes
from ppo2.reporting import plot
from ppo2.reporting.health import Health
from ppo2.reporting.logger import Logger
from ppo2.reporting.tables import EPISODE_WINDOW, rows_of
from ppo2.runners.device import DeviceRunner
from ppo2.runners.episodes import Ended, Episode, in_order
from ppo2.runners.remote import AnyRunner
from ppo2.runners.snapshot import Snapshot, joined, part_of
from ppo2.system import files
from ppo2.system.signals import Interrupted, StopSignals
from ppo2.training import run_directory


class _Mark(NamedTuple):
    """Where things stood when the log was last written."""

    update: int
    seconds: float


class Run:
    """One call of `learn`, from its directory's claim to its curve.

    Attributes:
        first: the update that comes first; above 1 where an earlier run goes on.
        rollouts: how many its runner had collected before.
    """

    def __init__(
        self,
        config: Config,
        model: Model,
        *,
        run_dir: Path | None,
        before: Position | None,
        again: bool,
        progress: bool,
        engine: Mapping[str, int],
    ) -> None:
        self.world = distributed.world()
        position = Position() if before is None else before
        self.config, self.model, self.run_dir, self._engine = config, model, run_dir, engine
        self.first = position.update + 1
        self.rollouts = position.rollouts
        self._elapsed_before = position.seconds
        self._done = self.first - 1
        self._saved_update = self._done if before is not None else None
        self._best = self._best_before = position.best
        best = None if position.best is None else position.best.update
        self._saving = None if run_dir is None else Saving(run_dir, keep=config.keep, best=best)
        self._refused: str | None = None
        self._evaluation: dict[str, float] = {}
        self._health = Health()
        self.logger = Logger(
            run_dir,
            total_updates=config.nupdates,
            first_update=self.first,
            progress=progress and self.world.is_first,
            monitor_rows=position.episodes,
            resume=before is not None or again,
            speaks=self.world.is_first,
        )
        if self.world.size > 1:
            last, rows = collectives.broadcast([self.logger.last, self.logger.monitor_rows])
            if not self.world.is_first:
                self.logger.take_up([Episode(*one) for one in last], rows)
        for row in [] if run_dir is None or before is None else rows_of(run_dir):
            self._health.warnings(row)  # told before
        self._progress = progress and self.world.is_first
        self._kept_in = collectives.broadcast(None if run_dir is None else str(run_dir))
        self._signal: int | None = None
        self._started = time.perf_counter()
        self._mark = _Mark(self.first - 1, self._elapsed_before)
        self._act = self._step = 0.0
        self._runner: AnyRunner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Whatever ends training early, what was learned before is kept; of several processes, where all are ended."""
        try:
            for_nothing = kind is Interrupted and self._done < self.first  # perhaps in the middle of the first update
            begun = self._runner is not None and self._runner.rollouts > self.rollouts
            together = self.world.size == 1 or (error is not None and processes.raised_by_all(error))
            if kind is not None and begun and together and not for_nothing:
                with contextlib.suppress(RuntimeError):  # an update broken off in its middle leaves no state to save
                    self._save_for_good(self._done)
                    collectives.all_gather(None)  # nobody goes before it is written
        finally:
            if self._saving is not None:
                self._saving.close()
            self.logger.close()

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self._elapsed_before + time.perf_counter() - self._started

    def attach(self, runner: AnyRunner, before: checkpoint.Checkpoint | None = None) -> None:
        """Goes on where an earlier run's runner stopped."""
        self._runner = runner
        runner.rollouts = self.rollouts
        if before is not None:
            mine = self.config.num_envs // self.world.size
            before = part_of(before, slice(mine * self.world.rank, mine * (self.world.rank + 1)), self.config.num_envs)
        for words in [] if before is None else runner.resume(before):
            self.logger.say(words)
        runner.began(self._started - self._elapsed_before)

    def agree(self, when: str) -> None:
        """Has all processes go on with the first one's model, and says so where another had become of it.

        Raises:
            ValueError: other shapes than the first one's.
        """
        self.model.state, others = collectives.synchronise(self.model.state)
        if others:
            whose = ", ".join(map(str, others))
            self.logger.say(
                f"{when}, the model was another one in rank {whose} than in rank 0: all go on with that one. What "
                "`network`, `model_fn`, `init_fn` and `update_fn` do to the model must be the same in all processes."
            )

    def check_fault(self, update: int, fault: Fault) -> None:
        """Waits for the update and raises ValueError where it couldn't be made, unless it is to be skipped."""
        kind = FaultKind(int(fault.kind))
        if kind is FaultKind.NONE:
            return
        where_in_run = f"update {update}" if update else "the rollout that fills the normaliser"
        words = fault_words(kind, int(fault.step), self.config.num_envs, self.model.observation_space)
        if self.config.on_nonfinite == "skip" and kind not in FATAL:
            self.logger.say(f"{where_in_run} skipped: {words}")
            return
        if kind is FaultKind.STATE_NOT_FINITE:
            self._saved_update = self._done  # a checkpoint that nobody could go on from would hide an earlier, good one
            raise ValueError(f"{where_in_run}: {words}.")
        raise ValueError(
            f"{where_in_run}: {words}. The model is as it was before"
            f"{f', saved in {self._kept_in}' if self._kept_in else ''}."
            + ("" if kind in FATAL else " `on_nonfinite='skip'` goes on without such updates.")
        )

    def count(self, update: int, runner: AnyRunner, stop: StopSignals) -> None:
        """Takes note of the updates that were made, up to `update`, and of a signal, to whichever process it came."""
        self._done = update
        runner.settle()
        self._tell_failures()
        ended = runner.ended()
        if self.world.size > 1:
            told = collectives.all_gather([stop.received, ended])
            ended = [Ended(step, Episode(*episode)) for _, theirs in told for step, episode in theirs]
            self._hear(signal for signal, _ in told)
        with heartbeat.allow_pause():  # the disk may be slow
            self.logger.episodes(in_order(ended))
        self.logger.tick(update)
        if not isinstance(runner, DeviceRunner):
            self._act += runner.seconds.act
            self._step += runner.seconds.step

    def _hear(self, signals: Iterable[int | None]) -> None:
        """Takes note of the first signal of what all processes tell."""
        self._signal = next((signal for signal in signals if signal is not None), self._signal)

    def heard(self, stop: StopSignals) -> int | None:
        """The signal to stop for; of several processes the one that all know of."""
        return stop.received if self.world.size == 1 else self._signal

    def evaluate(self, env: AnyEnvs, stop: StopSignals) -> None:
        """Evaluates the model; the log's next row tells. Of an evaluation that a signal breaks off nothing is told."""
        if self.config.keep is not None:  # is the best one so far really there?
            self._settle_saving()
            if self.world.size > 1:
                best = collectives.broadcast(self._best)
                self._best = None if best is None else Best(*best)
        # The same seed each time: evaluations differ by the policy, not by luck of the first states.
        result = run_episodes(
            self.model,
            env,
            episodes=self.config.eval_episodes,
            deterministic=True,
            seed=self.config.seed,
            until=lambda: stop.received is not None,
            share=self.world,
        )
        if self.world.size > 1:
            told = collectives.all_gather([stop.received, result.returns.tolist(), result.lengths.tolist()])
            self._hear(signal for signal, *_ in told)
            returns, lengths = ([x for one in told for x in one[i]] for i in (1, 2))
            result = Evaluation(np.array(returns), np.array(lengths))
        if self.heard(stop) is not None:
            return
        self._evaluation = {"eval_eprewmean": result.mean, "eval_eplenmean": float(result.lengths.mean())}
        is_better = self._best is None or result.mean > self._best.eval_eprewmean
        if self.config.keep is not None and is_better and math.isfinite(result.mean):
            self._best, self._best_before = Best(self._done, result.mean), self._best

    @property
    def is_best(self) -> bool:
        """Whether the update that was just made evaluates better than all before, so that its checkpoint is to stay."""
        return self._best is not None and self._best.update == self._done

    @property
    def has_evaluation(self) -> bool:
        """Whether there is an evaluation that no row has told of."""
        return bool(self._evaluation)

    def complete(self, stats: UpdateStats) -> UpdateStats:
        """The figures of an update with those that only the host knows."""
        logger = self.logger
        return stats._replace(eprewmean=logger.eprewmean, eplenmean=logger.eplenmean, episodes=logger.monitor_rows)

    def log(self, update: int, stats: UpdateStats, hyper: Mapping[str, float]) -> None:
        """Writes a row; figures of time are those since the last one. `hyper`: what the update was told."""
        self.agree(f"at update {update}")
        now = self.elapsed
        config, spent = self.config, max(now - self._mark.seconds, 1e-9)
        row = {
            "misc/serial_timesteps": update * config.nsteps,
            "misc/nupdates": update,
            "misc/total_timesteps": update * config.nbatch,
            "fps": (update - self._mark.update) * config.nbatch / spent,
            "misc/explained_variance": float(stats.explained_variance),
            "eprewmean": self.logger.eprewmean,
            "eplenmean": self.logger.eplenmean,
            **self._evaluation,
            "misc/time_elapsed": now,
            **{f"loss/{name}": float(getattr(stats, name)) for name in self.model.loss_names},
            "misc/grad_norm": float(stats.grad_norm),
            "misc/gradient_steps": int(stats.gradient_steps),
            "misc/skipped_updates": int(self.model.state.counters.skipped_updates),
            "lr": hyper["lr"],
            "cliprange": hyper["cliprange"],
        }
        if not isinstance(self._runner, DeviceRunner):  # on the device all of it is one program
            row |= {
                "time/step": self._step / spent,
                "time/act": self._act / spent,
                "time/train": max(0.0, 1.0 - (self._step + self._act) / spent),
            }
        with heartbeat.allow_pause():
            self.logger.log(row)
            for warning in self._health.warnings(row):
                self.logger.say(f"update {update}: {warning}")
        self._mark, self._evaluation = _Mark(update, now), {}
        self._act = self._step = 0.0

    def save(self, update: int) -> None:
        """Has the checkpoint of an update written, unless it is there already, while training goes on. What the disk
        refuses doesn't end training.
        """
        wanted = self._saving is not None and update != self._saved_update
        if self.world.size > 1:
            wanted = collectives.broadcast(wanted)
        if not wanted:
            return
        self._tell_failures()
        snapshot = Snapshot({}, {}, 0) if self._runner is None else _of_all(self._runner.snapshot(), self.world)
        if self._saving is None or self.run_dir is None:  # the first process writes
            return
        with heartbeat.allow_pause():  # the disk may be slow
            self._write(update, snapshot, self._saving, self.run_dir)

    def _write(self, update: int, snapshot: Snapshot, saving: Saving, run_dir: Path) -> None:
        position = Position(
            update=update,
            seconds=self.elapsed,
            episodes=self.logger.monitor_rows,
            rollouts=snapshot.rollouts,
            best=self._best,
        )
        self.logger.flush()
        logger, config = self.logger, self.config
        told = {**position._asdict(), "best": None if self._best is None else self._best._asdict()}
        told |= {"timesteps": update * config.nbatch, "runner": snapshot.facts}
        write_model, engine = model_writer(self.model, run=told, runner=snapshot.tensors), self._engine

        def write(path: Path) -> None:
            logger.sync()  # a run goes on from a checkpoint with the logs up to there
            if not (run_dir / run_directory.CONFIG).exists():  # someone has removed the directory
                run_directory.write_settings(run_dir, config, engine)
            write_model(path)

        saving.save(update, write, is_best=self._best is not None and self._best.update == update)
        self._saved_update = update

    def _save_for_good(self, update: int) -> None:
        """`save`, and returns once it is written, or has failed once more."""
        self._settle_saving()
        self.save(update)
        self._settle_saving()

    def _settle_saving(self) -> None:
        if self._saving is not None:
            with heartbeat.allow_pause():
                self._saving.wait()
            self._tell_failures()

    def _tell_failures(self) -> None:
        """Says of checkpoints that could not be written, once for each reason, and again only after it worked."""
        for outcome in [] if self._saving is None else self._saving.outcomes():
            update, error = outcome
            if error is None:
                self._refused = None
                continue
            if update == self._saved_update:
                self._saved_update = None
            if self._best is not None and self._best.update == update:
                self._best = self._best_before
            what = error.strerror or str(error)
            if what != self._refused:
                self.logger.say(
                    f"the checkpoint of update {update} could not be written ({error}); training goes on, earlier ones "
                    f"are intact. For the next to be written, {files.remedy(error)}."
                )
            self._refused = what

    def finish(self, update: int, stop: StopSignals) -> None:
        """The last checkpoint, the curve, and a line that says how it went; and a signal that came last."""
        with heartbeat.allow_pause():
            self._finish(update)
        if self.world.size > 1:  # and nobody goes before all is written
            self._hear(collectives.all_gather(stop.received))

    def _finish(self, update: int) -> None:
        self._save_for_good(update)
        curve = None
        if self.run_dir is not None and self.logger.monitor_rows:
            try:
                curve = plot.curve(self.run_dir, self.run_dir / run_directory.CURVE)
            except (OSError, ValueError) as error:
                self.logger.say(f"the learning curve could not be drawn: {error}")
        self.logger.close()
        if self._progress:
            self.logger.say(self._last_words(update, curve))

    def _last_words(self, update: int, curve: Path | None) -> str:
        seconds = self.elapsed
        steps = (update - self.first + 1) * self.config.nbatch
        counted = min(self.logger.monitor_rows, EPISODE_WINDOW)
        words = [
            f"mean return {self.logger.eprewmean:.1f} over the last {counted} episodes"
            if counted
            else "no episode ended",
            f"{steps:,} timesteps in {seconds - self._elapsed_before:.1f} s",
            f"{steps / max(seconds - self._elapsed_before, 1e-9):,.0f} timesteps per second",
        ]
        if self.run_dir is not None:
            words.append(f"run directory {self.run_dir}")
        if curve is not None:
            words.append(f"curve {curve}")
        return "; ".join(words)


def _of_all(mine: Snapshot, world: World) -> Snapshot:
    """The snapshot of all processes; only the first one's is of use."""
    if world.size == 1:
        return mine
    facts = collectives.all_gather(mine.facts)
    tensors = collectives.gather_tensors(mine.tensors)
    return joined([Snapshot(*one, mine.rollouts) for one in zip(tensors, facts, strict=False)]) if tensors else mine


def open_run(
    config: Config,
    model: Model,
    *,
    run_dir: str | os.PathLike[str] | None,
    before: checkpoint.Checkpoint | None,
    again: bool = False,
    progress: bool,
    engine: Mapping[str, int],
) -> Run:
    """Claims the directory, or takes up the run in it where `before` was saved, or, `again`, from its first update.

    Args:
        engine: beside the settings, what the last bits of figures depend on.

    Raises:
        ValueError: it holds another run, or this one under other settings.
    """
    if run_dir == "":
        raise ValueError("`run_dir` (='') must name a directory; None writes nothing.")
    path = None if run_dir is None else Path(run_dir).expanduser()
    position = None if before is None else Position.of(before)
    aside = None
    if collectives.broadcast(path is not None):  # whatever the others were told
        aside = collectives.run_on_first(lambda: run_directory.prepare(Path(str(path)), config, before, again, engine))
    mine = path if distributed.world().is_first else None
    again &= mine is not None
    run = Run(config, model, run_dir=mine, before=position, again=again, progress=progress, engine=engine)
    if aside:
        run.logger.say(aside)
    if position is not None and run.logger.monitor_rows < position.episodes:
        run.logger.say(
            f"monitor.csv has {run.logger.monitor_rows:,} episodes, the checkpoint tells of {position.episodes:,}: "
            "rows were lost or removed; means of the last episodes begin with those that there are"
        )
    if path is not None and run.world.size > 1 and not config.save_interval:
        run.logger.say(
            "`save_interval` is 0: should one of the processes fail, which ends all, nothing will have been saved"
        )
    if again:
        run.logger.say(f"the run in {path} was stopped before its first checkpoint: it begins again at update 1")
    return run
