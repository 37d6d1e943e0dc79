"""It learns: real environments, several seeds each, as `docs/benchmarks.md` tells. Slow: `make test-all`."""

import importlib
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ppo2
from support.environments import Catch, Glyphs, Legal, Parts, Recall, Sequence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

BENCH = Path(__file__).parents[2] / "bench"
COLUMNS = {
    "presets": ("timesteps", "required", "mean of five seeds", "each seed"),
    "device": ("timesteps", "seeds", "mean", "minimum and maximum over seeds"),
    "tasks": ("network", "timesteps", "required per seed", "mean", "each seed, %"),
}

Keep = Callable[..., None]


@pytest.fixture(scope="module")
def keep(request: pytest.FixtureRequest) -> Iterator[Keep]:
    """Takes a row of a table of docs/benchmarks.md: table, title, cells. `--learning-json FILE` writes all of them."""
    rows: dict[str, list[tuple[str, list[Any]]]] = {}
    yield lambda table, title, *cells: rows.setdefault(table, []).append((title, list(cells)))
    path = request.config.getoption("--learning-json")
    if path is not None and rows:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(BENCH))
            results, tables = (importlib.import_module(name) for name in ("results", "tables"))
        found = {name: tables.table(COLUMNS[name], of, "") for name, of in rows.items()}
        about = {**results.source(["bench"], {}), "command": "make test-all"}
        results.save(Path(path), {"sources": {"": about}, "tables": found})


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
def test_the_preset_solves(env_id: str, least: float, most_timesteps: int, keep: Keep) -> None:
    timesteps = ppo2.preset(env_id)["total_timesteps"]
    assert timesteps <= most_timesteps
    got = returns(env_id)
    each = ", ".join(f"{of:.1f}" for of in got)
    keep("presets", env_id, f"{timesteps:,.0f}", f"{least:g}", f"**{statistics.mean(got):.1f}**", each)
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
def test_the_preset_solves_on_the_device(env_id: str, least: float, total_timesteps: int, keep: Keep) -> None:
    """Sixteen seeds at once."""
    settings = {**ppo2.preset(env_id), "total_timesteps": total_timesteps}
    models = ppo2.sweep(env=env_id, seed=range(16), **settings).models
    got = [ppo2.evaluate(model, env_id, episodes=100, seed=100).mean for model in models]
    extremes = f"{min(got):.0f}, {max(got):.0f}"
    keep("device", env_id, f"{total_timesteps:,}", len(got), f"**{statistics.mean(got):.1f}**", extremes)
    assert statistics.mean(got) >= least, got


def test_a_brax_body_learns_to_move(keep: Keep) -> None:
    env = ppo2.make("brax:hopper", backend="spring")
    model = ppo2.learn(env=env, seed=0, **{**ppo2.preset("brax:hopper"), "total_timesteps": 2_000_000})
    got = ppo2.evaluate(model, env, episodes=32, seed=100).mean
    keep("device", "brax:hopper (spring), 32 episodes", "2,000,000", 1, f"**{got:.1f}**", "")
    assert got >= 500.0


TASKS: dict[str, tuple[Any, float, float, dict[str, Any]]] = {
    # environment, its greatest return, the share of it that is asked for, settings
    "classify ten digits: 40 x 40 pixels, random size, position and noise, one step per episode": (
        *(Glyphs, 1.0, 0.6),
        {"network": "cnn", "total_timesteps": 50_000, "num_envs": 16, "nsteps": 32, "lr": 1e-3, "ent_coef": 0.01},
    ),
    "catch a falling ball: 36 x 36 pixels, 8 steps": (
        *(Catch, 1.0, 0.9),
        {"network": "cnn_small", "total_timesteps": 50_000, "num_envs": 16, "nsteps": 32, "lr": 5e-4, "ent_coef": 0.01},
    ),
    "take the largest of the legal actions, which change at every step": (
        Legal,
        6.0,
        0.95,
        {"total_timesteps": 10_000, "num_envs": 8, "nsteps": 12, "lr": 1e-2},
    ),
    "a Dict of five parts, one of whose numbers determines the right action": (
        *(Parts, 5.0, 0.9),
        {"total_timesteps": 16_000, "num_envs": 8, "nsteps": 20, "lr": 1e-2, "num_hidden": 16, "normalize_obs": True},
    ),
    "repeat the symbol of three steps ago": (
        *(Recall, 1.0, 0.95),
        {"network": "lstm", "total_timesteps": 40_000, "num_envs": 16, "nsteps": 20, "nminibatches": 2, "lr": 5e-3}
        | {"ent_coef": 0.02},
    ),
    "a fixed sequence of 5 of 10 actions, with constant observations": (
        *(Sequence, 5.0, 0.7),
        {"network": "lstm", "total_timesteps": 50_000, "num_envs": 8, "nsteps": 10, "nminibatches": 1, "lr": 1e-2}
        | {"gamma": 0.9},
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_networks_and_spaces(task: str, keep: Keep) -> None:
    env, most, least, settings = TASKS[task]
    models = [ppo2.learn(env=env, seed=seed, **settings) for seed in range(5)]
    got = [ppo2.evaluate(model, env, episodes=500, seed=100).mean / most for model in models]
    shares = [100 * of for of in got]
    keep(
        *("tasks", task, settings.get("network", "mlp"), f"{settings['total_timesteps']:,}", f"{100 * least:.0f} %"),
        *(f"**{statistics.mean(shares):.1f} %**", ", ".join(f"{of:.3g}" for of in shares)),
    )
    assert min(got) >= least, got
