"""The model card of a run directory."""

import json
import math
from pathlib import Path

import pytest
from scipy import stats

from ppo2.callbacks import Freeze
from ppo2.reporting import card
from ppo2.reporting.card import Score
from support.runs import learn_and_save


def test_the_interval_is_students() -> None:
    returns = [1.0, 4.0, 2.0, 8.0, 5.0]
    low, high = stats.t.interval(0.95, len(returns) - 1, loc=4.0, scale=stats.sem(returns))
    score = Score.of(returns)
    assert score.mean == 4.0
    assert (score.mean - score.half, score.mean + score.half) == pytest.approx((low, high))
    assert math.isnan(Score.of([3.0]).half)
    assert str(Score.of([3.0])) == "3"


def test_training_writes_the_card(tmp_path: Path) -> None:
    learn_and_save(run_dir=tmp_path / "x", eval_env="CartPole-v1", eval_episodes=2)
    text = (tmp_path / "x" / "README.md").read_text()
    entries = dict(line.split(": ", 1) for line in text.split("---\n")[1].splitlines())
    assert json.loads(entries["tags"])[-1] == "CartPole-v1"
    assert "trained for 192 timesteps" in text
    assert "training episodes (sampled actions)" in text
    assert "the last evaluation (2 episodes" in text
    assert "ppo2 train CartPole-v1" in text
    assert "--seed 7" in text
    assert "num_hidden=8" in text
    assert "![Mean return" in text
    assert "jax " in text
    assert "not all of this run" not in text


def test_what_no_setting_tells_is_said(tmp_path: Path) -> None:
    first = learn_and_save(callbacks=[Freeze("trunk")], total_timesteps=64, run_dir=tmp_path / "x")
    learn_and_save(load_path=first, total_timesteps=64, run_dir=tmp_path / "y")
    x, y = ((tmp_path / name / "README.md").read_text() for name in "xy")
    assert "These settings are not all of this run: it had the callbacks Freeze." in x
    assert "These settings are not all of this run: it began with the weights of another." in y


def test_a_persons_card_stays(tmp_path: Path) -> None:
    learn_and_save(run_dir=tmp_path / "x")
    path = tmp_path / "x" / "README.md"
    path.write_text("mine")
    assert card.write(tmp_path / "x") is None
    assert path.read_text() == "mine"
    path.write_text(f"{card.MARK}\nold")
    assert card.write(tmp_path / "x") == path
    assert "# PPO on CartPole-v1" in path.read_text()


def test_a_run_in_which_no_episode_ended(tmp_path: Path) -> None:
    learn_and_save(run_dir=tmp_path / "x", total_timesteps=4, nsteps=2, nminibatches=1, save_interval=0)
    text = (tmp_path / "x" / "README.md").read_text()
    assert "No episodes are known" in text
    assert "model-index" not in text
