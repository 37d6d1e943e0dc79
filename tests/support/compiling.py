"""The programs that JAX compiles, by name."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Context whose list gets the name of each program that is compiled, or loaded from the disk, in it."""
    names: list[str] = []

    def listen(event: str, duration: float, **of: Any) -> None:
        if event == EVENT:
            names.append(str(of["fun_name"]).removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
