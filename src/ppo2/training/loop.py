"""The loop over updates, which `learn` and sweeps share."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ppo2.algorithm.train_state import UpdateStats
from ppo2.distributed import heartbeat
from ppo2.system.signals import StopSignals
from ppo2.training.trainers import Advance, Trainer


class Task(Protocol):
    """Work that is due after some of the updates: evaluating, logging, saving, calling the user's function."""

    interval: int
    """Updates from one time to the next; it is due after the first update too. 0: never at an interval."""

    def is_due(self, update: int) -> bool:
        """True if it is to be done after this update."""

    def run(self, update: int, stats: UpdateStats) -> bool:
        """Does it. Returns True to end training."""


def is_due(update: int, interval: int) -> bool:
    """True every `interval` updates and, as in Baselines, after the first; never for an interval of 0."""
    return bool(interval) and (update == 1 or update % interval == 0)


def next_due(update: int, tasks: Sequence[Task], last: int) -> int:
    """The next update after which a task is due, or the last one of all."""
    if update == 0:
        return 1
    return min(last, *((update // task.interval + 1) * task.interval for task in tasks if task.interval))


def run_updates(
    trainer: Trainer,
    tasks: Sequence[Task],
    *,
    first: int,
    last: int,
    stop: StopSignals,
    record: Callable[[int, Advance], None],
    is_stopped: Callable[[], bool],
) -> int:
    """Makes the updates from `first` to `last`, and does after each what is due. Returns the last one that was made.

    Args:
        record: takes note of the updates up to a number, in one piece with them: a second signal waits for it.
        is_stopped: True once training is to end after the update.
    """
    update = first - 1
    while update < last:
        most = next_due(update, tasks, last) - update
        trainer.collect()
        with stop.deferred():
            advance = trainer.make_updates(update + 1, most)
            update += advance.done
            record(update, advance)
        stop.patient = True
        heartbeat.expect_progress()  # all is compiled
        ends = False
        for task in tasks:  # in turn, as one may make the next one due
            ends |= task.is_due(update) and task.run(update, advance.stats)
        if ends or is_stopped():
            break
    return update
