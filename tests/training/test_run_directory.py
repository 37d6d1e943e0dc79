"""The run directory: its files, and runs that are never overwritten."""

import contextlib
import csv
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ppo2
from ppo2 import plot
from ppo2.system import directory_lock
from ppo2.system.directory_lock import LOCK
from ppo2.system.lock_owner import Owner
from ppo2.training import run_directory
from support.runs import learn, rows, saved_updates


def test_a_run_directory_holds_everything(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    learn(run_dir=run_dir, total_timesteps=64 * 20)
    names = {path.name for path in run_dir.iterdir()}
    files = {"README.md", "config.json", "progress.csv", "progress.jsonl", "monitor.csv", "curve.png"}
    assert names == {*files, "checkpoints"}
    config = json.loads((run_dir / "config.json").read_text())
    assert config["env"] == "CartPole-v1"
    assert config["network_kwargs"] == {"num_hidden": 8}
    assert config["seed"] == 7
    assert (run_dir / "curve.png").read_bytes().startswith(b"\x89PNG")
    with (run_dir / "monitor.csv").open() as file:
        episodes = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert set(episodes[0]) == {"r", "l", "t", "env"}
    assert all(float(e["r"]) == float(e["l"]) for e in episodes)  # CartPole: a reward of 1 a step
    logged = rows(run_dir)
    expected = {
        "misc/serial_timesteps", "misc/nupdates", "misc/total_timesteps", "fps", "misc/explained_variance", "eprewmean",
        "eplenmean", "misc/time_elapsed", "loss/policy_loss", "loss/value_loss", "loss/policy_entropy", "loss/approxkl",
        "loss/clipfrac", "time/step", "time/act", "time/train",
    }  # fmt: skip
    assert expected <= set(logged[0])
    assert int(logged[-1]["misc/total_timesteps"]) == int(logged[-1]["misc/serial_timesteps"]) * 4
    shares = [float(logged[-1][f"time/{part}"]) for part in ("step", "act", "train")]
    assert sum(shares) == pytest.approx(1.0, abs=0.02)


def test_packages_that_are_only_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone on PYTHONPATH has no metadata, and nor may what is vendored beside it."""

    def not_installed(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", not_installed)
    learn(run_dir=tmp_path, total_timesteps=0)
    versions = json.loads((tmp_path / "config.json").read_text())["versions"]
    assert versions["ppo2"] == ppo2.__version__
    assert set(versions) == {"ppo2", "jax", "jaxlib", "gymnasium", "numpy", "python"}


def test_nothing_is_written_without_a_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learn()
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    learn(run_dir=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"`run_dir`.*already holds a run.*ppo2 resume"):
        learn(run_dir=tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_run_that_failed_before_its_first_update_leaves_the_directory_free(tmp_path: Path) -> None:
    def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        learn(run_dir=tmp_path, init_fn=fails)
    learn(run_dir=tmp_path)


RUNNING = r"`run_dir` .*belongs to a training that still runs"


def test_a_run_directory_belongs_to_one_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Others are refused, read from it as they like, and find it free at the end."""
    other = tmp_path / "other"

    def look(update: int) -> None:
        if update != 3:
            return
        before = {name: (tmp_path / name).read_bytes() for name in ("config.json", "monitor.csv", "progress.csv", LOCK)}
        for more in ({}, {"load_path": tmp_path}):
            with pytest.raises(ValueError, match=RUNNING):
                learn(run_dir=tmp_path, **more)
        with pytest.raises(ValueError, match=RUNNING):
            ppo2.sweep(env="CartPole-v1", run_dir=tmp_path)
        assert before == {name: (tmp_path / name).read_bytes() for name in before}
        plot.curve(tmp_path, tmp_path / "now.png")
        ppo2.evaluate(ppo2.load(tmp_path), "CartPole-v1", episodes=1)
        learn(run_dir=other, load_path=tmp_path, total_timesteps=0)

    learn(run_dir=tmp_path, save_interval=1, update_fn=look)
    assert not (tmp_path / LOCK).exists()
    assert not (other / LOCK).exists()
    learn(run_dir=tmp_path, load_path=tmp_path, save_interval=1)
    assert "all done before" in capsys.readouterr().out


@pytest.mark.parametrize("load", [{}, {"load_path": "run/checkpoints"}])
def test_a_training_that_fails_gives_its_directory_free(
    tmp_path: Path, load: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"`nminibatches`|no checkpoint"):
        learn(run_dir="run", nsteps=3, nminibatches=7, **load)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_is_taken_over_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(run_dir=tmp_path, update_fn=lambda update: update < 2)
    (tmp_path / LOCK).write_text(json.dumps({**Owner.me()._asdict(), "started": "1"}))
    capsys.readouterr()
    learn(run_dir=tmp_path, load_path=tmp_path)
    assert capsys.readouterr().out.count(f"{tmp_path} was left locked by process {os.getpid()} on ") == 1
    assert not (tmp_path / LOCK).exists()


def test_a_run_whose_directory_was_taken_stops_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_lock, "RENEW_SECONDS", 0.01)
    theirs = json.dumps({**Owner.me()._asdict(), "host": "elsewhere"})

    def take(update: int) -> None:
        (tmp_path / LOCK).write_text(theirs)
        time.sleep(0.5)

    with pytest.raises(RuntimeError, match=r"now belongs to process .* on elsewhere"):
        learn(run_dir=tmp_path, update_fn=take)
    assert (tmp_path / LOCK).read_text() == theirs
    assert list((tmp_path / "checkpoints").iterdir() if (tmp_path / "checkpoints").exists() else []) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
def test_a_directory_that_can_not_be_written_to() -> None:
    with pytest.raises(ValueError, match=r"`run_dir` \(='/proc/run'\) can't be written to .*or choose another"):
        learn(run_dir="/proc/run")


@pytest.mark.parametrize(
    ("stop", "logged"),
    [(None, [1, 3, 4]), (2, [1, 2]), (3, [1, 3]), ("error", [1, 2])],
)
def test_the_last_update_has_a_row(tmp_path: Path, stop: int | str | None, logged: list[int]) -> None:
    """Between two rows of the log too, however training ends; a run that goes on has it no more."""

    def update_fn(update: int) -> bool:
        if stop == "error" and update == 2:
            raise KeyError("mine")
        return update != stop

    with pytest.raises(KeyError) if stop == "error" else contextlib.nullcontext():
        learn(run_dir=tmp_path, log_interval=3, update_fn=update_fn)
    assert [int(row["misc/nupdates"]) for row in rows(tmp_path)] == logged
    last = rows(tmp_path)[-1]
    assert float(last["loss/approxkl"]) > 0
    assert float(last["fps"]) > 0
    lines = (tmp_path / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line)["misc/nupdates"] for line in lines] == logged
    learn(run_dir=tmp_path, log_interval=3, load_path=tmp_path)
    assert [int(row["misc/nupdates"]) for row in rows(tmp_path)] == [1, 3, 4]


def test_new_directories_never_collide(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: run_directory.make_new(str(tmp_path / "runs" / "x")), range(8)))
    assert sorted(path.name for path in made) == ["x", *(f"x-{number}" for number in range(2, 9))]


def test_a_run_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`run_dir`.*is a file"):
        learn(run_dir=tmp_path / "file")


def test_an_unknown_log_format_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPO2_LOG_FORMAT", "tensorbord")
    with pytest.raises(ValueError, match=r"PPO2_LOG_FORMAT names 'tensorbord'"):
        learn(run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


RUDE = """
import os
import gymnasium as gym, numpy as np
import ppo2

class Rude(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (1,), np.float32), gym.spaces.Discrete(2)
    def reset(self, **_):
        self.t = 0
        os.chdir("/")
        os.closerange(3, 256)
        return np.zeros(1, "f"), {}
    def step(self, action):
        self.t += 1
        return np.zeros(1, "f"), 1.0, self.t == 20, False, {}

ppo2.learn(env=Rude, num_envs=2, nsteps=32, total_timesteps=256, nminibatches=1, save_interval=1, run_dir="runs/x")
"""


def test_an_environment_that_changes_the_directory_and_closes_files(tmp_path: Path) -> None:
    """The run's files are where they were asked for, and training ends as ever."""
    done = subprocess.run([sys.executable, "-c", RUDE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert saved_updates(tmp_path / "runs" / "x") == [1, 2, 3, 4]
    assert (tmp_path / "runs" / "x" / "curve.png").exists()
