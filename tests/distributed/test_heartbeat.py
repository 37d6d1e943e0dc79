"""Jobs that can't go on: a process is killed, raises, leaves, hangs or is cut off, and all end."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

import ppo2
from ppo2.checkpoints import checkpoint
from ppo2.distributed import heartbeat
from ppo2.system.exits import FAILED
from ppo2.training.learn import learn
from support.jobs import (
    HEARTBEAT,
    ROOT,
    SMALL,
    WAIT,
    Job,
    call_in_child,
    command,
    episodes_of,
    last_tensors,
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    job = Job(folder, *command(folder / "run"))
    assert job.end() == [0, 0], job.output()
    return folder / "run"


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_if_one_is_killed_all_end_and_the_same_command_goes_on(unbroken: Path, tmp_path: Path, rank: int) -> None:
    job = Job(tmp_path / "first", *command(tmp_path / "run"))
    job.wait_for(checkpoint.file_of(tmp_path / "run", 40))
    job.processes[rank].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    status = job.end()
    assert (status[rank], status[1 - rank]) == (-signal.SIGKILL, FAILED)
    assert time.monotonic() - killed < WAIT / 2
    assert "".join(job.output()).count(f"ppo2: rank {rank} died without a word") == 1
    again = Job(tmp_path / "second", *command(tmp_path / "run"))
    assert again.end() == [0, 0], again.output()
    mine, whole = last_tensors(tmp_path / "run"), last_tensors(unbroken)
    assert mine.keys() == whole.keys()
    for name, tensor in mine.items():
        np.testing.assert_array_equal(tensor, whole[name], err_msg=name)
    assert episodes_of(tmp_path / "run") == episodes_of(unbroken)


class Hanging(CartPoleEnv):
    """CartPole that may hang in its 11th step, in the first rollout."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self.hangs, self.steps = hangs, 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        while self.hangs and self.steps > 10:
            time.sleep(0.1)
        return super().step(action)


def learn_badly(what: str, rank: str) -> None:
    mine = ppo2.distributed.init(heartbeat=HEARTBEAT)
    is_bad = mine.rank == int(rank)

    def update_fn(update: int) -> None:
        if update == 3 and is_bad and what in ("raise", "catch"):
            raise RuntimeError("the disk of this node is full")
        if update == 3 and is_bad and what == "exit":
            sys.exit(3)

    if what == "leave" and is_bad:
        return
    try:
        learn(env=lambda: Hanging(hangs=what == "hang" and is_bad), **SMALL, update_fn=update_fn)
    except RuntimeError:
        if what == "catch":
            time.sleep(WAIT)  # as a notebook does, or a script that goes on
        raise
    raise AssertionError("it ended")


@pytest.mark.parametrize(
    ("what", "rank"),
    [
        ("catch", 1),
        ("hang", 1),
        *(
            pytest.param(what, rank, marks=pytest.mark.slow)
            for what, rank in [("raise", 0), ("raise", 1), ("catch", 0), ("hang", 0), ("exit", 1), ("leave", 1)]
        ),
    ],
)
def test_an_error_or_a_hang_ends_all_and_is_reported_once(tmp_path: Path, what: str, rank: int) -> None:
    job = Job(tmp_path, *call_in_child(learn_badly, what, rank))
    assert job.end() == [FAILED] * 2, job.output()
    words = {
        "raise": "failed: RuntimeError: the disk of this node is full",
        "catch": "failed: RuntimeError: the disk of this node is full",
        "hang": "hangs: the others have waited",
        "exit": "left by sys.exit(3)",
        "leave": "has ended, though the others continue",
    }
    assert "".join(job.output()).count(f"ppo2: rank {rank} {words[what]}") == 1
    assert ("in update_fn" in job.output()[rank]) == (what in ("raise", "catch", "exit"))  # its traceback


def learn_slowly(folder: str, what: str) -> None:
    mine = ppo2.distributed.init(heartbeat=HEARTBEAT)

    def pause(seconds: int) -> None:
        Path(folder, str(mine.rank)).touch()
        if what == "foreign code":  # in which Python hears of no signal
            hashlib.pbkdf2_hmac("sha256", b"", b"", seconds * 10**7)
        else:
            time.sleep(seconds)

    def make() -> gym.Env[Any, Any]:
        if what != "the last update":
            pause(20)
        return gym.make("CartPole-v1")

    def update_fn(update: int) -> None:
        if what == "the last update" and update == 3:
            pause(3)

    learn(env=make, **SMALL, update_fn=update_fn)
    raise AssertionError("it went on")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "rank", "words"),
    [
        ("Python", 1, "ppo2: rank 1 was stopped by SIGTERM"),
        ("foreign code", 1, "ppo2: rank 1 was stopped by SIGTERM"),
        ("foreign code", 0, "ppo2: ended at once by SIGTERM"),
        ("the last update", 0, None),
    ],
)
def test_a_signal_to_one_early_or_late_ends_all(tmp_path: Path, what: str, rank: int, words: str | None) -> None:
    job = Job(tmp_path, *call_in_child(learn_slowly, tmp_path, what))
    job.wait_for(tmp_path / str(rank))
    job.processes[rank].send_signal(signal.SIGTERM)
    assert job.end() == [128 + signal.SIGTERM] * 2, job.output()
    if words is not None:
        assert "".join(job.output()).count(words) == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="network namespaces are root's to make")
def test_two_hosts_whose_link_is_cut(tmp_path: Path) -> None:
    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    hosts, name = ["ppo2a", "ppo2b"], f"ppo2{os.getpid() % 1000}"
    try:
        for i, host in enumerate(hosts):
            ip("netns", "add", host)
            ip("-n", host, "link", "set", "lo", "up")
            if i == 0:
                ip("link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1")
            ip("link", "set", f"{name}{i}", "netns", host)
            ip("-n", host, "addr", "add", f"10.77.0.{i + 1}/24", "dev", f"{name}{i}")
            ip("-n", host, "link", "set", f"{name}{i}", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    processes = []
    try:
        for rank, host in enumerate(hosts):
            # a name that the other one knows: /etc/hosts of a mount namespace of its own
            (tmp_path / f"hosts{rank}").write_text("127.0.0.1 localhost\n10.77.0.1 ppo2a\n10.77.0.2 ppo2b\n")
            inside = f'mount --bind {tmp_path}/hosts{rank} /etc/hosts && hostname {host} && exec "$@"'
            into = ["ip", "netns", "exec", host, "unshare", "-m", "-u", "sh", "-c", inside, "sh"]
            with (tmp_path / f"{rank}.err").open("w") as err:
                processes.append(
                    subprocess.Popen(
                        [*into, *call_in_child(learn_until_cut, tmp_path / "run", "10.77.0.1:12345", rank)],
                        cwd=ROOT,
                        stderr=err,
                        env={**os.environ, "JAX_PLATFORMS": "cpu"},  # two processes can't share a card
                    )
                )
        deadline = time.monotonic() + WAIT
        while not checkpoint.file_of(tmp_path / "run", 20).exists():
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in processes), (tmp_path / "0.err").read_text()
            time.sleep(0.05)
        ip("-n", hosts[0], "link", "set", f"{name}0", "down")
        assert [process.wait(HEARTBEAT * 10) for process in processes] == [FAILED] * 2
        assert "rank 1 hasn't been heard of" in (tmp_path / "0.err").read_text()
        assert "rank 0 hasn't been heard of" in (tmp_path / "1.err").read_text()
    finally:
        for process in processes:
            process.kill()
        for host in hosts:
            ip("netns", "del", host)


def learn_until_cut(run_dir: str, coordinator: str, rank: str) -> None:
    ppo2.distributed.init(coordinator, 2, int(rank), heartbeat=HEARTBEAT)
    small = {**SMALL, "total_timesteps": 1e9}
    learn(env="CartPole-v1", **small, run_dir=run_dir, save_interval=20)


def abort() -> None:
    """Aborts as JAX's runtime does where rank 0 is gone, after the delay is set up."""
    heartbeat._delay_aborts()
    os.abort()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_an_abort_waits_for_the_heartbeat_and_then_goes_on() -> None:
    began = time.monotonic()
    done = subprocess.run(call_in_child(abort), cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == -signal.SIGABRT
    assert time.monotonic() - began > signal.SIGABRT  # seconds, as its number is the argument of `sleep`
