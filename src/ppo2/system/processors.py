"""The machine's processors."""

import contextlib
import importlib.util
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from ppo2.system import launch

CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
THREADS = ("PJRT_NPROC", "NPROC")
"""Environment variables that say how many threads XLA computes with on the CPU, the first before the second; none: as
many as the process may use processors. The last bits of large products depend on it."""
QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us")
"""Files of Linux that limit the processor time of a container: of version 2, and of version 1."""

LOAD = "/proc/loadavg"
"""File of Linux whose fourth word says how many threads run or wait for a processor now, of all: "2/150"."""
LOOKING_SECONDS = 0.02
"""Time for which it is looked at again and again."""

_of_all: int | None = None
"""Processors of all the processes that this one shares a machine with as one job: see `take_share`."""


def nvidia_cards() -> int:
    """Number of NVIDIA's cards in this machine or container that JAX can use, without starting it; 0 if unknown."""
    if not any(importlib.util.find_spec(plugin) for plugin in CUDA_PLUGINS):
        return 0
    try:
        return sum(re.fullmatch(r"nvidia\d+", name) is not None for name in os.listdir("/dev"))
    except OSError:  # another system
        return 0


def usable_processors(processes: int | None = None) -> int:
    """Number of processors that this process may use: of several on this machine, which share them, its part.

    In a process that trains one of a sweep's runs it is the number of the whole sweep, so that whatever depends on it,
    the last bits of results too, is as in a process by itself: see `own_processors`.

    Args:
        processes: number of those that share them; None: as many as the launcher started.
    """
    if _of_all is not None:
        return _of_all
    if processes is None:
        processes = launch.detected().local_size
    affinity = getattr(os, "sched_getaffinity", None)
    if affinity is None:
        return max(1, (os.cpu_count() or 1) // processes)
    mine = affinity(0)
    with contextlib.suppress(OSError):
        if len(mine) < len(affinity(os.getppid())):  # the launcher has given each process its own
            return len(mine)
    return max(1, len(mine) // processes)


def lacks_bfloat16_tiles() -> bool:
    """True if this is known to be an x86 processor without AMX, whose products of bfloat16 aren't fast. Linux only."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:  # another system
        return False
    flags = re.search(r"^flags\s*:(.*)$", described, re.MULTILINE)  # of x86; ARM's are called features
    return flags is not None and "amx_bf16" not in flags[1].split()


def own_processors() -> int:
    """`usable_processors`, but of a sweep's runs those of this one alone: it changes only how fast things are."""
    affinity = getattr(os, "sched_getaffinity", None)
    if _of_all is None:
        return usable_processors()
    return 1 if affinity is None else len(affinity(0))


def running_now(file: str = LOAD) -> int:
    """Number of threads of this machine that run or wait for a processor, at least 1, this one: of many looks a
    quartile, as there are often some that run for a moment. Elsewhere than on Linux by the load of the last minute.
    """
    looks: list[int] = []
    until = time.perf_counter() + LOOKING_SECONDS
    try:
        while time.perf_counter() < until:  # without a pause, so that others who look see that this one runs
            looks.append(int(Path(file).read_text().split()[3].split("/")[0]))
    except (OSError, ValueError, IndexError):
        with contextlib.suppress(OSError, AttributeError):
            looks = [1 + round(os.getloadavg()[0])]
    return max(1, sorted(looks)[len(looks) // 4]) if looks else 1


def take_share(of_all: int, mine: Sequence[int]) -> None:
    """Makes this process one of several of a sweep. Before it starts threads, which keep to what they began with.

    Args:
        of_all: `usable_processors` of the process that started it.
        mine: the processors that this one shall use; none: any.
    """
    global _of_all
    _of_all = of_all
    if mine and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # taken from the container meanwhile
            os.sched_setaffinity(0, mine)


def shares(count: int) -> list[list[int]]:
    """The processors of this process, divided evenly among `count` others; empty lists where the system has no such
    thing, and one processor several times where there are too few.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(count)]
    mine = sorted(os.sched_getaffinity(0))
    if count > len(mine):
        return [[mine[i % len(mine)]] for i in range(count)]
    return [mine[len(mine) * i // count : len(mine) * (i + 1) // count] for i in range(count)]


def quota(files: Sequence[str] = QUOTAS) -> int | None:
    """Number of processors whose time this container may use, which may be less than it may run on; None: no limit."""
    numbers: list[float] = []
    with contextlib.suppress(OSError, ValueError):
        numbers = [float(word) for word in Path(files[0]).read_text().split()]  # "max" is no number
    with contextlib.suppress(OSError, ValueError):
        numbers = numbers or [float(Path(file).read_text()) for file in files[1:]]
    if len(numbers) != 2 or min(numbers) <= 0:  # -1 is no limit
        return None
    return max(1, int(numbers[0] / numbers[1]))


def xla_threads() -> dict[str, str]:
    """The environment variable by which another process computes with as many threads as this one would."""
    if any(os.environ.get(name) for name in THREADS):
        return {}
    affinity = getattr(os, "sched_getaffinity", None)
    return {THREADS[0]: str((os.cpu_count() or 1) if affinity is None else len(affinity(0)))}
