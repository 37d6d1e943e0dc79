"""`configure_runtime`, in processes of its own: it is for a whole process."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.children import STRICT_PYTHON

FAULTS = """
import resource, sys
import numpy as np
import ppo2

if sys.argv[1] == "configured":
    ppo2.configure_runtime(compilation_cache=False)

def touch() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(2**26, np.uint8)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

touch()
print(touch())
"""

SETTINGS = """
import os
import jax
import ppo2

ppo2.configure_runtime()
devices = jax.device_count()
assert devices == min(8, len(os.sched_getaffinity(0))), devices
assert not jax.config.values["jax_cpu_enable_async_dispatch"]
print(jax.config.values["jax_compilation_cache_dir"])
"""


def output(code: str, *arguments: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="counts processors as on Linux")
def test_devices_dispatch_and_cache(tmp_path: Any) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": "", "XLA_FLAGS": ""}
    environment["JAX_PLATFORMS"] = "cpu"  # whose devices are counted
    assert output(SETTINGS, **environment) == str(tmp_path / "ppo2" / "jax")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's malloc")
def test_freed_memory_is_kept() -> None:
    assert int(output(FAULTS, "configured")) < 16
    assert int(output(FAULTS, "plain")) >= 16  # else there is nothing to keep


ADDS = """
import jax.numpy as jnp
import ppo2

ppo2.configure_runtime()
print(jnp.arange(7).sum())
"""


def test_children_of_tests_take_it_for_no_error(tmp_path: Path) -> None:
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    command = [*STRICT_PYTHON, "-c", "import jax.numpy as jnp; print(jnp.arange(7).sum())"]
    assert subprocess.run(command, env=environment, check=True, capture_output=True).stdout == b"21\n"
    for program in tmp_path.glob("*-cache"):
        os.truncate(program, 100)
    assert subprocess.run(command, env=environment, check=True, capture_output=True).stdout == b"21\n"


def test_a_half_written_program_is_compiled_anew_without_a_word(tmp_path: Path) -> None:
    environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "error"}
    assert output(ADDS, **environment) == "21"
    programs = list(tmp_path.glob("*-cache"))
    assert programs
    for program in programs:
        os.truncate(program, 100)
    assert output(ADDS, **environment) == "21"


PLATFORMS = """
import jax
from ppo2.system.runtime import leave_accelerators

for device in ("auto", "gpu", "cpu"):
    leave_accelerators(device)
    print(jax.config.values["jax_platforms"] or "all")
"""


@pytest.mark.parametrize(("given", "expected"), [("", "all all cpu"), ("cuda", "cuda cuda cuda")])
def test_the_cpu_alone_where_nobody_said_otherwise(given: str, expected: str) -> None:
    assert output(PLATFORMS, JAX_PLATFORMS=given).split() == expected.split()
