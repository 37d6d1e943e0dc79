"""Settings of JAX that suit training on CPU: explicit, never at import."""

import contextlib
import ctypes
import os
import sys
import warnings
from pathlib import Path

import jax

from ppo2.system.processors import usable_processors

MOST_CPU_DEVICES = 8  # beyond, nobody has measured


def configure_runtime(*, compilation_cache: bool = True) -> None:
    """Sets JAX up for short programs on CPU. Call it before anything runs on JAX: it reads the first when it starts.

    - Programs run in the caller's thread (`jax_cpu_enable_async_dispatch` off): an acting step takes half the time.
    - There are as many CPU devices as processors (`jax_num_cpu_devices`), 8 at most, which device environments and
      sweeps spread over; unless `XLA_FLAGS` says how many.
    - Memory that was freed is kept for what comes next (on Linux with glibc), as page faults would take a tenth of an
      update with large temporaries, as convolutions have.
    - Compiled programs are kept on disk, so that a second start trains within a second or two.

    Args:
        compilation_cache: keep compiled programs, in the directory that JAX is set to (`JAX_COMPILATION_CACHE_DIR`)
            or else in the user's cache folder.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", min(MOST_CPU_DEVICES, usable_processors()))
    _keep_freed_memory()
    if compilation_cache:
        if not jax.config.values["jax_compilation_cache_dir"]:
            folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            jax.config.update("jax_compilation_cache_dir", str(Path(folder) / "ppo2" / "jax"))
        # Even a program that compiles in a tenth of a second is loaded in a hundredth.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        # JAX writes them in place: of runs started together, one may read what another has half written, and compiles
        # it then.
        warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")


def jax_platforms() -> str:
    """The platforms that the user lets JAX use, such as "cuda,cpu"; "": all."""
    return jax.config.values["jax_platforms"] or ""


def leave_accelerators(device: str) -> None:
    """Has JAX start on the CPU alone where `device` is "cpu", so that this process takes no memory of a card; unless
    the user has said which platforms JAX shall use (`JAX_PLATFORMS`). For processes that are ours: the command line's.
    """
    if device == "cpu" and not jax_platforms():
        jax.config.update("jax_platforms", "cpu")


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
GROWTH = 64 * 2**20  # bytes by which the heap grows at least


def _keep_freed_memory() -> None:
    """Takes large blocks from the heap, which never shrinks, instead of mapping them and giving them back each time."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            for setting, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, GROWTH)):
                mallopt(setting, value)
