"""The machine's processors."""

import contextlib
import os

from ppo2.system.launch import local_process_count


def usable_processors() -> int:
    """How many processors this process may use; of a job of several on this machine, which share them, its part."""
    affinity = getattr(os, "sched_getaffinity", None)
    if affinity is None:
        return max(1, (os.cpu_count() or 1) // local_process_count())
    mine = affinity(0)
    with contextlib.suppress(OSError):
        if len(mine) < len(affinity(os.getppid())):  # the launcher has given each process its own
            return len(mine)
    return max(1, len(mine) // local_process_count())
