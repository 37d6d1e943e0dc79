"""The episodes of an update as a compiled program hands them to the host: all of few, every k-th of many."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ppo2.numerics.sharding import DataAxis
from ppo2.runners.episodes import EPISODE_WINDOW, Ended, Episodes, NDArray, episodes_of, thinned

CHOICE_PAYS = 16
"""Timesteps for each slot, from which on it costs less to choose episodes in the program than to hand over all."""
SEARCH_BLOCK = 32
"""Flags that are summed at first, to be looked at one by one only where one of them is searched for."""


class Ends(NamedTuple):
    """Returns and lengths (steps) of the episodes that ended at each step, (T, N); the length is 0 where none did.
    `infos` are numbers of `info` at all steps.
    """

    returns: Float[Array, "T N"]
    lengths: Int[Array, "T N"]
    infos: Float[Array, "T N k"]


class Slots(NamedTuple):
    """Room for C episodes of an update, in the order in which they ended.

    | field | shape | meaning |
    |---|---|---|
    | where | (C,) | step * environments + environment, of all devices; -1 where the slot is empty |
    | returns, lengths | (C,) | see `Ends` |
    | infos | (C, k) | numbers of `info` at the episode's end |
    """

    where: Int[Array, " C"]
    returns: Float[Array, " C"]
    lengths: Int[Array, " C"]
    infos: Float[Array, "C k"]

    @classmethod
    def empty(cls, *shape: int, numbers: int) -> "Slots":
        """Slots to be written to."""
        where, returns = jnp.full(shape, -1, jnp.int32), jnp.zeros(shape, jnp.float32)
        return cls(where, returns, jnp.zeros(shape, jnp.int32), jnp.zeros((*shape, numbers), jnp.float32))


class UpdateEpisodes(NamedTuple):
    """The episodes of an update that are of this device's environments.

    | field | shape | meaning |
    |---|---|---|
    | rows | (C,) | those that are handed on |
    | last | (100,) | those of the last hundred of all devices; None where `rows` has all episodes |
    | counts | (1,) | number of all, for each device |
    """

    rows: Slots
    last: Slots | None
    counts: Int[Array, "1"]

    @classmethod
    def empty(cls, updates: int, steps: int, nenvs: int, numbers: int, most: int | None, axis: DataAxis) -> Any:
        """Ends of several updates, to be written to; for arguments see `handed_over`."""
        last, made = None, jnp.zeros((updates, 1), jnp.int32)
        rows = chosen_slots(steps * nenvs * axis.devices, most, axis)
        if rows is not None:
            last = Slots.empty(updates, EPISODE_WINDOW, numbers=numbers)
        return cls(Slots.empty(updates, steps * nenvs if rows is None else rows, numbers=numbers), last, made)


def chosen_slots(timesteps: int, most: int | None, axis: DataAxis) -> int | None:
    """The number of slots of an update's rows, where the program chooses them; None where it hands over all.

    Args:
        timesteps: number of timesteps of the update, on all devices.
        most: see `handed_over`.
    """
    if most is None or timesteps <= most:
        return None
    # Of several processes none has all episodes, to choose among them afterwards.
    pays = timesteps > CHOICE_PAYS * (most + EPISODE_WINDOW) or axis.processes > 1
    return most if pays else None


def slot_bytes(timesteps: int, numbers: int, most: int | None, axis: DataAxis) -> int:
    """Bytes of an update's episodes, of so many timesteps of all devices and numbers of `info`, on one of them."""
    rows = chosen_slots(timesteps, most, axis)
    slots = timesteps // axis.devices if rows is None else rows + EPISODE_WINDOW
    return 4 * (3 + numbers) * slots


def handed_over(ends: Ends, most: int | None, axis: DataAxis) -> UpdateEpisodes:
    """The episodes of T steps of this device's N environments.

    Args:
        most: number of episodes, of all devices, that are handed over at least; of more every k-th, with the least k
            for which they are so few, and the last hundred (or all: see `to_ended`). None: all.
    """
    steps, nenvs = ends.lengths.shape
    ended = ends.lengths > 0
    counts = jnp.sum(ended, axis=1, dtype=jnp.int32)
    count = jnp.sum(counts, dtype=jnp.int32)[None]
    flat = jax.tree.map(lambda x: x.reshape(steps * nenvs, *x.shape[2:]), ends)
    here = jnp.arange(steps * nenvs, dtype=jnp.int32)
    step, env = here // nenvs, here % nenvs
    where = step * (nenvs * axis.devices) + env + jnp.asarray(axis.index, jnp.int32) * nenvs
    rows = chosen_slots(steps * nenvs * axis.devices, most, axis)
    if rows is None:
        return UpdateEpisodes(Slots(jnp.where(ended.ravel(), where, -1), *flat), None, count)
    of_all = axis.gather(counts)  # (devices, T)
    total = jnp.sum(of_all, dtype=jnp.int32)
    every = jnp.maximum(1, -(-total // max(1, rows)))
    last = total - EPISODE_WINDOW + jnp.arange(EPISODE_WINDOW, dtype=jnp.int32)
    wanted = jnp.concatenate([every * jnp.arange(rows, dtype=jnp.int32), last])
    rank, is_here = _own_ranks(wanted, of_all, axis.index)
    at = jnp.clip(nth_true(ended.ravel(), rank), 0, here.size - 1)
    slots = Slots(jnp.where(is_here, where[at], -1), flat.returns[at], flat.lengths[at], flat.infos[at])
    chosen, window = jax.tree.map(lambda x: x[:rows], slots), jax.tree.map(lambda x: x[rows:], slots)
    return UpdateEpisodes(chosen, window, count)


def _own_ranks(
    ranks: Int[Array, " Q"], counts: Int[Array, "D T"], index: int | Int[Array, ""]
) -> tuple[Int[Array, " Q"], Bool[Array, " Q"]]:
    """The ranks among this device's episodes of those that have the given ranks among all (by step, then environment);
    and True for those that are of this device.

    Args:
        counts: episodes that ended on each device at each step.
        index: this device.
    """
    of_step, own = jnp.sum(counts, axis=0, dtype=jnp.int32), counts[index]
    upto = jnp.cumsum(of_step, dtype=jnp.int32)
    step = jnp.searchsorted(upto, ranks, side="right", method="scan_unrolled").astype(jnp.int32)
    step = jnp.minimum(step, len(upto) - 1)
    devices_before = jnp.arange(len(counts), dtype=jnp.int32)[:, None] < index
    before = upto - of_step + jnp.sum(jnp.where(devices_before, counts, 0), axis=0, dtype=jnp.int32)
    within = ranks - before[step]
    is_here = (ranks >= 0) & (ranks < upto[-1]) & (within >= 0) & (within < own[step])
    return (jnp.cumsum(own, dtype=jnp.int32) - own)[step] + within, is_here


def nth_true(flags: Bool[Array, " M"], ranks: Int[Array, " Q"]) -> Int[Array, " Q"]:
    """Indices of the flags that are True and have so many such flags before them; any where there are fewer.

    By blocks of flags, so that only their sums are accumulated over all: few and small kernels.
    """
    blocks = jnp.pad(flags, (0, -flags.size % SEARCH_BLOCK)).reshape(-1, SEARCH_BLOCK)
    sums = jnp.sum(blocks, axis=1, dtype=jnp.int32)
    upto = jnp.cumsum(sums, dtype=jnp.int32)
    block = jnp.searchsorted(upto, ranks, side="right", method="scan_unrolled").astype(jnp.int32)
    block = jnp.minimum(block, len(upto) - 1)
    within = (ranks - (upto - sums)[block])[:, None]
    passed: Array = jnp.cumsum(blocks[block], axis=1, dtype=jnp.int32) <= within
    return block * SEARCH_BLOCK + jnp.sum(passed, axis=1, dtype=jnp.int32)


def to_ended(
    handed: UpdateEpisodes,
    most: int | None,
    *,
    steps: int,
    nenvs: int,
    seconds: NDArray,
    info_keys: Sequence[str],
    devices: int,
) -> Ended:
    """The episodes of U updates, of all devices of this process; those that `handed_over` would choose of each.

    Args:
        handed: NumPy's arrays, (U, devices * C, ...).
        steps: T, of each environment in an update.
        nenvs: number of environments of all processes.
        seconds: (U * T,), when each step ended.
        info_keys: names of the numbers of `info`.
    """

    def table(slots: Any) -> tuple[Episodes, NDArray, NDArray]:
        update, slot = np.nonzero(slots.where >= 0)
        where, *columns = (x[update, slot] for x in slots)
        if devices > 1:
            order = np.lexsort((where, update))
            update, where, *columns = (x[order] for x in (update, where, *columns))
        returns, lengths, numbers = columns
        step = update * steps + where // nenvs
        infos: Mapping[str, NDArray] = {key: numbers[:, k] for k, key in enumerate(info_keys)}
        return episodes_of((returns, lengths, seconds[step], where % nenvs), infos), step, update

    rows, at, update = table(handed.rows)
    if handed.last is None:
        return thinned(Ended.all(rows, at), most, update)
    last, last_at, _ = table(handed.last)
    return Ended(rows, at, last[-EPISODE_WINDOW:], last_at[-EPISODE_WINDOW:], int(np.sum(handed.counts)))
