"""Processes that environments started, and none that is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ppo2.system import descendants

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system doesn't tell of children")

SLEEP = "import time; time.sleep(60)"
TRAINING = """
import os, subprocess, sys, time
import gymnasium as gym, numpy as np
import ppo2
from ppo2.envs.host.vector import HostVectorEnv

learn = ppo2.learn  # imported before anything is started

class Starts(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (1,), np.float32), gym.spaces.Discrete(2)
    def __init__(self, slow):
        self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open(f"{sys.argv[1]}/{self.child.pid}", "w").close()
        time.sleep(slow)
    def reset(self, **_):
        return np.zeros(1, "f"), {}
    def step(self, action):
        time.sleep(0.01)
        return np.zeros(1, "f"), 1.0, False, False, {}
    def close(self):
        self.child.kill()
        self.child.wait()

if sys.argv[2] == "worker":  # the worker makes its second one for long
    slow = [0.0, 0.0, 60.0]
    env = HostVectorEnv([lambda one=one: Starts(one) for one in slow], workers=1)
else:
    env = lambda: Starts(60.0)
learn(env=env, total_timesteps=1000, nsteps=100, nminibatches=1)
"""


def started() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", SLEEP])


def runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def broken_off(error: BaseException) -> "subprocess.Popen[bytes]":
    """A process that is started before an error."""
    made: list[Any] = []

    def start_and_raise() -> None:
        made.append(started())
        raise error

    with pytest.raises(type(error)), descendants.none_left_on_error():
        start_and_raise()
    return made[0]


def test_an_interrupt_ends_what_was_started_meanwhile() -> None:
    before, meanwhile, failed = started(), broken_off(KeyboardInterrupt()), broken_off(ValueError())
    assert [runs(process.pid) for process in (before, meanwhile, failed)] == [True, False, True]
    with descendants.none_left_on_error() as these:
        another = started()
    assert these == {another.pid}
    for process in (before, meanwhile, failed, another):
        process.kill()
        process.wait()


@pytest.mark.parametrize("where", ["worker", "here"])
def test_a_signal_before_the_first_update_leaves_no_child_of_an_environment(where: str, tmp_path: Path) -> None:
    script, pids = tmp_path / "train.py", tmp_path / "pids"
    pids.mkdir()
    script.write_text(TRAINING)
    process = subprocess.Popen([sys.executable, script, pids, where], stdout=subprocess.DEVNULL)
    deadline, count = time.monotonic() + 60, {"worker": 3, "here": 1}[where]
    while len(list(pids.iterdir())) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    time.sleep(0.2)
    left = [int(file.name) for file in pids.iterdir() if runs(int(file.name))]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left
