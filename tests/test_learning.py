"""It learns: real environments, several seeds each, as `docs/benchmarks.md` tells. Slow: `make test-all`."""

import statistics
from typing import Any

import pytest

import ppo2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def returns(env_id: str, **more: Any) -> list[float]:
    """Mean return over 100 deterministic episodes, for each of five seeds, of the preset."""
    settings = {**ppo2.preset(env_id), **more}
    models = [ppo2.learn(env=env_id, seed=seed, **settings) for seed in range(5)]
    return [ppo2.evaluate(model, env_id, episodes=100, seed=100).mean for model in models]


@pytest.mark.parametrize(
    ("env_id", "least", "most_timesteps"),
    [
        ("CartPole-v1", 475.0, 100_000),
        ("Acrobot-v1", -100.0, 1_000_000),
        ("Pendulum-v1", -250.0, 300_000),
        ("LunarLander-v3", 200.0, 1_000_000),
    ],
)
def test_the_preset_solves(env_id: str, least: float, most_timesteps: int) -> None:
    assert ppo2.preset(env_id)["total_timesteps"] <= most_timesteps
    got = returns(env_id)
    print(f"{env_id}: mean {statistics.mean(got):.1f} of {', '.join(f'{r:.1f}' for r in got)}")  # pytest -rP
    assert statistics.mean(got) >= least, got


@pytest.mark.parametrize(
    ("env_id", "least", "total_timesteps"),
    [
        ("gymnax:CartPole-v1", 475.0, 150_000),
        ("gymnax:Acrobot-v1", -100.0, 300_000),
        ("gymnax:Pendulum-v1", -250.0, 300_000),
        ("gymnax:MountainCarContinuous-v0", 90.0, 300_000),
    ],
)
def test_the_preset_solves_on_the_device(env_id: str, least: float, total_timesteps: int) -> None:
    """Sixteen seeds at once."""
    settings = {**ppo2.preset(env_id), "total_timesteps": total_timesteps}
    models = ppo2.sweep(env=env_id, seed=range(16), **settings).models
    got = [ppo2.evaluate(model, env_id, episodes=100, seed=100).mean for model in models]
    print(f"{env_id}: mean {statistics.mean(got):.1f}, least {min(got):.1f} of {', '.join(f'{r:.1f}' for r in got)}")
    assert statistics.mean(got) >= least, got


def test_a_brax_body_learns_to_move() -> None:
    env = ppo2.make("brax:hopper", backend="spring")
    model = ppo2.learn(env=env, seed=0, **{**ppo2.preset("brax:hopper"), "total_timesteps": 2_000_000})
    got = ppo2.evaluate(model, env, episodes=32, seed=100).mean
    print(f"brax:hopper, spring backend: {got:.1f}")
    assert got >= 500.0
