"""The machine's processors."""

import os

from ppo2.launch import local_processes


def usable_processors() -> int:
    """How many processors this process may use; of a job of several on this machine, which share them, its part."""
    usable = getattr(os, "sched_getaffinity", None)
    if usable is None:
        return max(1, (os.cpu_count() or 1) // local_processes())
    mine, all_of_them = len(usable(0)), os.cpu_count() or 1
    # a launcher may have given each process its own already
    return mine if mine < all_of_them else max(1, mine // local_processes())
