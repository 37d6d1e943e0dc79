"""The machine's processors."""

import contextlib
import importlib.util
import os
import re

from ppo2.system import launch

CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


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

    Args:
        processes: number of those that share them; None: as many as the launcher started.
    """
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
