"""Construction of vector environments: notices and errors."""

from typing import Any

import gymnasium as gym
import pytest
from gymnasium.wrappers.vector import DictInfoToList

import ppo2
from ppo2.envs.construction import resolve


def test_make_prints_which_processes_step(capsys: pytest.CaptureFixture[str]) -> None:
    ppo2.make("CartPole-v1", num_envs=3, workers=0).close()
    ppo2.make("CartPole-v1", num_envs=3, workers=1).close()
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "ppo2: 3 x CartPole-v1, stepped by this process",
        "ppo2: 3 x CartPole-v1, stepped by this process and 1 worker",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_episode_steps": 0}, r"`max_episode_steps` \(=0\) must be a whole number of at least 1"),
        ({"frame_stack": 1.5}, r"`frame_stack` \(=1.5\)"),
        ({"reward_scale": 0.0}, r"`reward_scale` \(=0.0\) must be a finite number that is not 0"),
        ({"workers": 8}, r"`workers` \(=8\) must be a whole number from 0 to 7"),
        (
            {"own_vector": True, "flatten": True},
            r"`flatten` \(=True\) applies to environments that are made one by one",
        ),
        (
            {"own_vector": True, "workers": 1},
            r"`workers` \(=1\) applies .*`env_id` \(='CartPole-v1', own_vector=True\)",
        ),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ppo2.make("CartPole-v1", **options)


def test_infos_in_lists_are_read_as_they_were_before() -> None:
    env = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    assert resolve(DictInfoToList(env)).env is env
    env.close()
