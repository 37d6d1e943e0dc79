"""`learn` from end to end: every argument does what it says; runs are reproducible, saved, resumed, and left intact."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2.agent.model import Model
from support.environments import Bandit, Script, Spaced, vector
from support.runs import SMALL, learn, params, rows

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# --- reproducibility


@pytest.mark.core
def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, second, other = learn(), learn(), learn(seed=8)
    np.testing.assert_array_equal(params(first), params(second))
    assert not np.array_equal(params(first), params(other))


def test_no_seed_draws_one_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    model = learn(seed=None)
    assert f"seed {model.config.seed}" in capsys.readouterr().out
    np.testing.assert_array_equal(params(learn(seed=model.config.seed)), params(model))


@pytest.mark.core
def test_training_touches_no_global_state() -> None:
    import random

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    settings = dict(jax.config.values)
    learn()
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert settings == dict(jax.config.values)


@pytest.mark.exact
def test_evaluating_and_saving_do_not_change_training(tmp_path: Path) -> None:
    plain = learn()
    busy = learn(eval_env="CartPole-v1", eval_interval=1, eval_episodes=2, run_dir=tmp_path / "r", save_interval=1)
    np.testing.assert_array_equal(params(plain), params(busy))


# --- each argument


def test_total_timesteps_is_cut_to_whole_updates() -> None:
    updates: list[int] = []
    learn(total_timesteps=64 * 3 + 63.0, update_fn=updates.append)
    assert updates == [1, 2, 3]


def test_no_timesteps_give_the_untrained_model() -> None:
    updates: list[int] = []
    model = learn(total_timesteps=0, update_fn=updates.append)
    assert updates == []
    assert model.predict(np.zeros(4, np.float32))[0].shape == ()


def test_init_fn_and_update_fn() -> None:
    calls: list[Any] = []
    learn(
        init_fn=lambda: calls.append("init"),
        update_fn=lambda update, model, stats: calls.append((update, model, stats)),
    )
    assert calls[0] == "init"
    assert [call[0] for call in calls[1:]] == [1, 2, 3, 4]
    assert isinstance(calls[1][1], Model)
    assert np.isfinite(float(calls[1][2].policy_loss))
    assert calls[-1][2].eprewmean > 0


def test_update_fn_may_stop_after_a_checkpoint(tmp_path: Path) -> None:
    learn(update_fn=lambda update: update < 2, run_dir=tmp_path)
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["00002.safetensors"]


@pytest.mark.parametrize(
    "stops",
    [
        lambda update, model, stats: np.float32(update) < 2,
        lambda update, model, stats: stats.approxkl * 0 + update < 2,
        lambda update: jax.numpy.asarray(update < 2),
        lambda *given: np.array(given[0] < 2),
    ],
    ids=["numpy", "statistics", "jax", "array"],
)
def test_booleans_of_numpy_and_jax_stop_too(stops: Any) -> None:
    assert int(learn(update_fn=stops).state.counters.updates) == 2


@pytest.mark.parametrize("answer", [0, 1, 0.5, "stop", [], np.zeros(1, bool), np.int64(0), jax.numpy.zeros(())])
def test_update_fn_that_returns_neither_none_nor_a_boolean(answer: Any) -> None:
    with pytest.raises(TypeError, match=rf"`update_fn` returned .*{type(answer).__name__}; it must return None or"):
        learn(update_fn=lambda update: answer, total_timesteps=64)


@pytest.mark.parametrize("function", [lambda a, b, c, d: None, lambda update, *, more: None], ids=["four", "more"])
def test_update_fn_that_takes_something_else(function: Any) -> None:
    with pytest.raises(TypeError, match=r"`update_fn` .* is called as update_fn\(update\[, model\[, stats\]\]\)"):
        learn(update_fn=function, init_fn=lambda: pytest.fail("training had begun"))


@pytest.mark.parametrize(
    ("schedule", "at_half"),
    [(1e-3, 1e-3), ("linear:1e-3", 5e-4), ("cosine:1e-3", 5e-4), (lambda frac: frac * 2e-3, 1e-3)],
)
def test_schedules_follow_frac(tmp_path: Path, schedule: Any, at_half: float) -> None:
    """Update 3 of 4 has frac = 1 - 2/4 = 0.5."""
    learn(lr=schedule, cliprange="linear:0.2", log_interval=1, run_dir=tmp_path)
    logged = rows(tmp_path)
    assert float(logged[2]["lr"]) == pytest.approx(at_half)
    assert [float(row["cliprange"]) for row in logged] == pytest.approx([0.2, 0.15, 0.1, 0.05])


def test_log_and_save_intervals_count_updates(tmp_path: Path) -> None:
    """Rows and checkpoints come at the first update and at every multiple, as in Baselines; and at the end."""
    learn(total_timesteps=64 * 7, log_interval=3, save_interval=2, run_dir=tmp_path)
    assert [int(row["misc/nupdates"]) for row in rows(tmp_path)] == [1, 3, 6, 7]  # and the last
    saved = sorted(int(file.stem) for file in (tmp_path / "checkpoints").iterdir())
    assert saved == [1, 2, 4, 6, 7]  # and the final one


def test_model_fn_makes_the_model() -> None:
    import functools

    class Mine(Model):
        pass

    assert type(learn(model_fn=Mine)) is Mine
    pieces = learn(model_fn=functools.partial(ppo2.MicrobatchedModel, microbatch_size=4))
    np.testing.assert_allclose(params(pieces), params(learn()), atol=1e-4)


def test_networks_of_every_kind() -> None:
    class Mine(eqx.Module):
        layer: eqx.nn.Linear

        def __call__(self, x: Any) -> Any:
            return jax.nn.relu(self.layer(x))

    def builder(width: int = 8) -> Callable[..., Any]:
        return lambda input_shape: eqx.nn.MLP(input_shape[0], width, width, 1, key=jax.random.key(0))

    ready = Mine(eqx.nn.Linear(4, 8, key=jax.random.key(0)))
    for network in (ready, builder, "mlp"):
        kwargs = {} if network == "mlp" else {"num_hidden": ...}
        arguments = {k: v for k, v in {**SMALL, "network": network}.items() if k not in kwargs}
        for value_network in (None, "shared", "copy", ready) if network is ready else ("copy",):
            assert ppo2.learn(**arguments, value_network=value_network).state.counters.updates == 4
    with pytest.raises(ValueError, match="`num_hidden`"):
        learn(network=ready)


def test_environments_of_every_kind() -> None:
    single = gym.make("CartPole-v1")
    own = vector(*[lambda: gym.make("CartPole-v1")] * 4, mode=AutoresetMode.NEXT_STEP)
    for env, num_envs in (
        ("CartPole-v1", 2),
        (single, None),
        (single, 1),
        (own, None),
        (lambda: gym.make("CartPole-v1"), 2),
    ):
        model = learn(env=env, num_envs=num_envs, nsteps=64, total_timesteps=512, nminibatches=2)
        assert model.state.counters.updates == 512 // (model.config.num_envs * 64)
    single.reset()  # still open: whoever made it closes it
    own.reset()
    assert learn(num_envs=None, nsteps=8).config.num_envs == 8


@pytest.mark.parametrize(
    "space",
    [
        pytest.param(gym.spaces.Box(-1, 1, (2, 3)), marks=pytest.mark.slow),
        gym.spaces.Box(0, 255, (4, 4, 1), np.uint8),
        gym.spaces.Box(-np.inf, np.inf, (), np.float64),
        gym.spaces.Discrete(5, start=-2),
        pytest.param(gym.spaces.MultiDiscrete([3, 2]), marks=pytest.mark.slow),
        gym.spaces.MultiDiscrete([[3, 2], [2, 2]], start=[[1, 1], [0, 5]]),
        pytest.param(gym.spaces.MultiBinary(4), marks=pytest.mark.slow),
        gym.spaces.MultiBinary([2, 2]),
    ],
    ids=str,
)
def test_observation_spaces(space: Any) -> None:
    model = learn(env=lambda: Spaced(space, gym.spaces.Discrete(2)), total_timesteps=64, normalize_obs=True)
    assert model.predict(space.sample())[0].shape == ()


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(3),
        gym.spaces.Discrete(3, start=-4),
        pytest.param(gym.spaces.MultiDiscrete([3, 2]), marks=pytest.mark.slow),
        gym.spaces.MultiDiscrete([[3, 2], [2, 2]], start=[[1, 1], [0, 5]]),
        pytest.param(gym.spaces.MultiBinary(4), marks=pytest.mark.slow),
        gym.spaces.MultiBinary([2, 2]),
        gym.spaces.Box(-0.2, 0.1, (2,)),
        gym.spaces.Box(-1.0, 1.0, (), np.float64),
        pytest.param(gym.spaces.Box(-np.inf, np.inf, (2, 1, 2), np.float64), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_action_spaces(space: Any) -> None:
    """The environment itself asserts that each action is a member of its space."""
    model = learn(env=lambda: Spaced(gym.spaces.Box(-1, 1, (3,)), space), total_timesteps=64)
    assert space.contains(model.predict(np.zeros(3, np.float32))[0])
    assert all(space.contains(np.asarray(action)) for action in model.step(np.zeros((9, 3), np.float32))[0])


def test_progress_without_a_terminal_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    learn(progress=True, log_interval=2)
    out = capsys.readouterr().out
    assert "update 2/4" in out
    assert "timesteps per second" in out.splitlines()[-1]
    assert "\x1b[" not in out


# --- compiling


def test_one_trace_of_each_program_over_a_whole_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """act, train and final_values are traced once in a run with schedules, and not at all in the next one."""
    from ppo2.agent.policy import Policy

    traced: list[str] = []

    def spy(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def spied(*args: Any, **kwargs: Any) -> Any:
            traced.append(name)
            return function(*args, **kwargs)

        return spied

    monkeypatch.setattr(Model, "update", spy("train", Model.update))
    monkeypatch.setattr(Policy, "act", spy("act", Policy.act))
    monkeypatch.setattr(Policy, "evaluate", spy("evaluate", Policy.evaluate))
    monkeypatch.setattr(Policy, "__call__", spy("policy", Policy.__call__))
    settings = {"num_hidden": 11, "lr": "linear:1e-3", "cliprange": lambda frac: 0.1 + 0.1 * frac}
    # truncated episodes: final_values is called in the middle of rollouts as well
    env = lambda: Script(5, "truncated")  # noqa: E731
    learn(env=env, **settings)
    # the policy is called by act, by final_values, by the rollout's completion (twice) and by the loss
    assert sorted(traced) == ["act", "evaluate", "evaluate", "policy", "policy", "policy", "policy", "policy", "train"]
    traced.clear()
    learn(env=env, **{**settings, "lr": 1e-4, "seed": 9, "ent_coef": 0.3})
    assert traced == []


# --- normalisers


def test_normalising_observations_and_rewards() -> None:
    model = learn(env="Pendulum-v1", normalize_obs=True, normalize_rewards=True, total_timesteps=64 * 4)
    normaliser = model.state.normaliser
    assert float(normaliser.obs.count) == pytest.approx(64 * 4 + 64, rel=1e-4)  # and one short rollout at the start
    assert float(normaliser.returns.var) > 1.0
    frozen = jax.tree.map(np.array, normaliser)
    ppo2.evaluate(model, "Pendulum-v1", episodes=2)
    for before, after in zip(jax.tree.leaves(frozen), jax.tree.leaves(model.state.normaliser), strict=True):
        np.testing.assert_array_equal(before, np.asarray(after))


@pytest.mark.slow
def test_a_probe_with_all_switches_on(tmp_path: Path) -> None:
    model = learn(
        env=lambda: Bandit("match"),
        total_timesteps=64 * 150,
        normalize_obs=True,
        normalize_rewards=True,
        target_kl=0.05,
        value_cliprange="linear:0.5",
        lr="linear:5e-3",
        ent_coef=0.001,
        shards=2,
        value_network="copy",
        run_dir=tmp_path,
    )
    obs = np.array([[-1.0], [1.0]], np.float32)
    np.testing.assert_array_equal(model.predict(obs)[0], [0, 1])
    np.testing.assert_array_equal(ppo2.load(tmp_path).predict(obs)[0], [0, 1])
