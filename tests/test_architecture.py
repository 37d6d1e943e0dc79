"""A file imports only from lower floors, or from files above it on its own floor (DESIGN: the house)."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import ppo2

PACKAGE = Path(ppo2.__file__).parent

# Top to bottom within a floor: what stands further down may import what stands above it.
FLOORS: list[list[str]] = [
    [
        "launch",
        "processors",
        "untrusted",
        "stops",
        "ending",
        "messages",
        "hub",
        "guard",
        "distributions",
        "gae",
        "sharding",
        "distributed",
        "statistics",
        "losses",
        "schedules",
        "randomness",
        "rollout",
        "spaces",
        "normaliser",
        "config",
        "runtime",
        "files",
    ],
    ["networks", "policy", "envs"],
    ["checkpoint", "train_state", "tensors", "programs", "snapshot", "model"],
    ["episodes", "experience", "runner", "device_runner", "remote_runner"],
    [
        *(
            "run_files",
            "display",
            "health",
            "logger",
            "plot",
            "evaluate",
            "plan",
            "position",
            "run_directory",
            "saving",
            "faults",
            "run",
        ),
        "preparing",
        "learn",
    ],
    ["play", "sweep_runs", "sweep", "public", "__init__", "cli", "__main__"],
]
RANK = {name: (floor, place) for floor, names in enumerate(FLOORS) for place, name in enumerate(names)}


def room_of(module: str) -> str:
    """ppo2.envs.making -> envs; ppo2 -> __init__."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "ppo2"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ppo2":
            rooms = {f"ppo2.{alias.name}" for alias in node.names} if node.module == "ppo2" else {node.module}
            found |= rooms
    return found


def room_of_file(file: Path) -> str:
    relative = file.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else file.stem


def test_every_file_has_a_floor() -> None:
    rooms = {room_of_file(file) for file in PACKAGE.rglob("*.py")}
    assert rooms == set(RANK)


def test_imports_go_down() -> None:
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        mine = room_of_file(file)
        for module in imports_of(file):
            theirs = room_of(module)
            if theirs == "__version__" or theirs == mine:
                continue
            if theirs not in RANK or RANK[theirs] >= RANK[mine]:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {module}")
    assert not wrong


def test_public_verbs_are_functions_after_importing_every_submodule() -> None:
    for info in pkgutil.walk_packages(ppo2.__path__, "ppo2."):
        if not info.name.endswith(("__main__", "worker")):
            importlib.import_module(info.name)
    for name in ppo2.__all__:
        assert hasattr(ppo2, name)
    for verb in ("learn", "evaluate", "load", "make", "preset", "register", "sweep", "configure_runtime"):
        assert callable(getattr(ppo2, verb)), verb


def test_importing_changes_nothing_and_loads_nothing_heavy() -> None:
    code = """
import random, sys, threading
import jax
before = {k: v for k, v in jax.config.values.items()}
state = random.getstate()
import numpy as np
numpy_state = np.random.get_state()[1].tolist()
import ppo2
assert before == dict(jax.config.values), "a setting of JAX changed"
assert random.getstate() == state and np.random.get_state()[1].tolist() == numpy_state, "something was seeded"
assert threading.active_count() == 1, "a thread was started"
heavy = {"matplotlib", "tyro", "rich", "scipy.stats", "torch", "mujoco", "Box2D"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- nothing that is read can run

RUNS = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "torch", "pandas", "runpy"}
"""Modules that turn bytes into code or objects of any kind."""
RUNNING_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
RUNNING_METHODS = {
    "load", "loads", "recv", "read_pickle", "fromfile", "read_array", "unsafe_load", "full_load", "literal_eval",
}  # fmt: skip

ON_THE_WORKERS_PIPE = {
    # the pipe between a process and the workers that it started: nobody else can write to it
    "envs/engines.py": {"import cloudpickle", "cloudpickle.dumps"},
    "envs/shares.py": {"import cloudpickle", "cloudpickle.dumps", "cloudpickle.loads"},
    "envs/serving.py": {"import cloudpickle", "cloudpickle.dumps", "cloudpickle.loads"},
}
HARMLESS = {
    "checkpoint.load",  # ours
    "json.loads",
    "registry.load",  # MuJoCo Playground's, by name
    "safetensors.numpy.load",  # which has nothing but arrays
    "self._reader.recv",  # bytes of a socket
    "sock.recv",
}


def runs_what_it_reads(file: Path) -> set[str]:
    """What in a file might run, or make objects of, what it reads."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in RUNS}
        elif isinstance(node, ast.ImportFrom):
            of_numpy = (node.module or "").split(".")[0] == "numpy" and {alias.name for alias in node.names}
            if (node.module or "").split(".")[0] in RUNS or (of_numpy and of_numpy & RUNNING_METHODS):
                found.add(f"import {node.module}")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            method = isinstance(node.func, ast.Attribute) and node.func.attr in RUNNING_METHODS
            if called in RUNNING_CALLS or method or any(keyword.arg == "allow_pickle" for keyword in node.keywords):
                found.add(called)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in RUNS:
            found.add(ast.unparse(node))
    return found


def test_no_file_that_is_read_can_run_code() -> None:
    found = {str(file.relative_to(PACKAGE)): runs_what_it_reads(file) - HARMLESS for file in PACKAGE.rglob("*.py")}
    assert {name: what for name, what in found.items() if what} == ON_THE_WORKERS_PIPE


def test_the_scan_sees_what_it_is_for(tmp_path: Path) -> None:
    lines = (
        "import pickle", "from pickle import loads", "import numpy as np; np.load(x, allow_pickle=True)", "np.load(x)",
        "import torch; torch.load(x)", "eval(x)", "exec(x)", "import yaml; yaml.load(x)", "import joblib",
        "import dill", "import marshal", "import shelve", "connection.recv()", "from cloudpickle import loads as mine",
        "from numpy import load as harmless",
    )  # fmt: skip
    for line in lines:
        (tmp_path / "module.py").write_text(line)
        assert runs_what_it_reads(tmp_path / "module.py"), line
