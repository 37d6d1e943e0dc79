"""Several processes that train one model: starting them, and what they tell each other beside gradients.

`init` is called before anything else; the command line does. From then on `learn` trains over all processes: each steps
its part of the environments, all learn the same, and the first alone writes and speaks.
"""

import atexit
import functools
import json
import os
import socket
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec

from ppo2 import guard, launch, sharding
from ppo2.guard import Address, Guard
from ppo2.launch import Launch
from ppo2.sharding import REPLICATED, Split

NDArray = np.ndarray[Any, Any]

HEARTBEAT_SECONDS = 30.0
LATER = 4
"""How many times as patient JAX's own watch is, for ours to speak first."""


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
        RuntimeError: JAX has started already.
    """
    if jax.distributed.is_initialized():
        return world()
    mine = _launch(coordinator, num_processes, process_id)
    if not heartbeat > 0:
        raise ValueError(f"`heartbeat` (={heartbeat!r}) must be above 0 seconds.")
    if mine is None or mine.size == 1:
        return ALONE
    if mine.spans_machines and not launch.is_loopback(mine.coordinator or ""):
        launch.check_host_name()
    jax.config.update("jax_enable_preemption_service", False)  # signals are ours: see `ppo2.stops`
    where: dict[str, Any] = {}
    if mine.coordinator is not None:
        where = {"coordinator_address": mine.coordinator, "num_processes": mine.size, "process_id": mine.rank}
    patience = max(1, int(LATER * heartbeat))
    jax.distributed.initialize(**where, heartbeat_timeout_seconds=patience, shutdown_timeout_seconds=patience)
    _start_guard(mine, heartbeat)
    return world()


def world() -> World:
    """Which of how many processes this one is. Starts JAX."""
    return World(jax.process_index(), jax.process_count())


def is_first() -> bool:
    """Whether this process is the one that speaks, also before `init`. Doesn't start JAX."""
    if jax.distributed.is_initialized():
        return world().is_first
    found = launch.told()
    return found is None or found.rank == 0


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
    here = num_processes if launch.is_loopback(coordinator) else 1
    return Launch("init", process_id, num_processes, here, coordinator)


def _start_guard(mine: Launch, heartbeat: float) -> None:
    watch = Guard(mine.rank, mine.size, heartbeat)
    told, address = np.zeros(256, np.uint8), None
    if mine.rank == 0:
        own_address = socket.gethostbyname(socket.gethostname()) if mine.spans_machines else "127.0.0.1"
        address = watch.listen(own_address)
        text = json.dumps(address).encode()
        told[: len(text)] = np.frombuffer(text, np.uint8)
    heard = np.asarray(multihost_utils.broadcast_one_to_all(told)).astype(np.uint8).tobytes().rstrip(b"\0")
    if address is None:
        watch.join(Address(*json.loads(heard)))
    guard.CURRENT[:] = [watch]
    atexit.register(watch.close)  # before JAX's own end, which waits for all
    sys.excepthook = functools.partial(_fail_all, sys.excepthook)


def _fail_all(
    before: Callable[..., Any], kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """An error that nobody catches ends the process, and so all. An interrupt is no error: `learn` stops all for it."""
    if issubclass(kind, KeyboardInterrupt):
        before(kind, error, trace)
        return
    if guard.CURRENT:
        guard.CURRENT[0].wait_for_cause(error)
    before(kind, error, trace)
    fail(error)


def fail(error: BaseException) -> None:
    """Ends all processes because of an error in this one; in a process by itself it does nothing."""
    if guard.CURRENT:
        guard.CURRENT[0].wait_for_cause(error)
        guard.CURRENT[0].fail(error)


# --- telling each other -----------------------------------------------------------------------------------------------

ROOM = 1024
"""Bytes that a message has at first; a longer one takes a second round."""
_LENGTH = 4


def gather(message: bytes) -> list[bytes]:
    """What every process says, by rank; all must call it, at the same point.

    One collective of a kilobyte, or two: 0.1 to 0.5 ms over the loopback.
    """
    size = jax.process_count()
    if size == 1:
        return [message]
    guard.meet()
    framed = len(message).to_bytes(_LENGTH, "big") + message
    heard = _gathered(framed[:ROOM], ROOM)
    lengths = [int.from_bytes(one[:_LENGTH], "big") for one in heard]
    longest = max(lengths) + _LENGTH
    if longest > ROOM:
        heard = _gathered(framed, 1 << (longest - 1).bit_length())
    return [one[_LENGTH : _LENGTH + length] for one, length in zip(heard, lengths, strict=True)]


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


def gather_tensors(tensors: dict[str, NDArray]) -> list[dict[str, NDArray]]:
    """`gather` for arrays."""
    if jax.process_count() == 1:
        return [tensors]
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return [safetensors.numpy.load(one) for one in gather(safetensors.numpy.save(whole))]


def _gathered(message: bytes, room: int) -> list[bytes]:
    split = sharding.across_processes()
    padded = np.zeros((1, room), np.uint8)
    padded[0, : len(message)] = np.frombuffer(message, np.uint8)
    everywhere = _gather_program(split)(sharding.placed(padded, split, sharding.BY_ENV))
    return [row.tobytes() for row in np.asarray(sharding.own(everywhere, split, REPLICATED))]


@functools.cache
def _gather_program(split: Split) -> Callable[[Any], Any]:
    def gathered(x: Any) -> Any:
        return jax.lax.all_gather(x[0], sharding.AXIS)

    return jax.jit(sharding.over_blocks(gathered, split, sharding.BY_ENV, PartitionSpec()))


def warn_if_alone() -> None:
    """Says on standard error where a launcher started several processes, but each trains by itself."""
    if jax.distributed.is_initialized() or "PPO2_ALONE" in os.environ:
        return
    found = launch.told()
    if found is not None and found.rank == 0:
        print(
            f"ppo2: {found.by} started {found.size} processes, each of which trains a model of its own: call "
            "ppo2.distributed.init() first for them to train one together (PPO2_ALONE=1 silences this).",
            file=sys.stderr,
        )
