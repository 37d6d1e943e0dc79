"""Several processes that train one model: how they join, and what an error in one of them means for all.

`init` is called before anything else; the command line does. From then on `learn` trains over all processes: each steps
its part of the environments, all learn the same, and the first alone writes and speaks.
"""

import contextlib
import functools
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import jax

from ppo2.distributed import collectives
from ppo2.distributed.heartbeat import Heartbeat, begin, current
from ppo2.distributed.messages import MonitorAddress, ProcessLocation
from ppo2.system import launch, runtime
from ppo2.system.exits import FAILED
from ppo2.system.launch import Launch
from ppo2.system.processors import nvidia_cards
from ppo2.system.runtime import jax_platforms
from ppo2.system.signals import Interrupted
from ppo2.system.text import say_error

HEARTBEAT_SECONDS = 30.0

JAX_PATIENCE, JAX_LEAST_SECONDS = 4, 60
"""Heartbeats, and seconds at least, after which JAX gives a process up by itself: long enough for ours to speak first.
"""

JAX_SHUTDOWN_SECONDS = 300
"""Time that JAX waits for all processes at the very end, for which ours has waited already."""

SECONDARY_SIGNS = ("Gloo", "NCCL", "nccl", "coordination service", "UNAVAILABLE:")
"""Words of errors that only say that a collective failed, as another process died."""

SECONDARY_SECONDS = 3.0
"""Time that a process with such an error waits for the monitor to end it, which knows why."""

MOST_WORDS = 4000
"""Most characters of an error that the other processes hear of."""


class World(NamedTuple):
    """The index of this process, and the number of processes."""

    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        """True for the process that writes and speaks."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """The indices, of `count` among all processes, that are this one's."""
        each = count // self.size
        return slice(each * self.rank, each * (self.rank + 1))


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

    From then on the processes watch each other. If one is killed, raises an error or hangs, all end with status 75,
    within `heartbeat` seconds, and one line on standard error says which it was, and why.

    Args:
        coordinator: "host:port" at which the first process listens, as the others reach it.
        num_processes: number of processes.
        process_id: index of this process, from 0.
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
    if mine.size == 1:
        return ALONE
    runtime.begin(mine.local_size)
    _start_jax(mine, heartbeat)
    _start_heartbeat(mine, heartbeat)
    return world()


def world() -> World:
    """The index of this process, and the number of processes. Starts JAX."""
    runtime.begin()
    return World(jax.process_index(), jax.process_count())


def is_first() -> bool:
    """True for the process that speaks; before `init` each does. Doesn't start JAX."""
    return current().rank == 0


def _launch(coordinator: str | None, num_processes: int | None, process_id: int | None) -> Launch:
    if all(given is None for given in (coordinator, num_processes, process_id)):
        return launch.detect()
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


def _start_jax(mine: Launch, heartbeat: float) -> None:
    is_here = launch.is_loopback(mine.coordinator or "")
    if mine.spans_machines and not is_here:
        launch.check_host_name()
    where: dict[str, Any] = {}
    if mine.coordinator is not None:
        where = {"coordinator_address": mine.coordinator, "num_processes": mine.size, "process_id": mine.rank}
        where["local_device_ids"] = own_accelerator(mine, os.environ)
    if is_here:
        where["coordinator_bind_address"] = mine.coordinator  # JAX's default is all interfaces
    jax.config.update("jax_enable_preemption_service", False)  # signals are ours: see `ppo2.system.signals`
    jax.distributed.initialize(
        **where,
        heartbeat_timeout_seconds=max(JAX_LEAST_SECONDS, int(JAX_PATIENCE * heartbeat)),
        shutdown_timeout_seconds=JAX_SHUTDOWN_SECONDS,
    )


def own_accelerator(mine: Launch, environment: Mapping[str, str]) -> list[int] | None:
    """The accelerator of a process where several on a machine see them all; None: what JAX does by itself.

    Raises:
        ValueError: the machine has fewer GPUs than processes.
    """
    if mine.local_size == 1 or environment.get("JAX_LOCAL_DEVICE_IDS"):
        return None
    seen = environment.get("CUDA_VISIBLE_DEVICES")
    hidden = seen in ("", "-1") or not {"cuda", "gpu"} & set((jax_platforms() or "cuda").split(","))
    cards = 0 if hidden or "MIG-" in (seen or "") else nvidia_cards()  # a card's parts are each as good as a card
    if 0 < cards < mine.local_size:
        raise ValueError(
            f"{mine.by} started {mine.local_size} processes on this machine, which has {cards} "
            f"GPU{'s' * (cards > 1)}: each takes one of its own, and NCCL joins no two on the same. Start {cards} "
            "here; or, if it is stepping environments that needs processes, have all compute on the CPU: `ppo2 train "
            "--device cpu`, or JAX_PLATFORMS=cpu in the environment. Trainings that have nothing to do with each "
            "other (PPO2_ALONE=1) can share a GPU: see docs/gpu.md."
        )
    if seen is not None and len(seen.split(",")) < mine.local_size:  # each was given its own
        return None
    return [mine.local_rank]


def _start_heartbeat(mine: Launch, seconds: float) -> None:
    heartbeat = Heartbeat(mine.rank, mine.size, seconds)
    begin(heartbeat)
    sys.excepthook = functools.partial(_fail_all, sys.excepthook)
    address = MonitorAddress(*collectives.broadcast(_listen(heartbeat, mine) if mine.rank == 0 else None))
    if mine.rank:
        location = None if address.location is None else ProcessLocation(*address.location)
        heartbeat.join(address._replace(location=location))
    heartbeat.wait_for_all()


def _listen(heartbeat: Heartbeat, mine: Launch) -> MonitorAddress:
    """Has rank 0 wait for the others, where they reach it for JAX too."""
    if not mine.spans_machines:
        return heartbeat.listen("127.0.0.1")
    host = socket.gethostname() if mine.coordinator is None else mine.coordinator.rpartition(":")[0].strip("[]")
    try:
        return heartbeat.listen(host)
    except OSError:  # a name of something before this machine, which passes on to it
        return heartbeat.listen("")._replace(host=host)


def _fail_all(
    before: Callable[..., Any], kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Ends all processes for an error that nobody catches. An error that all share is shown by the first one."""
    if not issubclass(kind, KeyboardInterrupt):
        fail(error)
    if not raised_by_all(error) or is_first():
        before(kind, error, trace)


def fail(error: BaseException) -> None:
    """Ends all processes because of an error in this one, unless all have failed alike: then it returns, and does
    nothing on a second call. In a process by itself it does nothing.
    """
    if raised_by_all(error):
        return
    is_secondary = any(sign in str(error) for sign in SECONDARY_SIGNS)
    if is_secondary:
        time.sleep(SECONDARY_SECONDS)
    heartbeat = current()
    trace = "".join(traceback.format_exception(error)) if heartbeat.shows_tracebacks else ""
    if heartbeat.fail(*_words_and_status(error), is_secondary=is_secondary, trace=trace):
        vars(error)[_RAISED_BY_ALL] = True


_RAISED_BY_ALL = "_ppo2_raised_by_all"


def raised_by_all(error: BaseException) -> bool:
    """True if every process raised this error; always true of a single process."""
    return current().size == 1 or _RAISED_BY_ALL in vars(error)


@contextlib.contextmanager
def errors_end_all() -> Iterator[None]:
    """Context in which an error in one of several processes ends all of them, however their scripts would go on; an
    error in all of them alike is raised.
    """
    try:
        yield
    except BaseException as error:
        fail(error)
        raise


def _words_and_status(error: BaseException) -> tuple[str, int]:
    """The words about an error for the other processes, and the exit status of all."""
    if isinstance(error, KeyboardInterrupt):
        number = signal.Signals(error.number if isinstance(error, Interrupted) else signal.SIGINT)
        return f"was stopped by {number.name}", 128 + number
    if isinstance(error, SystemExit):
        if error.code == 128 + signal.SIGTERM:
            return "was stopped by SIGTERM", error.code
        return f"left by sys.exit({error.code!r})", FAILED
    words = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return f"failed: {words[:MOST_WORDS]}", FAILED


@functools.cache
def warn_if_alone() -> None:
    """Says once on standard error where a launcher started several processes, but each trains by itself."""
    found = launch.detected()
    if found.size > 1 and found.rank == 0 and not jax.distributed.is_initialized():
        say_error(
            f"{found.by} started {found.size} processes, each of which trains a model of its own: call "
            "ppo2.distributed.init() first for them to train one together (PPO2_ALONE=1 silences this)."
        )
