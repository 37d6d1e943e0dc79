"""Failures of environments: reported once in full, survived in training, and too many of them."""

import os
import signal
import sys
import traceback
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
    assert {tuple(row.split(",")[:2]) for row in rows} == {("36.0", "8")}  # 1 + ... + 8: none that was cut short


def test_a_bad_reward_is_blamed_on_the_environment_of_the_second_group_that_gave_it(tmp_path: Path) -> None:
    class Nan(Counting):
        def step(self, action: Any) -> Any:
            obs, reward, *rest = super().step(action)
            return obs, np.nan if self.number == 3 and self.t == 4 else reward, *rest

    env = HostVectorEnv([lambda i=i: Nan(i) for i in range(4)], workers=1, groups=2)
    with pytest.raises(ValueError, match=r"update 1: a reward is NaN or infinite; environment 3 gave it at step 3 of"):
        ppo2.learn(env=env, total_timesteps=4 * 8, nsteps=8, seed=0, nminibatches=1)
    env.close()


# --- the first steps


class WheelError(Exception):
    """An error with a class of its own."""


def bad_wheel() -> None:
    raise WheelError("bad wheel")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at", [1, 4])
def test_an_error_in_the_first_steps_is_raised_as_it_is(workers: int, at: int, capfd: Any) -> None:
    """Environment 1 is the worker's where there is one."""
    env = HostVectorEnv([lambda: Counting(0), lambda: Counting(1, at=at, what=bad_wheel)], workers=workers)
    with pytest.raises(WheelError, match="bad wheel") as raised:
        ppo2.learn(env=env, total_timesteps=2 * 8, nsteps=8, seed=0)
    env.close()
    shown = "".join(traceback.format_exception(raised.value))
    assert "in bad_wheel" in shown
    assert "ppo2: environment 1 raised it within the first 10 steps" in shown
    assert "begins anew" not in capfd.readouterr().err


@pytest.mark.parametrize("form", ["factory", "instance"])
def test_an_error_of_the_first_step_comes_from_where_it_was_raised(form: str) -> None:
    def factory() -> Any:
        return Counting(0, at=1, what=lambda: {}["key"])

    with pytest.raises(KeyError, match="key") as raised:
        ppo2.learn(env=factory if form == "factory" else factory(), total_timesteps=64, nsteps=8, seed=0)
    assert traceback.extract_tb(raised.value.__traceback__)[-1].filename == __file__


def test_later_an_environment_that_fails_begins_anew(tmp_path: Path, capfd: Any) -> None:
    act = once(tmp_path / "done", bad_wheel)
    model = ppo2.learn(
        env=lambda: Counting(0, length=30, at=11, what=act), num_envs=2, total_timesteps=2 * 16, nsteps=16, seed=0
    )
    assert int(model.state.counters.updates) == 1
    assert "environment 0 failed and begins anew" in capfd.readouterr().err


def test_an_environment_that_exits_at_first_does_not_end_the_program(capfd: Any) -> None:
    with pytest.raises(EnvironmentFailureError, match="SystemExit"):
        ppo2.learn(env=Counting(0, at=1, what=sys.exit), total_timesteps=8, nsteps=8, seed=0)


def test_the_last_of_too_many_failures_is_the_cause() -> None:
    env = Counting(0, length=50, at=12, what=bad_wheel)
    with pytest.raises(EnvironmentFailureError) as raised:
        ppo2.learn(env=env, total_timesteps=64, nsteps=64, seed=0)
    assert isinstance(raised.value.__cause__, WheelError)


class Picky(Exception):  # noqa: N818
    """An error that can't be made again from its text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_an_error_that_can_not_travel_keeps_its_name() -> None:
    def raise_picky() -> None:
        raise Picky(1, 2)

    env = HostVectorEnv([lambda: Counting(0), lambda: Counting(1, at=1, what=raise_picky)], workers=1)
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match="Picky: 1 and 2"):
        env.step([0, 0])
    env.close()
