"""The machine's processors."""

import contextlib
import importlib.util
import os
import re
from pathlib import Path

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


def lacks_bfloat16_tiles() -> bool:
    """True if this is known to be an x86 processor without AMX, whose products of bfloat16 aren't fast. Linux only."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:  # another system
        return False
    flags = re.search(r"^flags\s*:(.*)$", described, re.MULTILINE)  # of x86; ARM's are called features
    return flags is not None and "amx_bf16" not in flags[1].split()
