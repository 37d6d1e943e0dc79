"""Stopping early: by a threshold, and without improvement."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import pytest

from ppo2.callbacks import Callback, NoImprovement, RewardThreshold, Training
from support.runs import learn

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def threshold_of_cartpole() -> RewardThreshold:
    return RewardThreshold(475)


def test_verdict():
    solved = threshold_of_cartpole()
    solved.look(SimpleNamespace(eprewmean=474.9, episodes=200, last=()), 1e6)
    assert solved.verdict() == "not solved: the mean return did not reach the threshold of 475"
    solved.look(SimpleNamespace(eprewmean=475.0, episodes=99, last=()), 1e6)
    assert solved.verdict() == "not solved: the mean return did not reach the threshold of 475 in 100 episodes"
    assert not solved.reached
    solved.look(SimpleNamespace(eprewmean=475.0, episodes=100, last=()), 1e6)
    assert solved.reached
    assert solved.verdict() == "solved: the mean return of the last 100 episodes, 475.0, reaches the threshold of 475"


def test_long_episodes_of_before_do_not_hold_the_verdict_up():
    """5 % of 100,000 timesteps: 10 episodes of 500."""

    def reached(callback, returns, length):
        last = [SimpleNamespace(r=float(r), l=length) for r in returns]
        mean = sum(returns) / len(returns)
        callback.look(SimpleNamespace(eprewmean=mean, episodes=len(returns), last=last), 100_000)
        return callback.reached

    solved = threshold_of_cartpole()
    assert not reached(solved, [100] * 60 + [500] * 9, 500)
    chance = [480, 400, 500, 500, 400, 500, 500, 500, 500, 480]
    assert not reached(solved, [100] * 60 + chance, 500)
    assert not reached(solved, [480] * 9, 500)
    assert reached(solved, [100] * 60 + [500] * 10, 500)
    assert solved.verdict() == "solved: the mean return of the last 10 episodes, 500.0, reaches the threshold of 475"
    assert not reached(threshold_of_cartpole(), [490] * 99, 50)  # the last 100 are recent


def test_a_threshold_by_evaluation_stops_training(capsys: Any) -> None:
    model = learn(
        callbacks=[RewardThreshold(1, by="evaluation")], eval_env="CartPole-v1", eval_interval=3, eval_episodes=1
    )
    assert model.stop_reason.startswith("the mean return of the evaluation, ")
    assert model.stop_reason.endswith(", reaches the threshold of 1")
    assert f"{model.stop_reason} (update 1 of 4)" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"RewardThreshold\(by='evaluation'\) looks at evaluations.*give `eval_env`"):
        learn(callbacks=[RewardThreshold(1, by="evaluation")])
    with pytest.raises(ValueError, match="Pendulum-v1 is registered without a reward_threshold"):
        learn(callbacks=[RewardThreshold()], env="Pendulum-v1")


def test_the_threshold_is_the_environments_own() -> None:
    own = RewardThreshold()
    learn(callbacks=[own], total_timesteps=64)
    assert (own.threshold, own.reached) == (475.0, False)


def test_the_threshold_of_a_function_that_makes_environments() -> None:
    own = RewardThreshold()
    learn(callbacks=[own], env=lambda: gym.make("CartPole-v1", max_episode_steps=20), total_timesteps=64)
    assert own.threshold == 475.0
    learn(callbacks=[own], env=lambda: gym.make("Acrobot-v1"), total_timesteps=64)
    assert own.threshold == -100.0


class Scores(Callback):
    """Overwrites the mean return that others see."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_update(self, training: Training) -> None:
        assert training.stats is not None
        training.stats = training.stats._replace(eprewmean=self.values[training.update - 1])


def test_no_improvement_waits_as_long_as_it_says(tmp_path: Any) -> None:
    scores = [1.0, 2.0, 2.4, 2.0, 2.5, 2.4, 9.0]
    settings: dict[str, Any] = {"total_timesteps": 7 * 64, "run_dir": tmp_path}
    whole = NoImprovement(3, "eprewmean", min_delta=0.5)
    model = learn(callbacks=[Scores(scores), whole], **settings | {"run_dir": None})
    assert int(model.state.counters.updates) == 5
    assert model.stop_reason == "no improvement: eprewmean hasn't been better than 2 for 3 looks"
    first, second = (NoImprovement(3, "eprewmean", min_delta=0.5) for _ in range(2))
    learn(callbacks=[Scores(scores), first], **settings, update_fn=lambda update: update < 4)
    model = learn(callbacks=[Scores(scores), second], **settings, load_path=tmp_path)
    assert (int(model.state.counters.updates), second.best, second.waited) == (5, 2.0, 3)


class Logs(Callback):
    """Logs a figure at some updates."""

    def __init__(self, values: dict[int, float]) -> None:
        self.values = values

    def on_update(self, training: Training) -> None:
        if training.update in self.values:
            training.log("eval/x/eprewmean", self.values[training.update])


def test_figures_of_callbacks_are_looked_at_when_they_are_logged(capsys: Any) -> None:
    """At updates 2, 4 and 6: rows of the log come after 1, 5 and 7, so that one waits while updates go by."""
    settings: dict[str, Any] = {"total_timesteps": 7 * 64, "log_interval": 5}
    values = {2: 3.0, 4: 2.0, 6: 1.0}
    stop = NoImprovement(2, "eval/x/eprewmean")
    for _ in range(2):  # as new in another training
        model = learn(callbacks=[Logs(values), stop], **settings)
        assert (int(model.state.counters.updates), stop.best, stop.waited) == (6, 3.0, 2)
        assert capsys.readouterr().out.count("waits for 'eval/x/eprewmean'") == 1  # at update 1
    assert learn(callbacks=[Logs({1: 1.0, **values}), stop], **settings).stop_reason
    assert "waits for" not in capsys.readouterr().out


def test_no_improvement_of_evaluations_and_its_mistakes() -> None:
    never = NoImprovement(1, min_delta=1e9)
    model = learn(callbacks=[never], eval_env="CartPole-v1", eval_interval=1, eval_episodes=1)
    assert int(model.state.counters.updates) == 2
    assert "for 1 evaluations" in model.stop_reason
    with pytest.raises(ValueError, match="give `eval_env`"):
        learn(callbacks=[NoImprovement(1)])
    with pytest.raises(ValueError, match=r"`monitor` \(='typo'\) is no figure of this training: eprewmean, "):
        learn(callbacks=[NoImprovement(1, "typo")])
    with pytest.raises(ValueError, match=r"`min_delta` \(='x'\)"):
        NoImprovement(1, min_delta="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`threshold` \(='200'\)"):
        RewardThreshold("200")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`patience` \(=0\)"):
        NoImprovement(0)
