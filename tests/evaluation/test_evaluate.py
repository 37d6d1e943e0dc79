"""Evaluation: whole episodes, equal quotas, nothing changed."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2.agent.model import Model
from support.environments import Script, vector


@pytest.fixture(scope="module")
def model() -> Model:
    return ppo2.learn(env=lambda: Script(3), total_timesteps=0, num_envs=1, nsteps=8, seed=0, num_hidden=4)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_environment_gets_its_quota(model: Model, mode: AutoresetMode) -> None:
    """Episodes of 3 steps return 1 + 2 + 3 = 6, of 5 steps 15: seven episodes are four and three."""
    env = vector(lambda: Script(3), lambda: Script(5, "truncated"), mode=mode)
    result = ppo2.evaluate(model, env, episodes=7)
    assert sorted(result.returns.tolist()) == [6.0] * 4 + [15.0] * 3
    assert sorted(result.lengths.tolist()) == [3] * 4 + [5] * 3
    assert result.mean == pytest.approx((4 * 6 + 3 * 15) / 7)
    assert result.std == pytest.approx(np.std([6.0] * 4 + [15.0] * 3))


def test_the_same_seed_gives_the_same_episodes() -> None:
    model = ppo2.learn(env="CartPole-v1", total_timesteps=0, seed=0)
    results = [ppo2.evaluate(model, "CartPole-v1", episodes=6, deterministic=False, seed=s).returns for s in (1, 1, 2)]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_fewer_episodes_than_environments(model: Model) -> None:
    assert len(ppo2.evaluate(model, lambda: Script(3), episodes=1).returns) == 1
    assert len(ppo2.evaluate(model, Script(3), episodes=3).returns) == 3


def test_refusals(model: Model) -> None:
    with pytest.raises(ValueError, match=r"`episodes` \(=0\)"):
        ppo2.evaluate(model, lambda: Script(3), episodes=0)
    with pytest.raises(ValueError, match=r"another observation space .*expected .*\(1,\).*found .*\(4,\)"):
        ppo2.evaluate(model, "CartPole-v1")


def test_a_given_environment_stays_open(model: Model) -> None:
    env = gym.make("CartPole-v1")
    cartpole = ppo2.learn(env=env, total_timesteps=0, seed=0)
    ppo2.evaluate(cartpole, env, episodes=1)
    assert env.reset()[0].shape == (4,)
