"""The moments of a training at which callbacks are called."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ppo2 import distributed
from ppo2.algorithm.train_state import UpdateStats
from ppo2.callbacks.base import Callback, Training
from ppo2.callbacks.calls import class_name, has_moment, interval_of, never_called, type_name
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.checkpoints.progress import row_of
from ppo2.checkpoints.state_dicts import CALLBACKS, saved_states, to_stored
from ppo2.distributed import collectives, heartbeat
from ppo2.envs import DeviceVector
from ppo2.training.loop import Task, is_due, next_multiple

if TYPE_CHECKING:
    from ppo2.training.setup import Setup

Tensors = dict[str, np.ndarray[Any, Any]]


class Moments:
    """Calls the callbacks of a training. As a context it calls `on_end`, if `start` was called.

    Of several processes each may have callbacks of its own, or none; where any has one, all agree at each moment on the
    figures, on stopping and on saving.

    Attributes:
        any: a process has a callback.
        names: names of the classes of this process's callbacks, without those that settings stand for.
        training: the callbacks' view of the training; None before `start`, and where no process has a callback.
        logged: figures that callbacks logged, until a row of the log has them.
        intervals: intervals of all callbacks with `on_rollout` or `on_update`; 0 for None.
        waits_for_checkpoints: a callback has `on_checkpoint`.
        save_asked_at: the last update for which a callback asked for a checkpoint.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks
        self.any = any(collectives.all_gather(bool(callbacks)))
        self._own = [callback for callback in callbacks if not callback.is_setting]
        self.names = [class_name(callback) for callback in self._own]
        self.training: Training | None = None
        self.logged: dict[str, float] = {}
        self.intervals: list[int] = []
        self.waits_for_checkpoints = False
        self.save_asked_at = -1
        self._last: tuple[int, UpdateStats] | None = None  # the last update, with its figures

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Calls `on_end` of all callbacks, whatever one of them raises; an error that ended training goes first."""
        training, failures = self.training, list[Exception]()
        if training is None:
            return
        if self._last is not None:
            self._looking_at(*self._last)
        training.error, training.is_over = error, True
        for callback in self._callbacks:
            try:
                self._call_one(callback, "on_end")
            except Exception as raised:
                failures.append(raised)
        for failure in failures if error is not None else failures[1:]:
            words = " ".join(getattr(failure, "__notes__", []))
            self._setup.logger.warn(f"`callbacks`: {type(failure).__name__}: {failure} {words}")
        if failures and error is None:
            raise failures[0]

    def attach(self, setup: "Setup") -> None:
        """Takes note of the setup of the training."""
        self._setup = setup

    def start(self, env: Any) -> None:
        """Restores the state of callbacks in a run that goes on, and calls `on_start`.

        Raises:
            TypeError: the state of one can't be stored.
            ValueError: an interval that can't be; or processes that freeze different parameters.
        """
        setup, resumed = self._setup, self._setup.start.resumed
        if resumed is not None:
            self._restore(resumed)
        if not self.any:
            return
        self.logged.update(row_of(setup.start.progress.figures or {}))
        self.training = training = Training(
            model=setup.model,
            config=setup.config,
            env=getattr(env, "env", env) if isinstance(env, DeviceVector) else env,
            run_dir=None if setup.saved_in is None else Path(setup.saved_in),
            say=setup.logger.say,
            warn=setup.logger.warn,
            callbacks=tuple(self._callbacks),
            update=setup.start.progress.update,
            pending=self.logged,
        )
        for words in filter(None, map(never_called, self._callbacks)):
            setup.logger.warn(f"`callbacks`: {words}")
        self._call("on_start")
        self._agree(training)
        self.stored()  # complains before the first update of what no file can hold
        mine = [c for c in self._callbacks if has_moment(c, "on_rollout") or has_moment(c, "on_update")]
        intervals = [interval_of(callback) for callback in mine]
        waits = any(has_moment(callback, "on_checkpoint") for callback in self._callbacks)
        told = collectives.all_gather([intervals, waits, [list(part) for part in setup.model.frozen]])
        self.intervals = sorted({interval for part, _, _ in told for interval in part})
        self.waits_for_checkpoints = any(waits for _, waits, _ in told)
        if any(frozen != told[0][2] for _, _, frozen in told):
            raise ValueError("`callbacks`: processes would freeze different parameters; give all of them the same.")
        progress = setup.start.progress
        if resumed is not None and progress.unfinished is None and not progress.interim:
            self.saved(training.update, resumed.path)

    @property
    def is_stopped(self) -> bool:
        """True where a callback, of any process, wants training to stop."""
        return self.training is not None and self.training.stop_reason is not None

    def recorded(self, update: int, stats: UpdateStats) -> None:
        """Takes note of the last update."""
        self._last = update, stats

    def collected(self, update: int) -> None:
        """Calls `on_rollout` before an update, on host environments."""
        training, rollout = self.training, self._setup.trainer.rollout
        if training is not None and rollout is not None:
            training.rollout = rollout
            self._call_on_rollout(update)
            training.rollout = None

    def updated(self, update: int, stats: UpdateStats) -> bool:
        """Calls `on_update`, and before it `on_rollout` on device environments. True to end training."""
        if self._setup.trainer.rollout is None:
            self._call_on_rollout(update)
        training = self._looking_at(update, stats)
        self._call("on_update", update)
        return self._agree(training)

    def evaluated(self, update: int, stats: UpdateStats) -> bool:
        """Calls `on_evaluation`. True to end training."""
        if not self.any:
            return False
        training = self._looking_at(update, stats)
        self._call("on_evaluation")
        return self._agree(training)

    def saved(self, update: int, path: Path | None) -> bool:
        """Calls `on_checkpoint`. True to end training.

        Args:
            path: the checkpoint, in the process that writes it.
        """
        training = self.training
        if training is None or not self.waits_for_checkpoints:
            return False
        if self._last is not None and self._last[0] == update:  # which nobody may have looked at
            self._looking_at(*self._last)
        training.checkpoint = path
        self._call("on_checkpoint")
        training.checkpoint = None
        return self._agree(training)

    def before_end(self, until: Callable[[], bool]) -> None:
        """Calls `before_end`, while the files are open."""
        if self.training is None:
            return
        if self._last is not None:
            self._looking_at(*self._last)
        for callback in self._callbacks:
            self._call_one(callback, "before_end", self.training, until)

    def stored(self) -> tuple[list[Any], Tensors]:
        """The state of all processes' callbacks, for the checkpoint that the first one writes: a list for each process,
        and arrays.

        Raises:
            TypeError: the state of one can't be stored.
        """
        rank, facts, tensors = distributed.world().rank, list[Any](), Tensors()
        for i, callback in enumerate(self._own):
            state = self._call_one(callback, "state_dict")
            try:
                stored, arrays = to_stored(state, f"{CALLBACKS}{rank}/{i}/")
            except TypeError as error:
                what = f"{class_name(callback)}.state_dict()"
                raise TypeError(f"`callbacks`: what {what} returns can't be saved: {error}") from None
            facts.append({"type": type_name(callback), "state": stored})
            tensors |= arrays
        if not self.any:
            return [], {}
        gathered = collectives.gather_tensors(tensors)
        return collectives.all_gather(facts), {name: array for part in gathered for name, array in part.items()}

    # --- inside ---------------------------------------------------------------------------------------------------

    def _restore(self, resumed: Checkpoint) -> None:
        """Gives the callbacks the state that the run saved of them."""
        found = saved_states(resumed, distributed.world().rank)
        left, new = list(found), list[str]()
        for callback in self._own:
            mine = next((entry for entry in left if entry.type == type_name(callback)), None)
            if mine is None:
                new.append(class_name(callback))
                continue
            left.remove(mine)
            self._call_one(callback, "load_state_dict", mine.state(resumed))
        warn = self._setup.logger.warn
        if left:
            names = ", ".join(entry.type.rpartition(".")[2] for entry in left)
            warn(f"`callbacks`: the run had {names} so far, and continues without: to change nothing, give what it had")
        if new:
            warn(f"`callbacks`: the run had no {', '.join(new)} so far; it has from now on")

    def _call_on_rollout(self, update: int) -> None:
        assert self.training is not None
        if self.training.update != update - 1:  # nobody has looked at it
            self.training.update, self.training.stats = update - 1, None
        self._call("on_rollout", update)

    def _looking_at(self, update: int, stats: UpdateStats) -> Training:
        assert self.training is not None
        self.training.update, self.training.stats = update, self._setup.filled(update, stats)
        return self.training

    def _call(self, method: str, update: int | None = None) -> None:
        """Calls a method of all callbacks; of those alone that want it after an update, where one is given."""
        for callback in self._callbacks:
            if update is None or is_due(update, callback.interval or 1):
                self._call_one(callback, method)

    def _call_one(self, callback: Callback, method: str, *arguments: Any) -> Any:
        """Calls a method of a callback, of whose errors it says where they are from."""
        if method.startswith("on_"):
            if not has_moment(callback, method):
                return None
            arguments = (self.training,)
        self._setup.logger.settle()  # it may look into the files
        try:
            with heartbeat.allow_pause():
                return getattr(callback, method)(*arguments)
        except Exception as error:
            when = self._setup.start.progress.update if self.training is None else self.training.update
            error.add_note(f"Raised by the callback {class_name(callback)}, in {method}, after update {when:,}.")
            raise

    def _agree(self, training: Training) -> bool:
        """Has all processes know of the figures, and of the wish to stop or to save. True to end training."""
        was_stopped = training.reason_is_known
        told = collectives.all_gather([training.stop_reason, training.logged, training.asks_for_checkpoint])
        for _, figures, _ in reversed(told):
            self.logged.update(figures)
        training.logged.clear()
        if any(asks for _, _, asks in told):
            self.save_asked_at = training.update
        training.asks_for_checkpoint = False
        training.stop_reason = next((reason for reason, _, _ in told if reason is not None), None)
        if training.stop_reason is not None and not was_stopped:
            training.reason_is_known = True
            self._setup.stop(training.stop_reason, training.update)
        return training.stop_reason is not None


class UpdateMoment(Task):
    """The moment after an update, for callbacks with `on_update` or `on_rollout`."""

    interval = 0

    def __init__(self, moments: Moments) -> None:
        self._moments = moments

    def is_due(self, update: int) -> bool:
        return any(is_due(update, interval or 1) for interval in self._moments.intervals)

    def next_due(self, update: int) -> int | None:
        return min((next_multiple(update, interval) for interval in self._moments.intervals if interval), default=None)

    def run(self, update: int, stats: UpdateStats) -> bool:
        return self._moments.updated(update, stats)
