"""Checks of the installation: Python, packages and their versions, devices, extras."""

import importlib.metadata
import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import ppo2
from ppo2.diagnosis import machine
from ppo2.diagnosis.findings import Finding
from ppo2.envs.host.constructors import what_and_where
from ppo2.numerics.compilation import memory_limit, place_of
from ppo2.system import processors, runtime
from ppo2.system.text import human_bytes, install_command

EXTRAS = {
    "atari": (("ale_py", "cv2"), "Atari's games (ALE/Pong-v5)"),
    "box2d": (("Box2D",), "LunarLander, BipedalWalker, CarRacing"),
    "minigrid": (("minigrid",), "MiniGrid and BabyAI"),
    "mujoco": (("mujoco",), "MuJoCo's tasks (HalfCheetah-v5)"),
    "jax-envs": (("gymnax", "brax", "xminigrid"), "environments in JAX (gymnax:, brax:, xminigrid:)"),
    "onnx": (("onnx", "onnxruntime"), "`ppo2 export --onnx`"),
    "hub": (("huggingface_hub",), "`ppo2 push`, and models by hf://user/name"),
    "video": (("imageio", "imageio_ffmpeg"), "films"),
    "play": (("pygame",), "windows to watch in"),
    "tensorboard": (("tensorboardX",), "logs for TensorBoard"),
    "wandb": (("wandb",), "logs to Weights & Biases"),
    "trackio": (("trackio",), "logs to Trackio"),
    "mlflow": (("mlflow",), "logs to MLflow"),
    "tune": (("optuna",), "`ppo2.callbacks.OptunaPruning`"),
    "ray": (("ray",), "environments on other machines"),
}
"""Modules of each extra, and what they bring."""
NVIDIA = "/proc/driver/nvidia/gpus"
"""Folder of Linux with an entry for each of NVIDIA's cards."""
SHOWN = ("jax", "jaxlib", "gymnasium", "numpy")
"""Packages whose versions are shown in any case."""


def installation() -> Iterator[Finding]:
    """All that is checked without an environment."""
    for check in (python, packages, devices, machine.cores, machine.folders, extras, machine.drawing):
        yield from _safely(check)


def _safely(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # of whatever this machine has
        yield Finding(check.__name__, "warning", f"could not be checked: {what_and_where(error)}")


def python() -> Iterator[Finding]:
    """Python and this library."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", "ok", f"{version}, {sys.executable}")
    yield Finding("ppo2", "ok", f"{ppo2.__version__}, {Path(ppo2.__file__).parent}")


def packages() -> Iterator[Finding]:
    """Versions of what this library needs, against the lowest that it works with."""
    try:
        wanted = importlib.metadata.requires("ppo2") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "packages", "warning", "ppo2 isn't installed, only found: versions can't be checked", "pip install ."
        )
        wanted = []
    wrong = []
    for line in wanted:
        found = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*>=\s*([\d.]+)\s*$", line.split(";")[0])
        if found is None or "extra ==" in line:
            continue
        name, least = found[1], found[2]
        try:
            have = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing (>= {least})")
            continue
        if _numbers(have) < _numbers(least):
            wrong.append(f"{name} {have} is older than {least}")
    if wrong:
        yield Finding(
            "packages", "fault", "; ".join(wrong), "pip install --upgrade ppo2's dependencies: pip install -U ."
        )
    shown = [f"{name} {importlib.metadata.version(name)}" for name in SHOWN]
    yield Finding("packages", "ok", ", ".join(shown))
    jax, jaxlib = (importlib.metadata.version(name) for name in ("jax", "jaxlib"))
    if _numbers(jax)[:2] != _numbers(jaxlib)[:2]:
        yield Finding(
            "packages",
            "warning",
            f"jax {jax} and jaxlib {jaxlib} are of different releases",
            f"pip install -U jaxlib=={jax}",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3])


def devices() -> Iterator[Finding]:
    """Devices that JAX computes on, and a card that it doesn't use."""
    runtime.begin()
    place = place_of()
    if place is None:
        yield Finding("devices", "fault", "JAX finds no device to compute on", "see JAX_PLATFORMS in the environment")
        return
    limit = memory_limit()
    of = "" if limit is None else f", {human_bytes(limit)} of memory each"
    kinds = {device.device_kind for device in place.devices}
    words = f"{len(place.devices)} x {place.kind} ({', '.join(sorted(kinds))}){of}"
    yield Finding("devices", "ok", words, figures={"kind": place.kind, "count": len(place.devices)})
    cards = _cards()
    if not cards or place.kind != "cpu":
        return
    platforms = runtime.jax_platforms()
    if platforms and "cuda" not in platforms:
        reason, remedy = f"JAX_PLATFORMS={platforms} leaves it out", "unset JAX_PLATFORMS"
    elif not any(importlib.util.find_spec(plugin) for plugin in processors.CUDA_PLUGINS):
        reason, remedy = "JAX has no CUDA here", "pip install -U 'jax[cuda13]' (or jax[cuda12], for older drivers)"
    else:
        reason, remedy = (
            "JAX's CUDA plugin doesn't start",
            "nvidia-smi shows the driver, JAX_PLATFORMS=cuda ppo2 doctor what JAX says",
        )
    yield Finding("devices", "warning", f"there is a card of NVIDIA's that isn't used: {reason}", remedy)


def _cards() -> bool:
    """True if there is a card of NVIDIA's, whether JAX can use it or not."""
    return processors.nvidia_cards() > 0 or Path(NVIDIA).is_dir() or shutil.which("nvidia-smi") is not None


def extras() -> Iterator[Finding]:
    """Extras that are there, and those that are not, with what they would bring."""
    missing = {name: what for name, (modules, what) in EXTRAS.items() if not all(map(_is_there, modules))}
    there = [name for name in EXTRAS if name not in missing]
    yield Finding("extras", "ok", f"installed: {', '.join(there) or 'none'}", figures={"missing": list(missing)})
    for name, what in missing.items():
        yield Finding("extras", "ok", f"without {name}: {what}", install_command(name))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
