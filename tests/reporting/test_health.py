"""Signs of a collapse: a warning of each, once, and none of a healthy run."""

import math
import re
from collections.abc import Iterable
from typing import Any

import pytest

import ppo2
from ppo2.envs import TimeLimit
from ppo2.reporting.health import ENTROPY, EXPLAINED, KL, VALUE_LOSS, EndlessEpisodes, Health
from support.device_envs import Count
from support.environments import Bandit, Script

USUAL = {KL: 0.01, VALUE_LOSS: 1.0, ENTROPY: 1.4, EXPLAINED: 0.5}


def told(rows: Iterable[dict[str, float]]) -> list[tuple[int, str]]:
    """Warnings, each with the number of its row from 0; figures that a row lacks are as usual."""
    health = Health()
    return [(i, words) for i, row in enumerate(rows) for words in health.warnings({**USUAL, **row})]


def of(key: str, *figures: float) -> list[dict[str, float]]:
    return [{key: figure} for figure in figures]


def test_what_training_usually_does_is_not_told_of() -> None:
    """The policy settles, the value loss falls to nothing, and with it goes what there is to explain."""
    rows = [
        {KL: 0.02 * 0.98**i, VALUE_LOSS: 0.5 * 0.9**i, ENTROPY: 1.4 - 0.03 * i, EXPLAINED: math.sin(i) - i / 20}
        for i in range(200)
    ]
    assert told(rows) == []


@pytest.mark.parametrize(
    ("figures", "row", "words"),
    [
        # 0.01 is usual: three rows of which two are beyond 10 times that, and beyond 0.1
        ([0.01] * 12 + [0.3, 0.02, 0.3], 14, "approximate KL 0.3, usually 0.01"),
        # far beyond what the clip leaves room for, though nothing is usual yet
        ([3.0, 0.01, 2.0], 2, "approximate KL 3)"),
        ([500.0], 0, "approximate KL 5e+02)"),
    ],
)
def test_a_policy_that_leaps(figures: list[float], row: int, words: str) -> None:
    [(number, said)] = told(of(KL, *figures, 1000.0))
    assert number == row
    assert words in said
    assert "try a lower `lr`" in said


@pytest.mark.parametrize("figures", [[0.001] * 12 + [0.09] * 5, [0.01] * 12 + [0.7] + [0.01] * 5, [0.01] * 3 + [0.5]])
def test_a_policy_that_hurries(figures: list[float]) -> None:
    """Schedules and ordinary runs make it still small, in a single row, or too early to say."""
    assert told(of(KL, *figures)) == []


def test_returns_that_are_far_from_1() -> None:
    """Rewards of 1e5, say; the second row gives no second warning."""
    [(row, words)] = told(of(VALUE_LOSS, 2e10, 3e10))
    assert row == 0
    assert "value loss 2e+10" in words
    assert "`normalize_rewards=True`" in words


def test_a_value_loss_that_explodes() -> None:
    blind = {EXPLAINED: -30.0}
    rows = [*of(VALUE_LOSS, *([1.0] * 12)), {VALUE_LOSS: 99.0, **blind}, {VALUE_LOSS: 20000.0, **blind}]
    [(number, said)] = told(rows)
    assert number == 13
    assert "the value loss explodes (2e+04, usually 1)" in said
    # a reward that is found at last: V = 0 explains nothing of it, but is no worse than a constant
    assert told([*of(VALUE_LOSS, *([1e-07] * 12)), {VALUE_LOSS: 10.0, EXPLAINED: -0.01}]) == []
    # it was as high before anything was learned
    assert told([*of(VALUE_LOSS, 5.0, *([1e-07] * 12)), {VALUE_LOSS: 4.0, **blind}]) == []


def test_a_value_loss_that_explodes_step_by_step() -> None:
    """Twice as much in each row: 2^10 = 1024 times what it was ten rows ago."""
    rows = of(VALUE_LOSS, *[1.0] * 12) + [{VALUE_LOSS: 2.0**i, EXPLAINED: -5.0} for i in range(15)]
    assert [number for number, said in told(rows) if "value loss" in said] == [12 + 7]  # 2^7 > 100 * 1


def test_an_entropy_that_explodes() -> None:
    [(number, said)] = told(of(ENTROPY, 1.4, 1.5, 1.4, 2.8, 2.95, 3.0, 9.0))
    assert number == 4  # above 1.4 + 1.5
    assert "entropy explodes (3, 1.4 at first)" in said
    assert told(of(ENTROPY, 8.5, 8.5, 8.5, 12.0, 16.9)) == []  # six dimensions
    assert told(of(ENTROPY, -3.0, -3.0, -1.0)) == []


def test_a_value_function_that_stays_worse_than_a_constant() -> None:
    rows = of(EXPLAINED, *[-2.0] * 10, 0.1, *[-1.5] * 25)
    [(number, said)] = told(rows)
    assert number == 10 + 20
    assert "explained variance -1.5" in said
    assert told([{**row, VALUE_LOSS: 0.5 if i == 0 else 1e-6} for i, row in enumerate(rows)]) == []  # solved


def test_rows_without_figures_are_passed_over() -> None:
    assert told([{KL: math.nan}, {VALUE_LOSS: math.inf}] * 30) == []
    assert Health().warnings({"fps": 3.0}) == []


@pytest.mark.parametrize(("lr", "expected"), [(1e-3, 0), (0.3, 1)])
def test_a_real_collapse_is_told_of_and_a_real_success_is_not(lr: float, expected: int, capsys: Any) -> None:
    ppo2.learn(
        env=lambda: Bandit("match"),
        total_timesteps=40 * 64,
        num_envs=4,
        nsteps=16,
        num_hidden=8,
        lr=lr,
        log_interval=1,
        seed=0,
    )
    said = [line for line in capsys.readouterr().out.splitlines() if "warning: the policy changes far more" in line]
    assert len(said) == expected


@pytest.mark.parametrize(
    ("nsteps", "limit", "update"),
    [(8, None, 20), (2048, None, 10), (30_000, None, 1), (8, 1000, 126), (2048, 30_000, 15), (8, 50, 20)],
)
def test_episodes_that_never_end(nsteps: int, limit: int | None, update: int) -> None:
    """After 20 updates or 20,000 steps of each environment, but not before its time limit; once."""
    endless = EndlessEpisodes(nsteps, limit, update=0, episodes=0)
    said = [i for i in range(1, 200) if endless.warning(i, 0)]
    assert said == [update]
    assert EndlessEpisodes(nsteps, limit, update=update, episodes=0).warning(update + 1, 0) is None  # resumed
    assert EndlessEpisodes(nsteps, limit, update=update - 1, episodes=0).warning(update, 0)
    assert EndlessEpisodes(nsteps, limit, update=0, episodes=0).warning(update, 1) is None


@pytest.mark.parametrize(
    ("env", "expected"), [(lambda: Script(10**9), 1), (Count(10**9), 1), (TimeLimit(Count(10**9), 20), 0), (Script, 0)]
)
def test_a_training_without_an_end_of_an_episode_says_so(env: Any, expected: int, capsys: Any) -> None:
    ppo2.learn(env=env, total_timesteps=25 * 8, num_envs=1, nsteps=8, num_hidden=4, log_interval=100, progress=False)
    words = r"update (2\d): warning: no episode has ended in \1 updates \(\d+ steps of each environment\).*TimeLimit"
    assert len(re.findall(words, capsys.readouterr().out)) == expected
