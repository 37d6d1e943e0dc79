"""Minibatches: a rollout flattened, shuffled and cut."""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, Shaped, UInt32

from ppo2.algorithm.rollout import Batch
from ppo2.numerics.pieces import cut_pieces
from ppo2.numerics.randomness import for_drawing

T = TypeVar("T")


def sequences_per_env(nenvs: int, nsteps: int, nminibatches: int) -> int:
    """Number of sequences per environment: the smallest that divides equally into minibatches."""
    return next((n for n in range(1, nsteps) if nsteps % n == 0 and nenvs * n % nminibatches == 0), nsteps)


def split_sequences(x: Shaped[Array, "T N ..."], into: int) -> Shaped[Array, "S N L ..."]:
    """Steps as `into` sequences after one another, of each environment."""
    return jnp.moveaxis(x.reshape(into, -1, *x.shape[1:]), 1, 2)


def join_sequences(x: Shaped[Array, "S N L ..."]) -> Shaped[Array, "T N ..."]:
    """The inverse of `split_sequences`."""
    together = jnp.moveaxis(x, 2, 1)
    return together.reshape(-1, *together.shape[2:])


def sequences(batch: Batch) -> Batch:
    """(T, N, ...) to (S, N, L, ...), as many as there are states of; without any, nothing is changed."""
    if batch.episode_starts is None:
        return batch
    into = jax.tree.leaves(batch.recurrent_state)[0].shape[0]
    steps: Batch = jax.tree.map(lambda x: split_sequences(x, into), batch._replace(recurrent_state=None))
    return steps._replace(recurrent_state=batch.recurrent_state)


def flatten(batch: Batch, shards: int) -> Batch:
    """(T, N, ...) to (T * N, ...), block by block: `shards` blocks of N / shards neighbouring environments each.

    T is the number of steps, or of sequences.
    """

    def block_major(x: Shaped[Array, "T N ..."]) -> Shaped[Array, "TN ..."]:
        t, n, *rest = x.shape
        blocks = x.reshape(t, shards, n // shards, *rest)
        return jnp.swapaxes(blocks, 0, 1).reshape(t * n, *rest)

    major: Batch = jax.tree.map(block_major, batch)
    return major


def shuffle_bits(
    key: PRNGKeyArray, *, epochs: int, total: int, shards: int
) -> UInt32[Array, "epochs shards rounds block"]:
    """The random numbers that shuffle a batch of `total` steps, or sequences, in each epoch, all drawn at once.

    A process that holds only some of the blocks draws them all and takes its own rows.
    """
    block = total // shards
    return jax.random.bits(for_drawing(key), (epochs, shards, _rounds(block), block), jnp.uint32)


def minibatches(
    batch: Batch,
    random: UInt32[Array, "shards rounds block"],
    *,
    nminibatches: int,
    part: tuple[int | Int[Array, ""], int] = (0, 1),
) -> Batch:
    """A flattened batch, shuffled and cut: (T * N, ...) to (nminibatches, B, ...).

    Every block is shuffled apart and gives each minibatch an equal share, so that processes that hold a block each cut
    the same minibatches as one process that holds them all.

    Args:
        part: index and number of equal parts that each minibatch is cut into, of which this one is given.
    """
    shards, _, block = random.shape
    order = jax.vmap(permutation)(random) + (jnp.arange(shards, dtype=jnp.int32) * block)[:, None]
    # unsigned: JAX looks for no negative indices in them, in each array anew
    chosen = jnp.swapaxes(order.reshape(shards, nminibatches, -1), 0, 1).reshape(nminibatches, -1).astype(jnp.uint32)
    index, parts = part
    if parts > 1:
        size = chosen.shape[1] // parts
        chosen = jax.lax.dynamic_slice_in_dim(chosen, index * size, size, axis=1)
    shuffled: Batch = jax.tree.map(lambda x: x[chosen], batch)
    return shuffled


def accumulate(function: Callable[[Batch], T], batch: Batch, piece: int) -> T:
    """The mean of `function` over the pieces of a batch (B, ...), each weighing as much as its valid steps.

    For a function that is a mean over its batch's valid steps, such as a gradient of one, the same as of the whole.
    """
    pieces, fresh = cut_pieces(batch, piece)
    if fresh is not None:
        weights = pieces.weights
        pieces = pieces._replace(weights=jnp.where(fresh.reshape(*fresh.shape, *[1] * (weights.ndim - 2)), weights, 0))
    total = jnp.maximum(jnp.sum(batch.weights), 1.0)

    def add(sums: T, piece: Batch) -> tuple[T, None]:
        share = jnp.sum(piece.weights) / total
        added: T = jax.tree.map(lambda sum_, x: sum_ + share * x, sums, function(piece))
        return added, None

    first = jax.tree.map(lambda x: x[0], pieces)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first))
    sums: T = jax.lax.scan(add, zeros, pieces)[0]
    return sums


def permutation(random: UInt32[Array, "rounds n"]) -> Int[Array, " n"]:
    """A random order of 0, ..., n - 1 from random bits: five times as fast on CPU as `jax.random.permutation`.

    XLA sorts plain integers fast and pairs slowly, so the position rides in the low bits of the random number that it
    is sorted by. What is left for randomness may make ties, which keep their order: so there are as many rounds as it
    takes to leave fewer than one position in a thousand in one.
    """
    n = random.shape[1]
    bits = _position_bits(n)

    def positions(row: UInt32[Array, " n"]) -> Int[Array, " n"]:
        packed = (row >> bits << bits) | jnp.arange(n, dtype=jnp.uint32)
        low: Array = jnp.sort(packed, stable=False) & jnp.uint32((1 << bits) - 1)
        return low.astype(jnp.int32)

    order = positions(random[0])
    for row in random[1:]:
        order = order[positions(row)]
    return order


SPARE_BITS = 9
"""Random bits of a shuffle beyond those of a position: n^2 / 2 pairs, each tied with probability 2^-(bits + 9)."""


def _position_bits(n: int) -> int:
    bits = max(1, (n - 1).bit_length())
    assert bits < 31, "a batch of two billion steps"
    return bits


def _rounds(n: int) -> int:
    bits = _position_bits(n)
    return math.ceil((bits + SPARE_BITS) / (32 - bits))
