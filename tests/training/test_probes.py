"""Five probe environments with known answers: the smallest things that a broken PPO gets wrong."""

from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.agent.model import Model
from support.environments import Bandit


def train(kind: str, total_timesteps: int = 6_000, **settings: Any) -> Model:
    return ppo2.learn(
        network="mlp",
        env=lambda: Bandit(kind),
        total_timesteps=total_timesteps,
        num_envs=4,
        nsteps=32,
        num_hidden=16,
        lr=3e-3,
        seed=0,
        **{"value_network": "copy", "value_cliprange": None, **settings},
    )


def value(model: Model, obs: float) -> float:
    return float(model.value(np.array([obs], np.float32)))


def probability(model: Model, obs: float, action: int) -> float:
    """Times that `action` is sampled for `obs`, out of 1,000."""
    actions, *_ = model.step(np.full((1_000, 1), obs, np.float32))
    return float(np.mean(actions == action))


def test_value_of_a_constant_reward() -> None:
    assert value(train("constant"), 0.0) == pytest.approx(1.0, abs=0.05)


def test_value_by_observation() -> None:
    model = train("by_observation")
    assert value(model, 1.0) == pytest.approx(1.0, abs=0.1)
    assert value(model, -1.0) == pytest.approx(-1.0, abs=0.1)


def test_discounting_over_two_steps() -> None:
    model = train("two_steps", gamma=0.5)
    assert value(model, 1.0) == pytest.approx(1.0, abs=0.07)
    assert value(model, 0.0) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("value_network", ["copy", "shared"])
def test_best_action(value_network: str) -> None:
    model = train("best_action", value_network=value_network)
    assert probability(model, 0.0, action=0) > 0.95
    assert int(model.predict(np.zeros(1, np.float32))[0]) == 0


def test_action_by_observation() -> None:
    model = train("match", total_timesteps=10_000)
    assert probability(model, 1.0, action=1) > 0.95
    assert probability(model, -1.0, action=0) > 0.95
