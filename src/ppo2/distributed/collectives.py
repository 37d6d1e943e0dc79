"""What processes tell each other beside gradients: small values at every update, large ones now and then.

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
from jax.sharding import PartitionSpec

from ppo2.distributed import heartbeat
from ppo2.numerics import sharding
from ppo2.numerics.sharding import REPLICATED, DataAxis

NDArray = np.ndarray[Any, Any]
T = TypeVar("T")
V = TypeVar("V")

ROOM = 1024
"""Bytes that every process sends at first; of a longer message the rest follows in pieces."""
MOST_GATHERED = 2**26
"""Bytes of all processes' pieces together."""
PIECE = 2**24
"""Bytes of a piece that the first process sends to all."""
_LENGTH = 8


def all_gather_bytes(message: bytes, *, to_first: bool = False) -> list[bytes]:
    """What every process says, by rank; all must call it, at the same point.

    One collective of a kilobyte for each process, 0.1 to 0.5 ms over the loopback, if that is enough.

    Args:
        to_first: only the first process wants it; the others get nothing.
    """
    size = jax.process_count()
    if size == 1:
        return [message]
    framed = len(message).to_bytes(_LENGTH, "big") + message
    said = [bytearray(one) for one in _gathered(framed[:ROOM], ROOM)]
    lengths = [int.from_bytes(one[:_LENGTH], "big") for one in said]
    wanted, most = not to_first or jax.process_index() == 0, max(ROOM, MOST_GATHERED // size)
    for start, room in _pieces(ROOM, max(lengths) + _LENGTH, most):
        piece = _gathered(framed[start : start + room], room)
        for one, more in zip(said if wanted else [], piece, strict=False):
            one += more
    return [bytes(one[_LENGTH : _LENGTH + length]) for one, length in zip(said, lengths, strict=True)] if wanted else []


def broadcast_bytes(message: bytes) -> bytes:
    """What the first process says, of any length; the others' is not looked at."""
    if jax.process_count() == 1:
        return message
    is_first, length = jax.process_index() == 0, int(broadcast(len(message)))
    said = bytearray()
    for start, room in _pieces(0, length, PIECE):
        piece = message[start : start + room] if is_first else b""
        said += _over_processes(_of_first_program, piece, room)[0].tobytes()
    return bytes(said[:length])


def _pieces(start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """Where pieces begin, and how long they are: powers of 2, so that few programs are compiled."""
    while start < end:
        room = min(most, 1 << (end - start - 1).bit_length())
        yield start, room
        start += room


def all_gather(fact: Any) -> list[Any]:
    """`gather` for what JSON can hold; NaN and infinities too."""
    if jax.process_count() == 1:
        return [fact]
    return [json.loads(one) for one in all_gather_bytes(json.dumps(fact).encode())]


def broadcast(fact: Any) -> Any:
    """What the first process says; the others' is not looked at."""
    return all_gather(fact if jax.process_index() == 0 else None)[0]


def run_on_first(make: Callable[[], Any]) -> Any:
    """What the first process makes, which JSON can hold, in all of them. What it raises is raised in all.

    Raises:
        ValueError: it couldn't be made.
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


def broadcast_encoded(value: V | None, encode: Callable[[V], bytes], decode: Callable[[bytes], V]) -> V | None:
    """The first process's value, or None, in all of them; the others' is not looked at."""
    if jax.process_count() == 1:
        return value
    message = broadcast_bytes(encode(value) if value is not None else b"")
    return decode(message) if message else None


def gather_tensors(tensors: dict[str, NDArray]) -> list[dict[str, NDArray]]:
    """`gather` for arrays, which only the first process gets."""
    if jax.process_count() == 1:
        return [tensors]
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return [safetensors.numpy.load(one) for one in all_gather_bytes(safetensors.numpy.save(whole), to_first=True)]


def synchronise(tree: T) -> tuple[T, list[int]]:
    """Arrays as the first process has them, and the ranks of those that had others.

    Raises:
        ValueError: theirs are of other shapes or dtypes.
    """
    if jax.process_count() == 1:
        return tree, []
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for leaf in leaves]
    digest = 0
    for array in arrays:
        digest = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, digest)
    told = all_gather([[[str(array.dtype), *array.shape] for array in arrays], digest])
    for rank, (kinds, _) in enumerate(told):
        if kinds != told[0][0]:
            raise ValueError(
                f"the process of rank {rank} has another model than that of rank 0 (arrays of other shapes or dtypes): "
                "`network`, `encoders` and `model_fn` must make the same in all."
            )
    others = [rank for rank, (_, theirs) in enumerate(told) if theirs != told[0][1]]
    if not others:
        return tree, []
    content, start = broadcast_bytes(b"".join(array.tobytes() for array in arrays)), 0
    for i, (leaf, array) in enumerate(zip(leaves, arrays, strict=True)):
        own = np.frombuffer(content[start : start + array.nbytes], array.dtype).reshape(array.shape)
        start += array.nbytes
        leaves[i] = (
            jax.random.wrap_key_data(jnp.array(own), impl=jax.random.key_impl(leaf))
            if _is_key(leaf)
            else jnp.array(own)
        )
    same: T = jax.tree.unflatten(structure, leaves)
    return same, others


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _gathered(message: bytes, room: int) -> list[bytes]:
    return [row.tobytes() for row in _over_processes(_gather_program, message, room)]


def _over_processes(make: Callable[[DataAxis], Callable[[Any], Any]], message: bytes, room: int) -> NDArray:
    """What a program makes of so many bytes of every process, (P or 1, room)."""
    axis = sharding.across_processes()
    padded = np.zeros((1, room), np.uint8)
    padded[0, : len(message)] = np.frombuffer(message, np.uint8)
    heartbeat.at_collective(axis)
    everywhere = make(axis)(sharding.to_global(padded, axis, sharding.BY_ENV))
    return np.asarray(sharding.to_local(everywhere, axis, REPLICATED))


@functools.cache
def _gather_program(axis: DataAxis) -> Callable[[Any], Any]:
    def gathered(x: Any) -> Any:
        return jax.lax.all_gather(x[0], sharding.AXIS)

    return jax.jit(sharding.over_blocks(gathered, axis, sharding.BY_ENV, PartitionSpec()))


@functools.cache
def _of_first_program(axis: DataAxis) -> Callable[[Any], Any]:
    def run_on_first(x: Any) -> Any:
        return jax.lax.psum(jnp.where(axis.index == 0, x, 0), sharding.AXIS)

    return jax.jit(sharding.over_blocks(run_on_first, axis, sharding.BY_ENV, PartitionSpec()))
