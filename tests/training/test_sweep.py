"""Sweeps: each run is the one that `learn` would make; what is swept, grouped, tabulated, drawn, saved, refused."""

import csv
import json
import signal
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2.cli import main
from ppo2.cli.sweep import Sweep
from ppo2.reporting import plot
from ppo2.training import vmapped
from support.environments import Script


@dataclass(frozen=True)
class Line:
    """A point on a line: action 1 moves it right, which pays; an episode is 9 steps, or ends beyond 0.5."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        x = jax.random.uniform(key, (), minval=-0.5, maxval=0.0)
        return (x, jnp.int32(0)), jnp.stack([x, 0.0])

    def step(self, state: Any, action: Any, key: Any) -> Any:
        x, t = state
        x, t = x + jnp.where(action == 1, 0.1, -0.1) + 0.01 * jax.random.normal(key), t + 1
        return (x, t), jnp.stack([x, t / 9]), jnp.where(action == 1, 1.0, 0.0), x > 0.5, t >= 9, {}


SMALL: dict[str, Any] = {
    "total_timesteps": 3 * 8 * 16,
    "nsteps": 16,
    "nminibatches": 2,
    "noptepochs": 2,
    "num_hidden": 8,
    "log_interval": 1,
}


@pytest.fixture(scope="module")
def env() -> Line:
    return Line()


@pytest.fixture(scope="module")
def swept(env: Line, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("sweep") / "run"
    settings = {**SMALL, "normalize_obs": True, "normalize_rewards": True, "target_kl": 0.05}
    axes: dict[str, Any] = {
        "lr": ["linear:1e-2", 1e-3],
        "gamma": np.array([0.9, 0.99]),
        "seed": range(2),
    }
    return env, settings, ppo2.sweep(env=env, run_dir=path, **axes, **settings)


def test_every_run_is_the_one_that_learn_makes(swept: Any) -> None:
    env, settings, result = swept
    assert len(result.table) == len(result.models) == 8
    for i in (0, 3, 5, 6):
        row = result.table[i]
        alone = ppo2.learn(env=env, seed=row["seed"], lr=row["lr"], gamma=row["gamma"], on_nonfinite="skip", **settings)
        mine = result.models[i]
        np.testing.assert_allclose(mine.state.params, alone.state.params, atol=2e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            mine.state.normaliser,
            alone.state.normaliser,
        )
        assert mine.config == alone.config


@pytest.mark.slow
def test_the_final_return_is_that_of_learns_log(swept: Any, tmp_path: Any) -> None:
    env, settings, result = swept
    row = result.table[1]
    ppo2.learn(env=env, seed=1, lr=row["lr"], gamma=row["gamma"], run_dir=tmp_path / "alone", **settings)
    with (tmp_path / "alone" / "progress.csv").open() as file:
        logged = list(csv.DictReader(file))
    np.testing.assert_allclose([float(r["eprewmean"]) for r in logged], result.curves[1].returns, rtol=1e-5)
    np.testing.assert_array_equal([int(r["misc/total_timesteps"]) for r in logged], result.curves[1].timesteps)
    assert row["final"] == pytest.approx(float(logged[-1]["eprewmean"]), rel=1e-5)


def test_the_table_says_what_was_swept_and_what_came_of_it(swept: Any) -> None:
    _, _, result = swept
    assert [(r["lr"], r["gamma"], r["seed"]) for r in result.table[:3]] == [
        ("linear:1e-2", 0.9, 0),
        ("linear:1e-2", 0.9, 1),
        ("linear:1e-2", 0.99, 0),
    ]
    for row, curve in zip(result.table, result.curves, strict=True):
        assert row["final"] == curve.returns[-1]
        assert row["best"] == curve.returns.max()
        # three points at equal distances: half the ends and the middle
        assert row["auc"] == pytest.approx((curve.returns[0] / 2 + curve.returns[1] + curve.returns[2] / 2) / 2)
        assert row["timesteps"] == 384
        assert row["cliprange"] == 0.2
    assert result.best()["final"] == max(row["final"] for row in result.table)
    assert result.best("auc")["auc"] == max(row["auc"] for row in result.table)
    with pytest.raises(ValueError, match=r"`by` \(='lr'\)"):
        result.best("lr")


def test_configurations_are_means_over_seeds(swept: Any) -> None:
    _, _, result = swept
    rows = result.configurations()
    assert [row["runs"] for row in rows] == [2] * 4
    of_first = [r["final"] for r in result.table if (r["lr"], r["gamma"]) == (rows[0]["lr"], rows[0]["gamma"])]
    assert rows[0]["final"] == pytest.approx(np.mean(of_first))  # nothing to trim of two
    assert [row["final"] for row in rows] == sorted((row["final"] for row in rows), reverse=True)


def test_what_is_saved(swept: Any) -> None:
    env, _, result = swept
    path = result.run_dir
    with (path / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["final"]) for row in table] == [row["final"] for row in result.table]
    assert table[0]["lr"] == "linear:1e-2"
    with (path / "curves.csv").open() as file:
        curves = list(csv.DictReader(file))
    assert len(curves) == 8 * 3
    assert (path / "curves.png").stat().st_size > 5000
    assert json.loads((path / "sweep.json").read_text())["swept"]["gamma"] == [0.9, 0.99]
    model = ppo2.load(path / "models" / "0005.safetensors")
    obs = np.array([[0.1, 0.2], [-0.3, 0.4]], np.float32)
    np.testing.assert_array_equal(model.value(obs), result.models[5].value(obs))
    assert ppo2.evaluate(model, env, episodes=4).lengths.max() <= 9


@pytest.mark.slow
def test_static_settings_make_a_program_each(env: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    together = vmapped.VmappedRuns
    monkeypatch.setattr(vmapped, "VmappedRuns", lambda env, plans: made.append(len(plans)) or together(env, plans))
    result = ppo2.sweep(env=env, seed=range(2), vf_coef=[0.5, 1.0], **{**SMALL, "num_hidden": [4, 8]})
    assert made == [4, 4]
    sizes = [model.state.params.size for model in result.models]
    assert sizes == [47, 47, 123, 123] * 2  # of four and of eight units, in the order of the table


@pytest.mark.slow
def test_runs_that_memory_cannot_hold_train_in_parts(env: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ppo2.sweep(env=env, seed=range(2), **SMALL)
    monkeypatch.setattr(vmapped, "_runs_at_once", lambda plan: 1)
    parts = ppo2.sweep(env=env, seed=range(2), **SMALL)
    for one, other in zip(whole.models, parts.models, strict=True):
        np.testing.assert_allclose(one.state.params, other.state.params, atol=1e-6)


@pytest.mark.slow
def test_one_run_that_diverges_harms_no_other(env: Line) -> None:
    result = ppo2.sweep(env=env, lr=[1e-3, 1e30], seed=[0], **SMALL)
    assert result.table[0]["skipped_updates"] == 0
    assert result.table[1]["skipped_updates"] > 0
    assert np.isfinite(result.models[1].state.params).all()


@dataclass(frozen=True)
class Failing:
    """Some environments give a reward that is NaN at step 20, others an observation that is none from step 36."""

    observation_space = gym.spaces.Discrete(3)
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        return (jax.random.bernoulli(key), jnp.int32(0)), jnp.int32(0)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        first, t = state
        t = t + 1
        reward = jnp.where(first & (t == 20), jnp.nan, 1.0)
        return (first, t), jnp.where(~first & (t >= 36), 7, 1), reward, False, False, {}


@pytest.mark.slow
def test_a_fault_that_ends_training_is_told_though_others_were_skipped_before() -> None:
    with pytest.raises(ValueError, match=r"the run of seed 0, update 3: an observation is out of range"):
        ppo2.sweep(env=Failing(), seed=[0, 1], **{**SMALL, "log_interval": 8, "total_timesteps": 8 * 8 * 16})


def test_on_host_environments_runs_follow_one_another(tmp_path: Any) -> None:
    settings = {**SMALL, "num_envs": 2, "total_timesteps": 64}
    result = ppo2.sweep(env=lambda: Script(3), seed=[3, 4], lr=[1e-3], run_dir=tmp_path / "s", **settings)
    assert [row["seed"] for row in result.table] == [3, 4]
    assert result.table[0]["final"] == 6.0  # 1 + 2 + 3
    alone = ppo2.learn(env=lambda: Script(3), seed=4, lr=1e-3, **settings)
    np.testing.assert_array_equal(result.models[1].state.params, alone.state.params)
    assert (tmp_path / "s" / "runs" / "0001" / "progress.csv").exists()


@pytest.mark.slow
def test_settings_that_look_alike_stay_apart(env: Line) -> None:
    """Two functions of one name are two configurations; a tuple is one value."""
    result = ppo2.sweep(env=env, lr=[lambda frac: 1e-4, lambda frac: 1e-2], seed=[1, 2], **SMALL)
    assert [row["runs"] for row in result.configurations()] == [2, 2]


class OwnVfCoef(ppo2.Model):
    """Looks at its settings while it is traced."""

    def loss(self, policy: Any, normaliser: Any, batch: Any, hyper: Any) -> Any:
        return super().loss(policy, normaliser, batch, hyper._replace(vf_coef=self.config.vf_coef * 10))


@pytest.mark.slow
def test_a_model_of_ones_own_sees_the_settings_of_its_run(env: Line) -> None:
    result = ppo2.sweep(env=env, vf_coef=[0.0, 1.0], seed=[0], model_fn=OwnVfCoef, **SMALL)
    alone = ppo2.learn(env=env, vf_coef=1.0, seed=0, model_fn=OwnVfCoef, **SMALL)
    np.testing.assert_allclose(result.models[1].state.params, alone.state.params, atol=1e-5)


class OwnTrain(ppo2.Model):
    def train(self, *arguments: Any, **more: Any) -> Any:
        raise AssertionError


def test_a_model_that_cannot_be_traced_is_refused(env: Line) -> None:
    with pytest.raises(TypeError, match="replaces `train`"):
        ppo2.sweep(env=env, model_fn=OwnTrain, **SMALL)


def test_a_signal_on_the_host_leaves_what_there_was(tmp_path: Any) -> None:
    """During the second of three runs: the table has all three, the first of them whole."""
    calls = []

    class Stopping(Script):
        def step(self, action: Any) -> Any:
            calls.append(1)
            if len(calls) == 100:
                signal.raise_signal(signal.SIGINT)
            return super().step(action)

    settings = {**SMALL, "num_envs": 2, "total_timesteps": 64}
    with pytest.raises(KeyboardInterrupt):
        ppo2.sweep(env=lambda: Stopping(3), seed=[3, 4, 5], run_dir=tmp_path / "s", **settings)
    with (tmp_path / "s" / "table.csv").open() as file:
        assert [int(row["timesteps"]) for row in csv.DictReader(file)] == [64, 64, 0]
    assert len(list((tmp_path / "s" / "models").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": [1e-3, 1e-4]}, r"learning_rate"),
        ({"lr": [1e-3, [1e-4]]}, r"`lr` is swept over .*: expected single values, found \[0.0001\], a list"),
        ({"lr": []}, r"`lr` \(=\[\]\) is empty"),
        ({"seed": [1, 1]}, r"`seed` \(=\[1, 1\]\) holds a value twice"),
        ({"gamma": [0.9, 1.5]}, r"`gamma` \(=1.5\)"),
        ({"gamma": [0.9, "much"]}, r"`gamma` \(='much'\)"),
        ({"nminibatches": [2, 5]}, r"`nminibatches` \(=5\) must divide"),
        ({"run_dir": ["a", "b"]}, r"`run_dir` .* can't be swept over: expected one value, found 2"),
        ({"update_fn": print}, r"`update_fn` is of no use in a sweep"),
        ({"load_path": "x"}, r"`load_path` is of no use in a sweep"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(env: Line, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ppo2.sweep(env=env, **{**SMALL, **arguments})


def test_a_directory_with_something_in_it_is_left_alone(env: Line, tmp_path: Any) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="isn't empty"):
        ppo2.sweep(env=env, run_dir=tmp_path, **SMALL)


def test_the_interquartile_mean_leaves_out_both_ends() -> None:
    assert plot.iqm([0.0, 1.0, 3.0, 100.0]) == 2.0  # a quarter is one of four
    assert plot.iqm([np.nan, 4.0]) == 4.0
    assert np.isnan(plot.iqm([np.nan]))


def test_the_band_holds_the_mean_and_narrows_with_agreement(tmp_path: Any) -> None:
    at = np.arange(3.0)
    rng = np.random.default_rng(0)
    wide = plot._confident_line("a", at, rng.normal(0, 10, (8, 3)))
    narrow = plot._confident_line("b", at, rng.normal(0, 1, (8, 3)))
    for line in (wide, narrow):
        assert line.low is not None and line.high is not None  # noqa: PT018
        assert (line.low <= line.mean).all()
        assert (line.mean <= line.high).all()
    assert (wide.high - wide.low).min() > 3 * (narrow.high - narrow.low).max()
    assert plot._confident_line("c", at, np.zeros((2, 3))).low is None  # two seeds say nothing of a spread


def test_the_command(capsys: Any, tmp_path: Any) -> None:
    pytest.importorskip("gymnax")
    path = tmp_path / "s"
    words = ["sweep", "gymnax:CartPole-v1", "--seeds", "2", "--lr", "1e-3", "linear:1e-4", "--num-hidden", "8"]
    assert main([*words, "--total-timesteps", "1024", "--run-dir", str(path)]) == 0
    out = capsys.readouterr().out
    assert "sweep     2 lr x 2 seed = 4 runs of 1,024 timesteps" in out
    assert out.split().count("linear:1e-4") == 1
    assert (path / "curves.png").exists()
    assert json.loads((path / "sweep.json").read_text())["fixed"]["gamma"] == 0.98  # the preset's
    assert main(["sweep", "gymnax:CartPole-v1", "--gamma", "1.5", "--run-dir", "None"]) == 1
    assert "`gamma` (=1.5)" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--seeds", "2", "CartPole-v1"], ["CartPole-v1", "--lr", "1e-3", "1e-4"]])
def test_the_preset_is_that_of_the_environment_wherever_it_is_named(words: list[str]) -> None:
    fields = Sweep.with_options(words).__dataclass_fields__  # type: ignore[attr-defined]
    assert fields["gamma"].default == (0.98,)


def test_a_sweep_by_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"MASTER_ADDR": "a", "MASTER_PORT": "1", "RANK": "0", "WORLD_SIZE": "8"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="PPO2_ALONE=1"):
        ppo2.sweep(env="gymnax:CartPole-v1", seed=range(2))
