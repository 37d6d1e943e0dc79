"""Several processes that train one model: starting them, and what they tell each other beside gradients.

`init` is called before anything else; the command line does. From then on `learn` trains over all processes: each steps
its part of the environments, all learn the same, and the first alone writes and speaks.
"""

import contextlib
import functools
import json
import os
import signal
import socket
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax.sharding import PartitionSpec

from ppo2.distributed.exits import FAILED
from ppo2.distributed.heartbeat import Guard, begin, current
from ppo2.distributed.messages import Address, Place
from ppo2.numerics import sharding
from ppo2.numerics.sharding import REPLICATED, DataAxis
from ppo2.system import launch
from ppo2.system.launch import Launch
from ppo2.system.signals import Interrupted

NDArray = np.ndarray[Any, Any]
T = TypeVar("T")

HEARTBEAT_SECONDS = 30.0
LATER, LATER_SECONDS = 4, 60
"""How many times as patient JAX's own watch is, and at least so long, for ours to speak first."""
SHUTDOWN_SECONDS = 300
"""That JAX waits for all to be there at the very end, for which ours has waited already."""


class World(NamedTuple):
    """Which of how many processes this one is."""

    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0


ALONE = World(0, 1)


def init(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat: float = HEARTBEAT_SECONDS,
) -> World:
    """Joins the other processes of this job. Call it first, in all of them; for a process by itself it does nothing.

    Without arguments it finds out by itself under torchrun, srun, Open MPI's and MPICH's mpirun, or from the variables
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID (or JOB_COMPLETION_INDEX): see docs/distributed.md.

    From then on the processes watch each other: where one is killed, raises an error or hangs, all end with status 75,
    within `heartbeat` seconds, and one line on standard error says which it was, and why.

    Args:
        coordinator: "host:port" at which the first process listens, as the others reach it.
        num_processes: how many there are.
        process_id: which of them this is, from 0.
        heartbeat: seconds without a sign of life, or without progress while others wait, after which a process is
            given up.

    Returns:
        The rank of this process, and their number. A second call only gives them again.

    Raises:
        ValueError: arguments, or an environment, that say too little or contradict each other; or a host name by which
            processes on other machines can't reach this one.
        RuntimeError: JAX has started already, or was told of the other processes by somebody else.
    """
    if current().size > 1:
        return world()
    if jax.distributed.is_initialized():
        raise RuntimeError(
            "jax.distributed.initialize was called already: leave that to ppo2.distributed.init, which takes the same "
            "arguments, so that the processes are watched from the start."
        )
    mine = _launch(coordinator, num_processes, process_id)
    if isinstance(heartbeat, bool | str) or not heartbeat > 0:
        raise ValueError(f"`heartbeat` (={heartbeat!r}) must be above 0 seconds.")
    if mine is None or mine.size == 1:
        return ALONE
    alone_here = launch.is_loopback(mine.coordinator or "")
    if mine.spans_machines and not alone_here:
        launch.check_host_name()
    jax.config.update("jax_enable_preemption_service", False)  # signals are ours: see `ppo2.system.signals`
    where: dict[str, Any] = {}
    if mine.coordinator is not None:
        where = {"coordinator_address": mine.coordinator, "num_processes": mine.size, "process_id": mine.rank}
        where["local_device_ids"] = own_accelerator(mine, os.environ)
    if alone_here:
        where["coordinator_bind_address"] = mine.coordinator  # JAX's default is all interfaces
    jax.distributed.initialize(
        **where,
        heartbeat_timeout_seconds=max(LATER_SECONDS, int(LATER * heartbeat)),
        shutdown_timeout_seconds=SHUTDOWN_SECONDS,
    )
    _start_guard(mine, heartbeat)
    return world()


def world() -> World:
    """Which of how many processes this one is. Starts JAX."""
    return World(jax.process_index(), jax.process_count())


def is_first() -> bool:
    """Whether this process is the one that speaks; before `init` each does. Doesn't start JAX."""
    return current().rank == 0


def _launch(coordinator: str | None, num_processes: int | None, process_id: int | None) -> Launch | None:
    given = (coordinator, num_processes, process_id)
    if all(one is None for one in given):
        return launch.launched()
    if coordinator is None or num_processes is None or process_id is None:
        raise ValueError(
            f"`coordinator` (={coordinator!r}), `num_processes` (={num_processes!r}) and `process_id` (={process_id!r})"
            " go together: give all three, or none to find them out."
        )
    if ":" not in coordinator:
        raise ValueError(f"`coordinator` (={coordinator!r}) must be 'host:port'.")
    if not 0 <= process_id < num_processes:
        raise ValueError(f"`process_id` (={process_id}) must be from 0 to num_processes - 1 (={num_processes - 1}).")
    return launch.by_hand("init", coordinator, num_processes, process_id)


def own_accelerator(mine: Launch, environment: Mapping[str, str]) -> list[int] | None:
    """Which accelerator a process takes where several on a machine see them all; None: what JAX does by itself."""
    if mine.local_size == 1 or environment.get("JAX_LOCAL_DEVICE_IDS"):
        return None
    seen = environment.get("CUDA_VISIBLE_DEVICES")
    if seen is not None and len(seen.split(",")) < mine.local_size:  # each was given its own
        return None
    return [mine.local_rank]


def _start_guard(mine: Launch, heartbeat: float) -> None:
    watch = Guard(mine.rank, mine.size, heartbeat)
    begin(watch)
    sys.excepthook = functools.partial(_fail_all, sys.excepthook)
    told = _listening(watch, mine) if mine.rank == 0 else None
    address = Address(*from_first(told))
    if mine.rank:
        watch.heartbeat = address.heartbeat
        watch.join(address._replace(place=None if address.place is None else Place(*address.place)))
    watch.wait_for_all()


def _listening(watch: Guard, mine: Launch) -> Address:
    """Has rank 0 wait for the others, where they reach it for JAX too."""
    if not mine.spans_machines:
        return watch.listen("127.0.0.1")
    host = socket.gethostname() if mine.coordinator is None else mine.coordinator.rpartition(":")[0].strip("[]")
    try:
        return watch.listen(host)
    except OSError:  # a name of something before this machine, which passes on to it
        return watch.listen("")._replace(host=host)


def _fail_all(
    before: Callable[..., Any], kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """An error that nobody catches ends the process, and so all. What all have done alike the first one tells of."""
    if not issubclass(kind, KeyboardInterrupt):
        fail(error)
    if not is_agreed(error) or is_first():
        before(kind, error, trace)


def fail(error: BaseException) -> None:
    """Ends all processes because of an error in this one, unless all have failed alike: then it returns, and does
    nothing on a second call. In a process by itself it does nothing.
    """
    watch = current()
    if watch.size == 1 or is_agreed(error):
        return
    of_another = any(sign in str(error) for sign in ECHOES)
    if of_another:
        time.sleep(ECHO_SECONDS)
    trace = "".join(traceback.format_exception(error)) if watch.shows_traces else ""
    if watch.fail(*_told_of(error), of_another=of_another, trace=trace):
        vars(error)[_AGREED] = True


def is_agreed(error: BaseException) -> bool:
    """Whether all processes have failed alike, by this error."""
    return _AGREED in vars(error)


@contextlib.contextmanager
def as_one() -> Iterator[None]:
    """Whatever ends it early in one of several processes ends all of them, however their scripts would go on; what
    does so in all of them alike is raised.
    """
    try:
        yield
    except BaseException as error:
        fail(error)
        raise


_AGREED = "_ppo2_agreed"

ECHOES = ("Gloo", "NCCL", "nccl", "coordination service", "UNAVAILABLE:")
"""Words of errors that only say that a collective failed, as another process died."""

ECHO_SECONDS = 3.0
"""That such a process waits for the guard to end it, which knows why."""


def _told_of(error: BaseException) -> tuple[str, int]:
    """What the others are told of an error, and the status that all end with."""
    if isinstance(error, KeyboardInterrupt):
        number = signal.Signals(error.number if isinstance(error, Interrupted) else signal.SIGINT)
        return f"was stopped by {number.name}", 128 + number
    if isinstance(error, SystemExit):
        if error.code == 128 + signal.SIGTERM:
            return "was stopped by SIGTERM", error.code
        return f"left by sys.exit({error.code!r})", FAILED
    words = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return f"failed: {words[:MOST_WORDS]}", FAILED


MOST_WORDS = 4000


# --- telling each other -----------------------------------------------------------------------------------------------

ROOM = 1024
"""Bytes that every process sends at first; of a longer message the rest follows in pieces."""
MOST_GATHERED = 2**26
"""Bytes of all processes' pieces together."""
PIECE = 2**24
"""Bytes of a piece that the first process sends to all."""
_LENGTH = 8


def gather(message: bytes, *, to_first: bool = False) -> list[bytes]:
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


def bytes_of_first(message: bytes) -> bytes:
    """What the first process says, of any length; the others' is not looked at."""
    if jax.process_count() == 1:
        return message
    is_first, length = jax.process_index() == 0, int(from_first(len(message)))
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


def tell_all(fact: Any) -> list[Any]:
    """`gather` for what JSON can hold; NaN and infinities too."""
    if jax.process_count() == 1:
        return [fact]
    return [json.loads(one) for one in gather(json.dumps(fact).encode())]


def from_first(fact: Any) -> Any:
    """What the first process says; the others' is not looked at."""
    return tell_all(fact if jax.process_index() == 0 else None)[0]


def of_first(make: Callable[[], Any]) -> Any:
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
    made, failure = from_first([made, failure])
    if failure is not None:
        raise ValueError(failure)
    return made


def tensors_to_first(tensors: dict[str, NDArray]) -> list[dict[str, NDArray]]:
    """`gather` for arrays, which only the first process gets."""
    if jax.process_count() == 1:
        return [tensors]
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return [safetensors.numpy.load(one) for one in gather(safetensors.numpy.save(whole), to_first=True)]


def unified(tree: T) -> tuple[T, list[int]]:
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
    told = tell_all([[[str(array.dtype), *array.shape] for array in arrays], digest])
    for rank, (kinds, _) in enumerate(told):
        if kinds != told[0][0]:
            raise ValueError(
                f"the process of rank {rank} has another model than that of rank 0 (arrays of other shapes or dtypes): "
                "`network`, `encoders` and `model_fn` must make the same in all."
            )
    others = [rank for rank, (_, theirs) in enumerate(told) if theirs != told[0][1]]
    if not others:
        return tree, []
    content, start = bytes_of_first(b"".join(array.tobytes() for array in arrays)), 0
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
    current().meet()
    everywhere = make(axis)(sharding.to_global(padded, axis, sharding.BY_ENV))
    return np.asarray(sharding.to_local(everywhere, axis, REPLICATED))


@functools.cache
def _gather_program(axis: DataAxis) -> Callable[[Any], Any]:
    def gathered(x: Any) -> Any:
        return jax.lax.all_gather(x[0], sharding.AXIS)

    return jax.jit(sharding.over_blocks(gathered, axis, sharding.BY_ENV, PartitionSpec()))


@functools.cache
def _of_first_program(axis: DataAxis) -> Callable[[Any], Any]:
    def of_first(x: Any) -> Any:
        return jax.lax.psum(jnp.where(axis.index == 0, x, 0), sharding.AXIS)

    return jax.jit(sharding.over_blocks(of_first, axis, sharding.BY_ENV, PartitionSpec()))


def warn_if_alone() -> None:
    """Says on standard error where a launcher started several processes, but each trains by itself."""
    found = launch.told()
    if found is not None and found.rank == 0 and not jax.distributed.is_initialized() and not _WARNED:
        _WARNED.append(True)
        print(
            f"ppo2: {found.by} started {found.size} processes, each of which trains a model of its own: call "
            "ppo2.distributed.init() first for them to train one together (PPO2_ALONE=1 silences this).",
            file=sys.stderr,
        )


_WARNED: list[bool] = []
