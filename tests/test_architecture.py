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
        "distributions",
        "gae",
        "sharding",
        "statistics",
        "losses",
        "schedules",
        "randomness",
        "rollout",
        "spaces",
        "normaliser",
        "config",
        "stops",
        "processors",
        "runtime",
    ],
    ["networks", "policy", "envs"],
    ["checkpoint", "train_state", "tensors", "programs", "snapshot", "model"],
    ["episodes", "runner", "device_runner"],
    ["run_files", "display", "health", "logger", "plot", "evaluate", "plan", "run_directory", "run", "learn"],
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
