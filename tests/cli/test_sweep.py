"""`ppo2 sweep`."""

import json
from typing import Any

import pytest

from ppo2.cli import main
from ppo2.cli.sweep import SweepCommand


def test_the_command(capsys: Any, tmp_path: Any) -> None:
    pytest.importorskip("gymnax")
    path = tmp_path / "s"
    words = ["sweep", "gymnax:CartPole-v1", "--seeds", "2", "--lr", "1e-3", "linear:1e-4", "--num-hidden", "8"]
    assert main([*words, "--total-timesteps", "1024", "--run-dir", str(path)]) == 0
    out = capsys.readouterr().out
    assert "sweep     2 values of lr x 2 seeds = 4 runs of 1,024 timesteps" in out
    assert out.split().count("linear:1e-4") == 1
    assert (path / "curves.png").exists()
    assert json.loads((path / "sweep.json").read_text())["fixed"]["gamma"] == 0.98  # the preset's
    assert main(["sweep", "gymnax:CartPole-v1", "--gamma", "1.5", "--run-dir", "None"]) == 1
    assert "`gamma` (=1.5)" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--seeds", "2", "CartPole-v1"], ["CartPole-v1", "--lr", "1e-3", "1e-4"]])
def test_the_preset_is_that_of_the_environment_wherever_it_is_named(words: list[str]) -> None:
    command: Any = SweepCommand.with_options(words)
    assert command.__dataclass_fields__["gamma"].default == (0.98,)
