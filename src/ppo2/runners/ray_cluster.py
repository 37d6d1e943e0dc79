"""The cluster of Ray that actors run on."""

import importlib
import logging
import os
import signal
import threading
import warnings
from typing import Any

import jax

from ppo2.system.processors import usable_processors

CACHE_SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_")
"""Beginnings of the names of JAX's settings of its cache."""


def connect(processors: int) -> tuple[Any, bool]:
    """Connects to the cluster that this process has, or that RAY_ADDRESS names; else starts one.

    Args:
        processors: number that one which is started here has at least.

    Returns:
        The module `ray`, and True if it was started here, so that it is ours to shut down.
    """
    ray: Any = importlib.import_module("ray")
    if ray.is_initialized():
        return ray, False
    how: dict[str, Any] = {}
    owns = "RAY_ADDRESS" not in os.environ
    if owns:
        count = max(usable_processors(), processors)
        how = {"address": "local", "num_cpus": count, "include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called")  # harmless, as another program follows
        ray.init(logging_level=logging.WARNING, **how)
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray has replaced it
    return ray, owns


def jax_variables() -> dict[str, str]:
    """JAX's settings for an actor, which leaves accelerators alone: see `ppo2.configure_runtime`.

    Environment variables, as unpickling an actor's arguments may start JAX already.
    """
    settings = {"jax_platforms": "cpu", "jax_cpu_enable_async_dispatch": "false", "jax_num_cpu_devices": 1}
    settings |= {name: value for name, value in jax.config.values.items() if name.startswith(CACHE_SETTINGS)}
    return {name.upper(): str(value) for name, value in settings.items() if value is not None}
