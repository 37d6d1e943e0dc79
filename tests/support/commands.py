"""The command line in processes of its own."""

import json
import os
import subprocess
import sys
import time

ENVIRONMENT = """
import os, time
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv


class Slow(CartPoleEnv):
    def step(self, action):
        time.sleep(float(os.environ.get("SLOW", "0")))
        return super().step(action)


gym.register("Slow-v0", entry_point=Slow, max_episode_steps=100, reward_threshold=5.0)
"""
TINY = ["--num-envs", "2", "--nsteps", "32", "--nminibatches", "2", "--noptepochs", "1", "--log-interval", "1"]


def start(place, *arguments, slow=0.0):
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "PPO2_LOG_FORMAT")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ |= {"SLOW": str(slow), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "ppo2", *map(str, arguments)],
        cwd=place,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def interrupt(process, run_dir, number):
    """Sends the signal once the first update has been logged."""
    rows = run_dir / "progress.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and not (rows.exists() and rows.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    return finish(process)


def rows_of(run_dir):
    return [json.loads(line) for line in (run_dir / "progress.jsonl").read_text().splitlines()]
