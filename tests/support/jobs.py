"""Jobs of two real processes on this machine, and what they learn."""

import csv
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from ppo2.checkpoints import checkpoint
from support.children import STRICT_PYTHON

ROOT = Path(__file__).parent.parent.parent
WAIT = 120.0
"""Seconds that a job may take."""
HEARTBEAT = 3.0

SMALL: dict[str, Any] = {
    "num_envs": 4,
    "nsteps": 32,
    "total_timesteps": 3 * 128,
    "shards": 2,
    "nminibatches": 2,
    "noptepochs": 2,
}
"""Arguments of `learn` for three updates."""

COMMAND = [
    *(sys.executable, "-m", "ppo2", "train", "CartPole-v1", "--num-envs", "4", "--nsteps", "16", "--nminibatches", "2"),
    *("--noptepochs", "2", "--num-hidden", "8", "--seed", "1", "--save-interval", "20", "--log-interval", "20"),
    *("--no-progress", "--auto-resume"),
]


class Job:
    """Two processes of one command, in which RANK stands for the rank of each."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.processes = []
        for rank in range(2):
            mine = {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(rank),
                "JAX_PLATFORMS": "cpu",  # two processes can't share a card
            }
            own = [part.replace("RANK", str(rank)) for part in command]
            with (folder / f"{rank}.out").open("w") as out, (folder / f"{rank}.err").open("w") as err:
                self.processes.append(
                    subprocess.Popen(own, stdout=out, stderr=err, cwd=ROOT, env={**os.environ, **mine, **environment})
                )

    def output(self, what: str = "err") -> list[str]:
        """The output of each."""
        return [(self.folder / f"{rank}.{what}").read_text() for rank in range(2)]

    def end(self) -> list[int]:
        """The exit statuses, once both have ended."""
        try:
            return [process.wait(WAIT) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def wait_for(self, file: Path) -> None:
        deadline = time.monotonic() + WAIT
        while not file.exists():
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in self.processes), self.output()
            time.sleep(0.01)


def call_in_child(function: Callable[..., None], *arguments: object) -> list[str]:
    """The command that calls a function of a test module in a process of its own."""
    file = Path(function.__code__.co_filename).relative_to(ROOT)
    code = f"import sys, {'.'.join(file.with_suffix('').parts)} as t; t.{function.__name__}(*sys.argv[1:])"
    return [*STRICT_PYTHON, "-c", code, *map(str, arguments)]


def command(run_dir: Path, updates: int = 160) -> list[str]:
    """The command line that trains for so many updates of 64 timesteps."""
    return [*COMMAND, "--total-timesteps", str(updates * 64), "--run-dir", str(run_dir)]


def last_tensors(run_dir: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of the newest checkpoint."""
    return load_file(checkpoint.newest(run_dir))


def episodes_of(run_dir: Path) -> list[tuple[str, str, str]]:
    """Return, length and environment of each episode in monitor.csv."""
    with (run_dir / "monitor.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [(row["r"], row["l"], row["env"]) for row in rows]


def with_devices(count: int) -> str:
    """XLA's flag for so many CPU devices."""
    return f"--xla_force_host_platform_device_count={count}"


def call_on_two_devices(file: str, function: str, folder: Path) -> None:
    """Calls a function of a test's file, given a folder, in a process that has two CPU devices."""
    module = Path(file)
    code = f"import sys, pathlib, {module.stem} as t; t.{function}(pathlib.Path(sys.argv[1]))"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {with_devices(2)}"
    done = subprocess.run(
        [*STRICT_PYTHON, "-c", code, str(folder)],
        cwd=module.parent,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
