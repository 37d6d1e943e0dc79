"""The tree of random streams that grows from one seed. Nothing global is ever touched.

On the device a draw is keyed by the root key, its purpose and a counter; on the host (where environments want whole
numbers as seeds) it is NumPy's `SeedSequence` over the same branches. Environments go by their global index, never by
process, so that no two share a stream and the layout over processes changes nothing.
"""

import secrets
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray


class Purpose(IntEnum):
    """The branches of the tree."""

    INIT = 0
    ACT = 1
    SHUFFLE = 2
    ENV = 3
    STEP = 4
    EVALUATE = 5


IMPLEMENTATION = "threefry2x32"
"""PRNG implementation of every key, whatever JAX's default is set to."""

PURPOSES = 16
"""Largest number of purposes. Saved runs depend on it, and on the number of each purpose."""


def root_key(seed: int, purpose: Purpose | None = None) -> PRNGKeyArray:
    """The key from which all of a run's keys come, or that of a branch; made on the host, without compiling."""
    branches = () if purpose is None else (int(purpose),)
    return _wrap(np.random.SeedSequence(seed, spawn_key=branches).generate_state(2))


def _wrap(words: np.ndarray[Any, Any]) -> PRNGKeyArray:
    key: PRNGKeyArray = jax.random.wrap_key_data(jax.device_put(words), impl=IMPLEMENTATION)
    return key


def abstract_key() -> jax.ShapeDtypeStruct:
    """The shape and dtype of every key, to trace with."""
    key: jax.ShapeDtypeStruct = jax.eval_shape(lambda: jax.random.key(0, impl=IMPLEMENTATION))
    return key


def stream(key: PRNGKeyArray, purpose: Purpose | Int[Array, ""], counter: int | Int[Array, ""]) -> PRNGKeyArray:
    """The key for the counter-th draw for a purpose. One fold, as each costs a tenth of a second to compile."""
    return jax.random.fold_in(key, jnp.uint32(counter) * PURPOSES + jnp.uint32(purpose))


def environment_keys(
    key: PRNGKeyArray, purposes: Sequence[Purpose], counter: int | Int[Array, ""], envs: Int[Array, " N"]
) -> PRNGKeyArray:
    """The counter-th keys for some purposes and environments, given by global index: (purposes, N)."""

    def of_purpose(purpose: Int[Array, ""]) -> PRNGKeyArray:
        return jax.vmap(jax.random.fold_in, (None, 0))(stream(key, purpose, counter), envs)

    # All at once, as each fold costs a tenth of a second to compile.
    keys: PRNGKeyArray = jax.vmap(of_purpose)(jnp.array(purposes, jnp.uint32))
    return keys


def copied_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """The same key in memory of its own."""
    data = jax.device_put(np.array(jax.random.key_data(key)))
    copied: PRNGKeyArray = jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))
    return copied


def host_split(key: PRNGKeyArray, count: int) -> list[PRNGKeyArray]:
    """Independent keys from one, for building networks; `jax.random.split` would compile a program."""
    if is_traced(key):
        return [key] * count
    words = host_generator(key).bit_generator.seed_seq.generate_state(2 * count).reshape(count, 2)
    return [_wrap(pair) for pair in words]


def is_traced(key: PRNGKeyArray) -> bool:
    """True if a network is only built for its shapes (`jax.eval_shape`): there is nothing to draw from."""
    return isinstance(key, jax.core.Tracer)


def host_generator(key: PRNGKeyArray) -> np.random.Generator:
    """NumPy's generator for a key, for numbers that are drawn once on the host."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def environment_seeds(seed: int, purpose: Purpose, count: int, first: int = 0, start: int = 0) -> list[int]:
    """Seeds of 31 bits for `count` environments, from global index `first` on; no two are the same.

    `start` distinguishes the starts of a run: 0 at first, then the number of rollouts when it was resumed.
    """
    branches = (int(purpose), start) if start else (int(purpose),)
    base = int(np.random.SeedSequence(seed, spawn_key=branches).generate_state(1)[0])
    # An odd factor (2**32 over the golden ratio) maps the indices one to one, far apart from each other.
    return [(base + index * 0x9E3779B1) % 2**31 for index in range(first, first + count)]


def fresh_seed() -> int:
    """A seed where none was given."""
    return secrets.randbits(31)
