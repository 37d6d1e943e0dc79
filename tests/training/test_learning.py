"""It learns: real environments, several seeds each, as `docs/benchmarks.md` tells. Slow: `make test-all`."""

import statistics
from typing import Any

import pytest

import ppo2
from support.environments import Catch, Glyphs, Legal, Parts, Recall, Sequence

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


TASKS: dict[str, tuple[Any, float, float, dict[str, Any]]] = {
    # environment, its greatest return, the share of it that is asked for, settings
    "digits, cnn": (
        *(Glyphs, 1.0, 0.6),
        {"network": "cnn", "total_timesteps": 50_000, "num_envs": 16, "nsteps": 32, "lr": 1e-3, "ent_coef": 0.01},
    ),
    "catch, cnn_small": (
        *(Catch, 1.0, 0.9),
        {"network": "cnn_small", "total_timesteps": 50_000, "num_envs": 16, "nsteps": 32, "lr": 5e-4, "ent_coef": 0.01},
    ),
    "masked": (Legal, 6.0, 0.95, {"total_timesteps": 10_000, "num_envs": 8, "nsteps": 12, "lr": 1e-2}),
    "dict": (
        *(Parts, 5.0, 0.9),
        {"total_timesteps": 16_000, "num_envs": 8, "nsteps": 20, "lr": 1e-2, "num_hidden": 16, "normalize_obs": True},
    ),
    "recall, lstm": (
        *(Recall, 1.0, 0.95),
        {"network": "lstm", "total_timesteps": 40_000, "num_envs": 16, "nsteps": 20, "nminibatches": 2, "lr": 5e-3}
        | {"ent_coef": 0.02},
    ),
    "sequence, lstm": (
        *(Sequence, 5.0, 0.7),
        {"network": "lstm", "total_timesteps": 50_000, "num_envs": 8, "nsteps": 10, "nminibatches": 1, "lr": 1e-2}
        | {"gamma": 0.9},
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_networks_and_spaces(task: str) -> None:
    env, most, least, settings = TASKS[task]
    models = [ppo2.learn(env=env, seed=seed, **settings) for seed in range(5)]
    got = [ppo2.evaluate(model, env, episodes=500, seed=100).mean / most for model in models]
    print(f"{task}: mean {100 * statistics.mean(got):.1f} % of {', '.join(f'{100 * r:.1f}' for r in got)}")
    assert min(got) >= least, got
