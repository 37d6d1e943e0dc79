"""It learns: real environments, five seeds each, as `docs/benchmarks.md` tells. Slow: `make test-all`."""

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
