"""The sessions of a run, from one start or resume to the next stop: when, from which update on, with which software."""

import importlib
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ppo2.config.settings_file import LOADED
from ppo2.numerics.compilation import devices_here

PACKAGES = ("ppo2", "jax", "jaxlib", "gymnasium", "numpy")
SESSIONS = "sessions"
"""The entry of config.json that lists them."""
FROM_WEIGHTS, CALLBACKS = "from_weights", "callbacks"
"""Entries of a session for what no setting tells: True where it began with another's weights; classes of callbacks."""


def versions() -> dict[str, str]:
    """The versions of the packages that results depend on, and of Python."""
    # of the modules in use, which may be on the path without being installed
    found = {name: str(importlib.import_module(name).__version__) for name in PACKAGES}
    return {**found, "python": platform.python_version()}


def current_session(update: int, total_timesteps: int, loaded: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The session that begins now.

    Args:
        update: the update that the run has come to before it.
        total_timesteps: the total that it trains to.
        loaded: the arguments of `learn` by which a new run begins from a checkpoint; None: it has none.
    """
    device = devices_here()[0]
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "after_update": update,
        "total_timesteps": total_timesteps,
        "versions": versions(),
        "platform": {"system": platform.system(), "machine": platform.machine(), "device": device.device_kind},
        **({LOADED: dict(loaded)} if loaded else {}),
    }


def sessions_in(settings: Mapping[str, Any]) -> list[Any]:
    """The sessions that a config.json lists; of an earlier version of ppo2 the one that it tells of."""
    listed = settings.get(SESSIONS)
    if isinstance(listed, list):
        return listed
    return [{"versions": settings["versions"]}] if "versions" in settings else []


def changes(before: Sequence[Any], now: Mapping[str, Any]) -> str:
    """A line that says which versions and which platform differ from those of the session before; "" if none does."""
    last = before[-1] if before and isinstance(before[-1], Mapping) else {}
    different = []
    for kind in ("versions", "platform"):
        then = last.get(kind)
        if isinstance(then, Mapping):
            pairs = ((name, then.get(name, value), value) for name, value in now[kind].items())
            different += [f"{name} was {old}, is {new}" for name, old, new in pairs if old != new]
    if not different:
        return ""
    return f"this run was made with other software or hardware: {'; '.join(different)}. Its last bits may differ"
