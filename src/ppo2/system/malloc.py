"""Settings of glibc's malloc, on Linux, that suit training; what the user has tuned stays."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Mapping

ARENAS_PER_PROCESSOR = 2
"""Parts of the heap, of which each has its own free memory. glibc has 8 by itself: a first start then takes 10 MB more,
as what one thread frees another doesn't find. With 1, compiling takes longer."""

# of malloc.h: the number of each, and its name in environment variables
NUMBERS = {"mmap_max": -4, "trim_threshold": -1, "top_pad": -2, "arena_max": -8}
VARIABLES = {"arena_max": "MALLOC_ARENA_MAX"}  # the others end in an underscore


def share_arenas(processors: int) -> None:
    """Has threads share parts of the heap. To be called before there are threads."""
    _tune({"arena_max": ARENAS_PER_PROCESSOR * processors})


def keep_freed_memory() -> None:
    """Takes large blocks from the heap, which never shrinks again, instead of mapping them and giving them back each
    time. What is free already is given back: after compiling about 100 MB.
    """
    _tune({"mmap_max": 0, "trim_threshold": 2**31 - 1, "top_pad": 64 * 2**20})
    _call("malloc_trim", 0)


def _tune(values: Mapping[str, int]) -> None:
    for name, value in values.items():
        if not _is_tuned(name):
            _call("mallopt", NUMBERS[name], value)


def _call(function: str, *arguments: int) -> None:
    """Calls a function of glibc; nothing where there is another C library."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), function)(*arguments)


def _is_tuned(name: str) -> bool:
    """True if the user has set a value, in either form of environment variable."""
    variable = VARIABLES.get(name, f"MALLOC_{name.upper()}_")
    return bool(os.environ.get(variable)) or f"glibc.malloc.{name}" in os.environ.get("GLIBC_TUNABLES", "")
