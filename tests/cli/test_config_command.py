"""`--config FILE` and `ppo2 config`: what is written does what it says, and options win."""

import json

import pytest

import ppo2
from ppo2.cli import main
from ppo2.config import Config, read_settings
from ppo2.reporting.repeat import command_line, python_call

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TINY = ["--num-envs", "2", "--nsteps", "8", "--nminibatches", "2", "--num-hidden", "4", "--total-timesteps", "32"]


def written(capsys, *command):
    """The settings file that a command prints."""
    capsys.readouterr()
    assert main(["config", *command]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        ["CartPole-v1"],
        ["FrozenLake-v1", "--env.is-slippery", "false", "--eval-env", "FrozenLake-v1", "--eval-env.map-name", "4x4"],
        ["Pendulum-v1", "--network", "lstm", "--lr", "cosine:1e-3", "--value-cliprange", "None", "--no-normalize-obs"],
        ["CartPole-v1", "--encoders", "a", "mlp", "--info-keys", "x", "y", "--seed", "3", "--network", "conv_only"],
    ],
)
def test_what_config_writes_is_what_train_does(given, capsys, tmp_path, command):
    direct = given("train", *command, "--run-dir", "r")
    (tmp_path / "mine.yaml").write_text(written(capsys, *command))
    again = given("train", "--config", tmp_path / "mine.yaml", "--run-dir", "r")
    assert {name: again[name] for name in direct} == direct


def test_options_win_over_the_file_and_the_file_over_the_preset(given, tmp_path):
    (tmp_path / "a.yaml").write_text(
        "env: CartPole-v1\nlr: 1e-2\nnsteps: 32\nnormalize_obs: true\nenv_kwargs: {workers: 0}"
    )
    arguments = given("train", "--config", tmp_path / "a.yaml", "--lr", "1e-3", "--env.max-episode-steps", "5")
    assert (arguments["env"], arguments["lr"], arguments["nsteps"]) == ("CartPole-v1", 1e-3, 32)
    assert arguments["env_kwargs"] == {"workers": 0, "max_episode_steps": 5}
    assert arguments["gamma"] == ppo2.preset("CartPole-v1")["gamma"]
    assert given("train", "Acrobot-v1", f"--config={tmp_path / 'a.yaml'}", "--no-normalize-obs")["env"] == "Acrobot-v1"
    assert given("train", "--config", tmp_path / "a.yaml", "--no_normalize_obs")["normalize_obs"] is False


def test_a_runs_own_config_is_the_same_run(tmp_path, capsys):
    words = ["CartPole-v1", *TINY, "--env.max-episode-steps", "9", "--no-progress"]
    assert main(["train", *words, "--run-dir", str(tmp_path / "a")]) == 0
    config = str(tmp_path / "a" / "config.json")
    assert main(["train", "--config", config, "--run-dir", str(tmp_path / "b"), "--no-progress"]) == 0
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    left_out = {"sessions", "versions"}
    assert {k: v for k, v in first.items() if k not in left_out} == {
        k: v for k, v in second.items() if k not in left_out
    }
    rows = [[r.split(",")[:2] for r in (tmp_path / n / "monitor.csv").read_text().splitlines()[2:]] for n in "ab"]
    assert rows[0] == rows[1]
    assert (
        main(["train", "--config", config, "--network", "gru", "--run-dir", str(tmp_path / "c"), "--no-progress"]) == 0
    )
    assert read_settings(tmp_path / "c" / "config.json")["network"] == "gru"
    capsys.readouterr()


def test_sweeps_take_a_file(given, capsys, tmp_path):
    (tmp_path / "a.yaml").write_text(written(capsys, "CartPole-v1", "--seed", "4", "--env.workers", "0"))
    arguments = given("sweep", "--config", tmp_path / "a.yaml", "--seeds", "2", "--lr", "1e-3", "1e-4")
    assert arguments["lr"] == [1e-3, 1e-4]
    assert list(arguments["seed"]) == [0, 1]
    assert (arguments["nsteps"], arguments["env_kwargs"]) == (64, {"workers": 0})
    (tmp_path / "b.yaml").write_text("env: CartPole-v1\nent_coef: [0, 0.01]\n")
    assert given("sweep", "--config", tmp_path / "b.yaml")["ent_coef"] == [0, 0.01]
    (tmp_path / "b.yaml").write_text("env: CartPole-v1\neval_env: CartPole-v1\n")
    assert main(["sweep", "--config", str(tmp_path / "b.yaml")]) == 1
    assert "`eval_env` (='CartPole-v1') is of no use in a sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("env: CartPole-v1\nleraning: 3\nlrr: 1", "`lrr` (=1) is no setting; did you mean `lr`?"),
        ("env: CartPole-v1\nbatch_size: 64", "`nminibatches: 8`; the batch of num_envs * nsteps (=8 * 64 = 512)"),
        ("env: CartPole-v1\nnsteps: many", "`nsteps` (='many') must be a whole number"),
        ("env: CartPol-v1", "CartPole-v1"),
        ("lr: [", "can't be read"),
    ],
)
def test_files_that_can_not_be(tmp_path, capsys, content, words):
    (tmp_path / "a.yaml").write_text(content)
    assert main(["train", "--config", str(tmp_path / "a.yaml"), "--run-dir", "None"]) == 1
    assert words in capsys.readouterr().err


def test_a_file_without_an_environment_needs_one(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("lr: 1e-3")
    assert main(["train", "--config", str(tmp_path / "a.yaml")]) == 2
    assert "ENV" in capsys.readouterr().err


def test_options_that_are_no_settings_are_written_where_they_are_given(capsys):
    lines = written(capsys, "CartPole-v1", "--verbose", "0", "--until-solved").splitlines()
    assert {"verbose: 0", "until_solved: true"} <= {*lines}
    assert not any(line.startswith(("verbose", "debug")) for line in written(capsys, "CartPole-v1").splitlines())


def test_a_run_that_began_from_weights_begins_from_them_again(tmp_path, given):
    zoo = {"env": "CartPole-v1", "value_network": "copy", "total_timesteps": 0, "verbose": 0}
    ppo2.learn(run_dir=tmp_path / "b", load_path="zoo:CartPole-v1", load_parts="weights", **zoo)
    file = tmp_path / "b" / "config.json"
    again = given("train", "--config", file)
    assert (again["load_path"], tuple(again["load_parts"])) == ("zoo:CartPole-v1", ("weights",))
    data = json.loads(file.read_text())
    assert "--load-path zoo:CartPole-v1 --load-parts weights" in command_line(data).replace("\\\n    ", "")
    assert "load_path='zoo:CartPole-v1'," in python_call(data)
    for checkpoint in (tmp_path / "b" / "checkpoints").iterdir():  # as if it was stopped before
        checkpoint.unlink()
    with pytest.raises(ValueError, match=r"had begun from `load_path` \(='zoo:CartPole-v1'\)"):
        ppo2.learn(run_dir=tmp_path / "b", load_path=tmp_path / "b", **zoo)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("progress: no", "`progress` (='no') must be true or false"),  # which is text in YAML 1.2
        ("until_solved: 'off'", "`until_solved` (='off') must be true or false"),
        ("normalize_obs: 1", "`normalize_obs` (=1) must be true or false"),
        ("model_fn: Mine", "`model_fn` (='Mine') is an object, given from Python: take it out"),
    ],
)
def test_values_that_the_command_line_would_not_take(tmp_path, capsys, line, words):
    (tmp_path / "a.yaml").write_text(f"env: CartPole-v1\n{line}\n")
    assert main(["train", "--config", str(tmp_path / "a.yaml")]) == 1
    assert words in capsys.readouterr().err


def test_logs_are_a_list_or_a_text(tmp_path, given):
    (tmp_path / "a.yaml").write_text("env: CartPole-v1\nlog: tensorboard, wandb\n")
    assert Config(log=given("train", "--config", tmp_path / "a.yaml")["log"]).log == ("tensorboard", "wandb")
    arguments = given("train", "CartPole-v1", "--log", "csv,tensorboard", "--wandb")
    assert arguments["log"] == ("csv", "tensorboard", "wandb")
