"""Options: those of learn and of the network, under the preset of the environment."""

import dataclasses
import inspect
import re

import pytest

import ppo2
from ppo2 import envs, networks
from ppo2.cli import main, options, sweep, train
from ppo2.distributed import processes
from ppo2.system import launch, runtime


@pytest.mark.core
def test_defaults_of_settings_are_those_of_learn():
    learns = inspect.signature(ppo2.learn).parameters
    for option in options.setting_options():
        assert option.default == learns[option.name].default, option.name
    assert options.TrainingOptions.heartbeat == processes.HEARTBEAT_SECONDS


@pytest.mark.parametrize(("command", "many"), [(train.Train, False), (sweep.SweepCommand, True)])
def test_the_first_reading_knows_every_option(command, many):
    """It looks for the environment and the network, before options of other networks are unknown."""
    fields = [field for field in dataclasses.fields(command.with_options([])) if field.name != "env"]
    words = [f"--{field.name}" if isinstance(field.default, bool) else f"--{field.name}=x" for field in fields]
    assert options._read_loosely(["Env-v0", *words], many) == ("Env-v0", "x", [], "x")


def test_defaults_are_learns_under_the_preset(given):
    arguments = given("train", "CartPole-v1", "--run-dir", "runs/y")
    learns = {name: p.default for name, p in inspect.signature(ppo2.learn).parameters.items()}
    del learns["env"], learns["network_kwargs"]
    expected = learns | ppo2.preset("CartPole-v1") | {"env": "CartPole-v1", "run_dir": "runs/y", "progress": True}
    expected["callbacks"] = []
    expected |= {"num_layers": 2, "num_hidden": 64, "activation": "tanh", "layer_norm": False}
    assert arguments == {k: v for k, v in expected.items() if k not in ("model_fn", "update_fn", "init_fn")}


def test_what_is_given_wins(given):
    arguments = given(
        *("train", "--normalize-obs", "CartPole-v1", "--total-timesteps", "1e6", "--max-grad-norm", "None"),
        *("--value-cliprange", "None", "--lr", "cosine:1e-3", "--cliprange", "0.1", "--seed", "7", "--num-layers", "3"),
        *("--value-network", "None", "--target-kl", "0.02", "--no-progress", "--eval-env", "CartPole-v1"),
    )
    expected = {"total_timesteps": 1e6, "max_grad_norm": None, "value_cliprange": None, "lr": "cosine:1e-3"}
    expected |= {"cliprange": 0.1, "seed": 7, "num_layers": 3, "value_network": None, "target_kl": 0.02}
    expected |= {"progress": False, "eval_env": "CartPole-v1", "normalize_obs": True, "env": "CartPole-v1"}
    assert {name: arguments[name] for name in expected} == expected


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_values_of_several_words(given, command):
    words = ["CartPole-v1", "--encoders", "camera", "cnn_small", "arm/angles", "mlp", "--num-envs", "2"]
    arguments = given(command, *words)
    assert arguments["encoders"] == {"camera": "cnn_small", "arm/angles": "mlp"}
    assert arguments["num_envs"] == 2
    arguments = given(command, "CartPole-v1", "--network", "conv_only", "--convs", *["32", "8", "4", "64", "4", "2"])
    assert arguments["convs"] == ((32, 8, 4), (64, 4, 2))
    assert given("train", "--network", "cnn_lstm", "--nlstm", "32", "CartPole-v1")["nlstm"] == 32


def test_dashes_and_underscores_are_the_same(given):
    words = ("train", "CartPole-v1", "--run-dir", "r", "--total-timesteps", "3e4", "--num-hidden", "8", "--layer-norm")
    with_dashes = given(*words)
    underscored = ["--" + word[2:].replace("-", "_") if word.startswith("--") else word for word in words]
    assert given(*underscored) == with_dashes


def test_processes_join_before_a_library_of_environments_is_imported(monkeypatch):
    """Some start JAX when they are imported, after which no process could join."""
    calls = []
    monkeypatch.setattr(runtime, "leave_accelerators", lambda device: None)
    monkeypatch.setattr(options.launch, "detected", lambda: launch.ALONE._replace(size=2))
    monkeypatch.setattr(options, "start_processes", lambda **how: calls.append(how))
    monkeypatch.setattr(envs, "preset", lambda env: calls.append(env) or {})
    options.choose(["xminigrid:MiniGrid-Empty-5x5", "--heartbeat", "5", "--device=cpu"])
    options.choose(["CartPole-v1"])
    joined = {"device": "cpu", "heartbeat": 5.0, "debug": False}
    assert calls == [joined, "xminigrid:MiniGrid-Empty-5x5", "CartPole-v1"]


@pytest.mark.parametrize("many", [False, True])
def test_devices_are_left_alone_before_a_library_is_imported(many, monkeypatch):
    calls = []
    monkeypatch.setattr(runtime, "leave_accelerators", calls.append)
    monkeypatch.setattr(envs, "preset", lambda env: calls.append(env) or {})
    for device in (["--device", "cpu"], ["--device=cpu"], ["--device=gpu"], []):
        options.choose(["CartPole-v1", *device], many=many)
    assert calls == ["cpu", "CartPole-v1", "cpu", *["CartPole-v1"] * 3]


def test_run_dir_is_named_after_the_environment_the_seed_and_the_time(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = given("train", "CartPole-v1")
    assert re.fullmatch(rf"runs/CartPole-v1-seed{drawn['seed']}-\d{{8}}-\d{{6}}", drawn["run_dir"])
    assert re.fullmatch(r"runs/slow-Slow-v0-seed3-\d{8}-\d{6}", given("train", "slow:Slow-v0", "--seed", 3)["run_dir"])
    swept = given("sweep", "CartPole-v1", "--seeds", 2)["run_dir"]
    assert re.fullmatch(r"runs/sweep-CartPole-v1-seeds2-\d{8}-\d{6}", swept)
    assert list(tmp_path.iterdir()) == []  # nobody wrote there
    assert given("train", "CartPole-v1", "--run-dir", "None")["run_dir"] is None


def test_options_of_a_registered_network(given, capsys, monkeypatch):
    def probe(width: int = 8, *, depth=2, gain: float | None = None, sizes: tuple[int, ...] = (4, 4), f=print):
        """Does nothing.

        Args:
            width: how wide.
        """

    monkeypatch.setitem(networks.registry._builders, "probe", probe)
    arguments = given(
        *("train", "--width", "3", "CartPole-v1", "--network", "probe", "--gain", "0.5", "--sizes", "1", "2")
    )
    assert {name: arguments[name] for name in ("network", "width", "depth", "gain", "sizes")} == {
        "network": "probe",
        "width": 3,
        "depth": 2,
        "gain": 0.5,
        "sizes": (1, 2),
    }
    assert (
        main(["train", "CartPole-v1", "--network", "probe", "--num-layers", "3"]) == 2
    )  # those of mlp are not its own
    capsys.readouterr()
    assert main(["train", "CartPole-v1", "--network", "probe", "--help"]) == 0
    assert "of probe: how wide." in capsys.readouterr().out
    assert main(["networks"]) == 0
    assert "probe  Does nothing.\n  width=8  depth=2" in capsys.readouterr().out
