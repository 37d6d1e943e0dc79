"""Checks of the machine: processors, memory, folders, drawing and films; without JAX."""

import contextlib
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ppo2.diagnosis.findings import Finding
from ppo2.evaluation import renderers
from ppo2.system import processors
from ppo2.system.text import human_bytes, install_command

SHARED = Path("/dev/shm")
LEAST_SHARED = 256 * 10**6
"""Bytes of shared memory below which workers with images may find no room: Docker gives 64 MB."""
LEAST_MEMORY = 2 * 10**9
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files of Linux that limit the memory of a container: of version 2, and of version 1."""
UNLIMITED = 2**60


def cores() -> Iterator[Finding]:
    """Processors, memory, shared memory."""
    usable, quota = processors.usable_processors(), processors.quota()
    said = f"{usable} processor{'s' * (usable != 1)}"
    if quota is not None and quota < usable:
        yield Finding(
            "processors",
            "warning",
            f"{said}, but this container may use the time of {quota} only: more workers and threads than that wait for "
            "one another",
            f"give it {usable}, or pin it to {quota} (docker run --cpuset-cpus)",
        )
    else:
        yield Finding("processors", "ok", said, figures={"processors": usable})
    total, free = memory()
    if total is not None:
        words = f"{human_bytes(total)}{'' if free is None else f', {human_bytes(free)} of it free'}"
        few = (total if free is None else free) < LEAST_MEMORY
        remedy = "fewer environments, workers and runs side by side need less" if few else ""
        yield Finding("memory", "warning" if few else "ok", words, remedy, {"total": total, "free": free})
    if SHARED.is_dir():
        usage = shutil.disk_usage(SHARED)
        few = usage.free < LEAST_SHARED or not os.access(SHARED, os.W_OK)
        remedy = "docker run --shm-size 2g, or workers=0" if few else ""
        words = f"{human_bytes(usage.free)} free of {human_bytes(usage.total)} in {SHARED}, for workers"
        yield Finding("shared memory", "warning" if few else "ok", words, remedy, {"free": usage.free})


def memory() -> tuple[int | None, int | None]:
    """Bytes of memory that this process may use, and those that are free; None where that is unknown."""
    total = free = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        known = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
        total, free = known.get("MemTotal"), known.get("MemAvailable")
    for file in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limit = int(Path(file).read_text())
            if limit < UNLIMITED:
                total = limit if total is None else min(total, limit)
    return total, free if total is None or free is None else min(free, total)


def folders() -> Iterator[Finding]:
    """Folders that are written to."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR") or Path(cache) / "ppo2" / "jax"
    given = [
        (
            "compile cache",
            Path(compiled),
            "every start compiles anew",
            "JAX_COMPILATION_CACHE_DIR names another folder",
        ),
        ("runs", Path.cwd(), "`ppo2 train` keeps its runs here", "--run-dir names another folder"),
        ("temporary", Path(tempfile.gettempdir()), "compilers and films need it", "TMPDIR names another folder"),
    ]
    for name, folder, purpose, remedy in given:
        reason = _unwritable(folder)
        if reason:
            yield Finding(name, "warning", f"{folder} can't be written to ({reason}): {purpose}", remedy)
        else:
            yield Finding(name, "ok", f"{folder}")


def _unwritable(folder: Path) -> str:
    """The reason why nothing can be written into a folder; "" if it can, now or once it is made."""
    try:
        there = next(one for one in (folder, *folder.parents) if one.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x" * 4096)
            file.flush()
    except (OSError, StopIteration) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


def drawing() -> Iterator[Finding]:
    """Displays, MuJoCo's ways of drawing, films."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    has_display = bool(display) or sys.platform != "linux"
    yield Finding("display", "ok", f"{display or 'there is one'}" if has_display else "none: `ppo2 play` films instead")
    if importlib.util.find_spec("mujoco") is not None and sys.platform == "linux":
        works, told = [], []
        for name, library in renderers.LIBRARIES.items():
            if renderers.is_missing(name):
                told.append(f"{name}: no lib{library}")
            elif reason := renderers.obstacle(name):
                told.append(f"{name}: {reason}")
            else:
                works.append(name)
        if works or has_display:
            words = f"MuJoCo draws with {' and '.join(works) or 'the display'}"
            yield Finding("drawing", "ok", words + (f" ({'; '.join(told)})" if told else ""))
        else:
            yield Finding(
                "drawing",
                "warning",
                f"MuJoCo can't draw without a display ({'; '.join(told)})",
                renderers.PACKAGES,
            )
    yield _films()


def _films() -> Finding:
    needed = [name for name in ("imageio", "imageio_ffmpeg") if importlib.util.find_spec(name) is None]
    if needed:
        return Finding(
            "films", "ok", f"not installed ({', '.join(needed)})", f"{install_command('video')}, for --video"
        )
    with contextlib.suppress(Exception):  # of a package that downloads its program, or not
        version = importlib.import_module("imageio_ffmpeg").get_ffmpeg_version()
        return Finding("films", "ok", f"ffmpeg {version}")
    return Finding("films", "warning", "imageio_ffmpeg has no ffmpeg", "apt-get install ffmpeg")
