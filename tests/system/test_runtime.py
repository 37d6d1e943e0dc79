"""JAX's settings, in processes of their own: they are for a whole process."""

import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import pytest

from ppo2.agent.surroundings import environment_variables
from ppo2.system import malloc, runtime
from ppo2.system.processors import usable_processors
from support.children import STRICT_PYTHON

FORKS = """
import contextlib, io, json, os, sys, threading, traceback
import gymnasium, jax
import ppo2, ppo2.cli
from ppo2.system import runtime

for name in ppo2.__all__:
    getattr(ppo2, name)

def first_call():
    with contextlib.suppress(ValueError):
        ppo2.load("nowhere")

def learn():
    ppo2.learn(env="CartPole-v1", num_envs=1, nsteps=4, total_timesteps=0, num_hidden=4, progress=True)

def of_jax():
    return {name: value for name, value in os.environ.items() if name.startswith(("JAX", "XLA"))}

def no_home():
    raise RuntimeError("Could not determine home directory.")

def outcome(code):
    said, before = io.StringIO(), of_jax()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            exec(code, globals())
        except RuntimeError:
            traceback.print_exc()
    settings = {name: jax.config.values[name] for name in runtime.DEFAULTS}
    return {
        "settings": settings,
        "started": runtime.has_started(),
        "devices": jax.device_count(),
        "same_environ": before == of_jax(),
        "said": said.getvalue(),
    }

for code in json.loads(sys.argv[1]):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            print(json.dumps(outcome(code)), flush=True)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.waitpid(child, 0)
"""
"""Runs pieces of code, each in a process of its own in which everything is imported and JAX hasn't started."""

LATE = "jax.numpy.zeros(1); "
CASES = {
    "import": "pass",
    "load": "first_call()",
    "learn": "learn()",
    "sweep": "with contextlib.suppress(ValueError): ppo2.sweep(env='CartPole-v1', lr=[])",
    "make": "ppo2.make('CartPole-v1', 1)",
    "preset": "ppo2.envs.preset('gymnax:CartPole-v1')",
    "world": "ppo2.distributed.world()",
    "ppo2 train": "ppo2.cli.main(['train', 'CartPole-v1', '--lr', 'much'])",
    "ppo2 sweep": "ppo2.cli.main(['sweep', 'CartPole-v1', '--lr', 'much'])",
    "explicit": "ppo2.configure_runtime(); ppo2.configure_runtime()",
    "threads": "calls = [threading.Thread(target=first_call) for _ in range(8)]; "
    "[call.start() for call in calls]; [call.join() for call in calls]",
    "no cache": "ppo2.configure_runtime(compilation_cache=False); first_call()",
    "afterwards": "first_call(); jax.numpy.zeros(1); ppo2.configure_runtime()",
    "theirs": "jax.config.update('jax_num_cpu_devices', 3); jax.config.update('jax_compilation_cache_dir', 'mine'); "
    "jax.config.update('jax_persistent_cache_min_compile_time_secs', 7.0); first_call()",
    "flags": "os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=3'; first_call()",
    "late": LATE + "learn()",
    "late, explicit": LATE + "ppo2.configure_runtime()",
    "late, theirs": "jax.config.update('jax_num_cpu_devices', 1); "
    "jax.config.update('jax_cpu_enable_async_dispatch', False); " + LATE + "learn()",
    "forbidden": "os.environ['PPO2_CONFIGURE'] = '0'; learn(); ppo2.configure_runtime()",
    "forbidden, late": "os.environ['PPO2_CONFIGURE'] = '0'; " + LATE + "learn()",
    "no folder": "os.environ['XDG_CACHE_HOME'] = '/dev/null'; first_call()",
    "no home": "os.environ.pop('XDG_CACHE_HOME'); runtime.Path.home = no_home; first_call()",
}

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="counts processors as on Linux, and forks")

PLAIN = dict(runtime.DEFAULTS)
CONFIGURED = {
    runtime.DISPATCH: False, runtime.CPU_DEVICES: min(8, usable_processors()), runtime.LEAST_SECONDS: 0.0,
    runtime.LEAST_BYTES: -1,
}  # fmt: skip


def usual_environment(**more: str) -> dict[str, str]:
    """Variables of a user who has set none of JAX's."""
    theirs = ("JAX_", "XLA_", "PPO2_", "MALLOC_", "GLIBC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return {**kept, "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1", **more}


def output(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, env=usual_environment(**environment),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def outcomes(cache: Path) -> dict[str, Any]:
    """The settings after each piece of code, and what it said."""
    lines = output(FORKS, json.dumps(list(CASES.values())), XDG_CACHE_HOME=str(cache)).splitlines()
    return dict(zip(CASES, map(json.loads, lines), strict=True))


@pytest.fixture(scope="module")
def configured(cache: Path) -> dict[str, Any]:
    return {**CONFIGURED, runtime.CACHE: str(cache / "ppo2" / "jax")}


def test_importing_changes_nothing_and_starts_nothing(outcomes: dict[str, Any]) -> None:
    assert outcomes["import"]["settings"] == PLAIN
    assert not outcomes["import"]["started"]


@pytest.mark.parametrize(
    "call", ["load", "learn", "sweep", "make", "world", "ppo2 train", "ppo2 sweep", "explicit", "threads"]
)
def test_the_first_call_makes_all_settings(call: str, outcomes: dict[str, Any], configured: dict[str, Any]) -> None:
    found = outcomes[call]
    assert found["settings"] == configured
    assert found["devices"] == configured[runtime.CPU_DEVICES]
    assert found["same_environ"]  # child processes inherit nothing
    assert "JAX" not in found["said"]


def test_a_library_is_imported_after_the_settings_are_made(
    outcomes: dict[str, Any], configured: dict[str, Any]
) -> None:
    pytest.importorskip("gymnax")
    assert outcomes["preset"]["settings"] == configured


def test_an_explicit_call_decides_about_the_cache_and_may_come_again(
    outcomes: dict[str, Any], configured: dict[str, Any]
) -> None:
    cache_settings = (runtime.CACHE, runtime.LEAST_SECONDS, runtime.LEAST_BYTES)
    assert outcomes["no cache"]["settings"] == {**configured, **{name: PLAIN[name] for name in cache_settings}}
    assert outcomes["afterwards"]["settings"] == configured


def test_what_the_user_set_in_jax_stays_one_by_one(outcomes: dict[str, Any], configured: dict[str, Any]) -> None:
    theirs = {runtime.CPU_DEVICES: 3, runtime.CACHE: "mine", runtime.LEAST_SECONDS: 7.0}
    assert outcomes["theirs"]["settings"] == {**configured, **theirs}
    assert outcomes["flags"]["settings"] == {**configured, runtime.CPU_DEVICES: -1}
    assert outcomes["theirs"]["devices"] == outcomes["flags"]["devices"] == 3


def test_environment_variables_win_even_with_jaxs_defaults(tmp_path: Path) -> None:
    show = "print(json.dumps(outcome('first_call()')))"
    theirs = {
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "true", "JAX_NUM_CPU_DEVICES": "3",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1.0",
    }  # fmt: skip
    code = FORKS.partition("for code in")[0] + show
    found = json.loads(output(code, XDG_CACHE_HOME=str(tmp_path), **theirs))
    settings = {**PLAIN, runtime.CPU_DEVICES: 3, runtime.CACHE: str(tmp_path / "ppo2" / "jax"), runtime.LEAST_BYTES: -1}
    assert found["settings"] == settings


def test_a_jax_that_has_started_is_left_alone_and_one_line_says_what_to_do(outcomes: dict[str, Any]) -> None:
    assert outcomes["late"]["settings"] == PLAIN
    assert outcomes["late"]["said"].count("ppo2.configure_runtime()") == 1
    assert "RuntimeError: ppo2.configure_runtime() came too late" in outcomes["late, explicit"]["said"]
    assert outcomes["late, explicit"]["settings"] == PLAIN
    assert "configure_runtime" not in outcomes["late, theirs"]["said"]  # they had decided themselves


@pytest.mark.parametrize("case", ["forbidden", "forbidden, late"])
def test_a_variable_leaves_everything_alone_without_a_word(case: str, outcomes: dict[str, Any]) -> None:
    assert outcomes[case]["settings"] == PLAIN
    assert "configure_runtime" not in outcomes[case]["said"]


@pytest.mark.parametrize("case", ["no folder", "no home"])
def test_a_cache_that_can_not_be_is_told_once(case: str, outcomes: dict[str, Any], configured: dict[str, Any]) -> None:
    assert outcomes[case]["settings"] == {**configured, runtime.CACHE: None}
    assert outcomes[case]["said"].count("compiled programs are not kept") == 1


FAULTS = """
import resource, sys
import numpy as np
import ppo2

if sys.argv[1] == "configured":
    ppo2.configure_runtime(compilation_cache=False)
if sys.argv[1] in ("begun", "updated"):
    from ppo2.system import runtime

    runtime.begin()
    if sys.argv[1] == "updated":
        runtime.updated()

def touch() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(2**26, np.uint8)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

touch()
print(touch())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's malloc")
def test_freed_memory_is_kept() -> None:
    assert int(output(FAULTS, "configured")) < 16
    assert int(output(FAULTS, "plain")) >= 16  # else there is nothing to keep
    # compiling comes between
    assert int(output(FAULTS, "begun")) >= 16
    assert int(output(FAULTS, "updated")) < 16


@pytest.mark.parametrize("state", runtime.State)
def test_freed_memory_is_kept_once_and_only_where_the_settings_are_ours(
    state: runtime.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(runtime, "_state", state)
    monkeypatch.setattr(runtime, "_keeps", False)
    monkeypatch.setattr(malloc, "keep_freed_memory", lambda: calls.append(None))
    runtime.updated()
    runtime.updated()
    assert len(calls) == (state is runtime.State.MADE)


@pytest.mark.parametrize("forbidden", [False, True])
def test_malloc_is_told_of_all_processors_unless_a_variable_forbids_it(
    forbidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    for name, value in {"_state": runtime.State.OPEN, "_keeps": False, "has_started": lambda: False}.items():
        monkeypatch.setattr(runtime, name, value)
    monkeypatch.setattr(runtime, "_is_free", lambda _: False)  # JAX's settings stay
    monkeypatch.setattr(runtime, "usable_processors", lambda _: 64)
    monkeypatch.setattr(malloc, "share_arenas", told.append)
    monkeypatch.setattr(malloc, "keep_freed_memory", lambda: told.append("keep"))
    monkeypatch.setenv("PPO2_CONFIGURE", "0" if forbidden else "1")
    with warnings.catch_warnings():
        runtime.begin()
        runtime.updated()
    assert told == ([] if forbidden else [64, "keep"])


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


def test_a_jax_that_has_started_keeps_its_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    jax.devices()
    names, update = list[str](), jax.config.update
    monkeypatch.setattr(runtime, "jax_platforms", lambda: "")
    monkeypatch.setattr(type(jax.config), "update", lambda _, name, value: (names.append(name), update(name, value))[1])
    runtime.leave_accelerators("cpu")
    assert names
    assert "jax_platforms" not in names


def test_another_process_has_as_many_cpu_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minibatches of images are divided between them."""
    monkeypatch.setenv("XLA_FLAGS", "")
    for count, there in ((-1, "1"), (3, "3")):  # -1: nobody has said
        monkeypatch.setattr(type(jax.config), "values", {runtime.CPU_DEVICES: count})
        assert environment_variables()["JAX_NUM_CPU_DEVICES"] == there
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    assert runtime.cpu_devices_variable() == {}
