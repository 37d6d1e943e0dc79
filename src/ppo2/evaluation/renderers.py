"""MuJoCo's ways of drawing where there is no display: EGL, or OSMesa, which needs neither a GPU nor a driver."""

import contextlib
import ctypes.util
import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator

VARIABLE = "MUJOCO_GL"
"""The environment variable by which MuJoCo, and Gymnasium with it, are told how to draw."""
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
"""Values of the variable, the better one first, and the libraries that they need."""
PACKAGES = "apt-get install libegl1 libgl1-mesa-dri (MUJOCO_GL=egl) or libosmesa6 (MUJOCO_GL=osmesa)"
DRAW_SECONDS = 20.0
DRAW = "import mujoco; mujoco.GLContext(64, 64).make_current()"


def has_display() -> bool:
    """True if a window can be opened."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def is_missing(name: str) -> bool:
    """True where the library of a way of drawing isn't there."""
    return ctypes.util.find_library(LIBRARIES[name]) is None


def obstacle(name: str) -> str:
    """The reason why MuJoCo can't draw in a way, as another process of Python finds it; "" if it can."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", DRAW],
            env={**os.environ, VARIABLE: name},
            capture_output=True,
            text=True,
            timeout=DRAW_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    lines = [
        line for line in done.stderr.splitlines() if line.strip() and not line.startswith((" ", "Exception ignored"))
    ]
    errors = [line for line in lines if "Error" in line] or lines
    return "" if done.returncode == 0 else (errors[0][:100] if errors else f"status {done.returncode}")


def chosen() -> str | None:
    """The value of MUJOCO_GL for a process that draws; None leaves it alone: it is set, or nothing could be better."""
    is_needed = sys.platform == "linux" and not has_display() and importlib.util.find_spec("mujoco") is not None
    return _found() if is_needed and not os.environ.get(VARIABLE) else None


@functools.cache
def _found() -> str | None:
    there = [name for name in LIBRARIES if not is_missing(name)]
    if len(there) > 1:  # EGL's library may be there without a driver
        there = [name for name in there if not obstacle(name)] or there
    return there[0] if there else None


@contextlib.contextmanager
def headless() -> Iterator[None]:
    """Context in which MuJoCo draws without a display, if it can; the user's own MUJOCO_GL stays."""
    name = chosen()
    if name is None:
        yield
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def remedy() -> str:
    """Words, with a blank before them, for what may help where MuJoCo can't draw without a display; "" elsewhere."""
    if "mujoco" not in sys.modules or sys.platform != "linux" or has_display():
        return ""
    if all(map(is_missing, LIBRARIES)):
        return f" Without a display, MuJoCo draws by EGL or OSMesa, and neither library is here: {PACKAGES}."
    used, there = os.environ.get(VARIABLE), [name for name in LIBRARIES if not is_missing(name)]
    if used and used not in there:
        return f" Without a display, MuJoCo draws by EGL or OSMesa: set MUJOCO_GL={there[0]} in place of {used}."
    how = f"MUJOCO_GL={used} was used" if used else "MUJOCO_GL is not set"
    return f" Without a display, MuJoCo draws by EGL or OSMesa ({how}): {PACKAGES}."
