"""The command and the call that repeat a run make the same settings again."""

import ast
import dataclasses
import inspect
import json
import shlex

import pytest

from ppo2.cli import main, train
from ppo2.cli.env_options import EnvArgument, read, separated
from ppo2.config import Config, separate_settings
from ppo2.reporting.repeat import command_line, objects_in, python_call

SETTINGS = [
    {
        "seed": 3,
        "lr": "linear:1e-3",
        "target_kl": 0.03,
        "value_cliprange": None,
        "normalize_obs": True,
        "info_keys": ("a", "b"),
    },
    {"network": "lstm", "num_envs": 4, "nsteps": 32, "normalize_obs": True, "bootstrap_truncated": False},
    {"network_kwargs": {"num_hidden": 8, "layer_norm": True}, "total_timesteps": 40960, "keep": 2},
]


def saved(settings):
    config = Config(**{"env": "CartPole-v1", "seed": 1, "network": "mlp", "total_timesteps": 1e5, **settings})
    return config, json.loads(json.dumps(config.to_json()))


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_command_makes_the_same_settings(settings, monkeypatch):
    config, data = saved(settings)
    line = command_line(data)
    words = shlex.split(line.replace("\\\n", ""))
    assert words[:3] == ["ppo2", "train", "CartPole-v1"]
    given = {}
    monkeypatch.setattr(train, "_learn", lambda values, **_: given.update(values) or 0)
    monkeypatch.setattr(train, "start_processes", lambda **_: None)
    assert main([*words[1:], "--run-dir", "None"]) == 0
    mine = _config(given)
    assert config.network_kwargs.items() <= mine.network_kwargs.items()  # beside which there are defaults
    assert dataclasses.replace(mine, network_kwargs=config.network_kwargs) == config


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_call_makes_the_same_settings(settings):
    config, data = saved(settings)
    call = ast.parse(python_call(data)).body[-1].value
    assert ast.unparse(call.func) == "ppo2.learn"
    assert _config({keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}) == config


def _config(arguments):
    settings, others = separate_settings(arguments)
    options = ("run_dir", "load_path", "load_parts", "progress", "verbose", "eval_env")
    network_kwargs = {name: value for name, value in others.items() if name not in options}
    given = {name: settings.get(name) or {} for name in ("env_kwargs", "log_options")}
    return Config(**{**settings, **given, "network_kwargs": network_kwargs})


def test_objects_are_named_and_have_no_command():
    _, data = saved({})
    data |= {"env": {"object": "MyEnv"}, "lr": {"object": "warm_up"}}
    assert objects_in(data) == ["env", "lr"]
    assert command_line(data) is None
    assert "env=<MyEnv>," in python_call(data)


def test_what_a_stranger_wrote_is_quoted():
    data = {"env": "X-v0; rm -rf ~", "seed": "$(id)", "network_kwargs": {"a=1); import os #": 1, "b": "'\n"}}
    words = shlex.split(command_line(data).replace("\\\n", ""))
    assert words == ["ppo2", "train", "X-v0; rm -rf ~", "--seed", "$(id)", "--b", "'\n"]
    ast.parse(python_call(data))
    assert "import os" not in python_call(data)


def test_a_preset_adds_nothing_that_the_run_had_not():
    """Encoders for images in a Dict, and sizes of the network."""
    _, data = saved({"env": "elsewhere/Parts-v0"})
    assert "--encoders None" in command_line(data)
    assert "--encoders" not in command_line(saved({})[1])
    brax = command_line(saved({"env": "brax:ant", "network_kwargs": {"num_hidden": 8}})[1]).replace("\\\n", "")
    assert [word in brax for word in ("--num-layers 2", "--num-hidden 8", "--activation tanh")] == [True] * 3
    assert brax.count("--num-hidden") == 1


def test_environment_arguments():
    data = {"env": "FrozenLake-v1", "seed": 1, "env_kwargs": {"is_slippery": False, "map_name": "8x8"}}
    assert command_line(data) == "ppo2 train FrozenLake-v1 --env.is-slippery false --env.map-name 8x8 --seed 1"
    assert "env_kwargs={'is_slippery': False, 'map_name': '8x8'}," in python_call(data)


def test_a_text_that_reads_as_something_else_is_in_quotes():
    given = {"level": "3", "mode": "-x", "name": "8x8", "flag": "true", "pair": "(1, 2)", "bad": "["}
    words = shlex.split(command_line({"env": "FrozenLake-v1", "env_kwargs": given}).replace("\\\n", ""))
    _, found = separated(words[2:])
    empty = EnvArgument(None, inspect.Parameter.empty, False)
    assert {name: read(word, empty, name) for name, word in found.env.items()} == given
    assert "env_kwargs={'object': 'cube'}" in python_call({"env": "X-v0", "env_kwargs": {"object": "cube"}})
