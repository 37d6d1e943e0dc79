"""Registrations of a script in the processes that it starts."""

import sys
from typing import Any

import cloudpickle
import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

from ppo2.envs.families.factories import Options, SpecFactory
from ppo2.envs.host import registrations
from support.environments import Script


def test_registrations_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Own classes, Gymnasium's, and those in the place of Gymnasium's; the rest stays here."""
    main, there = sys.modules["__main__"], dict(gym.registry)
    monkeypatch.setattr(main, "Mine", Script, raising=False)
    cartpole: Any = "gymnasium.envs.classic_control:CartPoleEnv"
    own = {
        "Mine-v0": EnvSpec("Mine-v0", entry_point="__main__:Mine"),
        "Short-v0": EnvSpec("Short-v0", entry_point=cartpole, max_episode_steps=3),
        "CartPole-v1": EnvSpec("CartPole-v1", entry_point=cartpole, max_episode_steps=7),
        "Stays-v0": EnvSpec("Stays-v0", entry_point=Script, kwargs={"stream": sys.stdout}),
        "Missing-v0": EnvSpec("Missing-v0", entry_point="__main__:Missing"),
    }
    monkeypatch.setattr(gym.envs.registration, "registry", there | own)
    monkeypatch.setattr(gym, "registry", there | own)
    pickled = registrations.registered()
    factory = cloudpickle.dumps(SpecFactory(own["Mine-v0"], {}, Options()))
    monkeypatch.delattr(main, "Mine")  # as in a worker
    monkeypatch.setattr(gym.envs.registration, "registry", there)
    monkeypatch.setattr(gym, "registry", there)
    registrations.take_up(pickled)
    assert isinstance(gym.make("Mine-v0").unwrapped, Script)
    assert isinstance(cloudpickle.loads(factory)().unwrapped, Script)
    assert [gym.spec(name).max_episode_steps for name in ("Short-v0", "CartPole-v1")] == [3, 7]
    assert "Stays-v0" not in there
    with pytest.raises(AttributeError, match="Missing"):
        gym.make("Missing-v0")
