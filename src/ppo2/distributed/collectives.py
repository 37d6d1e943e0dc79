"""Collectives for what processes tell each other beside gradients: small values at every update, large ones seldom.

All processes must call a collective at the same point. In a process by itself each is the identity.
"""

import functools
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from ppo2.distributed import heartbeat
from ppo2.numerics import sharding
from ppo2.numerics.compilation import Place, chosen_place, compiled
from ppo2.numerics.sharding import REPLICATED, DataAxis
from ppo2.numerics.storable import from_storable, to_storable

Tensors = dict[str, np.ndarray[Any, Any]]
T = TypeVar("T")

FIRST_PIECE = 1024
"""Bytes that every process sends at first; of a longer message the rest follows in pieces."""
MOST_GATHERED = 2**26
"""Most bytes of all processes' pieces together."""
MOST_BROADCAST = 2**24
"""Most bytes of a piece that the first process sends to all."""
_LENGTH = 8


def all_gather(fact: Any) -> list[Any]:
    """The value of every process, by rank. JSON must be able to hold it; NaN and infinities too."""
    if jax.process_count() == 1:
        return [fact]
    return [json.loads(message) for message in all_gather_bytes(json.dumps(fact).encode())]


def broadcast(fact: Any) -> Any:
    """The first process's value, in all of them; that of the others is not looked at."""
    return all_gather(fact if jax.process_index() == 0 else None)[0]


def run_on_first(make: Callable[[], Any]) -> Any:
    """The result of a function that only the first process calls, in all of them. JSON must be able to hold it.

    Raises:
        ValueError: the function raised it, or OSError.
    """
    if jax.process_count() == 1:
        return make()
    made: Any = None
    failure: str | None = None
    if jax.process_index() == 0:
        try:
            made = make()
        except (ValueError, OSError) as error:
            failure = str(error)
    made, failure = broadcast([made, failure])
    if failure is not None:
        raise ValueError(failure)
    return made


def gather_tensors(tensors: Tensors) -> list[Tensors]:
    """The arrays of every process, by rank, in the first; the others get nothing."""
    if jax.process_count() == 1:
        return [tensors]
    return [safetensors.numpy.load(message) for message in all_gather_bytes(_encode(tensors), to_first=True)]


def broadcast_tensors(tensors: Tensors) -> Tensors:
    """The first process's arrays, in all of them; those of the others are not looked at."""
    if jax.process_count() == 1:
        return tensors
    received: Tensors = safetensors.numpy.load(broadcast_bytes(_encode(tensors)))
    return received


def synchronise(tree: T) -> tuple[T, list[int]]:
    """The first process's arrays, in all of them, and the ranks of those that had others.

    Raises:
        ValueError: theirs are of other shapes or dtypes.
    """
    if jax.process_count() == 1:
        return tree, []
    leaves, structure = jax.tree.flatten(tree)
    tensors = {str(i): to_storable(leaf) for i, leaf in enumerate(leaves)}
    mine = [str(jax.typeof(leaf)) for leaf in leaves], zlib.crc32(_encode(tensors))
    kinds, checksums = zip(*all_gather(mine), strict=True)
    for rank, theirs in enumerate(kinds):
        if theirs != kinds[0]:
            raise ValueError(
                f"the process of rank {rank} has another model than that of rank 0 (arrays of other shapes or dtypes): "
                "`network`, `encoders` and `model_fn` must make the same in all."
            )
    others = [rank for rank, theirs in enumerate(checksums) if theirs != checksums[0]]
    if not others:
        return tree, []
    first = broadcast_tensors(tensors)
    same = [from_storable(jnp.array(first[str(i)]), leaf) for i, leaf in enumerate(leaves)]
    synchronised: T = jax.tree.unflatten(structure, same)
    return synchronised, others


def _encode(tensors: Tensors) -> bytes:
    encoded: bytes = safetensors.numpy.save({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()})
    return encoded


# --- bytes: not by JAX's `multihost_utils`, which needs the same number of devices in every process ------------------


def all_gather_bytes(message: bytes, *, to_first: bool = False) -> list[bytes]:
    """The message of every process, by rank.

    One collective of a kilobyte for each process, 0.1 to 0.5 ms over the loopback, if that is enough.

    Args:
        to_first: only the first process wants it; the others get nothing.
    """
    framed = len(message).to_bytes(_LENGTH, "big") + message
    said = [bytearray(piece) for piece in _exchange(framed[:FIRST_PIECE], FIRST_PIECE)]
    lengths = [int.from_bytes(one[:_LENGTH], "big") for one in said]
    wanted = not to_first or jax.process_index() == 0
    most = max(FIRST_PIECE, MOST_GATHERED // jax.process_count())
    for start, size in _pieces(FIRST_PIECE, max(lengths) + _LENGTH, most):
        pieces = _exchange(framed[start : start + size], size)
        for one, piece in zip(said if wanted else [], pieces, strict=False):
            one += piece
    return [bytes(one[_LENGTH : _LENGTH + length]) for one, length in zip(said, lengths, strict=True)] if wanted else []


def broadcast_bytes(message: bytes) -> bytes:
    """The first process's message, in all of them; that of the others is not looked at."""
    is_first, length = jax.process_index() == 0, int(broadcast(len(message)))
    said = bytearray()
    for start, size in _pieces(0, length, MOST_BROADCAST):
        said += _exchange(message[start : start + size] if is_first else b"", size, from_first=True)[0]
    return bytes(said[:length])


def _pieces(start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """The beginnings and lengths of pieces. Lengths are powers of 2, so that few programs are compiled."""
    while start < end:
        size = min(most, 1 << (end - start - 1).bit_length())
        yield start, size
        start += size


def _exchange(message: bytes, size: int, *, from_first: bool = False) -> list[bytes]:
    """The messages of all processes, or that of the first alone, filled up to `size` bytes."""
    axis = sharding.across_processes()
    padded = np.frombuffer(message.ljust(size, b"\0"), np.uint8)[None]
    heartbeat.at_collective(axis)
    everywhere = _exchange_program(axis, from_first, chosen_place())(sharding.to_global(padded, axis, sharding.BY_ENV))
    return [row.tobytes() for row in np.asarray(sharding.to_local(everywhere, axis, REPLICATED))]


@functools.cache
def _exchange_program(axis: DataAxis, from_first: bool, _: Place | None) -> Callable[[Any], Any]:
    # each place has devices of its own
    def exchange(x: Any) -> Any:
        return axis.sum(jnp.where(axis.index == 0, x, 0)) if from_first else axis.gather(x[0])

    return compiled(sharding.over_blocks(exchange, axis, sharding.BY_ENV, REPLICATED))
