"""Checkpoints by time, pruning by Optuna, evaluations on several environments."""

import csv
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from ppo2.callbacks import CheckpointByTime, EvaluateOn, OptunaPruning
from support.runs import learn

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def test_checkpoints_by_wall_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            cls.now += 25.0  # two looks an update, where it saves
            return cls.now

    monkeypatch.setattr("ppo2.callbacks.saving.time", Clock)
    learn(callbacks=[CheckpointByTime(minutes=1)], run_dir=tmp_path, total_timesteps=7 * 64)
    # starts at 25; looks at 50, 75, 100, which saves and is over at 125; looks at 150, 175, 200, which saves
    assert sorted(path.stem for path in (tmp_path / "checkpoints").iterdir()) == ["00003", "00006", "00007"]
    with pytest.raises(ValueError, match=r"`minutes` \(='10'\) must be a number"):
        CheckpointByTime("10")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`run_dir`, which is None"):
        learn(callbacks=[CheckpointByTime()])


def test_evaluations_on_several_environments_are_in_the_log(tmp_path: Path) -> None:
    both = EvaluateOn(
        {"short": lambda: gym.make("CartPole-v1", max_episode_steps=5), "long": "CartPole-v1"}, episodes=2
    )
    learn(callbacks=[both], run_dir=tmp_path, log_interval=2)
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["misc/nupdates"] for row in rows] == ["1", "2", "4"]
    for name in ("short", "long"):
        assert all(float(row[f"eval/{name}/eprewmean"]) >= 5 for row in rows)
        assert float(rows[-1][f"eval/{name}/eprewmean"]) == both.results[name].mean
        assert float(rows[-1][f"eval/{name}/eplenmean"]) == both.results[name].lengths.mean()
    assert both.results["short"].returns.tolist() == [5.0, 5.0]
    with pytest.raises(TypeError, match="must be a dict of environments by name"):
        EvaluateOn(["CartPole-v1"])  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["episodes", "evaluation"])
def test_optuna_prunes_trials(by: Any, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    updates = []

    def objective(trial: Any) -> float:
        model = None
        run_dir = tmp_path / str(len(updates))
        settings: dict[str, Any] = {"eval_env": "CartPole-v1", "eval_interval": 1, "eval_episodes": 1}
        try:
            model = learn(
                callbacks=[OptunaPruning(trial, by=by, interval=1)], run_dir=run_dir, total_timesteps=6 * 64, **settings
            )
        finally:
            updates.append(len((run_dir / "progress.jsonl").read_text().splitlines()))
        return float(model is not None)

    # above any mean return so far: every trial is given up at its first report
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=1e9))
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.state is optuna.trial.TrialState.PRUNED
    assert len(trial.intermediate_values) == 1
    (step,) = trial.intermediate_values
    assert step % 64 == 0
    assert updates[0] < 6
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.NopPruner())
    study.optimize(objective, n_trials=1)
    assert study.trials[0].value == 1.0


def test_an_evaluation_that_cannot_be_is_refused_before_training() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"episodes": 0}, r"`episodes` \(=0\)"),
        ({"envs": {"x": "CartPool-v1"}}, "CartPool-v1"),
        ({"envs": {"x": lambda: gym.make("Pendulum-v1")}}, r"`envs\['x'\]` has another observation space"),
    ]
    for given, words in cases:
        updates: list[int] = []
        arguments: dict[str, Any] = {"envs": {"x": "CartPole-v1"}, **given}
        with pytest.raises(ValueError, match=words):
            learn(callbacks=[EvaluateOn(**arguments)], update_fn=updates.append)
        assert not updates


def test_an_interval_is_that_of_each_training() -> None:
    each = EvaluateOn({"x": "CartPole-v1"}, episodes=1)
    for log_interval in (3, 2):
        learn(callbacks=[each], log_interval=log_interval, total_timesteps=64)
        assert each.interval == log_interval


def test_what_is_no_trial_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a trial of Optuna"):
        OptunaPruning("trial")


def test_environments_to_evaluate_on_are_made_once_and_closed() -> None:
    made: list[Any] = []

    class Counted(gym.Wrapper[Any, Any, Any, Any]):
        is_closed = False

        def close(self) -> None:
            self.is_closed = True
            super().close()

    def make() -> gym.Env[Any, Any]:
        made.append(Counted(gym.make("CartPole-v1", max_episode_steps=5)))
        return made[-1]  # type: ignore[no-any-return]

    seen = []
    own = Counted(gym.make("CartPole-v1", max_episode_steps=4))
    each = EvaluateOn({"made": make, "own": own}, episodes=2, interval=1)
    learn(callbacks=[each], update_fn=lambda _: seen.append((len(made), any(env.is_closed for env in made))))
    assert len(seen) == 4
    assert set(seen) == {(2, False)}
    assert [env.is_closed for env in made] == [True, True]
    assert not own.is_closed
    assert each.results["own"].returns.tolist() == [4.0, 4.0]
    with pytest.raises(ValueError, match="another observation space"):
        learn(callbacks=[EvaluateOn({"made": make, "other": "FrozenLake-v1"}, interval=1)])
    assert all(env.is_closed for env in made)
