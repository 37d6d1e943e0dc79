"""Compiled programs are kept between tests, processes and runs: compiling is most of what the tests do."""

import os

import pytest

from children import HALF_WRITTEN_PROGRAM


def pytest_configure(config: pytest.Config) -> None:
    folder = config.cache.mkdir("jax") if config.cache is not None else None
    if folder is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        os.environ.setdefault("PYTHONWARNINGS", HALF_WRITTEN_PROGRAM)
        config.addinivalue_line("filterwarnings", HALF_WRITTEN_PROGRAM)
