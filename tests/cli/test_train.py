"""`ppo2 train` and `ppo2 resume`."""

import errno
import json
import os
import re
import shutil
import signal

import gymnasium as gym
import pytest

import ppo2
from ppo2.checkpoints import checkpoint
from ppo2.cli import main
from support.commands import TINY, finish, interrupt, rows_of, start


def test_sigint_leaves_a_checkpoint_and_says_how_to_go_on(place, interrupted):
    status, out, err, updates = interrupted
    assert status == 130
    assert err == "ppo2: stopped by SIGINT; `ppo2 resume runs/x` continues it\n"
    assert "slow:Slow-v0 (default preset)" in out
    assert "num_layers 2" in out
    assert 0 < updates < 100  # of 6400 / (2 * 32)
    assert list((place / "runs" / "x" / "checkpoints").iterdir())


def test_sigterm_leaves_a_checkpoint(place):
    arguments = ["train", "slow:Slow-v0", "--run-dir", "runs/term", "--total-timesteps", "6.4e3", *TINY]
    status, _, err = interrupt(start(place, *arguments, slow=0.001), place / "runs" / "term", signal.SIGTERM)
    assert (status, err) == (143, "ppo2: stopped by SIGTERM; `ppo2 resume runs/term` continues it\n")
    assert list((place / "runs" / "term" / "checkpoints").iterdir())


def test_resume_goes_on_to_the_original_total(place, resumed):
    status, _, err, before = resumed
    assert (status, err) == (0, "")
    rows = rows_of(place / "runs" / "x")
    assert rows[: len(before)] == before
    assert [row["misc/nupdates"] for row in rows] == list(range(1, 101))
    assert (place / "runs" / "x" / "checkpoints" / "00100.safetensors").exists()


@pytest.mark.slow
def test_until_solved(place):
    words = ["train", "slow:Slow-v0", "--run-dir", "runs/solved", "--total-timesteps", "64000", "--until-solved"]
    status, out, err = finish(start(place, *words, *TINY))
    assert (status, err) == (0, "")
    assert re.search(r"\nsolved: the mean return of the last \d+ episodes, \d+\.\d, reaches the threshold of 5\n$", out)
    assert re.search(r"^solved \(update \d+ of 1,000\)$", out, re.MULTILINE)
    assert "update_fn" not in out
    run = place / "runs" / "solved"
    episodes = len((run / "monitor.csv").read_text().splitlines()) - 2
    assert 100 <= episodes < 130  # an update of 64 timesteps ends a dozen episodes at most
    assert (run / "checkpoints" / f"{rows_of(run)[-1]['misc/nupdates']:05d}.safetensors").exists()


@pytest.mark.parametrize("until", [[], ["--until-solved"]])
def test_a_model_that_can_not_be_saved_is_a_failure(tmp_path, capsys, monkeypatch, until):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "save", full)
    words = ["train", "CartPole-v1", "--run-dir", str(tmp_path / "run"), "--total-timesteps", "128", *until]
    assert main([*words, *TINY]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"ppo2: the model of update 2 could not be saved in {tmp_path / 'run'} (No space left")
    assert len(err.splitlines()) == 1


def test_prints_what_it_resolved_to(given, capsys):
    given("train", "CartPole-v1", "--run-dir", "runs/z", "--gamma", "0.9", "--save-interval", "5", "--num-layers", "3")
    assert capsys.readouterr().out.splitlines() == [
        "env       CartPole-v1 (classic control preset)",
        "network   mlp, num_layers 3, num_hidden 64, activation tanh, layer_norm False,",
        "          value_network copy",
        "settings  lr linear:1e-3, cliprange linear:0.2, value_cliprange None, gamma 0.9,",
        "          lam 0.9, ent_coef 0, log_interval 10, save_interval 5",
        "run       runs/z",
    ]


def test_logs_asked_for(given, monkeypatch):
    pytest.importorskip("tensorboardX")
    seen = given("train", "CartPole-v1", "--tensorboard")
    assert seen["log"] == ("tensorboard",)  # which a resumed run has too
    assert os.environ["PPO2_LOG_FORMAT"] == "tensorboard"
    assert given("train", "CartPole-v1", "--log", "csv", "--wandb")["log"] == ("csv", "wandb")
    monkeypatch.setenv("PPO2_LOG_FORMAT", "mlflow")
    assert given("train", "CartPole-v1", "--tensorboard")["log"] == ("mlflow", "tensorboard")


@pytest.mark.parametrize(
    ("words", "verbose", "progress"),
    [
        ([], 1, True),
        (["--no-progress"], 1, False),
        (["--verbose", "0"], 0, None),
        (["--verbose", "1"], 1, None),
        (["--verbose", "2"], 2, None),
        (["--verbose", "2", "--no-progress"], 2, False),
    ],
)
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_verbosity(command, words, verbose, progress, given):
    seen = given(command, "CartPole-v1", "--run-dir", "None", *words)
    assert (seen["verbose"], seen["progress"]) == (verbose, progress)


def test_a_quiet_run_and_its_end(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "CartPole-v1", "--run-dir", "run", "--total-timesteps", "64", *TINY, "--num-hidden", "8"]
    assert main([*words, "--verbose", "0"]) == 0
    assert main(["resume", "run", "--verbose", "0"]) == 0
    assert capfd.readouterr() == ("", "")
    assert main([*words, "--verbose", "0"]) == 1  # it is there already
    assert "`run_dir`" in capfd.readouterr().err
    assert main([*words, "--verbose", "3"]) == 2


def test_resuming_a_finished_run_says_so(place, resumed, capsys):
    assert main(["resume", str(place / "runs" / "x")]) == 0
    assert "is finished: all 100 updates are done." in capsys.readouterr().out


def test_resume_extends_a_finished_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "CartPole-v1", "--run-dir", "run", "--total-timesteps", "64", *TINY, "--num-hidden", "8"]
    assert main([*words, "--no-progress"]) == 0
    assert main(["resume", "run"]) == 0
    assert "`ppo2 resume run --total-timesteps 128` extends it" in capsys.readouterr().out
    assert main(["resume", "run", "--total_timesteps", "1.28e2", "--no-progress"]) == 0
    assert "was 64 timesteps (1 updates) and is now 128 (2)" in capsys.readouterr().out
    assert [row["misc/nupdates"] for row in rows_of(tmp_path / "run")] == [1, 2]
    assert main(["resume", "run", "--total-timesteps", "64"]) == 1
    assert "`total_timesteps` (=64) is less than what the run" in capsys.readouterr().err


def test_parts_to_load(given):
    seen = given("train", "CartPole-v1", "--load-path", "x", "--load-parts", "weights", "normaliser")
    assert seen["load_parts"] == ("weights", "normaliser")


def test_resume_from_one_of_the_checkpoints(tmp_path, capsys, monkeypatch):
    words = ["train", "CartPole-v1", "--run-dir", "run", "--total-timesteps", "256", "--save-interval", "1", *TINY]
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--no-progress", "--num-hidden", "8"]) == 0
    capsys.readouterr()
    file = tmp_path / "run" / "checkpoints" / "00002.safetensors"
    for name in ("run/checkpoints/00002.safetensors", str(file)):
        assert main(["resume", name, "--no-progress"]) == 0
        assert "continuing from update 2; later checkpoints are set aside" in capsys.readouterr().out
        assert [row["misc/nupdates"] for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4]
    newest = file.with_name("00004.safetensors")
    newest.write_bytes(b"damaged")
    assert main(["resume", "run"]) == 1
    assert "`ppo2 resume run/checkpoints/00003.safetensors` continues from there" in capsys.readouterr().err
    assert main(["resume", "run/checkpoints/00003.safetensors", "--no-progress"]) == 0
    assert main(["eval", "run", "--episodes", "1"]) == 0
    for stopped in (tmp_path / "run" / "checkpoints").glob("*"):
        stopped.unlink()
    capsys.readouterr()
    assert main(["resume", "run", "--no-progress"]) == 0  # as if it had been killed before its first checkpoint
    assert "stopped before its first checkpoint: it begins again" in capsys.readouterr().out
    assert [row["misc/nupdates"] for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nsteps", 10**12, "its config.json has a setting that can't be: `total_timesteps`"),
        ("nsteps", 16, "holds a run with other settings: `nsteps` was 32, is 16"),
        ("num_envs", 10**12, "`num_envs`"),
        ("nsteps", "many", "its config.json has a setting that can't be: `nsteps`"),
        ("network_kwargs", {"num_hidden": 10**9}, "other settings: `network_kwargs`"),
        ("network_kwargs", [1], "`network_kwargs`"),
        ("network_kwargs", {"run_dir": "/"}, "`network_kwargs`"),
    ],
)
def test_settings_of_a_run_that_can_not_be(place, resumed, tmp_path, capsys, name, value, message):
    run = tmp_path / "run"
    shutil.copytree(place / "runs" / "x", run)
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**settings, name: value}))
    assert main(["resume", str(run)]) == 1
    assert message in capsys.readouterr().err


def test_resume_names_what_only_python_can_give(tmp_path, capsys):
    run = tmp_path / "run"
    ppo2.learn(
        env=lambda: gym.make("CartPole-v1"),
        lr=lambda frac: 1e-3 * frac,
        num_envs=1,
        nsteps=4,
        total_timesteps=0,
        run_dir=run,
    )
    capsys.readouterr()
    assert main(["resume", str(run)]) == 1
    err = capsys.readouterr().err
    assert "`env` (<lambda>), `lr` (<lambda>)" in err
    assert f"ppo2.learn(env=..., lr=..., load_path='{run}', run_dir='{run}')" in err
    assert main(["eval", str(run)]) == 1
    assert "an environment given as an object (<lambda>): name one with --env ID." in capsys.readouterr().err
    assert main(["eval", str(run), "--env", "CartPole-v1", "--episodes", "1", "--stochastic"]) == 0
    assert capsys.readouterr().out.startswith("CartPole-v1, 1 episode, sampled actions, seed 0\n")
