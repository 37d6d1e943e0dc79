"""The programs that are measured: their interpreters, and one measurement in a fresh process."""

import dataclasses
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
TIMEOUT = 900.0  # seconds that one measurement may take

Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A library and the script that measures it.

    Attributes:
        script: file in `bench/peers`; it may not bear the name of a package that it imports.
        variants: ways to run it, as the settings that its script is told.
        requirements: arguments of `pip install`, call by call, in an environment of its own; none for ours.
    """

    name: str
    script: str
    title: str
    variants: Mapping[str, Settings]
    requirements: tuple[tuple[str, ...], ...] = ()


OURS = Program(
    name="ours",
    script="ours.py",
    title="ppo2",
    variants={"configured": {"configure_runtime": True}, "plain": {"configure_runtime": False}},
)

PEERS = {
    program.name: program
    for program in (
        Program(
            name="sb3",
            script="sb3.py",
            title="Stable-Baselines3",
            variants={"1 thread": {"threads": 1}, "default threads": {"threads": None}},
            # torch first and pinned: later requirements would take another
            requirements=(
                ("torch==2.13.0",),
                ("stable-baselines3>=2.9,<2.10", "gymnasium[mujoco]", "ale-py", "opencv-python-headless"),
            ),
        ),
    )
}

OURS_ON_DEVICE = Program(
    name="ours",
    script="ours_device.py",
    title="ppo2",
    variants={"configured": {"devices": None}, "1 device": {"devices": 1}},
)

DEVICE_PEERS = {
    program.name: program
    for program in (
        Program(
            name="rejax",
            script="rejax_ppo.py",
            title="rejax",
            variants={"jitted": {}},
            # other versions of gymnax break it; gymnax imports six without declaring it
            requirements=(("rejax==0.1.3", "gymnax==0.0.9", "six"),),
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Contender:
    """A program in one of its variants, with the interpreter that runs it."""

    program: Program
    variant: str
    python: Path

    @property
    def title(self) -> str:
        return f"{self.program.title}, {self.variant}"

    def measure(self, what: str, *, cache: Path | None = None, timeout: float = TIMEOUT, **job: Any) -> dict[str, Any]:
        """One measurement in a fresh process.

        Args:
            what: a measure that the program's script knows.
            cache: where JAX keeps compiled programs; None: nowhere (but where `configure_runtime` says).
            timeout: seconds that it may take.
            job: what else the script is told.

        Raises:
            RuntimeError: the process failed; the message has the end of what it wrote.
        """
        environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
        if cache is not None:
            environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        settings = {**self.program.variants[self.variant], **job, "measure": what, "started": time.monotonic()}
        done = subprocess.run(
            [self.python, BENCH / "peers" / self.program.script, json.dumps(settings)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise RuntimeError(f"{self.title}, measuring {what}, failed ({done.returncode}):\n{done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result


def interpreter(program: Program, given: Path | None) -> Path:
    """The Python that runs a program: the one given, this one for ours, or that of an environment made here if absent.

    Raises:
        subprocess.CalledProcessError: a peer could not be installed.
    """
    if given is not None:
        return given
    if not program.requirements:
        return Path(sys.executable)
    folder = BENCH / ".venvs" / program.name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / ".ready"  # written last: an installation that broke off begins again
    if not ready.exists():
        print(f"installing {program.title} in {folder} ...", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        for requirements in program.requirements:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        ready.touch()
    return python
