"""`ppo2 tune`."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import ppo2
from ppo2.cli import main
from ppo2.tuning import tune as module
from support.commands import TINY, finish, start

pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The arguments that `tune` would have got from a command."""

    def arguments(*command: str) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        class Done:
            unsaved = ""

        def stand_in(**given: Any) -> Any:
            seen.update(given)
            return Done()

        monkeypatch.setattr(module, "tune", stand_in)
        assert main(["tune", *command]) == 0
        return seen

    return arguments


def test_what_is_given_is_fixed_and_nothing_else(asked: Any, tmp_path: Path) -> None:
    words = ["CartPole-v1", "--gamma", "0.9", "--trials", "7", "--no-normalize-obs", "--env.max-episode-steps", "9"]
    seen = asked(*words, "--space", "s.yaml", "--time-limit", "1.5", "--parallel", "3", "--seed", "4")
    assert seen == {
        "env": "CartPole-v1", "gamma": 0.9, "normalize_obs": False, "env_kwargs": {"max_episode_steps": 9},
        "trials": 7, "space": "s.yaml", "time_limit": 1.5, "parallel": 3, "seed": 4, "seeds": 1, "final_seeds": 5,
        "run_dir": Path("runs/tune-CartPole-v1"), "dry_run": False, "verbose": 1, "progress": None,
    }  # fmt: skip
    words = ["--eval-env", "CartPole-v1", "--eval-env.sutton-barto-reward", "true"]
    seen = asked("CartPole-v1", "--env.max-episode-steps", "9", *words)
    assert seen["eval_env_kwargs"] == {"max_episode_steps": 9, "sutton_barto_reward": True}
    (tmp_path / "mine.yaml").write_text("env: CartPole-v1\nlam: 0.5\neval_interval: 3\nseed: 9")
    seen = asked("--config", str(tmp_path / "mine.yaml"), "--eval-episodes", "4")
    assert (seen["lam"], seen["eval_episodes"]) == (0.5, 4)
    assert "eval_interval" not in seen


def test_a_search_and_the_file_that_train_takes(
    place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "a study")
    words = ["tune", "CartPole-v1", "--trials", "2", "--final-seeds", "2", "--eval-episodes", "2", "--parallel", "1"]
    assert main([*words, "--total-timesteps", "320", *TINY[:4], "--run-dir", path]) == 0
    out = capsys.readouterr().out
    assert "trial 0 " in out
    assert f"ppo2 train --config '{path}/best.yaml'" in out
    assert main(["train", "--config", f"{path}/best.yaml", "--run-dir", "None", "--no-progress"]) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["CartPole-v1", "--trial", "3"], "--trials"),
        (["CartPole-v1", "--seeds", "0"], "`seeds`"),
        (["CartPole-v1", "--final-seeds", "1"], "`final_seeds`"),
        (["CartPole-v1", "--gamma", "1.5"], "`gamma`"),
        (["CartPole-v1", "--space", "nowhere.yaml"], "nowhere.yaml"),
        (["NoSuch-v1"], "NoSuch"),
    ],
)
def test_what_is_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert main(["tune", *words]) != 0
    assert told in capsys.readouterr().err
    assert not (place / "runs" / "tune-CartPole-v1").exists()


@pytest.mark.slow
def test_killed_and_interrupted_it_goes_on(place: Path) -> None:
    """By SIGKILL nothing is lost but the trainings that were running; by SIGINT it ends with status 130."""
    words = ["tune", "slow:Slow-v0", "--final-seeds", "2", "--eval-episodes", "1", "--total-timesteps", "640", *TINY]
    words += ["--seed", "1", "--parallel", "2", "--run-dir", "runs/tuned"]
    study = place / "runs" / "tuned"
    _stop(start(place, *words, "--trials", "8", slow=0.001), study, signal.SIGKILL, "0002-0")
    status, out, _ = _stop(start(place, *words, "--trials", "8", slow=0.001), study, signal.SIGINT, "0005-0")
    assert status == 130
    assert "continues" in out
    status, out, err = finish(start(place, *words, "--trials", "8"))
    assert (status, err) == (0, "")
    assert "of 8 trials are done, 2 that were broken off begin again" in out
    assert (study / "trials.csv").read_text().count("complete") >= 5
    assert "running" not in (study / "trials.csv").read_text()


def _stop(process: Any, study: Path, number: int, run: str) -> tuple[int, str, str]:
    """Sends a signal once a training has logged something; waits for the processes of the others to end."""
    log = study / "runs" / run / "progress.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, number)
    ended: tuple[int, str, str] = finish(process)
    time.sleep(1.0)
    return ended


def test_it_is_public() -> None:
    assert ppo2.tune.__module__ == "ppo2.tuning.tune"
