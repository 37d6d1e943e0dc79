"""The tree of random streams that grows from one seed. Nothing global is ever touched.

On the device a draw is keyed by the root key, its purpose and a counter; on the host (where environments want whole
numbers as seeds) it is NumPy's `SeedSequence` over the same branches. Environments go by their global index, never by
process, so that no two share a stream and the layout over processes changes nothing.
"""

import functools
import math
import secrets
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, UInt32

from ppo2.numerics.compilation import compiled


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
AT_ONCE = 2048
"""Keys that are derived on the host together: as many take little longer than one."""


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
    """The key for the counter-th draw for a purpose."""
    return folded(key, jnp.uint32(counter) * PURPOSES + jnp.uint32(purpose))


def environment_keys(
    key: PRNGKeyArray, purposes: Sequence[Purpose], counter: int | Int[Array, ""], envs: Int[Array, " N"]
) -> PRNGKeyArray:
    """The counter-th keys for some purposes and environments, given by global index: (purposes, N)."""

    def of_purpose(purpose: Int[Array, ""]) -> PRNGKeyArray:
        return jax.vmap(folded, (None, 0))(stream(key, purpose, counter), envs)

    keys: PRNGKeyArray = jax.vmap(of_purpose)(jnp.array(purposes, jnp.uint32))  # all at once: few and large operations
    return keys


def host_environment_keys(key: PRNGKeyArray, purpose: Purpose, counter: int, envs: np.ndarray[Any, Any]) -> Any:
    """`environment_keys` of one purpose, (N,), for `as_keys` in programs.

    They are derived in NumPy, and are its words: compiled, the two folds take a quarter of a second, and keys made of
    words on the host a tenth of a millisecond at each rollout. Those of the counters that follow are derived with them,
    as long as the arrays are small: the two folds take 0.3 milliseconds.
    """
    if str(jax.random.key_impl(key)) != IMPLEMENTATION:  # a user's own
        return environment_keys(key, [purpose], counter, jnp.asarray(envs, jnp.uint32))[0]
    root, count = np.asarray(jax.random.key_data(key)), max(1, AT_ONCE // len(envs))
    block, which = divmod(counter, count)
    return _words_of_counters(root.tobytes(), purpose, block * count, count, envs.astype(np.uint32).tobytes())[which]


@functools.lru_cache(maxsize=8)
def _words_of_counters(root: bytes, purpose: Purpose, first: int, count: int, envs: bytes) -> np.ndarray[Any, Any]:
    """Words of the environments' keys of some counters: (count, N, 2)."""
    words, rows = (np.frombuffer(data, np.uint32) for data in (root, envs))
    counters = range(first, first + count)
    data = np.array([[(counter * PURPOSES + purpose) % 2**32] for counter in counters], np.uint32)  # (count, 1)
    branch = threefry((words[:1], words[1:]), np.zeros_like(data), data, IN_NUMPY)  # arrays, which overflow in silence
    keys = np.stack(threefry(branch, np.zeros_like(rows), rows, IN_NUMPY), axis=-1)
    keys.flags.writeable = False
    return keys


def as_keys(keys: Any) -> PRNGKeyArray:
    """Keys of `host_environment_keys`, in a program."""
    are_words = not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    wrapped: PRNGKeyArray = jax.random.wrap_key_data(keys, impl=IMPLEMENTATION) if are_words else keys
    return wrapped


# --- Threefry -----------------------------------------------------------------------------------------------------

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)

Words = tuple[Any, Any]
Rounds = Callable[[Any, Any, Any, Any], Words]


def _four_rounds(turns: Sequence[int], x: Any, y: Any, a: Any, b: Any) -> Words:
    for turn in turns:
        x = x + y
        y = x ^ (y << np.uint32(turn) | y >> np.uint32(32 - turn))
    return x + a, y + b


IN_NUMPY = [functools.partial(_four_rounds, turns) for turns in ROTATIONS]
IN_PROGRAMS = [compiled(functools.partial(_four_rounds, turns)) for turns in ROTATIONS]
"""Functions of their own, which are traced once and written out wherever they are called."""


def threefry(key: Words, x: Any, y: Any, four_rounds: Sequence[Rounds]) -> Words:
    """20 rounds of Threefry: two words from each pair of words, by a key of two.

    Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    words = key[0], key[1], key[0] ^ key[1] ^ PARITY
    x, y = x + words[0], y + words[1]
    for group in range(5):
        more = words[(group + 2) % 3] + np.uint32(group + 1)
        x, y = four_rounds[group % 2](x, y, words[(group + 1) % 3], more)
    return x, y


def folded(key: PRNGKeyArray, data: Int[Array, ""] | UInt32[Array, ""]) -> PRNGKeyArray:
    """`jax.random.fold_in(key, data)`, which is compiled sooner."""
    if str(jax.random.key_impl(key)) != IMPLEMENTATION:  # a user's own
        return jax.random.fold_in(key, data)
    words = _folded(jax.random.key_data(key), jnp.asarray(data).astype(jnp.uint32))
    found: PRNGKeyArray = jax.random.wrap_key_data(words, impl=IMPLEMENTATION)
    return found


def for_drawing(key: PRNGKeyArray) -> PRNGKeyArray:
    """A key that gives `jax.random` the same numbers, by a program that is compiled sooner and runs faster on CPU.

    There JAX makes a loop of Threefry's rounds, of 17 small kernels; without it there is one kernel, compiled in 70
    instead of 200 milliseconds (two cores of a Xeon).
    """
    if str(jax.random.key_impl(key)) != IMPLEMENTATION:
        return key
    same: PRNGKeyArray = jax.random.wrap_key_data(jax.random.key_data(key), impl=_UNROLLED)
    return same


def _folded(key: UInt32[Array, "2"], data: Any) -> UInt32[Array, "2"]:
    return jnp.stack(threefry(_words(key), jnp.zeros_like(data), data, IN_PROGRAMS))


def _words(key: UInt32[Array, "2"]) -> tuple[Array, Array]:
    return jax.lax.index_in_dim(key, 0, keepdims=False), jax.lax.index_in_dim(key, 1, keepdims=False)


def _bits(key: UInt32[Array, "2"], bit_width: int, shape: tuple[int, ...]) -> Array:
    """Random bits as JAX has them: of each number's index, a pair of words."""
    config: Any = jax.config
    if bit_width != 32 or math.prod(shape) >= 2**32 or not config.jax_threefry_partitionable:
        as_jax_has_them: Array = _THREEFRY.random_bits(key, bit_width, shape)
        return as_jax_has_them
    index = jax.lax.iota(jnp.uint32, math.prod(shape))
    words = threefry(_words(key), jnp.zeros_like(index), index, IN_PROGRAMS)
    bits: Array = jax.lax.reshape(jax.lax.bitwise_xor(*words), shape)
    return bits


_THREEFRY: Any = jax.extend.random.threefry_prng_impl
_UNROLLED: Any = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=_THREEFRY.seed,
    split=_THREEFRY.split,
    random_bits=_bits,
    fold_in=_folded,
    name="threefry2x32 without a loop",
    tag="fry",
)


# --- the host -----------------------------------------------------------------------------------------------------


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
