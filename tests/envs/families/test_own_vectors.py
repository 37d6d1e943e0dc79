"""Vector environments of packages' own."""

import numpy as np
import pytest

import ppo2


def test_own_vector_takes_the_vector_form_of_the_package() -> None:
    env = ppo2.make("CartPole-v1", num_envs=3, seed=0, own_vector=True)
    assert type(env.unwrapped).__name__ == "CartPoleVectorEnv"
    model = ppo2.learn(env=env, total_timesteps=3 * 64, nsteps=64, seed=0)
    assert int(model.state.counters.updates) == 1
    with pytest.raises(ValueError, match="has no vector form of its own"):
        ppo2.make("Pendulum-v1", own_vector=True)


def test_envpool_by_prefix() -> None:
    pytest.importorskip("envpool")
    first, same, other = (ppo2.make("envpool:CartPole-v1", num_envs=3, seed=seed) for seed in (0, 0, 1))
    obs = [env.reset()[0] for env in (first, same, other)]
    assert np.array_equal(obs[0], obs[1])
    assert not np.array_equal(obs[0], obs[2])
    model = ppo2.learn(env=first, total_timesteps=3 * 64, nsteps=64, seed=0)
    assert int(model.state.counters.updates) == 1
    with pytest.raises(ValueError, match="EnvPool has no such environment"):
        ppo2.make("envpool:Nowhere-v0")
