"""The house: which folder may import which, and in what order the files inside each stand (CONTRIBUTING, the map)."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ppo2

pytestmark = pytest.mark.core

PACKAGE = Path(ppo2.__file__).parent

FLOORS = [
    ["numerics", "spaces", "system"],
    ["config", "distributed", "distributions", "networks"],
    ["algorithm", "envs/device", "envs/host"],
    ["checkpoints", "envs/adapters"],
    ["agent", "envs/families"],
    ["envs", "runners"],
    ["evaluation", "reporting"],
    ["callbacks", "plot"],
    ["__init__", "training"],
    ["deployment", "diagnosis", "reports", "sweeps"],
    ["sharing", "tuning"],
    ["cli"],
    ["__main__"],
]
"""Folders and single files, from the ground up: each imports only from lower floors."""

ORDER = """\
agent: __init__ pickling surroundings compiled files noise placement policy model_programs model freezing copies \
    loading microbatched
algorithm: __init__ gae hyperparameters rollout losses minibatches normaliser adam train_state faults update
callbacks: base calls evaluation freezing saving stopping pruning video __init__
checkpoints: __init__ hub addresses checkpoint state_dicts progress tensors writer
cli: env_options checks output options help doctor listings report_commands model_commands export sharing sweep train \
    tune config_command __init__
config: secrets yaml_text placeholders rules info_keys logs config foreign_names settings_file __init__
deployment: __init__ graph translator translations products loops policy_function policy_graph examples comparison \
    onnx_file npz_policy npz_file stablehlo export
diagnosis: __init__ findings subject making contract_checks repeating playing judging acting proposal on_device \
    vectors checks child examiner machine installation doctor
distributed: messages monitor heartbeat collectives agreed_signal processes __init__ parts
distributions: base choices gaussians joint table __init__
envs: __init__ time_limit first construction presets
envs/adapters: common brax craftax gymnax navix pgx xminigrid playground __init__
envs/device: __init__ info env unroll check
envs/families: __init__ foreign packages masks factories atari registry ids keywords arguments own_vectors
envs/host: __init__ env_types registrations constructors failures contract identity semaphore watchdog buffers replay \
    episode_statistics attributes actions infos vec_env outcome vector_arguments serial_envs worker_envs worker_loop \
    process_worker worker worker_pool transition vector_requests vector parallelism stepper remote
evaluation: __init__ limits not_finite device_episodes host_episodes evaluate renderers pictures film camera \
    drawn subject studio film_child film_maker play
networks: adapters layers stride_one convolution pooling mlp registry cnn cells sequences recurrent encoders __init__
numerics: __init__ intervals precision compilation flat memory loops pieces recurrence randomness schedules sharding \
    storable statistics traced numpy_calls numpy_translations numpy_function
reporting: __init__ figures display screens episode_file sinks logs trackers trackio_run mlflow_run tracked \
    health tables logger run_curve repeat card
plot: series sources drawing confidence __init__
reports: __init__ runs charts diagnostics page watch
runners: __init__ episodes ends chunk experience action_log rollout_ends device_program host_program acting \
    rollout_buffers snapshot device protocol runner_state host ray_cluster ray_actor remote
sharing: __init__ zoo push
spaces: parts images space_json checks __init__ device
sweeps: __init__ axes plan result screen directory vmapped messages turns child processes ray sweep
system: __init__ whole_numbers garbage python_stack calls exits descendants files launch verbosity text lock_owner \
    directory_lock processors signals malloc runtime
tuning: __init__ axes space study trial trainers search verdict directory pictures result plan tune
training: __init__ memory plan remarks sessions interruption run_directory trainers loop start construction \
    moments setup update_function log_writer saver evaluator run learn
"""
FILES = {folder: files.split() for folder, files in (line.split(": ") for line in ORDER.splitlines())}
"""Files of each folder, from the ground up: each imports only from those before it. `__init__` may come last, where it
passes on what the folder offers, or first, where it is a page of text.
"""

ALGORITHM_REACHES = {"algorithm", "numerics", "spaces", "distributions"}


def module_of(file: Path) -> str:
    """A module's name below the package: "" for the package itself, "envs.host" for that folder's `__init__`."""
    return ".".join(part for part in file.relative_to(PACKAGE).with_suffix("").parts if part != "__init__")


MODULES = {module_of(file): file for file in PACKAGE.rglob("*.py")}


def imports_of(file: Path) -> set[str]:
    return imports_in(ast.parse(file.read_text())) - {module_of(file)}


def imports_in(tree: ast.AST) -> set[str]:
    """The modules of ours that are imported, wherever in a file; not those imported for type checking alone."""
    found: set[str] = set()
    for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    unseen = {id(child) for node in for_types for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.split(".")[0] == "ppo2"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ppo2":
            folder = node.module.partition(".")[2]
            names = [f"{folder}.{alias.name}".strip(".") for alias in node.names]
            found |= {name if name in MODULES else folder for name in names}
    return found


def folder_of(module: str) -> str:
    """The name in FLOORS of where a module is."""
    file = MODULES[module]
    folder = file.parent.relative_to(PACKAGE).as_posix()
    return file.stem if folder == "." else folder


RANK = {name: rank for rank, names in enumerate(FLOORS) for name in names}
GRAPH = {module: imports_of(file) for module, file in MODULES.items()}


def test_every_file_has_a_floor() -> None:
    assert {folder_of(module) for module in MODULES} == set(RANK)
    inside: dict[str, set[str]] = {}
    for module, file in MODULES.items():
        if file.parent != PACKAGE:
            inside.setdefault(folder_of(module), set()).add(file.stem)
    assert {folder: set(files) for folder, files in FILES.items()} == inside


def test_folders_import_from_lower_floors() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if folder_of(other) != folder_of(module) and RANK[folder_of(other)] >= RANK[folder_of(module)]
    ]
    assert not wrong


def test_files_import_from_those_before_them_in_their_folder() -> None:
    wrong = []
    for module, others in GRAPH.items():
        order = FILES.get(folder_of(module), [])
        for other in others:
            if other and folder_of(other) == folder_of(module):
                mine, theirs = MODULES[module].stem, MODULES[other].stem
                if order.index(theirs) >= order.index(mine):
                    wrong.append(f"{module} imports {other}")
    assert not wrong


def test_the_algorithm_reaches_no_environment_file_process_or_model() -> None:
    seen: set[str] = set()
    waiting = [module for module in MODULES if folder_of(module) == "algorithm"]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += GRAPH[module]
    assert {folder_of(module) for module in seen} <= ALGORITHM_REACHES


def test_what_users_set_in_jax_is_asked_in_one_file() -> None:
    asked = re.compile(r"\bjax\.(jit|default_backend|devices|local_devices|local_device_count)\(")
    callers = {module for module, file in MODULES.items() if asked.search(file.read_text().replace("`jax.jit(", ""))}
    assert callers == {"numerics.compilation"}


def test_arrays_are_made_with_a_dtype() -> None:
    """Without one they would have 64 bits under `jax_enable_x64`."""
    takes = {"zeros": 2, "ones": 2, "empty": 2, "full": 3, "arange": 4, "eye": 4, "linspace": 6}
    wrong = []
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"jnp.{name}" for name in takes}:
                name = ast.unparse(node.func).removeprefix("jnp.")
                named = any(keyword.arg == "dtype" for keyword in node.keywords)
                if not named and len(node.args) < takes[name]:
                    wrong.append(f"{module}: {ast.unparse(node)}")
    assert not wrong


def test_the_scan_sees_imports_of_every_form() -> None:
    lines = {
        "import ppo2.envs.construction": "envs.construction",
        "from ppo2 import envs": "envs",
        "from ppo2.envs import construction": "envs.construction",
        "from ppo2.envs.construction import make": "envs.construction",
        "def late():\n    from ppo2 import training": "training",
    }
    for line, module in lines.items():
        assert imports_in(ast.parse(line)) == {module}
    assert not imports_in(ast.parse("if TYPE_CHECKING:\n    from ppo2 import envs"))


def test_public_verbs_are_functions_after_importing_every_submodule() -> None:
    for info in pkgutil.walk_packages(ppo2.__path__, "ppo2."):
        if not info.name.endswith(("__main__", "worker")):
            importlib.import_module(info.name)
    for name in ppo2.__all__:
        assert hasattr(ppo2, name)
    verbs = ("learn", "evaluate", "load", "make", "preset", "register", "sweep", "tune", "configure_runtime", "doctor")
    for verb in verbs:
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
    "envs/host/parallelism.py": {"import cloudpickle", "cloudpickle.dumps"},
    "envs/host/registrations.py": {"import cloudpickle", "cloudpickle.dumps", "cloudpickle.loads"},
    "envs/host/process_worker.py": {"import cloudpickle", "cloudpickle.dumps", "cloudpickle.loads"},
    "envs/host/worker_loop.py": {"import cloudpickle", "cloudpickle.dumps", "cloudpickle.loads"},
    # likewise, between `doctor` and the process that checks an environment
    "diagnosis/subject.py": {"import cloudpickle", "cloudpickle.dumps", "cloudpickle.loads"},
    # likewise, between a training or a sweep and the processes that film it, or train its runs
    "agent/pickling.py": {"import cloudpickle", "cloudpickle.Pickler", "cloudpickle.loads"},
}
WITH_PLAIN_TYPES = {
    # a SafeLoader, which makes numbers, text, lists and dicts (tests/config/test_yaml_text.py)
    "config/yaml_text.py": {
        "import yaml", "yaml.SafeDumper", "yaml.SafeLoader", "yaml.YAMLError", "yaml.dump", "yaml.load",
    },
}  # fmt: skip
ARRAYS_ALONE = {
    "deployment/npz_policy.py": {"np.load"},  # with allow_pickle=False: tests/deployment/test_npz_policy.py
}
HARMLESS = {
    "checkpoint.load",  # ours
    "json.loads",
    "registry.load",  # MuJoCo Playground's, by name
    "safetensors.numpy.load",  # which has nothing but arrays
    "self._reader.recv",  # bytes of a socket
    "sock.recv",
    "tomllib.loads",
}


def runs_what_it_reads(file: Path) -> set[str]:
    """Calls and imports in a file that might run the data it reads, or make objects of it."""
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
    assert {name: what for name, what in found.items() if what} == ON_THE_WORKERS_PIPE | WITH_PLAIN_TYPES | ARRAYS_ALONE


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
