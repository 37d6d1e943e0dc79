"""Sweeps: each run is the one that `learn` would make; what is swept, grouped, tabulated, drawn, saved, refused."""

import csv
import json
import re
import signal
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest

import ppo2
from ppo2.sweeps.plan import Returns, SweepRun, plan_run
from support.device_envs import Count, Line
from support.environments import Script
from support.runs import SWEPT

pytestmark = pytest.mark.usefixtures("all_quickly_compiled")


@pytest.fixture(scope="module")
def env() -> Line:
    return Line()


@pytest.fixture(scope="module")
def swept(env: Line, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("sweep") / "run"
    settings = {**SWEPT, "normalize_obs": True, "normalize_rewards": True, "target_kl": 0.05}
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


def test_runs_on_host_environments(tmp_path: Any) -> None:
    settings = {**SWEPT, "num_envs": 2, "total_timesteps": 64}
    result = ppo2.sweep(
        env=lambda: Script(3), seed=[3, 4], lr=[1e-3], run_dir=tmp_path / "s", env_kwargs=None, **settings
    )
    assert [row["seed"] for row in result.table] == [3, 4]
    assert result.table[0]["final"] == 6.0  # 1 + 2 + 3
    alone = ppo2.learn(env=lambda: Script(3), seed=4, lr=1e-3, **settings)
    np.testing.assert_array_equal(result.models[1].state.params, alone.state.params)
    assert (tmp_path / "s" / "runs" / "0001" / "progress.csv").exists()


@pytest.mark.parametrize("device", [False, True])
def test_progress_of_all_runs_is_shown(device: bool, env: Line, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of 3 updates: in one program on the device, in turn on the host."""
    settings = {**SWEPT, "num_envs": 8, "seed": [0, 1]}
    ppo2.sweep(env=env if device else lambda: Script(3), **(settings if device else {**settings, "parallel": 1}))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("update")]
    shown = [re.search(r"update +(\d)/6  runs done +(\d)  median return +(\S+)  best", line) for line in lines]
    assert [(int(found[1]), int(found[2])) for found in shown if found is not None] == (
        [(2, 0), (4, 0), (6, 2)] if device else [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2)]
    )


def test_a_signal_on_the_host_leaves_what_there_was(tmp_path: Any) -> None:
    """During the second of three runs, after half of its steps: the table has all three, the first of them whole.

    It has one environment, as a trial would first step one of several, as often as time allows.
    """
    calls = []

    class Stopping(Script):
        def step(self, action: Any) -> Any:
            calls.append(1)
            if len(calls) == 100:
                signal.raise_signal(signal.SIGINT)
            return super().step(action)

    settings = {**SWEPT, "num_envs": 1, "total_timesteps": 64}
    with pytest.raises(KeyboardInterrupt):
        ppo2.sweep(env=lambda: Stopping(3), seed=[3, 4, 5], run_dir=tmp_path / "s", parallel=1, **settings)
    with (tmp_path / "s" / "table.csv").open() as file:
        assert [int(row["timesteps"]) for row in csv.DictReader(file)] == [64, 48, 0]
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
        ppo2.sweep(env=env, **{**SWEPT, **arguments})


def test_a_directory_with_something_in_it_is_left_alone(env: Line, tmp_path: Any) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="isn't empty"):
        ppo2.sweep(env=env, run_dir=tmp_path, **SWEPT)


@dataclass(frozen=True)
class Told(Count):
    """Episodes of 3 steps, a success each; half a meter more at every step."""

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state, obs, reward, terminated, truncated, _ = super().step(state, action, key)
        return state, obs, reward, terminated, truncated, {"is_success": state["t"] == 3, "distance": state["t"] / 2}


class ToldOnHost(Script):
    """The same on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def reset(self, **more: Any) -> Any:
        self.steps = 0
        return super().reset(**more)

    def step(self, action: Any) -> Any:
        self.steps += 1
        return (*super().step(action)[:4], {"is_success": self.steps == 3, "distance": self.steps / 2})


@pytest.mark.parametrize("env", [Told(), ToldOnHost], ids=["device", "host"])
@pytest.mark.parametrize("parallel", ["auto", 1])
def test_numbers_of_info_are_in_the_table(env: Any, parallel: Any, tmp_path: Any) -> None:
    if parallel == 1 and isinstance(env, Told):
        pytest.skip("runs on a device environment train together")
    result = ppo2.sweep(env=env, seed=range(2), info_keys=("distance",), parallel=parallel, run_dir=tmp_path, **SWEPT)
    assert [(row["info/distance"], row["info/is_success"]) for row in result.table] == [(1.5, 1.0)] * 2
    with (tmp_path / "table.csv").open() as file:
        assert [row["info/is_success"] for row in csv.DictReader(file)] == ["1.0", "1.0"]


def test_curves_have_a_point_for_each_update(env: Line, tmp_path: Any) -> None:
    """Though the log has rows of the first and the last alone, from which the figures of the table are made."""
    settings = {**SWEPT, "total_timesteps": 5 * 8 * 16, "log_interval": 100}
    (curve,) = ppo2.sweep(env=env, seed=[0], **settings).curves
    result = ppo2.sweep(env=env, seed=[0], **{**settings, "log_interval": 1})
    (each,) = result.curves
    np.testing.assert_array_equal(curve.timesteps, np.arange(1, 6) * 128)
    np.testing.assert_allclose(curve.returns, each.returns, rtol=1e-6)
    np.testing.assert_allclose(curve.recent, each.recent, rtol=1e-6)
    seldom = ppo2.sweep(env=env, seed=[0], **settings).table[0]
    assert seldom["auc"] == pytest.approx((curve.returns[0] + curve.returns[-1]) / 2)
    assert result.table[0]["auc"] == pytest.approx(np.trapezoid(curve.returns, curve.timesteps) / 512)


@pytest.mark.parametrize("parallel", [np.int64(1), 2])
def test_curves_on_the_host_come_from_the_episodes(parallel: int, tmp_path: Any) -> None:
    """So do those of a finished sweep that is asked for again, of its runs' monitor.csv."""
    settings = {**SWEPT, "num_envs": 2, "total_timesteps": 5 * 32, "log_interval": 100, "seed": [0, 1]}
    settings["env_kwargs"] = {"workers": 0}  # no steps on trial, which count as episodes here
    first, again = (ppo2.sweep(env=_rising, parallel=parallel, run_dir=tmp_path / "s", **settings) for _ in range(2))
    for one, other in zip(first.curves, again.curves, strict=True):
        np.testing.assert_array_equal(one.timesteps, np.arange(1, 6) * 32)
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(theirs, mine)
        # the k-th episode returns k, and four of each environment end in each update of 16 steps; one of the two
        # environments was reset before, to ask for its spaces, so that it begins with the second
        np.testing.assert_allclose(one.recent, [3, 7, 11, 15, 19])
        np.testing.assert_allclose(one.returns, [3, 5, 7, 9, 11])


@pytest.mark.parametrize("parallel", [1, 2])
def test_curves_of_a_sweep_that_goes_on_leave_no_episode_out(parallel: int, tmp_path: Any) -> None:
    """Not those of the first update after a stop: its curves are those that are made of monitor.csv afterwards."""
    calls = []

    class Stopping(Rising):
        def step(self, action: Any) -> Any:
            calls.append(1)
            if len(calls) == 40:
                signal.raise_signal(signal.SIGINT)
            return super().step(action)

    settings = {**SWEPT, "num_envs": 1, "total_timesteps": 5 * 16, "seed": [0, 1], "run_dir": tmp_path / "s"}
    settings["env_kwargs"] = {"workers": 0}
    with pytest.raises(KeyboardInterrupt):
        ppo2.sweep(env=Stopping, parallel=1, **settings)
    goes_on, again = (ppo2.sweep(env=Stopping, parallel=parallel, **settings) for _ in range(2))
    for one, other in zip(goes_on.curves, again.curves, strict=True):
        np.testing.assert_allclose(one.recent, other.recent)
        assert len(one.recent) == 5


class Rising(gym.Env[Any, Any]):
    """Episodes of four steps, the k-th of which returns k."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (2,), np.float32), gym.spaces.Discrete(2)
    episode = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.t, self.episode = 0, self.episode + 1
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.zeros(2, np.float32), self.episode / 4, self.t == 4, False, {}


def _rising() -> Rising:
    return Rising()


def test_recent_returns_are_those_within_a_twentieth_or_the_last_known() -> None:
    """A window has two of 40 updates: of the episodes' returns, or none, that ended in the first six updates."""
    run = _planned(updates=40)
    for update, ended in enumerate([[], [1.0, 3.0], [8.0], [], [], [np.inf, 5.0]], 1):
        run.record(update, Returns.of(np.nan, ended))
    # (1 + 3) / 2, (1 + 3 + 8) / 3, 8 twice (the second from before the window), 5
    np.testing.assert_allclose(run.curve.recent, [np.nan, 2, 4, 8, 8, 5])


def test_long_curves_are_thinned() -> None:
    run = _planned(updates=5000)
    for update in range(1, 5001):
        run.record(update, Returns.of(1.0, [update]))
    curve = run.curve
    assert len(curve.timesteps) <= 2200
    assert curve.recent[-1] == np.mean(np.arange(4751, 5001))  # of all updates within 5 %


def _planned(updates: int) -> SweepRun:
    env = ppo2.make("CartPole-v1", num_envs=2)
    run = plan_run(env, env, {"total_timesteps": updates * 32, "nsteps": 16, "seed": 0})
    env.close()
    return run
