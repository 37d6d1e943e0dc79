"""Noise of a rollout: at once, in pieces of environments, or step by step."""

from collections import OrderedDict

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.agent import noise
from ppo2.distributions import action_distribution
from support.runs import learn, params

CHOICE = action_distribution(gym.spaces.Discrete(3))
KEYS = jax.random.split(jax.random.key(0), 6)


def test_each_environment_has_a_stream_of_its_own() -> None:
    found = noise.rollout_noise(CHOICE, KEYS, 4)
    assert found.shape == (4, 6, 3)
    for i, key in enumerate(KEYS):
        np.testing.assert_array_equal(found[:, i], jax.random.gumbel(key, (4, 3)))
    np.testing.assert_array_equal(noise.step_noise(CHOICE, KEYS, found[2]), found[2])


def test_pieces_have_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = noise.rollout_noise(CHOICE, KEYS, 4)
    monkeypatch.setattr(noise, "MOST_AT_ONCE", 10)
    for piece in (1, 50):  # one environment at once, three (the largest divisor of 6 up to 50 // 12)
        monkeypatch.setattr(noise, "PIECE", piece)
        np.testing.assert_array_equal(jax.jit(lambda keys: noise.rollout_noise(CHOICE, keys, 4))(KEYS), whole)


def test_long_noise_of_many_choices_is_drawn_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    many = action_distribution(gym.spaces.Discrete(20_000))
    assert noise.draws_each_step(many, 1024)
    assert not noise.draws_each_step(many, 52)  # 1,040,000 numbers
    rows = noise.rollout_noise(many, KEYS, 1024)
    np.testing.assert_array_equal(rows, np.arange(1024))
    first, second = (noise.step_noise(many, KEYS, rows[t]) for t in (0, 1))
    assert first.shape == (6, 20_000)
    assert len(np.unique(np.concatenate([first[:, 0], second[:, 0]]))) == 12
    # of one environment alone it is the same
    np.testing.assert_array_equal(noise.step_noise(many, KEYS[4:5], jnp.int32(1))[0], second[4])


@pytest.mark.parametrize("env", ["CartPole-v1", "gymnax:CartPole-v1"])
def test_training_draws_step_by_step_where_memory_would_be_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], env: str
) -> None:
    def trained() -> np.ndarray:
        return params(learn(env=env, total_timesteps=64, num_hidden=9))

    whole = trained()
    monkeypatch.setattr(noise, "MOST_NUMBERS", 31)  # of 16 steps x 2 choices
    monkeypatch.setattr("ppo2.agent.compiled.SHARED", OrderedDict())  # programs know the limit
    steps = trained()
    assert np.isfinite(steps).all()
    assert not np.array_equal(steps, whole)
    np.testing.assert_array_equal(trained(), steps)
    if not env.startswith("gymnax"):
        # 64 * (16 obs + 4 action + 16 numbers + 3 flags) + 4 environments * 8 noise = 2,528
        assert "2.53 kB for a rollout" in capsys.readouterr().out
