"""The programs that are measured: their interpreters, and one measurement in a fresh process."""

import contextlib
import dataclasses
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
TIMEOUT = 900.0  # seconds that one measurement may take
NOT_PASSED_ON = {
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "PYTHONDONTWRITEBYTECODE",
}
"""Environment variables of this process that the measured ones don't get: they may keep all programs that they compile,
and the bytecode of their sources, as packages that pip has installed have theirs."""

Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A library and the script that measures it.

    Attributes:
        script: file in `bench/peers`; it may not bear the name of a package that it imports.
        variants: ways to run it, as the settings that its script is told.
        requirements: arguments of `pip install`, call by call, in an environment of its own; none for ours.
        networks: values of `Workload.network` that it has.
    """

    name: str
    script: str
    title: str
    variants: Mapping[str, Settings]
    requirements: tuple[tuple[str, ...], ...] = ()
    networks: tuple[str, ...] = ("mlp", "cnn", "lstm")


OURS = Program(
    name="ours",
    script="ours.py",
    title="ppo2",
    # a script that says nothing, one that calls `ppo2.configure_runtime`, and one under PPO2_CONFIGURE=0
    variants={
        "plain": {"configure_runtime": None},
        "configured": {"configure_runtime": True},
        "PPO2_CONFIGURE=0": {"configure_runtime": False},
    },
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
        Program(
            name="sbx",
            script="sb3.py",
            title="SBX",
            variants={"jitted": {"library": "sbx"}},
            requirements=(("torch==2.13.0",), ("sbx-rl", "stable-baselines3>=2.9,<2.10", "gymnasium[mujoco]")),
            networks=("mlp",),
        ),
    )
}

RECURRENT_PEERS = {
    "contrib": Program(
        name="contrib",
        script="sb3.py",
        title="sb3-contrib's RecurrentPPO",
        variants=PEERS["sb3"].variants,
        requirements=(("torch==2.13.0",), ("sb3-contrib>=2.9,<2.10", "gymnasium")),
    )
}

OURS_ON_DEVICE = Program(
    name="ours",
    script="ours_device.py",
    title="ppo2",
    variants={"configured": {"devices": None}, "1 device": {"devices": 1}},
)

OURS_IN_SWEEPS = Program(name="ours", script="ours_sweeps.py", title="ppo2", variants={"plain": {}})

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
    """A program in one of its variants, with the interpreter that runs it.

    Attributes:
        environment: variables of its processes, beside those of this one.
    """

    program: Program
    variant: str
    python: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.program.title}, {self.variant}"

    def measure(self, what: str, *, cache: Path | None = None, timeout: float = TIMEOUT, **job: Any) -> dict[str, Any]:
        """One measurement in a fresh process.

        Args:
            what: a measure that the program's script knows.
            cache: where JAX keeps compiled programs; None: where ppo2 says.
            timeout: seconds that it may take.
            job: what else the script is told.

        Raises:
            RuntimeError: the process failed; the message has the end of what it wrote.
        """
        done = subprocess.run(
            [*self.command, self.job(what, job)],
            env=self.variables(cache),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise RuntimeError(f"{self.title}, measuring {what}, failed ({done.returncode}):\n{done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    @property
    def command(self) -> list[str | Path]:
        """The program's process, but for its job."""
        return [self.python, BENCH / "peers" / self.program.script]

    def job(self, what: str, job: Mapping[str, Any]) -> str:
        """A measurement, as the program's script is told of it."""
        return json.dumps({**self.program.variants[self.variant], **job, "measure": what, "started": time.monotonic()})

    def variables(self, cache: Path | None) -> dict[str, str]:
        """The environment variables of the program's process."""
        own = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
        kept = {} if cache is None else {"JAX_COMPILATION_CACHE_DIR": str(cache)}
        return {**own, **self.environment, **kept}


class Session:
    """A process of a contender that makes one measurement after another, so that the later ones find what the first
    has compiled. A context manager: leaving it ends the process.

    Args:
        cache: see `Contender.measure`.
    """

    def __init__(self, contender: Contender, *, cache: Path | None = None) -> None:
        self._contender = contender
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - until the process ends
        self._process = subprocess.Popen(
            [*contender.command, "-"],
            env=contender.variables(cache),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def ask(self, what: str, **job: Any) -> None:
        """Begins a measurement: `answer` gives its result."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` says how it ended
            self._process.stdin.write(self._contender.job(what, job) + "\n")
            self._process.stdin.flush()

    def answer(self, timeout: float) -> dict[str, Any]:
        """The result of the measurement asked for last.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
            RuntimeError: the process ended; the message has the end of what it wrote.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"{self._contender.title} took longer than {timeout:.0f} s.") from None
            if line is None:
                code = self._process.wait()
                self._errors.seek(0)
                raise RuntimeError(f"{self._contender.title} failed ({code}):\n{self._errors.read()[-2000:]}")
            if line.startswith("{"):  # libraries print, too
                result: dict[str, Any] = json.loads(line)
                return result

    def measure(self, what: str, timeout: float, **job: Any) -> dict[str, Any]:
        """`ask` and `answer`."""
        self.ask(what, **job)
        return self.answer(timeout)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


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
