"""`verbose` of `learn`, `sweep`, `evaluate`, `play` and `make`: what is printed, and what goes to `logging`."""

import logging
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import ppo2
from support.environments import Script
from support.runs import SMALL, SWEPT, learn


def test_a_quiet_call_prints_nothing_and_logs_all(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings of the start, of the episodes and of an environment that fails are warnings of `logging`."""
    made = ppo2.make("CartPole-v1", num_envs=2, verbose=0)
    made.close()
    caplog.set_level(logging.INFO, "ppo2")
    learn(verbose=0, info_keys=["distance"], normalize_obs=True)
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")
    levels = [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "ppo2"]
    assert any(level == logging.INFO and "= 64 timesteps an update" in text for level, text in levels)
    assert any(level == logging.INFO and "mean return" in text for level, text in levels)
    assert [text for level, text in levels if level == logging.WARNING and "`info_keys` (=['distance'])" in text]


def test_a_failure_of_an_environment_is_a_warning_of_a_quiet_call(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It fails once, in its twentieth step."""
    left = [20]

    class Failing(Script):
        def step(self, action: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise RuntimeError("it broke")
            return super().step(action)

    ppo2.learn(env=lambda: Failing(3), **{**SWEPT, "num_envs": 1, "total_timesteps": 48}, verbose=0)
    assert capfd.readouterr() == ("", "")
    assert any("environment 0 failed" in r.getMessage() and "it broke" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    ("arguments", "plan", "lines", "summary"),
    [
        ({}, True, False, True),
        ({"verbose": 1}, True, False, True),
        ({"verbose": True}, True, False, True),
        ({"verbose": 2}, True, True, True),
        ({"verbose": 0}, False, False, False),
        ({"verbose": False}, False, False, False),
        ({"verbose": 0, "progress": True}, False, True, False),
        ({"verbose": 1, "progress": True}, True, True, True),
        ({"verbose": 2, "progress": False}, True, False, False),
    ],
)
def test_levels(
    arguments: dict[str, Any], plan: bool, lines: bool, summary: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Levels where no terminal is connected."""
    learn(**arguments, total_timesteps=64)
    out = capfd.readouterr().out
    assert ("batch     4 environments" in out, "update 1/1" in out, "timesteps per second" in out) == (
        plan,
        lines,
        summary,
    )


@pytest.mark.parametrize("verbose", [3, -1, "1", None, [0], 1.0])
def test_no_such_level(verbose: Any) -> None:
    rule = r"must be one of 0 \(prints nothing\), 1 .*, 2 \(progress too\)"
    with pytest.raises(ValueError, match=rf"`verbose` \(=.*\) {rule}"):
        learn(verbose=verbose)
    with pytest.raises(ValueError, match=rule):
        ppo2.make("CartPole-v1", verbose=verbose)


def test_the_table_is_shown_where_it_can_be_updated_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from ppo2.reporting import screens

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    found = [screens.shows_progress(None, verbose) for verbose in (0, 1, 2)]
    monkeypatch.setenv("TERM", "dumb")
    assert [*found, screens.shows_progress(None, 1)] == [False, True, True, False]


def test_quiet_is_for_one_call(capfd: pytest.CaptureFixture[str]) -> None:
    """Calls of an `update_fn` in a quiet `learn` are quiet too; another thread isn't, nor what comes after."""

    def update_fn(update: int, model: Any) -> None:
        ppo2.make("CartPole-v1", num_envs=2).close()
        loud = threading.Thread(target=lambda: ppo2.make("CartPole-v1", num_envs=3).close())
        loud.start()
        loud.join()

    learn(verbose=0, total_timesteps=64, update_fn=update_fn)
    assert capfd.readouterr() == ("", "ppo2: 3 x CartPole-v1, stepped by this process\n")
    ppo2.make("CartPole-v1", num_envs=2).close()
    assert "2 x CartPole-v1" in capfd.readouterr().err


def test_a_frame_is_drawn_in_silence() -> None:
    """The import of pygame, which that needs, would greet on standard output."""
    pytest.importorskip("pygame")
    program = "import ppo2; env = ppo2.make('CartPole-v1', 1, render_mode='rgb_array'); env.reset(); env.render()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_errors_are_raised_all_the_same() -> None:
    with pytest.raises(ValueError, match="`nminibatches`"):
        learn(verbose=0, nminibatches=5)


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_quiet_sweep(parallel: int, capfd: pytest.CaptureFixture[str]) -> None:
    settings = {**SWEPT, "num_envs": 2, "total_timesteps": 64, "seed": [0, 1]}
    result = ppo2.sweep(env="CartPole-v1", **settings, parallel=parallel, verbose=0)
    assert len(result.models) == 2
    assert capfd.readouterr() == ("", "")


def test_a_quiet_evaluation(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    model = ppo2.learn(**{**SMALL, "total_timesteps": 0}, verbose=0)
    loud = ppo2.evaluate(model, "CartPole-v1", episodes=2, max_steps=5)
    assert "were cut" in capfd.readouterr().err
    quiet = ppo2.evaluate(model, "CartPole-v1", episodes=2, max_steps=5, verbose=0)
    assert capfd.readouterr() == ("", "")
    assert any("were cut" in record.getMessage() for record in caplog.records)
    np.testing.assert_array_equal(loud.returns, quiet.returns)


def test_lines_of_workers_are_as_loud_as_the_call(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Locked(Script):
        def reset(self, **how: Any) -> Any:
            obs, _ = super().reset(**how)
            return obs, {"lock": threading.Lock()}

    settings = {**SWEPT, "num_envs": 2, "total_timesteps": 64, "env_kwargs": {"workers": 1}, "info_keys": ["n"]}
    ppo2.learn(env=Locked, **settings, verbose=0)
    assert capfd.readouterr() == ("", "")
    said = [record.getMessage() for record in caplog.records if "info['lock'] is left out" in record.getMessage()]
    assert len(said) == 1
    ppo2.learn(env=Locked, **settings)
    assert capfd.readouterr().err.count("info['lock'] is left out: it can't travel") == 1
