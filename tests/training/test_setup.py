"""The set-up of training."""

import pytest

from ppo2.distributed import World
from ppo2.training.setup import share_of


def test_environments_are_shared_by_processes() -> None:
    with pytest.raises(ValueError, match=r"`num_envs` \(=3\) counts the environments of all 2 processes"):
        share_of("CartPole-v1", 3, World(0, 2))
    assert share_of("CartPole-v1", None, World(0, 3)) == 3
    assert share_of("CartPole-v1", 6, World(0, 3)) == 2
