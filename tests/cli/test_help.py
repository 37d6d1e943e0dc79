"""Help: groups, defaults of the environment named, and lines that fit."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from ppo2.cli import COMMANDS, main
from ppo2.cli.help import GROUPS
from ppo2.cli.options import network_options
from ppo2.cli.sweep import SweepCommand
from ppo2.cli.train import Train


def shown(capsys, *words):
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [80, 50])
def test_every_page_fits(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    page = shown(capsys, command)
    assert page.startswith(f"Usage: ppo2 {command}")
    assert all(len(line) <= columns for line in page.splitlines() if not line.lstrip().startswith("-"))
    assert "-h, --help" in page


def test_defaults_are_those_of_the_environment_named(capsys):
    page = " ".join(shown(capsys, "train", "FrozenLake-v1").split())
    assert (
        "--nsteps INT steps of each environment between two updates; the batch is num-envs x nsteps. Default: 256."
        in page
    )
    assert "--env.is-slippery true|false Default: true." in page
    assert "--env.map-name TEXT Default: 4x4." in page
    assert "--env.max-episode-steps INT steps after which" in page
    cart = " ".join(shown(capsys, "train", "CartPole-v1").split())
    assert "num-envs x nsteps. Default: 64." in cart
    assert "--env.is-slippery" not in cart


@pytest.mark.parametrize("command", [Train, SweepCommand])
def test_every_option_has_a_group(command):
    named = {name for names in GROUPS.values() for name in names} | {one.name for one in network_options("mlp")}
    assert set(command.with_options([]).__dataclass_fields__) <= named


def test_the_id_of_presets_is_optional(capsys):
    assert "Usage: ppo2 presets [ID] [OPTIONS]" in shown(capsys, "presets")


def test_help_of_an_environment_whose_defaults_are_arrays_or_infinite(capsys, monkeypatch):
    class Odd(gym.Env):
        def __init__(self, at=np.zeros(2), limit=float("inf"), size: [int, float] = 3):  # noqa: B008
            self.observation_space, self.action_space = gym.spaces.Box(0, 1), gym.spaces.Discrete(2)

    monkeypatch.setitem(gym.registry, "Odd-v0", EnvSpec("Odd-v0", Odd))
    assert main(["train", "Odd-v0", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Default: [0. 0.]" in out
    assert "Default: inf" in out
