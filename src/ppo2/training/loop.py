"""The loop over updates, which `learn` and sweeps share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ppo2.algorithm.train_state import UpdateStats
from ppo2.distributed import heartbeat
from ppo2.distributed.agreed_signal import AgreedSignal
from ppo2.training.trainers import Advance, Trainer


def is_due(update: int, interval: int) -> bool:
    """True every `interval` updates and, as in Baselines, after the first; never where `interval` is 0."""
    return bool(interval) and (update == 1 or update % interval == 0)


def next_multiple(update: int, interval: int) -> int:
    """The first multiple of `interval` above `update`."""
    return (update // interval + 1) * interval


class Task(ABC):
    """Work that is due after some of the updates: evaluating, logging, saving, calling the user's function.

    Attributes:
        interval: updates from one time to the next; 0 where it is never due at an interval.
    """

    interval: int

    def is_due(self, update: int) -> bool:
        """True where the work is due after an update."""
        return is_due(update, self.interval)

    def next_due(self, update: int) -> int | None:
        """The next update after which it is due at an interval; None: never."""
        return next_multiple(update, self.interval) if self.interval else None

    @abstractmethod
    def run(self, update: int, stats: UpdateStats) -> bool | None:
        """Does it. Returns True to end training."""


def next_due(update: int, tasks: Sequence[Task], last: int) -> int:
    """The next update after which a task is due, or the last one of all."""
    if update == 0:
        return 1
    return min(last, *(due for task in tasks if (due := task.next_due(update)) is not None))


def run_updates(
    trainer: Trainer,
    tasks: Sequence[Task],
    *,
    first: int,
    last: int,
    signal: AgreedSignal,
    record: Callable[[int, Advance], None],
    collected: Callable[[int], None] | None = None,
) -> int:
    """Makes the updates from `first` to `last`, and does after each what is due. Returns the last one that was made.

    Args:
        signal: ends training after the update in which it comes.
        record: takes note of the updates up to a number, in one piece with them: a second signal waits for it.
        collected: called before an update, once the rollout for it is collected.
    """
    update = first - 1
    while update < last:
        most = next_due(update, tasks, last) - update
        trainer.collect()
        if collected is not None:
            collected(update + 1)
        with signal.stop.deferred():
            advance = trainer.make_updates(update + 1, most)
            update += advance.done
            record(update, advance)
        signal.stop.patient = True
        heartbeat.expect_progress()  # all is compiled
        ends = False
        for task in tasks:  # in turn, as one may make the next one due
            ends |= task.is_due(update) and bool(task.run(update, advance.stats))
        if ends or signal.received is not None:
            break
    return update
