"""Evaluations while training goes on: when they are made, and the best model, which is kept."""

import errno
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from ppo2.checkpoints import checkpoint
from ppo2.evaluation.evaluate import Evaluation
from support.runs import learn_and_save, rows, saved_updates


def test_evaluation_is_logged(tmp_path: Path) -> None:
    learn_and_save(total_timesteps=5 * 32, eval_env="CartPole-v1", eval_interval=2, eval_episodes=3, run_dir=tmp_path)
    evaluated = {int(row["misc/nupdates"]): row["eval_eprewmean"] for row in rows(tmp_path)}
    assert [update for update, value in evaluated.items() if value] == [1, 2, 4]


def test_evaluation_follows_log_interval_by_default(tmp_path: Path) -> None:
    learn_and_save(
        total_timesteps=4 * 32,
        eval_env=lambda: gym.make("CartPole-v1"),
        eval_episodes=2,
        log_interval=4,
        run_dir=tmp_path,
    )
    assert [bool(row["eval_eprewmean"]) for row in rows(tmp_path)] == [True, True]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Mean returns that evaluations give, one after another."""
    given: list[float] = []

    def run_episodes(*_: Any, **__: Any) -> Evaluation:
        return Evaluation(np.array([given.pop(0)]), np.array([10]))

    monkeypatch.setattr("ppo2.training.evaluator.run_episodes", run_episodes)
    return given


def best_of(run_dir: Path) -> Any:
    return checkpoint.load(run_dir).metadata["run"]["best"]


@pytest.mark.parametrize("save_interval", [1, 0])
def test_the_best_by_evaluation_stays(tmp_path: Path, scores: list[float], save_interval: int) -> None:
    """Evaluated at updates 1, 2, 4 and 6; an equal score is no better."""
    scores += [1.0, 9.0, 9.0, 3.0]
    evaluated = {"eval_env": "CartPole-v1", "eval_interval": 2}
    learn_and_save(run_dir=tmp_path, keep=1, save_interval=save_interval, **evaluated)
    assert saved_updates(tmp_path) == [2, 6]
    assert best_of(tmp_path) == {"update": 2, "eval_eprewmean": 9.0}


def test_a_score_that_is_no_number_is_not_the_best(tmp_path: Path, scores: list[float]) -> None:
    scores += [np.nan, -5.0, np.nan, -7.0]
    learn_and_save(run_dir=tmp_path, keep=1, eval_env="CartPole-v1", eval_interval=2)
    assert saved_updates(tmp_path) == [2, 6]
    assert best_of(tmp_path) == {"update": 2, "eval_eprewmean": -5.0}


def test_the_best_is_known_after_a_resume(tmp_path: Path, scores: list[float]) -> None:
    scores += [9.0, 1.0, 3.0, 10.0]
    settings = {"run_dir": tmp_path, "keep": 1, "eval_env": "CartPole-v1", "eval_interval": 2}
    learn_and_save(**settings, update_fn=lambda update: update < 3)
    assert saved_updates(tmp_path) == [1, 3]
    learn_and_save(**settings, load_path=tmp_path, update_fn=lambda update: update < 5)
    assert saved_updates(tmp_path) == [1, 5]
    learn_and_save(**settings, load_path=tmp_path)
    assert saved_updates(tmp_path) == [6]
    assert best_of(tmp_path) == {"update": 6, "eval_eprewmean": 10.0}


def test_a_best_one_that_could_not_be_written_takes_no_better_ones_place(
    tmp_path: Path, scores: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores += [5.0, 9.0, 7.0, 1.0]
    save = checkpoint.save

    def fails_at_2(path: Path, *more: Any) -> Any:
        if Path(path).stem == "00002":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(path, *more)

    monkeypatch.setattr(checkpoint, "save", fails_at_2)
    learn_and_save(run_dir=tmp_path, keep=1, eval_env="CartPole-v1", eval_interval=2)
    assert saved_updates(tmp_path) == [4, 6]
    assert best_of(tmp_path) == {"update": 4, "eval_eprewmean": 7.0}
