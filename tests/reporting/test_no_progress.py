"""The warning of a run that learned nothing: where it comes, and where it doesn't."""

from typing import Any, NamedTuple

import numpy as np
import pytest

import ppo2
from ppo2.reporting import health
from ppo2.reporting.health import FIRST_EPISODES, NoProgress
from support.environments import Script

UPDATES, BATCH = 100, 1000


class Ended(NamedTuple):
    r: float


def judged(first: Any, last: Any, *, update: int = UPDATES, threshold: float | None = None, fresh: bool = True) -> Any:
    progress = NoProgress(UPDATES, BATCH, threshold, "`ppo2 doctor X-v0`", fresh=fresh)
    progress.note(1, [Ended(r) for r in first])
    return progress.warning(update, list(last))


RNG = np.random.default_rng(0)
FLAT = RNG.normal(20.0, 10.0, 100).tolist()


def test_returns_that_only_scatter_are_no_progress() -> None:
    said = judged(RNG.normal(20.0, 10.0, FIRST_EPISODES), FLAT)
    assert "nothing was learned. `ppo2 doctor X-v0` checks the environment" in said
    assert "nothing was learned so far" in judged(FLAT[:FIRST_EPISODES], FLAT, update=50)
    assert judged([0.0] * FIRST_EPISODES, [0.0] * 100) is not None  # no reward was ever met


@pytest.mark.parametrize("case", [
    {"last": [r + 6 for r in FLAT]},  # 6 = three standard errors of 10 / sqrt(30)
    {"first": FLAT[:20]},  # too few to say
    {"last": FLAT[:20]},
    {"update": 19},
    {"threshold": 15.0},  # solved
    {"fresh": False},  # the first episodes were a trained policy's
    {"last": [float("nan")] * 100},
])  # fmt: skip
def test_silence_where_something_was_learned_or_nothing_shows(case: dict[str, Any]) -> None:
    assert judged(**{"first": FLAT[:FIRST_EPISODES], "last": FLAT, **case}) is None


def test_episodes_that_end_later_are_no_untrained_policys() -> None:
    progress = NoProgress(UPDATES, BATCH, None, "", fresh=True)
    progress.note(1, [Ended(1.0)] * 10)
    progress.note(10, [Ended(1.0)] * 5)
    progress.note(11, [Ended(1.0)] * 100)
    assert progress.warning(UPDATES, [1.0] * 100) is None


def test_a_run_that_learns_nothing_points_at_the_doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LEAST_STEPS", 1000)
    settings: dict[str, Any] = {"network": "mlp", "num_hidden": 4, "nsteps": 16, "num_envs": 8, "seed": 0}
    ppo2.learn(env=Script, total_timesteps=20 * 128, nminibatches=1, noptepochs=1, **settings)
    said = capsys.readouterr().out
    assert "update 20: warning: the mean return of the last 100 episodes, 6, is not above" in said
    assert said.count("`ppo2.doctor(env)` checks the environment") == 1  # half way it had made too few updates
