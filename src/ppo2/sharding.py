"""The data axis: environments in equal blocks, one for each device, that learn as if they were one.

Everything that a mean is taken of is summed over the axis, so that a program on several devices computes what it would
on one, to float tolerance.
"""

from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int

AXIS = "data"

LEAST_BLOCK = 32
"""Environments that a device must get for itself: with fewer, what the devices tell each other costs more than they
save (docs/benchmarks.md)."""

T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """How a program's environments lie: `devices` equal blocks on the axis `data`. With one there is no axis."""

    devices: int = 1

    @property
    def index(self) -> int | Int[Array, ""]:
        """Which block this device holds."""
        return 0 if self.devices == 1 else jax.lax.axis_index(AXIS)

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


WHOLE = Split()


def default_shards(num_envs: int, nsteps: int, nminibatches: int) -> int:
    """As many blocks as there are devices, if each gets environments enough, and minibatches can be cut of them."""
    most = min(jax.local_device_count(), num_envs // LEAST_BLOCK)

    def fits(blocks: int) -> bool:
        return num_envs % blocks == 0 and num_envs // blocks * nsteps % max(1, nminibatches) == 0

    return next((blocks for blocks in range(most, 1, -1) if fits(blocks)), 1)


def split_for(shards: int) -> Split:
    """Whole blocks for each of as many devices as can have them."""
    return Split(next(n for n in range(min(jax.local_device_count(), shards), 0, -1) if shards % n == 0))


def mesh(split: Split) -> jax.sharding.Mesh:
    """The first devices of this process, along the axis."""
    return jax.sharding.Mesh(np.array(jax.local_devices()[: split.devices]), (AXIS,))
