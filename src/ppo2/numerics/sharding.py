"""The data axis: environments in equal blocks, one for each device, that learn as if they were one.

Everything that a mean is taken of is summed over the axis, so that a program on several devices computes what it would
on one, to float tolerance. The devices may be those of several processes (`ppo2.distributed`), each of which holds the
environments of its own: of N environments and P processes those from rank N / P on.
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

AXIS = "data"

REPLICATED = PartitionSpec()
BY_ENV = PartitionSpec(AXIS)
BY_STEP = PartitionSpec(None, AXIS)
BY_UPDATE = PartitionSpec(None, None, AXIS)

LEAST_BLOCK = 32
"""Environments that a device must get for itself: with fewer, what the devices tell each other costs more than they
save (docs/benchmarks.md)."""

T = TypeVar("T")
Compiled = Callable[..., Any]


@dataclass(frozen=True)
class DataAxis:
    """How a program's environments lie: `devices` equal blocks on the axis `data`, as many in each of `processes`. With
    one device there is no axis.
    """

    devices: int = 1
    processes: int = 1

    @property
    def index(self) -> int | Int[Array, ""]:
        """Which block this device holds."""
        return 0 if self.devices == 1 else jax.lax.axis_index(AXIS)

    @property
    def local_devices(self) -> int:
        """How many of the blocks this process holds."""
        return self.devices // self.processes

    def sum(self, tree: T) -> T:
        """The sum over all blocks of each leaf. As one vector: a collective costs the same for one number as for
        thousands.
        """
        if self.devices == 1:
            return tree
        flat, unravel = ravel_pytree(tree)
        summed: T = unravel(jax.lax.psum(flat, AXIS))
        return summed

    def gather(self, tree: T) -> T:
        """Every leaf with a leading axis of all blocks."""
        if self.devices == 1:
            single: T = jax.tree.map(lambda x: jnp.asarray(x)[None], tree)
            return single
        gathered: T = jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS), tree)
        return gathered


ONE_DEVICE = DataAxis()


def default_shards(num_envs: int, nsteps: int, nminibatches: int, *, devices: int | None = None) -> int:
    """As many blocks as there are devices, if each gets environments enough, and minibatches can be cut of them; at
    least one for each process.

    Args:
        num_envs: of all processes.
        devices: how many of its own a process may use; None: all.
    """
    processes: int = jax.process_count()
    mine = num_envs // processes
    most = min(_usable(devices), mine // LEAST_BLOCK)

    def fits(blocks: int) -> bool:
        return mine % blocks == 0 and mine // blocks * nsteps % max(1, nminibatches) == 0

    return processes * next((blocks for blocks in range(most, 1, -1) if fits(blocks)), 1)


def split_for(shards: int, *, devices: int | None = None) -> DataAxis:
    """Whole blocks for each of as many devices as can have them.

    Raises:
        ValueError: the processes can't have as many blocks each.
    """
    processes: int = jax.process_count()
    if shards % processes:
        raise ValueError(
            f"`shards` (={shards}) must be a multiple of the number of processes ({processes}): each holds whole "
            "blocks of environments. A run that was begun with other `shards` can go on with fewer processes."
        )
    mine = shards // processes
    each = next(n for n in range(min(_usable(devices), mine), 0, -1) if mine % n == 0)
    return DataAxis(each * processes, processes)


def across_processes() -> DataAxis:
    """One device of each process, which learns from what its own environments did."""
    return DataAxis(jax.process_count(), jax.process_count())


def first_environment(mine: int) -> int:
    """The global index of the first of this process's environments."""
    index: int = jax.process_index()
    return index * mine


def _usable(devices: int | None) -> int:
    """How many of its devices a process uses: of several processes, as many as each has.

    Raises:
        ValueError: it doesn't have as many as it shall.
    """
    there: int = min(Counter(device.process_index for device in jax.devices()).values())
    if devices is not None and not 1 <= devices <= there:
        raise ValueError(
            f"`devices` (={devices}) must be from 1 to {there}, as many as JAX has here ({jax.default_backend()})."
        )
    return there if devices is None else devices


def mesh(axis: DataAxis) -> jax.sharding.Mesh:
    """The first devices of each process, along the axis."""
    if axis.processes == 1:
        return jax.sharding.Mesh(np.array(jax.local_devices()[: axis.devices]), (AXIS,))
    chosen: list[jax.Device] = []
    for process in range(axis.processes):
        of_it = [device for device in jax.devices() if device.process_index == process]
        chosen += of_it[: axis.local_devices]
    return jax.sharding.Mesh(np.array(chosen), (AXIS,))


def over_blocks(function: Compiled, axis: DataAxis, into: Any, out: Any) -> Compiled:
    """`function` on every block of environments at once."""
    if axis.devices == 1:
        return function
    # Unchecked: that what leaves as replicated is so follows from the sums in `Model.update`; a test compares.
    return jax.shard_map(function, mesh=mesh(axis), in_specs=into, out_specs=out, check_vma=False)


def to_global(tree: T, axis: DataAxis, specs: Any) -> T:
    """The part of some arrays that this process has, where programs over the blocks expect it.

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
        return jax.tree.map(lambda x: _joined(x, axis, sharding), tree)

    everywhere: T = jax.tree.map(part, specs, tree, is_leaf=_is_spec)
    return everywhere


def to_local(tree: T, axis: DataAxis, specs: Any) -> T:
    """The inverse of `placed`: this process's part, on its first device."""
    if axis.devices == 1:
        return tree
    if axis.processes == 1:
        single: T = jax.device_put(tree, jax.local_devices()[0])
        return single

    def part(spec: PartitionSpec, tree: Any) -> Any:
        return jax.tree.map(lambda x: _mine(x, spec), tree)

    mine: T = jax.tree.map(part, specs, tree, is_leaf=_is_spec)
    return mine


def _is_spec(x: object) -> bool:
    return isinstance(x, PartitionSpec)


def _axis(spec: PartitionSpec) -> int | None:
    return spec.index(AXIS) if AXIS in spec else None


def _joined(x: Any, axis: DataAxis, sharding: NamedSharding) -> Any:
    """An array of all processes, of which this one has `x`."""
    devices = [device for device in sharding.mesh.devices.flat if device.process_index == jax.process_index()]
    dim, shape = _axis(sharding.spec), list(np.shape(x))
    parts = [x] * len(devices)
    if dim is not None:
        parts = parts if len(devices) == 1 else jnp.split(x, len(devices), dim)
        shape[dim] *= axis.processes
    arrays = [jax.device_put(part, device) for part, device in zip(parts, devices, strict=True)]
    return jax.make_array_from_single_device_arrays(tuple(shape), sharding, arrays)


def _mine(x: Any, spec: PartitionSpec) -> Any:
    dim, shards = _axis(spec), x.addressable_shards
    if dim is None or len(shards) == 1:
        return shards[0].data
    parts = sorted(shards, key=lambda shard: shard.index[dim].start or 0)
    first = jax.local_devices()[0]
    return jnp.concatenate([jax.device_put(part.data, first) for part in parts], dim)
