"""`tune`: searches on environments of all forms, broken off and gone on with, and what they leave."""

import contextlib
import csv
import functools
import io
import json
import math
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.cli import main
from ppo2.config import read_settings
from ppo2.sweeps.vmapped import train_together
from ppo2.tuning import directory
from ppo2.tuning.study import opened
from support.device_envs import Line
from support.environments import Bandit, Legal, Script

pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("all_quickly_compiled")

SPACE = {"lr": {"low": 1e-4, "high": 1e-1, "log": True}, "gamma": [0.9, 0.99]}
TINY: dict[str, Any] = {
    "total_timesteps": 160, "num_envs": 2, "nsteps": 16, "nminibatches": 2, "noptepochs": 1, "num_hidden": 8,
    "log_interval": 1, "eval_episodes": 2, "final_seeds": 2, "trials": 3, "space": SPACE, "seed": 3, "parallel": 1,
    "verbose": 0,
}  # fmt: skip
"""Arguments of `tune` for trainings of five updates."""
best_action = functools.partial(Bandit, "best_action")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("tune") / "a study"
    return ppo2.tune(env="CartPole-v1", run_dir=path, **{**TINY, "trials": 5})


def rows(path: Path) -> list[dict[str, str]]:
    with (path / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_first_trial_has_the_presets_settings(tuned: Any) -> None:
    preset = ppo2.preset("CartPole-v1")
    first = tuned.trials[0]
    assert (first["lr"], first["gamma"]) == (preset["lr"], preset["gamma"])
    config = json.loads((tuned.path / "runs" / "0000-0" / "config.json").read_text())
    assert config["lam"] == preset["lam"]
    assert (config["nsteps"], config["total_timesteps"]) == (16, 160)  # as given


def test_what_is_written(tuned: Any) -> None:
    path = tuned.path
    table = rows(path)
    assert [row["trial"] for row in table] == [str(n) for n in range(5)]
    assert {row["status"] for row in table} <= {"complete", "pruned"}
    for row, mine in zip(table, tuned.trials, strict=True):
        assert row["value"] == ("" if math.isnan(mine["value"]) else str(mine["value"]))
    assert (path / "history.png").stat().st_size > 5000
    assert (path / "importance.png").exists() == bool(tuned.importances)
    assert (path / "study.db").exists()
    settings = read_settings(path / "best.yaml")
    assert settings.pop("env") == "CartPole-v1"
    assert settings == tuned.best_settings
    assert {"seed", "eval_env", "verbose"}.isdisjoint(settings)
    assert str(path) in (path / "best.yaml").read_text().replace("\n#   ", " ")
    assert tuned.command == f"ppo2 train --config '{path / 'best.yaml'}'"
    ppo2.learn(env="CartPole-v1", **{**tuned.best_settings, "total_timesteps": 32}, verbose=0)


def test_the_value_is_of_new_seeds_alone(tuned: Any) -> None:
    verdict = tuned.verdict
    values = {}
    for number in (verdict.trial, 0):
        runs = [tuned.path / "runs" / f"verdict-{number:04}-{place}" for place in range(2)]
        values[number] = [_last_evaluation(run) for run in runs]
        seeds = {json.loads((run / "config.json").read_text())["seed"] for run in runs}
        assert len(seeds) == 2
        assert all((run / "checkpoints").is_dir() for run in runs)  # models to keep
    assert verdict.tuned.mean == pytest.approx(np.mean(values[verdict.trial]))
    assert verdict.preset.mean == pytest.approx(np.mean(values[0]))
    assert tuned.value == max(verdict.tuned.mean, verdict.preset.mean)
    assert tuned.best_trial == (verdict.trial if verdict.tuned.mean > verdict.preset.mean else 0)


def _last_evaluation(run: Path) -> float:
    with (run / "progress.csv").open() as file:
        return [float(row["eval_eprewmean"]) for row in csv.DictReader(file) if row["eval_eprewmean"]][-1]


def test_the_same_call_goes_on_and_the_same_seed_makes_the_same_trials(tuned: Any, tmp_path: Path) -> None:
    ppo2.tune(env="CartPole-v1", run_dir=tmp_path, **TINY)
    before = {run.name: run.stat().st_mtime_ns for run in (tmp_path / "runs").glob("0*")}
    again = ppo2.tune(env="CartPole-v1", run_dir=tmp_path, **{**TINY, "trials": 5, "seed": None})
    assert repr(again.trials) == repr(tuned.trials)  # in which NaN is NaN
    assert {name: (tmp_path / "runs" / name).stat().st_mtime_ns for name in before} == before
    assert (again.value, again.best_settings) == (tuned.value, tuned.best_settings)


def test_a_study_of_other_settings_is_left_alone(tuned: Any) -> None:
    table = (tuned.path / "trials.csv").read_text()
    with pytest.raises(ValueError, match=r"`lam` was 0\.9, is 0\.5"):
        ppo2.tune(env="CartPole-v1", run_dir=tuned.path, lam=0.5, **TINY)
    with pytest.raises(ValueError, match="`env` was 'CartPole-v1', is 'Acrobot-v1'"):
        ppo2.tune(env="Acrobot-v1", run_dir=tuned.path, **TINY)
    assert (tuned.path / "trials.csv").read_text() == table


def test_a_directory_with_what_a_killed_process_left_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".tune.json.ab12cd34.tmp").touch()
    assert directory.settings_in(tmp_path) is None


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no study"):
        ppo2.tune(env="CartPole-v1", run_dir=tmp_path, **TINY)


@pytest.mark.parametrize(
    "env",
    [
        pytest.param(best_action, id="function"),
        pytest.param(Line(), id="device environment"),
        pytest.param(Legal, id="masks"),
    ],
)
def test_environments_of_other_forms(env: Any) -> None:
    result = ppo2.tune(env=env, **TINY)
    assert [row["status"] for row in result.trials] == ["complete"] * 3
    assert math.isfinite(result.value)
    assert result.path is None
    assert result.command == "ppo2.learn(env=..., **result.best_settings)"


def test_environments_that_exist_are_trained_on_in_turn_and_judged_by_their_episodes() -> None:
    settings = {name: value for name, value in TINY.items() if name != "num_envs"}
    vector = gym.vector.SyncVectorEnv([lambda: Script(3)] * 2)
    for env in (Script(3), vector):
        result = ppo2.tune(env=env, **settings)
        assert [row["value"] for row in result.trials] == [6.0] * 3  # 1 + 2 + 3
        assert result.best_trial == 0  # the others reach as much
    vector.close()


def test_recurrent_networks() -> None:
    settings = {**TINY, "trials": 2, "space": {"noptepochs": [1, 2], "nminibatches": [1, 2]}}
    del settings["noptepochs"], settings["nminibatches"], settings["num_hidden"]
    result = ppo2.tune(env=best_action, network="gru", ngru=4, **settings)
    assert [row["status"] for row in result.trials] == ["complete"] * 2


def test_several_seeds_and_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The value of a trial is the mean over its seeds; in processes as in turn."""
    result = ppo2.tune(env=best_action, run_dir=tmp_path, **{**TINY, "seeds": 2, "parallel": 3, "verbose": 1})
    assert "3 trainings at a time" in capsys.readouterr().out
    alone = ppo2.tune(env=best_action, **{**TINY, "seeds": 2, "trials": 1})
    assert [row["status"] for row in result.trials] == ["complete"] * 3
    last = [_last_evaluation(tmp_path / "runs" / f"0000-{place}") for place in range(2)]
    assert result.trials[0]["value"] == pytest.approx(np.mean(last))
    assert alone.trials[0]["value"] == result.trials[0]["value"]


class Failing(Script):
    """Raises where the file says so."""

    def __init__(self, place: Path) -> None:
        super().__init__(3)
        self._place = place

    def reset(self, **options: Any) -> Any:
        if (self._place / "broken").exists():
            raise ZeroDivisionError("it broke")
        return super().reset(**options)


def test_a_trial_that_fails_is_told_and_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Minibatches of more samples than there are can't be trained with."""
    space = {"nminibatches": [2, 64], "gamma": [0.9, 0.99]}
    settings = {name: value for name, value in TINY.items() if name != "nminibatches"}
    result = ppo2.tune(env=best_action, **{**settings, "space": space, "trials": 6, "verbose": 1})
    failed = [row for row in result.trials if row["status"] == "failed"]
    assert 0 < len(failed) < 6
    assert {row["nminibatches"] for row in failed} == {64}
    assert "`nminibatches` (=64)" in failed[0]["error"]
    assert "failed: `nminibatches` (=64)" in capsys.readouterr().out
    assert set(result.failures) == {row["trial"] for row in failed}


def test_where_all_fail_the_first_error_is_raised(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    make = functools.partial(Failing, tmp_path)
    with pytest.raises(Exception, match="it broke"):
        ppo2.tune(env=make, run_dir=tmp_path / "study", **TINY)


def test_returns_that_are_no_numbers_are_a_failure() -> None:
    class Odd(Script):
        def step(self, action: Any) -> Any:
            obs, _, terminated, truncated, info = super().step(action)
            return obs, math.nan, terminated, truncated, info

    with pytest.raises(ValueError, match=r"NaN|finite|number"):
        ppo2.tune(env=Odd, **TINY)


def signalling(run: Path, number: int) -> type[Script]:
    """The class of an environment that raises a signal once, as soon as a training has its directory."""

    class Signalling(Script):
        is_over = False

        def step(self, action: Any) -> Any:
            if not Signalling.is_over and run.exists():
                Signalling.is_over = True
                signal.raise_signal(number)
            return super().step(action)

    return Signalling


def test_a_signal_stops_it_and_the_same_call_goes_on(tmp_path: Path) -> None:
    env = signalling(tmp_path / "study" / "runs" / "0001-0", signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        ppo2.tune(env=env, run_dir=tmp_path / "study", **TINY)
    stopped = ppo2.interrupted()
    assert isinstance(stopped, ppo2.Tuning)
    assert [row["status"] for row in stopped.trials] == ["complete", "running"]
    result = ppo2.tune(env=env, run_dir=tmp_path / "study", **TINY)
    assert [row["status"] for row in result.trials] == ["complete"] * 3


def test_a_signal_leaves_the_comparison_that_was_made(tmp_path: Path) -> None:
    env = signalling(tmp_path / "study" / "runs" / "0003-0", signal.SIGTERM)
    before = ppo2.tune(env=env, run_dir=tmp_path / "study", **TINY)
    with pytest.raises(SystemExit):
        ppo2.tune(env=env, run_dir=tmp_path / "study", **{**TINY, "trials": 4})
    stopped = ppo2.interrupted()
    assert isinstance(stopped, ppo2.Tuning)
    assert stopped.verdict == before.verdict is not None


def test_a_trial_is_evaluated_near_its_end(tmp_path: Path) -> None:
    """Trials of 13 updates are evaluated at the twelfth, trainings of the comparison at the last."""
    more = {"total_timesteps": 13 * 32, "trials": 2}
    result = ppo2.tune(env=best_action, run_dir=tmp_path, **{**TINY, **more})
    assert _evaluated(tmp_path / "runs" / "0000-0") == [1, 2, 4, 6, 8, 10, 12]
    assert _evaluated(tmp_path / "runs" / "verdict-0000-0") == [1, 13]
    assert [*_seen(tmp_path, 0)] == [20, 40, 60, 80, 100]
    assert result.verdict is not None


def _evaluated(run: Path) -> list[int]:
    with (run / "progress.csv").open() as file:
        return [int(float(row["misc/nupdates"])) for row in csv.DictReader(file) if row["eval_eprewmean"]]


def _seen(path: Path, number: int) -> Any:
    with opened(path / "study.db", {}, 0, prunes=False, together=False) as study:
        return study.trials[number].seen


@pytest.mark.parametrize("name", ["eval_env", "env"])
def test_arguments_of_the_environments_to_evaluate_on(name: str, tmp_path: Path) -> None:
    """They reach the evaluations, and are not in the settings that were found."""
    arguments: dict[str, Any] = {"eval_env": "CartPole-v1", "eval_env_kwargs": {"max_episode_steps": 4}}
    arguments = arguments if name == "eval_env" else {"env_kwargs": {"max_episode_steps": 4}}
    result = ppo2.tune(env="CartPole-v1", run_dir=tmp_path, **{**TINY, "trials": 1}, **arguments)
    assert result.value == 4.0
    settings = read_settings(tmp_path / "best.yaml")
    assert {"eval_env", "eval_env_kwargs", "on_nonfinite"}.isdisjoint(settings)
    assert settings.get("env_kwargs", {}) == arguments.get("env_kwargs", {})
    assert "the preset's trial has 4.0, and no other" in result.words()
    config = json.loads((tmp_path / "runs" / "0000-0" / "config.json").read_text())
    ppo2.learn(**{**settings, "run_dir": tmp_path / "again"}, verbose=0)
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    other = {"seed", "sessions", "eval_env", "eval_env_kwargs", "eval_interval", "eval_episodes"}
    assert {n for n in again if again[n] != config.get(n)} <= other


def test_what_is_given_stays_in_the_settings() -> None:
    result = ppo2.tune(env=best_action, on_nonfinite="skip", **{**TINY, "trials": 1})
    assert result.best_settings["on_nonfinite"] == "skip"


def test_a_program_that_fails_takes_no_trial_of_another_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(env: Any, runs: Any, *rest: Any) -> None:
        if runs[0].config.nsteps == 32:
            raise MemoryError("too large")
        train_together(env, runs, *rest)

    monkeypatch.setattr("ppo2.tuning.trainers.train_together", failing)
    space = {"nsteps": [32], "gamma": [0.9, 0.99]}  # and the preset's 256 steps
    how = {**TINY, "total_timesteps": 1024, "space": space, "parallel": 6, "trials": 6}
    del how["nsteps"]
    result = ppo2.tune(env=Line(), **how)
    for nsteps, status in ((32, "failed"), (256, "complete")):
        assert {row["status"] for row in result.trials if row["nsteps"] == nsteps} == {status}


def test_a_study_that_has_only_failed_says_so_when_it_is_called_again(tmp_path: Path) -> None:
    class Odd(Script):
        def step(self, action: Any) -> Any:
            raise ZeroDivisionError("it broke")

    how = {**TINY, "run_dir": tmp_path / "study"}
    with pytest.raises(Exception, match="it broke"):
        ppo2.tune(env=Odd, **how)
    with pytest.raises(
        ValueError, match=r"all 3 trials of the study in .* failed before.*it broke.*remove the directory"
    ):
        ppo2.tune(env=Odd, **how)


def test_a_training_of_the_comparison_that_failed_is_made_again(tmp_path: Path) -> None:
    class Failing(Script):
        is_broken = True

        def reset(self, **options: Any) -> Any:
            if Failing.is_broken and (tmp_path / "study" / "runs" / "verdict-0000-0").exists():
                raise ZeroDivisionError("it broke")
            return super().reset(**options)

    failed = ppo2.tune(env=Failing, run_dir=tmp_path / "study", **TINY)
    assert "failed on new seeds" in failed.words()
    Failing.is_broken = False
    repaired = ppo2.tune(env=Failing, run_dir=tmp_path / "study", **TINY)
    assert repaired.value == 6.0


def test_commands_for_runs_tell_of_a_search_what_to_do(tuned: Any) -> None:
    for command in (["resume"], ["plot"], ["report"], ["eval"], ["train", "CartPole-v1", "--load-path"]):
        error = io.StringIO()
        with contextlib.redirect_stderr(error):
            assert main([*command, str(tuned.path)]) == 1
        assert "is the directory of a search by `ppo2 tune`" in error.getvalue()
        assert f"ppo2 train --config '{tuned.path}'/best.yaml" in error.getvalue()


def test_the_time_limit_is_of_all_calls(tmp_path: Path) -> None:
    how = {**TINY, "time_limit": 1e-6}
    result = ppo2.tune(env=Script, run_dir=tmp_path / "study", **how)
    assert result.trials == []  # no trial begins
    assert math.isnan(result.value)


def test_a_plan_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = ppo2.tune(env="CartPole-v1", run_dir=tmp_path / "x", dry_run=True, **{**TINY, "verbose": 1})
    out = capsys.readouterr().out
    assert "3 trials of 160 timesteps" in out
    assert "up to 10 trainings" in out  # 3, 3 finalists x 1, 2 x 2
    assert "gamma: [0.9, 0.99, 0.98]" in out
    assert "lr: {low: 0.0001, high: 0.1, log: true, schedule: [linear]}" in out
    assert result.trials == []
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"trials": 0}, ValueError, "`trials`"),
        ({"trials": 2.5}, TypeError, "`trials`"),
        ({"seeds": 0}, ValueError, "`seeds`"),
        ({"final_seeds": 1}, ValueError, "`final_seeds`"),
        ({"time_limit": -1}, ValueError, "`time_limit`"),
        ({"time_limit": "soon"}, ValueError, "`time_limit`"),
        ({"parallel": 0}, ValueError, "`parallel`"),
        ({"gamma": 1.5}, ValueError, "`gamma`"),
        ({"gamma": [0.9, 0.99]}, ValueError, "space={'gamma'"),
        ({"callbacks": [1]}, ValueError, "`callbacks`"),
        ({"eval_env_kwargs": {"max_episode_steps": 4}}, ValueError, "give both"),
        ({"env": Line(), "video_interval": 3}, ValueError, "`video_interval`"),
        ({"learning_rate": 1e-3}, ValueError, "`learning_rate`"),
        ({"network": "nothing"}, ValueError, "nothing"),
        ({"nsteps": 10**9}, ValueError, "total_timesteps"),
        ({"device": "tpu"}, ValueError, "`device`"),
        ({"space": "nowhere.yaml"}, ValueError, r"nowhere\.yaml"),
        ({"num_layer": 3}, (ValueError, TypeError), "num_layer"),
    ],
)
def test_what_is_refused_before_anything_is_done(wrong: Any, error: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        ppo2.tune(**{"env": "CartPole-v1", "run_dir": tmp_path / "study", **TINY, **wrong})
    assert not list(tmp_path.glob("study/*.db"))


def test_an_environment_that_is_missing() -> None:
    with pytest.raises(TypeError, match="`env` is missing"):
        ppo2.tune(**TINY)


def test_what_is_secret_is_used_and_not_saved(tmp_path: Path) -> None:
    options = {"wandb": {"project": "mine", "settings": {"api_key": "s3cr3t"}}}
    result = ppo2.tune(env=Script, run_dir=tmp_path / "study", log_options=options, **TINY)
    assert result.best_settings["log_options"] == options
    study = tmp_path / "study"
    assert json.loads((study / "tune.json").read_text())["settings"]["log_options"]["wandb"]["project"] == "mine"
    assert read_settings(study / "best.yaml")["log_options"]["wandb"]["project"] == "mine"
    assert not [path for path in study.rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]
    again = ppo2.tune(env=Script, run_dir=study, log_options=options, **TINY)
    assert again.trials == result.trials
