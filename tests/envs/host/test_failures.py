"""Failures of environments: reported once in full, survived in training, and too many of them."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.envs.host.failures import EnvFailure, EnvironmentFailureError, FailureLog
from ppo2.envs.host.vector import HostVectorEnv
from support.host_envs import FAILURES, Counting, once


def test_failing_on_and_on_ends_it(made: Any) -> None:
    env = made([lambda i=i: Counting(i, at=1, what=lambda: 1 / 0) for i in range(8)], workers=1)
    env.reset(seed=0)
    with pytest.raises(EnvironmentFailureError, match=r"(?s)failed, after 3 failures.*ZeroDivisionError"):
        env.step(np.zeros(8, int))


def test_a_failure_is_told_in_full_once(capsys: Any) -> None:
    failures = FailureLog()
    text = "Traceback\n  somewhere\nValueError: broken\n"
    failures.note([EnvFailure(1, text)])
    failures.note([EnvFailure(2, text)])
    told = capsys.readouterr().err
    assert told.count("somewhere") == 1
    assert "environment 2 failed again and begins anew: ValueError: broken" in told


def test_training_survives_a_killed_worker_and_gives_up_with_a_checkpoint(tmp_path: Path, capfd: Any) -> None:
    act = once(tmp_path / "done", lambda: os.kill(os.getpid(), signal.SIGKILL))

    def factory() -> Any:
        return Counting(0, at=4 if os.getpid() != parent else -1, what=act)

    parent = os.getpid()
    env = HostVectorEnv([factory] * 4, workers=1)
    model = ppo2.learn(env=env, total_timesteps=4 * 16 * 3, nsteps=16, seed=0, run_dir=tmp_path / "run")
    env.close()
    assert "killed by signal 9" in capfd.readouterr().err
    assert int(model.state.counters.updates) == 3
    rows = (tmp_path / "run" / "monitor.csv").read_text().splitlines()[2:]
    assert {float(row.split(",")[0]) for row in rows} == {15.0}  # 1 + 2 + 3 + 4 + 5: none that was cut short

    def failing(number: int = 0) -> Any:
        return Counting(number, length=100, at=40, what=lambda: 1 / 0)

    env = HostVectorEnv([failing] * 4, workers=1)
    with pytest.raises(EnvironmentFailureError, match="ZeroDivisionError"):
        ppo2.learn(env=env, total_timesteps=4 * 16 * 4, nsteps=16, seed=0, run_dir=tmp_path / "other")
    env.close()
    assert ppo2.load(tmp_path / "other").state.counters.updates == 2


def test_what_a_lost_process_stepped_is_no_experience_in_two_groups(tmp_path: Path) -> None:
    kill = once(tmp_path / "killed", FAILURES["is killed"][0])
    env = HostVectorEnv([lambda i=i: Counting(i, 8, 5 if i == 3 else -1, kill) for i in range(4)], workers=1, groups=2)
    model = ppo2.learn(env=env, total_timesteps=4 * 30, nsteps=30, seed=0, nminibatches=1, run_dir=tmp_path / "run")
    env.close()
    assert int(model.state.counters.updates) == 1
    assert (tmp_path / "killed").exists()
    rows = (tmp_path / "run" / "monitor.csv").read_text().splitlines()[2:]
    assert {row.rsplit(",", 2)[0] for row in rows} == {"36.0,8"}  # 1 + ... + 8: none that was cut short


def test_a_bad_reward_is_blamed_on_the_environment_of_the_second_group_that_gave_it(tmp_path: Path) -> None:
    class Nan(Counting):
        def step(self, action: Any) -> Any:
            obs, reward, *rest = super().step(action)
            return obs, np.nan if self.number == 3 and self.t == 4 else reward, *rest

    env = HostVectorEnv([lambda i=i: Nan(i) for i in range(4)], workers=1, groups=2)
    with pytest.raises(ValueError, match=r"update 1: a reward is NaN or infinite; environment 3 gave it at step 3 of"):
        ppo2.learn(env=env, total_timesteps=4 * 8, nsteps=8, seed=0, nminibatches=1)
    env.close()
