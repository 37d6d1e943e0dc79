"""The data axis: environments in equal blocks, one for each device, that learn as if they were one.

Means are taken of sums over the axis, so that a program on several devices computes what it would on one, to float
tolerance. The devices may be those of several processes (`ppo2.distributed`): of N environments and P processes each
holds those from rank * N / P on.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from ppo2.numerics.compilation import devices_here, devices_in_use, platform

AXIS = "data"

REPLICATED = PartitionSpec()
BY_ENV = PartitionSpec(AXIS)
BY_STEP = PartitionSpec(None, AXIS)

LEAST_BLOCK = 32
"""Fewest environments of a device: with fewer, collectives cost more than they save (docs/benchmarks.md)."""

LARGE = 2**16
"""Numbers of an array from which joining it to others costs more than a collective of its own."""
LEAST_SAMPLES = 32
"""Fewest samples of a device's part of a minibatch, of images that convolutions take a millisecond or so for."""

T = TypeVar("T")
Compiled = Callable[..., Any]


@dataclass(frozen=True)
class DataAxis:
    """The layout of a program's environments: `devices` equal blocks, as many in each process. One device: no axis.

    Attributes:
        by_sample: each device has all environments, and of every minibatch an equal part of the samples.
    """

    devices: int = 1
    processes: int = 1
    by_sample: bool = False

    @property
    def of_environments(self) -> "DataAxis":
        """The axis that environments are spread over."""
        return ONE_DEVICE if self.by_sample else self

    @property
    def index(self) -> int | Int[Array, ""]:
        """The index of this device's block."""
        return 0 if self.devices == 1 else jax.lax.axis_index(AXIS)

    @property
    def local_devices(self) -> int:
        """The number of blocks of this process."""
        return self.devices // self.processes

    def sum(self, tree: T) -> T:
        """The sum over all blocks of each leaf; small ones as one vector, as each collective has a price of its own."""
        if self.devices == 1:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        large = [x.size > LARGE for x in leaves]
        flat, unravel = ravel_pytree([x for x, alone in zip(leaves, large, strict=True) if not alone])
        small = iter(unravel(jax.lax.psum(flat, AXIS)))
        parts = [jax.lax.psum(x, AXIS) if alone else next(small) for x, alone in zip(leaves, large, strict=True)]
        summed: T = jax.tree.unflatten(structure, parts)
        return summed

    def gather(self, tree: T) -> T:
        """Every leaf with a leading axis of all blocks."""
        alone = self.devices == 1
        gathered: T = jax.tree.map(lambda x: jnp.asarray(x)[None] if alone else jax.lax.all_gather(x, AXIS), tree)
        return gathered

    def part(self, tree: T) -> T:
        """The rows of each leaf that this device has, each having as many."""
        if self.devices == 1:
            return tree

        def rows(x: Any) -> Any:
            size = len(x) // self.devices
            return jax.lax.dynamic_slice_in_dim(x, self.index * size, size)

        mine: T = jax.tree.map(rows, tree)
        return mine

    def joined(self, tree: T) -> T:
        """The inverse of `part`: the rows of all devices."""
        return tree if self.devices == 1 else jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), tree)


ONE_DEVICE = DataAxis()


def default_shards(num_envs: int, nsteps: int, nminibatches: int, *, devices: int | None = None) -> int:
    """The number of blocks: one for each device, or fewer if environments are few or blocks don't divide into
    minibatches; at least one for each process.

    Args:
        num_envs: number of environments of all processes.
        devices: number of its own devices that a process may use; None: all.
    """
    processes: int = jax.process_count()
    mine = num_envs // processes
    for blocks in range(min(_usable(devices), mine // LEAST_BLOCK), 1, -1):
        if mine % blocks == 0 and mine // blocks * nsteps % max(1, nminibatches) == 0:
            return processes * blocks
    return processes


def split_for(shards: int, *, devices: int | None = None) -> DataAxis:
    """The layout that gives each of as many devices as possible whole blocks.

    Raises:
        ValueError: the processes can't have as many blocks each.
    """
    processes: int = jax.process_count()
    if shards % processes:
        raise ValueError(
            f"`shards` (={shards}) must be a multiple of the number of processes ({processes}): each holds whole "
            "blocks of environments. A run that was begun with other `shards` can continue with fewer processes."
        )
    mine = shards // processes
    each = next(n for n in range(min(_usable(devices), mine), 0, -1) if mine % n == 0)
    return DataAxis(each * processes, processes)


def across_processes() -> DataAxis:
    """The layout of host environments: one device in each process."""
    return DataAxis(jax.process_count(), jax.process_count())


def over_samples(rows: int, length: int = 1, *, most: int | None = None) -> DataAxis:
    """The layout that divides a minibatch's rows, of `length` samples each, among CPU devices of this process, `most`
    of them at most.

    A device computes in a thread of its own, so that both of two cores work all the time; the threads that share an
    operation wait for each other at its end. On an accelerator, or where there are several processes: `ONE_DEVICE`.
    """
    if platform() != "cpu" or jax.process_count() > 1:
        return ONE_DEVICE
    there = len(devices_here())
    most = min(there if most is None else most, there, rows * length // LEAST_SAMPLES)
    parts = next((n for n in range(most, 1, -1) if rows % n == 0), 1)
    return ONE_DEVICE if parts == 1 else DataAxis(parts, 1, by_sample=True)


def first_environment(mine: int) -> int:
    """The global index of the first of this process's environments."""
    index: int = jax.process_index()
    return index * mine


def _usable(devices: int | None) -> int:
    """The number of devices that each process uses.

    Raises:
        ValueError: `devices` are more than a process has.
    """
    there: int = min(Counter(device.process_index for device in devices_in_use()).values())
    if devices is not None and not 1 <= devices <= there:
        raise ValueError(f"`devices` (={devices}) must be from 1 to {there}, as many as JAX has here ({platform()}).")
    return there if devices is None else devices


def mesh(axis: DataAxis) -> jax.sharding.Mesh:
    """The first devices of each process, along the axis."""
    ranks = range(axis.processes) if axis.processes > 1 else [jax.process_index()]
    of_each = [[device for device in devices_in_use() if device.process_index == rank] for rank in ranks]
    chosen = [device for devices in of_each for device in devices[: axis.local_devices]]
    return jax.sharding.Mesh(np.array(chosen), (AXIS,))


def over_blocks(function: Compiled, axis: DataAxis, into: Any, out: Any) -> Compiled:
    """`function` on every block of environments at once."""
    if axis.devices == 1:
        return function
    # Unchecked: that what leaves as replicated is so follows from the sums in `Model.update`; a test compares.
    return jax.shard_map(function, mesh=mesh(axis), in_specs=into, out_specs=out, check_vma=False)


def to_global(tree: T, axis: DataAxis, specs: Any) -> T:
    """The part of some arrays that this process has, laid out as programs over the blocks expect it.

    Args:
        specs: REPLICATED, BY_ENV and so on, for all of the tree or for its parts.
    """
    if axis.devices == 1:
        return tree
    where = mesh(axis)

    def part(spec: PartitionSpec, tree: Any) -> Any:
        sharding = NamedSharding(where, spec)
        if axis.processes == 1:
            return jax.device_put(tree, sharding)
        return jax.tree.map(lambda x: _join(x, axis, sharding), tree)

    everywhere: T = jax.tree.map(part, specs, tree, is_leaf=lambda x: isinstance(x, PartitionSpec))
    return everywhere


def to_local(tree: T, axis: DataAxis, specs: Any) -> T:
    """The inverse of `to_global`: this process's part, on its first device."""
    if axis.devices == 1:
        return tree
    if axis.processes == 1:
        single: T = jax.device_put(tree, devices_here()[0])
        return single

    def part(spec: PartitionSpec, tree: Any) -> Any:
        return jax.tree.map(lambda x: _split_off(x, spec), tree)

    mine: T = jax.tree.map(part, specs, tree, is_leaf=lambda x: isinstance(x, PartitionSpec))
    return mine


def _axis(spec: PartitionSpec) -> int | None:
    return spec.index(AXIS) if AXIS in spec else None


def _join(x: Any, axis: DataAxis, sharding: NamedSharding) -> Any:
    """The array of all processes, of which this one has `x`."""
    devices = sharding.mesh.local_devices
    dim, shape, parts = _axis(sharding.spec), list(np.shape(x)), [x] * len(devices)
    if dim is not None:
        parts = parts if len(devices) == 1 else jnp.split(x, len(devices), dim)
        shape[dim] *= axis.processes
    arrays = [jax.device_put(part, device) for part, device in zip(parts, devices, strict=True)]
    return jax.make_array_from_single_device_arrays(tuple(shape), sharding, arrays)


def _split_off(x: Any, spec: PartitionSpec) -> Any:
    """The part of an array of all processes that this one has."""
    dim, shards = _axis(spec), x.addressable_shards
    if dim is None or len(shards) == 1:
        return shards[0].data
    parts = sorted(shards, key=lambda shard: shard.index[dim].start or 0)
    first = devices_here()[0]
    return jnp.concatenate([jax.device_put(part.data, first) for part in parts], dim)
