"""The model of a training that was broken off: returned to a person, kept for a script."""

import builtins
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from support.device_envs import Unending
from support.environments import Script
from support.runs import learn, params

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SECOND = [signal.SIGINT, signal.SIGINT]


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One signal right after another is a second one."""
    monkeypatch.setattr("ppo2.system.signals.SAME_SECONDS", 1e-6)


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)


def at(update: int, *numbers: int) -> Callable[[int], None]:
    def update_fn(now: int) -> None:
        if now == update:
            for number in numbers:
                os.kill(os.getpid(), number)

    return update_fn


@pytest.mark.parametrize("env", [Script, Unending()], ids=["host", "device"])
@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], SECOND])
def test_a_script_gets_the_model(env: Any, numbers: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []

    def update_fn(update: int, model: Any) -> None:
        seen.append(params(model))
        at(2, *numbers)(update)

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        learn(env=env, update_fn=update_fn)
    model = ppo2.interrupted()
    assert isinstance(model, ppo2.Model)
    assert int(model.state.counters.updates) == 2
    np.testing.assert_array_equal(params(model), seen[1])
    name = signal.Signals(numbers[0]).name
    told = f"stopped by {name} after update 2 of 4; ppo2.interrupted() returns the model, which is saved nowhere"
    assert told in capsys.readouterr().out
    assert model.predict(np.zeros(1, np.float32))[0].shape == ()


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("env", [Script, Unending()], ids=["host", "device"])
def test_a_person_gets_it_returned(env: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = learn(env=env, update_fn=at(2, signal.SIGINT))
    assert int(model.state.counters.updates) == 2
    assert ppo2.interrupted() is model
    assert "stopped by SIGINT after update 2 of 4; the model so far is returned" in capsys.readouterr().out
    for numbers in ([signal.SIGTERM], SECOND):  # the end of the kernel; a second Ctrl-C
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            learn(env=env, update_fn=at(3, *numbers))
        assert ppo2.interrupted().state.counters.updates == 3


def test_with_a_run_directory_it_says_where_it_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for numbers in ([signal.SIGINT], SECOND):
        run_dir = tmp_path / str(len(numbers))
        with pytest.raises(KeyboardInterrupt):
            learn(run_dir=run_dir, update_fn=at(3, *numbers))
        assert f"stopped by SIGINT after update 3 of 4; saved in {run_dir}" in capsys.readouterr().out
        np.testing.assert_array_equal(params(ppo2.load(run_dir)), params(ppo2.interrupted()))


def test_before_the_first_update_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        learn(update_fn=at(1, signal.SIGINT))
    assert ppo2.interrupted() is not None
    with pytest.raises(KeyboardInterrupt):
        learn(init_fn=lambda: os.kill(os.getpid(), signal.SIGINT))
    assert "stopped by SIGINT before the first update" in capsys.readouterr().out
    assert ppo2.interrupted() is None
    learn()
    assert ppo2.interrupted() is None


def test_what_an_error_broke_off_is_kept_as_well() -> None:
    def update_fn(update: int) -> None:
        if update == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        learn(update_fn=update_fn)
    assert ppo2.interrupted().state.counters.updates == 3


class Stops(Script):
    """Sends SIGINT at its 20th step."""

    steps = 0

    def step(self, action: Any) -> Any:
        Stops.steps += 1
        if Stops.steps == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(action)


@pytest.mark.parametrize("interactive", [False, True])
def test_a_sweep_is_one_training(interactive: bool, request: Any, capsys: pytest.CaptureFixture[str]) -> None:
    if interactive:
        request.getfixturevalue("person")
    Stops.steps = 0
    env = gym.vector.SyncVectorEnv([lambda: Stops()])
    settings: dict[str, Any] = {"nsteps": 16, "total_timesteps": 64, "num_hidden": 4, "nminibatches": 1}
    settings["log_interval"] = 1
    if interactive:
        result: Any = ppo2.sweep(env=env, seed=range(3), **settings)
    else:
        with pytest.raises(KeyboardInterrupt):
            ppo2.sweep(env=env, seed=range(3), **settings)
        result = ppo2.interrupted()
    assert ppo2.interrupted() is result
    assert [row["timesteps"] for row in result.table] == [32, 0, 0]  # the update is finished, others don't begin
    assert "interrupted()" not in capsys.readouterr().out
