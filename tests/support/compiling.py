"""The programs that JAX compiles, by name; compiling with hardly any optimisation."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import jax
import pytest

EVENT = "/jax/core/compile/backend_compile_duration"
QUICK_OPTIONS: dict[str, Any] = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
"""XLA's on the CPU: code for a fusion comes without MLIR's passes, and all code in one piece."""
QUICK: dict[Any, Any] = {}
"""Programs that models share in tests that are `quickly_compiled`; others, which look at bits, don't get them."""


@functools.cache
def known_options() -> dict[str, Any]:
    """The `QUICK_OPTIONS` that the installed XLA has: it refuses others, and an unknown flag ends the process."""
    known = {}
    for name, value in QUICK_OPTIONS.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda x: x + 1, compiler_options={name: value}).lower(0.0).compile()
            known[name] = value
    return known


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Context in which programs are hardly optimised, those of child processes too: each takes a third of the time to
    compile.
    """
    from jax._src import compiler

    from ppo2.agent.compiled import SHARED

    known, real = known_options(), compiler.get_compile_options

    def options(*arguments: Any, **keywords: Any) -> Any:
        made = real(*arguments, **keywords)
        made.env_option_overrides = [*made.env_option_overrides, *known.items()]
        return made

    programs = SHARED.copy()
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    SHARED.clear()
    SHARED.update(QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", options)
        for name, value in quick_variables().items():
            patch.setenv(name, value)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)
            QUICK.update(SHARED)
            SHARED.clear()
            SHARED.update(programs)


def quick_variables() -> dict[str, str]:
    """Environment variables by which the programs of another process are compiled like those of `quickly`."""
    flags = [f"--{name}={str(value).lower()}" for name, value in known_options().items()]
    flags = [*filter(None, [os.environ.get("XLA_FLAGS")]), *flags]
    return {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": " ".join(flags)}


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
