"""The run directory: its files, and runs that are never overwritten."""

import csv
import importlib.metadata
import json
from pathlib import Path

import pytest

import ppo2
from support.runs import learn, rows


def test_a_run_directory_holds_everything(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    learn(run_dir=run_dir, total_timesteps=64 * 20)
    names = {path.name for path in run_dir.iterdir()}
    assert names == {"config.json", "progress.csv", "progress.jsonl", "monitor.csv", "checkpoints", "curve.png"}
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


def test_a_run_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`run_dir`.*is a file"):
        learn(run_dir=tmp_path / "file")


def test_an_unknown_log_format_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPO2_LOG_FORMAT", "tensorbord")
    with pytest.raises(ValueError, match=r"PPO2_LOG_FORMAT names 'tensorbord'"):
        learn(run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
