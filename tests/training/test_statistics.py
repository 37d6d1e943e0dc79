"""Statistics that environments give of their episodes reach logs, monitor.csv, `update_fn` and evaluations."""

import csv
import functools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TransformReward

import ppo2
from support.device_envs import Count
from support.environments import Script
from support.runs import learn, rows

TINY: dict[str, Any] = {"num_envs": 2, "nsteps": 16, "total_timesteps": 96, "num_hidden": 4, "log_interval": 1}
"""Arguments of `learn` for three updates."""


class Goal(Script):
    """Episodes of 3 steps; `is_success` at the end of every second one, `distance` at every step."""

    episodes = 0

    def step(self, action: Any) -> Any:
        *outcome, info = super().step(action)
        self.episodes += outcome[2]
        success = {"is_success": np.bool_(self.episodes % 2 == 0)} if outcome[2] else {}
        return *outcome, {**info, **success, "distance": np.float32(self.t / 2), "words": "none"}


def scaled(env: Any) -> Any:
    return TransformReward(env, functools.partial(np.multiply, 0.01))


def make_counted() -> Any:
    return scaled(RecordEpisodeStatistics(Script(4)))


def vector_of(factory: Any) -> Any:
    return gym.vector.SyncVectorEnv([factory] * 2, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)


def monitor(run_dir: Path) -> list[dict[str, str]]:
    lines = (run_dir / "monitor.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


FORMS: dict[str, Any] = {
    "factory": lambda factory: {"env": factory},
    "instance": lambda factory: {"env": factory(), "num_envs": None, "nsteps": 32},
    "vector": lambda factory: {"env": vector_of(factory), "num_envs": None},
    "lstm": lambda factory: {"env": factory, "network": "lstm", "nlstm": 4, "nminibatches": 1},
}


@pytest.mark.parametrize("form", FORMS)
def test_returns_are_those_that_the_environment_counts(form: str, tmp_path: Path) -> None:
    """Rewards 1 + 2 + 3 + 4 before they are scaled: each return is 10, not 0.1."""
    seen: list[Any] = []
    settings = {**TINY, **FORMS[form](make_counted), "run_dir": tmp_path}
    if form == "lstm":
        del settings["num_hidden"]
    model = ppo2.learn(
        **settings, seed=0, update_fn=lambda update, model, stats: seen.append((stats.eprewmean, stats.eplenmean))
    )
    assert seen[-1] == (10, 4)
    assert {(row["r"], row["l"]) for row in monitor(tmp_path)} == {("10.0", "4")}
    assert float(rows(tmp_path)[-1]["eprewmean"]) == 10
    result = ppo2.evaluate(model, FORMS[form](make_counted)["env"], episodes=3)
    assert result.returns.tolist() == [10] * 3
    assert result.lengths.tolist() == [4] * 3


def test_numbers_of_info_reach_everything(tmp_path: Path) -> None:
    seen: list[Any] = []
    settings = {**TINY, "env": Goal, "info_keys": ["distance"], "eval_env": Goal, "eval_episodes": 4}
    model = learn(**settings, run_dir=tmp_path, update_fn=lambda update, model, stats: seen.append(stats.infos))
    assert [[*row][:6] for row in monitor(tmp_path)[:1]] == [["r", "l", "t", "env", "distance", "is_success"]]
    assert [(row["distance"], row["is_success"]) for row in monitor(tmp_path)[:4]] == [
        ("1.5", "0.0"), ("1.5", "0.0"), ("1.5", "1.0"), ("1.5", "1.0"),
    ]  # fmt: skip
    logged = rows(tmp_path)
    assert [float(row["info/distance"]) for row in logged] == [1.5] * 3
    # 5 episodes of each environment in 16 steps, of which 2 succeed; 10 in 32, of which 5 do
    assert [float(row["info/is_success"]) for row in logged[:2]] == [0.4, 0.5]
    assert [float(row["eval_info/distance"]) for row in logged] == [1.5] * 3
    assert seen[:2] == [{"distance": 1.5, "is_success": 0.4}, {"distance": 1.5, "is_success": 0.5}]
    assert json.loads((tmp_path / "config.json").read_text())["info_keys"] == ["distance"]
    result = ppo2.evaluate(model, Goal, episodes=4, num_envs=1)
    assert {key: values.tolist() for key, values in result.infos.items()} == {
        "distance": [1.5] * 4, "is_success": [0, 1, 0, 1],
    }  # fmt: skip
    assert ppo2.evaluate(model, Goal, episodes=1, info_keys=()).infos.keys() == {"is_success"}


@pytest.mark.parametrize("form", ["instance", "vector", "made"])
def test_numbers_of_info_of_other_environments(form: str, tmp_path: Path) -> None:
    if form == "made":
        gym.register("Goal-v0", entry_point=Goal, kwargs={"length": 3})
        env = ppo2.make("Goal-v0", num_envs=2, workers=1, info_keys=("distance",))
        settings = {"env": env, "num_envs": None}
    else:
        settings = {**FORMS[form](Goal), "info_keys": ("distance",)}
    learn(**{**TINY, **settings, "run_dir": tmp_path})
    assert {row["distance"] for row in monitor(tmp_path)} == {"1.5"}
    assert {row["is_success"] for row in monitor(tmp_path)} == {"0.0", "1.0"}
    if form == "made":
        env.close()
        del gym.registry["Goal-v0"]


def test_the_means_come_back_where_a_run_goes_on(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = {**TINY, "env": Goal, "info_keys": ["distance"]}
    learn(**settings, run_dir=whole)
    learn(**settings, run_dir=cut, update_fn=lambda update: update < 2)
    learn(**settings, run_dir=cut, load_path=cut)
    names = ["info/distance", "info/is_success", "eprewmean"]
    first, second = ([[row[name] for name in names] for row in rows(path)] for path in (whole, cut))
    assert len(first) == 3
    assert [row[1] for row in first[:2]] == [row[1] for row in second[:2]]  # later: its `episodes` began anew
    assert [row[::2] for row in first] == [row[::2] for row in second]
    assert len(monitor(whole)) == len(monitor(cut))


class Told(Count):
    """Count, whose episodes it counts itself, with a number at each step, and one that is none."""

    def step(self, state: Any, action: Any, key: Any) -> Any:
        *outcome, over, cut, _ = super().step(state, action, key)
        t = outcome[0]["t"]
        numbers = {"is_success": t == 3, "distance": t / 2, "many": jnp.zeros(2)}
        return *outcome, over, cut, {"episode": {"r": 100 * t, "l": t}, **numbers}


def test_device_environments(tmp_path: Path) -> None:
    seen: list[Any] = []
    settings = {**TINY, "env": Told(), "info_keys": ["distance"], "run_dir": tmp_path}
    model = learn(**settings, update_fn=lambda update, model, stats: seen.append((stats.eprewmean, stats.infos)))
    assert seen[-1] == (300, {"distance": 1.5, "is_success": 1})
    assert {(row["r"], row["l"], row["distance"]) for row in monitor(tmp_path)} == {("300.0", "3", "1.5")}
    result = ppo2.evaluate(model, Told(), episodes=4)
    assert result.returns.tolist() == [300] * 4
    assert result.infos["distance"].tolist() == [1.5] * 4
    assert result.infos["is_success"].tolist() == [1] * 4


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"info_keys": "is_success"}, TypeError, r"`info_keys` \(='is_success'\) must be a list of names"),
        ({"info_keys": [3]}, TypeError, r"`info_keys` \(=\[3\]\) must be a list of names"),
        ({"info_keys": ["a", "a"]}, ValueError, r"names 'a' twice"),
        ({"info_keys": ["r"]}, ValueError, r"names 'r', which is a column of monitor\.csv"),
        ({"env": Told(), "info_keys": ["nope"]}, ValueError, r"`env` gives no info\['nope'\]; its numbers are 'dist"),
        ({"env": Told(), "info_keys": ["many"]}, ValueError, r"info\['many'\] of `env` is no number"),
    ],
)
def test_entries_that_can_not_be(settings: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        learn(**{**TINY, **settings})


def test_environments_that_were_made_without_an_entry() -> None:
    env = ppo2.make("CartPole-v1", num_envs=2, workers=0)
    with pytest.raises(ValueError, match=r"`env` was made without 'x', .* ppo2\.make\(\.\.\., info_keys=\['x'\]\)"):
        learn(**{**TINY, "env": env, "num_envs": None, "info_keys": ["x"]})
    env.close()


def test_an_entry_that_no_episode_has_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    learn(**{**TINY, "env": Goal, "info_keys": ["distance", "words", "nope"]})
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("`info_keys` (=['words', 'nope']): no episode so far had such a number") == 1
