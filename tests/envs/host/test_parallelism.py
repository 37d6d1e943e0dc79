"""The choice of how many processes step environments, and in how many groups."""

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.envs.host import parallelism
from ppo2.training.construction import open_training_environment
from ppo2.training.start import Start
from support.host_envs import Counting


def test_what_can_not_travel_stays(capsys: Any) -> None:
    lock = threading.Lock()
    made = ppo2.envs.resolve(lambda: (lock, slow())[1], 4).env
    assert made.stepped_by == "this process"
    assert "can't travel" in capsys.readouterr().err
    made.close()


def slow() -> Any:
    class Slow(Counting):
        def reset(self, **how: Any) -> Any:
            time.sleep(0.001)
            return super().reset(**how)

        def step(self, action: Any) -> Any:
            time.sleep(0.001)
            return super().step(action)

    return Slow(0)


def test_auto_weighs_the_cost_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallelism, "own_processors", lambda: 3)
    stepped_by = []
    for factory, count in ((slow, 4), (slow, 2), (slow, 1), (lambda: Counting(0), 4)):
        env = ppo2.envs.resolve(factory, count).env
        stepped_by.append(env.stepped_by)
        env.close()
    assert stepped_by == ["this process and 2 workers", "this process and 1 worker", "this process", "this process"]


def test_two_groups_for_images_on_four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    image, vector = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8), gym.spaces.Box(-1, 1, (4,))
    for processors, groups in ((2, 1), (3, 1), (4, 2), (64, 2)):
        monkeypatch.setattr(parallelism, "usable_processors", lambda processors=processors: processors)
        assert parallelism.choose_groups(image, 8) == groups
        assert parallelism.choose_groups(gym.spaces.Dict({"camera": image, "arm": vector}), 2) == groups
        assert parallelism.choose_groups(image, 1) == 1
        assert parallelism.choose_groups(gym.spaces.Box(0, 1, (8, 8, 20), np.uint8), 8) == 1  # piece codes
        assert parallelism.choose_groups(vector, 8) == 1


def test_a_number_of_numpy_is_a_number_of_workers() -> None:
    env = ppo2.make("CartPole-v1", num_envs=2, workers=np.int64(1))
    assert env.stepped_by == "this process and 1 worker"
    env.close()


def test_workers_by_the_time_of_a_step_and_the_length_of_the_run() -> None:
    """8 steps of 5 us: a worker saves 20 us less 8, in 125,000 of them 1.5 seconds; two would save 25 less 16."""
    choose = parallelism.choose_workers
    assert [choose(5e-6, 8, 1, steps) for steps in (None, 12_500, 125_000)] == [0, 0, 1]
    assert [choose(5e-6, 8, most, 125_000) for most in (0, 1, 7)] == [0, 1, 1]
    assert [choose(5e-6, 1, 0, 10**9), choose(1e-6, 8, 7, 10**9), choose(5e-6, 8, 7, -1)] == [0, 0, 0]
    assert [choose(1e-3, 8, 7, steps) for steps in (None, 1, 125_000)] == [7, 7, 7]


@pytest.mark.parametrize(
    ("total_timesteps", "running", "stepped_by"),
    [(100_000, 1, "this process"), (1_000_000, 1, "this process and 1 worker"), (1_000_000, 2, "this process")],
)
def test_learn_takes_workers_for_fast_steps_if_the_run_is_long(
    total_timesteps: int, running: int, stepped_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where the machine is busy, with another run of the same kind say."""
    monkeypatch.setattr(parallelism, "own_processors", lambda: 2)
    monkeypatch.setattr(parallelism, "running_now", lambda: running)
    monkeypatch.setattr(parallelism, "_step_seconds", lambda env: 5e-6)
    for env_kwargs in ({}, {"max_episode_steps": 100}):
        settings = {"total_timesteps": total_timesteps, "info_keys": (), "env_kwargs": env_kwargs}
        with contextlib.ExitStack() as stack:
            made = open_training_environment(stack, "CartPole-v1", None, Start(), settings)
            assert made.stepped_by == stepped_by


def test_a_run_that_goes_on_counts_the_steps_to_come() -> None:
    saved = Checkpoint(Path("x"), {}, {"run": {"update": 900}})
    settings = {"num_envs": 8, "nsteps": 128}
    assert Start("resumed", saved, settings).timesteps == 900 * 1024
    assert Start("weights", saved, settings).timesteps == Start("restarted", None, settings).timesteps == 0
