"""The comparison: intervals by hand, and who wins."""

import math

import pytest

from ppo2.tuning.verdict import PRESET, Estimate, Verdict, choice_seeds


def test_an_interval() -> None:
    """The numbers 1, 2, 3 have mean 2, standard error 1 / sqrt(3), Student's t of 2 degrees of freedom 4.3027."""
    found = Estimate.of([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert str(found) == "2.0 [-0.5, 4.5]"
    assert Estimate.of([5.0, 5.0]) == (5.0, 5.0, 5.0, 2)
    assert math.isinf(Estimate.of([5.0]).high)


def test_the_better_one_wins_and_the_preset_where_both_are_the_same() -> None:
    better = Verdict.of(7, [10.0, 11.0, 12.0], [1.0, 2.0, 3.0])
    assert (better.winner, better.is_clear) == (7, True)
    # Welch: error sqrt(1/3 + 1/3), freedom (2/3)^2 / (2 (1/3)^2 / 2) = 4, t 2.7764
    assert better.difference[0] == 9.0
    assert better.difference[2] - 9.0 == pytest.approx(2.776445 * math.sqrt(2 / 3), rel=1e-6)
    assert better.words() == "trial 7 beats the preset: a difference of +9.0 [+6.7, +11.3]"
    same = Verdict.of(7, [500.0, 500.0], [500.0, 500.0])
    assert (same.winner, same.difference) == (PRESET, (0.0, 0.0, 0.0))
    assert "reaches as much" in same.words()
    unclear = Verdict.of(7, [1.0, 9.0], [1.0, 8.0])
    assert (unclear.winner, unclear.is_clear) == (7, False)
    assert "more seeds might reverse" in unclear.words()
    assert "isn't beaten" in Verdict.of(7, [1.0, 2.0], [3.0, 4.0]).words()


def test_a_training_that_failed_loses() -> None:
    assert Verdict.of(7, [9.0, math.nan], [1.0, 2.0]).winner == PRESET
    assert Verdict.of(7, [1.0, 2.0], [9.0, math.nan]).winner == 7
    assert Verdict.of(7, [math.nan, 1.0], [9.0, math.nan]).winner == PRESET


def test_words_about_trainings_that_failed() -> None:
    assert Verdict.of(7, [1.0, 2.0], [9.0, math.nan]).words() == (
        "trial 7 is the result: trainings of the preset failed on new seeds"
    )
    both = Verdict.of(7, [1.0, math.nan], [9.0, math.nan])
    assert (
        both.words()
        == "the preset's settings are the result: trainings of trial 7 and of the preset failed on new seeds"
    )
    assert str(both.tuned) == "failed"


def test_finalists_have_fewer_seeds() -> None:
    assert [choice_seeds(n) for n in (2, 3, 5, 10)] == [1, 1, 2, 4]
