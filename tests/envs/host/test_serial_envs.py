"""Environments stepped one after another: time limits, traits, and one that can't be made anew."""

import os
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.envs.host.failures import EnvironmentFailureError
from support.host_envs import Counting


def test_the_time_limit_is_gymnasiums() -> None:
    ours, theirs = ppo2.make("Pendulum-v1", num_envs=2, workers=1), gym.make("Pendulum-v1")
    obs, _ = ours.reset(seed=[5, 6])
    assert (obs[1] == theirs.reset(seed=6)[0]).all()
    for _ in range(200):
        action = theirs.action_space.sample()
        _, rewards, terminated, truncated, infos = ours.step(np.stack([action] * 2))
        obs_1, reward, *ends, _ = theirs.step(action)
        assert rewards[1] == reward
        assert [bool(terminated[1]), bool(truncated[1])] == ends
    assert ends == [False, True]
    assert (infos["final_obs"][1] == obs_1).all()
    ours.close()


def test_what_a_class_says_of_itself_is_no_instruction(made: Any) -> None:
    class Odd(Counting):
        max_episode_steps = 2
        reseeds = counts_episodes = False

        def step(self, action: Any) -> Any:
            *outcome, info = super().step(action)
            return *outcome, {**info, "episode": 3}

    env = made([lambda: Odd(0), lambda: Odd(1)])
    env.reset(seed=0)
    cut = [env.step([0, 0])[3].tolist() for _ in range(5)]
    assert cut == [[False] * 2] * 4 + [[True] * 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_environment_that_can_not_be_made_again_ends_it(workers: int, made: Any) -> None:
    """Every attempt counts; what it raises is told, even if it would end the program."""

    class Once(Counting):
        made: dict[int, int] = {}  # noqa: RUF012 - by process

        def __init__(self) -> None:
            count = self.made[os.getpid()] = self.made.get(os.getpid(), 0) + 1
            if count > 2 - workers:
                sys.exit("no server")
            super().__init__(0, at=1, what=lambda: 1 / 0)

    env = made([Once] * 2, workers=workers)
    env.reset(seed=0)
    with pytest.raises(EnvironmentFailureError, match="no server"):
        env.step([0, 0])
