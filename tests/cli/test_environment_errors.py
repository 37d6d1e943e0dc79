"""Errors of environments on the command line: the traceback from where their own code was called."""

import re

import pytest

from ppo2.cli import main
from ppo2.cli.output import environment_traceback
from ppo2.envs.host.failures import EnvironmentFailureError

pytestmark = pytest.mark.usefixtures("quickly_compiled")

MODULE = """
import gymnasium as gym
import numpy as np

class Broken(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, where="step"):
        self.where, self.steps = where, 0
        self.turn("init")

    def turn(self, where):
        if where == self.where:
            raise ValueError("bad wheel")

    def reset(self, *, seed=None, options=None):
        self.turn("reset")
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        self.turn("step" if self.steps < 30 else "late")
        outcome = np.zeros(1, np.float32), 1.0, False, False, {}
        return outcome[:4] if self.where == "four" else outcome

for where in ("init", "reset", "step", "late", "four"):
    gym.register(f"Broken-{where}-v0", entry_point=Broken, kwargs={"where": where})
"""


def run(where, capsys, tmp_path, monkeypatch):
    (tmp_path / "broken_envs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    words = [
        "--num-envs",
        "1",
        "--nsteps",
        "200",
        "--total-timesteps",
        "200",
        "--nminibatches",
        "2",
        "--num-hidden",
        "4",
    ]
    assert main(["train", f"broken_envs:Broken-{where}-v0", "--run-dir", "None", "--no-progress", *words]) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("where", ["init", "reset", "step", "late"])
def test_the_traceback_of_an_environments_code_is_shown(where, capsys, tmp_path, monkeypatch):
    err = run(where, capsys, tmp_path, monkeypatch)
    assert "Traceback (most recent call last):" in err
    assert 'broken_envs.py", line 15, in turn' in err
    assert err.count("\nValueError: bad wheel\n") == (1 if where != "late" else 2)
    if where == "step":
        assert "/ppo2/" not in err  # from there on
        assert "environment 0 raised it within the first 10 steps" in err
    lasts = {
        "init": "`env` (='broken_envs:Broken-init-v0') could not be made: its constructor raised ValueError: bad wheel",
        "late": "environment 0 failed, after 3 failures before",
    }
    last = lasts.get(where, "the environment raised ValueError: ")
    assert err.splitlines()[-1].startswith(f"ppo2: {last}")


def test_a_broken_contract_takes_one_line(capsys, tmp_path, monkeypatch):
    err = run("four", capsys, tmp_path, monkeypatch)
    assert re.fullmatch(r"ppo2: `env`: Broken\.step\(\) returned 4 values; .*\n", err)


def test_a_traceback_of_another_process_is_in_the_notes():
    error = KeyError("x")
    error.add_note('Traceback (most recent call last):\n  File "/users/env.py", line 3, in step\nKeyError: 5\n')
    assert environment_traceback(error).splitlines()[1] == '  File "/users/env.py", line 3, in step'
    failure = EnvironmentFailureError(
        "it failed:\nTraceback (most recent call last):\n  File 'there'\n  File \"/e.py\", line 1, in f\nE: x"
    )
    assert environment_traceback(failure).startswith("Traceback")
    assert environment_traceback(ValueError("`nsteps` (=0)")) is None


def test_an_unknown_command_is_told_the_nearest(capsys):
    assert main(["trian", "CartPole-v1"]) == 2
    assert capsys.readouterr().err.startswith("ppo2: there is no command 'trian'; did you mean 'train'? Available")
