"""The choice of how many processes step environments, and in how many groups."""

import threading
import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.envs.host import parallelism
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
