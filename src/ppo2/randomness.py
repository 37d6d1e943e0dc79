"""The tree of random streams that grows from one seed. Nothing global is ever touched.

On the device a stream is `fold_in(root key, purpose)`, then a counter; on the host (where environments want whole
numbers as seeds) it is NumPy's `SeedSequence` over the same branches. Environments go by their global index, never by
process, so that no two share a stream and the layout over processes changes nothing.
"""

import secrets
from enum import IntEnum

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray


class Purpose(IntEnum):
    """The branches of the tree. Numbers are part of saved runs: never reuse one."""

    INIT = 0
    ACT = 1
    SHUFFLE = 2
    ENV = 3
    STEP = 4
    EVALUATE = 5


def root_key(seed: int) -> PRNGKeyArray:
    """The key that all of a run's keys come from; threefry, whatever JAX's default is set to."""
    words = jnp.asarray(np.random.SeedSequence(seed).generate_state(2))
    key: PRNGKeyArray = jax.random.wrap_key_data(words, impl="threefry2x32")
    return key


def branch(key: PRNGKeyArray, purpose: Purpose) -> PRNGKeyArray:
    """The stream for one purpose."""
    return jax.random.fold_in(key, int(purpose))


def environment_seeds(seed: int, purpose: Purpose, count: int, first: int = 0) -> list[int]:
    """A seed of 31 bits for each of `count` environments, from global index `first` on."""
    return [
        int(np.random.SeedSequence(seed, spawn_key=(int(purpose), index)).generate_state(1)[0] >> 1)
        for index in range(first, first + count)
    ]


def fresh_seed() -> int:
    """A seed for those who gave none."""
    return secrets.randbits(31)
