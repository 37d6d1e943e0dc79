"""Trainers: how updates are made, on environments of the host and of the device."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ppo2 import distributed
from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.agent.model_programs import observe_program, train_program
from ppo2.algorithm.faults import Fault
from ppo2.algorithm.rollout import Rollout
from ppo2.algorithm.train_state import UpdateStats
from ppo2.config import Config
from ppo2.distributed import collectives
from ppo2.numerics import schedules
from ppo2.numerics.compilation import can_compile_aside, compiling_aside, prepare_products
from ppo2.numerics.sharding import ONE_DEVICE
from ppo2.runners.device import DeviceRunner
from ppo2.runners.protocol import HostRunner
from ppo2.system.garbage import collection_put_off

Numbers = Callable[[int], Mapping[str, float]]
"""The numbers that change from update to update, given the update, counted from 1."""


def scheduled_numbers(config: Config) -> Numbers:
    """The function that gives the learning rate, cliprange, and the value's if it has its own, for `Model.train`."""
    names = ["lr", "cliprange"]
    if config.value_cliprange not in (None, "same"):
        names.append("value_cliprange")
    parsed = {name: schedules.parse(getattr(config, name), name) for name in names}
    return lambda update: {name: schedule(config.frac(update)) for name, schedule in parsed.items()}


class Advance(NamedTuple):
    """The outcome of some updates that were made in one go.

    Attributes:
        done: number of updates that were made.
        stats: figures of the last of them.
        fault, fault_update: the first fault, and the update that it kept from being made; arrays (R,) of R runs.
        halted: a fault ended them early; the last update left the model as it was.
    """

    done: int
    stats: UpdateStats
    fault: Fault
    fault_update: Any
    halted: bool = False


class Trainer(ABC):
    """Makes updates of a model, or of several at once.

    Attributes:
        rollout: the rollout that the next update learns from, where collecting it is a step of its own; else None.
    """

    rollout: Rollout | None = None

    def prepare(self, first: int) -> None:  # noqa: B027
        """Has the programs of update `first` compiled, where that is sooner than as they are called."""

    def collect(self) -> None:  # noqa: B027 (nothing to do where it is part of a compiled program)
        """Collects the rollout that comes next, where that is a step of its own; a signal may break it off."""

    def look_at_each_update(self) -> None:  # noqa: B027 (it does that already)
        """Makes no more than one update in one go from now on."""

    @abstractmethod
    def make_updates(self, first: int, most: int) -> Advance:
        """Makes update `first`, and up to `most` in all where that is faster."""

    def time_shares(self, seconds: float) -> dict[str, float]:
        """The shares of so many seconds, since the last call, that parts of training took; empty if unknown."""
        return {}


@dataclass
class HostTrainer(Trainer):
    """Collects a rollout with a runner of the host, or of actors, then learns from it."""

    model: Model
    runner: HostRunner
    numbers: Numbers
    rollout: Rollout | None = None
    _act: float = 0.0
    _step: float = 0.0
    _wait_for_update: Callable[[], object] | None = None

    @collection_put_off()
    def prepare(self, first: int) -> None:
        """See `Trainer`. To trace an update takes as long as to compile what precedes it: both are done at once. The
        update itself is compiled while the first rollout is collected.
        """
        model, runner = self.model, self.runner
        as_usual = type(model).train is Model.train and distributed.world().size == 1
        if as_usual and can_compile_aside():
            with compiling_aside() as aside:
                rollout, hyper = runner.prepare(aside), model.hyperparameters(**self.numbers(first))
                # several devices want arguments that are bound to them
                on_one = rollout is not None and model.learning_axis(rollout) == ONE_DEVICE
                if on_one and model.state.normaliser.is_empty:  # to be filled first
                    aside(program(model, observe_program, ONE_DEVICE), model.state, rollout)
                wait_for_collecting = aside.so_far()
                if on_one:
                    aside(program(model, train_program, ONE_DEVICE), model.state, rollout, hyper)
                    self._wait_for_update = aside.so_far()
                wait_for_collecting()

    def collect(self) -> None:
        self.rollout = self.runner.run()

    def make_updates(self, first: int, most: int) -> Advance:
        """See `Trainer`; one update."""
        assert self.rollout is not None
        if self._wait_for_update is not None:  # else both would compile it
            prepare_products()  # in the time that is waited for
            self._wait_for_update()
            self._wait_for_update = None
        stats = self.model.train(self.rollout, **self.numbers(first))
        self._act += self.runner.seconds.act
        self._step += self.runner.seconds.step
        return Advance(1, stats, Fault(stats.fault, stats.fault_index), first)

    def time_shares(self, seconds: float) -> dict[str, float]:
        step, act, self._step, self._act = self._step / seconds, self._act / seconds, 0.0, 0.0
        return {"time/step": step, "time/act": act, "time/train": max(0.0, 1.0 - (step + act))}


@dataclass
class DeviceTrainer(Trainer):
    """Makes several updates in one compiled program, rollouts included."""

    model: Model
    runner: DeviceRunner
    numbers: Numbers

    def look_at_each_update(self) -> None:
        self.runner.chunk_size.capacity = 1

    def make_updates(self, first: int, most: int) -> Advance:
        count = min(most, collectives.broadcast(self.runner.chunk_size.updates))
        chunk = self.runner.iterate([self.model.hyperparameters(**self.numbers(first + i)) for i in range(count)])
        return Advance(int(chunk.done), chunk.stats, chunk.fault, first + int(chunk.faulty), halted=bool(chunk.halted))


LearnTrainer = HostTrainer | DeviceTrainer
