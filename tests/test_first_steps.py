"""The first steps of a newcomer: CartPole is learned, by command on the host and from Python on the device."""

from pathlib import Path

import pytest

import ppo2
from ppo2.cli import main

pytestmark = pytest.mark.core


def test_a_command_learns_and_another_evaluates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    words = ["train", "CartPole-v1", "--total-timesteps", "32768", "--seed", "0", "--run-dir", str(run)]
    assert main(words) == 0
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"00064.safetensors"}
    capsys.readouterr()
    assert main(["eval", str(run), "--episodes", "20"]) == 0
    mean = float(capsys.readouterr().out.split("return")[1].split()[0])
    assert mean > 300  # of at most 500; a random policy reaches 22


def test_a_device_environment_is_learned() -> None:
    pytest.importorskip("gymnax")
    env = "gymnax:CartPole-v1"
    model = ppo2.learn(env=env, total_timesteps=65_536, num_envs=32, nsteps=64, lr=1e-3, seed=0, value_network="copy")
    assert ppo2.evaluate(model, env, episodes=32).mean > 150  # where training has reached 220
