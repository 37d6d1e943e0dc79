"""The worker process as it starts and ends: real processes and real signals."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from support.host_envs import Counting

SCRIPT = """
import os, sys, jax
from ppo2.envs.host.vector import HostVectorEnv
print("main runs")
class Own(__import__("gymnasium").Env):  # of __main__
    import numpy as np, gymnasium as gym
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return self.np.zeros(2, "f"), {}
    def step(self, action):
        return self.np.array([os.getpid() % 2, "jax" in sys.modules], "f") / 2, 1.0, False, False, {}
gym = Own.gym
gym.register("Own-v0", entry_point="__main__:Own")
env = HostVectorEnv([lambda: gym.make("Own-v0")] * 2, workers=1)
env.reset(seed=0)
print("imports jax:", env.step([0, 0])[0][:, 1].tolist())
print("worker", env._pool.workers[-1].process.pid)
{end}
"""


def shared_names() -> set[str]:
    """Names of ours in the memory that processes share."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir() if "ppo2" in path.name} if folder.is_dir() else set()


def run_script(end: str, tmp_path: Path) -> "subprocess.Popen[str]":
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).replace("{end}", end))
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)


def worker_of(output: list[str]) -> int:
    return int(next(line for line in output if line.startswith("worker")).split()[1])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("end", ["env.close()", "", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_no_main_guard_no_jax_and_nothing_left_behind(end: str, tmp_path: Path) -> None:
    before = shared_names()
    process = run_script("sys.stdout.flush(); " + end, tmp_path)
    output = process.communicate(timeout=60)[0].splitlines()
    assert output.count("main runs") == 1
    assert "imports jax: [0.5, 0.0]" in output
    wait_until_gone(worker_of(output))
    left = shared_names() - before
    for _ in range(200):  # other tests, which run beside this one, have names for a moment
        left &= shared_names()
        if not left:
            return
        time.sleep(0.05)
    pytest.fail(f"left behind: {left}")


def test_signals_are_for_the_parent(made: Any) -> None:
    env = made([lambda: Counting(0)] * 2, workers=1)
    worker = int(env.reset(seed=0)[0][1, 0])
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker, number)
        obs, *_, infos = env.step([0, 0])
        assert obs[1, 0] == worker
        assert "failed" not in infos
