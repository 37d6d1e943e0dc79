"""A chunk: several updates that one call of a device program makes, and how many these are."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ppo2.algorithm.faults import FATAL, Fault, FaultKind
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.train_state import UpdateStats
from ppo2.numerics.sharding import BY_STEP, REPLICATED
from ppo2.runners.ends import UpdateEpisodes


class Chunk(NamedTuple):
    """The outcome of several updates in one program.

    | field | shape | meaning |
    |---|---|---|
    | done | () | updates that were made: fewer than asked for where a fault stopped them |
    | stats | | of the last of them |
    | halted | () | True if one met a fault that ends training |
    | fault, faulty | | that fault, else the first of all, and at which of the updates, counted from 0 |
    | ended | (K, ...) | the episodes, by update |
    """

    done: Int[Array, ""]
    stats: UpdateStats
    halted: Bool[Array, ""]
    fault: Fault
    faulty: Int[Array, ""]
    ended: UpdateEpisodes

    @classmethod
    def empty(cls, ended: UpdateEpisodes) -> "Chunk":
        """The chunk before its first update; `ended` has room for the episodes of all."""
        zero, blank = jnp.int32(0), UpdateStats.blank()
        return cls(done=zero, stats=blank, halted=jnp.bool_(False), fault=Fault(zero, zero), faulty=zero, ended=ended)

    def with_update(self, stats: UpdateStats, ended: UpdateEpisodes, halt_on: frozenset[FaultKind]) -> "Chunk":
        """The chunk after one more update."""
        halts = jnp.isin(stats.fault, np.array(sorted(halt_on), np.int32))
        is_first = (self.fault.kind == FaultKind.NONE) & (stats.fault != FaultKind.NONE)
        reported = ~self.halted & (halts | is_first)
        fault, faulty = jax.tree.map(
            lambda now, before: jnp.where(reported, now, before),
            (Fault(stats.fault, stats.fault_index), self.done),
            (self.fault, self.faulty),
        )
        return Chunk(
            done=self.done + 1,
            stats=stats,
            halted=self.halted | halts,
            fault=fault,
            faulty=faulty,
            ended=jax.tree.map(lambda all_, now: all_.at[self.done].set(now), self.ended, ended),
        )


CHUNK_SPECS = Chunk(**dict.fromkeys(Chunk._fields, REPLICATED) | {"ended": BY_STEP})  # type: ignore[arg-type]
"""Partition of a chunk's fields over devices: the episodes of each update by their slots, its second axis."""

HALTING = {"raise": frozenset(FaultKind) - {FaultKind.NONE}, "skip": FATAL}
"""The faults that end a chunk, by `on_nonfinite`."""


CHUNK_SECONDS = 1.0
"""Seconds of a chunk, about: how often the host can log, save or stop."""
CHUNK_BYTES = 2**22
"""Largest size of a chunk's episodes, which are cleared and copied for every chunk."""
MOST_UPDATES = 512


class ChunkSize:
    """The number of updates in a chunk: as many as take about a second, and have room.

    Args:
        room: bytes of an update's episodes, on one device.
        log_interval: no chunk goes beyond a row of the log.

    Attributes:
        capacity: most updates of a chunk.
        seconds: time of the last update; infinite before the first.
    """

    def __init__(self, room: int, log_interval: int) -> None:
        self.capacity = max(1, min(MOST_UPDATES, log_interval, CHUNK_BYTES // room))
        self.seconds = np.inf

    @property
    def updates(self) -> int:
        """The number of updates to ask for next."""
        return max(1, min(self.capacity, int(CHUNK_SECONDS / self.seconds)))

    def stack(self, hypers: Sequence[Hyperparameters]) -> Hyperparameters:
        """Numbers of several updates, (capacity,), filled up with the last of them."""
        padding = (0, self.capacity - len(hypers))
        stacked: Hyperparameters = jax.tree.map(
            lambda *x: np.pad(np.array(x, np.float32), padding, mode="edge"), *hypers
        )
        return stacked
