"""Seeds of episodes, and states of random number generators."""

import numpy as np

from ppo2.envs.host.replay import episode_seed, generator_state, restore_generator


def test_every_episode_of_every_environment_has_its_own_seed() -> None:
    assert len({episode_seed(seed, episode) for seed in range(100) for episode in range(100)}) == 10_000
    assert [episode_seed(seed, 0) for seed in range(100)] == list(range(100))


def test_a_generator_goes_on_from_its_state() -> None:
    one, other = np.random.default_rng(1), np.random.default_rng(2)
    one.random(3)
    restore_generator(other, generator_state(one))
    assert one.random(5).tolist() == other.random(5).tolist()
