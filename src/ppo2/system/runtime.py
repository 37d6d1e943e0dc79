"""Settings of JAX that suit training on CPU: made by the first call that computes, never at import."""

import enum
import os
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from ppo2.system import malloc
from ppo2.system.processors import usable_processors
from ppo2.system.text import say_error

MOST_CPU_DEVICES = 8  # beyond, nobody has measured

DISPATCH, CPU_DEVICES, CACHE = "jax_cpu_enable_async_dispatch", "jax_num_cpu_devices", "jax_compilation_cache_dir"
LEAST_SECONDS, LEAST_BYTES = "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes"

DEFAULTS: Mapping[str, Any] = {DISPATCH: True, CPU_DEVICES: -1, CACHE: None, LEAST_SECONDS: 1.0, LEAST_BYTES: 0}
"""JAX's own: a setting that has another value was set by the user."""


class State(enum.Enum):
    """States of a process's settings."""

    OPEN = enum.auto()  # nothing has computed yet
    MADE = enum.auto()
    LEFT_ALONE = enum.auto()  # as the user wants it
    TOO_LATE = enum.auto()  # JAX had started


_lock = threading.Lock()
_state = State.OPEN
_keeps = False  # freed memory


def configure_runtime(*, compilation_cache: bool = True) -> None:
    """Sets JAX up for short programs on CPU. The first call that computes, such as `learn`, does it by itself: call it
    where something else would start JAX before, or for the argument.

    - Programs run in the caller's thread (`jax_cpu_enable_async_dispatch` off): an acting step takes half the time.
    - There are as many CPU devices as processors (`jax_num_cpu_devices`), 8 at most, which device environments and
      sweeps spread over; unless `XLA_FLAGS` says how many.
    - Memory that was freed is kept for what comes next (on Linux with glibc), as page faults would take a tenth of an
      update with large temporaries, as convolutions have. Where `learn` makes the settings, it is so from the end of
      the first update, as compiling takes more memory than updates do. Threads share it in fewer parts.
    - Compiled programs are kept on disk, so that a second start trains within a second or two.

    What the user has set, by an environment variable (`JAX_NUM_CPU_DEVICES`) or in `jax.config`, stays; the variable
    `PPO2_CONFIGURE=0` leaves everything as it is. Nothing is passed on to child processes.

    Args:
        compilation_cache: keep compiled programs, in the directory that JAX is set to (`JAX_COMPILATION_CACHE_DIR`)
            or else in the user's cache folder.

    Raises:
        RuntimeError: JAX has started already, which fixes what should be set.
    """
    global _state
    with _lock:
        if _state is State.MADE or _forbidden():
            return
        if _comes_too_late():
            raise RuntimeError(
                "ppo2.configure_runtime() came too late: something was computed with JAX before, which reads its "
                "settings once, when it starts. Call it right after the imports."
            )
        _configure(compilation_cache)
        _keep_freed_memory()
        _state = State.MADE


def begin(processes: int | None = None) -> None:
    """Makes the settings of `configure_runtime`, once, if JAX hasn't started. What may compute first calls it first.

    Args:
        processes: see `usable_processors`.
    """
    global _state
    if _is_decided():  # most often, and sooner
        return
    with _lock:
        if _is_decided():  # by another thread
            return
        if _forbidden():
            _state = State.LEFT_ALONE
        elif has_started():
            _state = State.TOO_LATE if _comes_too_late() else State.LEFT_ALONE
        else:
            _configure(compilation_cache=True, processes=processes)
            _state = State.MADE


def came_too_late() -> bool:
    """True if JAX had started before `begin`, with a setting that costs speed and that the user hasn't chosen."""
    return _state is State.TOO_LATE


def has_started() -> bool:
    """True if JAX has devices, which it looks for when something is computed. Doesn't start it.

    JAX shows it by nothing else than that it refuses another number of devices from then on.
    """
    count = jax.config.values[CPU_DEVICES]
    try:
        for another in (max(1, count + 1), count):
            jax.config.update(CPU_DEVICES, another)
    except RuntimeError:
        return True
    return False


def _is_decided() -> bool:
    return _state is not State.OPEN


def _forbidden() -> bool:
    return os.environ.get("PPO2_CONFIGURE") == "0"


def _comes_too_late() -> bool:
    """True if JAX has started with its default of a setting that it reads only then."""
    return (_is_free(DISPATCH) or _is_free(CPU_DEVICES)) and has_started()


def _is_free(name: str) -> bool:
    """True if the user has said nothing of a setting: neither in its environment variable nor to `jax.config`."""
    if name == CPU_DEVICES and _flags_say():
        return False
    return not os.environ.get(name.upper()) and jax.config.values[name] in (DEFAULTS[name], "")


def _flags_say() -> bool:
    """True if the user has said in XLA's flags how many CPU devices there are."""
    return "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def cpu_devices_variable() -> dict[str, str]:
    """The environment variable by which another process has as many CPU devices as this one; none where XLA's flags,
    which it inherits, say so. The last bits of what learns from images depend on it.
    """
    return {} if _flags_say() else {CPU_DEVICES.upper(): str(max(1, jax.config.values[CPU_DEVICES]))}


def _configure(compilation_cache: bool, processes: int | None = None) -> None:
    processors = usable_processors(processes)
    malloc.share_arenas(processors)
    settings: dict[str, Any] = {DISPATCH: False, CPU_DEVICES: min(MOST_CPU_DEVICES, processors)}
    if compilation_cache:
        # Even a program that compiles in a tenth of a second is loaded in a hundredth.
        settings |= {CACHE: _cache_folder() if _is_free(CACHE) else None, LEAST_SECONDS: 0.0, LEAST_BYTES: -1}
        # JAX writes them in place: of runs started together, one may read what another has half written, and compiles
        # it then.
        warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")
    for name, value in settings.items():
        if value is not None and _is_free(name):
            jax.config.update(name, value)


def jax_platforms() -> str:
    """The platforms that the user lets JAX use, such as "cuda,cpu"; "": all."""
    return jax.config.values["jax_platforms"] or ""


def leave_accelerators(device: str) -> None:
    """Has JAX start on the CPU alone where `device` is "cpu", so that this process takes no memory of a card; unless
    it has started, or the user has said which platforms it shall use (`JAX_PLATFORMS`). For processes that are ours:
    the command line's.
    """
    if device == "cpu" and not jax_platforms() and not has_started():
        jax.config.update("jax_platforms", "cpu")


def _cache_folder() -> str | None:
    """The folder for compiled programs, made if absent; None, with a line that says so, where nobody may write."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ppo2" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return str(folder)
        reason = f"{folder} can't be written to"
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        reason = str(error)
    say_error(
        f"compiled programs are not kept, so that every start compiles anew: {reason}. Name a folder in "
        "JAX_COMPILATION_CACHE_DIR."
    )
    return None


def updated() -> None:
    """To be called after each update: once `begin` has made the settings, and programs are compiled, freed memory is
    kept.
    """
    if not _keeps and _state is State.MADE:
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    global _keeps
    _keeps = True
    malloc.keep_freed_memory()
