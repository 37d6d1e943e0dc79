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


def host_environment_keys(
    key: PRNGKeyArray, purpose: Purpose, counter: int, envs: np.ndarray[Any, Any]
) -> PRNGKeyArray:
    """`environment_keys` of one purpose, (N,), derived in NumPy: compiled, the two folds take a quarter of a second."""
    if str(jax.random.key_impl(key)) != IMPLEMENTATION:  # a user's own
        return environment_keys(key, [purpose], counter, jnp.asarray(envs, jnp.uint32))[0]
    root = np.asarray(jax.random.key_data(key))
    branch = _folded((root[0], root[1]), np.array([(counter * PURPOSES + purpose) % 2**32], np.uint32))
    words = np.stack(_folded((branch[0], branch[1]), envs.astype(np.uint32)), axis=-1)
    return _wrap(words)


ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)


def _folded(key: tuple[Any, Any], data: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """The words of `jax.random.fold_in(key, data)`: 20 rounds of Threefry on (0, data).

    Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    words = key[0], key[1], key[0] ^ key[1] ^ PARITY
    x, y = np.zeros_like(data) + words[0], data + words[1]
    for group in range(5):
        for turn in ROTATIONS[group % 2]:
            x = x + y
            y = x ^ (y << np.uint32(turn) | y >> np.uint32(32 - turn))
        x = x + words[(group + 1) % 3]
        y = y + words[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


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
