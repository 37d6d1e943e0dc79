"""The loop over updates: what is due when, how far one step goes, and what ends it."""

from types import SimpleNamespace
from typing import Any

from ppo2.algorithm.faults import Fault
from ppo2.algorithm.train_state import UpdateStats
from ppo2.distributed.agreed_signal import AgreedSignal
from ppo2.system.signals import StopSignals
from ppo2.training.loop import Task, next_due, run_updates
from ppo2.training.trainers import Advance, Trainer


class Note(Task):
    """Notes the updates after which it ran; ends training at `last`."""

    def __init__(self, interval: int, last: int | None = None) -> None:
        self.interval, self.last = interval, last
        self.updates: list[int] = []

    def run(self, update: int, stats: UpdateStats) -> bool:
        self.updates.append(update)
        return update == self.last


class Steps(Trainer):
    """Makes up to five updates in one go, and notes each go."""

    def __init__(self) -> None:
        self.goes: list[tuple[int, int]] = []

    def make_updates(self, first: int, most: int) -> Advance:
        done = min(5, most)
        self.goes.append((first, done))
        return Advance(done, UpdateStats.blank(), Fault(0, 0), first)  # type: ignore[arg-type]


def run(tasks: list[Any], trainer: Trainer, **more: Any) -> tuple[int, list[int]]:
    recorded: list[int] = []
    settings = {"first": 1, "last": 20, "signal": AgreedSignal(StopSignals()), **more}
    last = run_updates(trainer, tasks, record=lambda update, _: recorded.append(update), **settings)
    return last, recorded


def test_a_task_is_due_at_the_first_update_and_at_every_multiple() -> None:
    assert [update for update in range(1, 10) if Note(4).is_due(update)] == [1, 4, 8]
    assert not any(Note(0).is_due(update) for update in range(1, 10))


def test_next_due_is_the_nearest_multiple_of_any_interval() -> None:
    tasks = [Note(4), Note(6), Note(0)]
    assert [next_due(update, tasks, last=11) for update in (0, 1, 4, 6, 8, 10)] == [1, 4, 6, 8, 11, 11]


def test_a_go_ends_where_a_task_is_due() -> None:
    """Tasks at 1, 8, 16, and the last update is 20: goes of at most 5 updates end there."""
    note, trainer = Note(8), Steps()
    assert run([note], trainer) == (20, [1, 6, 8, 13, 16, 20])
    assert trainer.goes == [(1, 1), (2, 5), (7, 2), (9, 5), (14, 3), (17, 4)]
    assert note.updates == [1, 8, 16]


def test_a_task_ends_training_after_all_tasks_of_the_update() -> None:
    first, second = Note(3, last=6), Note(3)
    assert run([first, second], Steps()) == (6, [1, 3, 6])
    assert first.updates == second.updates == [1, 3, 6]


def test_a_signal_ends_training_after_the_update() -> None:
    stop = StopSignals()
    note = SimpleNamespace(interval=2, is_due=lambda update: True, run=lambda *_: setattr(stop, "received", 2))
    assert run([note], Steps(), signal=AgreedSignal(stop)) == (1, [1])


def test_a_resumed_run_begins_at_its_first_update() -> None:
    trainer = Steps()
    assert run([Note(8)], trainer, first=14)[0] == 20
    assert trainer.goes == [(14, 3), (17, 4)]
