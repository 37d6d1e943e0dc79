"""The machine's processors."""

import contextlib
import os

from ppo2.system import launch


def usable_processors() -> int:
    """Number of processors that this process may use: of several on this machine, which share them, its part."""
    processes, affinity = launch.detected().local_size, getattr(os, "sched_getaffinity", None)
    if affinity is None:
        return max(1, (os.cpu_count() or 1) // processes)
    mine = affinity(0)
    with contextlib.suppress(OSError):
        if len(mine) < len(affinity(os.getppid())):  # the launcher has given each process its own
            return len(mine)
    return max(1, len(mine) // processes)
